"""Rigs over byte streams, on the mock clock: pieces, stalls, gaps, and peers that do not read."""

from __future__ import annotations

import functools
import itertools
import json
from typing import Any

import pytest
import trio
import trio.testing

import trionet
from tests.front.rigs import MemoryListener, address_behind, open_memory_rig
from trionet import RigEvent
from trionet.wire.rig_messages import PING

# Of trionet.rig._tcp, where they are explained.
GAP = 0.02
STALL = 10.0

MESSAGES = [b"[1, null]", b'[2, "a]b\\"[", {"c": [1, 2]}]', b"[4, []]", b'[16, "\xc3\xa4"]']


async def test_messages_in_any_pieces(autojump_clock: trio.testing.MockClock) -> None:
    whole = b"".join(MESSAGES)
    for size in (1, 2, 3, 7, 20, len(whole)):
        async with open_memory_rig() as (rig, connect):
            stream = await connect()
            with rig.open_events() as events:
                for start in range(0, len(whole), size):
                    await stream.send_all(whole[start : start + size])
                    await trio.testing.wait_all_tasks_blocked()
                received = [await events.receive() for _ in MESSAGES]
            assert [event.event for event in received] == [1, 2, 4, 16]
            assert received[1].data == ['a]b"[', {"c": [1, 2]}]
            echoes = b""
            while len(echoes) < len(whole):
                echoes += await stream.receive_some()
            assert echoes == whole


