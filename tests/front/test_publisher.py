"""The publisher, over links in memory and on the mock clock."""

from __future__ import annotations

import contextlib
import errno
import random
from typing import Any

import pytest
import trio
import trio.testing

import trionet
from tests.front.feeds import HELLO, Link, Network, publishing, settle, subscribed
from tests.wire.values import identical
from trionet import Notifier, pyon
from trionet.sync_struct import _channel
from trionet.wire.feeds import encode_line

IT = HELLO + b"it\n"


def lines_of(link: Link) -> list[Any]:
    """The mods that have come, decoded."""
    lines = link.down.take().split(b"\n")
    assert lines.pop() == b""
    return [pyon.decode(line) for line in lines]


def init(structure: Any) -> dict[str, Any]:
    return {"action": "init", "struct": structure}


class Counter:
    """Counts what is encoded, by action."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.actions: list[str] = []
        monkeypatch.setattr(_channel, "encode_mod", self)

    def __call__(self, mod: Any, pyon_version: Any) -> bytes:
        self.actions.append(mod["action"])
        return encode_line(mod, pyon_version)


# -- snapshot and changes -------------------------------------------------------------------------------


async def test_the_structure_then_each_change() -> None:
    notifier = Notifier({"a": [1, (2, 3)]})
    network = Network()
    async with publishing({"it": notifier}, network):
        link = network.link(IT)
        await settle()
        assert lines_of(link) == [init({"a": [1, (2, 3)]})]
        notifier["a"].append({"b": 1j})
        notifier["c"] = None
        await settle()
        notifier["a"].pop(0)
        notifier["a"].insert(0, "x")
        del notifier["c"]
        await settle()
        assert lines_of(link) == [
            {"action": "append", "path": ["a"], "x": {"b": 1j}},
            {"action": "setitem", "path": [], "key": "c", "value": None},
            {"action": "pop", "path": ["a"], "i": 0},
            {"action": "insert", "path": ["a"], "i": 0, "x": "x"},
            {"action": "delitem", "path": [], "key": "c"},
        ]


async def test_several_notifiers_on_one_port() -> None:
    first, second = Notifier({}), Notifier([])
    network = Network()
    async with publishing({"first": first, "": second, "\u269b": Notifier([3])}, network):
        links = [network.link(HELLO + name.encode() + b"\n") for name in ("first", "", "\u269b")]
        await settle()
        first["a"] = 1
        second.append(2)
        await settle()
        assert [lines_of(link)[1:] for link in links] == [
            [{"action": "setitem", "path": [], "key": "a", "value": 1}],
            [{"action": "append", "path": [], "x": 2}],
            [],
        ]


async def test_the_handshake_may_come_in_pieces_and_with_more_behind() -> None:
    network = Network()
    async with publishing({"it": Notifier(1)}, network):
        link = network.link()
        for byte in IT + b"what follows is ignored\n" * 3:
            link.up.put(bytes([byte]))
            await settle()
        assert lines_of(link) == [init(1)]


@pytest.mark.parametrize("seed", range(10))
async def test_subscribers_that_join_between_changes_end_equal(seed: int) -> None:
    rng = random.Random(seed)
    notifier = Notifier({"list": [], "dict": {}})
    network = Network()
    async with publishing({"it": notifier}, network), contextlib.AsyncExitStack() as stack:
        subscriptions: list[trionet.Subscription] = []
        for step in range(300):
            choice = rng.random()
            if choice < 0.1:
                subscriptions.append(await stack.enter_async_context(subscribed(network.connect)))
            elif choice < 0.5:
                notifier["list"].append((step, "x" * rng.randrange(100)))
            elif choice < 0.7:
                notifier["dict"][rng.randrange(9)] = [step]
            elif notifier["list"].raw_view:
                notifier["list"].pop(0)
            if rng.random() < 0.3:
                for _ in range(rng.randrange(4)):
                    await trio.lowlevel.checkpoint()
        await settle()
        assert len(subscriptions) > 10
        for subscription in subscriptions:
            assert identical(subscription.value, notifier.raw_view)


async def test_subscribers_that_join_while_changes_wait_to_be_sent() -> None:
    """The changes of the open batch are in the snapshot: they do not come once more."""
    notifier = Notifier([])
    network = Network()
    async with publishing({"it": notifier}, network):
        first, second = network.link(IT), network.link()
        await settle()
        # The second one's name arrives in the very moment in which changes are made.
        second.up.put(IT)
        for number in range(3):
            notifier.append(number)
            await trio.lowlevel.checkpoint()
        await settle()
        for link in (first, second):
            (initial, *mods) = lines_of(link)
            structure = initial["struct"]
            for mod in mods:
                trionet.apply_mod(structure, mod)
            assert structure == [0, 1, 2]


# -- encoding -------------------------------------------------------------------------------------------


async def test_a_change_is_encoded_once_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    counter = Counter(monkeypatch)
    notifier = Notifier([])
    network = Network()
    async with publishing({"it": notifier}, network):
        links = [network.link(IT) for _ in range(10)]
        await settle()
        counter.actions.clear()
        notifier.append(1)
        notifier.append(2)
        await settle()
        assert counter.actions == ["append", "append"]
        assert all(len(lines_of(link)) == 3 for link in links)


async def test_the_structure_is_encoded_once_for_those_that_join_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counter = Counter(monkeypatch)
    notifier = Notifier(["x" * 1000])
    network = Network(capacity=100)  # so that the first one is still being sent it when others join
    async with publishing({"it": notifier}, network):
        links = [network.link(IT) for _ in range(10)]
        await settle()
        assert counter.actions == ["init"]
        notifier.append(1)
        links.append(network.link(IT))
        await settle()
        assert counter.actions == ["init", "append", "init"]


async def test_nothing_is_encoded_for_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    counter = Counter(monkeypatch)
    notifier = Notifier([])
    network = Network()
    async with publishing({"it": notifier}, network):
        notifier.append(1)
        network.link(HELLO + b"unknown\n")
        network.link(HELLO)
        await settle()
        notifier.append(2)
        link = network.link(IT)
        await settle()
        link.cut()
        await settle()
        notifier.append(3)
    assert counter.actions == ["init"]


# -- who may publish, and where -------------------------------------------------------------------------


async def test_a_notifier_has_one_publisher(autojump_clock: trio.testing.MockClock) -> None:
    shared, own = Notifier([]), Notifier([])
    network = Network()
    async with publishing({"it": shared}, network):
        for notifiers in ({"own": own, "it": shared}, {"again": shared}):
            with trio.fail_after(1):
                with pytest.raises(RuntimeError, match="published already: a notifier has one publisher"):
                    await trionet.serve_publisher(notifiers, 0)
        async with publishing({"own": own}, Network()):  # what failed has let go of it
            pass
        link = network.link(IT)
        await settle()
        shared.append(1)
        await settle()
        assert len(lines_of(link)) == 2


async def test_a_notifier_has_one_name(autojump_clock: trio.testing.MockClock) -> None:
    notifier = Notifier([])
    with trio.fail_after(1), pytest.raises(RuntimeError, match="published already"):
        await trionet.serve_publisher({"a": notifier, "b": notifier}, 0)
    async with publishing({"a": notifier}, Network()):
        pass


async def test_a_notifier_is_free_when_its_publisher_has_ended() -> None:
    notifier = Notifier([])
    for number in range(3):
        network = Network()
        async with publishing({"it": notifier}, network) as publisher:
            link = network.link(IT)
            await settle()
            notifier.append(number)
            await settle()
            await publisher.aclose()
            assert lines_of(link) == [
                init([*range(number)]),
                {"action": "append", "path": [], "x": number},
            ]
            notifier.append(None)
            notifier.pop()


async def test_a_notifier_is_free_when_its_publisher_could_not_listen() -> None:
    notifier = Notifier([])
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        with pytest.raises(OSError, match="cannot listen on") as caught:
            await trionet.serve_publisher({"it": notifier}, listener.socket.getsockname()[1])
        assert caught.value.errno == errno.EADDRINUSE
    async with publishing({"it": notifier}, Network()):
        pass


async def test_names_and_versions_that_there_are_not() -> None:
    notifier = Notifier([])
    with pytest.raises(ValueError, match="a name must be one line"):
        await trionet.serve_publisher({"ok": notifier, "two\nlines": Notifier([])}, 0)
    with pytest.raises(ValueError, match="versions 1 and 2, not 3"):
        await trionet.serve_publisher({"ok": notifier}, 0, pyon_version=3)  # type: ignore[arg-type]
    async with publishing({"ok": notifier}, Network()):
        pass


async def test_changes_from_another_thread_are_refused() -> None:
    notifier = Notifier([0])
    network = Network()
    for hello in (b"", IT):
        async with publishing({"it": notifier}, network):
            link = network.link(hello)
            await settle()
            for change in (lambda: notifier.append(1), notifier.pop):
                with pytest.raises(
                    RuntimeError, match=r"'it' is published by .* in another thread.*from_thr"
                ):
                    await trio.to_thread.run_sync(change)
            assert notifier.raw_view == [0]
            assert await trio.to_thread.run_sync(lambda: notifier[0].raw_view) == 0
            await trio.to_thread.run_sync(trio.from_thread.run_sync, notifier.append, 1)
            notifier.pop()
            await settle()
            if hello:
                assert len(lines_of(link)) == 3
    await trio.to_thread.run_sync(notifier.append, 1)  # not published any more
    assert notifier.raw_view == [0, 1]


# -- the end --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("attempt", range(20))
async def test_a_graceful_close_delivers_what_was_published(
    attempt: int, autojump_clock: trio.testing.MockClock
) -> None:
    """Trio decides by chance which task is first, so several attempts."""
    notifier = Notifier([])
    network = Network()
    async with publishing({"it": notifier}, network) as publisher:
        link = network.link(IT)
        await settle()
        notifier.append(attempt)
        await publisher.aclose(5)
        assert trio.current_time() == 0.0
        assert lines_of(link) == [init([]), {"action": "append", "path": [], "x": attempt}]
        assert link.down.sender_closed


async def test_a_graceful_close_waits_for_those_that_are_reading(
    autojump_clock: trio.testing.MockClock,
) -> None:
    notifier = Notifier(["x" * 100])
    network = Network(capacity=100)
    closed: list[float] = []

    async def close(publisher: trionet.Publisher) -> None:
        await publisher.aclose(100)
        closed.append(trio.current_time())

    async with trio.open_nursery() as nursery, publishing({"it": notifier}, network) as publisher:
        slow = network.link(IT)
        await settle()
        notifier.append("y" * 300)
        notifier.append("z")
        idle, busy_no_more = network.link(HELLO), network.link(IT)
        busy_no_more.down.resize(10_000)
        await settle()
        nursery.start_soon(close, publisher)
        received = b""
        while not slow.down.sender_closed or slow.down.waiting:
            await trio.sleep(1)
            assert idle.down.sender_closed  # at once
            assert busy_no_more.down.sender_closed
            with pytest.raises(ConnectionRefusedError):
                network.link()
            received += slow.down.take(100)
        assert [pyon.decode(line)["action"] for line in received.splitlines()] == ["init", "append", "append"]
        assert received.endswith(b"\n")
        await settle()
        assert closed
        assert 4 < closed[0] < 8


async def test_a_graceful_close_has_an_end(autojump_clock: trio.testing.MockClock) -> None:
    network = Network(capacity=10)
    async with publishing({"it": Notifier(["x" * 100])}, network) as publisher:
        stuck = network.link(IT)
        await settle()
        await publisher.aclose(7)
        assert trio.current_time() == 7.0
        assert stuck.down.sender_closed
        assert publisher.connections == 0


async def test_cancelled_it_closes_everything() -> None:
    network = Network(capacity=10)
    async with publishing({"it": Notifier(["x" * 100])}, network) as publisher:
        links = [network.link(hello) for hello in (b"", HELLO, IT, IT)]
        links[2].down.capacity = 1000
        await settle()
        assert publisher.connections == 4
        publisher.cancel_scope.cancel()
        await settle()
        assert all(link.down.sender_closed for link in links)
        with pytest.raises(ConnectionRefusedError):
            network.link()
        assert publisher.statistics() == trionet.PublisherStatistics(0, 4, ())


async def test_a_backlog_below_zero_makes_no_sense() -> None:
    with pytest.raises(ValueError, match="max_backlog"):
        await trionet.serve_publisher({"it": Notifier({})}, 0, max_backlog=-1)
