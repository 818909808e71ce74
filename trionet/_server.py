"""Listening and the server's handle, for all protocols over TCP."""

from __future__ import annotations

import errno
import logging
import ssl
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import trio
from trio_util import AsyncValue

from trionet._arguments import check_port
from trionet._connect import keep_alive
from trionet._tasks import contains
from trionet._tls import TLSConfig, server_context
from trionet._transport import Transport, format_address, open_transport, peer_name

logger = logging.getLogger("trionet")

Hosts = str | Sequence[str] | None
Address = tuple[str, int]
AnyListener = trio.abc.Listener[Any]

#: Seconds a new client may take by default for the TLS handshake, if there is one, and then once more until
#: it has said what it wants. People at upstream's command line tools are among the clients, so it is long.
HANDSHAKE_TIMEOUT: Final = 60.0

# Attempts to find a port that is free on all addresses, when any port will do.
_PORT_ATTEMPTS: Final = 10


async def open_listeners(
    host: Hosts, port: int, ssl_context: TLSConfig | None, listeners: Sequence[AnyListener] | None
) -> list[AnyListener]:
    """The listeners of a server: those given, or new ones on all addresses of `host`.

    Args:
        host: A name or address, several, or None for all interfaces.
        port: The port; 0 for one that is free, the same on all addresses.
        ssl_context: Speak TLS.
        listeners: Listeners to use instead of opening some.

    Raises:
        OSError: if an address cannot be listened on; those opened before are closed again.
        ValueError: for a port that there cannot be; TypeError if it is no integer.
    """
    context = server_context(ssl_context)  # before anything is open that would have to be closed again
    opened = list(listeners) if listeners is not None else await _open_tcp(host, port)
    if context is None:
        return opened
    return [trio.SSLListener(listener, context) for listener in opened]


async def _open_tcp(host: Hosts, port: int) -> list[AnyListener]:
    check_port(port)
    hosts: Sequence[str | None] = [host] if host is None or isinstance(host, str) else host
    if not hosts:
        raise ValueError("no host to listen on")
    for attempt in range(_PORT_ATTEMPTS):
        opened: list[AnyListener] = []
        try:
            for one in hosts:
                await _open_host(one, port, opened)
        except BaseException as error:
            with trio.CancelScope(shield=True):  # Cancelled would replace the error
                for listener in opened:
                    await trio.aclose_forcefully(listener)
            retry = isinstance(error, OSError) and error.errno == errno.EADDRINUSE and port == 0 and opened
            if not retry or attempt == _PORT_ATTEMPTS - 1:
                raise
        else:
            break
    return opened


async def _open_host(host: str | None, port: int, opened: list[AnyListener]) -> None:
    """Listen on every address of one host; on one of them at least, if it is a name with several."""
    info = await trio.socket.getaddrinfo(
        host, port, type=trio.socket.SOCK_STREAM, flags=trio.socket.AI_PASSIVE
    )
    addresses = list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in info))
    failure: OSError | None = None
    succeeded = False
    for address in addresses:
        common_port = listening_addresses(opened)[0][1] if opened and port == 0 else port
        try:
            opened += await trio.open_tcp_listeners(common_port, host=address)
            succeeded = True
        except OSError as error:
            name = format_address((address, common_port))
            failure = OSError(error.errno, f"cannot listen on {name}: {error.strerror}")
            # A machine without IPv6 may still have it in the addresses of localhost.
            if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                raise failure from error
    if failure is not None and not succeeded:
        raise failure


def listening_addresses(listeners: Sequence[AnyListener]) -> list[Address]:
    """Host and port of each listener that has such."""
    addresses = []
    for listener in listeners:
        inner = listener.transport_listener if isinstance(listener, trio.SSLListener) else listener
        if isinstance(inner, trio.SocketListener):
            name = inner.socket.getsockname()
            if isinstance(name, tuple):  # that of a Unix socket is a path
                addresses.append((str(name[0]), int(name[1])))
    return addresses


class Connection:
    """One client of a server, as its handler sees it.

    Attributes:
        transport: The stream to the client.
        busy: Set by the handler while it does work that a graceful close lets finish. One that is not busy
            is closed.
        draining: Whether the server is closing: finish what was begun, and begin nothing.
        drain: Set by a handler that is always busy, until it is drained: called when `draining` is set.
    """

    __slots__ = ("busy", "drain", "draining", "transport")

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.busy = False
        self.draining = False
        self.drain: Callable[[], object] | None = None


