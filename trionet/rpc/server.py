"""Serving objects: their public methods can be called by RPC clients, ours and sipyco's."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import trio

from trionet._server import (
    HANDSHAKE_TIMEOUT,
    AnyListener,
    Connection,
    Hosts,
    ServerHandle,
    open_listeners,
    serve_connections,
)
from trionet._tls import TLSConfig
from trionet._transport import open_transport
from trionet.rpc._session import CallMethod, Service, SyncMethods, call_method
from trionet.wire.feeds import PyonVersion
from trionet.wire.lines import MAX_MESSAGE_SIZE

logger = logging.getLogger("trionet.rpc")


@dataclass(frozen=True, slots=True)
class RpcServerStatistics:
    """What an RPC server has done so far.

    Attributes:
        connections: Clients connected now.
        accepted: Clients connected so far.
        calls: Requests received.
        failed_calls: Those that were answered with an exception.
        calls_in_flight: Those not answered yet.
    """

    connections: int
    accepted: int
    calls: int
    failed_calls: int
    calls_in_flight: int


class RpcServer(ServerHandle):
    """Handle of a running RPC server: see `ServerHandle`."""

    def __init__(self, listeners: list[AnyListener], service: Service) -> None:
        super().__init__(listeners)
        self._service = service

    def statistics(self) -> RpcServerStatistics:
        """Counters since the start."""
        service = self._service
        return RpcServerStatistics(
            self.connections, self.accepted, service.calls, service.failed_calls, service.calls_in_flight
        )


async def serve_rpc(
    targets: Mapping[str, Any],
    port: int,
    *,
    description: str | None = None,
    allow_parallel: bool = False,
    allow_terminate: bool = False,
    sync_methods: SyncMethods = "inline",
    call_method: CallMethod = call_method,
    max_message_size: int = MAX_MESSAGE_SIZE,
    handshake_timeout: float = HANDSHAKE_TIMEOUT,
    pyon_version: PyonVersion = 2,
    host: Hosts = "127.0.0.1",
    ssl_context: TLSConfig | None = None,
    listeners: list[AnyListener] | None = None,
    task_status: trio.TaskStatus[RpcServer] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve objects over RPC until cancelled, or until a client calls `terminate` where that is allowed.

    Use it with ``server = await nursery.start(serve_rpc, {"laser": Laser()}, 3251)``; the value is an
    `RpcServer` with ``addresses``, ``cancel_scope``, ``aclose(grace=...)`` and ``statistics()``.

    Args:
        targets: Objects by name; their public methods can be called. `per_connection(factory)` makes one
            for each connection. Names have no spaces.
        port: TCP port; 0 for a free one, see ``addresses``.
        description: Free text about this server, shown to clients.
        allow_parallel: Let calls of several connections run at the same time. By default one waits for
            the other, as instruments usually want it. Calls of one connection never overlap.
        allow_terminate: Offer a method ``terminate`` that ends the server, and let SystemExit in a method
            do the same.
        sync_methods: Where methods that are not async run: ``"inline"``, in the event loop, which is
            right for those that return at once, or each in a ``"thread"``.
        call_method: Called with each method, its positional and its keyword arguments, to call it; what it
            returns is awaited if that can be. For what concerns every call, such as a log of them, or
            methods that are coroutines of another library.
        max_message_size: Longest request accepted, in bytes; a longer one ends its connection.
        handshake_timeout: Seconds a client may take until it has selected a target, and before that for
            TLS; then it is cut off.
        pyon_version: 1 never to agree on PYON v2, as peers did before sipyco 1.10.
        host: Address to listen on, several, or None for all interfaces. Loopback by default, because
            whoever can connect can call.
        ssl_context: Speak TLS; see `TLSIdentity`.
        listeners: Serve on these instead of opening some; they are closed at the end.
        task_status: Reports the handle once clients can connect.

    Raises:
        OSError: if an address cannot be listened on.
        ValueError: for a target name that is not one word, a limit or a time that makes no sense, or a port
            that there cannot be.
        TypeError: if `targets` is no mapping, or `description` no text; for a class or function as a target,
            which are probably meant for `per_connection`.

    Errors: what a method raises goes to its caller, but for KeyboardInterrupt, which ends the server. A
    client that breaks the protocol is disconnected, with one line in the log of ``trionet.rpc``; others do
    not notice.

    Cancellation: connections are closed, async calls cancelled; a thread that runs a method is waited for.
    """
    service = Service(
        targets,
        description,
        allow_parallel=allow_parallel,
        allow_terminate=allow_terminate,
        sync_methods=sync_methods,
        max_message_size=max_message_size,
        handshake_timeout=handshake_timeout,
        call_method=call_method,
        pyon_version=pyon_version,
    )
    handle = RpcServer(await open_listeners(host, port, ssl_context, listeners), service)
    service.terminate = handle.cancel_scope.cancel
    await serve_connections(service.serve, handle, handshake_timeout, task_status)


async def handle_rpc_stream(
    stream: trio.abc.Stream,
    targets: Mapping[str, Any],
    *,
    description: str | None = None,
    allow_parallel: bool = False,
    allow_terminate: bool = False,
    sync_methods: SyncMethods = "inline",
    call_method: CallMethod = call_method,
    max_message_size: int = MAX_MESSAGE_SIZE,
    handshake_timeout: float = HANDSHAKE_TIMEOUT,
    pyon_version: PyonVersion = 2,
) -> None:
    """Serve one client over a stream that is connected already, until it leaves.

    The arguments are those of `serve_rpc`. The stream is closed at the end, also when cancelled. A client
    that breaks the protocol ends it with a line in the log; a connection that is lost ends it, too.
    """
    service = Service(
        targets,
        description,
        allow_parallel=allow_parallel,
        allow_terminate=allow_terminate,
        sync_methods=sync_methods,
        max_message_size=max_message_size,
        handshake_timeout=handshake_timeout,
        call_method=call_method,
        pyon_version=pyon_version,
    )
    transport = open_transport(stream)
    with trio.CancelScope() as scope:
        service.terminate = scope.cancel
        try:
            await service.serve(Connection(transport))
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            logger.info("%s: connection lost: %s", transport.peer, error)
        finally:
            await transport.aclose()
