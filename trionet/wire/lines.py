"""Cutting a byte stream into lines that end with LF.

A line may be 100 MiB of base64, so its pieces are kept as they came and joined once. A peer may also send
it byte by byte, so small pieces are gathered: the memory in use stays close to the bytes received.
"""

from __future__ import annotations

from collections import deque
from typing import Final

#: The longest line either side accepts by default, in bytes: as much as upstream's asyncio client takes.
MAX_MESSAGE_SIZE: Final = 100 * 2**20

# Smaller pieces are copied together instead of being kept as objects of their own.
_SMALL_PIECE: Final = 4096


class LineTooLong(Exception):
    """A line is longer than the limit. There is no way to read on behind it."""


class LineBuffer:
    """Takes pieces of a stream, gives lines.

    Args:
        max_length: The longest line accepted, in bytes, without its LF. What is kept of a line that has
            no end yet is bounded by it.
    """

    __slots__ = ("_buffered", "_lines", "_partial", "_partial_length", "max_length")

    def __init__(self, max_length: int) -> None:
        self.max_length = max_length
        # An empty deque takes 600 bytes, too many for each idle connection.
        self._lines: deque[bytes] | tuple[()] = ()
        self._partial: list[bytes | bytearray] = []
        self._partial_length = 0
        self._buffered = 0

    def feed(self, data: bytes) -> None:
        """Take the next piece of the stream."""
        if self._partial_length > self.max_length:
            return
        self._buffered += len(data)
        head, newline, rest = data.partition(b"\n")
        if not newline:
            self._keep(data)
            return
        if self._partial:
            self._keep(head)
            head = b"".join(self._partial)
            self._partial.clear()
            self._partial_length = 0
        lines = self._lines = self._lines or deque()
        lines.append(head)
        if rest:
            *more, last = rest.split(b"\n")
            lines.extend(more)
            self._keep(last)

    def _keep(self, piece: bytes) -> None:
        if not piece:
            return
        self._partial_length += len(piece)
        last = self._partial[-1] if self._partial else None
        if len(piece) >= _SMALL_PIECE:
            self._partial.append(piece)
        elif isinstance(last, bytearray):
            last += piece
        else:
            self._partial.append(bytearray(piece))

    def next_line(self) -> bytes | None:
        """The next whole line without its LF, or None.

        Raises:
            LineTooLong: if that line, whole or not, exceeds the limit.
        """
        if not self._lines:
            if self._partial_length > self.max_length:
                raise LineTooLong(f"a line of more than {self.max_length} bytes")
            return None
        if len(self._lines[0]) > self.max_length:
            raise LineTooLong(f"a line of {len(self._lines[0])} bytes, {self.max_length} are allowed")
        line = self._lines.popleft()
        if not self._lines:
            self._lines = ()
        self._buffered -= len(line) + 1
        return line

    @property
    def has_line(self) -> bool:
        """Whether a whole line waits."""
        return bool(self._lines)

    @property
    def buffered(self) -> int:
        """Bytes that wait, in whole lines with their LF, and in the last, unfinished one."""
        return self._buffered
