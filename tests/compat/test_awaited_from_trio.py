"""The same coroutines, awaited from Trio: on the virtual network, where that matters."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest
import trio
import trio.testing

from tests.compat.asyncio_programs import port_of
from trionet.testing import open_virtual_network
from trionet_compat._background import Task, TrioTask, start_task
from trionet_compat.sipyco import logs
from trionet_compat.sipyco.broadcast import Broadcaster, Receiver
from trionet_compat.sipyco.pc_rpc import AsyncioClient, Server
from trionet_compat.sipyco.sync_struct import Notifier, Publisher, Subscriber


class Handing(logging.Handler):
    """Hands records on."""

    def __init__(self, take: Callable[[logging.LogRecord], object]) -> None:
        super().__init__()
        self._take = take

    def emit(self, record: logging.LogRecord) -> None:
        self._take(record)


class Instrument:
    def echo(self, value: Any) -> Any:
        return value

    async def sleep(self, seconds: float) -> float:
        await trio.sleep(seconds)
        return seconds


async def test_rpc(autojump_clock: trio.testing.MockClock) -> None:
    server = Server({"laser": Instrument()}, builtin_terminate=True)
    await server.start("127.0.0.1", 0)
    client = AsyncioClient()
    await client.connect_rpc("127.0.0.1", port_of(server))
    assert await client.echo((1, 2)) == (1, 2)
    assert await client.sleep(3) == 3
    with trio.move_on_after(1):
        await client.sleep(5)
    assert await client.echo("next") == "next"
    await client.terminate()
    await server.wait_terminate()
    with pytest.raises(EOFError):
        await client.echo(1)
    await client.close_rpc()
    await server.stop()


async def test_calls_of_several_tasks_keep_their_order() -> None:
    seen: list[int] = []

    class Target:
        def note(self, number: int) -> None:
            seen.append(number)

    server = Server({"t": Target()})
    await server.start("127.0.0.1", 0)
    client = AsyncioClient()
    await client.connect_rpc("127.0.0.1", port_of(server))
    calls = [client.note(number) for number in range(20)]
    async with trio.open_nursery() as nursery:
        for call in calls:
            nursery.start_soon(_await, call)
    assert sorted(seen) == [*range(20)]
    await client.close_rpc()
    await server.stop()


async def _await(coroutine: Any) -> Any:
    return await coroutine


async def test_sync_struct() -> None:
    notifier = Notifier({})
    publisher = Publisher({"n": notifier})
    await publisher.start("127.0.0.1", 0)
    send, receive = trio.open_memory_channel[Any](10)
    left = trio.Event()
    subscriber = Subscriber("n", lambda structure: structure, send.send_nowait, left.set)
    await subscriber.connect("127.0.0.1", port_of(publisher))
    assert (await receive.receive())["action"] == "init"
    notifier["key"] = 1
    assert (await receive.receive())["value"] == 1
    assert not subscriber.receive_task.done()
    await publisher.stop()
    await left.wait()
    await subscriber.receive_task
    await subscriber.close()


async def test_what_fails_a_subscriber_is_raised_by_its_task_and_by_close() -> None:
    publisher = Publisher({"n": Notifier({})})
    await publisher.start("127.0.0.1", 0)

    def fail(structure: Any) -> Any:
        raise ValueError("so it is")

    subscriber = Subscriber("n", fail)
    await subscriber.connect("127.0.0.1", port_of(publisher))
    with pytest.raises(ValueError, match="so it is"):
        await subscriber.receive_task
    with pytest.raises(ValueError, match="so it is"):
        await subscriber.close()
    await publisher.stop()


async def test_broadcast() -> None:
    broadcaster = Broadcaster()
    await broadcaster.start("127.0.0.1", 0)
    send, receive = trio.open_memory_channel[Any](10)
    receiver = Receiver("c", send.send_nowait)
    await receiver.connect("127.0.0.1", port_of(broadcaster))
    await broadcaster._broadcaster.wait_receivers("c")
    broadcaster.broadcast("c", {1, 2})
    assert await receive.receive() == {1, 2}
    await receiver.close()
    assert receiver.receive_task.cancelled()
    await broadcaster.stop()


async def test_logs() -> None:
    server = logs.Server()
    await server.start("127.0.0.1", 0)
    send, receive = trio.open_memory_channel[Any](10)
    handler = Handing(send.send_nowait)
    forwarder = logs.LogForwarder("127.0.0.1", port_of(server))
    logs._fwd_logger.addHandler(handler)
    try:
        forwarder.start()
        record = logging.makeLogRecord(
            {"msg": "hello", "levelno": logging.ERROR, "name": "n", "source": "here"}
        )
        forwarder.handle(record)
        assert (await receive.receive()).getMessage() == "hello"
        await forwarder.stop()
    finally:
        logs._fwd_logger.removeHandler(handler)
        logs._fwd_logger.name = "fwd"
    await server.stop()


async def test_a_connection_is_lost_on_the_virtual_network(autojump_clock: trio.testing.MockClock) -> None:
    async with open_virtual_network(latency=0.01) as network:
        with network.host("server").entered():
            notifier = Notifier({})
            publisher = Publisher({"n": notifier})
            await publisher.start(None, 3250)
        init, left = trio.Event(), trio.Event()
        addresses: list[Any] = []
        with network.host("pc").entered():
            subscriber = Subscriber("n", lambda structure: structure, lambda _: init.set(), left.set)
            await subscriber.connect("server", 3250, lambda: addresses.append(local_address(subscriber)))
            await init.wait()
        pc = network.host("pc")
        assert addresses[0] in (str(pc.ipv4), str(pc.ipv6))
        network.partition("server", "pc")
        await left.wait()
        assert 30 < trio.current_time() < 60
        await subscriber.close()
        await publisher.stop()


def local_address(subscriber: Subscriber) -> Any:
    return subscriber.writer.get_extra_info("socket").getsockname()[0]


# -- the task ----------------------------------------------------------------------------------------------


async def test_a_task_of_trio_looks_like_one_of_asyncio() -> None:
    async def wait() -> str:
        await event.wait()
        return "result"

    event = trio.Event()
    task = start_task(wait)
    assert isinstance(task, TrioTask)
    ended: list[Any] = []
    task.add_done_callback(ended.append)
    assert not task.done()
    assert not task.cancelled()
    with pytest.raises(asyncio.InvalidStateError):
        task.result()
    with pytest.raises(asyncio.InvalidStateError):
        task.exception()
    event.set()
    assert await task == "result"
    assert await task == "result"
    assert task.result() == "result"
    assert task.exception() is None
    task.add_done_callback(ended.append)
    assert ended == [task, task]
    assert not task.cancel()


async def test_a_task_of_trio_is_cancelled() -> None:
    task = start_task(trio.sleep_forever)
    assert task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()
    with pytest.raises(asyncio.CancelledError):
        task.exception()


async def test_a_task_of_trio_fails() -> None:
    async def fail() -> None:
        raise ValueError("so it is")

    task = start_task(fail)
    with pytest.raises(ValueError, match="so it is"):
        await task
    assert isinstance(task.exception(), ValueError)
    assert not task.cancelled()


def test_the_end_of_the_run_cancels_a_task_of_trio() -> None:
    async def main() -> TrioTask[None]:
        task: Task[None] = start_task(trio.sleep_forever)
        assert isinstance(task, TrioTask)
        await trio.lowlevel.checkpoint()
        return task

    assert trio.run(main).cancelled()


def test_without_a_loop_there_is_no_task() -> None:
    asyncio.set_event_loop(None)
    with pytest.raises(RuntimeError):
        start_task(trio.sleep_forever)
