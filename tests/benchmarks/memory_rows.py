"""What idle connections cost a server."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from tests.benchmarks._rounds import Measure, Open, Quantity, Run, compare
from tests.benchmarks._table import Entry, Omitted, at_most
from tests.benchmarks._workers import Worker
from tests.benchmarks.rpc_rows import start_server

_CONNECTIONS = 1000
_WARM_UP = 20

# What a client says before it is idle; each line is answered with one.
_PC_RPC = ["ARTIQ pc_rpc", "echo pyon_v2"]
_LINE_ECHO = ["0"]


def private_memory(pid: int) -> int:
    """Bytes of resident memory that belong to this process alone, its file mappings left out. Linux only."""
    return _status(pid, "RssAnon")


def peak_memory(pid: int) -> int:
    """Bytes of resident memory that a process has had at most, file mappings included. Linux only."""
    return _status(pid, "VmHWM")


def _status(pid: int, key: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"this kernel does not tell {key}")


def _idle(run: Run, peer: str, lines: list[str]) -> Open:
    count = int(_CONNECTIONS * run.scale)

    def measure() -> dict[str, float]:
        # A server of its own for each round: memory that was used once would not grow again.
        with start_server(run, peer) as server, Worker("idle_client") as client:
            port = server.hello()["port"]
            client.ask(port=port, count=_WARM_UP, lines=lines, keep=False)
            client.ask(port=port, count=1, lines=lines, keep=True)
            before = private_memory(server.pid)
            client.ask(port=port, count=count, lines=lines, keep=True)
            return {"memory": (private_memory(server.pid) - before) / count / 1000}

    def start(_: ExitStack) -> Measure:
        start_server(run, peer).close()  # complains at once if there is no such peer
        return measure

    return start


def idle_connections(run: Run) -> Iterator[Entry]:
    """Connections that are open, a target selected, and say nothing."""
    name = f"server memory per idle connection, {int(_CONNECTIONS * run.scale):,} of them"
    if not sys.platform.startswith("linux"):
        yield Omitted(name, "all", "left out: needs Linux, it reads /proc")
        return
    quantity = Quantity("memory", name, "kB", {"sipyco": at_most(0.7)})
    for peer, lines in (("sipyco", _PC_RPC), ("asyncio line echo", _LINE_ECHO)):
        yield from compare(run, peer, _idle(run, "trionet", _PC_RPC), _idle(run, peer, lines), [quantity])


BENCHMARKS = {"memory of idle connections": idle_connections}
