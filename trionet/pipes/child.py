"""The child's end of the pipes: for Trio, and for blocking code."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Final, Self

from trionet.pipes._address import take_descriptors
from trionet.pipes._lines import PipeLines
from trionet.wire.errors import CallInfo, ConnectionLost, RemoteProtocolError
from trionet.wire.lines import MAX_MESSAGE_SIZE, LineBuffer, LineTooLong

_PARENT: Final = "parent process"
_PARENT_ENDED: Final = "the parent has closed the pipe, or is gone"
_READ_SIZE: Final = 64 * 1024


class ParentPipe(PipeLines):
    """The pipes to the parent process. Made by `open_parent_pipe`."""

    async def _explain_end(self) -> str:
        return _PARENT_ENDED


@contextlib.asynccontextmanager
async def open_parent_pipe(
    address: str, *, max_line_size: int = MAX_MESSAGE_SIZE
) -> AsyncIterator[ParentPipe]:
    """Talk to the parent process: ``async with open_parent_pipe(sys.argv[1]) as parent:``.

    The parent is `open_piped_process` or sipyco's ``AsyncioParentComm``. **The end of the lines means that
    the parent has left, or was killed**: a child should end then, or it is terminated, if there is anybody
    left to do so. An ``async for line in parent:`` that serves the parent does that by itself.

    Args:
        address: What the parent put into the command line. The descriptors in it belong to this block, and
            are not inherited by further processes.
        max_line_size: Longest line accepted, in bytes without its LF.

    Raises:
        ValueError: if the address is none.
        OSError: if there are no pipes at its descriptors, as when the program is started by hand.
        NotImplementedError: on Windows.

    When the block ends the pipes are closed; what was written is delivered.
    """
    parent = ParentPipe(*take_descriptors(address), _PARENT, max_line_size)
    try:
        yield parent
    finally:
        parent._close()


class BlockingParentPipe:
    """The pipes to the parent process, for programs without Trio::

        with BlockingParentPipe(sys.argv[1]) as parent:
            for line in parent:
                parent.write_line(answer(line))

    **The end of the lines means that the parent has left, or was killed**: a child should end then, as this
    one does, or it is terminated, if there is anybody left to do so.

    One thread may read while others write. Ctrl-C interrupts both.

    Args:
        address: What the parent put into the command line. The descriptors in it belong to this object, and
            are not inherited by further processes.
        max_line_size: Longest line accepted, in bytes without its LF.

    Raises:
        ValueError: if the address is none.
        OSError: if there are no pipes at its descriptors, as when the program is started by hand.
        NotImplementedError: on Windows.
    """

    def __init__(self, address: str, *, max_line_size: int = MAX_MESSAGE_SIZE) -> None:
        descriptors = take_descriptors(address)
        for fd in descriptors:
            os.set_blocking(fd, True)  # whoever had them before
        self._reader = os.fdopen(descriptors[0], "rb", buffering=0)
        self._writer = os.fdopen(descriptors[1], "wb", buffering=0)
        self._lines = LineBuffer(max_line_size)
        self._write_lock = threading.Lock()
        self._line_cut_off = False

    def read_line(self) -> bytes:
        """Wait for the next line and return it, without its LF.

        Raises:
            ConnectionLost: if there are no more lines. A last one without LF is none: it was cut off.
            RemoteProtocolError: if the line is longer than ``max_line_size``. There is no reading on.
            ValueError: if the pipe was closed on this side.
        """
        line = self._read_line()
        if line is None:
            where = ", in the middle of a line" if self._lines.buffered else ""
            raise ConnectionLost(_PARENT_ENDED + where, CallInfo(_PARENT))
        return line

    def __iter__(self) -> Self:
        """The lines until the end. Errors are those of `read_line`."""
        return self

    def __next__(self) -> bytes:
        line = self._read_line()
        if line is None:
            raise StopIteration
        return line

    def write_line(self, line: bytes) -> None:
        """Write a line; its LF is added. Waits while the pipe is full because the parent does not read.

        Lines of several threads follow each other, whole.

        Raises:
            ValueError: if there is an LF in the line, or the pipe was closed on this side.
            ConnectionLost: if the parent does not read any more; or if the writing of a line was
                interrupted before, by Ctrl-C for example.
        """
        if b"\n" in line:
            raise ValueError("there is a line feed in the line")
        with self._write_lock:
            if self._line_cut_off:
                raise ConnectionLost("the writing of a line was not completed before", CallInfo(_PARENT))
            rest = memoryview(b"%b\n" % line)
            self._line_cut_off = True  # until it was: how much is written when it is interrupted is unknown
            try:
                while rest:
                    rest = rest[self._writer.write(rest) :]
            except BrokenPipeError as error:
                raise ConnectionLost(_PARENT_ENDED, CallInfo(_PARENT)) from error
            self._line_cut_off = False

    def close(self) -> None:
        """Close the pipes; what was written is delivered. Once is enough, more does no harm."""
        self._reader.close()
        self._writer.close()

    def __enter__(self) -> Self:
        """Close the pipes when the block ends."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _read_line(self) -> bytes | None:
        try:
            while (line := self._lines.next_line()) is None:
                data = self._reader.read(_READ_SIZE)
                if not data:
                    return None
                self._lines.feed(data)
        except LineTooLong as error:
            raise RemoteProtocolError(str(error), CallInfo(_PARENT)) from error
        return line
