"""ZMTP over any Trio stream: whole messages in and out, PING answered, silence noticed.

What was posted waits in one queue of whole messages, and one task at a time sends: the one that posts, if
nothing waits and the system takes all of it at once, else the writer, a task that begins when it is needed
first. So nobody who reads ever waits for writing, no message is cut by a cancelled sender, and the answer to
a PING has its place between two messages. How much may wait is for the user to decide: see
`ZmtpStream.unsent`.
"""

from __future__ import annotations

import contextlib
import itertools
from collections import deque
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

import trio

from trionet._transport import Transport
from trionet.wire.errors import CallInfo, ConnectionLost, RemoteProtocolError, TrionetError
from trionet.wire.zmtp import Message, PeerGreeted, PeerReady, Ping, SocketType, ZmtpConnection
from trionet.wire.zmtp_frames import Frame

if TYPE_CHECKING:
    from typing_extensions import Buffer

# Messages are sent together up to about this many bytes; longer buffers are not copied for that.
_BATCH: Final = 1 << 16
# What has to wait for the peer is sent in pieces of this size, so that `unsent` tells whether it reads.
_PIECE: Final = 1 << 18
# After so many messages, or commands, that needed no waiting, other tasks have their turn.
_MESSAGES_AT_A_STRETCH: Final = 64
# What a message that waits takes besides its bytes, about.
_OVERHEAD: Final = 200
# Seconds for telling a peer why it is refused.
_FAREWELL: Final = 1.0

_CLOSED_HERE: Final = "this side has closed the connection"
_LEFT_EARLY: Final = (
    "closed by the peer in the ZMTP handshake: it may expect another socket type or mechanism, or speak "
    "another protocol"
)
# Stands for a peer that has not said who it is; streams in that state are not given away.
_NOBODY: Final = PeerReady(SocketType.PAIR, b"", {})


class _Outgoing:
    """A message, or the rest of one, that waits to be sent."""

    __slots__ = ("buffers", "is_begun", "is_sent", "size")

    def __init__(self, buffers: list[Frame], *, is_begun: bool) -> None:
        self.replace(buffers)
        self.is_begun = is_begun
        self.is_sent = False

    def replace(self, buffers: list[Frame]) -> None:
        """Send something else instead."""
        self.buffers = buffers
        self.size = sum(map(len, buffers))


