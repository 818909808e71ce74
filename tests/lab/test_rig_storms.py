"""Peers that send everything back twice, or again and again: every storm ends, and little was sent in it."""

from __future__ import annotations

import pytest
import trio

import trionet
from tests.lab.rigs import RIG_PORT, Behaviour, LabRig, answer, ignore, open_lab_pair, open_raw_pair, payloads
from trionet import RigCommunicator, RigEvent
from trionet.testing import DROP, Duplicate, Lab, Packet, Verdict

LATENCIES = [0.0, 0.001, 0.009, 0.011, 0.05, 0.2]

# How often a message travels at the most. It may be sent back three times and twice a second, so a storm
# lasts for 3 / (1 - 2 * 0.4) round trips of 0.4 s before a copy comes too early, and is the last one.
MOST_TIMES = 1 + 15


async def echo_twice(sock: trio.socket.SocketType, copies: int = 2) -> None:
    """A peer without memory."""
    while True:
        data = await sock.recv(70_000)
        for _ in range(copies):
            await sock.send(data)


@pytest.mark.parametrize("latency", LATENCIES)
@pytest.mark.parametrize("copies", [2, 3, 5])
@pytest.mark.parametrize("window", [0.0, 60.0])
async def test_a_peer_that_echoes_everything_several_times(
    lab: Lab, latency: float, copies: int, window: float
) -> None:
    async with open_raw_pair(lab, latency=latency, dedup_window=window) as (client, sock):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(echo_twice, sock, copies)
            for number in range(5):
                await client.init(number)
            await trio.sleep(100)
            sent = payloads(lab, "client")
            assert len(sent) == 5 if window else len(sent) <= 5 * MOST_TIMES
            await trio.sleep(1000)
            assert payloads(lab, "client") == sent
            await client.init("still there")
            nursery.cancel_scope.cancel()


async def test_over_a_very_long_way_a_storm_is_at_least_rare(lab: Lab) -> None:
    # Longer than the half second after which a copy may be sent back again.
    async with open_raw_pair(lab, latency=0.3) as (client, sock), trio.open_nursery() as nursery:
        nursery.start_soon(echo_twice, sock)
        await client.init(1)
        await trio.sleep(100)
        assert len(payloads(lab, "client")) <= 1 + 3 + 2 * 100
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("latency", LATENCIES)
@pytest.mark.parametrize(
    ("windows", "behaviour"),
    [
        *[((there, here), ignore) for there in (0, 60) for here in (0, 60)],
        # Without a window it would take doubled echoes of its answers for messages, and answer those, too.
        *[((60, here), answer) for here in (0, 60)],
    ],
)
async def test_a_storm_of_duplicates_between_two_of_ours_dies_out(
    lab: Lab, latency: float, windows: tuple[float, float], behaviour: Behaviour
) -> None:
    # Every datagram comes twice, in both directions, and both sides know nothing of it.
    rig = LabRig(lab.host("rig"), behaviour=behaviour, dedup_window=windows[0])
    await rig.start()
    lab.link(lab.host("client"), rig.host).latency = latency
    with lab.host("client").entered(), lab.rule(lambda packet: Duplicate()):
        async with trionet.open_rig_communicator(rig.uri, dedup_window=windows[1]) as client:
            await client.init(1)
            await trio.sleep(60)
            count = lab.trace.count
            assert count < 1000
            await trio.sleep(1000)
            assert lab.trace.count == count
            assert len(rig.events) == 1 if windows[0] else len(rig.events) >= 2


@pytest.mark.parametrize("size", [1, 60_000])
async def test_bytes_that_are_no_message_do_not_go_to_and_fro_for_ever(lab: Lab, size: int) -> None:
    async with open_raw_pair(lab, latency=0.01) as (client, sock), trio.open_nursery() as nursery:
        nursery.start_soon(echo_twice, sock, 1)
        await sock.send(b"?" * (size + 1))
        await trio.sleep(100)
        # Upstream would send it back for ever. Ours does, too, but not often.
        sent = payloads(lab, "client")
        assert len(sent) <= 10 + 2 * 100 + 1
        assert client.statistics().malformed >= len(sent)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("latency", [0.001, 0.05])
