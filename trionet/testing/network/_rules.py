"""Rules: functions that say what becomes of a packet.

A rule is asked about each packet when it is sent, before anything of the link counts, and answers with a
verdict, or with None if it has no opinion. Times and counts in a verdict are finite and not negative. Of
several rules the one that was installed first is asked first, and the first verdict wins. A rule is called in
the middle of the network's work: it must not wait, and what it raises ends the network, because nobody else
would see it. It may crash, pause or cut off hosts.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final, NamedTuple, TypeAlias

from trionet.testing.network._packets import Packet


class Deliver(NamedTuple):
    """Go the link's way, and ask no further rule. There is one: `DELIVER`."""


class Drop(NamedTuple):
    """Do not arrive. There is one: `DROP`."""


class Delay(NamedTuple):
    """Go the link's way, and arrive later by so many seconds. Packets behind it may overtake it."""

    seconds: float


class Duplicate(NamedTuple):
    """Go the link's way, and arrive several times: `copies` times more."""

    copies: int = 1


class Reset(NamedTuple):
    """Of TCP: deliver the first `after` bytes of the payload, then reset both ends, as a firewall may do.

    A SYN is refused by this. Of other protocols the packet is dropped.
    """

    after: int = 0


Verdict: TypeAlias = Deliver | Drop | Delay | Duplicate | Reset
Rule: TypeAlias = Callable[[Packet], Verdict | None]

DELIVER: Final = Deliver()
DROP: Final = Drop()


def check_verdict(verdict: object, rule: Rule) -> None:
    """See whether what a rule gave is a verdict.

    Raises:
        TypeError: if it is none.
        ValueError: if it says what cannot be done.
    """
    if not isinstance(verdict, Verdict):
        raise TypeError(f"{rule!r} gave {verdict!r}, which is no verdict")
    values: tuple[object, ...] = tuple(verdict)
    if isinstance(verdict, Delay):
        possible = all(isinstance(value, int | float) and 0 <= value < math.inf for value in values)
    else:
        possible = all(isinstance(value, int) and value >= 0 for value in values)
    if not possible:
        raise ValueError(f"{rule!r} gave {verdict!r}, which cannot be done")


def reset_after(
    count: int, *, src: str | None = None, dst: str | None = None, port: int | None = None
) -> Rule:
    """A rule that resets TCP connections at a certain byte.

    Args:
        count: So many bytes of a stream arrive, and then both ends see a reset; 0 lets no byte arrive.
        src: Only streams from this host.
        dst: Only streams to this host.
        port: Only streams to this port.
    """
    if count < 0:
        raise ValueError(f"a stream has no byte {count}")

    def rule(packet: Packet) -> Verdict | None:
        if packet.protocol != "tcp" or not packet.payload:
            return None
        if src not in (None, packet.src.host) or dst not in (None, packet.dst.host):
            return None
        if port not in (None, packet.dst.port):
            return None
        place = count - packet.offset
        return Reset(max(0, place)) if place <= len(packet.payload) else None

    return rule
