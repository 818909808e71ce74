"""Subscribers that do not keep up with a publisher: what waits for them, and what they get in the end."""

from __future__ import annotations

import contextlib
import gc
from typing import Any

import pytest

import trionet
from tests.front.feeds import HELLO, PEER, Link, Network, publishing, settle, subscribed, warnings_of
from tests.wire.values import identical
from trionet import Notifier, SubscriberStatistics, pyon
from trionet.sync_struct import _channel
from trionet.wire.feeds import encode_line

IT = HELLO + b"it\n"


class Reader:
    """A subscriber that is the test itself: what it has got, and what that makes of the structure."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.received = b""
        self.actions: list[str] = []
        self.structure: Any = None

    async def read(self) -> None:
        """Read until nothing more comes."""
        await settle()
        while self.link.down.waiting:
            self.received += self.link.down.take()
            await settle()
        *lines, self.received = self.received.split(b"\n")
        for line in lines:
            mod = pyon.decode(line)
            self.actions.append(mod["action"])
            if mod["action"] == "init":
                self.structure = mod["struct"]
            else:
                trionet.apply_mod(self.structure, mod)


def only(publisher: trionet.Publisher) -> SubscriberStatistics:
    (statistics,) = publisher.statistics().subscribers
    return statistics


def size_of(mod: dict[str, Any]) -> int:
    return len(encode_line(mod, 2))


def appended(x: Any) -> int:
    return size_of({"action": "append", "path": [], "x": x})


async def test_the_statistics_are_exact() -> None:
    notifier = Notifier([])
    network = Network()
    async with publishing({"other": Notifier(1), "it": notifier}, network) as publisher:
        assert publisher.statistics() == trionet.PublisherStatistics(0, 0, ())
        notifier.append("nobody is there")
        network.link()
        network.link(HELLO)
        link = network.link(IT)
        link.down.resize(10)
        await settle()
        initial = size_of({"action": "init", "struct": notifier.raw_view})
        assert publisher.statistics() == trionet.PublisherStatistics(
            3, 3, (SubscriberStatistics(PEER, "it", 0, initial, 0),)
        )
        notifier.append("a")
        notifier.append("bc")
        both = appended("a") + appended("bc")
        assert only(publisher) == SubscriberStatistics(PEER, "it", 2, initial + both, 0)
        received = b""
        while len(received) < initial + 1:  # the structure has left, both changes are on their way
            received += link.down.take(1)
            await settle()
        assert only(publisher) == SubscriberStatistics(PEER, "it", 0, both, 0)
        notifier.append("d")
        assert only(publisher) == SubscriberStatistics(PEER, "it", 1, both + appended("d"), 0)
        while link.down.waiting:
            received += link.down.take(1)
            await settle()
        assert [pyon.decode(line)["action"] for line in received.splitlines()] == ["init"] + 3 * ["append"]
        assert only(publisher) == SubscriberStatistics(PEER, "it", 0, 0, 0)
        network.link(HELLO + b"other\n")
        await settle()
        assert [one.name for one in publisher.statistics().subscribers] == ["other", "it"]
        assert publisher.statistics().accepted == 4


async def test_a_subscriber_that_has_everything_has_no_lag() -> None:
    """Whatever was changed while nobody was there."""
    notifier = Notifier([])
    network = Network()
    async with publishing({"it": notifier}, network) as publisher:
        for number in range(5):
            notifier.append(number)
        link = network.link(IT)
        await settle()
        assert only(publisher) == SubscriberStatistics(PEER, "it", 0, 0, 0)
        notifier.append(5)
        await settle()
        assert only(publisher) == SubscriberStatistics(PEER, "it", 0, 0, 0)
        link.cut()
        await settle()
        for number in range(5):
            notifier.append(number)
        network.link(IT)
        await settle()
        assert only(publisher) == SubscriberStatistics(PEER, "it", 0, 0, 0)


async def test_up_to_the_limit_nothing_is_left_out() -> None:
    notifier = Notifier([])
    network = Network(capacity=0)
    limit = 4 * appended(0)
    async with publishing({"it": notifier}, network, max_backlog=limit) as publisher:
        link = network.link(IT)
        await settle()
        for number in range(4):
            notifier.append(number)
        assert only(publisher).resyncs == 0
        assert only(publisher).backlog == limit + size_of({"action": "init", "struct": []})
        link.down.resize(10)
        reader = Reader(link)
        await reader.read()
        assert reader.actions == ["init"] + 4 * ["append"]


async def test_past_the_limit_one_init_comes_instead(caplog: pytest.LogCaptureFixture) -> None:
    notifier = Notifier([])
    network = Network(capacity=10)
    limit = 4 * appended(0)
    async with publishing({"it": notifier}, network, max_backlog=limit) as publisher:
        link = network.link(IT)
        await settle()
        initial = size_of({"action": "init", "struct": []})
        for number in range(4):
            notifier.append(number)
        notifier.append("one too many")
        assert only(publisher) == SubscriberStatistics(PEER, "it", 5, initial, 1)
        for _ in range(20):
            notifier.append("and more")
        assert only(publisher) == SubscriberStatistics(PEER, "it", 25, initial, 1)
        reader = Reader(link)
        await reader.read()
        assert reader.actions == ["init", "init"]
        assert identical(reader.structure, notifier.raw_view)
        assert only(publisher) == SubscriberStatistics(PEER, "it", 0, 0, 1)
        notifier.pop(0)
        await reader.read()
        assert reader.actions == ["init", "init", "pop"]
        # Again, and again reported once only:
        link.down.resize(0)
        notifier.append("on its way")
        await settle()
        for _ in range(20):
            notifier.append("and more")
        assert only(publisher).resyncs == 2
        link.down.resize(10)
        await reader.read()
        assert reader.actions == ["init", "init", "pop", "append", "init"]
        assert identical(reader.structure, notifier.raw_view)
    assert warnings_of(caplog.records) == [
        f"{PEER}: more than {limit} bytes behind on 'it'; it will be sent the whole structure instead"
    ]


async def test_the_others_do_not_notice() -> None:
    notifier = Notifier({})
    network = Network()
    async with publishing({"it": notifier}, network, max_backlog=1000) as publisher:
        stuck, halting, fast = (Reader(network.link(IT)) for _ in range(3))
        stuck.link.down.resize(1)
        for reader in (halting, fast):
            await reader.read()
        for step in range(100):
            notifier[step] = "x" * 50
            await fast.read()
            if step % 10 == 9:  # less than the limit
                await halting.read()
            assert identical(fast.structure, notifier.raw_view)
            backlogs = [one.backlog for one in publisher.statistics().subscribers]
            assert max(backlogs) <= 1000 + 60
        await halting.read()
        assert identical(halting.structure, notifier.raw_view)
        assert fast.actions == ["init"] + 100 * ["setitem"]
        assert halting.actions == fast.actions
        assert [one.resyncs for one in publisher.statistics().subscribers] == [1, 0, 0]
        await stuck.read()
        assert stuck.actions == ["init", "init"]
        assert identical(stuck.structure, notifier.raw_view)


async def test_each_subscriber_has_its_own_backlog() -> None:
    """One that joins later, or has taken something, is not taken for as far behind as the first."""
    notifier = Notifier([])
    network = Network(capacity=0)
    one = appended(0)
    async with publishing({"it": notifier}, network, max_backlog=4 * one) as publisher:

        def resyncs() -> list[int]:
            return [subscriber.resyncs for subscriber in publisher.statistics().subscribers]

        links = []
        for expected in ([0], [0, 0], [0, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0, 0], [1, 1, 0, 0, 0, 0]):
            links.append(network.link(IT))
            await settle()
            notifier.append(0)
            assert resyncs() == expected
        readers = [Reader(link) for link in links]
        for reader in readers:
            reader.link.down.resize(10)
            await reader.read()
            assert identical(reader.structure, notifier.raw_view)
        assert [reader.actions for reader in readers] == [
            *(2 * [["init", "init"]]),
            *(["init"] + count * ["append"] for count in (4, 3, 2, 1)),
        ]
        assert resyncs() == [1, 1, 0, 0, 0, 0]


async def test_changes_without_a_pause_come_in_few_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Larger than what is put together for one send, and in order."""
    sent: list[int] = []
    notifier = Notifier([])
    network = Network()
    async with publishing({"it": notifier}, network):
        link = network.link(IT)
        reader = Reader(link)
        await reader.read()
        send_all = link.server.send_all

        async def note(data: bytes | bytearray | memoryview) -> None:
            sent.append(len(data))
            await send_all(data)

        monkeypatch.setattr(link.server, "send_all", note)
        for number in range(1000):
            notifier.append((number, "x" * 1000))
        await reader.read()
        assert reader.structure == [(number, "x" * 1000) for number in range(1000)]
    assert max(sent) <= 320 * 1024
    assert len(sent) <= 6


