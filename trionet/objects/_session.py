"""What an object server does for one client, from its first request to its last.

A request is prepared when it is read, in order, and executed at once, or elsewhere: see `Execute`. An
asynchronous method runs in a task of its own, so that requests that come meanwhile are served, also those
that it causes itself: A calls B, which calls A. Nothing that is done for a client ever waits for its
reading: replies are posted, and a client that lets too many of them wait is left.
"""

from __future__ import annotations

import contextlib
import inspect
import logging
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import trio
from outcome import Outcome, capture

from trionet._server import Connection
from trionet._tasks import open_background_tasks
from trionet._zmtp_stream import ZmtpStream
from trionet.objects._host import ObjectHost, is_immediate
from trionet.objects._incoming import ClientLeft, Incoming
from trionet.objects._links import Links
from trionet.wire.errors import CallInfo, RemoteProtocolError, TrionetError
from trionet.wire.object_values import SERIALIZERS, ProxyReference
from trionet.wire.objects import ObjectRequest, decode_request, encode_disconnect, printable
from trionet.wire.zmtp_frames import Frame

logger = logging.getLogger("trionet.objects")

#: Has a function called elsewhere, once, in the order of the requests; such as `Executor.submit`.
Execute = Callable[[Callable[[], None]], object]
SyncMethods = Literal["inline", "thread"] | Execute

# Seconds for the last replies to leave.
_FLUSH_TIMEOUT: Final = 1.0
# After so many requests that needed no waiting, other clients have their turn.
_REQUESTS_AT_A_STRETCH: Final = 64


@dataclass(slots=True)
class Service:
    """What the clients of a server share.

    Attributes:
        host: The objects.
        links: Connections to servers whose proxies have come as arguments.
        nursery: For requests without reply, which may outlive their client.
        threads: For methods. Trio's own threads are too few for calls that wait for each other.
    """

    host: ObjectHost
    links: Links
    nursery: trio.Nursery
    sync_methods: SyncMethods
    max_pending_calls: int
    max_backlog: int
    threads: trio.CapacityLimiter = field(init=False)
    token: trio.lowlevel.TrioToken = field(default_factory=trio.lowlevel.current_trio_token)
    sessions: set[Session] = field(default_factory=set)
    requests: int = 0
    failed_requests: int = 0
    requests_in_flight: int = 0

    def __post_init__(self) -> None:
        self.threads = trio.CapacityLimiter(self.max_pending_calls)

    def offer_at(self, addresses: Sequence[str]) -> None:
        """Say where the objects are served; the first address is what other servers are told."""
        self.host.addresses.update(addresses)
        self.links.own_addresses = tuple(addresses)

    async def end_sessions(self, scope: trio.CancelScope) -> None:
        """Leave all clients, then end the server, whose scope this is."""
        async with trio.open_nursery() as nursery:
            for session in self.sessions:
                nursery.start_soon(session.end)
        scope.cancel()

    async def call(self, function: Callable[[], Any]) -> Any:
        """Call a function where requests are executed. Returns what it returned, which may be awaitable."""
        if self.sync_methods == "inline":
            return function()
        if self.sync_methods == "thread":
            return (await trio.to_thread.run_sync(lambda: (function(),), limiter=self.threads))[0]
        assert callable(self.sync_methods)
        outcomes: list[Outcome[Any]] = []
        done = trio.Event()

        def work() -> None:
            outcomes.append(capture(function))
            with contextlib.suppress(trio.RunFinishedError):
                self.token.run_sync_soon(done.set)

        self.sync_methods(work)
        await done.wait()
        return outcomes[0].unwrap()


