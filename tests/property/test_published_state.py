"""The invariant of published state: whatever happens, each connected subscriber ends equal to the publisher.

Hypothesis makes up a story: changes, subscribers that join, stall, and lose their connection at any byte,
publishers that are replaced by others with other content. It is played on the mock clock over links that hold
little, with a backlog that is soon exceeded. At its end everything may flow again, and all must be equal.
"""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

import trionet
from tests.front.feeds import Network, settle
from tests.wire.values import identical, pyon_values
from trionet import Notifier, NotifierNode, update_from_dict
from trionet._backoff import Backoff
from trionet.sync_struct._channel import Subscriber
from trionet.sync_struct.subscription import identity
from trionet.sync_struct.update import own_copy

MAX_BACKLOG = 300
CAPACITY = 64
NAMES = ("first", "second")


# -- changes --------------------------------------------------------------------------------------------

small = st.one_of(st.integers(-2, 2), st.sampled_from(["", "a", "b", None, (1,), 1.5]))
values = st.one_of(
    pyon_values,
    st.lists(st.integers(0, 9), max_size=4),
    st.dictionaries(st.sampled_from("abc"), st.lists(small, max_size=3), max_size=3),
    st.lists(st.integers(0, 9), min_size=1, max_size=6).map(lambda items: np.array(items, "<i4")),
    st.just("x" * 120),
)
slices = st.builds(slice, st.integers(-3, 3), st.integers(-3, 3) | st.none())
dicts = st.dictionaries(st.sampled_from("abcd"), values, max_size=4)


@dataclass(frozen=True)
class Change:
    """A change of what is found by going down from the root; how deep and where is made up, too."""

    notifier: int
    path: tuple[int, ...]
    action: str
    place: Any
    value: Any

    def node(self, root: NotifierNode) -> NotifierNode:
        node = root
        for choice in self.path:
            inside = node.raw_view
            if isinstance(inside, dict) and inside:
                node = node[[*inside][choice % len(inside)]]
            elif isinstance(inside, list) and inside:
                node = node[choice % len(inside) - (choice % 2) * len(inside)]
        return node

    def make(self, root: Notifier) -> None:
        """Make it; it may be one that is not possible."""
        node = self.node(root)
        value = fresh(self.value)
        match self.action:
            case "set":
                node[self.place] = value
            case "set slice":
                node[slice(self.place, None)] = value
            case "set existing":
                inside = node.raw_view
                node[next(iter(inside), 0) if isinstance(inside, dict) else 0] = value
            case "delete":
                del node[self.place]
            case "append":
                node.append(value)
            case "insert":
                node.insert(self.place, value)
            case "pop":
                node.pop(self.place)
            case "update":
                update_from_dict(node, value)
            case "update whole members":
                update_from_dict(node, value, nested=False)
            case "cannot be carried":
                node["object"] = object()

    async def play(self, laboratory: Laboratory) -> None:
        root = laboratory.notifiers[NAMES[self.notifier]]
        before = fresh(root.raw_view)
        try:
            self.make(root)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
            if not self.action.startswith("update"):
                assert identical(root.raw_view, before)
        if self.action == "cannot be carried" and isinstance(root.raw_view, dict):
            root.raw_view.pop("object", None)


def fresh(value: Any) -> Any:
    """A copy that shares nothing which can be changed: a notifier owns what it is given."""
    return own_copy(value)


changes = st.one_of(
    st.builds(
        Change,
        st.integers(0, 1),
        st.lists(st.integers(0, 3), max_size=3).map(tuple),
        st.sampled_from(["set", "append", "insert", "pop", "delete", "set existing"]),
        small | slices,
        values,
    ),
    st.builds(
        Change,
        st.integers(0, 1),
        st.lists(st.integers(0, 3), max_size=2).map(tuple),
        st.sampled_from(["set slice"]),
        st.integers(-3, 3),
        st.lists(st.integers(0, 9), max_size=4) | st.integers(0, 3),
    ),
    st.builds(
        Change,
        st.integers(0, 1),
        st.lists(st.integers(0, 3), max_size=1).map(tuple),
        st.sampled_from(["update", "update whole members"]),
        st.none(),
        dicts,
    ),
    st.builds(Change, st.integers(0, 1), st.just(()), st.just("cannot be carried"), st.none(), st.none()),
)


