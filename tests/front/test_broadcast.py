"""Broadcasting, over links in memory and on the mock clock."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing

import trionet
from tests.front.feeds import PEER, Network, Script, broadcasting, receiving, settle, warnings_of
from tests.wire.values import SAMPLES, identical
from trionet import Broadcaster, BroadcastStatistics, ReceiverStatistics, pyon
from trionet import broadcast as broadcast_module
from trionet._feeds import _READ_AHEAD
from trionet.pyon import v1
from trionet.wire.feeds import encode_line

HELLO = b"ARTIQ broadcast\n"
IT = HELLO + b"it\n"


class Counter:
    """Counts what is encoded."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.encoded: list[tuple[Any, int]] = []
        monkeypatch.setattr(broadcast_module, "encode_line", self)

    def __call__(self, value: Any, pyon_version: Any) -> bytes:
        self.encoded.append((value, pyon_version))
        return encode_line(value, pyon_version)


async def test_each_channel_has_its_own_objects_in_order() -> None:
    broadcaster = Broadcaster()
    network = Network()
    async with broadcasting(broadcaster, network):
        async with (
            receiving(network.connect, "first") as first,
            receiving(network.connect, "first") as again,
            receiving(network.connect, "") as empty,
            receiving(network.connect, "\u269b") as atom,
        ):
            await settle()
            for number in range(5):
                broadcaster.broadcast("first", (number,))
                broadcaster.broadcast("", {"empty": number})
                broadcaster.broadcast("nobody", number)
                broadcaster.broadcast("First", number)
                if number % 2:
                    await settle()
            broadcaster.broadcast("\u269b", "only")
            for receiver in (first, again):
                assert [await anext(receiver) for _ in range(5)] == [(number,) for number in range(5)]
            assert [await anext(empty) for _ in range(5)] == [{"empty": number} for number in range(5)]
            assert await anext(atom) == "only"
            assert (first.peer, first.channel) == ("server", "first")
            for receiver in (first, again, empty, atom):  # and nothing else
                broadcaster.broadcast(receiver.channel, "end")
                assert await anext(receiver) == "end"
                if receiver is first:
                    assert await anext(again) == "end"
                    broadcaster.broadcast("first", "end")
                    assert await anext(first) == "end"


@pytest.mark.parametrize("pyon_version", [1, 2])
async def test_every_kind_of_object(pyon_version: Any) -> None:
    """None included, which is no end."""
    broadcaster = Broadcaster()
    network = Network()
    async with broadcasting(broadcaster, network, pyon_version=pyon_version):
        async with receiving(network.connect, pyon_version=pyon_version) as receiver:
            await settle()
            for value in SAMPLES:
                broadcaster.broadcast("it", value)
            for value in SAMPLES:
                assert identical(await anext(receiver), value)


async def test_a_loop_over_what_comes() -> None:
    broadcaster = Broadcaster()
    network = Network()
    async with broadcasting(broadcaster, network), receiving(network.connect) as receiver:
        await settle()
        for value in (None, 0, "", None, "end"):
            broadcaster.broadcast("it", value)
        seen = []
        async for value in receiver:
            seen.append(value)
            if len(seen) == 2:
                break
        async for value in receiver:
            seen.append(value)
            if value == "end":
                break
        assert seen == [None, 0, "", None, "end"]


async def test_what_was_sent_before_is_not_received() -> None:
    broadcaster = Broadcaster()
    network = Network()
    broadcaster.broadcast("it", "not served")
    async with broadcasting(broadcaster, network):
        broadcaster.broadcast("it", "nobody there")
        async with receiving(network.connect) as receiver:
            await settle()
            assert receiver.connected.value
            broadcaster.broadcast("it", "now")
            assert await anext(receiver) == "now"
        await settle()
        broadcaster.broadcast("it", "gone")
        assert broadcaster._channels == {}
    broadcaster.broadcast("it", "not served any more")


