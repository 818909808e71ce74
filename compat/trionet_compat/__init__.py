"""The compatibility layer."""
