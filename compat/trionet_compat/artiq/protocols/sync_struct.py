"""Structures that are kept equal over the network; stands for ``artiq.protocols.sync_struct``.

It speaks PYON v1. This is the union of what the releases 4 and 5 had: ``read`` and ``raw_view``, actions as
text and as `ModAction`. What still differs: what a callback raises is logged, and ends reception.
"""

from __future__ import annotations

from typing import Any

from trionet_compat.sipyco import sync_struct
from trionet_compat.sipyco.sync_struct import ModAction, process_mod, update_from_dict

__all__ = ["ModAction", "Notifier", "Publisher", "Subscriber", "process_mod", "update_from_dict"]


class Notifier(sync_struct.Notifier):
    """As that of sipyco."""

    @property
    def read(self) -> Any:
        """The same as ``raw_view``."""
        return self.raw_view


class Publisher(sync_struct.Publisher):
    """As that of sipyco."""

    _pyon_version = 1


class Subscriber(sync_struct.Subscriber):
    """As that of sipyco."""

    _pyon_version = 1
