"""Rigs over UDP when several things happen at the same time, or a host or link fails meanwhile."""

from __future__ import annotations

import math

import pytest
import trio

import trionet
from tests.lab.rigs import (
    RIG_PORT,
    LabRig,
    answer,
    ignore,
    near,
    open_lab_pair,
    time_of,
    time_to_fail,
)
from trionet import EchoTimeout, ExpMessage, RigCommunicator, RigEvent
from trionet.testing import DROP, Delay, Lab, Packet, Verdict


async def test_messages_to_one_address_go_one_after_the_other(lab: Lab) -> None:
    done: list[tuple[int, float]] = []

    async def send(client: RigCommunicator, number: int) -> None:
        await client.init(number)
        done.append((number, trio.current_time()))

    async with open_lab_pair(lab, latency=0.1) as (client, rig):
        async with trio.open_nursery() as nursery:
            for number in range(5):
                nursery.start_soon(send, client, number)
                await trio.sleep(0.001)
    assert done == [(number, near(0.2 * (number + 1))) for number in range(5)]
    assert rig.data == [[number] for number in range(5)]


async def test_messages_to_several_addresses_go_at_the_same_time(lab: Lab) -> None:
    rigs = [LabRig(lab.host(f"rig{number}"), behaviour=ignore) for number in range(5)]
    with lab.host("client").entered():
        async with trionet.open_rig_listener("udp://0.0.0.0:0") as client:
            async with trio.open_nursery() as nursery:
                for number, rig in enumerate(rigs):
                    lab.link("client", rig.host).latency = 0.1 * number
                    await rig.start()
                    address = (rig.host.ipv4, RIG_PORT)
                    seconds = 0.2 * number

                    async def send(address: tuple[str, int] = address, seconds: float = seconds) -> None:
                        assert await time_of(lambda: client.init(1, address=address)) == near(seconds)

                    nursery.start_soon(send)
            assert trio.current_time() == near(0.8)
    assert [rig.data for rig in rigs] == [[[1]]] * 5


@pytest.mark.parametrize("there", [0, 0.001, 0.01, 0.1, 0.4])
@pytest.mark.parametrize("back", [0, 0.001, 0.01, 0.1, 0.4])
@pytest.mark.parametrize("later", [0, 0.002, 0.1])
async def test_two_that_send_to_each_other_both_succeed(
    lab: Lab, there: float, back: float, later: float
) -> None:
    async with open_lab_pair(lab) as (client, rig):
        await client.cleanup("where I am")
        address = rig.events[0].address
        await client.ping()  # both know then that there is no need of gaps behind echoes
        await rig.communicator.ping(address=address)
        link = lab.link("client", "rig")
        link.toward("rig").latency, link.toward("client").latency = there, back

        async def later_back() -> None:
            await trio.sleep(later)
            assert await time_of(lambda: rig.communicator.init(2, address=address)) == near(there + back)

        async with trio.open_nursery() as nursery:
            with client.open_events() as events:
                nursery.start_soon(later_back)
                assert await time_of(lambda: client.init(1)) == near(there + back)
                assert (await events.receive()).data == [2]
        await trio.sleep(1)
        assert rig.data == [["where I am"], [1]]
        assert (client.statistics().received, client.statistics().late_echoes) == (1, 0)


async def test_the_same_bytes_sent_to_each_other_confirm_each_other(lab: Lab) -> None:
    async with open_lab_pair(lab, latency=0.1) as (client, rig):
        await client.cleanup("where I am")
        address = rig.events[0].address
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: rig.communicator.init(1, address=address))
            assert await time_of(lambda: client.init(1)) == near(0.1)
        await trio.sleep(30)
        assert client.statistics().confirmed == 2
        assert rig.data == [["where I am"]]


async def test_an_answer_that_overtakes_the_echo_is_not_lost(lab: Lab) -> None:
    async with open_lab_pair(lab, behaviour=answer, latency=0.1) as (client, rig):
        services = trionet.RigServices({"rig": client})

        def delay_echo(packet: Packet) -> Verdict | None:
            return Delay(0.5) if packet.src.host == "rig" and packet.payload == b"[1, 1]" else None

        with lab.rule(delay_echo):
            assert await services.init(1) == {"rig": [["rig", 1]]}
        assert trio.current_time() == near(0.7)
        assert len(rig.events) == 1


# The same message once more, while an echo of it is still to come.


async def test_an_echo_that_is_owed_is_no_answer_to_the_next_question(lab: Lab) -> None:
    async with open_lab_pair(lab, latency=0.6) as (client, rig):
        services = trionet.RigServices({"rig": client}, response_timeout=5)
        for kind in (EchoTimeout, trionet.ResponseTimeout):
            with pytest.raises(trionet.ServicesError) as caught:
                await services.init(1)
            assert type(caught.value.failed["rig"]) is kind
        assert rig.data == [[1], [1]]


async def test_a_message_that_is_sent_again_after_it_was_cancelled(lab: Lab) -> None:
    async with open_lab_pair(lab, latency=0.1) as (client, rig):
        with trio.move_on_after(0.15):
            await client.init(1)
        await client.init(1)
        await trio.sleep(1)
        assert rig.data == [[1], [1]]
        assert (client.statistics().received, client.statistics().late_echoes) == (0, 1)


