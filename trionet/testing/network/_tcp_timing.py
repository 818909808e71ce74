"""The timers of TCP, with Linux's defaults. Times are in seconds."""

from __future__ import annotations

import math
from typing import Final

#: An acknowledgement waits so long for data to travel with; Linux takes from 0.04 to 0.2.
ACK_DELAY: Final = 0.1

#: Attempts to connect are repeated 1, 2, 4, ... s apart, and given up after 127 s.
SYN_RETRIES: Final = 6
#: The answer to one is given up after 63 s.
SYN_ACK_RETRIES: Final = 5
FIRST_TIMEOUT: Final = 1.0
SHORTEST_TIMEOUT: Final = 0.2
LONGEST_TIMEOUT: Final = 120.0

# How long data may stay without acknowledgement: 16 timeouts from 0.2 s on, doubling up to 120 s; and of
# connections that nobody holds any more: 9 of them. A little less, because such sums are not exact.
GIVE_UP_TIME: Final = 924.6 - 1e-3
ORPHAN_GIVE_UP_TIME: Final = 102.2 - 1e-3

#: How long the number of a closed connection stays taken, on the side that closed first.
TIME_WAIT_TIME: Final = 60.0
#: How long to wait for the peer's FIN when nobody holds the connection any more.
FIN_WAIT_2_TIME: Final = 60.0


class RetransmissionTimer:
    """When to send again what was not acknowledged, or to ask whether the window is open (RFC 6298).

    Attributes:
        at: When it is due; infinity if it does not run.
        backoffs: How often it has been since anything was acknowledged.
    """

    __slots__ = ("_deviation", "_mean", "_measured_at", "_measuring", "_since", "_timeout", "at", "backoffs")

    def __init__(self) -> None:
        self.at = math.inf
        self.backoffs = 0
        self._timeout = FIRST_TIMEOUT
        self._mean = -1.0
        self._deviation = 0.0
        self._measuring = -1  # acknowledged up to here, a round trip has been measured
        self._measured_at = 0.0
        self._since = math.inf

    def start(self, now: float) -> None:
        """Run, if it does not yet."""
        if self.at == math.inf:
            self.at = now + self._timeout
            self._since = now

    def sent(self, end: int, now: float) -> None:
        """What ends there was sent for the first time."""
        if self._measuring < 0:
            self._measuring = end
            self._measured_at = now
        self.start(now)

    def repeated(self, now: float) -> None:
        """Something was sent again: what is acknowledged next says nothing about round trips."""
        self._measuring = -1
        if self.at == math.inf:
            self.at = now + self._timeout

    def acknowledged(self, ack: int, now: float, *, outstanding: bool) -> None:
        """The peer has got everything before `ack`, which is news."""
        if 0 <= self._measuring <= ack:
            self._measure(now - self._measured_at)
            self._measuring = -1
        elif self.backoffs:
            self._set_timeout()
        self.backoffs = 0
        self._since = now
        self.at = now + self._timeout if outstanding else math.inf

    def back_off(self, now: float) -> None:
        """It was due; run again for twice as long."""
        self.backoffs += 1
        self._timeout = min(2 * self._timeout, LONGEST_TIMEOUT)
        self.at = now + self._timeout

    def unanswered(self, now: float) -> float:
        """For how long the peer has acknowledged nothing."""
        return now - self._since

    def probe_answered(self, now: float) -> None:
        """The peer lives, but its window may still be closed."""
        self._since = now

    def stop(self) -> None:
        """Be due no more."""
        self.at = math.inf
        if self.backoffs:
            self.backoffs = 0
            self._set_timeout()

    def _measure(self, round_trip: float) -> None:
        if self._mean < 0:
            self._mean, self._deviation = round_trip, round_trip / 2
        else:
            self._deviation += (abs(round_trip - self._mean) - self._deviation) / 4
            self._mean += (round_trip - self._mean) / 8
        self._set_timeout()

    def _set_timeout(self) -> None:
        if self._mean < 0:
            self._timeout = FIRST_TIMEOUT
        else:
            self._timeout = min(self._mean + max(SHORTEST_TIMEOUT, 4 * self._deviation), LONGEST_TIMEOUT)


class Keepalive:
    """When to ask a silent peer for a sign of life (SO_KEEPALIVE).

    Attributes:
        at: When it is due; infinity while it is off.
        idle: Seconds of silence before the first question (TCP_KEEPIDLE).
        interval: Seconds from one question to the next (TCP_KEEPINTVL).
        count: Questions that may go without answer (TCP_KEEPCNT).
    """

    __slots__ = ("_asked", "_heard_at", "at", "count", "idle", "interval")

    def __init__(self) -> None:
        self.at = math.inf
        self.idle = 7200.0
        self.interval = 75.0
        self.count = 9
        self._asked = 0
        self._heard_at = -math.inf

    def start(self, now: float) -> None:
        """Turn it on, or apply other settings."""
        self.at = now + self.idle if self._heard_at == -math.inf else max(now, self._heard_at + self.idle)

    def stop(self) -> None:
        """Turn it off."""
        self.at = math.inf

    def heard(self, now: float) -> None:
        """There was a sign of life."""
        self._heard_at = now
        self._asked = 0

    def postpone(self, now: float) -> None:
        """Do not ask now."""
        self.at = now + self.idle

    def ask(self, now: float) -> bool:
        """It is due: whether to ask. If not, either it is too early, or, with `at` still due, too late."""
        if not self._asked and now < self._heard_at + self.idle:
            self.at = self._heard_at + self.idle
            return False
        if self._asked >= self.count:
            return False
        self._asked += 1
        self.at = now + self.interval
        return True
