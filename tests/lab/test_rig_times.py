"""When exactly things happen between rigs over UDP: timeouts, attempts, windows, errors of the system."""

from __future__ import annotations

from typing import Any

import pytest
import trio

import trionet
from tests.lab.rigs import (
    answer,
    near,
    open_lab_pair,
    open_raw_pair,
    payloads,
    quiet_logs,
    time_of,
    time_to_fail,
)
from trionet import EchoTimeout
from trionet.testing import Lab

#: Seconds for which an echo is known for one.
LATE_ECHO = 10.0

# Timeouts and attempts.


@pytest.mark.parametrize("attempts", [1, 2, 5])
@pytest.mark.parametrize("own", [True, False])
async def test_attempts_take_exactly_their_number_times_the_echo_timeout(
    lab: Lab, attempts: int, own: bool
) -> None:
    settings: Any = {"echo_timeout": 0.7, "attempts": attempts}
    async with open_lab_pair(lab, latency=0.1, **({} if own else settings)) as (client, rig):
        rig.host.firewalled = True
        await rig.stop()
        options = settings if own else {}
        assert await time_to_fail(EchoTimeout, lambda: client.init(1, **options)) == near(attempts * 0.7)
        assert [time for time, _ in payloads(lab, "client")] == near([n * 0.7 for n in range(attempts)])
        assert client.statistics() == trionet.RigStatistics()


async def test_the_echo_timeout_of_a_call_goes_before_that_of_the_communicator(lab: Lab) -> None:
    async with open_lab_pair(lab, latency=0.1, echo_timeout=5) as (client, _rig):
        lab.partition("client", "rig")
        assert await time_to_fail(EchoTimeout, lambda: client.init(1, echo_timeout=0.5)) == near(0.5)
        assert await time_to_fail(EchoTimeout, lambda: client.init(1)) == near(5)


@pytest.mark.parametrize("attempt", [1, 2])
async def test_an_attempt_that_arrives_ends_the_waiting(lab: Lab, attempt: int) -> None:
    async with open_lab_pair(lab, latency=0.1) as (client, rig):
        lab.partition("client", "rig")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: client.init(1, attempts=3))
            await trio.sleep(attempt - 0.5)
            lab.repair()
        assert trio.current_time() == near(attempt + 0.2)
        assert rig.data == [[1]]
        assert len(payloads(lab, "client")) == attempt + 1


@pytest.mark.parametrize("latency", [0.4999, 0.5001])
async def test_an_echo_counts_until_the_timeout_and_not_after(lab: Lab, latency: float) -> None:
    async with open_lab_pair(lab, latency=latency) as (client, rig):
        if latency < 0.5:
            assert await time_of(lambda: client.init(1)) == near(2 * latency)
        else:
            assert await time_to_fail(EchoTimeout, lambda: client.init(1)) == near(1)
        await trio.sleep(1)
        assert rig.data == [[1]]
        assert client.statistics().late_echoes == (latency > 0.5)


async def test_an_echo_of_an_earlier_attempt_confirms_too(lab: Lab) -> None:
    async with open_lab_pair(lab, latency=0.8, dedup_window=10) as (client, rig):
        assert await time_of(lambda: client.init(1, attempts=3)) == near(1.6)
        await trio.sleep(5)
        assert rig.data == [[1]]
        assert (rig.communicator.statistics().received, rig.communicator.statistics().repeats) == (1, 1)
        assert (client.statistics().confirmed, client.statistics().late_echoes) == (1, 1)


async def test_echoes_of_all_attempts_are_expected(lab: Lab) -> None:
    async with open_lab_pair(lab, latency=0.8) as (client, rig):
        await client.init(1, attempts=3)
        await trio.sleep(5)
        assert rig.data == [[1], [1]]
        assert (client.statistics().received, client.statistics().late_echoes) == (0, 1)


