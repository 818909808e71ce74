"""When exactly things happen between rigs over TCP: the gap before answers, lost connections, silence."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio

import trionet
from tests.lab.rigs import (
    RIG_PORT,
    LabRig,
    answer,
    near,
    open_lab_pair,
    payloads,
    quiet_logs,
    time_of,
    time_to_fail,
)
from tests.lab.servers import EVERYWHERE
from trionet import ConnectionLost, EchoTimeout
from trionet.rig._tcp import ANSWER_GAP
from trionet.testing import DROP, Lab, Packet, Reset, Verdict, reset_after

LATENCY = 0.05

#: Seconds until a silent peer is given up: keepalive begins after 10 s, and asks three times, 10 s apart.
SILENCE = 40.0


def times(lab: Lab, source: str) -> list[tuple[float, bytes]]:
    """What a host has sent, with the times rounded."""
    return [(round(time, 6), payload) for time, payload in payloads(lab, source)]


# The gap.


async def test_an_answer_waits_20_ms_behind_the_echo_and_messages_do_not(lab: Lab) -> None:
    async with open_lab_pair(lab, "tcp", answer, latency=LATENCY) as (client, _rig):
        assert trio.current_time() == near(2 * LATENCY)
        for number in range(2):
            began = trio.current_time()
            with client.open_events() as events:
                assert await time_of(lambda number=number: client.init(number)) == near(2 * LATENCY)  # type: ignore[misc]
                await events.receive()
                assert trio.current_time() - began == near(2 * LATENCY + ANSWER_GAP)
            assert times(lab, "rig")[-2:] == [
                (round(began + LATENCY, 6), b"[1, %d]" % number),
                (round(began + LATENCY + ANSWER_GAP, 6), b'[1,["rig",%d]]' % number),
            ]
            await trio.sleep(1)
    # Its messages and the echoes of the answers, which wait for nothing.
    assert len(times(lab, "client")) == 4


async def test_a_peer_that_never_stops_gets_an_answer_after_five_gaps(lab: Lab) -> None:
    rig = LabRig(lab.host("rig"), "tcp")
    await rig.start()
    interval, due = 0.003, 0.0
    for _ in range(5):
        due = due // interval * interval + ANSWER_GAP  # the gap that follows the latest echo
    with lab.host("client").entered(), quiet_logs():
        async with await trio.open_tcp_stream(rig.host.ipv4, RIG_PORT) as stream:
            for number in range(100):
                await stream.send_all(b"[1, %d]" % number)
                await trio.sleep(interval)
    assert next(time for time, data in payloads(lab, "rig") if b'["rig",0]' in data) == near(due)
    assert len(rig.events) == 100


async def test_messages_that_nobody_confirms_keep_the_gap_too(lab: Lab) -> None:
    async with open_lab_pair(lab, "tcp", latency=LATENCY) as (client, _rig):
        began = trio.current_time()
        await client.send([1, 1])
        await client.send([1, 2])
        await client.init(3)
        sent = [time - began for time, _ in payloads(lab, "client")]
        assert sent == near([0, ANSWER_GAP, 2 * ANSWER_GAP])


# Echoes.


async def test_attempts_are_echo_timeout_apart(lab: Lab) -> None:
    async with open_lab_pair(lab, "tcp", latency=LATENCY, dedup_window=10) as (client, rig):
        rig.host.pause()
        seconds = await time_to_fail(EchoTimeout, lambda: client.init(1, attempts=3, echo_timeout=0.7))
        assert seconds == near(2.1)
        rig.host.resume()
        await trio.sleep(1)
        assert rig.data == [[1]]
        assert client.statistics().late_echoes == 3
        assert await time_of(lambda: client.init(2)) == near(2 * LATENCY)


async def test_an_echo_in_pieces_with_long_waits_in_between(lab: Lab) -> None:
    rig_host, client_host = lab.host("rig"), lab.host("client")
    with rig_host.entered():
        (listener,) = await trio.open_tcp_listeners(RIG_PORT, host=EVERYWHERE)
    async with listener:
        with client_host.entered():
            async with trionet.open_rig_communicator(f"tcp://rig:{RIG_PORT}", echo_timeout=60) as client:
                async with await listener.accept() as stream, trio.open_nursery() as nursery:

                    async def echo() -> None:
                        for byte in await stream.receive_some():
                            await stream.send_all(bytes([byte]))
                            await trio.sleep(5)

                    nursery.start_soon(echo)
                    assert await time_of(lambda: client.init(1)) == near(25)
                    assert client.statistics().confirmed == 1


async def test_a_message_that_is_not_continued_within_10_s_ends_the_connection(lab: Lab) -> None:
    async with open_lab_pair(lab, "tcp") as (client, rig):
        with lab.host("client").entered():
            async with await trio.open_tcp_stream(rig.host.ipv4, RIG_PORT) as stream:
                await stream.send_all(b"[1, ")
                began = trio.current_time()
                assert await stream.receive_some() == b""
                assert trio.current_time() - began == near(10)
        await client.init("not concerned")


# Connections that are lost.


def resets(count: int, source: str) -> Callable[[Packet], Verdict | None]:
    """Reset the first connection after so many bytes of one side."""
    rule = reset_after(count, src=source)
    done: list[Verdict] = []

    def once(packet: Packet) -> Verdict | None:
        verdict = None if done else rule(packet)
        if verdict is not None:
            done.append(verdict)
        return verdict

    return once


@pytest.mark.parametrize("byte", range(6))
@pytest.mark.parametrize("source", ["client", "rig"])
@pytest.mark.parametrize("attempts", [1, 2])
async def test_a_connection_that_is_lost_in_a_message_or_its_echo(
    lab: Lab, byte: int, source: str, attempts: int
) -> None:
    async with open_lab_pair(lab, "tcp", latency=LATENCY) as (client, rig):
        with lab.rule(resets(byte, source)):
            trips = 1 if source == "client" else 2
            if attempts == 1:
                # Of the client's own message it hears at once, as if something close to it had done that.
                seconds = await time_to_fail(ConnectionLost, lambda: client.init(1))
                assert seconds <= trips * LATENCY + 1e-6
            else:
                # The second attempt is due after a second, and has to connect.
                assert await time_of(lambda: client.init(1, attempts=2)) == near(1 + 4 * LATENCY)
        await client.init(2)
        # Over TCP another connection is another sender: its dedup window begins anew.
        received = [[1]] * ((source == "rig") + (attempts == 2))
        assert rig.data == [*received, [2]]


@pytest.mark.parametrize("how", ["stopped", "restarted"])
async def test_an_idle_connection_that_ends_is_made_anew_for_the_next_message(lab: Lab, how: str) -> None:
    async with open_lab_pair(lab, "tcp", latency=LATENCY) as (client, rig):
        await client.init(1)
        if how == "stopped":
            await rig.stop()
        else:
            rig.host.crash()
        await trio.sleep(100)  # long enough to notice that
        await rig.start()
        assert await time_of(lambda: client.init(2)) == near(4 * LATENCY)
        assert rig.data == [[1], [2]]


async def test_a_restarted_rig_refuses_the_old_connection_and_takes_the_next_attempt(lab: Lab) -> None:
    async with open_lab_pair(lab, "tcp", latency=LATENCY) as (client, rig):
        await client.init(1)
        rig.host.crash()
        await rig.start()
        assert await time_to_fail(ConnectionLost, lambda: client.init(2)) == near(2 * LATENCY)
        await client.init(3)
        rig.host.crash()
        await rig.start()
        assert await time_of(lambda: client.init(4, attempts=2)) == near(1 + 4 * LATENCY)
        assert rig.data == [[1], [3], [4]]


async def test_no_echo_comes_of_what_was_sent_over_a_former_connection(lab: Lab) -> None:
    async with open_lab_pair(lab, "tcp", latency=LATENCY) as (client, rig):
        rig.host.crash()
        await time_to_fail(EchoTimeout, lambda: client.init(1))
        await rig.start()
        await trio.sleep(3)  # TCP sends it again, and is told that this connection is over
        await client.init(2)
        await rig.communicator.send([1, 1], address=rig.events[0].address)
        await trio.sleep(1)
        assert (client.statistics().received, client.statistics().late_echoes) == (1, 0)


async def test_a_loss_that_nobody_has_read_is_forgotten_with_the_next_connection(lab: Lab) -> None:
    async with open_lab_pair(lab, "tcp", answer, latency=LATENCY) as (client, rig):
        with client.open_events(errors=True) as events:
            await rig.stop()
            await rig.start()
            await trio.sleep(1)
            await client.init(1)
            assert (await events.receive()).data == [["rig", 1]]


async def test_several_messages_at_once_connect_once(lab: Lab) -> None:
    async with open_lab_pair(lab, "tcp", latency=LATENCY) as (client, rig):
        await rig.stop()
        await rig.start()
        await trio.sleep(1)
        async with trio.open_nursery() as nursery:
            for number in range(5):
                nursery.start_soon(client.send, [1, number])
        await trio.sleep(1)
        assert sorted(rig.data) == [[number] for number in range(5)]
        assert str(lab.netstat("client")).count("ESTABLISHED") == 1


async def test_nobody_listens_any_more(lab: Lab) -> None:
    async with open_lab_pair(lab, "tcp", latency=LATENCY) as (client, rig):
        await rig.stop()
        await trio.sleep(1)
        assert await time_to_fail(ConnectionRefusedError, lambda: client.init(1)) == near(2 * LATENCY)
        seconds = await time_to_fail(ConnectionRefusedError, lambda: client.init(1, attempts=3))
        assert seconds == near(2 + 2 * LATENCY)


@pytest.mark.parametrize("how", ["firewall", "partition", "crash"])
async def test_connecting_to_silence_takes_the_connect_timeout(lab: Lab, how: str) -> None:
    rig = lab.host("rig")
    if how == "firewall":
        rig.firewalled = True
    elif how == "partition":
        lab.partition(rig, lab.host("client"))
    else:
        rig.crash()
    with lab.host("client").entered():
        uri = f"tcp://{rig.ipv4}:{RIG_PORT}"
        options = {"connect_first": False, "connect_timeout": 7.0}
        async with trionet.open_rig_communicator(uri, **options) as client:  # type: ignore[arg-type]
            assert await time_to_fail(TimeoutError, lambda: client.init(1)) == near(7)
            # The next attempt is due before that.
            assert await time_to_fail(TimeoutError, lambda: client.init(1, attempts=2)) == near(14)


# Silence.


@pytest.mark.parametrize("idle", [0.0, 3.0, 25.0])
@pytest.mark.parametrize("how", ["partition", "crash"])
async def test_a_peer_that_falls_silent_is_noticed_within_40_s(lab: Lab, idle: float, how: str) -> None:
    async with open_lab_pair(lab, "tcp", latency=LATENCY) as (client, rig):
        await client.init(1)
        await trio.sleep(idle)
        if how == "partition":
            lab.partition("client", "rig")
        else:
            rig.host.crash()
        began = trio.current_time()
        with client.open_events(errors=True) as events, pytest.raises(ConnectionLost):
            await events.receive()
        assert trio.current_time() - began <= SILENCE + 1e-6
        assert trio.current_time() - began >= 20
        lab.repair()
        if how == "crash":
            await rig.start()
        await client.init(2)
        assert rig.data == [[1], [2]]


async def test_a_silent_peer_costs_a_listener_its_connection_within_40_s(lab: Lab) -> None:
    async with open_lab_pair(lab, "tcp", latency=LATENCY) as (client, rig):
        await client.init(1)
        address = rig.events[0].address
        await trio.sleep(1)  # the echo is acknowledged; otherwise TCP would send it again, for 15 minutes
        lab.partition("client", "rig")
        began = trio.current_time()
        while "ESTABLISHED" in str(lab.netstat("rig")):
            assert trio.current_time() - began <= SILENCE
            await trio.sleep(0.5)
        with pytest.raises(ConnectionLost, match="there is no such connection"):
            await rig.communicator.init(2, address=address)


async def test_a_message_to_a_silent_peer_fails_after_the_echo_timeout_and_not_later(lab: Lab) -> None:
    async with open_lab_pair(lab, "tcp", latency=LATENCY) as (client, rig):
        await client.init(1)
        lab.partition("client", "rig")
        assert await time_to_fail(EchoTimeout, lambda: client.init(2, echo_timeout=3)) == near(3)
        lab.repair()
        await trio.sleep(30)  # TCP sends it again
        assert rig.data == [[1], [2]]
        assert client.statistics().late_echoes == 1
        assert await time_of(lambda: client.init(3)) == near(2 * LATENCY)


async def test_loss_costs_tcp_time_and_nothing_else(lab: Lab) -> None:
    async with open_lab_pair(lab, "tcp", answer, latency=LATENCY) as (client, rig):
        lost: list[Packet] = []

        def lose_some(packet: Packet) -> Verdict | None:
            if packet.payload and len(lost) < 3:
                lost.append(packet)
                return DROP
            return None

        with lab.rule(lose_some), client.open_events() as events:
            await client.init(1, echo_timeout=30)
            assert (await events.receive()).data == [["rig", 1]]
        assert len(rig.events) == 1
        assert 0.2 < trio.current_time() < 3


async def test_a_reset_while_nothing_is_said_is_told_to_those_who_wait(lab: Lab) -> None:
    async with open_lab_pair(lab, "tcp", latency=LATENCY) as (client, rig):
        await client.init(1)
        with lab.rule(lambda packet: Reset() if packet.payload else None):
            began = trio.current_time()
            await rig.communicator.send([2, 2], address=rig.events[0].address)
            with client.open_events(errors=True) as events, pytest.raises(ConnectionLost):
                await events.receive()
            assert trio.current_time() - began <= LATENCY + ANSWER_GAP + 1e-6
        await client.init(2)
        assert rig.data == [[1], [2]]
