"""Running the command line in tests."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import pytest
import trio

from tests.unmeasured import unmeasured_environment
from trionet.cli import main

# After this time, what has not ended will not.
_MOST_SECONDS = 20

PROGRAM = (sys.executable, "-m", "trionet.cli")


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    status: int
    out: str
    err: str


def run_here(words: Sequence[str]) -> int:
    """Run a command in this thread. Returns its exit status."""
    try:
        return main(words)
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else 1


class Commands:
    """Runs commands in a thread of the test, so that it can be their server."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    async def run(self, *words: object) -> Outcome:
        """Run a command. Whatever happens, it must not print a traceback of its own."""
        status = await trio.to_thread.run_sync(run_here, [str(word) for word in words])
        out, err = self._capsys.readouterr()
        assert "Traceback (most" not in err
        return Outcome(status, out, err)


async def run_program(*words: object, stdin: bytes = b"") -> Outcome:
    """Run a command as a process of its own."""
    command = [*PROGRAM, *map(str, words)]
    done = await trio.run_process(command, stdin=stdin, capture_stdout=True, capture_stderr=True, check=False)
    err = done.stderr.decode()
    assert "Traceback (most" not in err
    return Outcome(done.returncode, done.stdout.decode(), err)


class Running:
    """A command that runs as a process; its output is read line by line. Made by `running_program`."""

    def __init__(self, process: trio.Process) -> None:
        self.process = process
        self._received = {"out": bytearray(), "err": bytearray()}

    async def read_line(self, of: str = "out") -> str:
        """The next line of standard output, or of standard error with "err"."""
        stream = self.process.stdout if of == "out" else self.process.stderr
        assert stream is not None
        received = self._received[of]
        while b"\n" not in received:
            data = await stream.receive_some()
            assert data, f"it has ended, after {received!r}"
            received += data
        line, _, rest = bytes(received).partition(b"\n")
        received[:] = rest
        return line.decode()

    async def rest(self, of: str = "out") -> str:
        """What it still prints until it ends."""
        stream = self.process.stdout if of == "out" else self.process.stderr
        assert stream is not None
        async for data in stream:
            self._received[of] += data
        return self._received[of].decode()

    async def write(self, text: str) -> None:
        """Write to its standard input."""
        assert self.process.stdin is not None
        await self.process.stdin.send_all(text.encode())

    async def close_stdin(self) -> None:
        """Let its standard input end."""
        assert self.process.stdin is not None
        await self.process.stdin.aclose()

    async def close_stdout(self) -> None:
        """Do not read its standard output any more."""
        assert self.process.stdout is not None
        await self.process.stdout.aclose()


async def end(process: trio.Process) -> None:
    """End a command if it runs still; with Ctrl-C, if that can be sent."""
    if process.poll() is None and sys.platform != "win32":
        process.send_signal(signal.SIGINT)
        with trio.move_on_after(_MOST_SECONDS):
            await process.wait()
    process.kill()
    await process.wait()


@contextlib.asynccontextmanager
async def running_program(*words: object) -> AsyncIterator[Running]:
    """Run a command as a process until the block ends."""
    process = await trio.lowlevel.open_process(
        [*PROGRAM, *map(str, words)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=unmeasured_environment(),
    )
    try:
        yield Running(process)
    finally:
        with trio.CancelScope(shield=True):
            await end(process)
            for stream in (process.stdin, process.stdout, process.stderr):
                assert stream is not None
                await stream.aclose()
