"""Sending to one rig over loopback: what is sent, what confirms it, and what goes wrong."""

from __future__ import annotations

import functools
import json
import socket
from collections.abc import Awaitable, Callable
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
    open_raw_rig,
    unused_port,
)
from trionet import ExpMessage, ExpStatus, RigCommunicator

REFERENCE = {"date": "2026-11-20", "sequence": "1", "subject": "mouse"}

METHODS: list[tuple[Callable[[RigCommunicator], Awaitable[object]], list[Any]]] = [
    (lambda rig: rig.init(), [1, None]),
    (lambda rig: rig.init({"a": [1.5, None]}), [1, {"a": [1.5, None]}]),
    (lambda rig: rig.start("2026-11-20_1_mouse"), [2, "2026-11-20_1_mouse", None]),
    (lambda rig: rig.start(REFERENCE, "more"), [2, "2026-11-20_1_mouse", "more"]),
    (lambda rig: rig.start(None), [2, None, None]),
    (lambda rig: rig.stop("now"), [4, "now"]),
    (lambda rig: rig.cleanup(), [8, None]),
    (lambda rig: rig.stop(immediately=True), [16, None]),
    (lambda rig: rig.status("running"), [32, 20]),
    (lambda rig: rig.status(ExpStatus.CONNECTED), [32, 0]),
    (lambda rig: rig.info(30, [1, 2]), [64, 30, [1, 2]]),
    (lambda rig: rig.confirmed_send([ExpMessage.EXPINIT, 1]), [1, 1]),
    (lambda rig: rig.send([ExpMessage.EXPEND, "unconfirmed"]), [4, "unconfirmed"]),
    (lambda rig: rig.send([0, "ValueError: no", 4]), [0, "ValueError: no", 4]),
]


@both_schemes
@pytest.mark.parametrize(("call", "expected"), METHODS)
async def test_what_each_method_sends(
    scheme: str, call: Callable[[RigCommunicator], Awaitable[object]], expected: list[Any]
) -> None:
    async with open_raw_rig(scheme) as (client, rig), trio.open_nursery() as nursery:
        nursery.start_soon(call, client)
        message = await rig.receive()
        assert message == json.dumps(expected).encode()
        await rig.send(message)


@both_schemes
async def test_a_ping_is_spelt_as_nobody_else_does(scheme: str) -> None:
    async with open_raw_rig(scheme) as (client, rig), trio.open_nursery() as nursery:
        nursery.start_soon(client.ping)
        message = await rig.receive()
        assert message == b"[ 32 ]"
        await rig.send(message)


@both_schemes
@pytest.mark.parametrize("message", ["[1, 2]\n", b"[1,2]", "[ 1, \t2]  ", "no message"])
async def test_text_and_bytes_are_sent_as_they_are(scheme: str, message: str | bytes) -> None:
    async with open_pair(scheme) as (client, rig):
        await client.confirmed_send(message)
        assert rig.statistics().received + rig.statistics().malformed == 1


@both_schemes
async def test_a_message_is_confirmed_by_its_echo_and_nothing_else(scheme: str) -> None:
    confirmed = False

    async def init() -> None:
        nonlocal confirmed
        await client.init(1)
        confirmed = True

    async with open_raw_rig(scheme) as (client, rig):
        with client.open_events() as events:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(init)
                await rig.receive_exactly(b"[1, 1]")
                await rig.send(b"[1, 2]")
                assert (await events.receive()).data == [2]
                await rig.receive_exactly(b"[1, 2]")
                assert not confirmed
                await rig.send(b"[1, 1]")
        assert client.statistics() == trionet.RigStatistics(received=1, confirmed=1)


@both_schemes
async def test_messages_to_one_rig_wait_for_each_other_in_the_order_of_the_calls(scheme: str) -> None:
    async with open_raw_rig(scheme) as (client, rig), trio.open_nursery() as nursery:
        for number in range(5):
            nursery.start_soon(client.init, number)
            await trio.testing.wait_all_tasks_blocked()
        for number in range(5):
            # One read would get more than one message, if there were more.
            assert await rig.receive() == b"[1, %d]" % number
            await rig.send(b"[1, %d]" % number)


@both_schemes
async def test_two_that_send_at_the_same_moment_both_succeed(scheme: str) -> None:
    async with open_raw_rig(scheme) as (client, rig):
        with client.open_events() as events:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(client.init, "ours")
                await rig.send([2, "theirs", None])
                # Over TCP, our message may be read together with the echo of theirs.
                expected = {b'[1, "ours"]', b'[2, "theirs", null]'}
                received = b""
                while not all(message in received for message in expected):
                    received += await rig.receive()
                await rig.send([1, "ours"])
            assert (await events.receive()).data == ["theirs", None]


@both_schemes
async def test_two_communicators_that_send_at_the_same_moment_both_succeed(scheme: str) -> None:
    async with open_pair(scheme) as (client, rig):
        with rig.open_events() as events:
            await client.init()
            address = (await events.receive()).address
        for number in range(20):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(client.start, "ref", number)
                nursery.start_soon(functools.partial(rig.info, "RUNNING", number, address=address))
        assert client.statistics().received == 20
        assert rig.statistics().received == 21


