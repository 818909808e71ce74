"""The order in which Trio runs tasks, driven by a seed.

Trio shuffles the tasks that are ready in each round, so that nobody comes to rely on an order. For runs that
can be repeated it has a switch, made for Hypothesis and set by pytest-trio, too: with it the tasks are first
put in the order in which they were started, and then shuffled with one random generator. While a network is
open this module turns the switch on and puts a seeded generator in the other's place; afterwards both are
what they were.

Both are private names of Trio, and this file is the only one that knows them. They belong to the process, not
to a run: see `SeededSchedule.install`. A Trio without them, or one that does not use them, is an error: a
network whose seed did not drive everything would be found out only by somebody who cannot repeat a failure.
"""

from __future__ import annotations

import random
import threading
from typing import Any, Final

import trio

from trionet import __version__

# As an object without a type: one of the names is declared Final.
_RUN: Final[Any] = getattr(getattr(trio, "_core", None), "_run", None)
_SWITCH: Final = "_ALLOW_DETERMINISTIC_SCHEDULING"
_GENERATOR: Final = "_r"


class _Shuffler(random.Random):
    """Shuffles in the same way on every version of Python."""

    def __init__(self, seed: str, before: tuple[object, object]) -> None:
        super().__init__(seed)
        self.before = before
        self.thread = threading.get_ident()
        self.used = False

    def shuffle(self, x: Any) -> None:
        self.used = True
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
                the whole process, and neither of the two would be repeatable. Also if this Trio has no such
                switch.
        """
        if not (hasattr(_RUN, _SWITCH) and hasattr(_RUN, _GENERATOR)):
            raise _no_such_switch()
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

    def check(self) -> None:
        """See whether the seed has driven the order of tasks; to be called once there were some.

        Raises:
            RuntimeError: if Trio has not asked.
        """
        if self._shuffler is not None and not self._shuffler.used:
            raise _no_such_switch()

    def restore(self) -> None:
        """Leave everything as it was found."""
        if self._shuffler is not None and getattr(_RUN, _GENERATOR) is self._shuffler:
            switch, generator = self._shuffler.before
            setattr(_RUN, _SWITCH, switch)
            setattr(_RUN, _GENERATOR, generator)
        self._shuffler = None


def _no_such_switch() -> RuntimeError:
    return RuntimeError(
        f"Trio {trio.__version__} does not let a seed drive the order of its tasks, so no run of a virtual "
        f"network could be repeated: trionet {__version__} relies on {_SWITCH} and {_GENERATOR} of "
        "trio._core._run, and needs an older Trio, or has to be replaced by a newer trionet"
    )
