"""Feeds: how fast changes of a published structure arrive, and what those who do not read cost."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack

from tests.benchmarks._rounds import Measure, Open, Quantity, Run, compare
from tests.benchmarks._table import Entry, Goal, Omitted, at_least, at_most
from tests.benchmarks._workers import PeerFailed, Worker
from tests.benchmarks.memory_rows import private_memory

#: The programs in `peers`. Each is ``PROGRAM server STRUCTURE`` and ``PROGRAM client PORT``, with the
#: checkout as last argument where there is one.
PROGRAMS = {"trionet": "trionet_feeds", "sipyco": "sipyco_feeds"}

# Changes between two scheduling rounds of a publisher.
_BURST = 100

_JOINED_BYTES = 10_000_000
_JOINS = 5

_STALLED_MODS = 100_000
_STALLED_STEP = 1000
# What `trionet.serve_publisher` lets wait for a subscriber by default, and what memory may be lost besides:
# to what is sent at the moment, and between what was freed.
_MAX_BACKLOG = 16 * 2**20
_SLACK = 8 * 2**20

# What a subscriber says; it is answered with the structure.
_SUBSCRIBE = "ARTIQ sync_struct\ndatasets"


def _checkout(run: Run, peer: str) -> list[str]:
    return [run.path(peer)] if peer == "sipyco" else []


def start_publisher(run: Run, peer: str, structure: str) -> Worker:
    """A publisher of this peer; its port is in what it says first."""
    return Worker(PROGRAMS[peer], "server", structure, *_checkout(run, peer))


def _start_both(run: Run, peer: str, structure: str, stack: ExitStack) -> tuple[Worker, Worker]:
    """A publisher, and a process for its subscribers."""
    server = stack.enter_context(start_publisher(run, peer, structure))
    port = str(server.hello()["port"])
    client = stack.enter_context(Worker(PROGRAMS[peer], "client", port, *_checkout(run, peer)))
    client.hello()
    return server, client


def _check_equal(server: Worker, fingerprints: list[str]) -> None:
    """A measurement without the right result is none."""
    check = server.ask(do="check")
    if check.get("resyncs"):
        raise PeerFailed("a subscriber was too far behind, and has been sent other mods than the rest")
    if fingerprints != [check["fingerprint"]]:
        raise PeerFailed("what the subscribers have is not what was published")


def delivery(run: Run, peer: str, subscribers: int, mods: int, burst: int) -> Open:
    """Mods per second: from the first change until the last subscriber has made the last one, too.

    All together stay below what may wait for a subscriber, so that each gets every mod.
    """

    def start(stack: ExitStack) -> Measure:
        server, client = _start_both(run, peer, "live", stack)
        client.ask(do="subscribe", count=subscribers)

        def measure() -> dict[str, float]:
            client.ask(do="expect", mods=mods)
            begun = server.ask(do="change", count=mods, burst=burst)["start"]
            arrived = client.ask(do="wait")
            _check_equal(server, arrived["fingerprints"])
            rate = mods / (arrived["end"] - begun)
            return {"mods": rate, "deliveries": rate * subscribers}

        return measure

    return start


def _delivery_row(
    run: Run, quantity: Quantity, subscribers: int, mods: int, burst: int = _BURST
) -> Iterator[Entry]:
    ours, theirs = (delivery(run, peer, subscribers, mods, burst) for peer in PROGRAMS)
    return compare(run, "sipyco", ours, theirs, [quantity])


def _goals(goal: Goal) -> dict[str, Goal]:
    return {"sipyco": goal}


def one_subscriber(run: Run) -> Iterator[Entry]:
    """Changes in bursts."""
    quantity = Quantity("mods", "mods to 1 subscriber", "mods/s", _goals(at_least(2)))
    return _delivery_row(run, quantity, 1, int(100_000 * run.scale))


def one_by_one(run: Run) -> Iterator[Entry]:
    """Each change may leave before the next one is made."""
    quantity = Quantity("mods", "mods to 1 subscriber, a scheduling round after each", "mods/s")
    return _delivery_row(run, quantity, 1, int(30_000 * run.scale), burst=1)


def many_subscribers(run: Run) -> Iterator[Entry]:
    """The same changes for all."""
    count = int(100 * run.scale)
    quantity = Quantity("mods", f"mods to each of {count} subscribers", "mods/s", _goals(at_least(2)))
    return _delivery_row(run, quantity, count, 2000)


def crowd(run: Run) -> Iterator[Entry]:
    """More than a laboratory has."""
    count = int(1000 * run.scale)
    quantity = Quantity("deliveries", f"100 mods to each of {count:,} subscribers, all of them", "mods/s")
    return _delivery_row(run, quantity, count, 100)


def joins(run: Run, peer: str, size: int) -> Open:
    """Joins per second: from connecting until the structure is there. It has changed since the last join."""

    def start(stack: ExitStack) -> Measure:
        server, client = _start_both(run, peer, f"large {size}", stack)

        def measure() -> dict[str, float]:
            seconds = 0.0
            for number in range(_JOINS):
                server.ask(do="change", count=number + 1, burst=_BURST)
                joined = client.ask(do="join")
                seconds += joined["seconds"]
                _check_equal(server, joined["fingerprints"])
            return {"joins": _JOINS / seconds}

        return measure

    return start


def join(run: Run) -> Iterator[Entry]:
    """A subscriber of much data, four fifths of which are arrays."""
    size = int(_JOINED_BYTES * run.scale)
    quantity = Quantity("joins", f"join to {size / 1e6:g} MB, with arrays", "/s", _goals(at_least(3)))
    yield from compare(run, "sipyco", joins(run, "trionet", size), joins(run, "sipyco", size), [quantity])


def stalled(run: Run, peer: str) -> Open:
    """By how much a publisher grows while its only subscriber does not read: at most, and in the end."""
    steps = int(_STALLED_MODS * run.scale) // _STALLED_STEP

    def measure() -> dict[str, float]:
        # A publisher of its own for each round: memory that was used once would not grow again.
        with start_publisher(run, peer, "image") as server, Worker("idle_client") as client:
            client.ask(port=server.hello()["port"], count=1, lines=[_SUBSCRIBE], keep=True)
            before = private_memory(server.pid)
            growth = []
            for _ in range(steps):
                server.ask(do="change", count=_STALLED_STEP, burst=_BURST)
                growth.append(private_memory(server.pid) - before)
            check = server.ask(do="check")
        if check.get("subscribers") == 0:
            raise PeerFailed("the publisher has left the subscriber that did not read")
        if peer == "trionet" and max(growth) > _MAX_BACKLOG + _SLACK:
            raise PeerFailed(f"the publisher has grown by {max(growth):,} bytes, which is no bound")
        return {"peak": max(growth) / 1e6, "end": growth[-1] / 1e6}

    def start(_: ExitStack) -> Measure:
        start_publisher(run, peer, "image").close()  # complains at once if there is no such peer
        return measure

    return start


def stalled_subscriber(run: Run) -> Iterator[Entry]:
    """A subscriber that stays connected and does not read. `max_backlog` is what ours may keep for it."""
    mods = int(_STALLED_MODS * run.scale)
    name = f"publisher memory, 1 subscriber stalled, {mods:,} mods of 1 kB"
    if not sys.platform.startswith("linux"):
        yield Omitted(name, "all", "left out: needs Linux, it reads /proc")
        return

    def limit(_: ExitStack) -> Measure:
        return lambda: {"peak": _MAX_BACKLOG / 1e6}

    goals = {"sipyco": at_most(1), "max_backlog": at_most((_MAX_BACKLOG + _SLACK) / _MAX_BACKLOG)}
    peak = Quantity("peak", f"peak {name}", "MB", goals)
    end = Quantity("end", f"- in the end, {mods:,} mods", "MB", goals)
    yield from compare(run, "max_backlog", stalled(run, "trionet"), limit, [peak])
    yield from compare(run, "sipyco", stalled(run, "trionet"), stalled(run, "sipyco"), [peak, end])


BENCHMARKS = {
    "feed to one subscriber": one_subscriber,
    "feed to one subscriber, one by one": one_by_one,
    "feed to 100 subscribers": many_subscribers,
    "feed to 1,000 subscribers": crowd,
    "feed join": join,
    "feed stalled subscriber": stalled_subscriber,
}
