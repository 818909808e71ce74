"""trionet: connect the instruments of a laboratory, with Trio.

    trionet_compat      the upstream names, for blocking scripts and asyncio programs
        |
    trionet.rpc         front ends: servers and clients as tasks in your nursery
        |
    _server _connect    listening and connecting, TLS, the server's handle
    _transport _tasks   byte streams, background tasks
        |
    trionet.wire        the protocols, without I/O
        |
    trionet.pyon        the data format

`trionet.testing` and `trionet.cli` stand beside the front ends and use public names only.
"""

from trionet._server import ServerHandle
from trionet._tls import TLSIdentity
from trionet._version import __version__
from trionet.pyon import PyonDecodeError
from trionet.rpc._session import per_connection
from trionet.rpc.best_effort import BestEffortRpcClient, open_best_effort_rpc_client
from trionet.rpc.client import RpcClient, RpcProxy, open_rpc_client, wrap_rpc_stream
from trionet.rpc.methods import MethodDescription, TargetDescription
from trionet.rpc.server import RpcServer, RpcServerStatistics, handle_rpc_stream, serve_rpc
from trionet.wire.errors import (
    CallInfo,
    ConnectionLost,
    IncompatibleServer,
    LocalProtocolError,
    RemoteError,
    RemoteProtocolError,
    TrionetError,
)
from trionet.wire.rpc import AUTO, AutoTarget

__all__ = [
    "AUTO",
    "AutoTarget",
    "BestEffortRpcClient",
    "CallInfo",
    "ConnectionLost",
    "IncompatibleServer",
    "LocalProtocolError",
    "MethodDescription",
    "PyonDecodeError",
    "RemoteError",
    "RemoteProtocolError",
    "RpcClient",
    "RpcProxy",
    "RpcServer",
    "RpcServerStatistics",
    "ServerHandle",
    "TLSIdentity",
    "TargetDescription",
    "TrionetError",
    "__version__",
    "handle_rpc_stream",
    "open_best_effort_rpc_client",
    "open_rpc_client",
    "per_connection",
    "serve_rpc",
    "wrap_rpc_stream",
]
