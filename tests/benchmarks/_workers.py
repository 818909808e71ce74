"""Programs of `tests.benchmarks.peers` as processes that answer commands, a line of JSON each."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from threading import Timer
from typing import Any

_ROOT = Path(__file__).parents[2]

# Seconds without an answer after which a process is taken for hung, and those it may take to end.
_PATIENCE = 60.0
_PARTING = 2.0


class PeerMissing(Exception):
    """A peer is not there to be measured."""


class PeerFailed(Exception):
    """A peer crashed, hung, or answered nonsense: what it did so far is no result."""


class Worker:
    """A process, ended with the ``with`` block.

    Args:
        program: Module in `tests.benchmarks.peers`.
        arguments: Its command line.
    """

    def __init__(self, program: str, *arguments: str) -> None:
        self._name = " ".join([program, *arguments[:1]])
        self._complaints = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115  # closed in close()
        self._hello: dict[str, Any] | None = None
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", f"{__package__}.peers.{program}", *arguments],
                cwd=_ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._complaints,
                text=True,
            )
        except BaseException:
            self._complaints.close()
            raise

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def hello(self) -> dict[str, Any]:
        """What it said when it was ready.

        Raises:
            PeerMissing: if what it should run is not installed.
            PeerFailed: if it did not get ready.
        """
        if self._hello is None:
            hello = self._read()
            if "missing" in hello:
                raise PeerMissing(hello["missing"])
            self._hello = hello
        return self._hello

    def ask(self, **command: Any) -> dict[str, Any]:
        """Give it a command and wait for the answer. Raises as `hello` does."""
        self.hello()
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(command) + "\n")
            self._process.stdin.flush()
        except OSError as error:
            raise self._failure() from error
        return self._read()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        watchdog = Timer(_PATIENCE, self._process.kill)
        watchdog.daemon = True
        watchdog.start()
        try:
            line = self._process.stdout.readline()
        finally:
            watchdog.cancel()
            watchdog.join()
        try:
            answer = json.loads(line)
        except ValueError as error:
            raise self._failure() from error
        if not isinstance(answer, dict):
            raise PeerFailed(f"{self._name} said {line!r}")
        return answer

    def _failure(self) -> PeerFailed:
        """Made of the last line of what the process wrote to its standard error."""
        self._stop()
        self._complaints.seek(0)
        complaints = self._complaints.read().split("\n")
        last = next((line.strip() for line in reversed(complaints) if line.strip()), "no message")
        return PeerFailed(f"{self._name} ended with status {self._process.returncode}: {last}")

    def _stop(self) -> None:
        """Close its standard input, which ends it; if that does not, kill it."""
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with contextlib.suppress(OSError):  # what was not flushed has no reader any more
                pipe.close()
        try:
            self._process.wait(_PARTING)
        except BaseException as error:
            self._process.kill()
            self._process.wait()
            if not isinstance(error, subprocess.TimeoutExpired):
                raise

    def close(self) -> None:
        """End the process, if it has not."""
        try:
            self._stop()
        finally:
            self._complaints.close()
