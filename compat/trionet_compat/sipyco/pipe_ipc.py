"""Pipes between a parent and its child process; stands for ``sipyco.pipe_ipc``. Not for Windows."""

from __future__ import annotations

import os

from trionet.pipes._address import take_descriptors
from trionet_compat.sipyco._pipe_asyncio import AsyncioChildComm, AsyncioParentComm

__all__ = ["AsyncioChildComm", "AsyncioParentComm", "ChildComm"]


class ChildComm:
    """The child's end, for blocking code. Stands for sipyco's class of that name.

    Args:
        address: What the parent put into the command line. The descriptors in it belong to this object.

    Raises:
        ValueError: if it is no address.
        OSError: if there are no pipes at its descriptors, as when the program is started by hand.
        NotImplementedError: on Windows.
    """

    def __init__(self, address: str) -> None:
        descriptors = take_descriptors(address)
        for fd in descriptors:
            os.set_blocking(fd, True)  # whoever had them before
        self.rf = os.fdopen(descriptors[0], "rb")
        self.wf = os.fdopen(descriptors[1], "wb", buffering=0)

    def read(self, n: int) -> bytes:
        """Wait for data, and return up to `n` bytes; b"" at the end."""
        return self.rf.read1(n)

    def readline(self) -> bytes:
        """Wait for a line, and return it with its LF. The last one may have none; b"" at the end."""
        return self.rf.readline()

    def write(self, data: bytes) -> int:
        """Write everything, and return how many bytes that is. BrokenPipeError if the parent is gone."""
        rest = memoryview(data)
        while rest:
            rest = rest[self.wf.write(rest) :]
        return len(data)

    def close(self) -> None:
        """Close the pipes; what was written is delivered. May be repeated."""
        self.rf.close()
        self.wf.close()
