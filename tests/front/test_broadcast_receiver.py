"""Receivers of broadcasts whose connection ends, or whose server makes no sense."""

from __future__ import annotations

import contextlib
import itertools
from typing import Any

import pytest
import trio
import trio.testing

import trionet
from tests.front.feeds import Network, Script, broadcasting, receiving, settle, warnings_of
from tests.front.test_backoff import Constant
from tests.front.test_cancellation import cancel_at
from trionet import Broadcaster, ConnectionLost
from trionet._backoff import Backoff


@pytest.mark.parametrize("reset", [False, True])
async def test_without_connecting_again_all_that_came_is_received(reset: bool) -> None:
    script = Script(b"1\nnull\n")
    async with receiving(script.connect) as receiver:
        assert receiver.connected.value
        await settle()
        script.links[0].down.put(b"2\n3")
        script.links[0].cut(1000, reset=reset)
        await settle()
        assert not receiver.connected.value
        assert [await anext(receiver) for _ in range(3)] == [1, None, 2]
        reason = "connection reset" if reset else r"closed by the server \(target 'it', peer server\)"
        for _ in range(2):
            with pytest.raises(ConnectionLost, match=reason):
                await anext(receiver)


async def test_a_loop_over_much_that_came_leaves_time_for_others() -> None:
    script = Script(b"1\n" * 10_000)
    script.end_at_once = True
    turns = [0]
    received = 0
    async with receiving(script.connect) as receiver, trio.open_nursery() as nursery:

        async def count() -> None:
            while True:
                turns.append(received)
                await trio.lowlevel.checkpoint()

        await settle()
        nursery.start_soon(count)
        with contextlib.suppress(ConnectionLost):
            async for _ in receiver:
                received += 1
        turns.append(received)
        nursery.cancel_scope.cancel()
    assert received == 10_000
    assert max(after - before for before, after in itertools.pairwise(turns)) <= 1_000


async def test_refused() -> None:
    with pytest.raises(ConnectionRefusedError):
        async with receiving(Script(ConnectionRefusedError("refused")).connect):
            pytest.fail("nobody is there")


async def test_it_connects_again(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    broadcaster = Broadcaster()
    network = Network()
    backoff = Backoff(1.0, 4.0, Constant(0.0))
    async with trio.open_nursery() as nursery:
        received: list[Any] = []

        async def receive() -> None:
            async with receiving(network.connect, backoff=backoff) as receiver:
                while True:
                    value = await anext(receiver)
                    received.append((trio.current_time(), value))

        nursery.start_soon(receive)
        await trio.sleep(5)
        for _ in range(2):
            async with broadcasting(broadcaster, network) as server:
                await trio.sleep(10)
                broadcaster.broadcast("it", "there")
                await settle()
                await server.aclose()
            broadcaster.broadcast("it", "lost")
            await trio.sleep(10)
        nursery.cancel_scope.cancel()
    assert received == [(15.0, "there"), (35.0, "there")]
    assert network.attempts == [0.0, 1.0, 3.0, 7.0, 16.0, 18.0, 22.0, 26.0, 36.0, 38.0, 42.0]
    assert warnings_of(caplog.records) == [
        "server: 'it': refused; trying again",
        "server: 'it': connected again",
        "server: 'it': closed by the server; trying again",
        "server: 'it': connected again",
        "server: 'it': closed by the server; trying again",
    ]


@pytest.mark.parametrize(
    ("sent", "message"),
    [(b"nope\n", "not PYON"), (b"x" * 5000 + b"\n", "a line of 5000 bytes"), (b"y" * 5000, "more than 1000")],
)
async def test_a_server_that_makes_no_sense(
    sent: bytes, message: str, autojump_clock: trio.testing.MockClock
) -> None:
    script = Script(b"1\n" + sent)
    async with receiving(script.connect, max_message_size=1000) as receiver:
        assert await anext(receiver) == 1
        for _ in range(2):
            with pytest.raises(trionet.RemoteProtocolError, match=message):
                await anext(receiver)
        await settle()
        assert script.links[0].closed
    script = Script(b"1\n" + sent, b"2\n")
    backoff = Backoff(1.0, 4.0, Constant(0.0))
    async with receiving(script.connect, backoff=backoff, max_message_size=1000) as receiver:
        assert [await anext(receiver) for _ in range(2)] == [1, 2]


async def test_cancelled_anywhere_each_object_is_received_once() -> None:
    """Before each step that any task takes."""
    broadcaster = Broadcaster()
    for step in range(1000):
        network = Network()
        seen: list[int] = []
        async with broadcasting(broadcaster, network), receiving(network.connect) as receiver:
            await settle()

            async def take(receiver: trionet.BroadcastReceiver = receiver, seen: list[int] = seen) -> None:
                for number in (0, 2, 4):
                    broadcaster.broadcast("it", number)
                    broadcaster.broadcast("it", number + 1)
                    seen.append(await anext(receiver))
                    seen.append(await anext(receiver))

            _, reached = await cancel_at(step, take)
            broadcaster.broadcast("it", "end")
            while (value := await anext(receiver)) != "end":
                seen.append(value)
        assert seen == [*range(len(seen))]
        if not reached:
            break
    assert not reached
    assert len(seen) == 6