class ServerHandle:
    """A running server, as `serve_*` reports it through `task_status`.

    Attributes:
        addresses: Where it listens: pairs of host and port.
        cancel_scope: Cancel it to stop the server at once, calls in flight included.
        accepted: How many clients have connected so far.
    """

    def __init__(self, listeners: Sequence[AnyListener]) -> None:
        self.addresses = tuple(listening_addresses(listeners))
        self.cancel_scope = trio.CancelScope()
        self.accepted = 0
        self._listeners = listeners
        self._accepting = trio.CancelScope()
        self._clients: set[Connection] = set()
        self._connected = AsyncValue(0)
        self._finished = trio.Event()
        self._handlers: trio.Nursery | None = None

    @property
    def port(self) -> int:
        """The port of the first address."""
        return self.addresses[0][1]

    @property
    def closing(self) -> bool:
        """Whether `aclose` has been called: no more clients are served."""
        return self._accepting.cancel_called

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        return len(self._clients)

    async def aclose(self, grace: float = 0.0) -> None:
        """Stop: accept no more, disconnect idle clients, let calls in flight finish, then cut.

        Args:
            grace: Seconds that calls in flight may still take.

        When it returns, the server has ended and its sockets are closed. Cancelled, it cuts at once.

        Raises:
            RuntimeError: in what the server does for a client, such as a method that was called: that would
                wait for its own end. Cancel `cancel_scope` there, or have another task close the server.
        """
        if self._is_ours(trio.lowlevel.current_task()):
            raise RuntimeError(
                "a server cannot be closed by what it does for a client, which would wait for itself: "
                "cancel its cancel_scope, or have another task close it"
            )
        self._accepting.cancel()
        try:
            with trio.move_on_after(grace):
                async with trio.open_nursery() as nursery:
                    for client in self._clients:
                        client.draining = True
                        if client.drain is not None:
                            client.drain()
                        elif not client.busy:
                            nursery.start_soon(client.transport.aclose)
                await self._connected.wait_value(0)
        finally:
            self.cancel_scope.cancel()
            with trio.CancelScope(shield=True):
                await self._finished.wait()

    def _is_ours(self, task: trio.lowlevel.Task) -> bool:
        """Whether a task serves a client, or was started by one that does."""
        while (nursery := task.parent_nursery) is not None:
            if nursery is self._handlers:
                return True
            task = nursery.parent_task
        return False


async def serve_connections(
    handler: Callable[[Connection], Awaitable[None]],
    handle: ServerHandle,
    handshake_timeout: float,
    task_status: trio.TaskStatus[Any],
) -> None:
    """Accept clients and run `handler` for each in a task of its own, until the handle is cancelled.

    What a handler raises ends its connection only, with one line in the log. The listeners are closed at
    the end.
    """

    async def handle_stream(stream: trio.abc.Stream) -> None:
        handle.accepted += 1
        peer = peer_name(stream)
        tls = stream if isinstance(stream, trio.SSLStream) else None
        keep_alive(tls.transport_stream if tls is not None else stream)
        transport = open_transport(stream, peer)
        client = Connection(transport)
        handle._clients.add(client)
        handle._connected.value = len(handle._clients)
        try:
            if handle.closing:  # accepted just before
                return
            if tls is None or await _agree_on_tls(tls, peer, handshake_timeout):
                await handler(client)
        except trio.BrokenResourceError as error:
            logger.info("%s: connection lost: %s", peer, error)
        except trio.ClosedResourceError:
            pass  # closed by the handle, while it was idle
        except BaseException as error:
            # Not Exception: code of the program may raise asyncio.CancelledError, say.
            if contains(error, trio.Cancelled, KeyboardInterrupt, SystemExit):
                raise
            logger.exception("%s: connection closed, its handler failed", peer)
        finally:
            handle._clients.discard(client)
            handle._connected.value = len(handle._clients)
            await transport.aclose()

    try:
        with handle.cancel_scope:
            async with trio.open_nursery() as nursery:
                handle._handlers = nursery
                with handle._accepting:
                    await trio.serve_listeners(
                        handle_stream,
                        list(handle._listeners),
                        handler_nursery=nursery,
                        task_status=_Reporting(handle, task_status),
                    )
    finally:
        handle._finished.set()


class _Reporting(trio.TaskStatus[Any]):
    """Passes the handle on once the listeners are being served."""

    def __init__(self, handle: ServerHandle, task_status: trio.TaskStatus[Any]) -> None:
        self._handle = handle
        self._task_status = task_status

    def started(self, value: object = None) -> None:
        self._task_status.started(self._handle)


async def _agree_on_tls(stream: trio.SSLStream[Any], peer: str, seconds: float) -> bool:
    with trio.move_on_after(seconds):
        try:
            await stream.do_handshake()
        except (trio.BrokenResourceError, ssl.SSLError) as error:
            logger.warning("%s: no TLS connection: %s", peer, error.__cause__ or error)
            return False
        return True
    logger.warning("%s: no TLS connection within %s s", peer, seconds)
    return False
