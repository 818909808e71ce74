"""What a rig tells us: events, and who waits for them."""

from __future__ import annotations

import contextlib
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import trio

from trionet._server import Address
from trionet._tasks import call_of_program
from trionet._transport import format_address
from trionet.wire.errors import CallInfo, ConnectionLost, RemoteError, TrionetError
from trionet.wire.rig_messages import ERROR, ExpMessage

logger = logging.getLogger("trionet.rig")

#: Events that may wait to be read in a stream by default.
MAX_BACKLOG: Final = 1024


@dataclass(frozen=True, slots=True)
class RigEvent:
    """A message that has come from a rig.

    Attributes:
        event: What it is; ``ExpMessage(0)`` is a report that a callback over there has failed.
        data: What followed the event in the message: ``[data]`` for most, ``[reference, data]`` for
            EXPSTART, ``[status, data]`` for EXPINFO, ``[base_url, {user: token}]`` for ALYX,
            ``[text, event]`` for a report. What arrived is not checked.
        address: Who has sent it: host and port.
        rig: Name of the communicator it came to.
    """

    event: ExpMessage
    data: list[Any]
    address: Address
    rig: str


class EventsLost(TrionetError):
    """More events came than a stream may hold. Those before were delivered, later ones are lost."""


#: Called with an event. What it returns is awaited if it can be.
EventCallback = Callable[[RigEvent], Awaitable[object] | object]


def covers(mask: ExpMessage, event: ExpMessage) -> bool:
    """Whether a mask contains an event; the mask 0 contains the reports of errors."""
    return bool(mask & event) or mask == event


