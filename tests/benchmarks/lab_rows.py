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


def _start_hosts(run: Run, kind: str, protocol: str) -> Worker:
    return Worker("pinging_hosts", kind, protocol, str(_count(run)), str(_OTHERS))


def pings(run: Run, kind: str) -> Open:
    """Hosts that ping some others each over UDP, all at once: packets per second of CPU time.

    On the loopback, hosts are addresses; the program is the same.
    """

    def start(stack: ExitStack) -> Measure:
        hosts = stack.enter_context(_start_hosts(run, kind, "udp"))
        hosts.hello()

        def measure() -> dict[str, float]:
            result = hosts.ask(rounds=_ROUNDS)
            return {"rate": 2 * result["pings"] / result["cpu"]}

        return measure

    return start


def memory(run: Run, protocol: str) -> Open:
    """What such a network takes at most, from the start of the process to the end of the network."""

    def measure() -> dict[str, float]:
        with _start_hosts(run, "virtual", protocol) as hosts:
            hosts.ask(rounds=_ROUNDS)
            hosts.ask(rounds=0)  # ends the network: that tasks are cancelled takes memory, too
            return {"memory": peak_memory(hosts.pid) / 1e6}

    return lambda _: measure


def many_hosts(run: Run) -> Iterator[Entry]:
    """More than a laboratory has."""
    count = _count(run)
    name = f"memory of {count:,} hosts that ping each other, UDP"
    if not sys.platform.startswith("linux"):
        yield Omitted(name, "all", "left out: needs Linux, it reads /proc")
        return

    def limit(_: ExitStack) -> Measure:
        return lambda: {"memory": _MEMORY}

    def row(name: str, protocol: str) -> Iterator[Entry]:
        quantity = Quantity("memory", name, "MB", {"1 GB": at_most(1)})
        return compare(replace(run, rounds=1), "1 GB", memory(run, protocol), limit, [quantity])

    yield from row(name, "udp")
    yield from row(f"- over {count * _OTHERS:,} TCP connections", "tcp")
    rate = Quantity("rate", "- packets, UDP", "packets/s")
    yield from compare(run, "loopback", pings(run, "virtual"), pings(run, "loopback"), [rate])


def _count(run: Run) -> int:
    return max(_OTHERS, int(_HOSTS * run.scale))


BENCHMARKS = {"virtual hour": virtual_hour, "virtual hosts": many_hosts}
