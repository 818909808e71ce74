"""pyacq's names, as far as they are its RPC."""

from trionet_compat.pyacq.core import (
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
