"""Rigs on a virtual network, for blocking code: in a portal on a mock clock."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import trio
from trio.testing import MockClock

import trionet
from trionet import ExpMessage, RigCommunicator, RigEvent
from trionet.testing import VirtualNetwork
from trionet_compat.portal import Portal, open_portal

#: Rigs and their hosts are called so.
NAMES = ("camera", "sound")

#: What Auxiliaries are given.
CLIENTS = {name: f"udp://{name}:11001" for name in NAMES}

#: Seconds from the controller to a rig.
LATENCY = 0.01

#: Seconds until the answers to a message are there: the way there, a pause behind the echo, the way back.
ANSWERED = 2 * LATENCY + 0.005


class LabRig:
    """A rig of trionet's own, on a host of its name.

    Attributes:
        received: The messages it was sent.
        silent: Whether it confirms them, and does not answer.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.received: list[list[Any]] = []
        self.silent = False
        self.communicator: RigCommunicator

    async def answer(self, event: RigEvent) -> None:
        self.received.append([int(event.event), *event.data])
        if not self.silent and event.event != ExpMessage.ALYX:
            await self.communicator.respond(event, *event.data, self.name)

    @contextlib.asynccontextmanager
    async def open(self, uri: str) -> AsyncIterator[None]:
        async with trionet.open_rig_listener(uri, name=self.name) as self.communicator:
            self.communicator.assign_callback(ExpMessage.any(), self.answer)
            yield


class BlockingLab:
    """A laboratory for blocking code, in a block ``with open_blocking_lab() as lab``."""

    def __init__(self, portal: Portal, network: VirtualNetwork) -> None:
        self.portal = portal
        self.network = network
        self.rigs = {name: LabRig(name) for name in NAMES}

    def start_rigs(self, scheme: str) -> None:
        for name, rig in self.rigs.items():
            host = self.network.host(name)
            self.portal.call(host.start, _keep_open, rig.open(f"{scheme}://0.0.0.0:11001"))

    @contextlib.contextmanager
    def measured(self) -> Iterator[Callable[[], float]]:
        """How long the block took, on the mock clock."""
        began = self.portal.current_time()
        took: list[float] = []
        yield lambda: took[0]
        took.append(self.portal.current_time() - began)

    def call(self, async_fn: Callable[..., Awaitable[Any]], *args: Any) -> Any:
        return self.portal.call(async_fn, *args)


async def _keep_open(
    manager: contextlib.AbstractAsyncContextManager[None], *, task_status: trio.TaskStatus[None]
) -> None:
    async with manager:
        task_status.started()
        await trio.sleep_forever()


@contextlib.contextmanager
def open_blocking_lab(scheme: str = "udp") -> Iterator[BlockingLab]:
    """A portal, a network, and rigs on it. The calling thread is on the host "pc"."""
    network = VirtualNetwork(latency=LATENCY)
    with open_portal(clock=MockClock(autojump_threshold=0), network=network) as portal:
        lab = BlockingLab(portal, network)
        lab.start_rigs(scheme)
        with network.host("pc").entered():
            yield lab
