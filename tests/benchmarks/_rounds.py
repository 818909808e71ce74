"""Measuring two sides in turns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from tests.benchmarks._table import Entry, Goal, Omitted, Row
from tests.benchmarks._workers import PeerFailed, PeerMissing

#: One measurement: values by name. Called once to warm up, and once per round.
Measure = Callable[[], Mapping[str, float]]
#: Starts what a measurement needs; the stack ends it.
Open = Callable[[ExitStack], Measure]


@dataclass(frozen=True)
class Run:
    """What was asked for on the command line.

    Attributes:
        rounds: Rounds per comparison.
        seconds: How long one measurement takes, where that can be chosen.
        scale: Part of the full amount of data or connections.
        paths: Checkouts of peers that no index has, by name.
    """

    rounds: int = 5
    seconds: float = 0.5
    scale: float = 1.0
    paths: Mapping[str, str] = field(default_factory=dict)

    def path(self, peer: str) -> str:
        """The checkout of a peer; PeerMissing if none was given."""
        if peer not in self.paths:
            raise PeerMissing(f"no checkout given, see --peer {peer}=PATH")
        return self.paths[peer]


@dataclass(frozen=True)
class Quantity:
    """A row to be made of one of the values measured.

    Attributes:
        key: What the measurement calls the value.
        name: What the table calls it.
        unit: Its unit.
        goals: The ratio to be reached, by peer.
    """

    key: str
    name: str
    unit: str
    goals: Mapping[str, Goal] = field(default_factory=dict)


def alternate(sides: Sequence[Measure], rounds: int) -> list[dict[str, list[float]]]:
    """Measure each side once per round, in turns: the values of each by name.

    The first turn warms up and does not count.
    """
    measured: list[dict[str, list[float]]] = [{} for _ in sides]
    for number in range(rounds + 1):
        for side, values in zip(sides, measured, strict=True):
            for key, value in side().items():
                if number:
                    values.setdefault(key, []).append(value)
    return measured


def compare(run: Run, peer: str, ours: Open, theirs: Open, quantities: Sequence[Quantity]) -> Iterator[Entry]:
    """The rows of one comparison. A peer that is missing, or fails, gives a line that says so instead."""
    try:
        with ExitStack() as stack:
            measure_theirs = theirs(stack)  # first, because it may be missing
            our_values, their_values = alternate([ours(stack), measure_theirs], run.rounds)
    except PeerMissing as error:
        yield Omitted(quantities[0].name, peer, f"left out: {error}")
    except PeerFailed as error:
        yield Omitted(quantities[0].name, peer, f"FAILED: {error}", failed=True)
    else:
        for quantity in quantities:
            yield Row(
                quantity.name,
                peer,
                quantity.unit,
                our_values[quantity.key],
                their_values[quantity.key],
                quantity.goals.get(peer),
            )