async def test_an_object_is_encoded_once_or_not_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    counter = Counter(monkeypatch)
    broadcaster = Broadcaster()
    network, old = Network(), Network()
    async with broadcasting(broadcaster, network), broadcasting(broadcaster, old, pyon_version=1):
        broadcaster.broadcast("it", 1)
        for hello in (b"", HELLO, HELLO + b"other\n"):
            network.link(hello)
        await settle()
        broadcaster.broadcast("it", 2)
        assert counter.encoded == []
        links = [network.link(IT) for _ in range(10)]
        await settle()
        broadcaster.broadcast("it", 3)
        assert counter.encoded == [(3, 2)]
        links += [old.link(IT) for _ in range(10)]
        await settle()
        broadcaster.broadcast("it", (4,))
        await settle()
        assert counter.encoded[0] == (3, 2)
        assert sorted(counter.encoded[1:]) == [((4,), 1), ((4,), 2)]
        new, old_line = (encode((4,)).encode() + b"\n" for encode in (pyon.encode, v1.encode))
        assert [link.down.take() for link in links] == [b"3\n" + new] * 10 + [old_line] * 10


async def test_an_object_that_cannot_be_carried_goes_to_nobody() -> None:
    broadcaster = Broadcaster()
    network, old = Network(), Network()
    async with broadcasting(broadcaster, network), broadcasting(broadcaster, old, pyon_version=1):
        broadcaster.broadcast("it", object())  # to nobody
        links = [network.link(IT), old.link(IT)]
        await settle()
        with pytest.raises(TypeError):
            broadcaster.broadcast("it", [1, object()])
        broadcaster.broadcast("it", 2)
        await settle()
        assert [link.down.take() for link in links] == [b"2\n", b"2\n"]


async def test_arguments_that_make_no_sense() -> None:
    with pytest.raises(ValueError, match="at least one object must be able to wait, not 0"):
        Broadcaster(max_backlog=0)
    with pytest.raises(ValueError, match="a name must be one line"):
        async with receiving(Script().connect, "two\nlines"):
            pass
    with pytest.raises(ValueError, match="a name must be one line"):
        async with trionet.open_broadcast_receiver("127.0.0.1", 1, "two\nlines"):
            pass
    with pytest.raises(ValueError, match="a name must be one line"):
        Broadcaster().broadcast("two\nlines", 1)
    with pytest.raises(TypeError, match="a name must be text, not 3"):
        Broadcaster().broadcast(3, 1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="versions 1 and 2, not 3"):
        await trionet.serve_broadcaster(Broadcaster(), 0, pyon_version=3)  # type: ignore[arg-type]


async def test_broadcasting_from_another_thread_is_refused() -> None:
    broadcaster = Broadcaster()
    await trio.to_thread.run_sync(broadcaster.broadcast, "it", 1)  # it is not served
    network, second = Network(), Network()
    async with broadcasting(broadcaster, network):
        async with broadcasting(broadcaster, second), receiving(network.connect) as receiver:
            await settle()
            for _ in range(2):
                with pytest.raises(
                    RuntimeError, match=r"Trio run in another thread: .*from_thread\.run_sync"
                ):
                    await trio.to_thread.run_sync(broadcaster.broadcast, "it", 2)
            await trio.to_thread.run_sync(trio.from_thread.run_sync, broadcaster.broadcast, "it", 3)
            assert await anext(receiver) == 3
        with pytest.raises(RuntimeError):  # it is still served on the other port
            await trio.to_thread.run_sync(broadcaster.broadcast, "it", 4)
    await trio.to_thread.run_sync(broadcaster.broadcast, "it", 5)


# -- receivers that do not keep up ----------------------------------------------------------------------


