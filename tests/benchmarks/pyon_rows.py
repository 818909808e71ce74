"""PYON: how fast values become text and text values, and what memory it takes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

from tests.benchmarks._rounds import Measure, Open, Quantity, Run, compare
from tests.benchmarks._table import Entry, Goal, at_least, at_most
from tests.benchmarks._workers import Worker

_ARRAY_BYTES = 32_000_000

# What the peers are: sipyco, and the standard library doing what PYON v1 and v2 are made of.
_PEERS = ("sipyco", "standard library")


def _arguments(run: Run, peer: str) -> list[str]:
    """The command line of `peers.pyon_worker` for a peer."""
    return ["sipyco", run.path("sipyco")] if peer == "sipyco" else [peer]


def _codec(run: Run, peer: str, data: str, version: int = 2) -> Open:
    def start(stack: ExitStack) -> Measure:
        worker = stack.enter_context(Worker("pyon_worker", *_arguments(run, peer)))
        command = {"do": "time", "data": data, "version": version, "seconds": run.seconds}
        return lambda: worker.ask(**command)

    return start


def _both_ways(run: Run, name: str, data: str, goal: Goal | None) -> Iterator[Entry]:
    goals = {"sipyco": goal} if goal else {}
    quantities = [
        Quantity("both", f"PYON v2 encode and decode, {name}", "/s", goals),
        Quantity("encode", f"- encode, {name}", "/s", goals),
        Quantity("decode", f"- decode, {name}", "/s", goals),
    ]
    for peer in _PEERS:
        shown = quantities if peer == "sipyco" else quantities[:1]
        yield from compare(run, peer, _codec(run, "trionet", data), _codec(run, peer, data), shown)


def nested(run: Run) -> Iterator[Entry]:
    """Plain data as settings and results are."""
    return _both_ways(run, "nested data of 36 kB", "nested", at_least(3))


def nested_tiny(run: Run) -> Iterator[Entry]:
    """The same, some numbers of which need an exponent."""
    return _both_ways(run, "the same with tiny numbers", "nested tiny", None)


def ints(run: Run) -> Iterator[Entry]:
    """A long list."""
    return _both_ways(run, "10,000 ints", "ints", at_least(3))


def array(run: Run) -> Iterator[Entry]:
    """One big array."""
    size = _array_size(run)
    return _both_ways(run, f"float64 array of {size / 1e6:g} MB", f"array {size}", at_least(5))


def version_1(run: Run) -> Iterator[Entry]:
    """PYON v1, which the others evaluate."""
    for data, name in (("nested", "nested data of 36 kB"), ("ints", "10,000 ints")):
        quantities = [Quantity("decode", f"PYON v1 decode, {name}", "/s", {"sipyco": at_least(1)})]
        for peer in _PEERS:
            yield from compare(
                run, peer, _codec(run, "trionet", data, 1), _codec(run, peer, data, 1), quantities
            )


def peak_memory(run: Run) -> Iterator[Entry]:
    """What encoding a big array takes beside the array, its text included."""
    size = _array_size(run)

    def peak(peer: str) -> Open:
        def measure() -> dict[str, float]:
            values = {}
            for way in ("traced", "resident"):
                with Worker("pyon_worker", *_arguments(run, peer)) as worker:
                    values.update(worker.ask(do=way, data=f"array {size}"))
            return values

        def start(_: ExitStack) -> Measure:
            _arguments(run, peer)  # complains at once if there is no such peer
            return measure

        return start

    def itself(_: ExitStack) -> Measure:
        return lambda: {"traced": size / 1e6, "resident": size / 1e6}

    goals = {"its size": at_most(3)}
    what = f"memory while encoding an array of {size / 1e6:g} MB"
    quantities = [
        Quantity("traced", f"peak {what}, by tracemalloc", "MB", goals),
        Quantity("resident", f"peak {what}, resident", "MB", goals),
    ]
    yield from compare(run, "its size", peak("trionet"), itself, quantities)
    yield from compare(run, "sipyco", peak("trionet"), peak("sipyco"), quantities)


def _array_size(run: Run) -> int:
    return int(_ARRAY_BYTES * run.scale)


BENCHMARKS = {
    "pyon v2 nested": nested,
    "pyon v2 tiny numbers": nested_tiny,
    "pyon v2 ints": ints,
    "pyon v2 array": array,
    "pyon v2 peak memory": peak_memory,
    "pyon v1": version_1,
}
