"""Stands for ``artiq.protocols``, which became sipyco with ARTIQ 5."""
