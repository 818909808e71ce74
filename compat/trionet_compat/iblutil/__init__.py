"""Upstream's iblutil, as far as it is about networking: see `io.net`."""
