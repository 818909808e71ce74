"""The order in which Trio runs tasks, driven by a seed.

Trio shuffles the tasks that are ready in each round, so that nobody comes to rely on an order. For runs that
can be repeated it has a switch, made for Hypothesis and set by pytest-trio, too: with it the tasks are first
put in the order in which they were started, and then shuffled with one random generator. While a network is
open this module turns the switch on and puts a seeded generator in the other's place; afterwards both are
what they were.

Both are private names of Trio, and this file is the only one that knows them. They belong to the process, not
to a run: see `SeededSchedule.install`.
"""

from __future__ import annotations

import random
import threading
from typing import Any, Final

import trio

# As an object without a type: one of the names is declared Final.
_RUN: Final[Any] = trio._core._run
_SWITCH: Final = "_ALLOW_DETERMINISTIC_SCHEDULING"
_GENERATOR: Final = "_r"


class _Shuffler(random.Random):
    """Shuffles in the same way on every version of Python."""

    def __init__(self, seed: str, before: tuple[object, object]) -> None:
        super().__init__(seed)
        self.before = before
        self.thread = threading.get_ident()

    def shuffle(self, x: Any) -> None:
        for last in range(len(x) - 1, 0, -1):
            other = int(self.random() * (last + 1))
            x[last], x[other] = x[other], x[last]


class SeededSchedule:
    """Drives Trio's shuffle from a seed, from `install` to `restore`."""

    def __init__(self, seed: str) -> None:
        self._seed = seed
        self._shuffler: _Shuffler | None = None

    def install(self) -> None:
        """Take over.

        Raises:
            RuntimeError: if another network has done so, in another thread: the order of tasks belongs to
                the whole process, and neither of the two would be repeatable.
        """
        before = getattr(_RUN, _SWITCH), getattr(_RUN, _GENERATOR)
        other = before[1]
        if isinstance(other, _Shuffler):
            if other.thread != threading.get_ident():
                raise RuntimeError(
                    "a virtual network is open in another thread of this process: only one at a time can "
                    "have the order of Trio's tasks follow its seed"
                )
            before = other.before  # of a run in this thread that ended without cleaning up
        self._shuffler = _Shuffler(self._seed, before)
        setattr(_RUN, _SWITCH, True)
        setattr(_RUN, _GENERATOR, self._shuffler)

    def restore(self) -> None:
        """Leave everything as it was found."""
        if self._shuffler is not None and getattr(_RUN, _GENERATOR) is self._shuffler:
            switch, generator = self._shuffler.before
            setattr(_RUN, _SWITCH, switch)
            setattr(_RUN, _GENERATOR, generator)
        self._shuffler = None
