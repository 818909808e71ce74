"""Structures that are published, how they change, and how what arrives is counted: the same for all peers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from time import perf_counter
from typing import Any

import numpy as np

from tests.benchmarks.peers.pyon_worker import nested

#: Under which name all of them publish.
NAME = "datasets"

_SPECTRUM = 1000
_ROWS = 100
_TRACE_STEPS = 3000
_NESTED_BYTES = 36_000

#: Makes one change to a notifier, by its number.
Change = Callable[[Any, int], None]


def make_structure(name: str) -> tuple[dict[str, Any], Change]:
    """``live``, ``image``, or ``large BYTES``; and how it changes."""
    if name == "image":
        return {"image": np.zeros((_ROWS, 96))}, _change_image
    if name.startswith("large "):
        return _large(int(name.removeprefix("large "))), _change_live
    return _live(), _change_live


def _live() -> dict[str, Any]:
    """Datasets of an experiment that is running."""
    return {"rate": 0.0, "trace": [], "spectrum": np.zeros(_SPECTRUM)}


def _large(size: int) -> dict[str, Any]:
    """The same among others: four fifths are arrays, the rest nested settings."""
    numbers = np.random.default_rng(1)
    return {
        **_live(),
        "scans": {f"scan_{index}": numbers.random(size // 80) for index in range(8)},
        "settings": {f"setup_{index}": nested(tiny=False) for index in range(size // 5 // _NESTED_BYTES)},
    }


def _change_live(notifier: Any, number: int) -> None:
    """A number that is replaced, a list that grows (and begins anew at times), an element of an array."""
    if number % 3 == 0:
        if number % _TRACE_STEPS == 0:
            notifier["trace"] = []
        else:
            notifier["rate"] = number / 7
    elif number % 3 == 1:
        notifier["trace"].append(number / 7)
    else:
        notifier["spectrum"][number % _SPECTRUM] = number / 7


def _change_image(notifier: Any, number: int) -> None:
    """A row of an array: about 1 kB as text."""
    notifier["image"][number % _ROWS] = np.full(96, number / 7)


def fingerprint(structure: Any) -> str:
    """The same for equal structures, in each process."""

    def describe(array: np.ndarray[Any, Any]) -> list[str]:
        return [array.dtype.str, str(array.shape), array.tobytes().hex()]

    return hashlib.sha256(json.dumps(structure, default=describe).encode()).hexdigest()


class Arrivals:
    """Counts the mods that the subscribers of a process get. At first they expect one: ``init``.

    Args:
        subscribers: How many there are.
        notify: Called when each has got what is expected.

    Attributes:
        counters: To be called with each mod, one counter for each subscriber.
        end: When the last one of what is expected came.
    """

    def __init__(self, subscribers: int, notify: Callable[[], object]) -> None:
        self._counts = [0] * subscribers
        self.counters = [self._make_counter(index) for index in range(subscribers)]
        self.expect(1, notify)

    def expect(self, mods: int, notify: Callable[[], object]) -> None:
        """From now on, so many."""
        self.end = 0.0
        self._expected = mods
        self._incomplete = len(self._counts)
        self._notify = notify
        self._counts[:] = [0] * len(self._counts)

    def _make_counter(self, index: int) -> Callable[[Any], None]:
        def count(_: Any) -> None:
            self._counts[index] += 1
            if self._counts[index] == self._expected:
                self._incomplete -= 1
                if not self._incomplete:
                    self.end = perf_counter()
                    self._notify()

        return count

    def check(self) -> None:
        """Raises if a subscriber got something else than what is expected."""
        if set(self._counts) != {self._expected}:
            raise RuntimeError(
                f"{self._expected} mods were expected, from {min(self._counts)} to {max(self._counts)} came"
            )
