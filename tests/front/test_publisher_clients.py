"""Clients that a publisher has to leave, and what concerns them only."""

from __future__ import annotations

import logging

import pytest
import trio
import trio.testing

import trionet
from tests.front.feeds import HELLO, PEER, Network, publishing, settle, subscribed, warnings_of
from tests.front.test_publisher import IT, init, lines_of
from tests.wire.values import identical
from trionet import Notifier
from trionet.pyon import v1


async def test_a_client_that_asks_for_nothing(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    network = Network()
    async with publishing({"it": Notifier([])}, network, handshake_timeout=7):
        links = [network.link(hello) for hello in (b"", HELLO, IT)]
        await trio.sleep(6.9)
        assert not any(link.closed for link in links)
        links[0].up.put(HELLO)  # does not help
        await trio.sleep(0.2)
        assert [link.closed for link in links] == [True, True, False]
        await trio.sleep(1000)
        assert not links[2].closed
    assert warnings_of(caplog.records) == [f"{PEER}: asked for nothing within 7 s"] * 2


@pytest.mark.parametrize(
    ("sent", "log"),
    [
        (b"ARTIQ pc_rpc\n", "connection closed: not the banner 'ARTIQ sync_struct': b'ARTIQ pc_rpc'"),
        (b"ARTIQ sync_struct\r\n", "not the banner"),
        (b"\x16\x03\x01\x02\x00\n", "not the banner"),
        (b"GET / HTTP/1.1" + b"x" * 100_000, "a line of more than 65536 bytes"),
        (HELLO + b"x" * 100_000, "a line of more than 65536 bytes"),
        (HELLO + b"It\n", "connection closed: there is no notifier 'It'"),
        (HELLO + b"it\r\n", "connection closed: there is no notifier 'it\\r'"),
        (HELLO + b"x" * 1000 + b"\n", f"there is no notifier '{'x' * 40}'"),
        (HELLO + b"\xff\n", "a name that is not UTF-8"),
    ],
)
async def test_a_client_that_makes_no_sense(sent: bytes, log: str, caplog: pytest.LogCaptureFixture) -> None:
    notifier = Notifier([])
    network = Network()
    async with publishing({"it": notifier}, network):
        bystander = network.link(IT)
        bad = network.link(sent)
        await settle()
        assert bad.down.sender_closed
        assert not bad.down.waiting
        notifier.append(1)
        await settle()
        assert len(lines_of(bystander)) == 2
    (warning,) = warnings_of(caplog.records)
    assert warning.startswith(f"{PEER}: connection closed: ")
    assert log in warning
    assert len(warning) < 150
    assert caplog.records[-1].name == "trionet.sync_struct"


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("sent", [b"", b"ARTIQ", HELLO, HELLO + b"i", IT])
async def test_clients_that_leave(sent: bytes, reset: bool, caplog: pytest.LogCaptureFixture) -> None:
    network = Network()
    async with publishing({"it": Notifier([])}, network) as publisher:
        link = network.link(sent)
        await settle()
        link.cut(reset=reset)
        await settle()
        assert publisher.statistics() == trionet.PublisherStatistics(0, 1, ())
    assert not warnings_of(caplog.records)


@pytest.mark.parametrize("reset", [False, True])
async def test_subscribers_that_leave_in_the_middle_of_the_structure(
    reset: bool, caplog: pytest.LogCaptureFixture
) -> None:
    notifier = Notifier(["x" * 1000])
    network = Network(capacity=100)
    async with publishing({"it": notifier}, network) as publisher:
        for keep in (0, 50):
            link = network.link(IT)
            await settle()
            assert len(publisher.statistics().subscribers) == 1
            link.cut(keep, reset=reset)
            await settle()
            assert publisher.statistics().subscribers == ()
            assert publisher.connections == 0
        notifier.append(1)
    assert not warnings_of(caplog.records)


async def test_a_structure_that_cannot_be_carried(caplog: pytest.LogCaptureFixture) -> None:
    good, bad = Notifier([1]), Notifier({})
    network = Network()
    async with publishing({"it": good, "bad": bad}, network):
        bystander = network.link(IT)
        await settle()
        bad["x"] = object()  # nobody is there to notice
        link = network.link(HELLO + b"bad\n")
        await settle()
        assert link.down.sender_closed
        assert not link.down.waiting
        del bad["x"]
        link = network.link(HELLO + b"bad\n")
        await settle()
        assert lines_of(link) == [init({})]
        assert lines_of(bystander) == [init([1])]
    (warning,) = warnings_of(caplog.records)
    assert warning.startswith(f"{PEER}: connection closed: 'bad' holds what PYON cannot carry: ")
    assert caplog.records[-1].levelno == logging.ERROR


async def test_a_change_that_fails_is_neither_made_nor_published() -> None:
    notifier = Notifier({"a": []})
    network = Network()
    async with publishing({"it": notifier}, network) as publisher:
        link = network.link(IT)
        await settle()
        with pytest.raises(TypeError):
            notifier["a"].append(object())
        with pytest.raises(IndexError):
            notifier["a"].pop()
        with pytest.raises(KeyError):
            del notifier["b"]
        with pytest.raises(AttributeError):
            notifier.append(1)
        with pytest.raises(ValueError, match="is no key"):
            notifier[float("nan")] = 1
        assert notifier.raw_view == {"a": []}
        assert publisher.statistics().subscribers[0].lag == 0
        notifier["a"].append(1)
        await settle()
        assert lines_of(link) == [init({"a": []}), {"action": "append", "path": ["a"], "x": 1}]


async def test_old_subscribers_are_sent_pyon_v1() -> None:
    structure = {"a": (1, 2), "b": [None, True], 3: {"c": 1.5}}
    notifier = Notifier(structure)
    network = Network()
    async with publishing({"it": notifier}, network, pyon_version=1):
        link = network.link(IT)
        await settle()
        notifier["a"] = (3, b"x")
        await settle()
        first, second = link.down.take().splitlines(keepends=True)
        assert first == v1.encode(init({**structure, "a": (1, 2)})).encode() + b"\n"
        mod = {"action": "setitem", "path": [], "key": "a", "value": (3, b"x")}
        assert second == v1.encode(mod).encode() + b"\n"
        assert b"(1, 2)" in first
        for version in (None, 1):
            async with subscribed(network.connect, pyon_version=version) as subscription:
                notifier["d"] = {"e": (version,)}
                await settle()
                assert identical(subscription.value, notifier.raw_view)
