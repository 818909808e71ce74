"""What the tests of asyncio code share: running it strictly, and waiting for what callbacks are told."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

#: Where a program finds the packages.
_ROOT = Path(__file__).parent.parent.parent


def run(async_fn: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """``asyncio.run``, in debug mode. What asyncio has to complain about is an error.

    So is what was forgotten: an object that warns when it is collected does so here.
    """
    complaints: list[dict[str, Any]] = []

    async def main() -> T:
        loop = asyncio.get_running_loop()
        loop.slow_callback_duration = 60.0  # machines are slow
        loop.set_exception_handler(lambda _, context: complaints.append(context))
        return await async_fn()

    result = asyncio.run(main(), debug=True)
    gc.collect(1)  # the youngest: a full collection takes longer than most tests
    assert complaints == []
    return result


def port_of(server: Any) -> int:
    """The port that a server was given."""
    port: int = server.server.sockets[0].getsockname()[1]
    return port


async def wait_nobody_connected(server: Any) -> None:
    """Wait until a server of trionet has no connection: what is left open, stays so."""
    while server.server.handle.connections:  # noqa: ASYNC110  # there is no event
        await asyncio.sleep(0)


class Told:
    """A callback that remembers what it was told."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self._changed = asyncio.Event()

    def __call__(self, value: Any = None) -> None:
        self.values.append(value)
        self._changed.set()

    async def wait(self, count: int) -> list[Any]:
        """Wait until it was told so many values; returns all."""
        while len(self.values) < count:
            self._changed.clear()
            await self._changed.wait()
        return self.values


def run_program(source: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a process of its own, in development mode; warnings are errors there."""
    return subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", source, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=_ROOT,
    )
