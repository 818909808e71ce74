"""Children to test pipes with, and a look at what they leave behind."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from tests.front.pipe_children import ROOT, command
from trionet.pipes.parent import PipedProcess, open_piped_process


def descriptors() -> set[str]:
    """Descriptors of this process, where the system tells."""
    directory = Path("/proc/self/fd")
    return (
        {f"{fd} {fd.readlink()}" for fd in directory.iterdir() if fd.is_symlink()}
        if directory.exists()
        else set()
    )


def children() -> set[str]:
    """Children of this process, those that have ended unnoticed included, where the system tells."""
    found: set[str] = set()
    for path in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a thread that has just ended
            found.update(path.read_text().split())
    return found


@pytest.fixture
def nothing_stays() -> Iterator[None]:
    gc.collect()  # what other tests have left open is not closed in this one
    before = descriptors(), children()
    yield
    assert (descriptors(), children()) == before


@contextlib.asynccontextmanager
async def open_child(role: str, *arguments: str, **options: Any) -> AsyncIterator[PipedProcess]:
    """A child in a role. Waits long enough for a slow computer."""
    options = {"grace": 25.0, **options}
    with trio.fail_after(60):
        async with open_piped_process(command(role, *arguments), cwd=ROOT, **options) as child:
            yield child
