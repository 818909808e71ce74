"""What a best-effort client must do when, told from the times of outages alone.

The network of this model has no latency: whatever is answered is answered at once. What is left are the
times of the protocols: of TCP's attempts to connect and of keepalive, and those of the client.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Final, NamedTuple

#: Seconds from the beginning of one attempt to that of the next.
RETRY_INTERVAL: Final = 5.0
#: Seconds that the first attempt may take, and the others.
FIRST_TIMEOUT: Final = 1.0
CONNECT_TIMEOUT: Final = 10.0
#: When TCP asks for a connection, after the beginning of an attempt.
SYN_TIMES: Final = (0.0, 1.0, 3.0, 7.0)
#: Seconds after which a silent peer is asked, and again; and how often before it is given up.
KEEPALIVE: Final = 10.0
QUESTIONS: Final = 3
#: What is not answered is acknowledged after this time.
ACK_DELAY: Final = 0.1


class Phase(NamedTuple):
    """What there is from a time on.

    Attributes:
        start: The time.
        state: "serving"; "refusing": a host without a server; "down": no host; "silent": a partition, of a
            server that serves before and after it.
    """

    start: float
    state: str


class Happening(NamedTuple):
    """Something that a client did or saw: "attempt", "connected", "lost", "answer", "no answer"."""

    time: float
    what: str


class CallTime(NamedTuple):
    """A call: when, and whether it is one that lasts for ever."""

    time: float
    lasting: bool


def _make_phases(random: Random, seconds: float) -> list[Phase]:
    """Outages of all kinds."""
    phases = [Phase(0.0, random.choice(["serving", "serving", "refusing", "down"]))]
    while phases[-1].start < seconds:
        before = phases[-1].state
        if before == "silent":
            state = "serving"
        else:
            states = ["serving", "serving", "refusing", "down"] + 2 * ["silent"] * (before == "serving")
            state = random.choice([other for other in states if other != before])
        phases.append(Phase(phases[-1].start + random.uniform(1, random.choice([5, 20, 60])), state))
    return phases


def _make_calls(random: Random, phases: list[Phase]) -> list[CallTime]:
    """Calls, not too close to each other or to the begin of a phase: so TCP has acknowledged all in time."""
    times: list[float] = []
    taken = [phase.start for phase in phases]
    for _ in range(random.randrange(12)):
        time = random.uniform(FIRST_TIMEOUT, phases[-1].start)
        if all(abs(time - other) > 2 * ACK_DELAY for other in taken):
            times.append(time)
            taken.append(time)
    return [CallTime(time, random.random() < 0.2) for time in sorted(times)]


@dataclass
class _End:
    """One end of a connection, and when it asks for a sign of life."""

    heard: float
    asked: int = 0

    @property
    def due(self) -> float:
        return self.heard + KEEPALIVE * (self.asked + 1)

    def hear(self, now: float) -> None:
        self.heard, self.asked = now, 0


@dataclass
class Model:
    """Foretells what happens to a client that is opened at time 0.

    Attributes:
        phases: The outages.
        calls: The calls that are wanted.
        calls_made: Those that are made. Not in a connection over which nothing gets through, as TCP would
            try for a quarter of an hour to deliver them; nor when one that lasts is under way.
        opened: When the first attempt has ended.
        clear: Whether all can be foretold. Not if silence begins before TCP has acknowledged the handshake:
            it then goes on with that instead of asking for signs of life.
    """

    phases: list[Phase]
    calls: list[CallTime]
    calls_made: list[CallTime] = field(default_factory=list)
    opened: float = math.nan
    clear: bool = True

    @classmethod
    def make(cls, random: Random, seconds: float) -> Model:
        """A model of random outages and calls, of which all can be foretold."""
        while True:
            phases = _make_phases(random, seconds)
            calls = _make_calls(random, phases)
            model = cls(phases, calls)
            model.foretell()
            if model.clear:
                return cls(phases, calls)

    def state_at(self, time: float) -> str:
        """The state at a time."""
        return self.phases[bisect_right(self.phases, time, key=lambda phase: phase.start) - 1].state

    def foretell(self) -> list[Happening]:
        """All that happens up to the last phase, and maybe some of what would later."""
        return sorted(self._run())

    def _run(self) -> Iterator[Happening]:
        begin, since, limit = 0.0, 0.0, FIRST_TIMEOUT
        while begin < self.phases[-1].start:
            yield from self._calls_in_vain(since, begin)
            yield Happening(begin, "attempt")
            end, connected = self._attempt(begin, limit)
            if begin == 0:
                self.opened = end
            yield from self._calls_in_vain(begin, end)
            since = end
            if connected:
                yield Happening(end, "connected")
                lost, happenings = self._connection(end)
                yield from happenings
                yield Happening(lost, "lost")
                since = lost
            begin, limit = max(begin + RETRY_INTERVAL, since), CONNECT_TIMEOUT

    def _attempt(self, begin: float, limit: float) -> tuple[float, bool]:
        """When an attempt ends, and whether it succeeds."""
        for time in (begin + delay for delay in SYN_TIMES if delay < limit):
            state = self.state_at(time)
            if state in ("serving", "refusing"):
                return time, state == "serving"
        return begin + limit, False

    def _calls_in_vain(self, begin: float, end: float) -> Iterator[Happening]:
        for call in self.calls:
            if begin <= call.time < end:
                self.calls_made.append(call)
                yield Happening(call.time, "no answer")

    def _connection(self, begin: float) -> tuple[float, list[Happening]]:
        """When a connection is lost, and what becomes of the calls."""
        client, server = _End(begin), _End(begin + ACK_DELAY)
        phases = [phase for phase in self.phases if phase.start > begin]
        calls = [call for call in self.calls if call.time > begin]
        happenings: list[Happening] = []
        reachable, gone, lasting = True, False, False
        while True:
            next_phase = phases[0].start if phases else math.inf
            next_call = calls[0].time if calls else math.inf
            now = min(next_phase, next_call, client.due, math.inf if gone else server.due)
            if now == next_phase:
                before, state = self.state_at(math.nextafter(now, 0)), phases.pop(0).state
                if before == "serving" and state == "refusing" and not gone:
                    break  # the server says so
                if state == "silent" and now < begin + 2 * ACK_DELAY:
                    self.clear = False
                gone = gone or state == "down"
                reachable = state in ("serving", "refusing")
            elif now == next_call:
                call = calls.pop(0)
                if reachable and not gone and not lasting:
                    self.calls_made.append(call)
                    lasting = call.lasting
                    client.hear(now + (ACK_DELAY if lasting else 0))
                    server.hear(now + (0 if lasting else ACK_DELAY))
                    if not lasting:
                        happenings.append(Happening(now, "answer"))
            elif now == client.due:
                if (reachable and gone) or client.asked == QUESTIONS:
                    break
                self._ask(client, server, now, reachable)
            elif server.asked == QUESTIONS:
                if reachable:
                    break  # the server says so
                gone = True
            else:
                self._ask(server, client, now, reachable)
            if now > self.phases[-1].start:
                break
        if lasting:
            happenings.append(Happening(now, "no answer"))
        return now, happenings

    def _ask(self, end: _End, other: _End, now: float, reachable: bool) -> None:
        if reachable:
            end.hear(now)
            other.hear(now)
        else:
            end.asked += 1
