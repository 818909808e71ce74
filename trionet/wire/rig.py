"""The exchange of experiment messages with one peer, and the rules of their echoes.

Who gets a message sends the same bytes back. That echo is all the protocol has: no numbers, no
acknowledgements. So what comes may be the echo that is awaited, a late or doubled one, a message of the
peer's own, or the same message once more, and only what was sent before tells which::

    what comes is ...                                     what it is          sent back
    the message whose echo is awaited                     its echo            no
    one sent lately, not more often than it was sent      a late echo         no
    one sent lately, more often than it was sent          a message [1]       yes [2]
    with a `dedup_window`: one sent within it             a doubled echo      no
    with a `dedup_window`: one received within it         a repeat            yes [2]
    an event without data                                 a ping              yes
    anything else                                         a message           as its second character says
    ... which is none                                     malformed           the same [2]

    [1] An answer that happens to have the bytes of the question, such as EXPSTART without data. Or a
        doubled echo: they cannot be told apart, and the window says which one it is taken for. The count
        begins anew when the same message is sent for another time, but not when it is sent again because
        its echo did not come.
    [2] But not again within `STORM_GAP`. Two peers that take each other's echoes for messages would
        send them to and fro for ever.

A message that comes while an echo is awaited is just a message, so two that send at the same moment both
succeed. (Upstream takes it for a bad echo, and closes.) Only if both send the very same bytes, each takes
the other's message for its echo.

Protocol facts: recorded from iblutil 1.20 (tests/data/transcripts/iblutil_*.json).
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final

from trionet.wire.errors import LocalProtocolError, RemoteProtocolError
from trionet.wire.json_stream import JsonStream, ValueTooLong
from trionet.wire.rig_messages import ExpMessage, MalformedMessage, is_echoed, parse_message

#: The longest message that fits a UDP datagram over IPv4, in bytes.
MAX_DATAGRAM: Final = 65_507

#: Seconds for which an echo is known for one after its message was last sent.
LATE_ECHO: Final = 10.0

#: Seconds within which bytes that should not have come are sent back once only. Longer than a round trip,
#: shorter than anyone waits until he sends a message again.
STORM_GAP: Final = 0.02

# Messages per peer that are remembered: sent ones; ones that were sent back at most once; received ones, if
# repeats matter.
_MOST_SENT: Final = 16
_MOST_RETURNED: Final = 16
_MOST_RECEIVED: Final = 1024


@dataclass(frozen=True, slots=True)
class Confirmed:
    """The echo that was awaited."""


@dataclass(frozen=True, slots=True)
class Incoming:
    """A message of the peer.

    Attributes:
        event: Its event; 0 for the report of an error.
        data: What follows the event.
    """

    event: ExpMessage
    data: list[Any]


@dataclass(frozen=True, slots=True)
class Ping:
    """An event without data: the echo is all that is wanted."""


@dataclass(frozen=True, slots=True)
class LateEcho:
    """An echo that nobody waits for: too late, or once more."""


@dataclass(frozen=True, slots=True)
class Repeat:
    """A message that has been received before."""


@dataclass(frozen=True, slots=True)
class Malformed:
    """No message; says why."""

    reason: str


Meaning = Confirmed | Incoming | Ping | LateEcho | Repeat | Malformed


@dataclass(frozen=True, slots=True)
class Received:
    """What has come.

    Attributes:
        echo: Bytes to send back, before anything else is done about it; or None.
        meaning: What it is.
    """

    echo: bytes | None
    meaning: Meaning


class _Sent:
    """A message of ours: how often it was sent, and how often it came back."""

    __slots__ = ("copies", "echoed", "last_sent", "transmissions")

    def __init__(self, now: float) -> None:
        self.transmissions = 1
        self.copies = 0
        self.last_sent = now
        self.echoed = -STORM_GAP


class Exchange:
    """What has been said between this side and one peer. All times are seconds of one clock.

    Args:
        dedup_window: Seconds for which a message that comes again is a repeat, and a second echo is a
            doubled one. 0 takes both for messages, as upstream does.

    Attributes:
        awaited: The message whose echo is awaited, or None.
    """

    def __init__(self, dedup_window: float = 0.0) -> None:
        self.awaited: bytes | None = None
        self._dedup_window = dedup_window
        # By the keys of messages, as the following.
        self._sent: OrderedDict[bytes, _Sent] = OrderedDict()
        # When each message came first; when what should not have come was last sent back.
        self._received: OrderedDict[bytes, float] = OrderedDict()
        self._returned: OrderedDict[bytes, float] = OrderedDict()

    def send(self, data: bytes, now: float) -> None:
        """A message is being sent, and its echo is awaited.

        Raises:
            LocalProtocolError: while the echo of another one is awaited.
        """
        if self.awaited is not None:
            raise LocalProtocolError("the echo of another message is awaited")
        self.awaited = data
        self.send_unconfirmed(data, now)

    def send_unconfirmed(self, data: bytes, now: float) -> None:
        """A message is being sent; its echo is not awaited, but known when it comes."""
        key = _key(data)
        self._sent[key] = _Sent(now)
        self._sent.move_to_end(key)
        if len(self._sent) > _MOST_SENT:
            self._sent.popitem(last=False)

    def send_again(self, now: float) -> None:
        """The message whose echo is awaited is being sent once more: it may come back more often."""
        if self.awaited is None:
            raise LocalProtocolError("no message is awaiting its echo")
        sent = self._sent.get(_key(self.awaited))
        if sent is None:
            self._sent[_key(self.awaited)] = _Sent(now)
        else:
            sent.transmissions += 1
            sent.last_sent = now

    def not_arrived(self) -> None:
        """The message whose echo is awaited was not received as it was last sent: no echo comes of that."""
        sent = self._sent.get(_key(self.awaited)) if self.awaited is not None else None
        if sent is not None:
            sent.transmissions -= 1

    def give_up(self) -> None:
        """Wait for the echo no more; it may still come, and is known then."""
        self.awaited = None

    def receive(self, data: bytes, now: float) -> Received:
        """Take what the peer has sent: a datagram, or a value from a stream."""
        key = _key(data)
        sent = self._sent.get(key)
        if sent is not None:
            sent.copies += 1
        if data == self.awaited:
            self.awaited = None
            return Received(None, Confirmed())
        if sent is not None and now - sent.last_sent > LATE_ECHO:
            del self._sent[key]
        elif sent is not None:
            if sent.copies <= sent.transmissions or now - sent.last_sent <= self._dedup_window:
                return Received(None, LateEcho())
            if now - sent.echoed < STORM_GAP:
                return Received(None, Repeat())
            sent.echoed = now
        return self._receive_message(data, key, now)

    def _receive_message(self, data: bytes, key: bytes, now: float) -> Received:
        echo = data if is_echoed(data) else None
        try:
            event, items = parse_message(data)
        except MalformedMessage as error:
            return Received(self._once(echo, key, now), Malformed(str(error)))
        if not items:
            return Received(echo, Ping())
        if self._dedup_window and self._is_repeat(key, now):
            return Received(self._once(echo, key, now), Repeat())
        return Received(echo, Incoming(event, items))

    def _is_repeat(self, key: bytes, now: float) -> bool:
        received = self._received
        while received:
            first = next(iter(received))
            if now - received[first] <= self._dedup_window and len(received) < _MOST_RECEIVED:
                break
            del received[first]
        if key in received:
            return True
        received[key] = now
        return False

    def _once(self, echo: bytes | None, key: bytes, now: float) -> bytes | None:
        """The echo, unless it was sent a moment ago."""
        last = self._returned.get(key)
        if echo is None or (last is not None and now - last < STORM_GAP):
            return None
        self._returned[key] = now
        self._returned.move_to_end(key)
        if len(self._returned) > _MOST_RETURNED:
            self._returned.popitem(last=False)
        return echo


def _key(data: bytes) -> bytes:
    """What stands for a message in memory: itself, or a digest if that is shorter."""
    return data if len(data) <= 64 else blake2b(data, digest_size=32).digest()


class StreamExchange(Exchange):
    """An exchange over a byte stream, where messages follow each other without anything in between.

    Args:
        max_message_size: The longest message accepted, in bytes.
        dedup_window: As for `Exchange`.
    """

    def __init__(self, max_message_size: int, dedup_window: float = 0.0) -> None:
        super().__init__(dedup_window)
        self._stream = JsonStream(max_message_size)

    def begin_stream(self) -> None:
        """What comes from now on is from a new connection; nothing comes of what was sent over the former."""
        self._stream = JsonStream(self._stream.max_length)
        self._sent.clear()

    @property
    def incomplete(self) -> bool:
        """Whether a message has begun that has not ended."""
        return self._stream.buffered > 0

    def receive_data(self, data: bytes) -> None:
        """Take a piece of the stream, however it was cut."""
        self._stream.feed(data)

    def next_received(self, now: float) -> Received | None:
        """The next whole message, or None.

        Raises:
            RemoteProtocolError: if it is too long.
        """
        awaited = self.awaited
        if awaited is not None and self._stream.buffered:
            # The echo may be of anything, text without brackets included: what was sent says where it ends.
            if self._stream.startswith(awaited):
                return self.receive(self._stream.take(len(awaited)), now)
            if self._stream.may_become(awaited):
                return None
        try:
            data = self._stream.next_value()
        except ValueTooLong as error:
            raise RemoteProtocolError(str(error)) from None
        return self.receive(data, now) if data is not None else None
