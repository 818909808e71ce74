"""After a network is closed, nothing is left of what ran on it, whatever became of its hosts."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Iterator

import pytest
import trio
from trio.testing import MockClock
from trio_util import AsyncValue

from tests.lab.front_ends import FRONT_ENDS, SERVER
from tests.lab.leftovers import (
    check_idle,
    check_nothing_pending,
    living_tasks,
    look_at_new_objects_only,
    objects_of_trionet,
)
from tests.lab.servers import PORT
from trionet import ServerHandle
from trionet.testing import VirtualNetwork, open_virtual_network

SEEDS = 200

#: Seconds for which TCP remembers connections that are over, at most: those whose peer does not answer.
LONGEST_TIMERS = 110.0

#: What has happened to the programs of all seeds.
seen: Counter[str] = Counter()


@pytest.fixture(autouse=True, scope="module")
def quiet() -> Iterator[None]:
    """Of all those outages nothing need be said; and of objects, only those of each test matter."""
    logging.disable(logging.CRITICAL)
    look_at_new_objects_only()
    yield
    logging.disable(logging.NOTSET)


class Programs:
    """Servers and clients of some front ends, on hosts of a network.

    Attributes:
        running: How many clients are in use.
        stacks: The network stacks of all hosts, those of hosts that have crashed included.
    """

    def __init__(self, network: VirtualNetwork) -> None:
        self.running = AsyncValue(0)
        self._network = network
        self._random = random = network.random
        self._server = network.host(SERVER)
        self._clients = [network.host(f"client{number}") for number in range(2)]
        self.stacks = [host.stack for host in network.hosts]
        names = random.sample(sorted(FRONT_ENDS), random.randrange(1, 4))
        self._ports = {name: PORT + number for number, name in enumerate(names)}
        self._servers: list[tuple[object, trio.CancelScope]] = []
        for client in self._clients:
            network.link(self._server, client).latency = random.choice([0, 0.001, 0.1])

    async def start(self) -> None:
        """Start the servers, and then some clients of each."""
        for name, port in self._ports.items():
            self._servers.append(await self._server.start(self._serve, name, port))
        for name, port in self._ports.items():
            for client in self._random.choices(self._clients, k=self._random.randrange(1, 4)):
                self.running.value += 1
                client.start_soon(self._use, name, port)

    async def _serve(
        self, name: str, port: int, *, task_status: trio.TaskStatus[tuple[object, trio.CancelScope]]
    ) -> None:
        async with trio.open_nursery() as nursery:
            handle = await nursery.start(FRONT_ENDS[name].serve, port)
            task_status.started((handle, nursery.cancel_scope))

    async def _use(self, name: str, port: int) -> None:
        try:
            succeeded = await FRONT_ENDS[name].use(port, self._random)
            seen[f"{name}: {'succeeded' if succeeded else 'failed'}"] += 1
        finally:
            self.running.value -= 1

    async def run_to_the_end(self) -> None:
        """Wait for the clients, and stop the servers, some of them gracefully and before the clients."""
        patience = self._random.choice([math.inf, math.inf, self._random.uniform(0, 10)])
        with trio.move_on_after(patience):
            await self.running.wait_value(0)
        for handle, scope in self._servers:
            if isinstance(handle, ServerHandle) and self._random.random() < 0.5:
                await handle.aclose(self._random.choice([0, 1, 10]))
            scope.cancel()
        await self.running.wait_value(0)

    def crash(self) -> None:
        """Crash some of the hosts; some come back, with nothing that runs."""
        for host in self._random.sample(self._network.hosts, self._random.randrange(1, 3)):
            host.crash()
            if self._random.random() < 0.5:
                host.restart()
                self.stacks.append(host.stack)


async def run_programs(seed: int) -> None:
    tasks = living_tasks()
    check_nothing_pending()
    async with open_virtual_network(seed=seed) as network:
        programs = Programs(network)
        await programs.start()
        way = network.random.choice(["to the end", "break", "crash"])
        if way == "to the end":
            await programs.run_to_the_end()
            await trio.sleep(LONGEST_TIMERS)
            check_idle(network)
        else:
            await trio.sleep(network.random.uniform(0, network.random.choice([1, 10])))
        if way == "crash":
            programs.crash()
            await trio.sleep(network.random.choice([0, 1, 100]))
        seen[f"{way}{', clients running' * (programs.running.value > 0)}"] += 1
    assert living_tasks() == tasks
    check_nothing_pending()
    for stack in programs.stacks:
        assert not stack.sockets


@pytest.mark.lab(seeds=SEEDS)
def test_no_task_timer_socket_or_object_is_left(lab_seed: int) -> None:
    before = objects_of_trionet()
    trio.run(run_programs, lab_seed, clock=MockClock(autojump_threshold=0))
    assert not objects_of_trionet() - before
    seen["seeds"] += 1


def test_the_seeds_have_met_everything() -> None:
    """Or the test above says little."""
    if seen["seeds"] < SEEDS:
        pytest.skip("in the company of all seeds only")
    for name in FRONT_ENDS:
        assert seen[f"{name}: succeeded"] >= 10, name
    for what in ("to the end", "break, clients running", "crash, clients running"):
        assert seen[what] >= 20, what
