"""The virtual network: what an hour of a laboratory costs, and how many hosts fit in."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from itertools import chain, repeat

from tests.benchmarks._rounds import Measure, Open, Quantity, Run, compare
from tests.benchmarks._table import Entry, Omitted, at_least, at_most
from tests.benchmarks._workers import Worker
from tests.benchmarks.memory_rows import peak_memory

_HOUR = 3600
_WARM_UP = 60
# A process that says nothing for a minute of real time is taken for hung; so it works a piece at a time.
_PIECE = 300
# Seconds of one core that the hour may take.
_ALLOWED = 60.0

_HOSTS = 1000
_OTHERS = 10
_ROUNDS = 2
_MEMORY = 1000.0  # megabytes that they may take


class Hour:
    """A virtual hour of a busy laboratory (`peers.virtual_hour`), and what it may cost.

    It is measured in CPU time, which is that of one core, and once: it is long enough. Each message is
    checked, and the copies of the subscribers.
    """

    def __init__(self, run: Run) -> None:
        self._length = max(1, int(_HOUR * run.scale))
        self._allowed = _ALLOWED * run.scale
        self._packets = 0

    def measured(self, stack: ExitStack) -> Measure:
        """CPU time, and packets per second of it."""
        laboratory = stack.enter_context(Worker("virtual_hour"))
        laboratory.hello()
        lengths = chain([min(_WARM_UP, self._length)], repeat(self._length))

        def measure() -> dict[str, float]:
            length = next(lengths)
            pieces = [_PIECE] * (length // _PIECE) + [length % _PIECE] * (length % _PIECE > 0)
            results = [laboratory.ask(seconds=seconds) for seconds in pieces]
            self._packets = sum(result["packets"] for result in results)
            cpu = sum(result["cpu"] for result in results)
            return {"cpu": cpu, "rate": self._packets / cpu}

        return measure

    def allowed(self, _: ExitStack) -> Measure:
        """The same packets in the time that is allowed; to be called after `measured`."""
        return lambda: {"cpu": self._allowed, "rate": self._packets / self._allowed}


def virtual_hour(run: Run) -> Iterator[Entry]:
    """Much waiting, little time."""
    hour, peer = Hour(run), f"{_ALLOWED:g} s"
    quantities = [
        Quantity("cpu", "a virtual hour, 10 rigs and 5 subscribers", "s", {peer: at_most(1)}),
        Quantity("rate", "- packets", "packets/s", {peer: at_least(1)}),
    ]
    yield from compare(replace(run, rounds=1), peer, hour.measured, hour.allowed, quantities)


def pings(run: Run, kind: str, protocol: str) -> Open:
    """Hosts that ping some others each, all at once: peak memory, and packets per second of CPU time.

    A ping is two packets: what else TCP sends is not counted. On the loopback, hosts are addresses; the
    program is the same.
    """
    count = _count(run)

    def start(stack: ExitStack) -> Measure:
        hosts = stack.enter_context(Worker("pinging_hosts", kind, protocol, str(count), str(_OTHERS)))
        hosts.hello()

        def measure() -> dict[str, float]:
            result = hosts.ask(rounds=_ROUNDS)
            return {"rate": 2 * result["pings"] / result["cpu"], "memory": peak_memory(hosts.pid) / 1e6}

        return measure

    return start


def many_hosts(run: Run) -> Iterator[Entry]:
    """More than a laboratory has."""
    count = _count(run)
    name = f"memory of {count:,} hosts that ping each other, UDP"
    if not sys.platform.startswith("linux"):
        yield Omitted(name, "all", "left out: needs Linux, it reads /proc")
        return

    def limit(_: ExitStack) -> Measure:
        return lambda: {"memory": _MEMORY}

    def memory(name: str, protocol: str) -> Iterator[Entry]:
        quantity = Quantity("memory", name, "MB", {"1 GB": at_most(1)})
        return compare(run, "1 GB", pings(run, "virtual", protocol), limit, [quantity])

    yield from memory(name, "udp")
    yield from memory(f"- over {count * _OTHERS:,} TCP connections", "tcp")
    rate = Quantity("rate", "- packets, UDP", "packets/s")
    ours, theirs = pings(run, "virtual", "udp"), pings(run, "loopback", "udp")
    yield from compare(run, "loopback", ours, theirs, [rate])


def _count(run: Run) -> int:
    return max(_OTHERS, int(_HOSTS * run.scale))


BENCHMARKS = {"virtual hour": virtual_hour, "virtual hosts": many_hosts}