class ZmtpStream:
    """A connection that has shaken hands. Made by `open_zmtp`.

    One task receives; any number of tasks may send. Have a task in `receive` most of the time: that the peer
    asks for signs of life, falls silent, or leaves, is noticed there.

    Attributes:
        peer: Address of the other side, for messages.
        peer_ready: What it has said of itself: socket type, identity, other properties.
        error: Why the connection is of no more use; None while it is.
        unsent: Bytes posted that the system has not taken yet.
    """

    def __init__(self, transport: Transport, wire: ZmtpConnection, nursery: trio.Nursery) -> None:
        self.peer = transport.peer
        self.peer_ready = _NOBODY
        self.error: TrionetError | None = None
        self.unsent = 0
        self._transport = transport
        self._wire = wire
        self._nursery = nursery
        self._queue: deque[_Outgoing] = deque()
        self._has_writer = False
        self._is_writing = False
        self._idle_writer = trio.lowlevel.ParkingLot()
        self._sent = trio.lowlevel.ParkingLot()  # those who wait for the writer to get on
        self._pong: _Outgoing | None = None
        self._patience: float | None = None  # seconds of silence that are too many
        self._peer_has_left = False
        self._taken = 0
        self._has_more = False  # that was not looked at, because of so many commands

    @property
    def backlog(self) -> int:
        """Bytes of memory that what is unsent takes, about: short messages take more than their bytes."""
        return self.unsent + _OVERHEAD * len(self._queue)

    # -- receiving -------------------------------------------------------------------------------------

    async def receive(self) -> list[Frame]:
        """Wait for the next message.

        Returns:
            Its frames: bytes, or a read-only memoryview from 64 KiB on.

        Raises:
            ConnectionLost: when there will be none, also if the peer has just left.
            RemoteProtocolError: if the peer sends what is not allowed. The connection is closed.

        Cancelled, it has taken nothing.
        """
        self._taken += 1
        if self._taken % _MESSAGES_AT_A_STRETCH == 0:
            await trio.lowlevel.checkpoint()
        while (frames := self.receive_nowait()) is None:
            await self._receive_more()
        return frames

    def receive_nowait(self) -> list[Frame] | None:
        """The next message if it has come already, else None. Raises as `receive` does.

        It does not look behind many commands in a row: `receive` does.
        """
        for _ in range(_MESSAGES_AT_A_STRETCH):
            if self.error is not None:
                raise self.error.with_traceback(None)
            try:
                event = self._wire.next_event()
            except RemoteProtocolError as error:
                raise self.lose(RemoteProtocolError(error.message, CallInfo(self.peer))) from None
            if type(event) is Message:
                return event.frames
            if event is None:
                return None
            if isinstance(event, Ping):
                self._answer(event)
        self._has_more = True
        return None

    def __aiter__(self) -> ZmtpStream:
        return self

    async def __anext__(self) -> list[Frame]:
        """The messages that come, until the peer leaves between two of them. Raises as `receive` does."""
        try:
            return await self.receive()
        except ConnectionLost:
            if self._peer_has_left:
                raise StopAsyncIteration from None
            raise

    async def _receive_more(self) -> None:
        """Give the state machine more data, or lose the connection."""
        if self._has_more:
            self._has_more = False
            await trio.lowlevel.checkpoint()
            return
        try:
            with trio.move_on_after(self._patience) if self._patience else contextlib.nullcontext():
                if await self._receive_some():
                    return
                raise self.lose(ConnectionLost(self._how_it_left(), CallInfo(self.peer)))
            raise self.lose(ConnectionLost(f"nothing heard for {self._patience} s", CallInfo(self.peer)))
        except trio.BrokenResourceError as error:
            raise self.lose(self._broken(error)) from error
        except trio.ClosedResourceError:
            raise self.lose(ConnectionLost(_CLOSED_HERE, CallInfo(self.peer))) from None

    async def _receive_some(self) -> bool:
        """Give the state machine some data that comes. False at the end of the stream."""
        vacant = self._wire.vacant()
        if vacant is not None:
            size = await self._transport.receive_into(vacant)
            self._wire.fill(size)
            return size > 0
        data = await self._transport.receive()
        self._wire.receive_data(data)
        return bool(data)

    def _how_it_left(self) -> str:
        if self.peer_ready is _NOBODY:
            return _LEFT_EARLY
        self._peer_has_left = self._wire.is_between_messages
        return "closed by the peer" + ("" if self._peer_has_left else " in the middle of a message")

    def _answer(self, ping: Ping) -> None:
        """Post a PONG. If one waits still, the new one takes its place: a peer cannot make them pile up."""
        if ping.time_to_live:
            self._patience = min(ping.time_to_live, self._patience or ping.time_to_live)
        answer = self._wire.pong(ping.context)
        if self._pong is None or self._pong.is_begun:
            self._pong = self._post([answer])
        else:
            self.unsent += len(answer) - self._pong.size
            self._pong.replace([answer])

    # -- sending ---------------------------------------------------------------------------------------

    def post(self, frames: Sequence[Buffer], *, at_once: bool = True) -> None:
        """Send a message, without waiting: what the system does not take now is sent in the background.

        Args:
            frames: At least one. Large ones are not copied, so leave them as they are until they are sent.
            at_once: False to have it sent in the next scheduling round, together with what else is posted.

        Raises:
            ConnectionLost: if the connection is lost (or RemoteProtocolError, see `error`).
            LocalProtocolError: if this is a PULL.
            ValueError: for a message without frames.
            BufferError: for a frame that is not contiguous.
        """
        self._post_message(frames, at_once)
        self._check()

    async def send(self, frames: Sequence[Buffer]) -> None:
        """Send a message, and wait until the system has taken it. Raises as `post` does.

        Cancelled, it withdraws the message if nothing of it has been sent; else the rest is sent in the
        background, and the connection remains of use.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        outgoing = self._post_message(frames, at_once=True)
        if outgoing is not None:
            try:
                while not outgoing.is_sent:
                    self._check()
                    await self._sent.park()
            finally:
                self._withdraw(outgoing)
        else:
            self._check()

    async def wait_sent(self, limit: int = 0) -> None:
        """Wait until at most so many bytes are unsent.

        Raises:
            ConnectionLost: if the connection is lost (or RemoteProtocolError, see `error`).
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        self._check()
        while self.unsent > limit:
            await self._sent.park()
            self._check()

    def _check(self) -> None:
        if self.error is not None:
            raise self.error.with_traceback(None)

    def _post_message(self, frames: Sequence[Buffer], at_once: bool) -> _Outgoing | None:
        self._check()
        return self._post(self._wire.send_message(frames), at_once)

    def _post(self, buffers: list[Frame], at_once: bool = True) -> _Outgoing | None:
        """Send or queue. Returns what waits to be sent: None if nothing does, or the connection is lost."""
        sent = 0
        if at_once and not self._queue and not self._is_writing:
            try:
                sent = self._transport.send_buffers_nowait(buffers)
            except trio.BrokenResourceError as error:
                self.lose(self._broken(error))
                return None
            buffers = _behind(buffers, sent)
            if not buffers:
                return None
        outgoing = _Outgoing(buffers, is_begun=sent > 0)
        self._queue.append(outgoing)
        self.unsent += outgoing.size
        if self._has_writer:
            if self._idle_writer:
                self._idle_writer.unpark()
        else:
            self._has_writer = True
            self._nursery.start_soon(self._write)
        return outgoing

    def _withdraw(self, outgoing: _Outgoing) -> None:
        """Forget a message, unless some of it was sent."""
        if outgoing.is_begun or self.error is not None:
            return
        self._queue = deque(other for other in self._queue if other is not outgoing)
        outgoing.is_begun = True
        self.unsent -= outgoing.size
        self._sent.unpark_all()

    @trio.lowlevel.enable_ki_protection  # Ctrl-C is for the program, not for tasks that it does not see
    async def _write(self) -> None:
        """Send what is posted; park while there is nothing."""
        try:
            while True:
                while self._queue:
                    self._is_writing = True
                    await self._write_batch()
                self._is_writing = False
                await self._idle_writer.park()
        except trio.BrokenResourceError as error:
            self.lose(self._broken(error))
        except trio.ClosedResourceError:
            self.lose(ConnectionLost(_CLOSED_HERE, CallInfo(self.peer)))

    async def _write_batch(self) -> None:
        batch: list[_Outgoing] = []
        size = 0
        while self._queue and size < _BATCH:
            outgoing = self._queue.popleft()
            outgoing.is_begun = True
            batch.append(outgoing)
            size += outgoing.size
        buffers = _join_small(itertools.chain.from_iterable(outgoing.buffers for outgoing in batch))
        while buffers:
            sent = self._transport.send_buffers_nowait(buffers)
            if not sent:
                piece = memoryview(buffers[0])[:_PIECE]
                await self._transport.send_all(piece)
                sent = len(piece)
            buffers = _behind(buffers, sent)
            self.unsent -= sent
            self._sent.unpark_all()
        for outgoing in batch:
            outgoing.is_sent = True
        self._sent.unpark_all()
        await trio.lowlevel.checkpoint()  # others have their turn, however much there is

    # -- the beginning, signs of life, and the end: for `open_zmtp` ----------------------------------------

    async def shake_hands(self) -> None:
        """Find out who the peer is.

        Raises:
            ConnectionLost: if it leaves.
            RemoteProtocolError: if it is refused, or refuses.
        """
        self._post([self._wire.greet()])
        while self.peer_ready is _NOBODY:
            try:
                event = self._wire.next_event()
            except RemoteProtocolError as error:
                await self._tell_why()
                raise self.lose(RemoteProtocolError(error.message, CallInfo(self.peer))) from None
            if isinstance(event, PeerReady):
                self.peer_ready = event
            elif isinstance(event, PeerGreeted):
                self._post([self._wire.ready()])
            else:
                await self._receive_more()

    async def _tell_why(self) -> None:
        """Tell the peer why it is refused, if it can be told."""
        if self._wire.refusal:
            self._post([self._wire.refusal])
            with trio.move_on_after(_FAREWELL), contextlib.suppress(ConnectionLost):
                await self.wait_sent()

    @trio.lowlevel.enable_ki_protection
    async def send_heartbeats(self, interval: float, patience: float) -> None:
        """Send PINGs; but none while the one before has not left. Lose the connection to a silent peer."""
        self._patience = patience
        ping: _Outgoing | None = None
        while self.error is None:
            if ping is None or ping.is_sent:
                ping = self._post([self._wire.ping()])
            await trio.sleep(interval)

    def _broken(self, error: trio.BrokenResourceError) -> ConnectionLost:
        return ConnectionLost(f"connection lost: {error}", CallInfo(self.peer))

    def lose(self, error: TrionetError) -> TrionetError:
        """The connection is of no more use. Returns why, which is not `error` if it was lost before."""
        if self.error is None:
            self.error = error
            self._wire.close()
            self._queue.clear()
            self.unsent = 0
            self._sent.unpark_all()
            self._nursery.start_soon(self._transport.aclose)
        return self.error

    def close(self) -> None:
        """Nothing more is sent or received."""
        self.lose(ConnectionLost(_CLOSED_HERE, CallInfo(self.peer)))


def _behind(buffers: list[Frame], size: int) -> list[Frame]:
    """What is left of buffers without the first `size` bytes."""
    for number, buffer in enumerate(buffers):
        if size < len(buffer):
            return [memoryview(buffer)[size:] if size else buffer, *buffers[number + 1 :]]
        size -= len(buffer)
    return []


def _join_small(buffers: Iterable[Frame]) -> list[Frame]:
    """The same bytes in fewer buffers; large ones are not copied."""
    joined: list[Frame] = []
    small: list[Frame] = []
    for buffer in buffers:
        if len(buffer) < _BATCH:
            small.append(buffer)
            continue
        joined += (b"".join(small), buffer) if small else (buffer,)
        small.clear()
    return [*joined, b"".join(small)] if small else joined
