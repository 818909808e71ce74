"""The compat layer's RPC clients: calls per second of ``echo(number)``, each side with its own server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

from tests.benchmarks._rounds import Measure, Open, Quantity, Run, compare
from tests.benchmarks._table import Entry, at_least
from tests.benchmarks._workers import Worker
from tests.benchmarks.rpc_rows import start_server

#: The programs of the clients in `peers`. Each is ``PROGRAM KIND PORT``, with the checkout as last argument
#: where there is one.
CLIENTS = {"trionet": "compat_rpc", "sipyco": "sipyco_rpc"}


def calls(run: Run, peer: str, kind: str) -> Open:
    """Calls of one client: its kind is ``blocking``, or ``client`` for the one under asyncio."""

    def start(stack: ExitStack) -> Measure:
        checkout = [run.path(peer)] if peer == "sipyco" else []
        server = stack.enter_context(start_server(run, peer))
        port = str(server.hello()["port"])
        client = stack.enter_context(Worker(CLIENTS[peer], kind, port, *checkout))
        return lambda: client.ask(tasks=1, seconds=run.seconds)

    return start


def blocking(run: Run) -> Iterator[Entry]:
    """``Client``, which blocks."""
    quantity = Quantity("calls", "compat: blocking Client", "calls/s", {"sipyco": at_least(1)})
    ours, theirs = (calls(run, peer, "blocking") for peer in ("trionet", "sipyco"))
    yield from compare(run, "sipyco", ours, theirs, [quantity])


def under_asyncio(run: Run) -> Iterator[Entry]:
    """``AsyncioClient``, one call after the other."""
    quantity = Quantity("calls", "compat: AsyncioClient", "calls/s", {"sipyco": at_least(0.8)})
    ours, theirs = (calls(run, peer, "client") for peer in ("trionet", "sipyco"))
    yield from compare(run, "sipyco", ours, theirs, [quantity])


BENCHMARKS = {"compat rpc blocking": blocking, "compat rpc asyncio": under_asyncio}
