"""What controllers and rigs say to each other, and how it is checked: the same for all peers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from statistics import median
from time import perf_counter
from typing import Any

#: The experiment that rigs are started for.
REFERENCE = "2024-05-01_1_mouse"

#: The status in the messages that are counted: RUNNING.
STATUS = 20

#: Asks all rigs to start, with a number; what they answer by name.
Start = Callable[[int], Awaitable[dict[str, Any]]]


def rig_name(index: int) -> str:
    """How the controller calls a rig."""
    return f"rig {index}"


def answer_to(index: int, number: int) -> list[int]:
    """What a rig answers to a start with this number, behind the reference."""
    return [index, number]


class Log:
    """What a rig has been sent since the last check: EXPINFO with the numbers from 0 on."""

    def __init__(self) -> None:
        self._numbers: list[Any] = []

    def note(self, data: list[Any]) -> None:
        """Callback of EXPINFO."""
        self._numbers.append(data)

    def check(self) -> int:
        """How many there were. Raises if one is missing, came twice, or is wrong."""
        numbers, self._numbers = self._numbers, []
        if numbers != [[STATUS, number] for number in range(len(numbers))]:
            raise RuntimeError("the rig has not received what was sent")
        return len(numbers)


class Marches:
    """Starts of all rigs, and the time from the call until the last response.

    Args:
        start: Starts them.
        rigs: How many there are.
        pause: Sleeps for some seconds.
    """

    # Rigs are idle before they are started; and the echoes of their last answers have reached them.
    _PAUSE = 0.005

    def __init__(self, start: Start, rigs: int, pause: Callable[[float], Awaitable[Any]]) -> None:
        self._start = start
        self._names: Sequence[str] = [rig_name(index) for index in range(rigs)]
        self._pause = pause
        self._number = 0

    async def run(self, seconds: float) -> float:
        """Start again and again, at least once. Returns the time of a start, the median."""
        end = perf_counter() + seconds
        times: list[float] = []
        while not times or perf_counter() < end:
            await self._pause(self._PAUSE)
            self._number += 1
            begun = perf_counter()
            answers = await self._start(self._number)
            times.append(perf_counter() - begun)
            self._check(answers)
        return median(times)

    def _check(self, answers: dict[str, Any]) -> None:
        right = {name: [REFERENCE, answer_to(index, self._number)] for index, name in enumerate(self._names)}
        if dict(answers) != right:
            raise RuntimeError("a wrong answer")
