"""`Broadcaster` and `Receiver` of ``trionet_compat.sipyco.broadcast``, with each other, under asyncio."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.compat.asyncio_programs import Told, port_of, run
from trionet_compat.sipyco.broadcast import Broadcaster, Receiver
from trionet_compat.sipyco.tools import AsyncioServer


@contextlib.asynccontextmanager
async def broadcasting() -> AsyncIterator[tuple[Broadcaster, int]]:
    broadcaster = Broadcaster()
    assert isinstance(broadcaster, AsyncioServer)
    await broadcaster.start("127.0.0.1", 0)
    try:
        yield broadcaster, port_of(broadcaster)
    finally:
        await broadcaster.stop()


async def listening(broadcaster: Broadcaster, channel: str, *told: Told) -> None:
    """Wait until all have received something."""
    while not all(one.values for one in told):
        broadcaster.broadcast(channel, "hello")
        await asyncio.sleep(0)


def test_receivers_of_a_channel_get_what_is_broadcast_on_it() -> None:
    async def main() -> None:
        async with broadcasting() as (broadcaster, port):
            broadcaster.broadcast("log", object())  # nobody listens
            tolds = Told(), Told()
            receivers = Receiver("log", tolds[0]), Receiver("log", [tolds[1]])
            for receiver in receivers:
                await receiver.connect("127.0.0.1", port)
                assert isinstance(receiver.receive_task, asyncio.Task)
            await listening(broadcaster, "log", *tolds)
            broadcaster.broadcast("other", 1)
            broadcaster.broadcast("log", (10, "source", 1.5, "message"))
            for told in tolds:
                while told.values[-1] == "hello":
                    await told.wait(len(told.values) + 1)
                assert told.values[-1] == (10, "source", 1.5, "message")
            with pytest.raises(TypeError):
                broadcaster.broadcast("log", object())
            for receiver in receivers:
                await receiver.close()
                assert receiver.receive_task.cancelled()

    run(main)


def test_callbacks_may_come_later() -> None:
    async def main() -> None:
        async with broadcasting() as (broadcaster, port):
            callbacks: list[Any] = []
            receiver = Receiver("log", callbacks)
            assert receiver.notify_cbs is callbacks
            assert receiver.name == "log"
            await receiver.connect("127.0.0.1", port)
            told = Told()
            receiver.notify_cbs.append(told)
            await listening(broadcaster, "log", told)
            await receiver.close()

    run(main)


def test_the_end_of_the_connection_ends_reception_and_is_told() -> None:
    async def main() -> None:
        told, left = Told(), Told()
        receiver = Receiver("log", told, left)
        async with broadcasting() as (broadcaster, port):
            await receiver.connect("127.0.0.1", port)
            await listening(broadcaster, "log", told)
        await receiver.receive_task
        assert len(left.values) == 1
        assert receiver.writer.get_extra_info("peername", "gone") == "gone"
        await receiver.close()
        with pytest.raises(ConnectionRefusedError):
            await receiver.connect("127.0.0.1", port)

    run(main)


def test_a_callback_that_fails_fails_the_task_and_close() -> None:
    async def main() -> None:
        def fail(value: Any) -> None:
            failing()
            raise ConnectionResetError("a callback's own")

        failing, left = Told(), Told()
        receiver = Receiver("log", fail, left)
        async with broadcasting() as (broadcaster, port):
            await receiver.connect("127.0.0.1", port)
            await listening(broadcaster, "log", failing)
            await left.wait(1)
            with pytest.raises(ConnectionResetError, match="a callback's own"):
                await receiver.close()
            assert not hasattr(receiver, "writer")

    run(main)


def test_how_much_may_wait() -> None:
    assert Broadcaster(queue_limit=1)._broadcaster._max_backlog == 1
    assert Broadcaster(queue_limit=0)._broadcaster._max_backlog > 10**9
