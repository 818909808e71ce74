"""TCP servers of asyncio; stands for ``artiq.protocols.asyncio_server``."""

from __future__ import annotations

from trionet_compat.sipyco.tools import AsyncioServer

__all__ = ["AsyncioServer"]
