"""Rigs over TCP connections: coalesced messages, lost connections and new ones, peers that do not read."""

from __future__ import annotations

import contextlib

import pytest
import trio
import trio.testing

import trionet
from tests.network.rigs import (
    LOOPBACK,
    address_of,
    loopback,
    open_client,
    open_communicator,
    open_listener,
    open_pair,
    open_raw_client,
    open_raw_rig,
    reset,
    unused_port,
)
from trionet import ExpMessage, RigCommunicator, RigEvent


async def until_lost(side: RigCommunicator) -> None:
    """Until it has noticed that the only connection is gone; when, is up to the system."""
    while side.is_connected:
        await trio.lowlevel.checkpoint()


async def echo(stream: trio.SocketStream) -> bytes:
    """Confirm one message."""
    message = bytes(await stream.receive_some())
    await stream.send_all(message)
    return message


async def test_messages_in_one_segment_are_all_delivered_and_echoed() -> None:
    async with open_listener(loopback("tcp")) as rig:
        async with open_raw_client("tcp", rig.port) as peer:
            with rig.open_events() as events:
                await peer.send(b'[1, 1][2, "a][", 2]\n[4, 3] {"x": 1}[8, 4]')
                assert [(await events.receive()).data for _ in range(4)] == [[1], ["a][", 2], [3], [4]]
            await peer.receive_exactly(b'[1, 1][2, "a][", 2]\n[4, 3] {"x": 1}[8, 4]')
        assert rig.statistics() == trionet.RigStatistics(received=4, malformed=1)


async def test_an_answer_in_one_segment_with_the_echo_is_no_trouble() -> None:
    async with open_raw_rig("tcp") as (client, rig):
        with client.open_events() as events:
            for number in range(10):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(client.init, number)
                    message = await rig.receive()
                    await rig.send(message + b'[0, "ValueError: no", 2][1, "answer"]')
                    await rig.receive_exactly(b'[1, "answer"]')
                assert (await events.receive()).data == ["answer"]


async def test_large_messages() -> None:
    text = "x" * 5_000_000
    async with open_pair("tcp", echo_timeout=60) as (client, rig):
        with rig.open_events() as events:
            await client.init(text)
            event = await events.receive()
        assert event.data == [text]
        await rig.init(text, address=event.address)


async def test_a_listener_that_was_restarted_on_its_port() -> None:
    with unused_port("tcp") as port:
        uri = loopback("tcp", port)
        async with open_communicator(uri, connect_first=False) as client:
            for number in range(3):
                async with open_listener(uri) as rig:
                    with rig.open_events() as events:
                        await client.init(number)
                        assert (await events.receive()).data == [number]
                # Before it has noticed the end, it may use the old connection once more.
                with pytest.raises((ConnectionRefusedError, trionet.ConnectionLost)):
                    await client.init("nobody is there")


@pytest.mark.parametrize("how", ["closed", "reset"])
async def test_lost_while_idle(how: str) -> None:
    async with open_client() as (client, listener):
        first = await listener.accept()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.init, 1)
            await echo(first)
        if how == "closed":
            await first.aclose()
        else:
            reset(first)
        await until_lost(client)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.init, 2)
            second = await listener.accept()
            assert await echo(second) == b"[1, 2]"
        await second.aclose()


@pytest.mark.parametrize("how", ["closed", "reset"])
async def test_lost_while_the_echo_is_awaited(how: str) -> None:
    async with open_client() as (client, listener):
        first = await listener.accept()

        async def init() -> None:
            with pytest.raises(trionet.ConnectionLost) as caught:
                await client.init(1)
            assert isinstance(caught.value, ConnectionError)
            await client.init(2)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(init)
            assert await first.receive_some() == b"[1, 1]"
            if how == "closed":
                await first.aclose()
            else:
                reset(first)
            second = await listener.accept()
            assert await echo(second) == b"[1, 2]"
        await second.aclose()


async def test_lost_while_it_is_being_sent() -> None:
    async with open_client() as (client, listener):
        first = await listener.accept()

        async def init() -> None:
            with pytest.raises(trionet.ConnectionLost):
                await client.init("x" * 15_000_000)
            await client.init(2)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(init)
            await first.receive_some(1)
            reset(first)
            second = await listener.accept()
            assert await echo(second) == b"[1, 2]"
        await second.aclose()