class RigEvents:
    """A stream of events, as `open_events` gives it. Iterating over it ends when the communicator does.

    Several tasks may receive; each event goes to one of them.
    """

    def __init__(self, mask: ExpMessage, errors: bool, max_backlog: int) -> None:
        self._mask = mask
        self._errors = errors
        self._max_backlog = max_backlog
        self._waiting: deque[RigEvent | ConnectionLost] = deque()
        self._lost = 0
        self._closed = False
        self._changed = trio.lowlevel.ParkingLot()

    def put(self, event: RigEvent) -> None:
        """Let the readers have an event, if it is one of theirs."""
        if covers(self._mask, event.event) or (self._errors and event.event == ERROR):
            self._put(event)

    def lose_connection(self, failure: ConnectionLost) -> None:
        """Let the readers know that the connection is lost, if they want to."""
        if self._errors:
            self._put(failure)

    def forget_losses(self) -> None:
        """Leave out what was not read of `lose_connection`."""
        events = [event for event in self._waiting if isinstance(event, RigEvent)]
        self._waiting = deque(events)

    def _put(self, event: RigEvent | ConnectionLost) -> None:
        if self._closed:
            return
        if self._lost or len(self._waiting) >= self._max_backlog:
            self._lost += 1
            self._changed.unpark()  # one who waits, if there are more readers than places, is told
            return
        self._waiting.append(event)
        self._changed.unpark()

    def close(self) -> None:
        """There will be no more."""
        self._closed = True
        self._changed.unpark_all()

    async def receive(self) -> RigEvent:
        """Wait for the next event. Cancelled, it has taken none.

        Raises:
            EventsLost: once those that could be kept have been received, if there were more.
            ConnectionLost: of a stream with `errors`, when the connection with the rig was lost. The stream
                goes on; there will be events again when it is connected again.
            trio.ClosedResourceError: after the last one, when the communicator or this stream is closed.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        while not self._waiting:
            if self._lost:
                lost, self._lost = self._lost, 0
                raise EventsLost(f"{lost} events were lost: {self._max_backlog} had not been read")
            if self._closed:
                raise trio.ClosedResourceError("no more events: the communicator is closed")
            await self._changed.park()
        event = self._waiting.popleft()
        await trio.lowlevel.cancel_shielded_checkpoint()
        if isinstance(event, ConnectionLost):
            raise ConnectionLost(event.message, event.call)  # others may raise it, too
        return event

    async def receive_answer(self, event: ExpMessage, address: Address | None = None) -> RigEvent:
        """Wait for the next event of a kind, maybe of one sender only. For streams with `errors`.

        Raises:
            RemoteError: if the sender reports that a callback for the event has failed.
        """
        while True:
            received = await self.receive()
            if address not in (None, received.address):
                continue
            if received.event == event:
                return received
            if received.event == ERROR and received.data[1] == event:
                class_name, _, text = str(received.data[0]).partition(": ")
                where = CallInfo(format_address(received.address), rig=received.rig, event=event.name)
                raise RemoteError(class_name, text, where)

    def __aiter__(self) -> RigEvents:
        return self

    async def __anext__(self) -> RigEvent:
        try:
            return await self.receive()
        except trio.ClosedResourceError:
            raise StopAsyncIteration from None


class _Assignment:
    """A callback and the events it is for. Those that it is cleared of are taken out."""

    __slots__ = ("callback", "cleared", "mask")

    def __init__(self, mask: ExpMessage, callback: EventCallback) -> None:
        self.mask = mask
        self.callback = callback
        self.cleared = False

    def wants(self, event: ExpMessage) -> bool:
        """Whether it is to be called."""
        return not self.cleared and covers(self.mask, event)

    def clear(self, mask: ExpMessage) -> None:
        """Take events out."""
        rest = self.mask & ~mask
        self.cleared = not rest
        self.mask = rest or self.mask


class EventDispatcher:
    """Brings each event to those who wait for it: streams first, then callbacks in the order of assigning.

    Args:
        nursery: Runs what callbacks leave to be awaited.
        report: Called when a callback has failed; tells the peer.
        max_running: Events whose callbacks may be running at once. Events beyond reach no callbacks, and
            their senders are told.
    """

    def __init__(
        self,
        nursery: trio.Nursery,
        report: Callable[[RigEvent, Exception], Awaitable[None]],
        max_running: int,
    ) -> None:
        self._nursery = nursery
        self._report = report
        self._max_running = max_running
        self._running = 0
        self._reporting = 0
        self._streams: list[RigEvents] = []
        self._assignments: list[_Assignment] = []
        self._closed = False

    def assign_callback(self, mask: ExpMessage, callback: EventCallback) -> None:
        """See `RigCommunicator.assign_callback`."""
        if not callable(callback):
            raise TypeError(f"a callback must be callable, not {type(callback).__name__}")
        self._assignments.append(_Assignment(mask, callback))

    def clear_callbacks(self, mask: ExpMessage, callback: EventCallback | None) -> int:
        """See `RigCommunicator.clear_callbacks`."""
        concerned = [
            one
            for one in self._assignments
            if covers(mask, one.mask) and (callback is None or one.callback == callback)
        ]
        for one in concerned:
            one.clear(mask)
        self._assignments = [one for one in self._assignments if not one.cleared]
        return len(concerned)

    @contextlib.contextmanager
    def open_events(self, mask: ExpMessage, errors: bool, max_backlog: int) -> Iterator[RigEvents]:
        """See `RigCommunicator.open_events`."""
        if max_backlog < 1:
            raise ValueError(f"at least one event must be able to wait, not {max_backlog}")
        if self._closed:
            raise trio.ClosedResourceError("the communicator is closed")
        stream = RigEvents(mask, errors, max_backlog)
        self._streams.append(stream)
        try:
            yield stream
        finally:
            if stream in self._streams:
                self._streams.remove(stream)
            stream.close()

    def dispatch(self, event: RigEvent) -> None:
        """Bring an event to all who want it. Callbacks that are no coroutine functions run here and now."""
        for stream in self._streams:
            stream.put(event)
        waiting = deque(one for one in self._assignments if one.wants(event.event))
        if not waiting:
            return
        if self._running >= self._max_running:
            error = RuntimeError(f"callbacks of {self._max_running} earlier messages are still running")
            self._start_report(event, error)
            return
        self._run_now(event, waiting)

    def lose_connection(self, failure: ConnectionLost) -> None:
        """Tell the streams that want to know."""
        for stream in self._streams:
            stream.lose_connection(failure)

    def forget_losses(self) -> None:
        """The connection is there again: that it was lost is of interest only to those who were waiting."""
        for stream in self._streams:
            stream.forget_losses()

    def _run_now(self, event: RigEvent, waiting: deque[_Assignment]) -> None:
        """Run callbacks up to the first that has to be awaited; the rest goes on in a task."""
        while waiting:
            try:
                result = _call_next(event, waiting)
            except Exception as error:
                self._start_report(event, error)
                return
            if isinstance(result, Awaitable):
                self._running += 1
                self._nursery.start_soon(self._run_awaited, event, result, waiting)
                return

    async def _run_awaited(
        self, event: RigEvent, result: Awaitable[object], waiting: deque[_Assignment]
    ) -> None:
        try:
            await result
            while waiting:
                following = _call_next(event, waiting)
                if isinstance(following, Awaitable):
                    await following
        except Exception as error:
            await self._report(event, error)
        finally:
            self._running -= 1

    def _start_report(self, event: RigEvent, error: Exception) -> None:
        if self._reporting < self._max_running:  # more can only be a peer that does not read them
            self._reporting += 1
            self._nursery.start_soon(self._run_report, event, error)

    @trio.lowlevel.enable_ki_protection
    async def _run_report(self, event: RigEvent, error: Exception) -> None:
        try:
            await self._report(event, error)
        finally:
            self._reporting -= 1

    def close(self) -> None:
        """End all streams."""
        self._closed = True
        for stream in self._streams:
            stream.close()
        self._streams.clear()


def _call_next(event: RigEvent, waiting: deque[_Assignment]) -> Awaitable[object] | object:
    assignment = waiting.popleft()
    return call_of_program(assignment.callback, event) if assignment.wants(event.event) else None
