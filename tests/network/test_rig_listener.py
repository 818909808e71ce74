"""Being a rig over loopback: events, callbacks, answers, and many that talk to one."""

from __future__ import annotations

import contextlib
import functools
import math
import socket
import sys
from typing import Any

import pytest
import trio
import trio.testing

import trionet
from tests.network.rigs import (
    LOOPBACK,
    address_of,
    both_schemes,
    loopback,
    open_communicator,
    open_listener,
    open_pair,
    open_raw_client,
)
from trionet import ExpMessage, RigEvent


@both_schemes
async def test_the_next_event_of_a_mask(scheme: str) -> None:
    async with open_pair(scheme) as (client, rig), trio.open_nursery() as nursery:
        events: list[RigEvent] = []

        async def wait(mask: ExpMessage | int | str) -> None:
            events.append(await rig.wait_event(mask))

        nursery.start_soon(wait, ExpMessage.EXPSTART | ExpMessage.EXPEND)
        await trio.testing.wait_all_tasks_blocked()
        await client.init()
        await client.stop("why")
        await trio.testing.wait_all_tasks_blocked()
        assert [(event.event, event.data) for event in events] == [(ExpMessage.EXPEND, ["why"])]
        nursery.start_soon(wait, "expstart")
        await trio.testing.wait_all_tasks_blocked()
        await client.start("ref", {"n": 1})
        await trio.testing.wait_all_tasks_blocked()
        assert events[1].data == ["ref", {"n": 1}]


@both_schemes
async def test_a_stream_misses_nothing_between_two_waits(scheme: str) -> None:
    async with open_pair(scheme) as (client, rig):
        with rig.open_events(ExpMessage.EXPINIT | ExpMessage.EXPEND) as events:
            for number in range(50):
                await client.init(number)
                await client.cleanup(number)
            await client.stop()
            received = [await events.receive() for _ in range(51)]
    assert [event.data for event in received] == [[number] for number in range(50)] + [[None]]


@both_schemes
async def test_a_stream_that_is_not_read_is_bounded_and_says_so(scheme: str) -> None:
    async with open_pair(scheme) as (client, rig):
        with rig.open_events(max_backlog=3) as events, rig.open_events() as others:
            for number in range(5):
                await client.init(number)
            assert [(await events.receive()).data for _ in range(3)] == [[0], [1], [2]]
            with pytest.raises(trionet.EventsLost, match="2 events"):
                await events.receive()
            await client.init(5)
            assert (await events.receive()).data == [5]
            assert [(await others.receive()).data for _ in range(6)] == [[n] for n in range(6)]


@both_schemes
async def test_many_talk_to_one_rig_at_the_same_time(scheme: str) -> None:
    """Each gets its own echoes and its own answer."""
    async with open_listener(loopback(scheme), name="rig") as rig:

        async def answer(event: RigEvent) -> None:
            await rig.respond(event, "yours", event.data[0])

        rig.assign_callback("EXPINIT", answer)

        async def talk(name: str) -> None:
            async with open_communicator(loopback(scheme, rig.port)) as client:
                with client.open_events("EXPINIT") as events:
                    for number in range(5):
                        await client.init([name, number])
                        assert (await events.receive()).data == ["yours", [name, number]]

        async with trio.open_nursery() as nursery:
            for number in range(8):
                nursery.start_soon(talk, f"client {number}")
        await trio.testing.wait_all_tasks_blocked()  # the last echo
        assert rig.statistics() == trionet.RigStatistics(received=40, confirmed=40)


@both_schemes
async def test_messages_to_different_addresses_are_under_way_at_the_same_time(scheme: str) -> None:
    async with open_listener(loopback(scheme)) as rig:
        async with open_raw_client(scheme, rig.port) as first, open_raw_client(scheme, rig.port) as second:
            addresses = []
            with rig.open_events() as events:
                for peer in (first, second):
                    await peer.send([1, 1])
                    await peer.receive_exactly(b"[1, 1]")
                    addresses.append((await events.receive()).address)
            assert addresses == [first.address, second.address]
            async with trio.open_nursery() as nursery:
                for number, address in enumerate(addresses):
                    nursery.start_soon(functools.partial(rig.stop, number, address=address))
                await second.receive_exactly(b"[4, 1]")
                await second.send([4, 1])
                await first.receive_exactly(b"[4, 0]")
                await first.send([4, 0])


@both_schemes
async def test_a_listener_has_to_be_told_whom_to_send_to(scheme: str) -> None:
    async with open_listener(loopback(scheme)) as rig:
        with pytest.raises(TypeError, match="address"):
            await rig.init()
        with pytest.raises(TypeError, match="address"):
            await rig.send([1, 2])


@both_schemes
async def test_an_answer_has_the_event_and_goes_to_its_sender(scheme: str) -> None:
    async with open_pair(scheme) as (client, rig):
        answered = trio.Event()

        async def answer(event: RigEvent) -> None:
            await rig.respond(event)
            await rig.respond(event, 1, [2])
            answered.set()

        rig.assign_callback("EXPSTART", answer)
        with client.open_events() as events:
            await client.start("ref")
            assert [(await events.receive()).data for _ in range(2)] == [[None], [1, [2]]]
        await answered.wait()


