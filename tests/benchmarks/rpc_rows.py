"""RPC: calls per second of ``echo(number)`` between two processes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

from tests.benchmarks._rounds import Measure, Open, Quantity, Run, compare
from tests.benchmarks._table import Entry, at_least
from tests.benchmarks._workers import Worker

#: The programs in `peers` by name of the peer. Each is ``PROGRAM server`` and ``PROGRAM client PORT``, with
#: the checkout as last argument where there is one.
PROGRAMS = {
    "trionet": "trionet_rpc",
    "sipyco": "sipyco_rpc",
    "rpyc": "rpyc_rpc",
    "Pyro5": "pyro5_rpc",
    "asyncio line echo": "line_echo",
}


def start_server(run: Run, peer: str) -> Worker:
    """A server of this peer; its port is in what it says first."""
    checkout = [run.path(peer)] if peer == "sipyco" else []
    return Worker(PROGRAMS[peer], "server", *checkout)


def _calls(run: Run, peer: str, tasks: int) -> Open:
    def start(stack: ExitStack) -> Measure:
        checkout = [run.path(peer)] if peer == "sipyco" else []
        server = stack.enter_context(start_server(run, peer))
        port = str(server.hello()["port"])
        client = stack.enter_context(Worker(PROGRAMS[peer], "client", port, *checkout))
        return lambda: client.ask(tasks=tasks, seconds=run.seconds)

    return start


def one_caller(run: Run) -> Iterator[Entry]:
    """One call after the other."""
    quantity = Quantity("calls", "RPC, one caller", "calls/s", {"sipyco": at_least(1.8)})
    for peer in ("sipyco", "rpyc", "Pyro5", "asyncio line echo"):
        yield from compare(run, peer, _calls(run, "trionet", 1), _calls(run, peer, 1), [quantity])


def many_callers(run: Run) -> Iterator[Entry]:
    """Tasks that share a connection. Connections of rpyc and Pyro5 belong to one thread each."""
    quantity = Quantity("calls", "RPC, 64 tasks on one connection", "calls/s", {"sipyco": at_least(4)})
    for peer in ("sipyco", "asyncio line echo"):
        yield from compare(run, peer, _calls(run, "trionet", 64), _calls(run, peer, 64), [quantity])


BENCHMARKS = {"rpc one caller": one_caller, "rpc 64 tasks": many_callers}
