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
        doubled echo: they cannot be told apart, and the window says which one it is taken for. Answers
        that are spelt otherwise, see `encode_answer`, are never in doubt. What was sent and has not come
        back within 10 s counts, even if its sender gave up.
    [2] Ten times, then twice a second; [1] three times, and not twice within `STORM_GAP`, because it is
        delivered, too. Two peers that take each other's echoes for messages would send them to and fro
        for ever. If one of them is ours and remembers what it has sent, they do not, unless a round trip
        takes more than half a second. What has come back, and then was not heard of for 10 s, is no such
        storm: it is forgotten, and the peer may send it as often as it likes.

A message that comes while an echo is awaited is just a message, so two that send at the same moment both
succeed. (Upstream takes it for a bad echo, and closes.) Only if both send the very same bytes, each takes
the other's message for its echo.

Protocol facts: recorded from iblutil 1.20 (tests/data/transcripts/iblutil_*.json).
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final

from trionet.wire.errors import LocalProtocolError, RemoteProtocolError
from trionet.wire.json_stream import JsonStream, ValueTooLong
from trionet.wire.rig_messages import PING, ExpMessage, MalformedMessage, is_answer, is_echoed, parse_message

#: The longest message that fits a UDP datagram over IPv4, in bytes.
MAX_DATAGRAM: Final = 65_507

#: Seconds for which an echo is known for one after its message was last sent, where messages can be lost.
LATE_ECHO: Final = 10.0

#: Seconds within which a copy of a message of ours is taken for one, and sent back, only once.
STORM_GAP: Final = 0.02

# How often bytes that should not have come are sent back at once, fewer times if they are delivered as well,
# and how often per second after that. A storm comes sooner or later to one that is not sent back, and ends.
_RETURNS: Final = 10
_RETURNS_OF_MESSAGES: Final = 3
_RETURNS_PER_SECOND: Final = 2.0

# Messages per peer that are remembered: sent ones, stray ones; received ones, if repeats matter.
_MOST_SENT: Final = 1024
_MOST_STRAY: Final = 64
_MOST_RECEIVED: Final = 1024

# Characters of the reason why something is no message. It may quote what has come.
_LONGEST_REASON: Final = 200


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


class _Returns:
    """How often something may still be sent back.

    Args:
        now: The time.
        at_once: How often at the most without waiting.
        gap: Seconds between two times at least.
    """

    __slots__ = ("_at_once", "_gap", "_last", "_left", "_since")

    def __init__(self, now: float, at_once: int = _RETURNS, gap: float = 0.0) -> None:
        self._at_once = at_once
        self._gap = gap
        self._last = -math.inf
        self._left: float = at_once
        self._since = now

    def take(self, now: float) -> bool:
        """Whether it may be sent back now."""
        self._left = min(self._at_once, self._left + (now - self._since) * _RETURNS_PER_SECOND)
        self._since = now
        if self._left < 1 or now - self._last < self._gap:
            return False
        self._left -= 1
        self._last = now
        return True


class _Sent:
    """A message of ours: how often it was sent, and how often it came back."""

    __slots__ = ("copies", "last_copy", "last_sent", "returns", "transmissions")

    def __init__(self, now: float) -> None:
        self.transmissions = 1
        self.copies = 0
        self.last_sent = now
        self.last_copy = now
        self.returns = _Returns(now, _RETURNS_OF_MESSAGES, STORM_GAP)


