"""What an RPC server does for a client, from its first line to its last.

One task serves one connection: it reads, calls, and answers, in the order of the requests, and sends the
answers to all requests that came together with one system call. Only while an async method runs, or one in
a thread, or while another connection has its turn, a second task listens on, so that a client that leaves
cancels what it was waiting for. An idle connection costs one task and no buffer, and shares with others
what is the same for all clients of a target: a lab keeps many connections open that say nothing.
"""

from __future__ import annotations

import contextlib
import inspect
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import trio
from outcome import Error, Outcome, Value

from trionet._arguments import check_named, check_seconds
from trionet._server import Connection
from trionet._tasks import contains
from trionet._transport import Transport
from trionet.rpc.methods import Method, describe, public_methods
from trionet.wire.errors import RemoteProtocolError
from trionet.wire.feeds import PyonVersion, check_pyon_version
from trionet.wire.packed_exceptions import pack
from trionet.wire.rpc import ClientArrived, ServerConnection, TargetSelected
from trionet.wire.rpc_messages import BadRequest, Call, ListMethods

logger = logging.getLogger("trionet.rpc")

SyncMethods = Literal["inline", "thread"]
CallMethod = Callable[[Method, Any, dict[str, Any]], Any]

# Answers are collected up to this many bytes before they are sent.
_BATCH: Final = 1 << 16
# After so many answers that needed no waiting, other clients have their turn.
_ANSWERS_AT_A_STRETCH: Final = 128
# So much is read behind a call that is under way, to notice that the client leaves. A client that sends
# more ahead is not listened to until the call has ended.
_READ_AHEAD: Final = 1 << 20
# Their frames are of no interest to who reads a traceback.
_OUR_MODULES: Final = ("trionet.", "trionet_compat.", "trio.", "outcome.")


def call_method(method: Method, args: Any, kwargs: dict[str, Any]) -> Any:
    """How methods are called unless the server was told otherwise."""
    return method(*args, **kwargs)


@dataclass(frozen=True, slots=True)
class per_connection:  # noqa: N801  # used like a function
    """A target that is made anew for each connection.

    Attributes:
        factory: Called without arguments when a client selects the target. What it returns is the target;
            a coroutine is awaited, and an async context manager is entered until the connection ends.
    """

    factory: Callable[[], Any]


class Service:
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
        call_method: CallMethod = call_method,
        pyon_version: PyonVersion = 2,
    ) -> None:
        check_named("targets", targets, "objects")
        for name, target in targets.items():
            if name.split() != [name] or not name.isprintable():
                raise ValueError(f"a target name must be one word of printable characters, not {name!r}")
            if inspect.isclass(target) or inspect.isroutine(target):
                raise TypeError(
                    f"target {name!r} is a class or function: give an object, or per_connection()"
                )
        if sync_methods not in ("inline", "thread"):
            raise ValueError(f"sync_methods must be 'inline' or 'thread', not {sync_methods!r}")
        if not isinstance(description, str | None):
            raise TypeError(f"a description must be text, not {description!r}")
        if max_message_size < 1:
            raise ValueError(f"max_message_size must be at least 1, not {max_message_size}")
        check_seconds("handshake_timeout", handshake_timeout)
        check_pyon_version(pyon_version)
        self.targets = dict(targets)
        self.target_names = tuple(targets)
        self._methods: dict[str, dict[str, Method]] = {}
        self.description = description
        self.allow_terminate = allow_terminate
        self.in_threads = sync_methods == "thread"
        self.max_message_size = max_message_size
        self.handshake_timeout = handshake_timeout
        self.call_method = call_method
        self.pyon_version = pyon_version
        self.lock = None if allow_parallel else trio.Lock()
        self.terminate: Callable[[], None] = lambda: None
        self.calls = self.failed_calls = self.calls_in_flight = 0

    async def serve(self, client: Connection) -> None:
        """Serve one client until it leaves, or the server is drained."""
        wire = ServerConnection(self.target_names, self.description, self.max_message_size, self.pyon_version)
        peer = client.transport.peer
        try:
            name = await self._wait_target(client.transport, wire)
            if name is None:
                return
            target = self.targets[name]
            if isinstance(target, per_connection):
                async with _open_target(target) as made:
                    await Session(self, client, wire, name, made).run()
            else:
                await Session(self, client, wire, name, target).run()
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


