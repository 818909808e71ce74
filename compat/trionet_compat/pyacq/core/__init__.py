"""`pyacq.core`, as far as it is RPC."""

from trionet_compat.pyacq.core.rpc import (
    ObjectProxy,
    ProcessSpawner,
    QtRPCServer,
    RemoteCallException,
    RPCClient,
    RPCServer,
)

__all__ = [
    "ObjectProxy",
    "ProcessSpawner",
    "QtRPCServer",
    "RPCClient",
    "RPCServer",
    "RemoteCallException",
]
