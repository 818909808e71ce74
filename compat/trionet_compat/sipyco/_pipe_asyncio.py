"""Bytes between a parent and its child process, for asyncio; the asyncio half of ``sipyco.pipe_ipc``."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from typing import Any

from trionet.pipes._address import format_address, require_posix, take_descriptors

# The longest line that `readline` takes.
_MAX_LINE = 4 * 1024 * 1024


class _Pipes:
    """One end of a pair of pipes."""

    _reader: asyncio.StreamReader
    _writer: asyncio.StreamWriter
    _read_transport: asyncio.ReadTransport

    def write(self, data: bytes) -> None:
        """Write; see `asyncio.StreamWriter.write`."""
        self._writer.write(data)

    async def drain(self) -> None:
        """Wait until not too much waits to be written; see `asyncio.StreamWriter.drain`."""
        await self._writer.drain()

    async def readline(self) -> bytes:
        """Wait for a line; ``b""`` at the end. See `asyncio.StreamReader.readline`."""
        return await self._reader.readline()

    async def read(self, n: int) -> bytes:
        """Wait for up to `n` bytes; ``b""`` at the end. See `asyncio.StreamReader.read`."""
        return await self._reader.read(n)

    async def _open(self, read_fd: int, write_fd: int) -> None:
        """Make streams of two descriptors, which it owns from now on, whatever happens."""
        loop = asyncio.get_running_loop()
        with contextlib.ExitStack() as on_failure:
            incoming = on_failure.enter_context(os.fdopen(read_fd, "rb", 0))
            outgoing = on_failure.enter_context(os.fdopen(write_fd, "wb", 0))
            self._reader = asyncio.StreamReader(limit=_MAX_LINE, loop=loop)
            reading = asyncio.StreamReaderProtocol(self._reader, loop=loop)
            self._read_transport, _ = await loop.connect_read_pipe(lambda: reading, incoming)
            on_failure.callback(self._read_transport.close)
            # A protocol of its own, and one that knows about `drain`.
            writing = asyncio.StreamReaderProtocol(asyncio.StreamReader(loop=loop), loop=loop)
            write_transport, _ = await loop.connect_write_pipe(lambda: writing, outgoing)
            self._writer = asyncio.StreamWriter(write_transport, writing, None, loop)
            on_failure.pop_all()

    def _close(self) -> None:
        self._read_transport.close()
        self._writer.close()


class AsyncioParentComm(_Pipes):
    """The parent's end; stands for sipyco's class of that name. There are pipes of POSIX only.

    `get_address` goes into the command line of the child, which `create_subprocess` starts.

    Attributes:
        process: The `asyncio.subprocess.Process`.
    """

    process: asyncio.subprocess.Process

    def __init__(self) -> None:
        require_posix()
        self._child_fds: tuple[int, ...] = ()
        self._own_fds: tuple[int, ...] = ()
        their_reader, our_writer = os.pipe()
        our_reader, their_writer = os.pipe()
        self._child_fds = their_reader, their_writer
        self._own_fds = our_reader, our_writer
        self._address = format_address(*self._child_fds)

    def get_address(self) -> str:
        """What tells the child where its ends are."""
        return self._address

    async def create_subprocess(self, *args: Any, **kwargs: Any) -> None:
        """Start the child; the arguments are those of `asyncio.create_subprocess_exec`.

        The pipes are closed when the child has ended, and what it wrote has been read.
        """
        pass_fds = (*kwargs.pop("pass_fds", ()), *self._child_fds)
        self.process = await asyncio.create_subprocess_exec(*args, pass_fds=pass_fds, **kwargs)
        self._close_fds("_child_fds")
        own, self._own_fds = self._own_fds, ()
        await self._open(*own)
        self._closing = asyncio.ensure_future(self._close_after_child())

    async def _close_after_child(self) -> None:
        try:
            await self.process.wait()
        finally:
            self._writer.close()

    def _close_fds(self, name: str) -> None:
        descriptors: tuple[int, ...] = getattr(self, name, ())
        setattr(self, name, ())
        for fd in descriptors:
            os.close(fd)

    def __del__(self, close: Callable[[int], None] = os.close) -> None:
        for fd in (*getattr(self, "_child_fds", ()), *getattr(self, "_own_fds", ())):
            close(fd)


class AsyncioChildComm(_Pipes):
    """The child's end; stands for sipyco's class of that name. There are pipes of POSIX only.

    Args:
        address: What the parent put into the command line.
    """

    def __init__(self, address: str) -> None:
        self.address = address

    async def connect(self) -> None:
        """Take hold of the pipes.

        Raises:
            ValueError: if the address is none.
            OSError: if there are no pipes at its descriptors.
        """
        await self._open(*take_descriptors(self.address))

    def close(self) -> None:
        """Close the pipes; what was written is delivered."""
        self._close()
