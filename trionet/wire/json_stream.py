"""Cutting a byte stream into JSON values that follow each other without anything in between.

iblutil puts its messages into TCP as they are, and takes what one read returns for one message. Here a
message ends where its outermost bracket closes, however it arrives: brackets are counted, strings are
skipped. Whether it is JSON at all is for the reader of the message to find out; so a message that is none
costs that message, not the connection.
"""

from __future__ import annotations

import re
from typing import Final

_OPENING: Final = re.compile(rb"[\[{]")
_BRACKET_OR_QUOTE: Final = re.compile(rb'[\[\]{}"]')
_QUOTE_OR_BACKSLASH: Final = re.compile(rb'["\\]')
_NOT_WHITESPACE: Final = re.compile(rb"[^ \t\r\n]")


class ValueTooLong(Exception):
    """A value is longer than the limit. There is no way to read on behind it."""


class JsonStream:
    """Takes pieces of a stream, gives the bytes of one list or object after the other.

    What stands outside of brackets, up to the next bracket or to the end of what has come, is given as if
    it were a value: text that is no message. Whitespace between values is skipped, but what has come right
    behind a value belongs to it, because iblutil would send it back, too.

    Args:
        max_length: The longest value accepted, in bytes, which bounds what is kept.
    """

    __slots__ = ("_buffer", "_depth", "_in_string", "_scanned", "max_length")

    def __init__(self, max_length: int) -> None:
        self.max_length = max_length
        self._buffer = bytearray()
        # How far the first value has been looked at, and what is open there.
        self._scanned = 0
        self._depth = 0
        self._in_string = False

    @property
    def buffered(self) -> int:
        """Bytes that have come and were not given."""
        return len(self._buffer)

    def feed(self, data: bytes) -> None:
        """Take the next piece of the stream."""
        self._buffer += data

    def startswith(self, expected: bytes) -> bool:
        """Whether what comes next begins with these bytes."""
        return self._buffer.startswith(expected)

    def may_become(self, expected: bytes) -> bool:
        """Whether all that has come is a beginning of these bytes."""
        return expected.startswith(self._buffer)

    def take(self, length: int) -> bytes:
        """Take so many bytes out, wherever a value ends."""
        data = bytes(self._buffer[:length])
        del self._buffer[:length]
        self._scanned = self._depth = 0
        self._in_string = False
        return data

    def next_value(self) -> bytes | None:
        """The bytes of the next whole value, or None.

        Raises:
            ValueTooLong: if that value, whole or not, exceeds the limit.
        """
        self._skip_whitespace()
        end = self._find_end()
        if (end if end is not None else len(self._buffer)) > self.max_length:
            raise ValueTooLong(f"a message of more than {self.max_length} bytes")
        if end is None:
            return None
        behind = _NOT_WHITESPACE.search(self._buffer, end)
        return self.take(behind.start() if behind is not None else len(self._buffer))

    def _skip_whitespace(self) -> None:
        first = _NOT_WHITESPACE.search(self._buffer)
        del self._buffer[: first.start() if first is not None else len(self._buffer)]

    def _find_end(self) -> int | None:
        """Where the first value ends, if it does; what has been looked at is not looked at again."""
        if not self._buffer:
            return None
        if self._buffer[0] not in b"[{":
            opening = _OPENING.search(self._buffer)
            return opening.start() if opening is not None else len(self._buffer)
        while True:
            pattern = _QUOTE_OR_BACKSLASH if self._in_string else _BRACKET_OR_QUOTE
            found = pattern.search(self._buffer, self._scanned)
            if found is None:
                self._scanned = max(self._scanned, len(self._buffer))
                return None
            self._scanned = found.end()
            mark = found[0]
            if mark == b'"':
                self._in_string = not self._in_string
            elif mark == b"\\":
                self._scanned += 1  # the character behind it, be it there yet or not
            elif mark in b"[{":
                self._depth += 1
            else:
                self._depth -= 1
                if self._depth == 0:
                    return self._scanned