async def test_no_echo_is_expected_of_an_attempt_that_was_refused(lab: Lab) -> None:
    async with open_lab_pair(lab, latency=0.1) as (client, rig):
        await rig.stop()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: client.init(1, attempts=3))
            await trio.sleep(1.5)
            await rig.start()
        await rig.communicator.send([1, 1], address=rig.events[0].address)
        await trio.sleep(1)
        # So this is no late echo, but the rig's own message.
        assert (client.statistics().received, client.statistics().late_echoes) == (1, 0)


async def test_a_failure_says_where_and_after_how_long(lab: Lab) -> None:
    async with open_lab_pair(lab) as (client, rig):
        lab.partition("client", "rig")
        with pytest.raises(EchoTimeout, match=r"sent 3 times, but no echo came within 0\.5 s") as caught:
            await client.init(1, attempts=3, echo_timeout=0.5)
        assert caught.value.call.peer == f"{rig.host.ipv4}:11001"
        assert caught.value.call.rig == "client"
        assert caught.value.call.elapsed == near(1.5)


# Late echoes.


@pytest.mark.parametrize("late", [0.5, LATE_ECHO - 2])
async def test_a_late_echo_is_known_for_one(lab: Lab, late: float) -> None:
    async with open_raw_pair(lab) as (client, sock), trio.open_nursery() as nursery:
        nursery.start_soon(time_to_fail, EchoTimeout, lambda: client.init(1))
        echo = await sock.recv(100)
        await trio.sleep(1 + late)
        with client.open_events() as events:
            await sock.send(echo)
            await sock.send(b"[1, 2]")
            assert (await events.receive()).data == [2]
        assert client.statistics().late_echoes == 1
        assert [data for _, data in payloads(lab, "client")] == [echo, b"[1, 2]"]


@pytest.mark.parametrize("seconds", [LATE_ECHO - 0.001, LATE_ECHO + 0.001])
@pytest.mark.parametrize("window", [0, 5, 30])
async def test_after_10_s_an_echo_is_a_message(lab: Lab, seconds: float, window: float) -> None:
    async with open_raw_pair(lab, dedup_window=window) as (client, sock):
        await client.send([1, "sent"])
        echo = await sock.recv(100)
        await trio.sleep(seconds)
        with client.open_events() as events:
            await sock.send(echo)
            await sock.send(b"[2, 2]")
            is_message = seconds > max(LATE_ECHO, window)
            assert (await events.receive()).data == (["sent"] if is_message else [2])


@pytest.mark.parametrize("seconds", [LATE_ECHO - 0.001, LATE_ECHO + 0.001])
async def test_the_10_s_begin_with_the_last_attempt(lab: Lab, seconds: float) -> None:
    async with open_raw_pair(lab) as (client, sock):
        await time_to_fail(EchoTimeout, lambda: client.init(1, attempts=4))
        echo = await sock.recv(100)
        await trio.sleep(seconds - 1)
        await sock.send(echo)
        await trio.sleep(1)
        assert client.statistics().late_echoes == (seconds < LATE_ECHO)
        assert client.statistics().received == (seconds > LATE_ECHO)


async def test_a_late_echo_is_not_taken_for_that_of_the_next_message(lab: Lab) -> None:
    async with open_raw_pair(lab) as (client, sock):
        await time_to_fail(EchoTimeout, lambda: client.init(1))
        late = await sock.recv(100)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(time_to_fail, EchoTimeout, lambda: client.init(2))
            await trio.sleep(0.5)
            await sock.send(late)
        assert client.statistics().late_echoes == 1


# The dedup window.


@pytest.mark.parametrize(("gap", "taken"), [(4.999, 1), (5.001, 2)])
async def test_a_message_that_comes_again_within_the_window_is_a_repeat(
    lab: Lab, gap: float, taken: int
) -> None:
    async with open_raw_pair(lab, dedup_window=5) as (client, sock):
        for _ in range(2):
            await sock.send(b"[1, 1]")
            assert await sock.recv(100) == b"[1, 1]"
            await trio.sleep(gap)
        assert client.statistics().received == taken
        assert client.statistics().repeats == 2 - taken


