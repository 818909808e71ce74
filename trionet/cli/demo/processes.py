"""Python programs as processes that cannot be left behind."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any, Final

import trio

#: Attempts to serve the port of a process that was killed, should something else have it for a moment.
START_ATTEMPTS: Final = 5


class Program:
    """A running program. Made by `run_program`.

    Attributes:
        pid: Its process id.
    """

    def __init__(self, process: trio.Process) -> None:
        self.pid = process.pid
        self._process = process
        self._received = bytearray()

    async def read_line(self) -> str | None:
        """The next line that it prints; None when it prints no more."""
        assert self._process.stdout is not None
        while b"\n" not in self._received:
            data = await self._process.stdout.receive_some()
            if not data:
                return None
            self._received += data
        line, _, rest = bytes(self._received).partition(b"\n")
        self._received[:] = rest
        return line.decode().rstrip("\r")

    async def wait(self) -> int:
        """Wait until it has ended. Returns its exit status."""
        return await self._process.wait()

    def kill(self) -> None:
        """End it at once, as a power failure would."""
        self._process.kill()


@contextlib.asynccontextmanager
async def run_program(module: str, *arguments: str) -> AsyncIterator[Program]:
    """Run a module as a program. When the block ends, so does the program, whatever it is doing.

    Its standard input is a pipe that ends with this process: should that be killed, the program can notice.
    """
    process = await trio.lowlevel.open_process(
        [sys.executable, "-m", module, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        **_group_of_its_own(),
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield Program(process)
    finally:
        with trio.CancelScope(shield=True):
            if process.returncode is None:
                process.kill()
            await process.wait()
            await process.stdin.aclose()
            await process.stdout.aclose()


async def end_with_starter(scope: trio.CancelScope) -> None:
    """The other side of it, in the program: cancel its work when standard input ends."""

    def read_until_end() -> None:
        # Not sys.stdin: a thread that is left waiting in it would hold its lock when the program ends.
        while os.read(0, 1024):
            pass

    await trio.to_thread.run_sync(read_until_end, abandon_on_cancel=True)
    scope.cancel()


def _group_of_its_own() -> dict[str, Any]:
    """Keep the terminal from sending Ctrl-C to the program, too: that is for its starter to handle."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True}
