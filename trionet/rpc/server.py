"""Serving objects: their public methods can be called by RPC clients, ours and sipyco's.

One task serves one connection: it reads, calls, and answers, in the order of the requests, and sends the
answers to all requests that came together with one system call. Only while an async method runs, or one in
a thread, or while another connection has its turn, a second task listens on, so that a client that leaves
cancels what it was waiting for. An idle connection costs one task and no buffer.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import trio
from outcome import Error, Outcome, Value

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
from trionet._transport import Transport, open_transport
from trionet.rpc.methods import Method, describe, public_methods
from trionet.wire.errors import RemoteProtocolError
from trionet.wire.packed_exceptions import pack
from trionet.wire.rpc import MAX_MESSAGE_SIZE, ClientArrived, ServerConnection, TargetSelected
from trionet.wire.rpc_messages import BadRequest, Call, ListMethods

logger = logging.getLogger("trionet.rpc")

SyncMethods = Literal["inline", "thread"]

# Answers are collected up to this many bytes before they are sent.
_BATCH: Final = 1 << 16
# So much is read behind a call that is under way, to notice that the client leaves. A client that sends
# more ahead is not listened to until the call has ended.
_READ_AHEAD: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class per_connection:  # noqa: N801  # used like a function
    """A target that is made anew for each connection.

    Attributes:
        factory: Called without arguments when a client selects the target. What it returns is the target;
            a coroutine is awaited, and an async context manager is entered until the connection ends.
    """

    factory: Callable[[], Any]


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

    def __init__(self, listeners: list[AnyListener], service: _Service) -> None:
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
    max_message_size: int = MAX_MESSAGE_SIZE,
    handshake_timeout: float = HANDSHAKE_TIMEOUT,
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
        max_message_size: Longest request accepted, in bytes; a longer one ends its connection.
        handshake_timeout: Seconds a client may take until it has selected a target; then it is cut off.
        host: Address to listen on, several, or None for all interfaces. Loopback by default, because
            whoever can connect can call.
        ssl_context: Speak TLS; see `TLSIdentity`.
        listeners: Serve on these instead of opening some; they are closed at the end.
        task_status: Reports the handle once clients can connect.

    Raises:
        OSError: if an address cannot be listened on.
        ValueError: for a target name with spaces.
        TypeError: for a class or function as a target, which are probably meant for `per_connection`.

    Errors: what a method raises goes to its caller. A client that breaks the protocol is disconnected,
    with one line in the log of ``trionet.rpc``; others do not notice.

    Cancellation: connections are closed, async calls cancelled; a thread that runs a method is waited for.
    """
    service = _Service(
        targets,
        description,
        allow_parallel=allow_parallel,
        allow_terminate=allow_terminate,
        sync_methods=sync_methods,
        max_message_size=max_message_size,
        handshake_timeout=handshake_timeout,
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
    max_message_size: int = MAX_MESSAGE_SIZE,
    handshake_timeout: float = HANDSHAKE_TIMEOUT,
) -> None:
    """Serve one client over a stream that is connected already, until it leaves.

    The arguments are those of `serve_rpc`. The stream is closed at the end, also when cancelled. A client
    that breaks the protocol ends it with a line in the log; a connection that is lost ends it, too.
    """
    service = _Service(
        targets,
        description,
        allow_parallel=allow_parallel,
        allow_terminate=allow_terminate,
        sync_methods=sync_methods,
        max_message_size=max_message_size,
        handshake_timeout=handshake_timeout,
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


class _Service:
    """What the connections of a server share."""

    def __init__(
        self,
        targets: Mapping[str, Any],
        description: str | None,
        *,
        allow_parallel: bool,
        allow_terminate: bool,
        sync_methods: SyncMethods,
        max_message_size: int,
        handshake_timeout: float,
    ) -> None:
        for name, target in targets.items():
            if not name or name.split() != [name]:
                raise ValueError(f"a target name must be one word, not {name!r}")
            if inspect.isclass(target) or inspect.isroutine(target):
                raise TypeError(
                    f"target {name!r} is a class or function: give an object, or per_connection()"
                )
        if sync_methods not in ("inline", "thread"):
            raise ValueError(f"sync_methods must be 'inline' or 'thread', not {sync_methods!r}")
        self.targets = dict(targets)
        self.target_names = tuple(targets)
        self._methods: dict[str, dict[str, Method]] = {}
        self.description = description
        self.allow_terminate = allow_terminate
        self.in_threads = sync_methods == "thread"
        self.max_message_size = max_message_size
        self.handshake_timeout = handshake_timeout
        self.lock = None if allow_parallel else trio.Lock()
        self.terminate: Callable[[], None] = lambda: None
        self.calls = self.failed_calls = self.calls_in_flight = 0

    async def serve(self, client: Connection) -> None:
        """Serve one client until it leaves, or the server is drained."""
        wire = ServerConnection(self.target_names, self.description, self.max_message_size)
        peer = client.transport.peer
        try:
            name = await self._wait_target(client.transport, wire)
            if name is None:
                return
            target = self.targets[name]
            if isinstance(target, per_connection):
                async with _open_target(target) as made:
                    await _Session(self, client, wire, name, made).run()
            else:
                await _Session(self, client, wire, name, target).run()
        except RemoteProtocolError as error:
            logger.warning("%s: connection closed: %s", peer, error.message)

    def methods_of(self, name: str, target: Any) -> dict[str, Method]:
        """What can be called now; one dict for all clients of a target, as long as it does not change."""
        methods = public_methods(target)
        if target is not self.targets[name]:  # made for one connection: it must not be kept alive here
            return methods
        if self._methods.get(name) != methods:
            self._methods[name] = methods
        return self._methods[name]

    async def _wait_target(self, transport: Transport, wire: ServerConnection) -> str | None:
        """Shake hands, in time. Returns the name of the target, or None if the client is to be left."""
        with trio.move_on_after(self.handshake_timeout):
            return await _wait_target(transport, wire)
        logger.warning("%s: no target selected within %s s", transport.peer, self.handshake_timeout)
        return None


async def _wait_target(transport: Transport, wire: ServerConnection) -> str | None:
    """Shake hands. Returns the name of the target, or None if the client leaves."""
    while True:
        match wire.next_event():
            case ClientArrived():
                await transport.send(wire.greet())
            case TargetSelected(name):
                return name
            case _:
                data = await transport.receive()
                if not data:
                    return None
                wire.receive_data(data)


@contextlib.asynccontextmanager
async def _open_target(target: per_connection) -> AsyncIterator[Any]:
    made = target.factory()
    if inspect.isawaitable(made):
        made = await made
    if isinstance(made, contextlib.AbstractAsyncContextManager):
        async with made as entered:
            yield entered
    else:
        yield made


class _ClientLeft(Exception):
    """The stream has ended while something was done for the client."""


class _Session:
    """One client that has selected a target."""

    __slots__ = ("client", "methods", "name", "out", "service", "target", "transport", "wire")

    def __init__(
        self, service: _Service, client: Connection, wire: ServerConnection, name: str, target: Any
    ) -> None:
        self.service = service
        self.client = client
        self.transport = client.transport
        self.wire = wire
        self.name = name
        self.target = target
        self.methods = service.methods_of(name, target)
        self.out: list[bytes] = []

    async def run(self) -> None:
        names = {*self.methods, "terminate"} if self.service.allow_terminate else self.methods.keys()
        self.out.append(self.wire.send_methods(sorted(names)))
        try:
            while not self.client.draining:
                request = self.wire.next_event()
                if request is None:
                    await self._flush()
                    self.client.busy = False
                    data = await self.transport.receive()
                    if not data:
                        return
                    self.client.busy = True
                    self.wire.receive_data(data)
                else:
                    await self._answer(request)
                    if sum(map(len, self.out)) > _BATCH:
                        await self._flush()
            await self._flush()
        except _ClientLeft:
            pass

    async def _flush(self) -> None:
        if self.out:
            data = b"".join(self.out)
            self.out.clear()
            await self.transport.send(data)

    async def _answer(self, request: Any) -> None:
        service = self.service
        service.calls += 1
        service.calls_in_flight += 1
        try:
            self.out.append(self.wire.send_result(await self._execute(request)))
        except _ClientLeft:
            raise
        except SystemExit as error:
            if service.allow_terminate:
                service.terminate()
                raise _ClientLeft from None  # without an answer, as upstream
            self._answer_failure(error)
        except Exception as error:
            self._answer_failure(error)
        finally:
            service.calls_in_flight -= 1

    def _answer_failure(self, error: BaseException) -> None:
        self.service.failed_calls += 1
        self.out.append(self.wire.send_failure(pack(error, hide=("trionet.", "trio."))))

    async def _execute(self, request: Any) -> Any:
        match request:
            case Call("terminate") if self.service.allow_terminate:
                await self._terminate()
            case Call(method, args, kwargs):
                return await self._call(method, args, kwargs)
            case ListMethods():
                return describe(self.target, self.methods, self.service.allow_terminate)
            case BadRequest(error):
                raise error

    async def _terminate(self) -> None:
        """Answer, then end the server: the other way round nobody would get the answer."""
        self.out.append(self.wire.send_result(None))
        await self._flush()
        logger.info("%s: server terminated by this client", self.transport.peer)
        self.service.terminate()
        raise _ClientLeft

    async def _call(self, name: str, args: Any, kwargs: dict[str, Any]) -> Any:
        method = self.methods.get(name)
        if method is None:
            raise _no_such_method(self.target, name)
        lock = self.service.lock
        in_thread = self.service.in_threads and not inspect.iscoroutinefunction(method)
        if in_thread or (lock is not None and lock.locked()):
            return await self._while_connected(self._call_in_turn(method, in_thread, args, kwargs))
        if lock is not None:
            lock.acquire_nowait()
        try:
            result = method(*args, **kwargs)
            return await self._while_connected(result) if inspect.isawaitable(result) else result
        finally:
            if lock is not None:
                lock.release()

    async def _call_in_turn(self, method: Method, in_thread: bool, args: Any, kwargs: dict[str, Any]) -> Any:
        async with self.service.lock or contextlib.nullcontext():
            if in_thread:
                result = await trio.to_thread.run_sync(functools.partial(method, *args, **kwargs))
            else:
                result = method(*args, **kwargs)
            return await result if inspect.isawaitable(result) else result

    async def _while_connected(self, work: Awaitable[Any]) -> Any:
        """Await `work`, and cancel it when the client leaves."""
        try:
            await self._flush()
        except BaseException:
            if inspect.iscoroutine(work):
                work.close()
            raise
        outcome: Outcome[Any] | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._listen, nursery.cancel_scope)
            try:
                outcome = Value(await work)
            except (Exception, SystemExit) as error:
                outcome = Error(error)
            nursery.cancel_scope.cancel()
        if outcome is None:
            raise _ClientLeft
        return outcome.unwrap()

    async def _listen(self, scope: trio.CancelScope) -> None:
        """Take what the client sends meanwhile, as far as it fits; cancel `scope` when it leaves."""
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while data := await self.transport.receive():
                self.wire.receive_data(data)
                if self.wire.buffered > _READ_AHEAD:
                    return
        scope.cancel()


def _no_such_method(target: Any, name: str) -> Exception:
    what = type(target).__name__
    if not name.startswith("_") and name in dir(target):
        return TypeError(f"attribute {name!r} of {what!r} object cannot be called")
    return AttributeError(f"{what!r} object has no attribute {name!r}")
