"""Tests against upstream's own programs, each in a process of its own."""
