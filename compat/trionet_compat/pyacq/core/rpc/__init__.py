"""`pyacq.core.rpc`: objects of other processes and threads, for blocking code.

    client  server  proxy       RPCClient, RPCServer, ObjectProxy
    processspawner  bootstrap   both ends of a spawned process
    serializer  timer  log      as upstream names them

All connections live in the portal (`trionet_compat.portal`); what is asked of a server is done in the thread
that runs it.
"""

from trionet_compat.pyacq.core.rpc.client import Future, RemoteCallException, RPCClient
from trionet_compat.pyacq.core.rpc.processspawner import ProcessSpawner
from trionet_compat.pyacq.core.rpc.proxy import ObjectProxy
from trionet_compat.pyacq.core.rpc.server import QtRPCServer, RPCServer

__all__ = [
    "Future",
    "ObjectProxy",
    "ProcessSpawner",
    "QtRPCServer",
    "RPCClient",
    "RPCServer",
    "RemoteCallException",
]
