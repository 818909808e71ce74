"""Subscriptions under any schedule of faults: never wrong, and soon after the repair up to date."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from random import Random
from typing import Final

import pytest
import trio

import trionet
from tests.lab.faults import KINDS, Faults
from tests.lab.published_history import History, Witness
from tests.lab.servers import PORT, Server
from tests.wire.values import identical
from trionet.testing import Lab, Packet, VirtualHost

SEEDS = 200

# How long after the repair a subscriber may be behind, in seconds, and 2 more for packets on their way.
# Either it notices that its connection is gone: after 40 s of silence, or 60 s without an answer to a new
# subscription. Then, and after an attempt to connect that was cut off, which ends after 10 s, it waits up to
# 10 s and connects. Or the connection has outlasted the faults, and the subscriber hears signs of life while
# TCP of the publisher still waits before it repeats what was lost: for 120 s at most.
CONNECTED_AGAIN: Final = 60 + 10 + 2
RETRANSMITTED: Final = 120 + 2

#: What has happened to the subscriptions of all seeds.
seen: Counter[str] = Counter()


@pytest.fixture(autouse=True, scope="module")
def quiet() -> Iterator[None]:
    """Of all those outages nothing need be said."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


class Follower:
    """A subscriber, and what it notes.

    Attributes:
        equal_at: When it was equal to the publisher after the repair.
        kept: Whether it had the same connection all the time since then.
        repaired: To be set after the repair.
    """

    def __init__(self, history: History) -> None:
        self.equal_at = -math.inf
        self.kept = False
        self.repaired = trio.Event()
        self._history = history
        self._witness = Witness(history)

    async def run(self, lab: Lab) -> None:
        witness = self._witness
        async with trionet.open_subscription(
            "server", PORT, "state", rng=lab.random, build=witness.build, on_mod=witness.see
        ) as subscription:
            self.kept = not self.repaired.is_set()
            async with trio.open_nursery() as nursery:
                if lab.random.random() < 0.5:
                    nursery.start_soon(self._iterate, lab.random, subscription)
                await self.repaired.wait()
                nursery.cancel_scope.cancel()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._watch, subscription)
                await subscription.wait_value(self._is_equal)
                self.equal_at = trio.current_time()
                nursery.cancel_scope.cancel()
        seen.update(witness.seen)

    def _is_equal(self, value: object) -> bool:
        return identical(value, self._history.notifier.raw_view)

    async def _iterate(self, random: Random, subscription: trionet.Subscription) -> None:
        """Iterate, in loops that are left after some mods, and not always at once."""
        while True:
            left = random.randrange(1, 20)
            async for _ in subscription:
                left -= 1
                if not left:
                    break
                await trio.sleep(random.choice([0, 0, 0, 1]))
            await trio.sleep(random.choice([0, 1]))

    async def _watch(self, subscription: trionet.Subscription) -> None:
        await subscription.connected.wait_value(False)
        self.kept = False


@pytest.mark.lab(seeds=SEEDS)
async def test_after_the_repair_all_are_equal_to_the_publisher(lab: Lab) -> None:
    random = lab.random
    history = History(random)
    server = Server(lab.host("server"), history.publish)
    clients = [lab.host(f"client{number}") for number in range(random.randrange(1, 4))]
    for client in clients:
        lab.link(server.host, client).latency = random.choice([0, 0.001, 0.1])
    if random.random() < 0.9:
        await server.start()
    else:
        server.start_in(random.uniform(0, 30))
    faults = Faults(lab, server, clients)

    async def go_wrong() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(history.keep_changing, 5.0)
            await trio.sleep(random.uniform(0, 10))
            await faults.happen(random.randrange(1, 6), 90)
            nursery.cancel_scope.cancel()

    await follow_until_equal(lab, server, history, clients, go_wrong)
    seen["resyncs"] += sum(one.resyncs for one in server.handle.statistics().subscribers)
    seen["seeds"] += 1
    seen.update(faults.seen)


@pytest.mark.lab(seeds=SEEDS)
async def test_after_a_partition_that_begins_with_any_packet_of_a_connection(lab: Lab) -> None:
    """Minutes of it: longer than it takes either side to give up, and to wait ever longer."""
    random = lab.random
    history = History(random)
    server, client = Server(lab.host("server"), history.publish), lab.host("client")
    lab.link(server.host, client).latency = random.choice([0, 0.001, 0.1])
    await server.start()
    left = random.randrange(12)
    sides = random.sample([server.host, client], 2)
    one_way = random.random() < 0.5
    begun = trio.Event()

    def cut(_: Packet) -> None:
        nonlocal left
        left -= 1
        if left < 0 and not begun.is_set():
            lab.partition(*sides, one_way=one_way)
            begun.set()

    async def go_wrong() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(history.keep_changing, random.choice([5.0, 100.0]))
            with lab.rule(cut):
                await begun.wait()
            await trio.sleep(random.uniform(0, 400))
            nursery.cancel_scope.cancel()
        lab.repair()

    await follow_until_equal(lab, server, history, [client], go_wrong)


async def follow_until_equal(
    lab: Lab,
    server: Server,
    history: History,
    clients: Sequence[VirtualHost],
    go_wrong: Callable[[], Awaitable[None]],
) -> None:
    """Follow a publisher from the clients while something goes wrong, and until they have caught up."""
    followers = [Follower(history) for _ in clients]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.keep_serving)
        async with trio.open_nursery() as following:
            for follower, client in zip(followers, clients, strict=True):
                with client.entered():
                    following.start_soon(follower.run, lab)
            await go_wrong()
            repaired = trio.current_time()
            history.change()
            for follower in followers:
                follower.repaired.set()
            following.cancel_scope.deadline = repaired + 1000
        nursery.cancel_scope.cancel()
    for follower in followers:
        took = follower.equal_at - repaired
        assert 0 <= took < (RETRANSMITTED if follower.kept else CONNECTED_AGAIN)
        seen["connection kept" if follower.kept else "connected again"] += 1
        seen["at once" if took < 1 else "later"] += 1


def test_the_seeds_have_met_everything() -> None:
    """Or the test above says little."""
    if seen["seeds"] < SEEDS:
        pytest.skip("in the company of all seeds only")
    for kind in KINDS:
        assert seen[kind] >= 20, kind
    for action in ("init", "setitem", "delitem", "append", "insert", "pop"):
        assert seen[action] >= 100, action
    for what in ("connection kept", "connected again", "at once", "later", "resyncs"):
        assert seen[what] >= 50, what
