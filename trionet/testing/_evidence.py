"""What is kept of a network for the report of a failure."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from textwrap import indent
from typing import TYPE_CHECKING, Final

import trio

if TYPE_CHECKING:
    from trionet.testing.network._netstat import Netstat
    from trionet.testing.network._network import VirtualNetwork

#: How many entries of the packet log are shown.
ENTRIES: Final = 30
#: The sockets of how many hosts are shown.
HOSTS: Final = 30


class Evidence:
    """The last packets of a network and the sockets of its hosts, as they were at one moment.

    That should be before anybody has cleaned up: `secure` counts the first time only, so that whoever may be
    the first to notice that something failed can call it. As text, it is what a report shows.

    Args:
        network: The network.
    """

    def __init__(self, network: VirtualNetwork) -> None:
        self._network = network
        self._packets = ""
        self._count = 0
        self._netstats: dict[str, Netstat] | None = None

    @property
    def secured(self) -> bool:
        """Whether `secure` was called."""
        return self._netstats is not None

    def secure(self) -> None:
        """Keep what is there now, unless that was done before."""
        if self._netstats is None:
            trace = self._network.trace
            self._packets, self._count = trace.last(ENTRIES), trace.count
            self._netstats = {
                host.name if host.running else f"{host.name} (crashed)": self._network.netstat(host)
                for host in self._network.hosts
            }

    @contextlib.contextmanager
    def secured_in_time(self) -> Iterator[None]:
        """Secure it when the block ends or a host's task fails; for a block within that of the network."""
        nursery = self._network._open_nursery()
        witness = _Witness(nursery.cancel_scope, self)
        trio.lowlevel.add_instrument(witness)
        try:
            yield
        finally:
            trio.lowlevel.remove_instrument(witness)
            self.secure()

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        if self._packets:
            yield f"packet log, the last {min(ENTRIES, self._count)} of {self._count} entries:"
            yield indent(self._packets, "  ")
        else:
            yield "packet log: empty"
        netstats = self._netstats or {}
        busy = [(name, sockets) for name, sockets in netstats.items() if sockets]
        for name, sockets in busy[:HOSTS]:
            yield f"netstat of {name}:"
            yield indent(str(sockets), "  ")
        if len(busy) > HOSTS:
            yield f"and {len(busy) - HOSTS} more hosts with sockets"
        idle = [name for name, sockets in netstats.items() if not sockets]
        if idle:
            more = f" and {len(idle) - HOSTS} more" if len(idle) > HOSTS else ""
            yield f"no sockets on: {', '.join(idle[:HOSTS])}{more}"


class _Witness(trio.abc.Instrument):
    """Secures evidence when a host's task has failed.

    That cancels the nursery, but Trio tells us before the other tasks take notice and close their sockets.
    """

    def __init__(self, scope: trio.CancelScope, evidence: Evidence) -> None:
        self._scope = scope
        self._evidence = evidence

    def task_exited(self, task: trio.lowlevel.Task) -> None:
        """Called by Trio when a task is over."""
        if self._scope.cancel_called:
            self._evidence.secure()