async def test_two_of_ours_do_not_play_ball_with_bytes_that_are_no_message(lab: Lab, latency: float) -> None:
    async with open_lab_pair(lab, latency=latency) as (client, rig):
        with lab.rule(lambda packet: Duplicate(3) if packet.src.host == "client" else None):
            await client.confirmed_send("no message")
            await trio.sleep(30)
        count = lab.trace.count
        assert count < 200
        await trio.sleep(1000)
        assert lab.trace.count == count
        assert rig.communicator.statistics().malformed >= 4


async def test_a_peer_that_sends_the_same_message_for_ever_is_confirmed_and_answered_in_step(
    lab: Lab,
) -> None:
    async with open_raw_pair(lab) as (client, sock):
        for _ in range(100):
            await sock.send(b"[1, 1]")
            assert await sock.recv(100) == b"[1, 1]"
        assert client.statistics().received == 100
        assert len(payloads(lab, "client")) == 100


@pytest.mark.parametrize("window", [0.0, 5.0])
async def test_repeats_are_echoed_ten_times_at_once_and_then_twice_a_second(lab: Lab, window: float) -> None:
    async with open_raw_pair(lab, dedup_window=60 * window) as (client, sock):
        message = b"[1, 1]" if window else b"no message"
        for _ in range(100):
            await sock.send(message)
        first = bool(window)  # the one that is delivered is echoed without limit
        await trio.sleep(0.1)
        assert len(payloads(lab, "client")) == first + 10
        await trio.sleep(2.9)
        for _ in range(100):
            await sock.send(message)
        await trio.sleep(0.1)
        assert len(payloads(lab, "client")) == first + 16
        assert client.statistics().received == first


async def test_copies_of_an_echo_go_back_once_in_20_ms(lab: Lab) -> None:
    async with open_raw_pair(lab) as (client, sock), trio.open_nursery() as nursery:
        nursery.start_soon(client.init, 1)
        echo = await sock.recv(100)
        for returned, copies in ((0, 1), (1, 3), (1, 2), (2, 2)):
            for _ in range(copies):
                await sock.send(echo)
            await trio.sleep(0.0101)
            assert len(payloads(lab, "client")) == 1 + returned
        assert client.statistics().received == 2


async def test_a_storm_ends_when_one_datagram_of_it_is_lost(lab: Lab) -> None:
    async with open_raw_pair(lab, latency=0.05) as (client, sock), trio.open_nursery() as nursery:
        nursery.start_soon(echo_twice, sock, 1)
        seen = []

        def lose_the_fifth(packet: Packet) -> Verdict | None:
            seen.append(packet)
            return DROP if len(seen) == 5 else None

        with lab.rule(lose_the_fifth):
            await sock.send(b"no message")
            await trio.sleep(10)
        assert len(seen) == 5
        assert client.statistics().malformed == 2
        nursery.cancel_scope.cancel()


async def test_two_listeners_that_are_told_of_errors_do_not_report_them_to_each_other(lab: Lab) -> None:
    async def fail(event: RigEvent, rig: RigCommunicator) -> None:
        raise ValueError("no")

    one, other = LabRig(lab.host("one"), behaviour=fail), LabRig(lab.host("other"), behaviour=fail)
    await one.start()
    await other.start()
    await one.communicator.init(1, address=(other.host.ipv4, RIG_PORT))
    await trio.sleep(100)
    # The message, its echo, the report, of which the callback fails as well; no report of that.
    assert [data for _, data in payloads(lab, "one")] == [b"[1, 1]"]
    assert [data for _, data in payloads(lab, "other")] == [b"[1, 1]", b'[0, "ValueError: no", 1]']


@pytest.mark.parametrize(("scheme", "most"), [("udp", MOST_TIMES), ("tcp", 1)])
async def test_a_message_that_arrives_when_its_sender_has_forgotten_it(
    lab: Lab, scheme: str, most: int
) -> None:
    """A rig whose program stood still: what it has got meanwhile, it echoes now."""
    async with open_lab_pair(lab, scheme, ignore, latency=0.05) as (client, rig):
        lab.hold("client", "rig")
        with pytest.raises(trionet.EchoTimeout):
            await client.init(1)
        await trio.sleep(15)
        lab.release()
        await trio.sleep(100)
        deliveries = len(rig.data), client.statistics().received
        assert 1 <= deliveries[0] <= most
        assert deliveries[1] <= (most if scheme == "udp" else 0)
        await trio.sleep(1000)
        assert (len(rig.data), client.statistics().received) == deliveries
