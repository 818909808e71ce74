"""trionet: connect the instruments of a laboratory, with Trio.

    trionet_compat      the upstream names, for blocking scripts and asyncio programs
        |
    trionet.rpc .sync_struct .broadcast .logs .pipes .rig .objects
                        front ends: servers and clients as tasks in your nursery
        |
    _feeds              both ends of feeds: sync_struct and broadcast
    _zmtp               ZeroMQ's protocol, for objects
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
from trionet.broadcast import (
    Broadcaster,
    BroadcastReceiver,
    BroadcastServer,
    BroadcastStatistics,
    ReceiverStatistics,
    open_broadcast_receiver,
    serve_broadcaster,
)
from trionet.logs.forwarder import LogForwarder, LogForwarderStatistics, open_log_forwarder
from trionet.logs.sink import LogSink, LogSinkStatistics, serve_log_sink
from trionet.objects._connection import PendingCall
from trionet.objects._descriptions import ObjectDescription
from trionet.objects.client import ClockOffset, ObjectClient, open_object_client, wrap_object_stream
from trionet.objects.process import ObjectProcess, open_object_process
from trionet.objects.proxy import ObjectCall, ObjectProxy
from trionet.objects.server import (
    ObjectServer,
    ObjectServerStatistics,
    handle_object_stream,
    serve_objects,
)
from trionet.objects.timer import ObjectTimer
from trionet.pipes.child import BlockingParentPipe, ParentPipe, open_parent_pipe
from trionet.pipes.parent import ChildDied, PipedProcess, open_piped_process
from trionet.pyon import PyonDecodeError
from trionet.rig._endpoint import RigStatistics
from trionet.rig._peer import EchoTimeout
from trionet.rig.alyx import AlyxClient, AlyxToken
from trionet.rig.communicator import RigCommunicator, SendOptions
from trionet.rig.events import EventsLost, RigEvent, RigEvents
from trionet.rig.opening import open_rig_communicator, open_rig_listener
from trionet.rig.services import (
    NotAsked,
    ResponseTimeout,
    RigServices,
    ServicesError,
    open_rig_services,
)
from trionet.rig.uri import validate_uri
from trionet.rpc._session import per_connection
from trionet.rpc.best_effort import BestEffortRpcClient, open_best_effort_rpc_client
from trionet.rpc.client import RpcClient, RpcProxy, open_rpc_client, wrap_rpc_stream
from trionet.rpc.fire_and_forget import (
    FireAndForget,
    FireAndForgetStatistics,
    open_fire_and_forget,
)
from trionet.rpc.methods import MethodDescription, TargetDescription
from trionet.rpc.remote_exec import (
    GlobalRpc,
    RemoteExec,
    connect_global_rpc,
    open_remote_exec,
    remote_exec_targets,
    serve_remote_exec,
)
from trionet.rpc.server import RpcServer, RpcServerStatistics, handle_rpc_stream, serve_rpc
from trionet.sync_struct.notifier import Notifier, NotifierNode
from trionet.sync_struct.publisher import (
    Publisher,
    PublisherStatistics,
    SubscriberStatistics,
    serve_publisher,
)
from trionet.sync_struct.subscription import Subscription, open_subscription
from trionet.sync_struct.update import update_from_dict
from trionet.wire.errors import (
    CallInfo,
    ConnectionLost,
    IncompatibleServer,
    LocalProtocolError,
    RemoteError,
    RemoteProtocolError,
    TrionetError,
)
from trionet.wire.logs import TRACE
from trionet.wire.rig_messages import ExpMessage, ExpStatus
from trionet.wire.rig_uri import RigURI
from trionet.wire.rpc import AUTO, AutoTarget
from trionet.wire.sync_struct import Mod, apply_mod

__all__ = [
    "AUTO",
    "TRACE",
    "AlyxClient",
    "AlyxToken",
    "AutoTarget",
    "BestEffortRpcClient",
    "BlockingParentPipe",
    "BroadcastReceiver",
    "BroadcastServer",
    "BroadcastStatistics",
    "Broadcaster",
    "CallInfo",
    "ChildDied",
    "ClockOffset",
    "ConnectionLost",
    "EchoTimeout",
    "EventsLost",
    "ExpMessage",
    "ExpStatus",
    "FireAndForget",
    "FireAndForgetStatistics",
    "GlobalRpc",
    "IncompatibleServer",
    "LocalProtocolError",
    "LogForwarder",
    "LogForwarderStatistics",
    "LogSink",
    "LogSinkStatistics",
    "MethodDescription",
    "Mod",
    "NotAsked",
    "Notifier",
    "NotifierNode",
    "ObjectCall",
    "ObjectClient",
    "ObjectDescription",
    "ObjectProcess",
    "ObjectProxy",
    "ObjectServer",
    "ObjectServerStatistics",
    "ObjectTimer",
    "ParentPipe",
    "PendingCall",
    "PipedProcess",
    "Publisher",
    "PublisherStatistics",
    "PyonDecodeError",
    "ReceiverStatistics",
    "RemoteError",
    "RemoteExec",
    "RemoteProtocolError",
    "ResponseTimeout",
    "RigCommunicator",
    "RigEvent",
    "RigEvents",
    "RigServices",
    "RigStatistics",
    "RigURI",
    "RpcClient",
    "RpcProxy",
    "RpcServer",
    "RpcServerStatistics",
    "SendOptions",
    "ServerHandle",
    "ServicesError",
    "SubscriberStatistics",
    "Subscription",
    "TLSIdentity",
    "TargetDescription",
    "TrionetError",
    "__version__",
    "apply_mod",
    "connect_global_rpc",
    "handle_object_stream",
    "handle_rpc_stream",
    "open_best_effort_rpc_client",
    "open_broadcast_receiver",
    "open_fire_and_forget",
    "open_log_forwarder",
    "open_object_client",
    "open_object_process",
    "open_parent_pipe",
    "open_piped_process",
    "open_remote_exec",
    "open_rig_communicator",
    "open_rig_listener",
    "open_rig_services",
    "open_rpc_client",
    "open_subscription",
    "per_connection",
    "remote_exec_targets",
    "serve_broadcaster",
    "serve_log_sink",
    "serve_objects",
    "serve_publisher",
    "serve_remote_exec",
    "serve_rpc",
    "update_from_dict",
    "validate_uri",
    "wrap_object_stream",
    "wrap_rpc_stream",
]
