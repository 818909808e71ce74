"""RPC clients and servers; stands for ``sipyco.pc_rpc``."""

from __future__ import annotations

from trionet_compat.sipyco import keepalive, pyon, pyon_v1, tools
from trionet_compat.sipyco._rpc_asyncio import AsyncioClient
from trionet_compat.sipyco._rpc_blocking import BestEffortClient, Client
from trionet_compat.sipyco._rpc_server import Server, simple_server_loop
from trionet_compat.sipyco._targets import AutoTarget, IncompatibleServer
from trionet_compat.sipyco.packed_exceptions import (
    GenericRemoteException,
    current_exc_packed,
    raise_packed_exc,
)
from trionet_compat.sipyco.tools import SignalHandler

__all__ = [
    "AsyncioClient",
    "AutoTarget",
    "BestEffortClient",
    "Client",
    "GenericRemoteException",
    "IncompatibleServer",
    "Server",
    "SignalHandler",
    "current_exc_packed",
    "keepalive",
    "pyon",
    "pyon_v1",
    "raise_packed_exc",
    "simple_server_loop",
]

_AsyncioServer = tools.AsyncioServer  # its name here, upstream
