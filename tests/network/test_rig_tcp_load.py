"""Much at once over TCP connections: large messages both ways, floods, resets in the middle."""

from __future__ import annotations

import functools

import pytest
import trio
import trio.testing

import trionet
from tests.network.rigs import (
    address_of,
    loopback,
    open_client,
    open_listener,
    open_pair,
    open_raw_client,
    reset,
)
from trionet import RigEvent
from trionet._transport import SocketTransport


async def test_large_messages_both_ways_at_the_same_time() -> None:
    """More than the sockets hold: each has to read while it writes."""
    async with open_pair("tcp", echo_timeout=60) as (client, rig):
        address = await address_of(client, rig)
        text = "x" * 15_000_000
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.init, text + "1")
            nursery.start_soon(functools.partial(rig.init, text + "2", address=address))
        assert (client.statistics().confirmed, rig.statistics().confirmed) == (2, 1)


async def test_a_message_gets_its_turn_while_the_peer_keeps_sending() -> None:
    """Each echo asks for a gap behind it, and there is always another one."""
    async with open_pair("tcp") as (client, rig), trio.open_nursery() as nursery:
        address = await address_of(client, rig)

        async def talk() -> None:
            while True:
                await client.init("and so on")

        nursery.start_soon(talk)
        await rig.stop(address=address)
        nursery.cancel_scope.cancel()


async def test_the_end_of_an_old_connection_does_not_fail_the_next_message(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Closing the old one may take a moment: with TLS, up to a second."""
    closing = trio.Event()
    go_on = trio.Event()
    original = SocketTransport.aclose

    async def slow_aclose(self: SocketTransport) -> None:
        closing.set()
        await go_on.wait()
        await original(self)

    async with open_client() as (client, listener):
        first = await listener.accept()
        with monkeypatch.context() as patch:
            patch.setattr(SocketTransport, "aclose", slow_aclose)
            await first.aclose()
            await closing.wait()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.init, 1)
            async with await listener.accept() as second:
                message = await second.receive_some()
                go_on.set()
                await trio.testing.wait_all_tasks_blocked()
                await second.send_all(message)
                await trio.testing.wait_all_tasks_blocked()
                assert client.statistics().confirmed == 1


async def test_a_reset_while_it_reads_and_writes() -> None:
    """Both fail in the same moment, and come out as one exception."""
    for _ in range(10):
        async with open_client() as (client, listener), trio.open_nursery() as nursery:
            stream = await listener.accept()
            nursery.start_soon(_lose, client)
            await stream.receive_some(1)
            await trio.testing.wait_all_tasks_blocked()
            reset(stream)


async def _lose(client: trionet.RigCommunicator) -> None:
    with pytest.raises(trionet.ConnectionLost):
        await client.init("x" * 12_000_000)


async def test_a_flood_of_messages_leaves_time_for_others() -> None:
    since_others = most = 0

    def count(event: RigEvent) -> None:
        nonlocal since_others
        since_others += 1

    async def others() -> None:
        nonlocal since_others, most
        while True:
            await trio.lowlevel.checkpoint()
            most = max(most, since_others)
            since_others = 0

    async with open_listener(loopback("tcp")) as rig, trio.open_nursery() as nursery:
        rig.assign_callback("EXPINIT", count)
        async with open_raw_client("tcp", rig.port) as peer:
            nursery.start_soon(others)
            flood = b"[1, 1]" * 20_000
            async with trio.open_nursery() as io:
                io.start_soon(peer.send, flood)
                left = len(flood)
                while left:
                    left -= len(await peer.receive())
            nursery.cancel_scope.cancel()
        assert rig.statistics().received == 20_000
    assert most <= 200
