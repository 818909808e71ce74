"""The demo as a process, for tests that end it in the middle."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator

import pytest
import trio

from tests.cli.commands import PROGRAM
from tests.unmeasured import unmeasured_environment

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="signals")


def is_running(pid: int) -> bool:
    """Whether there is such a process. POSIX only."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@contextlib.asynccontextmanager
async def demo_until(*patterns: bytes) -> AsyncIterator[tuple[trio.Process, list[re.Match[bytes]]]]:
    """The demo, once it has printed something for each of some patterns; with what that was."""
    process = await trio.lowlevel.open_process(
        [*PROGRAM, "demo"], stdout=subprocess.PIPE, env=unmeasured_environment()
    )
    assert process.stdout is not None
    try:
        text = b""
        while not all(found := [re.search(pattern, text) for pattern in patterns]):
            data = await process.stdout.receive_some()
            assert data, "the demo has ended"
            text += data
        yield process, [match for match in found if match is not None]
    finally:
        with trio.CancelScope(shield=True):
            process.kill()
            await process.wait()
            await process.stdout.aclose()
