"""Exceptions on their way between processes; stands for ``artiq.protocols.packed_exceptions``."""

from __future__ import annotations

from trionet_compat.sipyco.packed_exceptions import (
    GenericRemoteException,
    current_exc_packed,
    raise_packed_exc,
)

__all__ = ["GenericRemoteException", "current_exc_packed", "raise_packed_exc"]
