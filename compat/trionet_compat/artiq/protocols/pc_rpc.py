"""RPC clients and servers; stands for ``artiq.protocols.pc_rpc``.

They speak PYON v1 with everybody. What still differs from that time: a connection that is lost is an EOFError
(and a ConnectionResetError), where the end of a line that never came was a SyntaxError.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import warnings
from collections.abc import Mapping
from typing import Any

from trionet_compat.artiq.protocols import pyon
from trionet_compat.sipyco import pc_rpc
from trionet_compat.sipyco.pc_rpc import (
    AutoTarget,
    GenericRemoteException,
    IncompatibleServer,
    current_exc_packed,
    raise_packed_exc,
)
from trionet_compat.sipyco.tools import Host

__all__ = [
    "AsyncioClient",
    "AutoTarget",
    "BestEffortClient",
    "Client",
    "GenericRemoteException",
    "IncompatibleServer",
    "Server",
    "current_exc_packed",
    "pyon",
    "raise_packed_exc",
    "simple_server_loop",
]


class Client(pc_rpc.Client):
    """As that of sipyco."""

    _pyon_version = 1


class BestEffortClient(pc_rpc.BestEffortClient):
    """As that of sipyco."""

    _pyon_version = 1
    _logger = logging.getLogger("artiq.protocols.pc_rpc")


class AsyncioClient(pc_rpc.AsyncioClient):
    """As that of sipyco, but `close_rpc` is a plain function."""

    _pyon_version = 1

    def close_rpc(self) -> None:  # type: ignore[override]
        """Have the connection closed soon, if there is one. In the loop's thread."""
        opened, self._opened = self._opened, None
        if opened is not None:
            opened.abandon()


class Server(pc_rpc.Server):
    """As that of sipyco."""

    _pyon_version = 1
    _logger = logging.getLogger("artiq.protocols.pc_rpc")


def simple_server_loop(
    targets: Mapping[str, Any], host: Host, port: int, description: str | None = None
) -> None:
    """Serve in the current event loop, or a new one, until a client calls `terminate`.

    The loop is closed then. Ctrl-C raises KeyboardInterrupt.

    Args:
        targets: The objects by name.
        host: Where to listen.
        port: The port.
        description: What the server says of itself.
    """
    loop = _current_loop()
    try:
        server = Server(targets, description, True)
        loop.run_until_complete(server.start(host, port))
        try:
            loop.run_until_complete(server.wait_terminate())
        finally:
            loop.run_until_complete(server.stop())
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


def _current_loop() -> asyncio.AbstractEventLoop:
    with warnings.catch_warnings(), contextlib.suppress(RuntimeError):
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12, where none has been set
        loop = asyncio.get_event_loop()
        if not loop.is_closed():
            return loop
    return asyncio.new_event_loop()
