"""Many hosts that ping each other: virtual ones, or as many addresses of this host's loopback.

Each answers pings on one socket, and pings some others from another one; with TCP it has a connection to each
of these. The command line says ``virtual`` or ``loopback``, ``udp`` or ``tcp``, how many hosts, and how many
of them each one pings.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from random import Random
from socket import SOCK_DGRAM
from time import process_time
from typing import Any, Protocol

import trio
import trio.testing

from tests.benchmarks.peers._program import commands, next_command, raise_file_limit, run, say
from tests.benchmarks.peers._trio_tasks import run_all
from trionet.testing import Lab

_LATENCY = 0.001
_SIZE = 64

#: Host and port of a socket.
Place = tuple[str, int]
#: Pings some other hosts, and waits for each answer.
Ping = Callable[[list[bytes]], Awaitable[None]]


class Host(Protocol):
    """What starts tasks: a virtual host, or a nursery."""

    async def start(self, async_fn: Callable[..., Awaitable[object]], *args: Any) -> Any:
        """As of `trio.Nursery`."""


async def answer_udp(address: str, task_status: trio.TaskStatus[Place]) -> None:
    """Send back what comes."""
    with trio.socket.socket(type=SOCK_DGRAM) as sock:
        await sock.bind((address, 0))
        task_status.started(sock.getsockname())
        while True:
            await sock.sendto(*await sock.recvfrom(_SIZE))


async def ping_udp(address: str, others: list[Place], task_status: trio.TaskStatus[Ping]) -> None:
    """Ping the others, from one socket."""

    async def ping(texts: list[bytes]) -> None:
        for text in texts:
            for place in others:
                await sock.sendto(text, place)
                _check(await sock.recvfrom(_SIZE), (text, place))

    with trio.socket.socket(type=SOCK_DGRAM) as sock:
        await sock.bind((address, 0))
        task_status.started(ping)
        await trio.sleep_forever()


async def answer_tcp(address: str, task_status: trio.TaskStatus[Place]) -> None:
    """Send back what comes, on any number of connections."""

    async def answer(stream: trio.SocketStream) -> None:
        async for data in stream:
            await stream.send_all(data)

    [listener] = await trio.open_tcp_listeners(0, host=address)
    task_status.started(listener.socket.getsockname())
    await trio.serve_listeners(answer, [listener])


async def ping_tcp(address: str, others: list[Place], task_status: trio.TaskStatus[Ping]) -> None:
    """Ping the others, each on a connection of its own."""

    async def ping(texts: list[bytes]) -> None:
        for text in texts:
            for stream in streams:
                await stream.send_all(text)
                _check(await stream.receive_some(), text)

    async with AsyncExitStack() as stack:
        streams = [
            await stack.enter_async_context(await trio.open_tcp_stream(*place, local_address=address))
            for place in others
        ]
        task_status.started(ping)
        await trio.sleep_forever()


def _check(answer: object, right: object) -> None:
    if answer != right:
        raise RuntimeError("a wrong answer")


async def measure(protocol: str, hosts: list[tuple[Host, str]], others: int) -> bool:
    """Start these hosts, given with their addresses; ping as often as each command says.

    Returns whether to say when everything has ended: 0 rounds mean that.
    """
    answer, ping = (answer_udp, ping_udp) if protocol == "udp" else (answer_tcp, ping_tcp)
    random = Random(1)
    places: list[Place] = [await host.start(answer, address) for host, address in hosts]
    pings: list[Ping] = [
        await host.start(ping, address, random.sample(places, others)) for host, address in hosts
    ]
    say(ready=True)
    for command in commands():  # the time stands still until there is one, if it is virtual
        if not command["rounds"]:
            return True
        texts = [b"ping %d" % number for number in range(command["rounds"])]
        cpu = process_time()
        await run_all(*(partial(one, texts) for one in pings))
        say(cpu=process_time() - cpu, pings=len(texts) * len(hosts) * others)
    return False


async def be_virtual(protocol: str, count: int, others: int) -> bool:
    async with Lab(latency=_LATENCY) as lab:
        hosts = [lab.host(f"host{index}") for index in range(count)]
        return await measure(protocol, [(host, host.ipv4) for host in hosts], others)


async def be_loopback(protocol: str, count: int, others: int) -> None:
    addresses = [f"127.1.{index >> 8}.{index & 255}" for index in range(count)]
    async with trio.open_nursery() as nursery:
        await measure(protocol, [(nursery, address) for address in addresses], others)
        nursery.cancel_scope.cancel()


def program(kind: str, protocol: str, count: str, others: str) -> None:
    if kind == "virtual":
        clock = trio.testing.MockClock(autojump_threshold=0)
        if trio.run(be_virtual, protocol, int(count), int(others), clock=clock):
            say(ended=True)
            next_command()
    else:
        raise_file_limit()
        trio.run(be_loopback, protocol, int(count), int(others))


if __name__ == "__main__":
    run(program)