class Session:
    """One client that has selected a target."""

    __slots__ = ("client", "methods", "out", "service", "target", "transport", "wire")

    def __init__(
        self, service: Service, client: Connection, wire: ServerConnection, name: str, target: Any
    ) -> None:
        self.service = service
        self.client = client
        self.transport = client.transport
        self.wire = wire
        self.target = target
        self.methods = service.methods_of(name, target)
        self.out: list[bytes] = []

    async def run(self) -> None:
        names = {*self.methods, "terminate"} if self.service.allow_terminate else self.methods.keys()
        self.client.busy = True
        self.out.append(self.wire.send_methods(sorted(names)))
        answered = 0
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
                    answered += 1
                    if answered % _ANSWERS_AT_A_STRETCH == 0:
                        await trio.lowlevel.checkpoint()
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
        except BaseException as error:
            if contains(error, trio.Cancelled, KeyboardInterrupt):
                raise
            if service.allow_terminate and contains(error, SystemExit):
                service.terminate()
                raise _ClientLeft from None  # without an answer, as upstream
            # Whatever else it is, such as asyncio.CancelledError: it ends this call, and not the server.
            self._answer_failure(error)
        finally:
            service.calls_in_flight -= 1

    def _answer_failure(self, error: BaseException) -> None:
        self.service.failed_calls += 1
        self.out.append(self.wire.send_failure(pack(error, hide=_OUR_MODULES)))

    async def _execute(self, request: Any) -> Any:
        match request:
            case Call("terminate") if self.service.allow_terminate:
                await self._terminate()
            case Call(method, args, kwargs):
                return await self._call(method, args, kwargs)
            case ListMethods():
                terminate = self.service.allow_terminate
                return describe(self.target, self.methods, terminate, self.wire.pyon_version)
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
        in_thread = self.service.in_threads and not inspect.iscoroutinefunction(method)
        lock, call = self.service.lock, self.service.call_method
        if in_thread:
            return await self._while_connected(self._in_turn(_call_in_thread(call, method, args, kwargs)))
        if lock is not None and lock.locked():
            return await self._while_connected(self._in_turn(_call(call, method, args, kwargs)))
        # Nothing waits here, so nobody else can have a turn meanwhile.
        result = call(method, args, kwargs)
        return await self._while_connected(self._in_turn(result)) if inspect.isawaitable(result) else result

    async def _in_turn(self, work: Awaitable[Any]) -> Any:
        """Await `work` when it is this client's turn.

        What it has not been sent yet is sent before that: if it does not read, it holds up nobody.
        """
        try:
            await self._flush()
            async with self.service.lock or contextlib.nullcontext():
                return await work
        finally:
            if (close := getattr(work, "close", None)) is not None:  # a coroutine, or what call_method made
                close()  # if its turn never came

    async def _while_connected(self, work: Awaitable[Any]) -> Any:
        """Await `work`, and cancel it when the client leaves."""
        outcome: Outcome[Any] | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._listen, nursery.cancel_scope)
            try:
                outcome = Value(await work)
            except BaseException as error:  # out here, it would be in a group
                if contains(error, trio.Cancelled):
                    raise
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


async def _call(call: CallMethod, method: Method, args: Any, kwargs: dict[str, Any]) -> Any:
    result = call(method, args, kwargs)
    return await result if inspect.isawaitable(result) else result


async def _call_in_thread(call: CallMethod, method: Method, args: Any, kwargs: dict[str, Any]) -> Any:
    # As a tuple, because trio takes no coroutine out of a thread.
    (result,) = await trio.to_thread.run_sync(lambda: (call(method, args, kwargs),))
    return await result if inspect.isawaitable(result) else result


def _no_such_method(target: Any, name: str) -> Exception:
    what = type(target).__name__
    if not name.startswith("_") and name in dir(target):
        return TypeError(f"attribute {name!r} of {what!r} object cannot be called")
    return AttributeError(f"{what!r} object has no attribute {name!r}")