class Exchange:
    """What has been said between this side and one peer. All times are seconds of one clock.

    Args:
        dedup_window: Seconds for which a message that comes again is a repeat, and a second echo is a
            doubled one. 0 takes both for messages, as upstream does.

    Attributes:
        awaited: The message whose echo is awaited, or None.
        is_patient: Whether the peer is known to take a message that comes right behind an echo for what it
            is: trionet does, upstream may not.
    """

    _late_echo = LATE_ECHO

    def __init__(self, dedup_window: float = 0.0) -> None:
        self.awaited: bytes | None = None
        self.is_patient = False
        self._dedup_window = dedup_window
        # By the keys of messages, as the following.
        self._sent: OrderedDict[bytes, _Sent] = OrderedDict()
        # When each message came first; what should not have come, and is sent back.
        self._received: OrderedDict[bytes, float] = OrderedDict()
        self._stray: OrderedDict[bytes, _Returns] = OrderedDict()

    def send(self, data: bytes, now: float) -> None:
        """A message is being sent, and its echo is awaited.

        Raises:
            LocalProtocolError: while the echo of another one is awaited, or if nobody sends it back.
        """
        if not is_echoed(data):
            raise LocalProtocolError("no rig sends this back, because its second character is 0: use send")
        if self.awaited is not None:
            raise LocalProtocolError("the echo of another message is awaited")
        self.awaited = data
        self.send_unconfirmed(data, now)

    def send_unconfirmed(self, data: bytes, now: float) -> None:
        """A message is being sent; its echo is not awaited, but known when it comes."""
        before = self._sent.get(_key(data))
        sent = _Sent(now)
        if before is not None and now - before.last_sent <= self._late_echo:
            sent.transmissions += max(0, before.transmissions - before.copies)  # echoes that may still come
        self._remember(sent, data)

    def _remember(self, sent: _Sent, data: bytes) -> None:
        key = _key(data)
        self._sent[key] = sent
        self._sent.move_to_end(key)
        if len(self._sent) > _MOST_SENT:
            self._sent.popitem(last=False)

    def send_again(self, now: float) -> None:
        """The message whose echo is awaited is being sent once more: it may come back more often."""
        if self.awaited is None:
            raise LocalProtocolError("no message is awaiting its echo")
        sent = self._sent.get(_key(self.awaited))
        if sent is None:
            self._remember(_Sent(now), self.awaited)
        else:
            sent.transmissions += 1
            sent.last_sent = now

    def withdraw(self, data: bytes) -> None:
        """A message was not sent after all, or not received as it was last sent: no echo comes of that."""
        sent = self._sent.get(_key(data))
        if sent is not None:
            sent.transmissions -= 1
            if not sent.transmissions:  # what comes is the peer's own
                del self._sent[_key(data)]

    def give_up(self) -> None:
        """Wait for the echo no more; it may still come, and is known then."""
        self.awaited = None

    def receive(self, data: bytes, now: float) -> Received:
        """Take what the peer has sent: a datagram, or a value from a stream."""
        key = _key(data)
        sent = self._sent.get(key)
        if sent is not None and self._is_over(sent, now):
            del self._sent[key]
            sent = None
        if sent is not None:
            sent.copies += 1
            sent.last_copy = now
        if data == self.awaited:
            self.awaited = None
            return Received(None, Confirmed())
        if sent is not None:
            if self._is_late_echo(sent, data, now):
                return Received(None, LateEcho())
            if not sent.returns.take(now):
                return Received(None, Repeat())
        return self._receive_message(data, key, now)

    def _is_over(self, sent: _Sent, now: float) -> bool:
        """Whether a copy that comes now can have nothing to do with the message of ours."""
        quiet = now - max(sent.last_sent, sent.last_copy)
        return sent.copies >= sent.transmissions and quiet > max(LATE_ECHO, self._dedup_window)

    def _is_late_echo(self, sent: _Sent, data: bytes, now: float) -> bool:
        """Whether a copy of a message of ours is an echo of it."""
        since = now - sent.last_sent
        if since <= self._late_echo and (sent.copies <= sent.transmissions or is_answer(data)):
            return True
        return bool(self._dedup_window) and since <= self._dedup_window

    def _receive_message(self, data: bytes, key: bytes, now: float) -> Received:
        echo = data if is_echoed(data) else None
        try:
            event, items = parse_message(data)
        except MalformedMessage as error:
            return Received(self._limited(echo, key, now), Malformed(str(error)[:_LONGEST_REASON]))
        if not items:
            self.is_patient |= data == PING
            return Received(echo, Ping())
        if self._dedup_window and self._is_repeat(key, now):
            return Received(self._limited(echo, key, now), Repeat())
        return Received(echo, Incoming(event, items))

    def _is_repeat(self, key: bytes, now: float) -> bool:
        received = self._received
        while received and now - next(iter(received.values())) > self._dedup_window:
            received.popitem(last=False)
        if key in received:
            return True
        received[key] = now
        if len(received) > _MOST_RECEIVED:
            received.popitem(last=False)
        return False

    def _limited(self, echo: bytes | None, key: bytes, now: float) -> bytes | None:
        """The echo of what should not have come, unless it was sent too often lately."""
        if echo is None:
            return None
        returns = self._stray.setdefault(key, _Returns(now))
        self._stray.move_to_end(key)
        if len(self._stray) > _MOST_STRAY:
            self._stray.popitem(last=False)
        return echo if returns.take(now) else None


def _key(data: bytes) -> bytes:
    """What stands for a message in memory: itself, or a digest if that is shorter."""
    return data if len(data) <= 64 else blake2b(data, digest_size=32).digest()


class StreamExchange(Exchange):
    """An exchange over a byte stream, where messages follow each other without anything in between.

    Nothing is lost on the way, so an echo is known for one however late it comes.

    Args:
        max_message_size: The longest message accepted, in bytes.
        dedup_window: As for `Exchange`.
    """

    _late_echo = math.inf

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
