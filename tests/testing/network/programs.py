"""Small programs that the tests run on hosts, and shorter ways to say things."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

import trio

from trionet.testing import VirtualHost, VirtualNetwork

PORT = 3251


async def echo(stream: trio.SocketStream) -> None:
    """Send back what comes, until the peer is done."""
    async for data in stream:
        await stream.send_all(data)


async def ignore(stream: trio.SocketStream) -> None:
    """Keep a connection, and read nothing."""
    await trio.sleep_forever()


async def udp_echo(port: int = PORT) -> None:
    """Send back every datagram."""
    with udp_socket() as sock:
        await sock.bind(("0.0.0.0", port))
        while True:
            data, address = await sock.recvfrom(70_000)
            await sock.sendto(data, address)


def udp_socket(family: int = socket.AF_INET) -> trio.socket.SocketType:
    return trio.socket.socket(family, socket.SOCK_DGRAM)


def tcp_socket(family: int = socket.AF_INET) -> trio.socket.SocketType:
    return trio.socket.socket(family, socket.SOCK_STREAM)


@contextlib.asynccontextmanager
async def listener_on(
    host: VirtualHost, port: int = PORT, backlog: int | None = None
) -> AsyncIterator[trio.SocketListener]:
    """A listening socket that the test accepts from itself."""
    with host.entered():
        (listener,) = await trio.open_tcp_listeners(port, host="0.0.0.0", backlog=backlog)
        async with listener:
            yield listener


async def connected_pair(
    network: VirtualNetwork, client: str = "client", server: str = "server"
) -> tuple[trio.SocketStream, trio.SocketStream]:
    """Both ends of a TCP connection between two hosts."""
    here, there = network.host(client), network.host(server)
    async with listener_on(there) as listener:
        async with trio.open_nursery() as nursery:
            accepted: list[trio.SocketStream] = []

            async def accept() -> None:
                accepted.append(await listener.accept())

            nursery.start_soon(accept)
            with here.entered():
                stream = await trio.open_tcp_stream(there.ipv4, PORT)
    return stream, accepted[0]


async def receive_all(stream: trio.abc.ReceiveStream) -> bytes:
    """Everything up to the end of the stream."""
    data = bytearray()
    async for part in stream:
        data += part
    return bytes(data)


async def raised_by(operation: Any, *args: Any) -> BaseException:
    """What a call raises."""
    try:
        await operation(*args)
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")
