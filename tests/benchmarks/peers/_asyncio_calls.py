"""Calls from asyncio tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from time import perf_counter

from tests.benchmarks.peers._program import count_calls, next_command, say


async def answer_commands(echo: Callable[[int], Awaitable[int]]) -> None:
    """Measure `echo` as commanded."""
    say(ready=True)
    while (command := await asyncio.to_thread(next_command)) is not None:
        start = perf_counter()
        work = [count_calls(echo, start + command["seconds"]) for _ in range(command["tasks"])]
        counts = await asyncio.gather(*work)
        say(calls=sum(counts) / (perf_counter() - start))
