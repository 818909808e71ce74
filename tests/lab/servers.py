"""Servers on hosts of a lab, which can end, crash, and be started again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import trio
from trio_util import AsyncBool

from trionet.testing import Lab, VirtualHost

PORT = 3251

#: Where servers listen: on all IPv4 addresses of their host, so that a name leads to one address.
EVERYWHERE = "0.0.0.0"


class Server:
    """A server that is started again some time after it has ended or its host has crashed.

    Args:
        host: Where it runs.
        program: Serves, and reports a `trionet.ServerHandle`; called for each start.

    Attributes:
        host: The host.
        handle: Of the latest start.
        serving: Whether clients can connect, as far as the network lets them.
    """

    def __init__(self, host: VirtualHost, program: Callable[..., Awaitable[None]]) -> None:
        self.host = host
        self.handle: Any = None
        self.serving = AsyncBool(False)
        self._program = program
        self._outage = 0.0
        self._over = trio.Event()

    async def start(self) -> None:
        """Start it, and its host if that has crashed."""
        if not self.host.running:
            self.host.restart()
        self.handle = await self.host.start(self._program)
        self.serving.value = True

    def crash(self, outage: float) -> None:
        """Cut the power of the host, for so many seconds. May be called by a rule."""
        if self.serving.value:
            self.host.crash()
            self._end(outage)

    def stop(self, outage: float) -> None:
        """End the program, not the host; its connections are closed. May be called by a rule."""
        if self.serving.value:
            self.handle.cancel_scope.cancel()
            self._end(outage)

    def start_in(self, seconds: float) -> None:
        """Have `keep_serving` start it after so many seconds, instead of calling `start`."""
        self._outage = seconds
        self._over.set()

    def _end(self, outage: float) -> None:
        self.serving.value = False
        self.start_in(outage)

    async def keep_serving(self) -> None:
        """Start it again after each outage, for ever."""
        while True:
            await self._over.wait()
            self._over = trio.Event()
            await trio.sleep(self._outage)
            await self.start()


def set_weather(lab: Lab, one: VirtualHost, other: VirtualHost) -> None:
    """Make a link as good or bad as the seed says: a third of them are perfect but for their latency."""
    link, random = lab.link(one, other), lab.random
    link.latency = random.choice([0.0, 0.001, 0.05, 0.2])
    if random.random() < 2 / 3:
        link.jitter = random.choice([0.0, 0.01, 0.1])
        link.loss = random.choice([0.0, 0.01, 0.1])
        link.duplicate = random.choice([0.0, 0.1])
        link.reorder = random.choice([0.0, 0.1])


def same_time(one: float, other: float) -> bool:
    """Whether two times of a mock clock are the same, but for how floats are rounded."""
    return abs(one - other) < 1e-6
