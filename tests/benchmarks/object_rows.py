"""Objects in other processes: calls, arrays, and starting such a process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

from tests.benchmarks._rounds import Measure, Open, Quantity, Run, compare
from tests.benchmarks._table import Entry, at_least, at_most
from tests.benchmarks._workers import Worker

#: The programs in `peers` by name of the peer, with their first arguments. Then come ``server``,
#: ``client ADDRESS``, or ``processes``, and the checkout where there is one. `trionet_compat` stands for
#: upstream's names and blocking calls, with ours behind them.
PROGRAMS = {
    "trionet": ["trionet_objects"],
    "trionet_compat": ["pyacq_objects", "trionet_compat.pyacq"],
    "pyacq": ["pyacq_objects", "pyacq"],
    "rpyc": ["rpyc_objects"],
    "Pyro5": ["pyro5_objects"],
}

_IN_FLIGHT = 500
_ARRAY = 8_000_000


def _start(stack: ExitStack, run: Run, peer: str, *arguments: str) -> Worker:
    checkout = [run.path(peer)] if peer == "pyacq" else []
    worker = stack.enter_context(Worker(*PROGRAMS[peer], *arguments, *checkout))
    worker.hello()
    return worker


def calls(run: Run, peer: str, do: str, **options: int) -> Open:
    """What is done per second by a client of a server, a process each."""

    def start(stack: ExitStack) -> Measure:
        server = _start(stack, run, peer, "server")
        client = _start(stack, run, peer, "client", server.hello()["address"])
        return lambda: client.ask(do=do, seconds=run.seconds, **options)

    return start


def processes(run: Run, peer: str) -> Open:
    """Starting a process: from the call until its first answer to a ping. It ends before the next one."""

    def start(stack: ExitStack) -> Measure:
        parent = _start(stack, run, peer, "processes")
        return lambda: {"milliseconds": 1000 * parent.ask()["seconds"]}

    return start


def one_caller(run: Run) -> Iterator[Entry]:
    """One call after the other: pings, which both ends answer themselves, then a method of an object."""
    pings = Quantity("rate", "objects, pings", "pings/s", {"pyacq": at_least(1.5)})
    methods = Quantity("rate", "- calls of a method", "calls/s")
    for do, quantity in ("ping", pings), ("echo", methods):
        for peer in ("pyacq", "rpyc", "Pyro5"):
            yield from compare(run, peer, calls(run, "trionet", do), calls(run, peer, do), [quantity])


def many_in_flight(run: Run) -> Iterator[Entry]:
    """All sent, then all answers awaited. rpyc sends calls of a method instead; Pyro5 has no such thing."""
    count = max(1, round(_IN_FLIGHT * run.scale))
    quantity = Quantity("rate", f"- {count} pings in flight", "pings/s", {"pyacq": at_least(1.3)})
    for peer in ("pyacq", "rpyc"):
        ours, theirs = (calls(run, side, "burst", count=count) for side in ("trionet", peer))
        yield from compare(run, peer, ours, theirs, [quantity])


def blocking_pings(run: Run) -> Iterator[Entry]:
    """Upstream's names on both sides of ours: a blocking client, and a server in a thread of its own."""
    quantity = Quantity("rate", "- pings, blocking RPCClient", "pings/s", {"pyacq": at_least(0.8)})
    ours, theirs = (calls(run, side, "ping") for side in ("trionet_compat", "pyacq"))
    yield from compare(run, "pyacq", ours, theirs, [quantity])


def arrays(run: Run) -> Iterator[Entry]:
    """An array sent to a method that returns it. It is compared with the one sent, which is not timed."""
    size = max(8, round(_ARRAY * run.scale))
    name = f"- array of {size / 1e6:g} MB there and back"
    quantity = Quantity("rate", name, "times/s", {"pyacq": at_least(2)})
    for peer in ("pyacq", "rpyc", "Pyro5"):
        ours, theirs = (calls(run, side, "carry", size=size) for side in ("trionet", peer))
        yield from compare(run, peer, ours, theirs, [quantity])


def starts(run: Run) -> Iterator[Entry]:
    """Processes for objects; neither rpyc nor Pyro5 has them."""
    quantity = Quantity("milliseconds", "- process started, first reply", "ms", {"pyacq": at_most(0.5)})
    blocking = Quantity("milliseconds", "- the same, blocking ProcessSpawner", "ms")
    for ours, row in ("trionet", quantity), ("trionet_compat", blocking):
        yield from compare(run, "pyacq", processes(run, ours), processes(run, "pyacq"), [row])


BENCHMARKS = {
    "objects one caller": one_caller,
    "objects 500 in flight": many_in_flight,
    "objects blocking pings": blocking_pings,
    "objects arrays": arrays,
    "objects process start": starts,
}
