"""The requests under way on one connection to an object server.

A request is posted when it is made; replies are told apart by their numbers. A caller waits as a task that
the reader reschedules: no event or channel is made for each call.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, Protocol

import trio
from outcome import Error, Value

from trionet._zmtp_stream import ZmtpStream
from trionet.objects._access import GiveBack, PassedOn
from trionet.objects._host import ObjectHost
from trionet.wire.errors import CallInfo, ConnectionLost, RemoteProtocolError, TrionetError
from trionet.wire.object_values import SERIALIZERS, ProxyReference
from trionet.wire.objects import (
    NO_REPLY,
    Disconnect,
    ObjectReply,
    ReturnType,
    decode_from_server,
    encode_request,
)
from trionet.wire.packed_exceptions import rebuild

logger = logging.getLogger("trionet.objects")

#: Replies that may be outstanding on one connection by default, those to cancelled callers included.
MAX_PENDING_CALLS: Final = 1024
#: Bytes that may wait by default to be sent to a server that does not read.
MAX_BACKLOG: Final = 100 * 2**20
_ENDED: Final = "the server has ended"


class Resolver(Protocol):
    """Makes proxies of the references that come."""

    def proxy(self, reference: ProxyReference, owner: ObjectConnection | None) -> Any:
        """What stands for an object; `owner` is the connection that it came from, if its server owns it."""

    def give_back(self, reference: ProxyReference) -> None:
        """Release a reference that this side holds. From any thread."""

    def refuse(self, value: Any) -> ProxyReference:
        """Raise TypeError: we have no server that could own an argument which cannot be copied."""


class PendingCall:
    """A request that was sent, and its reply when it comes: ``await pending``, as often as you like.

    Attributes:
        name: What was called, for messages.
    """

    __slots__ = ("_check", "_outcome", "_started", "_waiting", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self._check: Callable[[Any], object] | None = None
        self._started = trio.current_time()
        self._outcome: Value[Any] | Error | None = None
        self._waiting: list[trio.lowlevel.Task] = []

    @property
    def done(self) -> bool:
        """Whether the reply has come, or never will."""
        return self._outcome is not None

    async def wait(self) -> Any:
        """Wait for the result and return it. Raises as `ObjectClient.call_obj` does.

        Cancelled, it has changed nothing: the result can be waited for again.
        """
        if self._outcome is None:
            task = trio.lowlevel.current_task()
            self._waiting.append(task)

            def abort(_: object) -> trio.lowlevel.Abort:
                self._waiting.remove(task)
                return trio.lowlevel.Abort.SUCCEEDED

            await trio.lowlevel.wait_task_rescheduled(abort)
        else:
            await trio.lowlevel.checkpoint()
        assert self._outcome is not None
        if isinstance(self._outcome, Error):
            raise self._outcome.error.with_traceback(None)
        if self._check is not None:
            self._check(self._outcome.value)
        return self._outcome.value

    def __await__(self) -> Any:
        return self.wait().__await__()

    def __bool__(self) -> bool:
        raise TypeError(f"the result of {self.name} has to be awaited")

    def _check_with(self, check: Callable[[Any], object]) -> PendingCall:
        """Have results refused for which a function raises."""
        self._check = check
        return self

    def _settle(self, outcome: Value[Any] | Error) -> None:
        self._outcome = outcome
        for task in self._waiting:
            trio.lowlevel.reschedule(task)
        self._waiting.clear()


class ObjectConnection:
    """One connection to an object server.

    Attributes:
        address: Of the server, as it was connected to.
        aliases: All addresses that it is known by.
        lost: Why the connection is of no more use; None while it is.
        disconnected: Set when it is lost.
    """

    def __init__(
        self,
        zmtp: ZmtpStream,
        addresses: Sequence[str],
        resolver: Resolver,
        host: ObjectHost | None,
        *,
        own_address: str,
        serializer: str,
        max_pending_calls: int,
        max_backlog: int,
    ) -> None:
        self.address = self.receiver = self.name = addresses[0]
        self.server_address = own_address
        self.lost: str | None = None
        self.lost_cause: BaseException | None = None
        self.disconnected = trio.Event()
        self.aliases = frozenset(addresses)
        self._zmtp = zmtp
        self._resolver = resolver
        self._host = host
        self._hosts = set() if host is None else {host}  # those that have given references
        self._kind = SERIALIZERS[serializer]
        self._reader = self._kind(resolve=self._resolve)
        self._max_pending_calls = max_pending_calls
        self._max_backlog = max_backlog
        self._pending: dict[int, PendingCall] = {}
        self._slot_queue = trio.lowlevel.ParkingLot()
        self._next_number = 0
        self.give_back: GiveBack | None = resolver.give_back
        #: Asked why the connection is lost, if there may be a better reason than the one it gives.
        self.explain: Callable[[], Awaitable[BaseException | None]] | None = None
        if host is not None:
            host.admit(self)

    def offer(self, host: ObjectHost | None, own_address: str) -> None:
        """From now on arguments that cannot be copied are objects of another server of ours, or of none.

        The other side may use those that it has until the connection ends.
        """
        self._host, self.server_address = host, own_address
        if host is not None and self.lost is None:
            self._hosts.add(host)
            host.admit(self)

    async def wait_sent(self) -> None:
        """Wait until so much is sent that calls do not raise `trio.WouldBlock` for that reason."""
        with contextlib.suppress(TrionetError):  # the reader gets it, too
            await self._zmtp.wait_sent(self._max_backlog)

    async def request(
        self, action: str, options: Mapping[str, Any] | None, return_type: ReturnType, name: str
    ) -> Any:
        """Send a request and wait for the result. Raises as `ObjectClient.call_obj` does."""
        await trio.lowlevel.checkpoint_if_cancelled()
        try:
            if self._is_full():
                await self._wait_for_room()
            pending = self.start(action, options, return_type, name)
        except BaseException:
            self._slot_queue.unpark()  # the place, if there was one, goes to another call
            raise
        return await pending.wait()

    def _is_full(self) -> bool:
        return len(self._pending) >= self._max_pending_calls or self._zmtp.unsent > self._max_backlog

    async def _wait_for_room(self) -> None:
        while self._is_full() and self.lost is None:
            if len(self._pending) >= self._max_pending_calls:
                await self._slot_queue.park()
            else:
                await self.wait_sent()

    def start(
        self, action: str, options: Mapping[str, Any] | None, return_type: ReturnType, name: str
    ) -> PendingCall:
        """Send a request; the result can be waited for later.

        Raises:
            trio.WouldBlock: if too many replies are outstanding, or too much is waiting to be sent.
            ConnectionLost: if the connection is lost.
            TypeError: if an argument cannot be sent (ValueError likewise). Nothing was sent.
        """
        self._check_usable(name)
        if len(self._pending) >= self._max_pending_calls:
            raise trio.WouldBlock(f"{len(self._pending)} replies of {self.address} are outstanding")
        number = self._next_number
        is_alone = not self._pending
        frames = self._encode(number, action, options, return_type)
        self._next_number += 1
        pending = self._pending[number] = PendingCall(name)
        self._post(frames, is_alone)
        return pending

    def notify(self, action: str, options: Mapping[str, Any] | None, name: str) -> None:
        """Send a request that is not answered. Raises as `start` does."""
        self._check_usable(name)
        self._post(self._encode(NO_REPLY, action, options, "auto"), False)

    def release(self, object_id: int, reference_id: int) -> None:
        """Tell the server that a proxy is of no more use."""
        if self.lost is None:
            options = {"obj_id": object_id, "ref_id": reference_id}
            self._post(encode_request(self._reader, NO_REPLY, "delete", options), False)

    @trio.lowlevel.enable_ki_protection  # Ctrl-C is for the program, not for tasks that it does not see
    async def run(self) -> None:
        """Read until the connection is lost. Nothing is raised for that."""
        try:
            while True:
                message = decode_from_server(self._reader, await self._zmtp.receive())
                if isinstance(message, Disconnect):
                    self.lose(_ENDED, None)
                    return
                self._take(message)
        except TrionetError as error:
            cause = error if self.explain is None else await self.explain() or error
            self.lose(error.message if cause is error else str(cause), cause)
        finally:
            self.lose("connection closed", None)

    def lose(self, reason: str, cause: BaseException | None) -> None:
        """The connection is of no more use: end the calls that wait."""
        if self.lost is not None:
            return
        self.lost, self.lost_cause = reason, cause
        self.disconnected.set()
        for host in self._hosts:
            host.release_all(self)
        pending, self._pending = self._pending, {}
        for call in pending.values():
            call._settle(Error(self._lost_error(call.name, call._started)))
        self._slot_queue.unpark_all()

    def resolve_foreign(self, reference: ProxyReference) -> Any:
        """What stands for an object of any server but our own."""
        return self._resolver.proxy(reference, self if reference.address in self.aliases else None)

    def _check_usable(self, name: str) -> None:
        if self.lost is not None:
            raise self._lost_error(name, trio.current_time())
        if self._zmtp.unsent > self._max_backlog:
            raise trio.WouldBlock(f"{self._zmtp.unsent} bytes wait to be sent to {self.address}")

    def _lost_error(self, name: str, started: float) -> TrionetError:
        cause = self.lost_cause
        kind = RemoteProtocolError if isinstance(cause, RemoteProtocolError) else ConnectionLost
        error = kind(str(self.lost), self._info(name, started))
        error.__cause__ = cause
        return error

    def _info(self, name: str, started: float, lines: tuple[str, ...] = ()) -> CallInfo:
        return CallInfo(self.address, None, name, trio.current_time() - started, lines)

    def _encode(
        self, number: int, action: str, options: Mapping[str, Any] | None, return_type: ReturnType
    ) -> list[bytes]:
        if options is None:
            return encode_request(self._reader, number, action, None, return_type)
        if self._host is None:
            return encode_request(self._kind(self._refer), number, action, options, return_type)
        with self._host.referring(self, lending=True) as refer:
            return encode_request(self._kind(refer), number, action, options, return_type)

    def _refer(self, value: Any) -> ProxyReference:
        if isinstance(value, PassedOn):
            return value._refer(self.receiver, self.give_back)
        return self._resolver.refuse(value)

    def _resolve(self, reference: ProxyReference) -> Any:
        if self._host is not None:
            return self._host.resolve(reference, self)
        return self.resolve_foreign(reference)

    def _post(self, frames: list[bytes], at_once: bool) -> None:
        with contextlib.suppress(TrionetError):  # the reader gets it, too, and says what it means
            self._zmtp.post(frames, at_once=at_once)

    def _take(self, reply: ObjectReply) -> None:
        call = self._pending.pop(reply.number, None)
        if call is None:
            return  # upstream ignores it, too
        if self._slot_queue:
            self._slot_queue.unpark()
        if reply.failure is not None:
            info = self._info(call.name, call._started, reply.failure.traceback)
            call._settle(Error(rebuild(reply.failure, info)))
            return
        try:
            # Also of a call whose caller was cancelled: a proxy in it has to be released.
            call._settle(Value(self._reader.revive(reply.value)))
        except Exception as error:
            problem = RemoteProtocolError(
                f"a result that cannot be read: {error}", self._info(call.name, call._started)
            )
            problem.__cause__ = error
            call._settle(Error(problem))