class Session:
    """One client. It is the holder of the references that it was sent, or has used."""

    def __init__(self, service: Service, client: Connection, zmtp: ZmtpStream, server_address: str) -> None:
        self.name = _printable(zmtp.peer_ready.identity) or zmtp.peer
        self.server_address = server_address
        self.receiver = ""
        self._service = service
        self._host = service.host
        self._client = client
        self._zmtp = zmtp
        self._serializer: str | None = None  # of its latest request
        self._has_been_told = False  # that the server ends
        self._incoming = Incoming(zmtp)
        self._is_left = False  # because it does not read
        self._slots = trio.Semaphore(service.max_pending_calls)
        self._in_flight = 0
        self._idle = trio.Event()
        self._scope = trio.CancelScope()
        self._ended = trio.Event()
        self._receiving = trio.CancelScope()
        self._nursery: trio.Nursery

    give_back = None  # a client has nothing of its own

    def resolve_foreign(self, reference: ProxyReference) -> Any:
        """What stands for an object of another server, here where it is an argument."""
        return self._service.links.proxy(reference, None)

    async def run(self) -> None:
        """Serve the client until it leaves, or the server ends.

        Raises:
            ConnectionLost: if the connection is lost.
            RemoteProtocolError: if it sends what is no request.
        """
        self._client.drain = self._receiving.cancel
        self._service.sessions.add(self)
        self._host.admit(self)
        try:
            with self._scope:
                async with open_background_tasks() as self._nursery:
                    with self._receiving:
                        await self._receive()
                    if self._receiving.cancelled_caught:  # the server closes, and lets us finish
                        while self._in_flight:
                            await self._idle.wait()
                        self.tell_end()
                        await self._zmtp.wait_sent()
        finally:
            self._service.sessions.discard(self)
            self._host.release_all(self)
            await self._say_goodbye()
            self._ended.set()

    async def _receive(self) -> None:
        count = 0
        while (frames := await self._incoming.next()) is not None:
            with contextlib.suppress(ClientLeft):
                await self._serve(self._decode(frames))
            count += 1
            if count % _REQUESTS_AT_A_STRETCH == 0:
                await trio.lowlevel.checkpoint()

    def _decode(self, frames: list[Frame]) -> ObjectRequest:
        try:
            request = decode_request(frames)
        except RemoteProtocolError as error:
            raise self._zmtp.lose(RemoteProtocolError(error.message, CallInfo(self.name))) from None
        self._serializer = request.reply_serializer
        self._service.requests += 1
        return request

    async def _serve(self, request: ObjectRequest) -> None:
        try:
            act = self._host.prepare(request, self)
        except Exception as error:
            self._fail(request, error)
            return
        methods = self._service.sync_methods
        if callable(methods) and request.action == "close":
            self._close_in_order(methods, request, act)
            return
        if methods == "inline" or is_immediate(request):
            answer = self._execute(request, act)
            if answer is not None:
                await self._begin_or_forget(request, answer)
                self._nursery_for(request).start_soon(self._await, request, answer)
            return
        await self._begin(request)
        if methods == "thread":
            self._nursery_for(request).start_soon(self._execute_in_thread, request, act)
        else:
            assert callable(methods)
            self._execute_elsewhere(methods, request, act)

    def _execute(self, request: ObjectRequest, act: Callable[[], Any]) -> Awaitable[Any] | None:
        """Do what was asked for, and answer. Returns what is to be awaited first, if there is such."""
        try:
            value = act()
            if inspect.isawaitable(value):
                return value
            frame = self._host.finish(request, self, value)
        except (Exception, SystemExit) as error:
            self._fail(request, error)
        else:
            self._post(frame)
        return None

    async def _await(self, request: ObjectRequest, answer: Awaitable[Any]) -> None:
        try:
            frame = self._host.finish(request, self, await answer)
        except (Exception, SystemExit) as error:
            self._fail(request, error)
        else:
            self._post(frame)
        finally:
            self._end()

    async def _execute_in_thread(self, request: ObjectRequest, act: Callable[[], Any]) -> None:
        def execute() -> tuple[Any, bytes | None]:
            value = act()
            # As part of a tuple, because trio takes no coroutine out of a thread.
            return (
                (value, None)
                if inspect.isawaitable(value)
                else (None, self._host.finish(request, self, value))
            )

        try:
            value, frame = await trio.to_thread.run_sync(execute, limiter=self._service.threads)
            if value is not None:
                frame = self._host.finish(request, self, await value)
        except (Exception, SystemExit) as error:
            self._fail(request, error)
        else:
            self._post(frame)
        finally:
            self._end()

    def _execute_elsewhere(self, execute: Execute, request: ObjectRequest, act: Callable[[], Any]) -> None:
        token = self._service.token

        def work() -> None:
            frame: bytes | None = None
            value: Any = None
            error: BaseException | None = None
            try:
                value = act()
                if not inspect.isawaitable(value):
                    frame = self._host.finish(request, self, value)
            except BaseException as failure:
                error = failure
                if not isinstance(failure, Exception):
                    raise  # for whoever runs this there
            finally:
                awaitable = value if error is None and inspect.isawaitable(value) else None
                with contextlib.suppress(trio.RunFinishedError):
                    token.run_sync_soon(self._executed, request, frame, awaitable, error)

        try:
            execute(work)
        except Exception as error:
            self._fail(request, error)
            self._end()

    def _close_in_order(self, execute: Execute, request: ObjectRequest, act: Callable[[], Any]) -> None:
        """End the server, here, after all that was asked for before."""

        def work() -> None:
            with contextlib.suppress(trio.RunFinishedError):
                self._service.token.run_sync_soon(self._execute, request, act)

        try:
            execute(work)
        except Exception as error:
            self._fail(request, error)

    def _executed(
        self,
        request: ObjectRequest,
        frame: bytes | None,
        awaitable: Awaitable[Any] | None,
        error: BaseException | None,
    ) -> None:
        if awaitable is not None:
            try:
                self._nursery_for(request).start_soon(self._await, request, awaitable)
            except RuntimeError:  # closed: the client, or the server, has gone
                _forget(awaitable)
                self._end()
            return
        if error is not None:
            self._fail(request, error)
        else:
            self._post(frame)
        self._end()

    def _nursery_for(self, request: ObjectRequest) -> trio.Nursery:
        """What is done for nobody is not given up because somebody has left."""
        return self._nursery if request.wants_reply else self._service.nursery

    async def _begin_or_forget(self, request: ObjectRequest, answer: Awaitable[Any]) -> None:
        try:
            await self._begin(request)
        except BaseException:
            _forget(answer)
            raise

    async def _begin(self, request: ObjectRequest) -> None:
        try:
            self._slots.acquire_nowait()
        except trio.WouldBlock:
            await self._incoming.wait_turn(self._slots, request.wants_reply)
        self._in_flight += 1
        self._service.requests_in_flight += 1

    def _end(self) -> None:
        self._slots.release()
        self._in_flight -= 1
        self._service.requests_in_flight -= 1
        if not self._in_flight:
            self._idle.set()
            self._idle = trio.Event()

    def _fail(self, request: ObjectRequest, error: BaseException) -> None:
        self._service.failed_requests += 1
        if request.wants_reply:
            self._post(self._host.fail(request, self, error))
        elif request.action == "delete" and isinstance(error, KeyError):
            logger.debug("%s: %s", self.name, error)  # its client, or another one, was quicker
        else:
            action, shown = request.action, printable(error)
            logger.error("%s: request %r without reply failed", self.name, action, exc_info=shown)

    def _post(self, frame: bytes | None, *, at_once: bool = False) -> None:
        """Answer. A client that does not read is left."""
        if frame is None or self._is_left or self._zmtp.error is not None:
            return
        unsent = self._zmtp.unsent
        if unsent and self._zmtp.backlog + len(frame) > self._service.max_backlog:
            logger.warning("%s: connection closed: %d bytes of replies are not read", self.name, unsent)
            self._is_left = True
            self._scope.cancel()
            return
        with contextlib.suppress(TrionetError):  # it is in zmtp.error, and the receiving ends with it
            # Replies to requests that came together leave together.
            self._zmtp.post([frame], at_once=at_once or not self._incoming.has_more)

    def tell_end(self) -> None:
        """Tell the client that the server ends, unless it has said nothing yet."""
        if self._serializer is None or self._has_been_told:
            return
        self._has_been_told = True
        self._post(encode_disconnect(SERIALIZERS[self._serializer]()), at_once=True)

    def spare_goodbye(self) -> None:
        """The client gets another last word."""
        self._has_been_told = True

    async def end(self) -> None:
        """Leave the client, whatever is done for it, when it has what was posted, or does not read it."""
        self._scope.cancel()
        await self._ended.wait()

    async def _say_goodbye(self) -> None:
        if self._is_left or self._zmtp.error is not None:
            return
        self.tell_end()
        if trio.current_effective_deadline() == -math.inf:
            return  # cancelled from outside: the task that writes is, too
        with trio.move_on_after(_FLUSH_TIMEOUT, shield=True), contextlib.suppress(TrionetError):
            await self._zmtp.wait_sent()


def _printable(identity: bytes) -> str:
    """What a client calls itself, for messages: on one line."""
    text = identity.decode(errors="replace")
    return "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text
    )


def _forget(answer: Awaitable[Any]) -> None:
    """It will not be awaited, and Python need not warn of that."""
    if inspect.iscoroutine(answer):
        answer.close()
