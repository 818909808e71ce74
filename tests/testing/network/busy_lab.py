"""A run with some of everything, whose trace depends on nothing but the seed.

As a program: prints the digest of the trace for each seed that is given.
"""

from __future__ import annotations

import contextlib
import sys
from functools import partial

import trio
import trio.testing

from tests.testing.network.programs import PORT, echo, udp_echo, udp_socket
from trionet.testing import Delay, Packet, VirtualNetwork


async def talk(name: str, count: int) -> None:
    """Connect, be cut off, connect again."""
    for number in range(count):
        with trio.move_on_after(5):
            try:
                async with await trio.open_tcp_stream(name, PORT) as stream:
                    await exchange(stream, bytes([number]) * 50_000)
            except OSError:
                await trio.sleep(0.1)


async def exchange(stream: trio.SocketStream, data: bytes) -> None:
    with contextlib.suppress(trio.BrokenResourceError):
        await stream.send_all(data)
        for _ in range(3):
            await stream.receive_some(10_000)


async def patient_echo(stream: trio.SocketStream) -> None:
    with contextlib.suppress(trio.BrokenResourceError):
        await echo(stream)


async def ping(name: str, count: int) -> None:
    with udp_socket() as sock:
        for number in range(count):
            await sock.sendto(bytes([number]), (name, PORT))
            with trio.move_on_after(0.1):  # at the same instant for several hosts
                await sock.recvfrom(10)
            await trio.sleep(0.1)


async def weather(network: VirtualNetwork) -> None:
    """Everything that can happen to a host or a link, at random."""
    random = network.random.random
    for _ in range(20):
        one, other = network.hosts[int(random() * 4)], network.hosts[int(random() * 3) + 4]
        network.partition(one, other, one_way=random() < 0.5)
        one.pause()
        await trio.sleep(random())
        network.repair()
        one.resume()
        network.hold(one, other)
        await trio.sleep(random() / 10)
        network.release()
        if random() < 0.3:
            other.restart()
            serve(network, other.name)


def serve(network: VirtualNetwork, name: str) -> None:
    network.host(name).start_soon(udp_echo)
    # Not on all addresses: in which order the system gives them is its own business.
    network.host(name).start_soon(partial(trio.serve_tcp, patient_echo, PORT, host="0.0.0.0"))


def slow_acks(packet: Packet) -> Delay | None:
    return Delay(0.01) if packet.flags == "." else None


async def run_lab(network: VirtualNetwork) -> None:
    async with network:
        names = ["rig1", "rig2", "rig3"]
        clients = [network.host(f"client{number}") for number in range(4)]
        for name in names:
            serve(network, name)
        network.link("client1", "rig1").latency = 0
        with network.rule(slow_acks):
            for client in clients:
                for name in names:
                    client.start_soon(talk, name, 5)
                    client.start_soon(ping, name, 20)
            await weather(network)


def digest(seed: int) -> str:
    network = VirtualNetwork(
        seed=seed, latency=0.01, jitter=0.005, loss=0.02, duplicate=0.02, reorder=0.05, bandwidth=100e6
    )
    trio.run(run_lab, network, clock=trio.testing.MockClock(autojump_threshold=0))
    assert network.trace.count > 1000
    return network.trace.digest


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        print(digest(int(argument)))  # noqa: T201
