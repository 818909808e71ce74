"""Running the command line in tests."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
import trio

from trionet.cli import main

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
