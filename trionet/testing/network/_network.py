"""The network: hosts, links and weather, and how it is installed in a run of Trio."""

from __future__ import annotations

import contextlib
import ipaddress
import math
import random
import re
from collections.abc import AsyncIterator, Iterable, Iterator
from types import TracebackType
from typing import Final, Self, TypeAlias

import trio

from trionet.testing.network._errors import UnknownHostError
from trionet.testing.network._fabric import Fabric
from trionet.testing.network._gate import Gate
from trionet.testing.network._host import VirtualHost
from trionet.testing.network._links import Direction, Link
from trionet.testing.network._names import LOCALHOST, NameResolver
from trionet.testing.network._netstat import Netstat, netstat
from trionet.testing.network._nursery import open_task_nursery
from trionet.testing.network._packets import Packet
from trionet.testing.network._rules import Rule, Verdict
from trionet.testing.network._schedule import SeededSchedule
from trionet.testing.network._trace import Trace

#: A host, or the name of one that exists.
Host: TypeAlias = VirtualHost | str
#: A host or several.
Hosts: TypeAlias = Host | Iterable[Host]

_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9_.-]*[a-z0-9])?", re.IGNORECASE)
_installed: Final[trio.lowlevel.RunVar[object]] = trio.lowlevel.RunVar("trionet virtual network")


