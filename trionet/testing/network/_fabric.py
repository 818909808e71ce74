"""The fabric: takes packets from one host to another, and wakes timers, at their time.

One task does all of it. It sleeps until the next thing is due, does everything that is due at that instant,
and sleeps again; there is no task for a packet, a connection or a timer. Things due at one instant are done
in the order in which they were asked for. A packet never arrives while it is being sent: even without
latency it is this task that delivers it.
"""

from __future__ import annotations

import errno
import math
from collections.abc import Callable
from heapq import heappop, heappush
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any, Final

import trio

from trionet.testing.network._links import Direction
from trionet.testing.network._packets import SEQUENCE_SPACE, Packet
from trionet.testing.network._rules import Delay, Deliver, Drop, Duplicate, Reset, Rule, Verdict
from trionet.testing.network._trace import Trace

if TYPE_CHECKING:
    from trionet.testing.network._host import VirtualHost

#: Seconds until a host gives up asking who has an address.
ADDRESS_LOOKUP_TIME: Final = 3.0


class Fabric:
    """What connects the hosts of one network.

    Attributes:
        hosts: The hosts by name, in order of creation.
        by_address: The hosts by address.
        trace: The packet log.
        rules: Those installed, in order.
        cuts: Pairs of names: packets from the first to the second are dropped.
        held: By pairs of names: packets that wait for `release`.
        defaults: Settings of links of which none was set.
    """

    def __init__(self, seed: int | str, trace: Trace, settings: dict[str, float]) -> None:
        self.hosts: dict[str, VirtualHost] = {}
        self.by_address: dict[str, VirtualHost] = {}
        self.trace = trace
        self.rules: list[Rule] = []
        self.cuts: set[tuple[str, str]] = set()
        self.held: dict[tuple[str, str], list[Packet]] = {}
        self.defaults = Direction("", **settings)
        self._seed = seed
        self._directions: dict[tuple[str, str], Direction] = {}
        self._agenda: list[tuple[float, int, Callable[[Any], object], Any]] = []
        self._order = 0
        self._connections = 0
        self._task: trio.lowlevel.Task | None = None  # while it sleeps
        self._alarm = trio.CancelScope()
        self._failure: BaseException | None = None
        self._stopped = False

    # Time.

    async def run(self) -> None:
        """Work until `stop`; raises what a rule has raised.

        Not cancelled from outside: the tasks of the hosts may still send while they are.
        """
        with trio.CancelScope(shield=True):
            while not self._stopped and self._failure is None:
                self._do_what_is_due()
                if self._failure is None:
                    await self._sleep_until(self._agenda[0][0] if self._agenda else math.inf)
        if self._failure is not None:  # maybe of the last packet, when all was over
            raise self._failure

    def stop(self) -> None:
        """Let `run` return."""
        self._stopped = True
        self._wake()

    def call_at(self, due: float, function: Callable[[Any], object], argument: Any) -> None:
        """Have the fabric call a function, at a time of Trio's clock or right after."""
        self._order += 1
        heappush(self._agenda, (due, self._order, function, argument))
        if self._task is not None and due < self._alarm.deadline:
            if due <= trio.current_time():
                self._wake()
            else:
                self._alarm.deadline = due

    @property
    def agenda_length(self) -> int:
        """How many packets and timers there are to come."""
        return len(self._agenda)

    def _do_what_is_due(self) -> None:
        agenda = self._agenda
        now = trio.current_time()
        while agenda and agenda[0][0] <= now:
            _, _, function, argument = heappop(agenda)
            function(argument)

    async def _sleep_until(self, due: float) -> None:
        if due <= trio.current_time():  # a real clock went on meanwhile
            await trio.lowlevel.checkpoint()
            return
        task = trio.lowlevel.current_task()

        def abort(_: object) -> trio.lowlevel.Abort:
            # The alarm went off. It is our own, so instead of raising Cancelled just go on.
            self._wake()
            return trio.lowlevel.Abort.FAILED

        with trio.CancelScope(deadline=due) as self._alarm:
            self._task = task
            await trio.lowlevel.wait_task_rescheduled(abort)

    def _wake(self) -> None:
        task = self._task
        if task is not None:
            self._task = None
            trio.lowlevel.reschedule(task)

    # Packets.

    def send(self, packet: Packet) -> None:
        """Take a packet from a host."""
        now = trio.current_time()
        self.trace.record(now, "sent", packet)
        if self.rules:
            verdict = self._ask_rules(packet)
            if verdict is not None and not isinstance(verdict, Deliver):
                self._follow(verdict, packet, now)
                return
        self.forward(packet, now)

    def forward(self, packet: Packet, now: float, *, delay: float = 0.0, copies: int = 0) -> None:
        """Send a packet over its link."""
        src, dst = packet.src.host, packet.dst.host
        arrivals: tuple[float, ...] | str
        if src == dst:
            arrivals = (now,)
        elif not dst:
            self.drop(packet, now, "nobody has the address")
            self.call_at(now + ADDRESS_LOOKUP_TIME, self._report_unreachable, packet)
            return
        else:
            pair = (src, dst)
            if pair in self.cuts:
                self.drop(packet, now, "partition")
                return
            if pair in self.held:
                self.trace.record(now, "held", packet)
                self.held[pair].append(packet)
                return
            direction = self._directions.get(pair)
            if direction is None:
                direction = self.defaults if self.defaults.plain else self.direction(src, dst)
            plain = direction.plain
            arrivals = (now + direction.latency,) if plain else direction.arrivals(packet, now)
        if isinstance(arrivals, str):
            self.drop(packet, now, arrivals)
            return
        for arrival in chain(arrivals, repeat(arrivals[0], copies)) if copies else arrivals:
            self.call_at(arrival + delay, self._deliver, packet)

    def initial_sequence(self) -> int:
        """Where a connection begins to count its bytes."""
        self._connections += 1
        return self._connections * SEQUENCE_SPACE

    def drop(self, packet: Packet, now: float, why: str) -> None:
        """Note that a packet was dropped."""
        self.trace.record(now, "dropped", packet, why)

    def direction(self, src: str, dst: str) -> Direction:
        """The settings of the way from one host to another, which begin as the defaults."""
        pair = (src, dst)
        if pair not in self._directions:
            # A generator of random numbers for each: traffic elsewhere does not change what happens here.
            seed = f"{self._seed}/link/{src}>{dst}"
            self._directions[pair] = Direction(seed, **self.defaults.settings)
        return self._directions[pair]

    def _deliver(self, packet: Packet) -> None:
        host = self.hosts[packet.dst.host]
        if host.paused:
            host.put_off(self._deliver, packet)
        elif not host.stack.alive:
            self.drop(packet, trio.current_time(), "host is down")
        else:
            host.stack.deliver(packet)

    def _report_unreachable(self, packet: Packet) -> None:
        host = self.hosts[packet.src.host]
        if host.paused:
            host.put_off(self._report_unreachable, packet)
        elif host.stack.alive:
            host.stack.report_unreachable(packet, errno.EHOSTUNREACH)

    # Rules.

    def _ask_rules(self, packet: Packet) -> Verdict | None:
        for rule in tuple(self.rules):
            try:
                verdict = rule(packet)
                if verdict is not None:
                    if not isinstance(verdict, Deliver | Drop | Delay | Duplicate | Reset):
                        raise TypeError(f"{rule!r} gave {verdict!r}, which is no verdict")
                    return verdict
            except BaseException as error:
                # Raised here it would end up in whichever task happens to send. It is for the network's
                # owner: the fabric's task raises it.
                self._failure = self._failure or error
                self._wake()
                return Drop()
        return None

    def _follow(self, verdict: Verdict, packet: Packet, now: float) -> None:
        if isinstance(verdict, Delay):
            self.forward(packet, now, delay=verdict.seconds)
        elif isinstance(verdict, Duplicate):
            self.forward(packet, now, copies=verdict.copies)
        elif isinstance(verdict, Reset) and packet.protocol == "tcp":
            self._reset(packet, now, verdict.after)
        else:
            self.drop(packet, now, "rule")

    def _reset(self, packet: Packet, now: float, after: int) -> None:
        """Reset both ends of a packet's connection, each with a packet that seems to be the other's."""
        src, dst, seq, ack = packet.src, packet.dst, packet.seq, packet.ack
        self.drop(packet, now, f"rule, after {after} bytes" if after else "rule")
        begin = packet.payload[:after]
        syn = "S" in packet.flags
        if begin:
            self.forward(Packet("tcp", src, dst, begin, ".", seq, ack, packet.window), now)
        if not syn or "." in packet.flags:
            self.forward(Packet("tcp", src, dst, b"", "R.", seq + len(begin) + syn, ack), now)
        self.forward(Packet("tcp", dst, src, b"", "R.", ack, seq + syn), now)