async def test_attempts_connect_anew() -> None:
    async with open_client(attempts=1000) as (client, listener):
        first = await listener.accept()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: client.init(1, echo_timeout=0.02))
            assert (await first.receive_some()).startswith(b"[1, 1]")
            await first.aclose()
            second = await listener.accept()
            await second.send_all(b"[1, 1]")
            assert (await second.receive_some()).startswith(b"[1, 1]")
        await second.aclose()


async def test_the_beginning_of_a_message_of_a_lost_connection_is_forgotten() -> None:
    async with open_client() as (client, listener), trio.open_nursery() as nursery:
        first = await listener.accept()
        await first.send_all(b'[1, "the rest will')
        await first.aclose()
        await until_lost(client)
        with client.open_events() as events:
            nursery.start_soon(client.init, 1)
            second = await listener.accept()
            await echo(second)
            await second.send_all(b"[4, 4]")
            assert (await events.receive()).data == [4]
        await second.aclose()


async def test_cancelled_in_the_middle_of_sending_the_next_message_arrives_whole() -> None:
    """Whether the rest of the first one is sent, or the connection given up."""
    long = "x" * 15_000_000
    async with open_listener(loopback("tcp")) as rig:
        async with open_communicator(loopback("tcp", rig.port)) as client:
            with rig.open_events() as events:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(client.init, long)
                    await trio.lowlevel.checkpoint()
                    await trio.lowlevel.checkpoint()
                    nursery.cancel_scope.cancel()
                await client.init("next")
                event = await events.receive()
                if event.data == [long]:
                    event = await events.receive()
                assert event.data == ["next"]
            assert rig.statistics().malformed == 0


async def test_cancelled_while_the_echo_is_awaited_the_connection_stays() -> None:
    async with open_client() as (client, listener):
        stream = await listener.accept()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.init, 1)
            assert await stream.receive_some() == b"[1, 1]"
            nursery.cancel_scope.cancel()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.init, 2)
            assert await stream.receive_some() == b"[1, 2]"
            await stream.send_all(b"[1, 1][1, 2]")
        assert client.statistics() == trionet.RigStatistics(confirmed=1, late_echoes=1)
        await stream.aclose()


async def test_a_peer_that_never_reads_hurts_itself_only() -> None:
    async with open_pair("tcp") as (client, rig):
        async with open_raw_client("tcp", rig.port) as deaf:
            await deaf.send([1, 1])
            await deaf.receive_exactly(b"[1, 1]")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_lose, rig, deaf.address)
                for number in range(20):
                    await client.init(number)
                    await rig.status("RUNNING", address=await address_of(client, rig))
                nursery.cancel_scope.cancel()
        await client.init()


async def _lose(rig: trionet.RigCommunicator, address: tuple[str, int]) -> None:
    await rig.init("x" * 15_000_000, address=address)


async def test_a_client_that_is_gone_is_not_known_any_more() -> None:
    async with open_listener(loopback("tcp")) as rig:
        with rig.open_events() as events:
            async with open_raw_client("tcp", rig.port) as peer:
                await peer.send([1, 1])
                address = (await events.receive()).address
                assert address == peer.address
            await until_lost(rig)
            for send in (rig.init, rig.alyx, rig.cleanup):
                with pytest.raises(trionet.ConnectionLost, match="no such connection"):
                    await send(address=address)
            with pytest.raises(trionet.ConnectionLost):
                await rig.send([1, 2], address=address)


async def test_a_report_for_a_client_that_is_gone_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    go_on = trio.Event()
    failed = trio.Event()

    async def fail(event: RigEvent) -> None:
        await go_on.wait()
        failed.set()
        raise ValueError("too late")

    async with open_listener(loopback("tcp")) as rig:
        rig.assign_callback("EXPINIT", fail)
        async with open_raw_client("tcp", rig.port) as peer:
            await peer.send([1, 1])
            await peer.receive()
        await until_lost(rig)
        go_on.set()
        await failed.wait()
        async with open_raw_client("tcp", rig.port) as peer:
            await peer.send([4, 1])
            await peer.receive_exactly(b"[4, 1]")
    assert any("was not told" in record.getMessage() for record in caplog.records)


