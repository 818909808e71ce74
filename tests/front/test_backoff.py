"""The delays between attempts to connect."""

from __future__ import annotations

import random

import pytest

from trionet._backoff import Backoff


class Constant(random.Random):
    """Always the same number."""

    def __init__(self, number: float) -> None:
        super().__init__(0)
        self._number = number

    def random(self) -> float:
        return self._number


def test_delays_double_up_to_the_limit() -> None:
    backoff = Backoff(0.5, 3.0, Constant(0.0))
    assert [backoff.next_delay() for _ in range(5)] == [0.5, 1.0, 2.0, 3.0, 3.0]


def test_chance_shortens_them_by_up_to_a_half() -> None:
    assert Backoff(1.0, 8.0, Constant(1.0)).next_delay() == 0.5
    delays = [Backoff(1.0, 8.0, random.Random(seed)).next_delay() for seed in range(100)]
    assert all(0.5 <= delay <= 1.0 for delay in delays)
    assert len(set(delays)) == 100


def test_the_same_seed_gives_the_same_delays() -> None:
    one, other = (Backoff(rng=random.Random(7)) for _ in range(2))
    assert [one.next_delay() for _ in range(10)] == [other.next_delay() for _ in range(10)]


def test_a_connection_that_lasted_starts_over() -> None:
    backoff = Backoff(0.5, 3.0, Constant(0.0))
    assert [backoff.next_delay() for _ in range(3)] == [0.5, 1.0, 2.0]
    assert backoff.next_delay(lasted=2.9) == 3.0
    assert backoff.next_delay(lasted=3.0) == 0.5


@pytest.mark.parametrize(("first", "most"), [(0.0, 1.0), (-1.0, 1.0), (2.0, 1.0), (float("nan"), 1.0)])
def test_delays_that_make_no_sense(first: float, most: float) -> None:
    with pytest.raises(ValueError, match="delay"):
        Backoff(first, most)
