"""Links: how long packets are under way, and which arrive."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any, Final

from trionet.testing.network._packets import Packet

#: Bytes that a link with a bandwidth keeps waiting, as a switch would; what comes then is dropped.
QUEUE_LIMIT: Final = 512 * 1024

# What can be set, with its default and the bounds.
_SETTINGS: Final = {
    "latency": (0.0, 0.0, math.inf),
    "jitter": (0.0, 0.0, math.inf),
    "loss": (0.0, 0.0, 1.0),
    "duplicate": (0.0, 0.0, 1.0),
    "reorder": (0.0, 0.0, 1.0),
    "bandwidth": (math.inf, 0.0, math.inf),
}
_FINITE: Final = ("latency", "jitter")


def check_setting(name: str, value: float) -> float:
    """The value as a float.

    Raises:
        ValueError: if the setting cannot have it.
    """
    _, low, high = _SETTINGS[name]
    number = float(value)
    if not low <= number <= high or (name in _FINITE and math.isinf(number)):
        raise ValueError(f"{name} cannot be {value!r}")
    if name == "bandwidth" and number == 0.0:
        raise ValueError("a bandwidth of 0 lets nothing through: use partition() or hold()")
    return number


class Direction:
    """One direction of a link.

    Packets keep their order, jitter or not, but for those that `reorder` picks. What is set applies to
    packets sent from then on: one sent after the latency was lowered, or the bandwidth raised, may arrive
    before earlier ones.

    Attributes:
        latency: Seconds under way.
        jitter: Seconds more at the most, evenly distributed.
        loss: Probability that a packet is lost.
        duplicate: Probability that a packet arrives twice.
        reorder: Probability that a packet takes a detour, of up to the latency and the jitter once more,
            on which those behind it may overtake it. TCP puts them in order again.
        bandwidth: Bits per second. Packets wait for each other, and are dropped beyond `QUEUE_LIMIT` bytes.
        plain: Whether the latency is all there is to it.
    """

    latency: float
    jitter: float
    loss: float
    duplicate: float
    reorder: float
    bandwidth: float

    def __init__(self, seed: str, **settings: float) -> None:
        self._random = random.Random(seed)
        self._free_at = 0.0  # when the last bit has left
        self._rate = math.inf  # the bandwidth that this was computed for
        self._last = 0.0  # when the last packet arrives
        self.plain = True
        for name, (default, _, _) in _SETTINGS.items():
            object.__setattr__(self, name, check_setting(name, settings.pop(name, default)))
        if settings:
            raise TypeError(f"a link has no {', '.join(settings)}")
        self._consider()

    @property
    def settings(self) -> dict[str, float]:
        """All that can be set."""
        return {name: getattr(self, name) for name in _SETTINGS}

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _SETTINGS:
            object.__setattr__(self, name, check_setting(name, value))
            self._last = 0.0
            self._consider()
        else:
            object.__setattr__(self, name, value)

    def _consider(self) -> None:
        changes = (self.jitter, self.loss, self.duplicate, self.reorder)
        self.plain = not any(changes) and self.bandwidth == math.inf

    def arrivals(self, packet: Packet, now: float) -> tuple[float, ...] | str:
        """When a packet sent now arrives, once or more often; or why it does not."""
        chance = self._random.random
        if self.loss and chance() < self.loss:
            return "loss"
        left = now
        if self.bandwidth != math.inf:
            if self._rate != self.bandwidth:
                if self._free_at > now:  # as many bytes wait as before, but not as long
                    self._free_at = now + (self._free_at - now) * self._rate / self.bandwidth
                self._rate = self.bandwidth
            left = max(now, self._free_at)
            if (left - now) * self.bandwidth > QUEUE_LIMIT * 8:
                return "queue of the link full"
            left += packet.size * 8 / self.bandwidth
            self._free_at = left
        arrival = left + self.latency
        if self.jitter:
            arrival += self.jitter * chance()
        if self.reorder and chance() < self.reorder:
            arrival += (self.latency + self.jitter) * chance()
        else:
            arrival = self._last = max(arrival, self._last)
        if self.duplicate and chance() < self.duplicate:
            return arrival, arrival + self.jitter * chance()
        return (arrival,)


def _both(name: str, doc: str) -> Any:
    def get(link: Link) -> float:
        there, back = getattr(link.there, name), getattr(link.back, name)
        if there != back:
            raise ValueError(f"the directions differ in {name}: ask link.toward(host).{name}")
        return float(there)

    def put(link: Link, value: float) -> None:
        check_setting(name, value)  # before one of them is changed
        setattr(link.there, name, value)
        setattr(link.back, name, value)

    return property(get, put, doc=doc)


class Link:
    """What lies between two hosts. Each setting applies to both directions, and to packets sent from then on.

    Reading a setting in which the directions differ is a `ValueError`.
    """

    def __init__(self, there: Direction, back: Direction, toward: Callable[[Any], Direction]) -> None:
        self.there = there
        self.back = back
        self._toward = toward

    latency = _both("latency", "Seconds under way.")
    jitter = _both("jitter", "Seconds more at the most, evenly distributed; packets keep their order.")
    loss = _both("loss", "Probability that a packet is lost.")
    duplicate = _both("duplicate", "Probability that a packet arrives twice.")
    reorder = _both("reorder", "Probability that a packet is overtaken by those behind it.")
    bandwidth = _both("bandwidth", "Bits per second, headers included; infinite by default.")

    def toward(self, host: Any) -> Direction:
        """The direction to one of the two hosts, with the same settings.

        Raises:
            ValueError: if the host is not at an end of this link.
        """
        return self._toward(host)