async def test_a_peer_that_stops_in_the_middle_of_a_message(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_memory_rig() as (rig, connect):
        stream = await connect()
        other = await connect()
        for piece in (b"[1,", b" [2", b"] "):
            await trio.sleep(STALL - 1)
            await stream.send_all(piece)
        before = trio.current_time()
        assert await stream.receive_some() == b""
        assert trio.current_time() == before + STALL
        await other.send_all(b"[1, 1]")
        assert await other.receive_some() == b"[1, 1]"
        assert rig.statistics().received == 1
    (record,) = caplog.records
    assert "a message was not continued within 10.0 s" in record.getMessage()


async def test_a_silent_peer_is_no_trouble(autojump_clock: trio.testing.MockClock) -> None:
    async with open_memory_rig() as (_, connect):
        stream = await connect()
        for _ in range(2):
            await trio.sleep(80_000)
            await stream.send_all(b"[1, 1]")
            assert await stream.receive_some() == b"[1, 1]"


async def test_a_peer_that_ends_in_the_middle_of_a_message(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_memory_rig() as (rig, connect):
        stream = await connect()
        await stream.send_all(b'[1, "the rest')
        await stream.send_stream.aclose()
        assert await stream.receive_some() == b""
        assert rig.statistics() == trionet.RigStatistics()


async def test_a_message_that_never_ends(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_memory_rig(max_message_size=1000) as (_, connect):
        stream = await connect()
        with pytest.raises(trio.BrokenResourceError):
            for _ in range(1000):
                await stream.send_all(b"[" * 100)
                await trio.testing.wait_all_tasks_blocked()
        assert trio.current_time() == 0
    (record,) = caplog.records
    assert "a message of more than 1000 bytes" in record.getMessage()


async def test_an_answer_keeps_its_distance_from_an_echo(autojump_clock: trio.testing.MockClock) -> None:
    """Upstream takes what one read returns for one message."""
    async with open_memory_rig() as (rig, connect):

        async def answer(event: RigEvent) -> None:
            await rig.respond(event, "answer")

        rig.assign_callback("EXPINIT", answer)
        stream = await connect()
        for _ in range(3):
            start = trio.current_time()
            await stream.send_all(b"[1, 1]")
            assert await stream.receive_some() == b"[1, 1]"
            assert trio.current_time() == start
            message = bytes(await stream.receive_some())
            assert json.loads(message) == [1, "answer"]
            assert trio.current_time() == pytest.approx(start + GAP)
            await stream.send_all(message)


async def test_who_has_pinged_is_answered_at_once(autojump_clock: trio.testing.MockClock) -> None:
    async with open_memory_rig() as (rig, connect):
        rig.assign_callback("EXPINIT", lambda event: rig.respond(event, "answer"))
        stream = await connect()
        await stream.send_all(PING)
        assert await stream.receive_some() == PING
        await stream.send_all(b"[1, 1]")
        received = b""
        while len(received) < len(b'[1, 1][1,"answer"]'):
            received += await stream.receive_some()
        assert trio.current_time() == 0


async def test_a_report_of_a_failed_callback_keeps_its_distance_too(
    autojump_clock: trio.testing.MockClock,
) -> None:
    def fail(event: RigEvent) -> None:
        raise ValueError("no")

    async with open_memory_rig() as (rig, connect):
        rig.assign_callback("EXPINIT", fail)
        stream = await connect()
        await stream.send_all(b"[1, 1]")
        assert await stream.receive_some() == b"[1, 1]"
        assert await stream.receive_some() == b'[0, "ValueError: no", 1]'
        assert trio.current_time() == pytest.approx(GAP)


async def test_an_echo_is_awaited_for_so_long(autojump_clock: trio.testing.MockClock) -> None:
    async with open_memory_rig(echo_timeout=3) as (rig, connect):
        stream = await connect()
        address = await address_behind(rig, stream)
        start = trio.current_time()
        with pytest.raises(trionet.EchoTimeout, match=r"within 3 s .*after 3\.000 s"):
            await rig.init(1, address=address)
        assert trio.current_time() == start + 3
        with pytest.raises(trionet.EchoTimeout):
            await rig.init(2, address=address, echo_timeout=5, attempts=4)
        assert trio.current_time() == start + 3 + 4 * 5
        assert await stream.receive_some() == b"[1, 1]" + 4 * b"[1, 2]"


async def test_attempts_are_made_at_even_distances_until_the_echo(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_memory_rig(attempts=5) as (rig, connect), trio.open_nursery() as nursery:
        stream = await connect()
        address = await address_behind(rig, stream)
        start = trio.current_time()
        nursery.start_soon(lambda: rig.init(1, address=address))
        for number in range(3):
            assert await stream.receive_some() == b"[1, 1]"
            assert trio.current_time() == start + number
        await trio.sleep(0.5)
        await stream.send_all(b"[1, 1]" * 3)  # the others were late
        await trio.testing.wait_all_tasks_blocked()
        assert not nursery.child_tasks
        assert rig.statistics() == trionet.RigStatistics(received=1, confirmed=1, late_echoes=2)


async def test_an_echo_at_the_last_moment_counts(mock_clock: trio.testing.MockClock) -> None:
    """It arrives in the scheduling round in which the time is over."""
    for attempts in [1, 2] * 20:
        async with open_memory_rig() as (rig, connect), trio.open_nursery() as nursery:
            stream = await connect()
            with rig.open_events() as events:
                await stream.send_all(b'[8, "who"]')
                address = (await events.receive()).address
            await stream.receive_some()
            mock_clock.jump(GAP)
            outcome: list[str] = []
            nursery.start_soon(_init, rig, address, attempts, outcome)
            assert await stream.receive_some() == b"[1, 1]"
            await trio.testing.wait_all_tasks_blocked()
            await stream.send_all(b"[1, 1]")
            mock_clock.jump(1)
            await trio.testing.wait_all_tasks_blocked()
            # Either of the two tasks may have been first, but they agree.
            if attempts == 1:
                assert outcome == ["confirmed" if rig.statistics().confirmed else "timeout"]
            nursery.cancel_scope.cancel()


async def _init(
    rig: trionet.RigCommunicator, address: tuple[str, int], attempts: int, outcome: list[str]
) -> None:
    try:
        await rig.init(1, address=address, attempts=attempts)
        outcome.append("confirmed")
    except trionet.EchoTimeout:
        outcome.append("timeout")


async def test_a_peer_that_never_reads_its_echoes(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    send_streams, receive_streams = trio.open_memory_channel[trio.abc.Stream](1)
    # What one end sends is held until the other end takes it.
    stream, rig_end = trio.testing.lockstep_stream_pair()
    send_streams.send_nowait(rig_end)
    async with trionet.open_rig_listener("tcp://rig", listeners=[MemoryListener(receive_streams)]) as rig:
        await stream.send_all(b"[1, 1]")
        with pytest.raises(trio.BrokenResourceError):
            while True:
                await trio.sleep(1)
                await stream.send_all(b"[1, 2]")
        assert trio.current_time() == STALL
        assert rig.statistics().malformed == 0
    (record,) = caplog.records
    assert "10.0 s" in record.getMessage()


async def test_the_connection_is_lost_while_an_echo_is_awaited(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_memory_rig(echo_timeout=1000, attempts=5) as (rig, connect):
        stream = await connect()
        address = await address_behind(rig, stream)
        other = await connect()
        start = trio.current_time()

        async def init() -> None:
            with pytest.raises(trionet.ConnectionLost, match="connection"):
                await rig.init(address=address)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(init)
            assert await stream.receive_some() == b"[1, null]"
            await stream.aclose()
        assert trio.current_time() == start
        with pytest.raises(trionet.ConnectionLost, match=r"no such connection|connection is gone"):
            await rig.init(address=address)
        await other.send_all(b"[1, 1]")
        assert await other.receive_some() == b"[1, 1]"


async def test_repeats_are_known_for_the_length_of_the_window(autojump_clock: trio.testing.MockClock) -> None:
    async with open_memory_rig(dedup_window=10) as (rig, connect):
        stream = await connect()
        for wait, received, repeats in ((0, 1, 0), (9, 1, 1), (2, 2, 1), (1, 2, 2)):
            await trio.sleep(wait)
            await stream.send_all(b"[1, 1]")
            assert await stream.receive_some() == b"[1, 1]"
            assert rig.statistics() == trionet.RigStatistics(received=received, repeats=repeats)


async def test_each_connection_has_an_address_of_its_own(autojump_clock: trio.testing.MockClock) -> None:
    async with open_memory_rig() as (rig, connect):
        streams = [await connect() for _ in range(3)]
        addresses = [await address_behind(rig, stream) for stream in streams]
        assert len(set(addresses)) == 3
        async with trio.open_nursery() as nursery:
            for number, address in enumerate(addresses):
                nursery.start_soon(functools.partial(rig.stop, number, address=address))
            for number, stream in enumerate(streams):
                assert await stream.receive_some() == b"[4, %d]" % number
                await stream.send_all(b"[4, %d]" % number)


async def test_a_request_for_a_token_that_is_not_answered_waits(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_memory_rig() as (rig, connect), trio.open_nursery() as nursery:
        stream = await connect()
        address = await address_behind(rig, stream)
        tokens: list[Any] = []

        async def ask() -> None:
            tokens.append(await rig.alyx(address=address))

        nursery.start_soon(ask)
        assert await stream.receive_some() == b"[128, null, {}]"
        await stream.send_all(b"[128, null, {}]")
        await trio.sleep(80_000)
        assert tokens == []
        await stream.send_all(b'[128, "url", {"lab": 1}]')
        assert await stream.receive_some() == b'[128, "url", {"lab": 1}]'
        await trio.testing.wait_all_tasks_blocked()
        assert tokens == [trionet.AlyxToken("url", {"lab": 1})]


async def test_sending_waits_for_a_peer_that_reads_slowly(autojump_clock: trio.testing.MockClock) -> None:
    """Also what nobody confirms: it does not pile up here."""
    send_streams, receive_streams = trio.open_memory_channel[trio.abc.Stream](1)
    stream, rig_end = trio.testing.lockstep_stream_pair()
    send_streams.send_nowait(rig_end)
    listeners = [MemoryListener(receive_streams)]
    async with trionet.open_rig_listener("tcp://rig", listeners=listeners, max_message_size=10_000) as rig:
        with rig.open_events() as events:
            await stream.send_all(b"[1, 1]")
            await stream.receive_some()
            address = (await events.receive()).address
        sent = received = 0
        message = b'[4, "' + b"x" * 5000 + b'"]'

        async def send() -> None:
            nonlocal sent
            for _ in range(100):
                await rig.send(message, address=address)
                sent += len(message)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            while received < 100 * len(message):
                await trio.sleep(1)
                assert sent <= received + 30_000
                received += len(await stream.receive_some(5000))
        await stream.aclose()


async def test_a_message_gets_its_turn_while_the_peer_keeps_sending(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Each echo asks for a gap behind it, and there is always another one."""
    async with open_memory_rig() as (rig, connect), trio.open_nursery() as nursery:
        stream = await connect()
        address = await address_behind(rig, stream)

        async def talk() -> None:
            for number in itertools.count():
                await stream.send_all(b"[1, %d]" % number)
                await trio.sleep(GAP / 2)

        nursery.start_soon(talk)
        await trio.sleep(1)
        nursery.start_soon(functools.partial(rig.send, [4, "our turn"], address=address))
        start = trio.current_time()
        received = b""
        while b"our turn" not in received:
            received += await stream.receive_some()
        assert trio.current_time() <= start + 10 * GAP
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("how", ["the peer closes", "the peer has not read"])
async def test_lost_while_a_message_waits_for_room(how: str, autojump_clock: trio.testing.MockClock) -> None:
    """Unconfirmed, or the echo's timeout would end it."""
    send_streams, receive_streams = trio.open_memory_channel[trio.abc.Stream](1)
    stream, rig_end = trio.testing.lockstep_stream_pair()
    send_streams.send_nowait(rig_end)
    listener = MemoryListener(receive_streams)
    async with trionet.open_rig_listener("tcp://rig", listeners=[listener], max_message_size=10_000) as rig:
        with rig.open_events() as events:
            await stream.send_all(b"[1, 1]")
            await stream.receive_some()
            address = (await events.receive()).address
        lost = False

        async def send() -> None:
            nonlocal lost
            with pytest.raises(trionet.ConnectionLost):
                while True:
                    await rig.send("x" * 5000, address=address)
            lost = True

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            await trio.sleep(1)
            if how == "the peer closes":
                await stream.send_stream.aclose()
            await trio.sleep(15)
            nursery.cancel_scope.cancel()
        assert lost
        await stream.aclose()