async def test_one_connection_that_ends_does_not_disturb_the_others() -> None:
    async with open_listener(loopback("tcp")) as rig:
        async with open_raw_client("tcp", rig.port) as peer:
            for ending in (b"", b"[1, ", b"x", b"[" * 1000):
                async with open_raw_client("tcp", rig.port) as bad:
                    await bad.send(ending)
                    await peer.send([1, 1])
                    await peer.receive_exactly(b"[1, 1]")
                    if ending != b"x":
                        assert bad.stream is not None
                        reset(bad.stream)
            await peer.send([1, 2])
            await peer.receive_exactly(b"[1, 2]")
        assert rig.statistics().received == 5


async def test_a_message_that_is_too_long_ends_its_connection(caplog: pytest.LogCaptureFixture) -> None:
    async with open_listener(loopback("tcp"), max_message_size=1000) as rig:
        async with open_raw_client("tcp", rig.port) as good, open_raw_client("tcp", rig.port) as bad:
            await bad.send([1, "x" * 1000])
            with contextlib.suppress(OSError):
                assert await bad.receive() == b""
            await good.send([1, 1])
            await good.receive_exactly(b"[1, 1]")
    (record,) = caplog.records
    assert "a message of more than 1000 bytes" in record.getMessage()


async def test_connecting_is_given_up() -> None:
    """To a listener whose backlog is full; the system goes on trying for minutes."""
    with trio.socket.socket() as full:
        await full.bind((LOOPBACK, 0))
        full.listen(0)
        uri = loopback("tcp", full.getsockname()[1])
        async with contextlib.AsyncExitStack() as stack:
            with pytest.raises(TimeoutError, match=r"within 0\.05 s"):
                for _ in range(10):
                    communicator = open_communicator(uri, connect_timeout=0.05)
                    await stack.enter_async_context(communicator)


async def test_ws_is_another_word_for_tcp() -> None:
    async with open_listener(loopback("ws")) as rig:
        for scheme in ("ws", "tcp"):
            async with open_communicator(loopback(scheme, rig.port)) as client:
                await client.init()


async def test_text_without_brackets_is_confirmed_by_its_echo() -> None:
    async with open_raw_rig("tcp") as (client, rig), trio.open_nursery() as nursery:
        with client.open_events(ExpMessage.EXPEND) as events:
            nursery.start_soon(client.confirmed_send, "hello, rig")
            await rig.receive_exactly(b"hello, rig")
            await rig.send(b"hello, ")
            await trio.testing.wait_all_tasks_blocked()
            await rig.send(b"rig[4, 1]")
            assert (await events.receive()).data == [1]


async def test_a_stream_that_asks_for_errors_tells_that_the_connection_is_lost() -> None:
    """Others wait for the next connection, which the next message makes."""
    async with open_client() as (client, listener), trio.open_nursery() as nursery:
        first = await listener.accept()
        with client.open_events(errors=True) as events, client.open_events() as patient:
            await first.aclose()
            with pytest.raises(trionet.ConnectionLost):
                await events.receive()
            nursery.start_soon(client.init, 1)
            async with await listener.accept() as second:
                assert await echo(second) == b"[1, 1]"
                await second.send_all(b"[4, 4]")
                assert (await events.receive()).data == [4]
                assert (await patient.receive()).data == [4]


async def test_several_that_send_first_share_one_connection() -> None:
    (listener,) = await trio.open_tcp_listeners(0, host=LOOPBACK)
    uri = loopback("tcp", listener.socket.getsockname()[1])
    async with listener, open_communicator(uri, connect_first=False) as client:
        async with trio.open_nursery() as nursery:
            for number in range(3):
                nursery.start_soon(client.send, [1, number])
        async with await listener.accept() as stream:
            received = b""
            while len(received) < 3 * len(b"[1, 0]"):
                received += await stream.receive_some()
        assert sorted(received.replace(b"]", b"]\n").splitlines()) == [b"[1, 0]", b"[1, 1]", b"[1, 2]"]