async def test_a_receiver_that_does_not_keep_up_misses_the_newest(caplog: pytest.LogCaptureFixture) -> None:
    broadcaster = Broadcaster(max_backlog=5)
    network = Network()
    async with broadcasting(broadcaster, network) as server:
        slow, fast = network.link(IT), network.link(HELLO + b"other\n")
        await settle()
        slow.down.resize(0)

        def statistics() -> tuple[int, int]:
            (one,) = [one for one in server.statistics().receivers if one.channel == "it"]
            return one.waiting, one.dropped

        broadcaster.broadcast("it", "on its way")
        await settle()
        assert statistics() == (0, 0)
        for number in range(5):
            broadcaster.broadcast("it", number)
            broadcaster.broadcast("other", number)
            await settle()
            assert statistics() == (number + 1, 0)
        assert not warnings_of(caplog.records)
        for number in range(5, 12):
            broadcaster.broadcast("it", number)
            broadcaster.broadcast("other", number)
            await settle()
            assert statistics() == (5, number - 4)
        begun = f"{PEER}: 5 objects behind on channel 'it'; as long as it is, further ones are left out"
        assert warnings_of(caplog.records) == [begun]
        assert server.statistics() == BroadcastStatistics(
            2, 2, (ReceiverStatistics(PEER, "it", 5, 7), ReceiverStatistics(PEER, "other", 0, 0))
        )
        slow.down.resize(1000)
        await settle()
        assert slow.down.take() == b'"on its way"\n0\n1\n2\n3\n4\n'
        assert statistics() == (0, 7)
        ended = f"{PEER}: has caught up on channel 'it', 7 objects have been left out so far"
        assert warnings_of(caplog.records) == [begun, ended]
        broadcaster.broadcast("it", "and on")
        await settle()
        assert slow.down.take() == b'"and on"\n'
        assert fast.down.take() == b"".join(b"%d\n" % number for number in range(12))
        assert warnings_of(caplog.records) == [begun, ended]
        # Once more: the count goes on.
        for number in range(7):
            broadcaster.broadcast("it", number)
        assert statistics() == (5, 9)
        await settle()
        assert len(warnings_of(caplog.records)) == 4
        assert "9 objects have been left out so far" in warnings_of(caplog.records)[3]
    assert {record.name for record in caplog.records} == {"trionet.broadcast"}


async def test_partly_caught_up_is_behind_still(caplog: pytest.LogCaptureFixture) -> None:
    """Objects too large to be sent together: one by one there is room again, for one each."""
    broadcaster = Broadcaster(max_backlog=3)
    network = Network(capacity=0)
    large = 70_000
    async with broadcasting(broadcaster, network):
        link = network.link(IT)
        await settle()
        received = b""
        for number in range(6):
            broadcaster.broadcast("it", [number, "x" * large])
            await settle()
        # 0 is on its way, 1 to 3 wait, 4 and 5 were left out.
        while received.count(b"\n") < 1:
            link.down.resize(1000)
            received += link.down.take()
            await settle()
        link.down.resize(0)
        broadcaster.broadcast("it", [6, ""])
        broadcaster.broadcast("it", [7, ""])
        assert len(warnings_of(caplog.records)) == 1
        link.down.resize(10**9)
        await settle()
        received += link.down.take()
        assert [pyon.decode(line)[0] for line in received.splitlines()] == [0, 1, 2, 3, 6]
        assert len(warnings_of(caplog.records)) == 2


async def test_a_receiver_of_ours_that_stops_asking() -> None:
    """It holds what is read ahead and no more; the rest is left out by the server; it goes on in order."""
    broadcaster = Broadcaster(max_backlog=10)
    network = Network(capacity=10_000)
    async with broadcasting(broadcaster, network) as server, receiving(network.connect) as receiver:
        await settle()
        count = 2 * _READ_AHEAD // 1000
        for number in range(count):
            broadcaster.broadcast("it", (number, "x" * 1000))
            await settle()
        (statistics,) = server.statistics().receivers
        assert statistics.dropped > count // 4
        assert statistics.waiting == 10
        got = [(await anext(receiver))[0] for _ in range(count - statistics.dropped)]
        assert got == [*range(len(got))]
        broadcaster.broadcast("it", ("next", ""))
        assert (await anext(receiver))[0] == "next"


# -- handshakes and ends --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "log"),
    [
        (b"ARTIQ sync_struct\n", "not the banner 'ARTIQ broadcast'"),
        (HELLO + b"\xff\n", "not UTF-8"),
        (b"x" * 100_000, "a line of more than 65536 bytes"),
    ],
)
async def test_a_client_that_makes_no_sense(sent: bytes, log: str, caplog: pytest.LogCaptureFixture) -> None:
    network = Network()
    async with broadcasting(Broadcaster(), network):
        link = network.link(sent)
        await settle()
        assert link.down.sender_closed
    (warning,) = warnings_of(caplog.records)
    assert log in warning
    assert caplog.records[-1].name == "trionet.broadcast"


