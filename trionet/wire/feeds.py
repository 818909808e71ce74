"""Feeds as two state machines without I/O: a client asks for one by name, and the server sends lines.

    client                                server
    SEND_NAME  -- banner ------------->   WAIT_BANNER
               -- name --------------->   WAIT_NAME
    FEEDING    <-- line, line, ... ----   FEEDING

sync_struct and broadcast are feeds; they differ in the banner and in what the lines say. Neither side says
how it encodes values, and there is no answer to a name that is not known but the end of the connection.

Protocol facts: recorded from sipyco 1.10 (tests/data/transcripts/sync_struct_*.json, broadcast_*.json).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto
from typing import Any, Final, Literal

from trionet import pyon
from trionet.pyon import PyonDecodeError, v1
from trionet.wire.errors import LocalProtocolError, RemoteProtocolError
from trionet.wire.lines import LineBuffer, LineTooLong

#: The longest banner or name that a server accepts, in bytes.
MAX_NAME_SIZE: Final = 64 * 1024

PyonVersion = Literal[1, 2]

# What only a line of PYON v2 contains.
_V2_CLASS: Final = b'"__jsonclass__"'


class State(Enum):
    """The states of both sides."""

    SEND_NAME = auto()
    WAIT_BANNER = auto()
    WAIT_NAME = auto()
    FEEDING = auto()
    CLOSED = auto()


#: What a line of the client leads to, per state of the server. One that feeds ignores what its client says.
RECEIVING: Final[Mapping[State, State]] = {
    State.WAIT_BANNER: State.WAIT_NAME,
    State.WAIT_NAME: State.FEEDING,
}


def encode_name(name: str) -> bytes:
    """The line that asks for a feed.

    Raises:
        ValueError: for a name that no line can carry: one with a line feed or a lone surrogate.
        TypeError: for what is no text.
    """
    if not isinstance(name, str):
        raise TypeError(f"a name must be text, not {name!r}")
    line = name.encode() + b"\n"
    if line.count(b"\n") > 1:
        raise ValueError(f"a name must be one line, not {name!r}")
    return line


def encode_line(value: Any, pyon_version: PyonVersion) -> bytes:
    """A value as a line of a feed.

    Raises:
        TypeError: if PYON cannot carry it (ValueError likewise).
    """
    if pyon_version == 1:
        return v1.encode(value).encode() + b"\n"
    return pyon.encode_bytes(value, suffix=b"\n")


def check_pyon_version(pyon_version: PyonVersion | None) -> None:
    """Raises ValueError for a version that there is not; None stands for whatever the other side speaks."""
    if pyon_version not in (1, 2, None):
        raise ValueError(f"PYON has versions 1 and 2, not {pyon_version!r}")


class FeedServer:
    """The server's side of one connection, until it is known which feed the client wants.

    Args:
        banner: The line that clients of this protocol begin with.
    """

    __slots__ = ("_banner", "_lines", "state")

    def __init__(self, banner: bytes) -> None:
        self.state = State.WAIT_BANNER
        self._banner = banner
        self._lines: LineBuffer | None = LineBuffer(MAX_NAME_SIZE)

    def receive_data(self, data: bytes) -> None:
        """Take bytes that came from the client."""
        if self._lines is not None:
            self._lines.feed(data)

    def next_name(self) -> str | None:
        """The name of the feed that the client wants; None until it has said so.

        Raises:
            RemoteProtocolError: for what is no client of this protocol: end the connection.
        """
        while self._lines is not None:
            state = self.state
            try:
                line = self._lines.next_line()
            except LineTooLong as error:
                raise self._refuse(str(error)) from None
            if line is None:
                return None
            self.state = RECEIVING[state]
            if state is State.WAIT_BANNER:
                if line != self._banner:
                    raise self._refuse(f"not the banner {self._banner.decode()!r}: {line[:40]!r}")
                continue
            self._lines = None  # whatever else it says is ignored
            try:
                return line.decode()
            except UnicodeDecodeError:
                raise self._refuse(f"a name that is not UTF-8: {line[:40]!r}") from None
        return None

    def _refuse(self, reason: str) -> RemoteProtocolError:
        self.state = State.CLOSED
        self._lines = None
        return RemoteProtocolError(reason)


class FeedClient:
    """The client's side of one connection.

    Args:
        banner: The line that clients of this protocol begin with.
        max_message_size: The longest line accepted, in bytes; a longer one ends the connection.
        pyon_version: How the server encodes values, 1 or 2. None to find out: a line that is no PYON v2,
            but v1, decides for v1.

    Attributes:
        answered: Whether a line has come.
    """

    def __init__(self, banner: bytes, max_message_size: int, pyon_version: PyonVersion | None = None) -> None:
        check_pyon_version(pyon_version)
        self.state = State.SEND_NAME
        self._banner = banner
        self.answered = False
        self._lines = LineBuffer(max_message_size)
        self._pyon_version = pyon_version

    def subscribe(self, name: str) -> bytes:
        """Ask for a feed: all that a client ever says.

        Raises:
            ValueError: for a name that no line can carry.
        """
        if self.state is not State.SEND_NAME:
            raise LocalProtocolError(f"not possible in state {self.state.name}")
        request = self._banner + b"\n" + encode_name(name)
        self.state = State.FEEDING
        return request

    def receive_data(self, data: bytes) -> None:
        """Take bytes that came from the server."""
        if self.state is not State.CLOSED:
            self._lines.feed(data)

    @property
    def buffered(self) -> int:
        """Bytes received and not yet consumed."""
        return self._lines.buffered

    @property
    def has_line(self) -> bool:
        """Whether a whole line waits to be consumed."""
        return self.state is State.FEEDING and self._lines.has_line

    @property
    def is_closed(self) -> bool:
        """Whether nothing more can come, because the server has sent what makes no sense."""
        return self.state is State.CLOSED

    def close(self) -> None:
        """The stream has ended or is about to: nothing more comes of it."""
        self.state = State.CLOSED

    def next_value(self) -> tuple[bool, Any]:
        """Whether a line has come, and what it says.

        Raises:
            RemoteProtocolError: if it is too long, or no PYON. The connection is of no use after it.
        """
        if self.state is not State.FEEDING:
            return False, None
        try:
            line = self._lines.next_line()
            if line is None:
                return False, None
            self.answered = True
            return True, self._decode(line)
        except LineTooLong as error:
            raise self.refuse(str(error)) from error
        except PyonDecodeError as error:
            raise self.refuse(f"a line that is not PYON: {error}") from error

    def refuse(self, reason: str) -> RemoteProtocolError:
        """What the server says makes no sense: the error to raise. Nothing more is received."""
        self.state = State.CLOSED
        return RemoteProtocolError(reason)

    def _decode(self, line: bytes) -> Any:
        if self._pyon_version == 1:
            return v1.decode(line)
        try:
            return pyon.decode(line)
        except PyonDecodeError:
            if self._pyon_version == 2 or _V2_CLASS in line:
                raise
            try:
                value = v1.decode(line)
            except PyonDecodeError:
                pass  # it is neither; what is wrong with it as v2 is raised
            else:
                self._pyon_version = 1
                return value
            raise
