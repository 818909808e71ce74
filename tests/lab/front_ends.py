"""A server and a client of every front end, for tests of what is the same for all of them."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from random import Random
from typing import Any, Final, NamedTuple

import trio

import trionet
from tests.lab.servers import EVERYWHERE
from trionet import Broadcaster, Notifier, RigCommunicator, RigEvent

#: The host of the servers.
SERVER: Final = "server"


class FrontEnd(NamedTuple):
    """A protocol and how it is used.

    Attributes:
        serve: Serves on a port until cancelled.
        use: Uses that port of the host `SERVER` for a while, whatever becomes of it. Random numbers decide
            how. What it returns says whether it has got through to the server.
    """

    serve: Callable[..., Awaitable[None]]
    use: Callable[[int, Random], Awaitable[bool]]


@contextlib.contextmanager
def whatever_becomes_of_it() -> Iterator[None]:
    """A block that may end because of a fault."""
    with contextlib.suppress(OSError, trionet.TrionetError, trionet.ServicesError):
        yield


class Target:
    """What is called."""

    async def work(self, seconds: float, text: str) -> str:
        await trio.sleep(seconds)
        return text


async def serve_calls(port: int, *, task_status: trio.TaskStatus[Any]) -> None:
    await trionet.serve_rpc({"target": Target()}, port, host=EVERYWHERE, task_status=task_status)


async def call(port: int, random: Random) -> bool:
    """Several tasks call; some give up before the answer comes."""
    done = False

    async def make_calls(client: trionet.RpcClient) -> None:
        nonlocal done
        for _ in range(3):
            text = "x" * int(10 ** random.uniform(0, 5))
            with whatever_becomes_of_it(), trio.move_on_after(random.choice([0.0, 0.5, 60])) as patience:
                assert await client.call("work", random.choice([0, 0, 2]), text) == text
                done = done or not patience.cancelled_caught

    with whatever_becomes_of_it():
        async with trionet.open_rpc_client(SERVER, port) as client, trio.open_nursery() as nursery:
            for _ in range(random.randrange(1, 4)):
                nursery.start_soon(make_calls, client)
    return done


async def call_with_best_effort(port: int, random: Random) -> bool:
    done = False
    async with trionet.open_best_effort_rpc_client(SERVER, port, "target") as client:
        for _ in range(5):
            with trio.move_on_after(60):
                done = await client.call("work", random.choice([0, 1]), "text") == "text" or done
            await trio.sleep(random.uniform(0, 5))
    return done


async def fire_and_forget(port: int, random: Random) -> bool:
    done = False
    with whatever_becomes_of_it():
        async with trionet.open_rpc_client(SERVER, port) as client:
            async with trionet.open_fire_and_forget(client.proxy) as laser:
                for _ in range(random.randrange(1, 5)):
                    laser.call("work", random.uniform(0, 3), "text")
                    await trio.sleep(random.choice([0, 1]))
                    done = client.disconnect_reason is None
    return done


async def serve_structure(port: int, *, task_status: trio.TaskStatus[Any]) -> None:
    """A structure that changes all the time."""
    notifier = Notifier({"count": 0, "list": ["x" * 10_000]})
    async with trio.open_nursery() as nursery:
        publisher = await nursery.start(
            partial(trionet.serve_publisher, {"it": notifier}, port, host=EVERYWHERE, max_backlog=20_000)
        )
        task_status.started(publisher)
        while not publisher.closing and not publisher.cancel_scope.cancel_called:
            notifier["count"] = notifier.raw_view["count"] + 1
            notifier["list"][0] = "x" * (notifier.raw_view["count"] % 10_000)
            await trio.sleep(0.3)


async def subscribe(port: int, random: Random) -> bool:
    begun = False
    with trio.move_on_after(random.uniform(1, 20)):
        async with trionet.open_subscription(SERVER, port, "it", rng=random) as subscription:
            begun = True
            with trio.move_on_after(random.uniform(1, 5)):
                await subscription.wait_value(lambda value: value["count"] > 20)
            async for _ in subscription:
                await trio.sleep(random.choice([0, 1]))
    return begun


async def serve_channel(port: int, *, task_status: trio.TaskStatus[Any]) -> None:
    """A channel on which something is sent all the time."""
    broadcaster = Broadcaster()
    async with trio.open_nursery() as nursery:
        server = await nursery.start(partial(trionet.serve_broadcaster, broadcaster, port, host=EVERYWHERE))
        task_status.started(server)
        while not server.closing and not server.cancel_scope.cancel_called:
            broadcaster.broadcast("it", "x" * 1000)
            await trio.sleep(0.3)


async def receive(port: int, random: Random) -> bool:
    count = 0
    with trio.move_on_after(random.uniform(1, 20)):
        async with trionet.open_broadcast_receiver(SERVER, port, "it", rng=random) as receiver:
            async for _ in receiver:
                count += 1
                await trio.sleep(random.choice([0, 1]))
    return count > 0


async def serve_logs(port: int, *, task_status: trio.TaskStatus[Any]) -> None:
    records: list[logging.LogRecord] = []
    await trionet.serve_log_sink(port, emit=records.append, host=EVERYWHERE, task_status=task_status)


async def forward_logs(port: int, random: Random) -> bool:
    connected = False
    async with trionet.open_log_forwarder(SERVER, port, source="client", rng=random) as handler:
        for _ in range(random.randrange(1, 20)):
            record = logging.makeLogRecord({"name": "it", "msg": "x" * random.randrange(9999)})
            handler.handle(record)
            await trio.sleep(random.choice([0, 1]))
            connected = connected or handler.connected.value
    return connected


async def be_a_rig(port: int, *, scheme: str, task_status: trio.TaskStatus[Any]) -> None:
    """A rig that answers everything, after a while."""

    async def answer(event: RigEvent, rig: RigCommunicator) -> None:
        await trio.sleep(0.5)
        await rig.respond(event, [rig.name])

    async with trionet.open_rig_listener(f"{scheme}://{EVERYWHERE}:{port}", name="rig") as rig:
        rig.assign_callback(trionet.ExpMessage.any(), partial(answer, rig=rig))
        task_status.started(rig)
        await trio.sleep_forever()


async def march(port: int, random: Random, *, scheme: str) -> bool:
    done = False
    with whatever_becomes_of_it():
        async with trionet.open_rig_services({"rig": f"{scheme}://{SERVER}:{port}"}) as services:
            with services["rig"].open_events() as events:
                for ask in (services.init, services.stop, services.cleanup):
                    with whatever_becomes_of_it(), trio.move_on_after(random.choice([0.3, 3, 60])):
                        done = bool(await ask()) or done
                with trio.move_on_after(1):
                    await events.receive()
    return done


FRONT_ENDS: Final = {
    "rpc": FrontEnd(serve_calls, call),
    "best effort": FrontEnd(serve_calls, call_with_best_effort),
    "fire and forget": FrontEnd(serve_calls, fire_and_forget),
    "subscription": FrontEnd(serve_structure, subscribe),
    "broadcast": FrontEnd(serve_channel, receive),
    "logs": FrontEnd(serve_logs, forward_logs),
    "rig over udp": FrontEnd(partial(be_a_rig, scheme="udp"), partial(march, scheme="udp")),
    "rig over tcp": FrontEnd(partial(be_a_rig, scheme="tcp"), partial(march, scheme="tcp")),
}