async def test_a_client_that_asks_for_nothing(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    network = Network()
    async with broadcasting(Broadcaster(), network, handshake_timeout=7):
        link = network.link(HELLO)
        assert await link.client.receive_some() == b""
        assert trio.current_time() == 7.0
    assert warnings_of(caplog.records) == [f"{PEER}: asked for nothing within 7 s"]


@pytest.mark.parametrize("reset", [False, True])
async def test_receivers_that_leave(reset: bool, caplog: pytest.LogCaptureFixture) -> None:
    broadcaster = Broadcaster()
    network = Network(capacity=3)
    async with broadcasting(broadcaster, network) as server:
        links = [network.link(IT) for _ in range(3)]
        await settle()
        broadcaster.broadcast("it", "x" * 100)
        await settle()
        for link in links:
            link.cut(reset=reset)
        broadcaster.broadcast("it", "y")
        await settle()
        assert server.statistics() == BroadcastStatistics(0, 3, ())
    assert not warnings_of(caplog.records)


@pytest.mark.parametrize("attempt", range(20))
async def test_a_graceful_close_delivers_what_was_broadcast(
    attempt: int, autojump_clock: trio.testing.MockClock
) -> None:
    """Trio decides by chance which task is first, so several attempts."""
    broadcaster = Broadcaster()
    network = Network()
    async with broadcasting(broadcaster, network) as server:
        link = network.link(IT)
        await settle()
        broadcaster.broadcast("it", attempt)
        await server.aclose(5)
        assert trio.current_time() == 0.0
        assert link.down.take() == b"%d\n" % attempt
        assert link.down.sender_closed


async def test_a_graceful_close_waits_for_those_that_are_reading(
    autojump_clock: trio.testing.MockClock,
) -> None:
    broadcaster = Broadcaster()
    network = Network(capacity=10)
    async with broadcasting(broadcaster, network) as server, trio.open_nursery() as nursery:
        link = network.link(IT)
        await settle()
        for number in range(3):
            broadcaster.broadcast("it", "x" * (number + 40))
            await settle()
        nursery.start_soon(server.aclose, 100)
        received = b""
        while not link.down.sender_closed:
            await trio.sleep(1)
            received += link.down.take(10)
        received += link.down.take()
        assert [len(text) for text in received.splitlines()] == [42, 43, 44]
        assert trio.current_time() < 30


async def test_one_thread_serves_it() -> None:
    broadcaster = trionet.Broadcaster()

    async def serve_as_well() -> None:
        with pytest.raises(RuntimeError, match="another thread"):
            await trionet.serve_broadcaster(broadcaster, 0)

    async with broadcasting(broadcaster, Network()):
        await trio.to_thread.run_sync(trio.run, serve_as_well)
    await trio.to_thread.run_sync(broadcaster.broadcast, "c", 1)  # served no more


async def test_waiting_for_receivers() -> None:
    broadcaster, network = Broadcaster(), Network()
    waited: list[str] = []

    async def wait(channel: str, count: int) -> None:
        await broadcaster.wait_receivers(channel, count)
        waited.append(f"{channel} {count}")

    async with broadcasting(broadcaster, network), trio.open_nursery() as nursery:
        nursery.start_soon(wait, "a", 1)
        nursery.start_soon(wait, "a", 2)
        nursery.start_soon(wait, "b", 1)
        await settle()
        assert waited == []
        async with receiving(network.connect, "a"):
            await settle()
            assert waited == ["a 1"]
            async with receiving(network.connect, "b"), receiving(network.connect, "a"):
                await settle()
                assert sorted(waited) == ["a 1", "a 2", "b 1"]
                await broadcaster.wait_receivers("a", 2)
                await broadcaster.wait_receivers("nobody", 0)