# -- what happens to connections ------------------------------------------------------------------------


@dataclass(frozen=True)
class Burst:
    """Many changes, with time in between for those who keep up."""

    notifier: int
    count: int
    settled: bool

    async def play(self, laboratory: Laboratory) -> None:
        root = laboratory.notifiers[NAMES[self.notifier]]
        for number in range(self.count):
            if isinstance(root.raw_view, dict):
                root[f"burst {number % 2}"] = (number, "y" * 50)
            else:
                root.insert(0, (number, "y" * 50))
            if self.settled:
                await settle()
            laboratory.check()


@dataclass(frozen=True)
class Join:
    notifier: int
    settled: bool
    mods_at_a_time: int | None

    async def play(self, laboratory: Laboratory) -> None:
        await laboratory.join(NAMES[self.notifier], self.mods_at_a_time)
        if self.settled:
            await settle()


@dataclass(frozen=True)
class Stall:
    which: int

    async def play(self, laboratory: Laboratory) -> None:
        for link in laboratory.choose(self.which):
            link.down.stall()


@dataclass(frozen=True)
class Resume:
    which: int

    async def play(self, laboratory: Laboratory) -> None:
        for link in laboratory.choose(self.which):
            link.down.resume()


@dataclass(frozen=True)
class Disconnect:
    which: int
    keep: int
    reset: bool

    async def play(self, laboratory: Laboratory) -> None:
        for link in laboratory.choose(self.which):
            link.cut(self.keep, reset=self.reset)


@dataclass(frozen=True)
class Restart:
    structures: tuple[Any, Any]
    graceful: bool

    async def play(self, laboratory: Laboratory) -> None:
        await laboratory.stop(self.graceful)
        await trio.sleep(0.3)
        await laboratory.start(self.structures)


@dataclass(frozen=True)
class Pause:
    """Time for the others: a single step, until nothing more happens, or long enough to connect again."""

    seconds: float | None

    async def play(self, laboratory: Laboratory) -> None:
        if self.seconds is None:
            await trio.lowlevel.checkpoint()
        elif self.seconds:
            await trio.sleep(self.seconds)
        else:
            await settle()


which = st.integers(0, 5)
structures = st.one_of(dicts, st.lists(values, max_size=3))
steps = st.one_of(
    changes,
    changes,
    changes,
    st.builds(Burst, st.integers(0, 1), st.integers(2, 8), st.booleans()),
    st.builds(Burst, st.integers(0, 1), st.integers(2, 8), st.booleans()),
    st.builds(Join, st.integers(0, 1), st.booleans(), st.none() | st.integers(1, 5)),
    st.builds(Stall, which),
    st.builds(Stall, which),
    st.builds(Resume, which),
    st.builds(Disconnect, which, st.integers(0, CAPACITY), st.booleans()),
    st.builds(Restart, st.tuples(structures, structures), st.booleans()),
    st.builds(Pause, st.sampled_from([None, None, 0, 0, 1.0])),
)