async def test_what_all_have_been_sent_is_freed() -> None:
    notifier = Notifier([""])
    network = Network()
    async with publishing({"it": notifier}, network, max_backlog=2**40) as publisher:
        readers = [Reader(network.link(IT)) for _ in range(3)]
        for reader in readers:
            await reader.read()
        for _ in range(50):
            notifier[0] = "x" * 100_000
            for reader in readers:
                await reader.read()
        gc.collect()
        batches = [one for one in gc.get_objects() if isinstance(one, _channel.Batch)]
        assert len(batches) == 1
        assert [one.backlog for one in publisher.statistics().subscribers] == [0, 0, 0]


async def test_our_subscriptions_are_right_after_a_stall() -> None:
    notifier = Notifier({"counter": 0, "history": []})
    network = Network(capacity=200)
    async with publishing({"it": notifier}, network, max_backlog=500), contextlib.AsyncExitStack() as stack:
        actions: list[str] = []
        subscription = await stack.enter_async_context(
            subscribed(network.connect, on_mod=lambda mod: actions.append(mod["action"]))
        )
        down = network.links[0].down
        for round_ in range(3):
            down.stall()
            for number in range(100):
                notifier["counter"] = number
                notifier["history"].append((round_, number))
                if number % 30 == 0:
                    await settle()
            assert len(subscription.value["history"]) == round_ * 100
            assert subscription.connected.value
            down.resume()
            await settle()
            assert identical(subscription.value, notifier.raw_view)
            assert actions.count("init") > round_ + 1
