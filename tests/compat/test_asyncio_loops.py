"""Objects of asyncio programs in loops that end, are stopped, and are run again."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from tests.compat.asyncio_programs import port_of, run, run_program, wait_nobody_connected
from tests.compat.test_asyncio_rpc import Instrument
from trionet_compat.sipyco.broadcast import Broadcaster, Receiver
from trionet_compat.sipyco.logs import LogForwarder
from trionet_compat.sipyco.pc_rpc import AsyncioClient, Client, Server
from trionet_compat.sipyco.sync_struct import Notifier, Publisher, Subscriber

# What all programs have open.
OPEN = """
import asyncio, logging, sys
from trionet_compat.sipyco import broadcast, logs, pc_rpc, sync_struct, tools

class Target:
    async def wait(self): await asyncio.Event().wait()
    def echo(self, x): return x

n = sync_struct.Notifier({})
opened = [
    sync_struct.Publisher({"n": n}), broadcast.Broadcaster(), logs.Server(), pc_rpc.Server({"t": Target()})
]
client = pc_rpc.AsyncioClient()
mods = []
subscriber = sync_struct.Subscriber("n", lambda x: x, mods.append)
receiver = broadcast.Receiver("c", print)

async def open_all():
    asyncio.get_running_loop().slow_callback_duration = 60  # machines are slow
    ports = []
    for server in opened:
        await server.start("127.0.0.1", 0)
        ports.append(server.server.sockets[0].getsockname()[1])
    await subscriber.connect("127.0.0.1", ports[0])
    await receiver.connect("127.0.0.1", ports[1])
    global forwarder
    forwarder = logs.LogForwarder("127.0.0.1", ports[2])
    forwarder.start()
    await client.connect_rpc("127.0.0.1", ports[3])
    assert await client.echo(1) == 1
    while not mods: await asyncio.sleep(0)

async def close_all():
    await client.close_rpc()
    await receiver.close()
    await subscriber.close()
    await forwarder.stop()
    for server in opened:
        await server.stop()
"""

# One after the other in one process: to start one takes longer than what they do.
LOOPS = """
async def main():  # everything is closed
    await open_all()
    await close_all()
asyncio.run(main())
mods.clear()

async def main():  # only the client is: not to close the others is no error, as upstream
    await open_all()
    calls.append(asyncio.create_task(client.wait()))
    await asyncio.sleep(0)
    await client.close_rpc()
calls = []
asyncio.run(main())
assert calls[0].cancelled() or isinstance(calls[0].exception(), EOFError)
mods.clear()

loop = asyncio.new_event_loop()  # thrown away with the servers in it
loop.run_until_complete(open_all())
tasks = subscriber.receive_task, receiver.receive_task, forwarder.task
for task in tasks:
    task.cancel()
loop.run_until_complete(asyncio.wait(tasks))
loop.run_until_complete(client.close_rpc())
loop.close()
mods.clear()

async def main():
    await open_all()
    await close_all()
