"""The other side of `tests.interop.iblutil_peer`: starts it, gives it commands, tells what it received."""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import trio

from tests.interop.iblutil_peer import MISSING

ROOT: Final = Path(__file__).parent.parent.parent

#: Seconds that anything here may take. More means that it will not happen.
PATIENCE: Final = 30.0


class Raised(Exception):
    """A command has raised in the peer: type and text."""


class PeerProcess:
    """A process with iblutil in it. One serves many tests, one after the other: starting takes a while."""

    def __init__(self) -> None:
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115
        self._process: subprocess.Popen[bytes] | None = None
        # Numbers of commands are not used again: an answer may come when its test has ended.
        self.numbers = itertools.count(1)

    def start(self) -> subprocess.Popen[bytes]:
        """The process; a new one if the last one has ended."""
        if self._process is None or self._process.poll() is not None:
            self.kill()
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.interop.iblutil_peer"],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
            )
        return self._process

    def kill(self) -> None:
        """End it at once, if it runs."""
        if self._process is not None:
            with self._process:
                self._process.kill()

    def close(self) -> None:
        """End it, and forget what it has logged."""
        self.kill()
        self._stderr.close()

    def log(self) -> str:
        """The end of what it has logged so far."""
        self._stderr.seek(0)
        return self._stderr.read().decode(errors="replace")[-5000:]


class Theirs:
    """A communicator of iblutil, or its services."""

    def __init__(self, iblutil: Iblutil, name: str, uri: str) -> None:
        self.name = name
        self.uri = uri
        self._iblutil = iblutil

    async def call(self, method: str, *args: Any, **keywords: Any) -> Any:
        """Call a method. `Raised` if it raises."""
        return await self.do("call", method=method, args=args, **keywords)

    async def do(self, command: str, **arguments: Any) -> Any:
        """Give a command about it."""
        return await self._iblutil.do(command, name=self.name, **arguments)

    async def receive(self) -> list[Any]:
        """The next message that it has received."""
        return (await self.receive_from())[0]

    async def receive_from(self) -> tuple[list[Any], tuple[str, int]]:
        """The next message, and who has sent it."""
        with self._iblutil.patience(f"a message for {self.name}"):
            line = await self._iblutil.received[self.name][1].receive()
        host, port = line["address"]
        return line["message"], (host, port)

    def received_nothing(self) -> bool:
        """Whether all messages that have come were taken."""
        return not self._iblutil.received[self.name][1].statistics().current_buffer_used


class Iblutil:
    """A process during one test."""

    def __init__(self, process: PeerProcess) -> None:
        self.received: defaultdict[str, Any] = defaultdict(lambda: trio.open_memory_channel[Any](math.inf))
        self._process = process
        self._popen = process.start()
        self._answers: dict[int, trio.MemorySendChannel[Any]] = {}
        self._ended = ""
        self._last: int | None = None

    async def serve(self, scheme: str, port: int | None = None) -> Theirs:
        """Have it be a rig."""
        return Theirs(self, **await self.do("serve", scheme=scheme, port=port))

    async def connect(self, uri: str) -> Theirs:
        """Have it talk to a rig."""
        return Theirs(self, **await self.do("connect", uri=uri))

    async def services(self, *rigs: Theirs) -> Theirs:
        """Have it make services of communicators."""
        return Theirs(self, **await self.do("services", names=[rig.name for rig in rigs]))

    async def pause(self) -> None:
        """Have it do nothing, not even receive, until the next command, which goes before anything else."""
        await self.do("pause")

    async def do(self, command: str, **arguments: Any) -> Any:
        """Give a command and wait for the answer. `Raised` if it raises there."""
        if self._ended:
            pytest.fail(self._ended)
        number = next(self._process.numbers)
        send, receive = trio.open_memory_channel[Any](1)
        self._answers[number] = send
        if command == "reset":
            self._last = number
        line = json.dumps({"id": number, "do": command, **arguments}).encode() + b"\n"
        with self.patience(command):
            await trio.to_thread.run_sync(self._write, line)
            answer = await receive.receive()
        if self._ended:
            pytest.fail(self._ended)
        if "error" in answer:
            raise Raised(answer["error"])
        return answer["result"]

    @contextlib.contextmanager
    def patience(self, what: str) -> Iterator[None]:
        """Fail, with what it has logged, if something takes too long."""
        with trio.move_on_after(PATIENCE) as limit:
            yield
        if limit.cancelled_caught:
            pytest.fail(f"iblutil: waited {PATIENCE} s for {what}\n{self._process.log()}")

    def kill(self) -> None:
        """Have it die, and wait until it has."""
        self._ended = "it was killed"
        self._popen.kill()
        self._popen.wait()

    def _write(self, line: bytes) -> None:
        assert self._popen.stdin is not None
        with contextlib.suppress(OSError):  # it has died; the reader tells
            self._popen.stdin.write(line)
            self._popen.stdin.flush()

    async def _read(self) -> None:
        """Take what it writes, until everything is closed or it has died. Threads cannot be cancelled."""
        assert self._popen.stdout is not None
        with trio.CancelScope(shield=True):
            while line := await trio.to_thread.run_sync(self._popen.stdout.readline):
                values = json.loads(line)
                if MISSING in values:
                    install = "python -m pip install --no-deps -r tests/interop/peers.txt"
                    self._ended = f"{values[MISSING]}. To install iblutil: {install}"
                elif "at" in values:
                    self.received[values["at"]][0].send_nowait(values)
                elif values["id"] in self._answers:
                    self._answers.pop(values["id"]).send_nowait(values)
                    if values["id"] == self._last:
                        return
        self._ended = self._ended or f"iblutil's process has ended\n{self._process.log()}"
        for waiting in self._answers.values():
            waiting.send_nowait({})

    async def _reset(self) -> None:
        """Have everything closed; if that does not work, end the process."""
        with trio.move_on_after(PATIENCE, shield=True):
            if not self._ended:
                await self.do("reset")
            return
        self._popen.kill()


@contextlib.asynccontextmanager
async def open_iblutil(process: PeerProcess) -> AsyncIterator[Iblutil]:
    """Use a process for one test."""
    async with trio.open_nursery() as nursery:
        iblutil = Iblutil(process)
        nursery.start_soon(iblutil._read)
        try:
            yield iblutil
        finally:
            await iblutil._reset()
