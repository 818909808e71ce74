"""ARTIQ logging without I/O: records of the `logging` module, in lines.

    forwarder                               sink
    ARTIQ logging ----------------------->  WAIT_BANNER
    source:LEVEL:name:message ----------->  WAIT_RECORD    a message of one line
    source:LEVEL<2>:name:first line ----->  WAIT_RECORD    a message of two,
    second line ------------------------->  WAIT_LINES     which has no prefix

The sink never says anything. What breaks the protocol is a `RemoteProtocolError` and ends the connection.

A record is only a record if its level is known; what else follows a source is a line of text that some
program has printed, and becomes a record of the level INFO and the name ``print``.

Protocol facts: recorded from sipyco 1.10 (tests/data/transcripts). It differs in two things that nobody can
want: ``<0>`` makes it wait for ever, here it is one line; and of a last line without its end it takes what
came but for one character, here it is lost.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from trionet.wire.errors import RemoteProtocolError
from trionet.wire.lines import LineBuffer, LineTooLong

BANNER: Final = b"ARTIQ logging"

#: The level below DEBUG that upstream's programs use; the `logging` module has no name for it.
TRACE: Final = 5
_INFO: Final = 20

#: The levels that the protocol knows. Their numbers are those of the `logging` module.
LEVELS: Final[Mapping[bytes, int]] = {
    b"CRITICAL": 50,
    b"ERROR": 40,
    b"WARNING": 30,
    b"WARN": 30,
    b"INFO": _INFO,
    b"DEBUG": 10,
    b"TRACE": TRACE,
}
_SENT_LEVELS: Final = tuple((number, name) for name, number in LEVELS.items() if name != b"WARN")

#: The name of the records that are made of printed text.
PRINT: Final = "print"

#: The largest record that a sink accepts by default, in bytes with all its lines.
MAX_RECORD_SIZE: Final = 2**20
#: The largest record that is sent by default, in bytes: traceback of some hundred lines.
MAX_SENT_SIZE: Final = 2**16
#: A limit below this leaves no room for a message.
MIN_SENT_SIZE: Final = 1024

# The longest source and name that are sent, in bytes.
_MAX_FIELD: Final = 256
# Room for the rest of a first line: colons, level, number of lines, line feed.
_MAX_REST: Final = 40

#: The first line of a record, without its source: level, number of lines or None, name, text.
RECORD: Final = re.compile(
    rb"(%s)(?:<([0-9]+)>)?:([^:]*):(.*)" % b"|".join(sorted(LEVELS, reverse=True)), re.DOTALL
)
# Not to be sent in a source or name, where they would mean something else.
_SEPARATORS: Final = re.compile(rb"[:\n]")


class State(Enum):
    """The states of a sink's connection."""

    WAIT_BANNER = auto()
    WAIT_RECORD = auto()
    WAIT_LINES = auto()
    CLOSED = auto()


@dataclass(frozen=True, slots=True)
class ForwarderArrived:
    """A forwarder has sent the banner. There is nothing to answer."""


@dataclass(frozen=True, slots=True)
class LogMessage:
    """What is forwarded of a record.

    Attributes:
        source: Where it comes from: usually the name of a machine or program.
        level: Its number, as in the `logging` module.
        name: Name of its logger.
        message: The formatted text, traceback included.
    """

    source: str
    level: int
    name: str
    message: str


SinkEvent = ForwarderArrived | LogMessage


def greet() -> bytes:
    """The first line that a forwarder sends."""
    return BANNER + b"\n"


def encode_log_message(message: LogMessage, max_size: int = MAX_SENT_SIZE) -> bytes:
    """The lines of a record.

    What the protocol cannot carry is replaced: a level that it does not know by the closest lower one
    (below TRACE there is only TRACE); ``:`` and line feeds in source and name by ``_``, and what they
    have beyond 256 bytes is left out; characters that UTF-8 does not have by their escape, ``\\udc80``.

    Args:
        message: The record.
        max_size: Bytes that it may take. A longer message is cut off, and says so at its end. At least
            `MIN_SENT_SIZE`.
    """
    source = _encode_field(message.source)
    name = _encode_field(message.name)
    text = _encode_text(message.message)
    room = max_size - len(source) - len(name) - _MAX_REST
    if len(text) > room:
        text = _cut(text, room)
    level = next((name for number, name in _SENT_LEVELS if number <= message.level), b"TRACE")
    lines = text.count(b"\n") + 1
    if lines > 1:
        level += b"<%d>" % lines
    return b"%b:%b:%b:%b\n" % (source, level, name, text)


