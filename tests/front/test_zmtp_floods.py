"""Peers that send much that is no message: it costs them something, and others little."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from tests.front.zmtp_pairs import lockstep_streams, open_raw
from tests.wire.zmtp_bytes import command, short
from trionet._zmtp_stream import ZmtpStream


@pytest.mark.parametrize("unit", [command(b"PING", b"\0\0"), command(b"PONG"), command(b"X")], ids=str)
async def test_other_tasks_have_their_turn_while_commands_are_there(unit: bytes) -> None:
    rounds = 0

    async def count() -> None:
        nonlocal rounds
        while True:
            await trio.lowlevel.checkpoint()
            rounds += 1

    async with open_raw() as (zmtp, raw), trio.open_nursery() as nursery:
        await raw.stream.send_all(unit * 5000 + short(b"x"))
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(count)
        assert await zmtp.receive() == [b"x"]
        assert rounds >= 70
        nursery.cancel_scope.cancel()


async def test_not_everything_is_looked_at_without_waiting() -> None:
    async with open_raw() as (zmtp, raw):
        await raw.stream.send_all(short(b"first") + command(b"X") * 5000 + short(b"x"))
        assert await zmtp.receive() == [b"first"]
        assert zmtp.receive_nowait() is None
        assert await zmtp.receive() == [b"x"]


async def test_a_pong_that_waits_is_answered_for_the_latest_ping_in_its_place() -> None:
    """It is not searched for: a peer that does not read may have made a long queue."""

    async def hear(zmtp: ZmtpStream, context: bytes) -> None:
        async with trio.open_nursery() as sending:
            sending.start_soon(raw.stream.send_all, command(b"PING", b"\0\0" + context) + short(b"x"))
            await zmtp.receive()

    async with open_raw(lockstep_streams) as (zmtp, raw):
        zmtp.post([b"unread"])
        await trio.testing.wait_all_tasks_blocked()
        await hear(zmtp, b"a")
        zmtp.post([b"behind"])
        await hear(zmtp, b"longer")
        expected = short(b"unread") + command(b"PONG", b"longer") + short(b"behind")
        assert zmtp.unsent == len(expected)
        assert await raw.receive(len(expected)) == expected
        await trio.testing.wait_all_tasks_blocked()
        assert zmtp.unsent == 0
        await hear(zmtp, b"again")
        assert await raw.receive(len(command(b"PONG", b"again"))) == command(b"PONG", b"again")