@both_schemes
async def test_a_missed_echo_is_a_timeout_and_the_communicator_goes_on(scheme: str) -> None:
    async with open_raw_rig(scheme, echo_timeout=0.02) as (client, rig):
        with pytest.raises(trionet.EchoTimeout, match=r"no echo came within 0\.02 s") as caught:
            await client.init(1)
        assert isinstance(caught.value, TimeoutError)
        await rig.receive_exactly(b"[1, 1]")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: client.init(2, echo_timeout=30))
            await rig.receive_exactly(b"[1, 2]")
            await rig.send(b"[1, 1]")  # the late one
            await rig.send(b"[1, 2]")
        assert client.statistics() == trionet.RigStatistics(confirmed=1, late_echoes=1)


@both_schemes
async def test_attempts_send_the_same_bytes_again(scheme: str) -> None:
    async with open_raw_rig(scheme) as (client, rig), trio.open_nursery() as nursery:
        # More than are looked at, so that they are not over before.
        nursery.start_soon(lambda: client.init("again", attempts=100_000, echo_timeout=0.02))
        received = b""
        while len(received) < 3 * len(b'[1, "again"]'):
            received += await rig.receive()
        assert received.replace(b'[1, "again"]', b"") == b""
        nursery.cancel_scope.cancel()


@both_schemes
async def test_attempts_of_the_communicator_end_in_a_timeout(scheme: str) -> None:
    async with open_raw_rig(scheme, attempts=3, echo_timeout=0.02) as (client, rig):
        with pytest.raises(trionet.EchoTimeout, match="sent 3 times"):
            await client.init()
        received = b""
        while len(received) < 3 * len(b"[1, null]"):
            received += await rig.receive()
        assert received == 3 * b"[1, null]"


async def test_a_refused_message_fails_and_the_next_one_is_sent() -> None:
    with unused_port("udp") as port:
        async with open_communicator(loopback("udp", port)) as client:
            for _ in range(2):
                with pytest.raises(ConnectionRefusedError, match=str(port)):
                    await client.init()
            async with open_listener(loopback("udp", port)):
                await client.init()


@both_schemes
async def test_with_attempts_left_a_refused_message_is_sent_again(scheme: str) -> None:
    with unused_port(scheme) as port:
        options: dict[str, Any] = {"connect_first": False, "echo_timeout": 0.05, "attempts": 1000}
        async with open_communicator(loopback(scheme, port), **options) as client:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(client.init, "at last")
                await trio.testing.wait_all_tasks_blocked()
                async with open_listener(loopback(scheme, port)) as rig:
                    assert (await rig.wait_event()).data == ["at last"]
                    while nursery.child_tasks:
                        await trio.testing.wait_all_tasks_blocked()


async def test_tcp_without_a_rig_is_refused_when_it_is_opened() -> None:
    with unused_port("tcp") as port, pytest.raises(ConnectionRefusedError):
        async with open_communicator(loopback("tcp", port)):
            raise AssertionError("opened")


@both_schemes
async def test_a_rig_that_is_not_there_yet_need_not_be(scheme: str) -> None:
    with unused_port(scheme) as port:
        uri = loopback(scheme, port)
        async with open_communicator(uri, connect_first=False) as client:
            with pytest.raises(ConnectionRefusedError):
                await client.init()
            async with open_listener(uri):
                await client.init()


@both_schemes
async def test_values_that_json_cannot_carry(scheme: str) -> None:
    async with open_pair(scheme) as (client, rig):
        with pytest.raises(TypeError):
            await client.init(object())
        with pytest.raises(trionet.LocalProtocolError, match="use send"):
            await client.confirmed_send([0, "ValueError: no", 1])
        await client.init()
        assert rig.statistics().received == 1


@both_schemes
@pytest.mark.parametrize(
    "options",
    [{"echo_timeout": 0}, {"echo_timeout": -1.0}, {"echo_timeout": float("nan")}, {"attempts": 0}],
)
async def test_numbers_out_of_range(scheme: str, options: Any) -> None:
    with pytest.raises(ValueError, match="must be"):
        async with open_communicator(loopback(scheme, 1), **options):
            pass
    async with open_pair(scheme) as (client, rig):
        with pytest.raises(ValueError, match="must be"):
            await client.init(**options)
        await client.init()
        assert rig.statistics().received == 1


@pytest.mark.parametrize("call", ["status", "info"])
async def test_there_is_no_such_status(call: str) -> None:
    async with open_pair("udp") as (client, _):
        for wrong in (99, "ASLEEP"):
            with pytest.raises(ValueError, match=str(wrong)):
                await getattr(client, call)(wrong)


async def test_a_reference_without_a_subject() -> None:
    async with open_pair("udp") as (client, _):
        with pytest.raises(ValueError, match="subject"):
            await client.start({"date": "2026-11-20", "sequence": 1})