def _encode_text(text: str) -> bytes:
    return text.encode(errors="backslashreplace")


def _encode_field(text: str) -> bytes:
    return _whole_characters(_SEPARATORS.sub(b"_", _encode_text(text[:_MAX_FIELD]))[:_MAX_FIELD])


def _cut(text: bytes, size: int) -> bytes:
    note = b" [cut off here, %d bytes in all]" % len(text)
    return _whole_characters(text[: size - len(note)]) + note


def _whole_characters(text: bytes) -> bytes:
    """Without the last character, if it was cut in two."""
    return text.decode(errors="ignore").encode()


class LogSinkConnection:
    """The sink's side of one connection.

    Args:
        max_record_size: The largest record accepted, in bytes with all its lines; a larger one ends the
            connection. Not much more is kept of a record that has no end yet.
    """

    __slots__ = ("_lines", "_max_record_size", "_missing", "_record", "_text", "state")

    def __init__(self, max_record_size: int = MAX_RECORD_SIZE) -> None:
        self.state = State.WAIT_BANNER
        self._max_record_size = max_record_size
        self._lines = LineBuffer(max_record_size)
        # The record whose lines are not all there: source, level and name, the message, what it lacks.
        self._record = ("", 0, "")
        # One piece of memory, because a list of short lines would take many times as much.
        self._text = bytearray()
        self._missing = 0

    @property
    def incomplete(self) -> bool:
        """Whether a record, or the banner, has begun and not ended."""
        return self.state is State.WAIT_LINES or self._lines.buffered > 0

    def receive_data(self, data: bytes) -> None:
        """Take bytes that came from the forwarder."""
        if self.state is not State.CLOSED:
            self._lines.feed(data)

    def close(self) -> None:
        """The stream has ended or is about to: nothing more is received."""
        self.state = State.CLOSED
        self._text.clear()

    def next_event(self) -> SinkEvent | None:
        """What came next, or None if that is not complete yet.

        Raises:
            RemoteProtocolError: for what has to end the connection.
        """
        while self.state is not State.CLOSED:
            try:
                line = self._lines.next_line()
            except LineTooLong as error:
                raise self._refuse(str(error)) from None
            if line is None:
                return None
            event = self._take(line)
            if event is not None:
                return event
        return None

    def _take(self, line: bytes) -> SinkEvent | None:
        match self.state:
            case State.WAIT_RECORD:
                return self._begin(line)
            case State.WAIT_LINES:
                return self._continue(line)
        if line != BANNER:
            raise self._refuse(f"not the banner of a log forwarder: {line[:40]!r}")
        self.state = State.WAIT_RECORD
        return ForwarderArrived()

    def _begin(self, line: bytes) -> LogMessage | None:
        source, colon, rest = line.partition(b":")
        if not colon:
            raise self._refuse(f"a record without a source: {line[:40]!r}")
        record = RECORD.fullmatch(rest)
        if record is None:
            return LogMessage(self._decode(source), _INFO, PRINT, self._decode(rest))
        level, lines, name, text = record.groups()
        self._record = (self._decode(source), LEVELS[level], self._decode(name))
        self._missing = self._count(lines) - 1 if lines else 0
        if self._missing <= 0:
            return LogMessage(*self._record, self._decode(text))
        self._text += text
        self.state = State.WAIT_LINES
        return None

    def _continue(self, line: bytes) -> LogMessage | None:
        # What the first line has besides its text is not counted: it is bounded on its own.
        if len(self._text) + len(line) >= self._max_record_size:
            raise self._refuse(f"a record of more than {self._max_record_size} bytes")
        self._text += b"\n"
        self._text += line
        self._missing -= 1
        if self._missing:
            return None
        message = LogMessage(*self._record, self._decode(self._text))
        self._text.clear()
        self.state = State.WAIT_RECORD
        return message

    def _count(self, digits: bytes) -> int:
        significant = digits.lstrip(b"0") or b"0"
        # Each line takes a byte at least. int() raises for more digits than it likes.
        if len(significant) > len(str(self._max_record_size)) or int(significant) > self._max_record_size:
            raise self._refuse(f"a record of {digits[:20].decode()} lines")
        return int(significant)

    def _decode(self, text: bytes | bytearray) -> str:
        try:
            return text.decode()
        except UnicodeDecodeError:
            raise self._refuse(f"a record that is not UTF-8: {bytes(text[:40])!r}") from None

    def _refuse(self, reason: str) -> RemoteProtocolError:
        self.close()
        return RemoteProtocolError(reason)