# Hosts and links that fail for some time.


@pytest.mark.parametrize("scheme", ["udp", "tcp"])
@pytest.mark.parametrize("confirmed", [True, False])
async def test_a_message_that_was_cancelled_before_it_left_is_no_echo_when_the_peer_sends_it(
    lab: Lab, scheme: str, confirmed: bool
) -> None:
    async with open_lab_pair(lab, scheme) as (client, rig):
        await client.init("who I am")
        address = rig.events[0].address
        with trio.move_on_after(0.001) as scope:  # it waits behind the echo that has just been sent
            if confirmed:
                await rig.communicator.status("RUNNING", address=address)
            else:
                await rig.communicator.send([ExpMessage.EXPSTATUS, 20], address=address)
        assert scope.cancelled_caught
        await trio.sleep(1)
        await client.status("RUNNING")
        assert rig.data == [["who I am"], [20]]


async def test_a_message_that_was_refused_is_no_echo_when_the_peer_sends_it(lab: Lab) -> None:
    async with open_lab_pair(lab) as (client, rig):
        await client.init("who I am")
        address = rig.events[0].address
        await rig.stop()
        with pytest.raises(ConnectionRefusedError):
            await client.status("RUNNING")
        await rig.start()
        with client.open_events() as events:
            await rig.communicator.status("RUNNING", address=address)
            assert (await events.receive()).data == [20]


@pytest.mark.parametrize("scheme", ["udp", "tcp"])
async def test_what_one_side_has_said_long_ago_the_other_may_say_again_and_again(
    lab: Lab, scheme: str
) -> None:
    async with open_lab_pair(lab, scheme) as (client, rig):
        await client.status("RUNNING")
        await client.ping()
        address = rig.events[0].address
        await trio.sleep(11)
        with client.open_events() as events:
            for _ in range(10):
                await rig.communicator.ping(address=address)
                await rig.communicator.status("RUNNING", address=address)
                assert (await events.receive()).data == [20]


async def test_what_is_under_way_when_a_partition_begins_arrives(lab: Lab) -> None:
    async with open_lab_pair(lab, latency=0.1) as (client, rig):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: client.init(1, attempts=2))
            await trio.sleep(0.15)
            lab.partition("client", "rig")
            await trio.sleep(0.5)
            assert client.statistics().confirmed == 1
        assert rig.data == [[1]]


async def test_a_partition_in_a_wait_costs_attempts(lab: Lab) -> None:
    async with open_lab_pair(lab, latency=0.1, dedup_window=10) as (client, rig):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: client.init(2, attempts=3))
            await trio.sleep(0.05)
            lab.partition("rig", "client", one_way=True)  # the echo does not arrive
            await trio.sleep(1.5)  # nor does that of the second attempt
            lab.repair()
        assert trio.current_time() == near(2.2)
        assert rig.data == [[2]]


async def test_a_rig_that_stands_still_confirms_when_it_goes_on(lab: Lab) -> None:
    async with open_lab_pair(lab, latency=0.1, echo_timeout=60) as (client, rig):
        rig.host.pause()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: client.init(1))
            await trio.sleep(10)
            assert rig.data == []
            rig.host.resume()
        assert trio.current_time() == near(10.1)
        assert rig.data == [[1]]


async def test_attempts_that_were_held_are_one_message(lab: Lab) -> None:
    async with open_lab_pair(lab, dedup_window=30) as (client, rig):
        lab.hold("client", "rig")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: client.init(1, attempts=20))
            await trio.sleep(9.5)
            lab.release()
        assert trio.current_time() == near(9.5)
        await trio.sleep(1)
        assert rig.data == [[1]]
        assert client.statistics().late_echoes == 9


async def test_without_a_window_each_attempt_that_arrives_is_a_message(lab: Lab) -> None:
    async with open_lab_pair(lab) as (client, rig):
        with lab.rule(lambda packet: DROP if packet.src.host == "rig" else None):
            await time_to_fail(EchoTimeout, lambda: client.init(1, attempts=3))
        assert rig.data == [[1]] * 3


async def test_waiting_for_ever_is_possible(lab: Lab) -> None:
    async with open_lab_pair(lab, echo_timeout=math.inf) as (client, rig):
        lab.hold("client", "rig")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.init, 1)
            await trio.sleep(80_000)
            lab.release()
        assert rig.events == [RigEvent(ExpMessage.EXPINIT, [1], rig.events[0].address, "rig")]


@pytest.mark.parametrize("scheme", ["udp", "tcp"])
@pytest.mark.parametrize("window", [0.0, 60.0])
async def test_an_answer_that_says_what_its_question_says_is_no_echo(
    lab: Lab, scheme: str, window: float
) -> None:
    """It has other bytes, even over a network that doubles every datagram."""

    async def repeat(event: RigEvent, rig: RigCommunicator) -> None:
        await rig.respond(event)

    async with open_lab_pair(lab, scheme, repeat, dedup_window=window) as (client, rig):
        if window:
            lab.link("client", "rig").duplicate = 1.0
        services = trionet.RigServices({"rig": client})
        assert await services.init() == {"rig": [None]}
        assert await services.stop() == {"rig": [None]}
    assert rig.data == [[None], [None]]
