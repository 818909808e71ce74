"""Upstream's iblrig, as far as it is about networking: see `net`."""
