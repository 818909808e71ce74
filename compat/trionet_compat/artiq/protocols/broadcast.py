"""Objects for whoever listens on a channel; stands for ``artiq.protocols.broadcast``. It speaks PYON v1."""

from __future__ import annotations

from trionet_compat.sipyco import broadcast

__all__ = ["Broadcaster", "Receiver"]


class Broadcaster(broadcast.Broadcaster):
    """As that of sipyco."""

    _pyon_version = 1


class Receiver(broadcast.Receiver):
    """As that of sipyco."""

    _pyon_version = 1
