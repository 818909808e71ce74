"""The version, read by the build and by `trionet --version`."""

__version__ = "0.1.0"