asyncio.run(main())
"""

AT_EXIT = """
import atexit
loop = asyncio.new_event_loop()
asyncio.set_event_loop(loop)
atexit.register(loop.close)
loop.run_until_complete(open_all())
tools.atexit_register_coroutine(close_all)
n["key"] = 1
loop.run_until_complete(client.echo(1))
assert len(mods) == 2, mods
"""


@pytest.mark.parametrize("program", [LOOPS, AT_EXIT], ids=["loops", "at exit"])
def test_nothing_complains_when_a_loop_or_program_ends(program: str) -> None:
    done = run_program(OPEN + program)
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)


def test_a_loop_is_run_again_and_again() -> None:
    loop = asyncio.new_event_loop()
    run_for = loop.run_until_complete
    server = Server({"laser": Instrument()}, builtin_terminate=True)
    client = AsyncioClient()
    try:
        run_for(server.start("127.0.0.1", 0))
        waiting = loop.create_task(server.wait_terminate())
        run_for(client.connect_rpc("127.0.0.1", port_of(server)))
        assert run_for(client.echo(1)) == 1
        assert run_for(client.echo(2)) == 2
        run_for(client.terminate())
        run_for(waiting)
        run_for(client.close_rpc())
        run_for(server.stop())
    finally:
        loop.close()


def test_a_thread_with_a_loop_for_a_server_and_a_blocking_client() -> None:
    """As programs with a graphical interface have it: the loop runs in a thread that does nothing else."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def run_there(coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result()

    server = Server({"laser": Instrument()})
    run_there(server.start("127.0.0.1", 0))
    client = Client("127.0.0.1", port_of(server))
    assert client.echo("x") == "x"
    client.close_rpc()
    run_there(server.stop())
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def test_what_a_loop_has_ended_can_be_closed_in_another_one() -> None:
    publisher, subscriber = Publisher({"n": Notifier({})}), Subscriber("n", lambda structure: structure)
    forwarder = LogForwarder("127.0.0.1", 1)

    async def open_all() -> None:
        await publisher.start("127.0.0.1", 0)
        await subscriber.connect("127.0.0.1", port_of(publisher))
        forwarder.start()

    async def close_all() -> None:
        await subscriber.close()
        await forwarder.stop()
        await publisher.stop()

    run(open_all)
    run(close_all)


# -- cancellation ------------------------------------------------------------------------------------------


async def cancel_soon(coroutine: Any, rounds: int) -> bool:
    """Cancel it after so many rounds of the loop. Returns whether it had ended before."""
    task = asyncio.ensure_future(coroutine)
    for _ in range(rounds):
        await asyncio.sleep(0)
    if task.done():
        task.result()
        return True
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled():
        task.result()
    return not task.cancelled()


async def connect_and_close(one: Subscriber | Receiver, port: int, rounds: int) -> bool:
    finished = await cancel_soon(one.connect("127.0.0.1", port), rounds)
    if finished:
        await one.close()
    return finished


async def connect_client(port: int, rounds: int) -> bool:
    client = AsyncioClient()
    finished = await cancel_soon(client.connect_rpc("127.0.0.1", port), rounds)
    await client.close_rpc()
    return finished


async def start_and_stop(port: int, rounds: int) -> bool:
    server = Server({"t": Instrument()})
    finished = await cancel_soon(server.start("127.0.0.1", 0), rounds)
    if finished:
        await server.stop()
    return finished


def make_subscriber() -> Subscriber:
    return Subscriber("n", lambda structure: structure, [], pytest.fail)


def make_receiver() -> Receiver:
    return Receiver("c", [], pytest.fail)


CASES: dict[str, tuple[Callable[[], Any], Callable[[int, int], Coroutine[Any, Any, bool]]]] = {
    "client": (lambda: Server({"t": Instrument()}), connect_client),
    "server": (lambda: Server({"t": Instrument()}), start_and_stop),
    "subscriber": (
        lambda: Publisher({"n": Notifier({})}),
        lambda port, rounds: connect_and_close(make_subscriber(), port, rounds),
    ),
    "receiver": (Broadcaster, lambda port, rounds: connect_and_close(make_receiver(), port, rounds)),
}


@pytest.mark.parametrize("name", CASES)
def test_whatever_is_cancelled_at_whatever_moment_leaves_nothing_open(name: str) -> None:
    async def main() -> None:
        make, attempt = CASES[name]
        server = make()
        await server.start("127.0.0.1", 0)
        rounds = 0
        while not await attempt(port_of(server), rounds):
            rounds += 1
        assert rounds > 3
        await wait_nobody_connected(server)
        await server.stop()

    run(main)


def test_closing_goes_on_when_who_waits_for_it_is_cancelled() -> None:
    async def main() -> None:
        server = Server({"t": Instrument()})
        await server.start("127.0.0.1", 0)
        for rounds in range(1, 6):
            client = AsyncioClient()
            await client.connect_rpc("127.0.0.1", port_of(server))
            await cancel_soon(client.close_rpc(), rounds)
            assert client.get_rpc_id() == (None, None)
        await wait_nobody_connected(server)
        await server.stop()

    run(main)
