"""ZMTP 3, ZeroMQ's wire protocol, as a state machine without I/O, with the mechanism NULL.

    GREETING  -- version, mechanism --->  READY
    READY     -- socket type, identity ->  TRAFFIC
    TRAFFIC   -- message, PING, PONG --->  TRAFFIC
    any but GREETING  -- ERROR --------->  CLOSED

Both sides take these steps, each without waiting for the other, but for one rule: messages and PING are
only sent to a peer whose READY has been read, because libzmq drops connections otherwise. So a connection has
two states, `own` and `peer`, and one table for both. What comes in and does not fit is a
`RemoteProtocolError` and ends the connection. A method in the wrong state is a `LocalProtocolError` and
changes nothing.

The methods that send return what is to be sent, in their order. `receive_data` takes what came; `next_event`
gives what it meant, one step at a time, and None when it takes more data to say more. A large frame need not
be copied on its way: receive into `vacant()` while that is not None, and tell `fill` how much it was.

Protocol facts: RFC 37 (ZMTP 3.1), and recorded from libzmq 4.3.5 (tests/data/transcripts).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Final

from trionet.wire.errors import LocalProtocolError, RemoteProtocolError
from trionet.wire.lines import MAX_MESSAGE_SIZE
from trionet.wire.zmtp_commands import (
    GREETING,
    MAX_PING_CONTEXT,
    check_greeting,
    decode_command,
    decode_ping,
    decode_properties,
    decode_reason,
    encode_command,
    encode_properties,
)
from trionet.wire.zmtp_frames import COMMAND, MORE, BadFrame, Frame, FrameBuffer, encode_message

if TYPE_CHECKING:
    from typing_extensions import Buffer

#: Frames of one message by default. Empty ones have no size that would count against the limit of bytes.
MAX_FRAMES: Final = 1024
#: The longest identity, in bytes.
MAX_IDENTITY_SIZE: Final = 255
# READY is the longest command, and may have properties of the application.
_MAX_COMMAND_SIZE: Final = 8192


class SocketType(Enum):
    """What a socket is for; the values are the names on the wire.

    DEALER and ROUTER exchange messages both ways, so does a PAIR, with one peer; PUSH sends to PULL.
    """

    DEALER = "DEALER"
    ROUTER = "ROUTER"
    PAIR = "PAIR"
    PUSH = "PUSH"
    PULL = "PULL"


#: Which types talk to which. ZeroMQ has more types, which nothing here speaks.
PARTNERS: Final[Mapping[SocketType, frozenset[SocketType]]] = {
    SocketType.DEALER: frozenset({SocketType.DEALER, SocketType.ROUTER}),
    SocketType.ROUTER: frozenset({SocketType.DEALER, SocketType.ROUTER}),
    SocketType.PAIR: frozenset({SocketType.PAIR}),
    SocketType.PUSH: frozenset({SocketType.PULL}),
    SocketType.PULL: frozenset({SocketType.PUSH}),
}
# The others have no identity in READY.
_WITH_IDENTITY: Final = frozenset({SocketType.DEALER, SocketType.ROUTER})


class State(Enum):
    """What a side sends next."""

    GREETING = auto()
    READY = auto()
    TRAFFIC = auto()
    CLOSED = auto()


class Unit(Enum):
    """What can be sent; commands that are not known count as OTHER, and are ignored."""

    GREETING = "the greeting"
    READY = "READY"
    ERROR = "ERROR"
    PING = "PING"
    PONG = "PONG"
    MESSAGE = "a message"
    OTHER = "a command"


#: What a unit leads to, for the side that sends it. What is missing is not allowed.
STEPS: Final[Mapping[tuple[State, Unit], State]] = {
    (State.GREETING, Unit.GREETING): State.READY,
    (State.READY, Unit.READY): State.TRAFFIC,
    (State.READY, Unit.ERROR): State.CLOSED,
    (State.TRAFFIC, Unit.MESSAGE): State.TRAFFIC,
    (State.TRAFFIC, Unit.PING): State.TRAFFIC,
    (State.TRAFFIC, Unit.PONG): State.TRAFFIC,
    (State.TRAFFIC, Unit.OTHER): State.TRAFFIC,
    (State.TRAFFIC, Unit.ERROR): State.CLOSED,
}


@dataclass(frozen=True, slots=True)
class PeerGreeted:
    """The peer speaks ZMTP 3: answer with `ready`."""

    version: tuple[int, int]


@dataclass(frozen=True, slots=True)
class PeerReady:
    """The peer has told who it is; from now on messages can be sent.

    Attributes:
        socket_type: Its type, a partner of ours.
        identity: What it calls itself; empty if it does not.
        properties: The other properties it has sent, by their names.
    """

    socket_type: SocketType
    identity: bytes
    properties: Mapping[str, bytes]


@dataclass(slots=True)
class Message:
    """A whole message. Not frozen, which would take as long as reading it."""

    frames: list[Frame]


@dataclass(frozen=True, slots=True)
class Ping:
    """The peer wants to know whether this side is alive: answer with `pong(context)`.

    Attributes:
        time_to_live: Seconds within which the peer will send more; 0 if it does not say.
        context: To be repeated in the answer.
    """

    time_to_live: float
    context: bytes


@dataclass(frozen=True, slots=True)
class Pong:
    """The peer is alive."""

    context: bytes


@dataclass(frozen=True, slots=True)
class OtherCommand:
    """A command that is not known here, to be ignored. It is told because a peer may send many of them."""

    name: bytes


Event = PeerGreeted | PeerReady | Message | Ping | Pong | OtherCommand


class ZmtpConnection:
    """One side of a connection; both are alike.

    Args:
        socket_type: What this side is.
        identity: What this side calls itself, at most 255 bytes, not beginning with a zero byte. Only a
            DEALER or a ROUTER sends it.
        max_message_size: Bytes in all frames of a message; a longer one ends the connection.
        max_frames: Frames of a message, likewise.

    Attributes:
        own: What this side sends next.
        peer: What the peer sends next.
        refusal: After a `RemoteProtocolError`: what may be sent to tell the peer why, before closing.
    """

    __slots__ = (
        *("_buffer", "_frames", "_identity", "_max_frames", "_max_message_size", "_socket_type"),
        *("own", "peer", "refusal"),
    )

    def __init__(
        self,
        socket_type: SocketType,
        *,
        identity: bytes = b"",
        max_message_size: int = MAX_MESSAGE_SIZE,
        max_frames: int = MAX_FRAMES,
    ) -> None:
        if len(identity) > MAX_IDENTITY_SIZE or identity.startswith(b"\0"):
            raise ValueError(
                f"an identity has at most {MAX_IDENTITY_SIZE} bytes, and does not begin with 0: {identity!r}"
            )
        self.own = State.GREETING
        self.peer = State.GREETING
        self.refusal = b""
        self._socket_type = socket_type
        self._identity = identity
        self._max_message_size = max_message_size
        self._max_frames = max_frames
        self._buffer = FrameBuffer(max_message_size, _MAX_COMMAND_SIZE)
        self._frames: list[Frame] = []  # of the message that is coming

    # -- sending ---------------------------------------------------------------------------------------

    def greet(self) -> bytes:
        """The first bytes, which nothing has to be waited for with."""
        self._sends(Unit.GREETING)
        return GREETING

    def ready(self, properties: Mapping[str, bytes] | None = None) -> bytes:
        """Tell the peer who this is, once it has greeted.

        Args:
            properties: More of them; names are ASCII, and those of applications begin with ``X-``.
        """
        if self.peer is State.GREETING:
            raise LocalProtocolError("the peer has not greeted yet")
        self._sends(Unit.READY)
        who = {"Socket-Type": self._socket_type.value.encode()}
        if self._socket_type in _WITH_IDENTITY:
            who["Identity"] = self._identity
        return encode_command(b"READY", encode_properties({**who, **(properties or {})}))

    def send_message(self, frames: Sequence[Buffer]) -> list[Frame]:
        """The buffers to send for a message. Large frames are among them as they are, so leave them as they
        are until they have been sent.

        Raises:
            LocalProtocolError: if messages cannot be sent: not yet, not any more, or never by a PULL.
            ValueError: for a message without frames.
            BufferError: for a frame that is not contiguous.
        """
        if self.own is not State.TRAFFIC or self.peer is not State.TRAFFIC:
            self._sends_traffic(Unit.MESSAGE)
        if self._socket_type is SocketType.PULL:
            raise LocalProtocolError("a PULL socket sends no messages")
        return encode_message(frames)

    def ping(self, time_to_live: float = 0.0, context: bytes = b"") -> bytes:
        """Ask for a sign of life.

        Args:
            time_to_live: Seconds, rounded up to tenths; hearing nothing more for so long, the peer may take
                this side for dead. 0 not to say, at most 6553.5.
            context: At most 16 bytes, which the answer will repeat.
        """
        tenths = math.ceil(round(time_to_live * 10, 6))
        if len(context) > MAX_PING_CONTEXT or not 0 <= tenths < 1 << 16:
            raise ValueError(f"no PING can carry {time_to_live} s and {len(context)} bytes of context")
        self._sends_traffic(Unit.PING)
        return encode_command(b"PING", tenths.to_bytes(2, "big") + context)

    def pong(self, context: bytes) -> bytes:
        """Answer a `Ping`."""
        self._sends_traffic(Unit.PONG)
        return encode_command(b"PONG", context)

    def close(self) -> None:
        """The stream has ended or is about to: nothing more is received or sent."""
        self.own = self.peer = State.CLOSED

    def _sends(self, unit: Unit) -> None:
        step = STEPS.get((self.own, unit))
        if step is None:
            raise LocalProtocolError(f"{unit.value} cannot be sent in state {self.own.name}")
        self.own = step

    def _sends_traffic(self, unit: Unit) -> None:
        if self.peer is not State.TRAFFIC:
            raise LocalProtocolError(f"{unit.value} cannot be sent to a peer in state {self.peer.name}")
        self._sends(unit)

    # -- receiving -------------------------------------------------------------------------------------

    @property
    def buffered(self) -> int:
        """Bytes received and not given yet, whole frames of an unfinished message included."""
        return self._buffer.buffered + sum(map(len, self._frames))

    @property
    def is_between_messages(self) -> bool:
        """Whether a stream that ends now cuts nothing off."""
        return self._buffer.is_between_frames and not self._frames

    def receive_data(self, data: bytes) -> None:
        """Take bytes that came from the peer. Take all events there are before giving it more."""
        if self.peer is not State.CLOSED:
            self._buffer.feed(data)

    def vacant(self) -> memoryview | None:
        """Where what comes next may be received into, at most so much; None: give it to `receive_data`."""
        return self._buffer.vacant()

    def fill(self, size: int) -> None:
        """So many bytes have been received into `vacant()`."""
        self._buffer.fill(size)

    def next_event(self) -> Event | None:
        """What the peer has sent next.

        Raises:
            RemoteProtocolError: for what does not fit, or ERROR. The connection is of no use after it.
        """
        if self.peer is State.GREETING:
            return self._next_greeting()
        if self.peer is State.TRAFFIC and not self._frames and self._socket_type is not SocketType.PUSH:
            # What nearly all messages are, without a call for each frame.
            frames = self._buffer.next_short_message(self._max_frames)
            if frames is not None:
                return Message(frames)
        while self.peer is not State.CLOSED:
            try:
                received = self._buffer.next_frame()
            except BadFrame as error:
                raise self._refuse(str(error)) from None
            if received is None:
                return None
            flags, body = received
            event = self._command(body) if flags & COMMAND else self._frame(flags, body)
            if event is not None:
                return event
        return None

    def _next_greeting(self) -> PeerGreeted | None:
        start = self._buffer.peek()[: len(GREETING)]
        try:
            check_greeting(start)
        except ValueError as error:
            raise self._refuse(str(error)) from None
        if len(start) < len(GREETING):
            return None
        self._buffer.take(len(GREETING))
        self._receives(Unit.GREETING)
        return PeerGreeted((start[10], start[11]))

    def _frame(self, flags: int, body: Frame) -> Message | None:
        if self.peer is not State.TRAFFIC:
            raise self._refuse("a message before READY")
        if self._socket_type is SocketType.PUSH:
            raise self._refuse("a message to a PUSH socket, which only sends")
        frames = self._frames
        frames.append(body)
        if flags & MORE:
            if len(frames) >= self._max_frames:
                raise self._refuse(f"a message of more than {self._max_frames} frames")
            self._buffer.max_message_frame -= len(body)
            return None
        self._frames = []
        self._buffer.max_message_frame = self._max_message_size
        return Message(frames)

    def _command(self, body: Frame) -> Event:
        try:
            name, data = decode_command(body)
            unit = _COMMANDS.get(name, Unit.OTHER)
            self._receives(unit)
            match unit:
                case Unit.READY:
                    return self._peer_ready(decode_properties(data))
                case Unit.PING:
                    return Ping(*decode_ping(data))
                case Unit.PONG:
                    return Pong(data)
                case Unit.ERROR:
                    raise self._refuse(f"refused by the peer: {decode_reason(data)}")
        except ValueError as error:
            raise self._refuse(str(error)) from None
        return OtherCommand(name)

    def _peer_ready(self, properties: dict[str, bytes]) -> PeerReady:
        """Who the peer is. RFC 37 does not distinguish cases in the names of properties."""
        others = {name: value for name, value in properties.items() if name.lower() not in _KNOWN}
        known = {name.lower(): value for name, value in properties.items()}
        name = known.get("socket-type", b"").decode("ascii", "replace")
        partners = PARTNERS[self._socket_type]
        if name not in {partner.value for partner in partners}:
            allowed = " or ".join(sorted(partner.value for partner in partners))
            own = self._socket_type.value
            raise self._refuse(f"{own} talks to {allowed}, not to {name[:40]!r}", tell=True)
        return PeerReady(SocketType(name), known.get("identity", b""), others)

    def _receives(self, unit: Unit) -> None:
        step = STEPS.get((self.peer, unit))
        if step is None:
            raise self._refuse(f"{unit.value} in state {self.peer.name}")
        self.peer = step

    def _refuse(self, reason: str, *, tell: bool = False) -> RemoteProtocolError:
        if tell and STEPS.get((self.own, Unit.ERROR)) is not None:
            text = reason.encode("ascii", "replace")
            self.refusal = encode_command(b"ERROR", bytes([len(text)]) + text)
        self.close()
        return RemoteProtocolError(reason)


_COMMANDS: Final = {unit.value.encode(): unit for unit in (Unit.READY, Unit.ERROR, Unit.PING, Unit.PONG)}
_KNOWN: Final = frozenset({"socket-type", "identity"})
