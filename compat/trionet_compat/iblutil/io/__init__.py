"""See `net`."""
