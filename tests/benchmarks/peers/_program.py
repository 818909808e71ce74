"""What the programs have in common."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Awaitable, Callable, Iterator
from threading import Thread
from time import perf_counter
from typing import Any


class Echo:
    """The target of the calls."""

    def echo(self, value: int) -> int:
        """Return `value`."""
        return value


def say(**values: Any) -> None:
    """Write a line of JSON."""
    print(json.dumps(values), flush=True)


def next_command() -> dict[str, Any] | None:
    """The next command, or None if there are no more. Event loops wait for it in a thread, and are idle."""
    line = sys.stdin.readline()
    return json.loads(line) if line else None


def commands() -> Iterator[dict[str, Any]]:
    """The commands, until there are no more."""
    while (command := next_command()) is not None:
        yield command


def run(program: Callable[..., None]) -> None:
    """Run a program with its command line. What is not installed is said in a line of its own."""
    try:
        program(*sys.argv[1:])
    except ModuleNotFoundError as error:
        say(missing=str(error))
    except KeyboardInterrupt:
        sys.exit(130)


def exit_with_parent() -> None:
    """For servers: end this process when its standard input ends."""

    def wait() -> None:
        sys.stdin.read()
        os._exit(0)

    Thread(target=wait, daemon=True).start()


def raise_file_limit() -> None:
    """Allow as many open files as this process may have."""
    if sys.platform != "win32":
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def count_calls(call: Callable[[int], Awaitable[Any]], deadline: float) -> int:
    """Call until `deadline`, under any event loop. Returns how often."""
    count = 0
    while perf_counter() < deadline:
        if await call(count) != count:
            raise RuntimeError("a wrong answer")
        count += 1
    return count


def count_calls_blocking(call: Callable[[int], Any], seconds: float) -> float:
    """Call for some time. Returns how often per second."""
    start = perf_counter()
    count = 0
    while perf_counter() < start + seconds:
        if call(count) != count:
            raise RuntimeError("a wrong answer")
        count += 1
    return count / (perf_counter() - start)