@both_schemes
async def test_a_repeat_within_the_window_is_echoed_and_not_delivered(scheme: str) -> None:
    async with open_listener(loopback(scheme), dedup_window=1000) as rig:
        called: list[RigEvent] = []
        rig.assign_callback(ExpMessage.any(), called.append)
        async with open_raw_client(scheme, rig.port) as peer:
            for message in (b"[1, 1]", b"[1, 2]"):
                await peer.send(message)
                await peer.receive_exactly(message)
            await peer.send(b"[1, 1]")
            await peer.receive_exactly(b"[1, 1]")
            await peer.send(b"[1, 3]")
            await peer.receive_exactly(b"[1, 3]")
        assert [event.data for event in called] == [[1], [2], [3]]
        assert rig.statistics() == trionet.RigStatistics(received=3, repeats=1)


@both_schemes
async def test_without_a_window_every_message_counts(scheme: str) -> None:
    async with open_listener(loopback(scheme)) as rig:
        async with open_raw_client(scheme, rig.port) as peer:
            for _ in range(3):
                await peer.send(b"[1, 1]")
                await peer.receive_exactly(b"[1, 1]")
        assert rig.statistics() == trionet.RigStatistics(received=3)


@both_schemes
async def test_a_negative_window_or_no_callbacks_at_all(scheme: str) -> None:
    for options in ({"dedup_window": -1.0}, {"max_running_callbacks": 0}):
        with pytest.raises(ValueError, match="not"):
            async with open_listener(loopback(scheme), **options):
                pass
    async with open_listener(loopback(scheme)) as rig:
        with pytest.raises(ValueError, match="at least one"), rig.open_events(max_backlog=0):
            pass


@both_schemes
async def test_two_listeners_on_one_port(scheme: str) -> None:
    async with open_listener(loopback(scheme)) as rig:
        with pytest.raises(OSError, match=f"listen on {LOOPBACK}:{rig.port}"):
            async with open_listener(loopback(scheme, rig.port)):
                pass


@both_schemes
async def test_listening_on_all_addresses(scheme: str) -> None:
    async with open_listener(f"{scheme}://0.0.0.0:0") as rig:
        ((host, port),) = rig.addresses
        assert host == "0.0.0.0"
        async with open_communicator(loopback(scheme, port)) as client:
            await client.init()


@both_schemes
async def test_a_request_for_a_token_is_answered_with_one(scheme: str) -> None:
    async with open_pair(scheme) as (client, rig):

        async def answer(event: RigEvent) -> None:
            assert event.data == [None, {}]
            await rig.respond(event, "https://alyx.invalid", {"lab": "secret"})

        rig.assign_callback("ALYX", answer)
        token = await client.alyx()
        assert token == trionet.AlyxToken("https://alyx.invalid", {"lab": "secret"})


@both_schemes
async def test_a_listener_asks_for_a_token(scheme: str) -> None:
    async with open_pair(scheme) as (client, rig), open_pair(scheme) as (stranger, _):
        address = await address_of(client, rig)
        with stranger.open_events():

            async def answer(event: RigEvent) -> None:
                await client.respond(event, None, {"lab": 1})

            client.assign_callback("ALYX", answer)
            assert await rig.alyx(address=address) == trionet.AlyxToken(None, {"lab": 1})


@both_schemes
async def test_a_client_that_is_logged_in_sends_its_token(scheme: str) -> None:
    class Client:
        base_url = "https://alyx.invalid"
        user = "lab"
        _token: Any = "secret"
        is_logged_in = True

    async with open_pair(scheme) as (client, rig):
        with rig.open_events() as events:
            assert await client.alyx(Client()) is None
            event = await events.receive()
    assert (event.event, event.data) == (
        ExpMessage.ALYX,
        ["https://alyx.invalid", {"lab": "secret"}],
    )


@both_schemes
async def test_a_communicator_can_answer_too(scheme: str) -> None:
    """Either side may ask."""
    async with open_pair(scheme) as (client, rig):

        async def answer(event: RigEvent) -> None:
            await client.respond(event, "from the client")

        client.assign_callback("EXPSTATUS", answer)
        address = await address_of(client, rig)
        with rig.open_events("EXPSTATUS") as events:
            await rig.status("RUNNING", address=address)
            assert (await events.receive()).data == ["from the client"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends nothing to 0.0.0.0")
async def test_an_answer_goes_to_where_the_rig_was_asked_for() -> None:
    """Systems that take 0.0.0.0 for this machine answer from another address."""
    async with open_listener(loopback("udp")) as rig:
        async with open_communicator(f"udp://0.0.0.0:{rig.port}") as client:
            address = await address_of(client, rig)
            with client.open_events() as events:
                await rig.init(address=address)
                question = await events.receive()
            assert question.address == ("0.0.0.0", rig.port)
            with rig.open_events("EXPINIT") as events:
                await client.respond(question, "here")
                assert (await events.receive()).data == ["here"]


async def test_a_peer_is_known_however_many_are_being_talked_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trionet.rig._udp._MOST_PEERS", 2)
    async with contextlib.AsyncExitStack() as stack:
        rig = await stack.enter_async_context(open_listener(loopback("udp")))
        here = await stack.enter_async_context(open_listener(loopback("udp")))
        nursery = await stack.enter_async_context(trio.open_nursery())
        for _ in range(2):
            silent = stack.enter_context(socket.socket(type=socket.SOCK_DGRAM))
            silent.bind((LOOPBACK, 0))
            address = silent.getsockname()
            init = functools.partial(here.init, address=address, echo_timeout=math.inf)
            nursery.start_soon(init)
        await trio.testing.wait_all_tasks_blocked()
        await here.init(address=(LOOPBACK, rig.port))
        nursery.cancel_scope.cancel()


@both_schemes
async def test_where_a_listener_listens(scheme: str) -> None:
    async with open_listener(f"{scheme}://localhost:0") as rig:
        assert str(rig.uri) == loopback(scheme, rig.port)