class VirtualNetwork:
    """A simulated network. Make it anywhere; ``async with`` installs it in the current run of Trio.

    Args:
        seed: Drives every random choice: of the links, and of the order in which Trio runs tasks.
        latency: Of all links, in seconds; single ones can be set with `link`.
        jitter, loss, duplicate, reorder, bandwidth: Likewise, see `Link`.
        allow_real: Whether tasks on no host get real sockets, and all tasks those of other families. It is
            an error otherwise.
        trace_length: How many entries the packet log keeps.

    Attributes:
        seed: The seed.
        random: Random numbers for the test itself, from the same seed.
        trace: The packet log.

    A network is opened once. Within the block tasks that live on its hosts use it, see `VirtualHost`; when
    the block ends they are cancelled, all sockets are closed, and the run is as it was before.
    """

    def __init__(
        self,
        *,
        seed: int | str = 0,
        latency: float = 0.0,
        jitter: float = 0.0,
        loss: float = 0.0,
        duplicate: float = 0.0,
        reorder: float = 0.0,
        bandwidth: float = math.inf,
        allow_real: bool = False,
        trace_length: int = 10_000,
    ) -> None:
        self.seed = seed
        self.random = random.Random(f"{seed}/test")
        self.trace = Trace(trace_length)
        settings = {
            "latency": latency,
            "jitter": jitter,
            "loss": loss,
            "duplicate": duplicate,
            "reorder": reorder,
            "bandwidth": bandwidth,
        }
        self._fabric = Fabric(seed, self.trace, settings)
        self._gate = Gate(self._fabric, allow_real=allow_real)
        self._nursery: trio.Nursery | None = None
        self._opened: contextlib.AbstractAsyncContextManager[None] | None = None

    # Opening and closing.

    async def __aenter__(self) -> Self:
        if self._opened is not None:
            raise RuntimeError("a virtual network is opened only once: make another one")
        self._opened = self._open()
        await self._opened.__aenter__()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> bool | None:
        assert self._opened is not None
        return await self._opened.__aexit__(exc_type, exc, tb)

    @contextlib.asynccontextmanager
    async def _open(self) -> AsyncIterator[None]:
        with self._installed_in_run() as schedule:
            async with open_task_nursery(self._fabric.run, self._fabric.stop) as self._nursery:
                yield
            schedule.check()

    @contextlib.contextmanager
    def _installed_in_run(self) -> Iterator[SeededSchedule]:
        try:
            trio.lowlevel.current_task()
        except RuntimeError:
            raise RuntimeError(
                "a virtual network is opened inside a run of Trio: in a function that trio.run() calls, or "
                "in an async test"
            ) from None
        if _installed.get(None) is not None:
            raise RuntimeError("another virtual network is open in this run: there is one at a time")
        schedule = SeededSchedule(f"{self.seed}/schedule")
        schedule.install()
        _installed.set(self)
        resolver = NameResolver(self._fabric, self._gate)
        factory_before = trio.socket.set_custom_socket_factory(self._gate)
        resolver_before = trio.socket.set_custom_hostname_resolver(resolver)
        self.trace.start = trio.current_time()
        try:
            yield schedule
        finally:
            self._nursery = None
            for host in self._fabric.hosts.values():
                host.stack.alive = False
                for sock in tuple(host.stack.sockets):
                    sock.close()
            trio.socket.set_custom_socket_factory(factory_before)
            trio.socket.set_custom_hostname_resolver(resolver_before)
            _installed.set(None)
            schedule.restore()

    def _open_nursery(self) -> trio.Nursery:
        if self._nursery is None:
            raise RuntimeError("tasks run on hosts while their network is open: `async with network:`")
        return self._nursery

    # Hosts.

    def host(self, name: str) -> VirtualHost:
        """The host of that name, which is made at the first call.

        Each has an address of IPv4 (10.0.0.1 for the first, and so on) and of IPv6 (fd00::1), its own
        loopback, and its name, with which others find it. Upper and lower case do not differ.

        Raises:
            ValueError: if it cannot be the name of a host.
        """
        key = name.lower()
        hosts = self._fabric.hosts
        if key not in hosts:
            _check_name(key)
            number = len(hosts)
            ipv4 = str(ipaddress.IPv4Address("10.0.0.0") + number // 254 * 256 + number % 254 + 1)
            ipv6 = str(ipaddress.IPv6Address("fd00::") + number + 1)
            hosts[key] = VirtualHost(key, ipv4, ipv6, self._fabric, self._open_nursery)
            self._fabric.by_address.update({ipv4: hosts[key], ipv6: hosts[key]})
        return hosts[key]

    @property
    def hosts(self) -> tuple[VirtualHost, ...]:
        """All hosts, in order of creation."""
        return tuple(self._fabric.hosts.values())

    def _find(self, host: Host) -> VirtualHost:
        name = host if isinstance(host, str) else host.name
        found = self._fabric.hosts.get(name.lower())
        if found is None or (isinstance(host, VirtualHost) and found is not host):
            known = ", ".join(self._fabric.hosts) or "none"
            raise UnknownHostError(f"there is no host {name!r} in this network; there are: {known}")
        return found

    # Links and weather.

    def link(self, one: Host, other: Host) -> Link:
        """The link between two hosts, on which latency, loss and more can be set. Symmetric.

        Raises:
            UnknownHostError: if there is no such host.
            ValueError: if both are the same.
        """
        here, there = self._find(one), self._find(other)
        if here is there:
            raise ValueError(f"{here.name} has no link with itself: its loopback is always there")
        directions = {
            there.name: self._fabric.direction(here.name, there.name),
            here.name: self._fabric.direction(there.name, here.name),
        }

        def toward(host: Host) -> Direction:
            name = self._find(host).name
            if name not in directions:
                raise ValueError(f"{name} is at no end of the link of {here.name} and {there.name}")
            return directions[name]

        return Link(directions[there.name], directions[here.name], toward)

    def partition(self, some: Hosts, others: Hosts, *, one_way: bool = False) -> None:
        """Cut hosts off from each other: what they send to each other is dropped, until `repair`.

        Args:
            some: A host, or several.
            others: Likewise.
            one_way: Only what `some` send to `others` is dropped.

        What is under way already arrives. Links within each of the groups are not touched.

        Raises:
            UnknownHostError: if there is no such host.
            ValueError: if a host is in both groups.
        """
        pairs = self._pairs(some, others, one_way=one_way)
        self._fabric.cuts.update(pairs)
        self._log("partition", pairs)

    def repair(
        self, some: Hosts | None = None, others: Hosts | None = None, *, one_way: bool = False
    ) -> None:
        """Undo `partition` between two hosts or groups; without arguments, everywhere."""
        pairs = self._pairs_or_all(some, others, self._fabric.cuts, one_way=one_way)
        self._fabric.cuts.difference_update(pairs)
        self._log("repair", pairs)

    def hold(self, some: Hosts, others: Hosts, *, one_way: bool = False) -> None:
        """Have all packets between hosts wait for `release`; arguments as for `partition`."""
        pairs = self._pairs(some, others, one_way=one_way)
        for pair in pairs:
            self._fabric.held.setdefault(pair, [])
        self._log("hold", pairs)

    def release(
        self, some: Hosts | None = None, others: Hosts | None = None, *, one_way: bool = False
    ) -> None:
        """Let packets go again, first those that waited; without arguments, everywhere."""
        pairs = self._pairs_or_all(some, others, self._fabric.held, one_way=one_way)
        self._log("release", pairs)
        now = trio.current_time()
        for pair in pairs:
            for packet in self._fabric.held.pop(pair, ()):
                self._fabric.forward(packet, now)

    @contextlib.contextmanager
    def rule(self, rule: Rule) -> Iterator[None]:
        """Ask a function about each packet, within the block; see `trionet.testing.network._rules`."""
        if not callable(rule):
            raise TypeError(f"a rule is a function of a packet, not {rule!r}")

        def installed(packet: Packet) -> Verdict | None:
            return rule(packet)

        self._fabric.rules.append(installed)  # one of its own, if the same rule is installed twice
        try:
            yield
        finally:
            self._fabric.rules.remove(installed)

    def _pairs(self, some: Hosts, others: Hosts, *, one_way: bool) -> list[tuple[str, str]]:
        here, there = self._group(some), self._group(others)
        for name in here:
            if name in there:
                raise ValueError(f"{name} cannot be cut off from itself")
        pairs = [(one, other) for one in here for other in there]
        return pairs if one_way else [*pairs, *((other, one) for one, other in pairs)]

    def _pairs_or_all(
        self, some: Hosts | None, others: Hosts | None, all_pairs: Iterable[tuple[str, str]], *, one_way: bool
    ) -> list[tuple[str, str]]:
        if some is None and others is None:
            return sorted(all_pairs)
        if some is None or others is None:
            raise TypeError("say both sides, or neither for all")
        return self._pairs(some, others, one_way=one_way)

    def _group(self, hosts: Hosts) -> dict[str, None]:
        several = (hosts,) if isinstance(hosts, VirtualHost | str) else hosts
        return {self._find(host).name: None for host in several}

    def _log(self, what: str, pairs: list[tuple[str, str]]) -> None:
        if self._nursery is not None:
            text = ", ".join(f"{one}>{other}" for one, other in pairs)
            self.trace.record(trio.current_time(), f"{what} of {text}", None)

    # Looking.

    def netstat(self, host: Host) -> Netstat:
        """The sockets of a host and their queues; as text, a table."""
        return netstat(self._find(host).stack)


@contextlib.asynccontextmanager
async def open_virtual_network(
    *,
    seed: int | str = 0,
    latency: float = 0.0,
    jitter: float = 0.0,
    loss: float = 0.0,
    duplicate: float = 0.0,
    reorder: float = 0.0,
    bandwidth: float = math.inf,
    allow_real: bool = False,
    trace_length: int = 10_000,
) -> AsyncIterator[VirtualNetwork]:
    """A virtual network in the current run of Trio; the arguments are those of `VirtualNetwork`.

    What the block raises leaves as it is; so does an exception of a host's task, which ends the block. Only
    where there is more than one they come in a group.

    Raises:
        RuntimeError: outside of a run, or if another one is open.
    """
    async with VirtualNetwork(
        seed=seed,
        latency=latency,
        jitter=jitter,
        loss=loss,
        duplicate=duplicate,
        reorder=reorder,
        bandwidth=bandwidth,
        allow_real=allow_real,
        trace_length=trace_length,
    ) as network:
        yield network


def _check_name(name: str) -> None:
    is_address = True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        is_address = False
    if is_address or name == LOCALHOST or not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} cannot be the name of a host")
