"""Lines over a pair of pipes, for Trio. Both ends are made of it, the parent's and the child's."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import Final, Self

import trio

from trionet.wire.errors import CallInfo, ConnectionLost, RemoteProtocolError
from trionet.wire.lines import LineBuffer, LineTooLong

# What a pipe holds by default on Linux; and what it can be made to hold without privileges.
_READ_SIZE: Final = 64 * 1024
_REST_SIZE: Final = 1024 * 1024


class PipeLines(ABC):
    """One end of a pair of pipes that carry lines: one to read from, one to write to.

    One task may read while others write.

    Attributes:
        peer: Who is at the other end, for messages.
    """

    def __init__(self, read_fd: int, write_fd: int, peer: str, max_line_size: int) -> None:
        self.peer = peer
        self._reader = trio.lowlevel.FdStream(read_fd)
        self._writer = trio.lowlevel.FdStream(write_fd)
        self._lines = LineBuffer(max_line_size)
        self._is_reading = False
        self._at_end = False  # what the other side wrote is all in the buffer
        self._peer_gone = False  # known from elsewhere: the pipes do not tell if others have them open, too
        self._write_lock = trio.Lock()
        self._cannot_write: str | None = None  # why this side has closed this direction
        self._waiting: set[trio.CancelScope] = set()

    async def read_line(self) -> bytes:
        """Wait for the next line and return it, without its LF.

        Raises:
            ConnectionLost: if there are no more lines. A last one without LF is none: it was cut off.
            RemoteProtocolError: if the line is longer than ``max_line_size``. There is no reading on.
            trio.BusyResourceError: if another task is reading.
            trio.ClosedResourceError: if the block has ended.

        Cancelled, it has taken no line, and lost nothing.
        """
        line = await self._read_line()
        if isinstance(line, ConnectionLost):
            raise line
        return line

    def __aiter__(self) -> Self:
        """The lines until the end: ``async for line in ...``. Errors are those of `read_line`."""
        return self

    async def __anext__(self) -> bytes:
        line = await self._read_line()
        if isinstance(line, ConnectionLost):
            raise StopAsyncIteration
        return line

    async def write_line(self, line: bytes) -> None:
        """Write a line; its LF is added. Waits while the pipe is full because the other side does not read.

        Several tasks may write: their lines follow each other, whole, in the order of the calls.

        Raises:
            ValueError: if there is an LF in the line. Nothing was written.
            ConnectionLost: if the other side does not read any more. How much it has read is unknown.
            trio.ClosedResourceError: if the block has ended.

        Cancelled before anything of the line was written, nothing is damaged. In the middle of writing,
        this direction is closed: the other side sees the end after a line that is cut off, and the next
        `write_line` raises `ConnectionLost` at once. What the other side writes can still be read.
        """
        if b"\n" in line:
            raise ValueError("there is a line feed in the line")
        async with self._write_lock:
            await self._write(b"%b\n" % line)

    async def send_eof(self) -> None:
        """Say that no more lines follow those that are being written. The other side can still write.

        Writing after it raises `ConnectionLost`.
        """
        async with self._write_lock:
            self._end_writing("the end was sent before")

    @abstractmethod
    async def _explain_end(self) -> str:
        """Say why nothing can be read, or written, any more."""

    def _set_peer_gone(self) -> bool:
        """The other side has ended, even if its pipes are still open somewhere: wake whom waits for it.

        Returns:
            Whether lines of it are left to be read.
        """
        self._peer_gone = True
        if not self._at_end:
            # All that is in the pipe, in one go: a grandchild that goes on writing would keep us for ever.
            self._receive_nowait(_REST_SIZE)
            self._at_end = True
        for scope in self._waiting:
            scope.cancel()
        return self._lines.has_line

    def _close(self) -> None:
        """Close both pipes. Tasks that use them, or will, get `trio.ClosedResourceError`."""
        self._reader.close()
        self._writer.close()

    async def _read_line(self) -> bytes | ConnectionLost:
        """The next line, or in what way they have come to the end."""
        if self._is_reading:
            raise trio.BusyResourceError("another task is reading lines")
        self._is_reading = True
        try:
            while True:
                # Each time: a long line of a fast writer is no reason to keep other tasks waiting.
                await trio.lowlevel.checkpoint()
                self._check_open()
                if (line := self._take_line()) is not None:
                    return line
                if self._at_end:
                    return await self._lost(", in the middle of a line" if self._lines.buffered else "")
                if not self._receive_nowait(_READ_SIZE) and not self._at_end:
                    await self._wait(trio.lowlevel.wait_readable, self._reader)
        finally:
            self._is_reading = False

    def _take_line(self) -> bytes | None:
        try:
            return self._lines.next_line()
        except LineTooLong as error:
            raise RemoteProtocolError(str(error), CallInfo(self.peer)) from error

    def _receive_nowait(self, size: int) -> bool:
        """Read what is there. Returns whether there was something, as opposed to nothing yet or the end."""
        try:
            data = os.read(self._reader.fileno(), size)
        except BlockingIOError:
            return False
        self._lines.feed(data)
        self._at_end = not data
        return not self._at_end

    async def _write(self, data: bytes) -> None:
        self._check_open()
        if self._cannot_write is not None:
            raise ConnectionLost(self._cannot_write, CallInfo(self.peer))
        rest = memoryview(data)
        try:
            while rest and not self._peer_gone:
                self._check_open()
                rest = rest[self._write_nowait(rest) :]
                if rest:
                    await self._wait(trio.lowlevel.wait_writable, self._writer)
        except BrokenPipeError:
            pass
        finally:
            if 0 < len(rest) < len(data):
                self._end_writing("the writing of a line was not completed before")
        if rest:
            raise await self._lost()

    def _write_nowait(self, data: memoryview) -> int:
        try:
            return os.write(self._writer.fileno(), data)
        except BlockingIOError:
            return 0

    def _end_writing(self, reason: str) -> None:
        if self._cannot_write is None:
            self._cannot_write = reason
            self._writer.close()

    async def _wait(
        self, wait: Callable[[trio.lowlevel.FdStream], Awaitable[None]], stream: trio.lowlevel.FdStream
    ) -> None:
        """Wait for one of the pipes, or until the other side is known to be gone."""
        with trio.CancelScope() as scope:
            self._waiting.add(scope)
            try:
                await wait(stream)
            finally:
                self._waiting.remove(scope)

    def _check_open(self) -> None:
        if self._reader.fileno() < 0:
            raise trio.ClosedResourceError("this side has closed the pipe")

    async def _lost(self, where: str = "") -> ConnectionLost:
        return ConnectionLost(await self._explain_end() + where, CallInfo(self.peer))