@both_schemes
async def test_a_communicator_talks_to_its_rig_only(scheme: str) -> None:
    async with open_pair(scheme) as (client, rig):
        await client.init(address=(LOOPBACK, rig.port))
        with pytest.raises(ValueError, match="only"):
            await client.init(address=(LOOPBACK, 1))


@both_schemes
async def test_name_and_uri(scheme: str) -> None:
    async with open_pair(scheme) as (client, rig):
        assert (client.name, rig.name) == ("client", "rig")
        assert str(client.uri) == loopback(scheme, rig.port)
        assert rig.addresses == ((LOOPBACK, rig.port),)
        with rig.open_events() as events:
            await client.init()
            event = await events.receive()
        assert event.rig == "rig"
        if scheme == "udp":
            assert client.addresses == (event.address,)
        else:
            assert client.addresses == ()
        uri = loopback(scheme, rig.port)
        async with open_communicator(uri) as unnamed:
            assert unnamed.name == uri


async def test_a_host_name_is_looked_up_for_udp() -> None:
    async with open_listener("localhost:0") as rig:
        async with open_communicator(f"localhost:{rig.port}") as client:
            assert client.uri.host == LOOPBACK
            await client.init()


@both_schemes
async def test_an_unknown_host(scheme: str) -> None:
    with pytest.raises(socket.gaierror, match=r"no-such-rig\.invalid"):
        async with open_communicator(f"{scheme}://no-such-rig.invalid"):
            pass
    with pytest.raises(socket.gaierror, match=r"no-such-rig\.invalid"):
        async with open_listener(f"{scheme}://no-such-rig.invalid"):
            pass


@both_schemes
async def test_what_the_block_raises_comes_out_as_it_is(scheme: str) -> None:
    with pytest.raises(KeyError, match="plain"):
        async with open_pair(scheme) as (client, _):
            await client.init()
            raise KeyError("plain")


@both_schemes
async def test_cancelling_its_scope_ends_the_block(scheme: str) -> None:
    async with open_listener(loopback(scheme)) as rig:
        async with open_communicator(loopback(scheme, rig.port)) as client:
            client.cancel_scope.cancel()
            await trio.sleep_forever()
        rig.cancel_scope.cancel()
        await trio.sleep_forever()


@both_schemes
async def test_closed_while_an_echo_is_awaited(scheme: str) -> None:
    closed = False

    async def init(client: RigCommunicator) -> None:
        nonlocal closed
        with pytest.raises(trio.ClosedResourceError):
            await client.init()
        closed = True

    async with trio.open_nursery() as nursery:
        async with open_raw_rig(scheme) as (client, rig):
            nursery.start_soon(init, client)
            await rig.receive()
            client.cancel_scope.cancel()
            await trio.sleep_forever()
    assert closed


@both_schemes
async def test_closed_while_an_event_is_awaited(scheme: str) -> None:
    async def wait(client: RigCommunicator) -> None:
        with pytest.raises(trio.ClosedResourceError):
            await client.wait_event()

    async def iterate(client: RigCommunicator) -> None:
        with client.open_events() as events:
            assert [event async for event in events] == []

    async with trio.open_nursery() as nursery:
        async with open_raw_rig(scheme) as (client, _):
            nursery.start_soon(wait, client)
            nursery.start_soon(iterate, client)
            await trio.testing.wait_all_tasks_blocked()
            client.cancel_scope.cancel()
            await trio.sleep_forever()
    with pytest.raises(trio.ClosedResourceError):
        await client.wait_event()


@both_schemes
async def test_messages_of_a_closed_communicator(scheme: str) -> None:
    async with open_listener(loopback(scheme)) as rig:
        async with open_communicator(loopback(scheme, rig.port)) as client:
            address = await address_of(client, rig)
        with pytest.raises(trio.ClosedResourceError):
            await client.init()
        assert rig.statistics().received == 1
    for sender, where in ((client, None), (rig, address)):
        with pytest.raises(trio.ClosedResourceError):
            await sender.init(address=where)
        with pytest.raises(trio.ClosedResourceError):
            await sender.send([1, 2], address=where)


@both_schemes
async def test_an_echo_without_a_message_is_a_message(scheme: str) -> None:
    """Nothing was sent: so it is no echo, and gets one."""
    async with open_listener(loopback(scheme)) as rig:
        with rig.open_events() as events:
            async with open_raw_client(scheme, rig.port) as peer:
                await peer.send([1, None])
                assert (await events.receive()).event == ExpMessage.EXPINIT
                await peer.receive_exactly(b"[1, null]")


@both_schemes
async def test_options_that_do_not_exist(scheme: str) -> None:
    """Such as upstream's name for the timeout."""
    async with open_pair(scheme) as (client, rig):
        wrong: Any = {"timeout": 3}
        with pytest.raises(TypeError, match="timeout"):
            await client.init(1, **wrong)
        assert rig.statistics().received == 0


async def test_refusals_of_messages_are_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Who sends is told; and however many there are, nothing is wrong with receiving."""
    with unused_port("udp") as port:
        uri = loopback("udp", port)
        async with open_communicator(uri) as client:
            for _ in range(50):
                with pytest.raises(ConnectionRefusedError):
                    await client.init()
        assert caplog.records == []