async def test_the_window_begins_with_the_first_of_the_same_messages(lab: Lab) -> None:
    async with open_raw_pair(lab, dedup_window=5) as (client, sock):
        for _ in range(4):  # at 0 s, 2 s, 4 s, 6 s
            await sock.send(b"[1, 1]")
            await trio.sleep(2)
        assert (client.statistics().received, client.statistics().repeats) == (2, 2)


@pytest.mark.parametrize(("gap", "taken"), [(4.999, 0), (5.001, 1)])
async def test_a_second_echo_within_the_window_is_no_message(lab: Lab, gap: float, taken: int) -> None:
    async with open_raw_pair(lab, dedup_window=5) as (client, sock), trio.open_nursery() as nursery:
        nursery.start_soon(lambda: client.init(1))
        echo = await sock.recv(100)
        await sock.send(echo)
        await trio.sleep(gap)
        await sock.send(echo)
        await trio.sleep(1)
        assert (client.statistics().late_echoes, client.statistics().received) == (1 - taken, taken)


# Errors that the system reports.


@pytest.mark.parametrize("attempts", [1, 3])
async def test_a_refused_message_fails_a_round_trip_after_the_last_attempt(lab: Lab, attempts: int) -> None:
    async with open_lab_pair(lab, latency=0.1) as (client, rig):
        await rig.stop()
        seconds = await time_to_fail(ConnectionRefusedError, lambda: client.init(1, attempts=attempts))
        assert seconds == near(attempts - 1 + 0.2)
        await rig.start()
        assert await time_of(lambda: client.init(2)) == near(0.2)
        assert rig.data == [[2]]


async def test_a_rig_that_is_started_between_two_attempts_gets_the_message(lab: Lab) -> None:
    async with open_lab_pair(lab, latency=0.1) as (client, rig):
        await rig.stop()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: client.init(1, attempts=3))
            await trio.sleep(1.5)
            await rig.start()
        assert trio.current_time() == near(2.2)
        assert rig.data == [[1]]


async def test_a_rig_behind_a_firewall_is_silent_and_not_refused(lab: Lab) -> None:
    async with open_lab_pair(lab, latency=0.1) as (client, rig):
        await rig.stop()
        rig.host.firewalled = True
        assert await time_to_fail(EchoTimeout, lambda: client.init(1)) == near(1)


async def test_that_nobody_has_the_address_is_reported(lab: Lab) -> None:
    with lab.host("client").entered():
        async with trionet.open_rig_communicator("udp://10.0.0.99", echo_timeout=30) as client:
            began = trio.current_time()
            with pytest.raises(OSError, match="No route to host"):
                await client.init(1)
            assert trio.current_time() - began == near(3)


@pytest.mark.parametrize("windows", [True, False])
async def test_a_listener_survives_peers_that_are_gone(lab: Lab, windows: bool) -> None:
    lab.host("rig").windows_udp_errors = windows
    async with open_lab_pair(lab, behaviour=answer) as (client, rig):
        with lab.host("client").entered():
            async with trionet.open_rig_communicator(rig.uri, name="gone") as gone:
                await gone.send([1, "no time to wait for the answer"])
        for number in range(20):  # meanwhile the echo and the answer are refused
            with client.open_events() as events:
                await client.init(number)
                assert (await events.receive()).data == [["rig", number]]
        with quiet_logs():
            await trio.sleep(10)
        await client.init("later")


@pytest.mark.parametrize("count", [1, 30])
async def test_errors_of_windows_do_not_stop_a_communicator(lab: Lab, count: int) -> None:
    lab.host("client").windows_udp_errors = True
    async with open_lab_pair(lab) as (client, rig):
        await rig.stop()
        for number in range(count):
            await time_to_fail(ConnectionResetError, lambda number=number: client.init(number))  # type: ignore[misc]
        await rig.start()
        await client.init("there again")
        assert rig.data == [["there again"]]