class Laboratory:
    """A publisher of two notifiers, and those who have subscribed to them."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.network = Network(CAPACITY)
        self.notifiers: dict[str, Notifier] = {}
        self.subscriptions: list[trionet.Subscription] = []
        self._resyncs: dict[Subscriber, int] = {}
        self._nursery = nursery
        self._publisher: trionet.Publisher | None = None

    async def start(self, structures: tuple[Any, Any]) -> None:
        self.notifiers = {
            name: Notifier(fresh(structure)) for name, structure in zip(NAMES, structures, strict=True)
        }
        self._publisher = await self._nursery.start(
            lambda **kw: trionet.serve_publisher(
                self.notifiers, 0, max_backlog=MAX_BACKLOG, listeners=self.network.listen(), **kw
            )
        )

    async def stop(self, graceful: bool) -> None:
        assert self._publisher is not None
        self.check()
        await self._publisher.aclose(1.0 if graceful else 0.0)

    async def join(self, name: str, mods_at_a_time: int | None = None) -> None:
        """A subscriber that comes to stay. Its structure may be held back, so this does not wait for it.

        With `mods_at_a_time` it iterates, in loops that are left after so many mods, with pauses in between.
        """
        subscription = trionet.Subscription(
            self.network.connect,
            peer="publisher",
            name=name,
            build=identity,
            on_mod=None,
            backoff=Backoff(0.1, 0.2, random.Random(1)),
            pyon_version=None,
            answer_timeout=5.0,
            max_message_size=10**6,
        )
        self.subscriptions.append(subscription)
        self._nursery.start_soon(self._follow, subscription, mods_at_a_time)
        await trio.lowlevel.checkpoint()

    async def _follow(self, subscription: trionet.Subscription, mods_at_a_time: int | None) -> None:
        async with subscription._reader.running():
            while mods_at_a_time is not None:
                left = mods_at_a_time
                async for _ in subscription:
                    left -= 1
                    if not left:
                        break
                await trio.sleep(0.05)
            await trio.sleep_forever()

    def choose(self, number: int) -> list[Any]:
        """One of the links that are open, if there is any."""
        links = [link for link in self.network.links if not link.closed]
        return [links[number % len(links)]] if links else []

    @property
    def resyncs(self) -> int:
        """How often a backlog was dropped so far."""
        return sum(self._resyncs.values())

    def check(self) -> None:
        """Nobody has more waiting than is allowed."""
        assert self._publisher is not None
        for channel in self._publisher._channels.values():
            for subscriber in channel.subscribers:
                assert channel.backlog(subscriber) - subscriber.taken <= MAX_BACKLOG
                assert channel.lag(subscriber) >= 0
                self._resyncs[subscriber] = subscriber.resyncs

    async def finish(self) -> None:
        """Let everything flow, and compare."""
        for link in self.network.links:
            link.down.resume()
            link.down.resize(math.inf)
        self.network.capacity = math.inf
        await trio.sleep(60)
        assert self._publisher is not None
        for subscription in self.subscriptions:
            assert subscription.connected.value
            structure = self.notifiers[subscription.name].raw_view
            assert identical(subscription.value, structure), (subscription.value, structure)
        statistics = self._publisher.statistics()
        assert statistics.connections == len(self.subscriptions)
        assert [(one.lag, one.backlog) for one in statistics.subscribers] == [(0, 0)] * len(
            self.subscriptions
        )


async def play(structures: tuple[Any, Any], story: list[Any]) -> int:
    async with trio.open_nursery() as nursery:
        laboratory = Laboratory(nursery)
        await laboratory.start(structures)
        await laboratory.join(NAMES[0])
        for step in story:
            await step.play(laboratory)
            laboratory.check()
        await laboratory.finish()
        nursery.cancel_scope.cancel()
    return laboratory.resyncs


@pytest.fixture(autouse=True, scope="module")
def quiet() -> Iterator[None]:
    """Of all those outages nothing need be said."""
    logger = logging.getLogger("trionet.sync_struct")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    yield
    logger.setLevel(level)


@pytest.mark.timeout(600)  # a story that fails is made short, which takes its time
def test_each_subscriber_ends_equal_to_the_publisher() -> None:
    resyncs = 0
    stories = 0

    @settings(max_examples=200)
    @given(st.tuples(structures, structures), st.lists(steps, min_size=15, max_size=35))
    def tell(structures: tuple[Any, Any], story: list[Any]) -> None:
        nonlocal resyncs, stories
        clock = trio.testing.MockClock(autojump_threshold=0)
        resyncs += trio.run(play, structures, story, clock=clock)
        stories += 1

    tell()
    assert resyncs >= 5  # or the stories say little
