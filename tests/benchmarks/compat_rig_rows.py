"""Rigs under upstream's names: confirmed messages under asyncio, and pushes from blocking code."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

from tests.benchmarks._rounds import Measure, Open, Quantity, Run, compare
from tests.benchmarks._table import Entry, at_least, at_most
from tests.benchmarks._workers import Worker
from tests.benchmarks.rig_rows import sends, start_rigs

_RIGS = 2


def confirmed_sends(run: Run) -> Iterator[Entry]:
    """EchoProtocol at both ends, of ours and of theirs, in an asyncio loop for each."""
    for scheme, goal in (("udp", {"iblutil": at_least(0.7)}), ("tcp", {"iblutil": at_least(0.7)})):
        name = f"EchoProtocol under asyncio, confirmed sends over {scheme.upper()}"
        ours, theirs = (sends(run, scheme, peer, peer) for peer in ("trionet_compat", "iblutil"))
        yield from compare(run, "iblutil", ours, theirs, [Quantity("sends", name, "sends/s", goal)])


def pushes(run: Run, program: str, rigs: str, *arguments: str) -> Open:
    """`Auxiliaries.push` of a message that two rigs answer at once, until the answers are returned."""

    def start(stack: ExitStack) -> Measure:
        _, ports = start_rigs(stack, rigs, "udp", _RIGS)
        pushing = stack.enter_context(Worker(program, *arguments, *map(str, ports)))
        pushing.hello()
        return lambda: {"milliseconds": 1000 * pushing.ask(seconds=run.seconds)["time"]}

    return start


def auxiliaries(run: Run) -> Iterator[Entry]:
    """The rigs are iblutil's for both sides."""

    def theirs(stack: ExitStack) -> Measure:
        return pushes(run, "iblrig_auxiliaries", "iblutil", run.path("iblrig"))(stack)

    quantity = Quantity(
        "milliseconds", "Auxiliaries.push(wait=True) to 2 rigs", "ms", {"iblrig": at_most(0.05)}
    )
    yield from compare(run, "iblrig", pushes(run, "compat_auxiliaries", "iblutil"), theirs, [quantity])


BENCHMARKS = {
    "compat EchoProtocol sends": confirmed_sends,
    "compat Auxiliaries pushes": auxiliaries,
}
