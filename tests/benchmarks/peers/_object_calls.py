"""What is done with objects in other processes: the same for each peer, blocking and under Trio.

A rate is of what was answered, and each answer has been looked at.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np

from tests.benchmarks.peers._program import commands, count_calls, count_calls_blocking, say


@dataclass
class Blocking:
    """What a blocking client can do, each with a number, which it returns once the answer was right.

    Attributes:
        ping: Ask for a sign of life.
        echo: Call a method.
        burst: So many calls at once; None if that is not possible.
        carry: Send an array to a method that returns it.
    """

    ping: Callable[[int], int]
    echo: Callable[[int], int]
    burst: Callable[[int], int] | None
    carry: Callable[[Any], Any]


def answer_commands(client: Blocking) -> None:
    """Measure a client as commanded."""
    say(ready=True)
    for command in commands():
        seconds = command["seconds"]
        match command["do"]:
            case "ping":
                say(rate=count_calls_blocking(client.ping, seconds))
            case "echo":
                say(rate=count_calls_blocking(client.echo, seconds))
            case "burst":
                count, burst = command["count"], client.burst
                assert burst is not None

                def calls(number: int, count: int = count, burst: Callable[[int], int] = burst) -> int:
                    return number if burst(count) == count else -1

                say(rate=count * count_calls_blocking(calls, seconds))
            case "carry":
                say(rate=carry_blocking(client.carry, command["size"], seconds))


class Carried:
    """An array that travels there and back, again and again; only that is timed.

    Attributes:
        array: What is to be sent, another one each time.
        journeys: How many there have been.
        seconds: How long they took.
    """

    def __init__(self, size: int) -> None:
        self.array = np.arange(size // 8, dtype=np.float64)
        self.journeys = 0
        self.seconds = 0.0

    @contextmanager
    def journey(self) -> Iterator[None]:
        """Around sending it and getting it back."""
        self.array[self.journeys % len(self.array)] += 0.5
        start = perf_counter()
        yield
        self.seconds += perf_counter() - start
        self.journeys += 1

    def check(self, received: np.ndarray[Any, Any]) -> None:
        """Raise RuntimeError unless it has come back as it was."""
        if received.dtype != self.array.dtype or not np.array_equal(received, self.array):
            raise RuntimeError("a wrong answer")

    @property
    def rate(self) -> float:
        """Journeys per second."""
        return self.journeys / self.seconds


def carry_blocking(carry: Callable[[Any], Any], size: int, seconds: float) -> float:
    """Send an array of so many bytes there and back for some time. Returns how often per second."""
    carried = Carried(size)
    while carried.seconds < seconds:
        with carried.journey():
            received = carry(carried.array)
        carried.check(received)
    return carried.rate


async def carry_async(carry: Callable[[Any], Awaitable[Any]], size: int, seconds: float) -> float:
    """The same for asynchronous clients."""
    carried = Carried(size)
    while carried.seconds < seconds:
        with carried.journey():
            received = await carry(carried.array)
        carried.check(received)
    return carried.rate


async def call_async(call: Callable[[int], Awaitable[int]], seconds: float) -> float:
    """Call for some time, one after the other. Returns how often per second."""
    start = perf_counter()
    count = await count_calls(call, start + seconds)
    return count / (perf_counter() - start)
