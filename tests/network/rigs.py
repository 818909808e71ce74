"""Rigs over loopback, and peers made of bare sockets, for the tests."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
import trio

import trionet
from trionet import ExpMessage, RigCommunicator, RigEvent, RigServices
from trionet.wire.rig_uri import AnyURI

LOOPBACK = "127.0.0.1"

#: The rigs of `open_rigs`, in their order.
NAMES = ("camera", "sound", "task")

#: For tests of what is the same over both.
both_schemes = pytest.mark.parametrize("scheme", ["udp", "tcp"])


def loopback(scheme: str, port: int = 0) -> str:
    """The URI of a port of this machine."""
    return f"{scheme}://{LOOPBACK}:{port}"


#: Seconds for what has to succeed, also where the machine stands still for a moment.
PATIENCE = 30.0


def open_listener(uri: AnyURI, **options: Any) -> AbstractAsyncContextManager[RigCommunicator]:
    """A rig that waits for echoes longer than programs do, unless told otherwise."""
    return trionet.open_rig_listener(uri, **{"echo_timeout": PATIENCE, **options})


def open_communicator(uri: AnyURI, **options: Any) -> AbstractAsyncContextManager[RigCommunicator]:
    """As `open_listener`."""
    patient = {"echo_timeout": PATIENCE, "connect_timeout": PATIENCE}
    return trionet.open_rig_communicator(uri, **{**patient, **options})


def open_services(rigs: Mapping[str, AnyURI], **options: Any) -> AbstractAsyncContextManager[RigServices]:
    """As `open_listener`."""
    patient = {"echo_timeout": PATIENCE, "connect_timeout": PATIENCE, "response_timeout": PATIENCE}
    return trionet.open_rig_services(rigs, **{**patient, **options})


@contextlib.asynccontextmanager
async def open_pair(scheme: str, **options: Any) -> AsyncIterator[tuple[RigCommunicator, RigCommunicator]]:
    """A communicator, and the rig that it talks to; the options are for both."""
    async with open_listener(loopback(scheme), name="rig", **options) as rig:
        uri = loopback(scheme, rig.port)
        async with open_communicator(uri, name="client", **options) as client:
            yield client, rig


async def address_of(client: RigCommunicator, rig: RigCommunicator) -> tuple[str, int]:
    """Where the rig sees the client; costs a message."""
    with rig.open_events(ExpMessage.EXPCLEANUP) as events:
        await client.cleanup("where am I?")
        return (await events.receive()).address


async def answer(event: RigEvent, rig: RigCommunicator) -> None:
    """What a rig does that is asked by services."""
    await rig.respond(event, [rig.name, *event.data])


class RawPeer:
    """A bare datagram socket, or a bare connection."""

    def __init__(self, stream: trio.SocketStream | None, sock: trio.socket.SocketType) -> None:
        self.stream = stream
        self.sock = sock
        self.address: tuple[str, int] = sock.getsockname()[:2]
        self._read_too_much = b""

    async def send(self, data: Any) -> None:
        """Send bytes as they are, anything else as JSON."""
        raw = data if isinstance(data, bytes) else json.dumps(data).encode()
        if self.stream is not None:
            await self.stream.send_all(raw)
        else:
            await self.sock.send(raw)

    async def receive(self, length: int = 65_536) -> bytes:
        """A datagram, or what one read gives."""
        received, self._read_too_much = self._read_too_much, b""
        return received or await self.sock.recv(length)

    async def receive_exactly(self, expected: bytes) -> None:
        """Take as much as that from a connection, or a datagram, and compare.

        How much one read gives depends on how busy the machine is.
        """
        received = await self.receive()
        if self.stream is not None:
            while len(received) < len(expected):
                more = await self.receive()
                assert more
                received += more
            received, self._read_too_much = received[: len(expected)], received[len(expected) :]
        assert received == expected


@contextlib.asynccontextmanager
async def open_raw_client(scheme: str, port: int) -> AsyncIterator[RawPeer]:
    """A peer that talks to a listener."""
    if scheme == "tcp":
        async with await trio.open_tcp_stream(LOOPBACK, port) as stream:
            yield RawPeer(stream, stream.socket)
        return
    with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as sock:
        await sock.connect((LOOPBACK, port))
        yield RawPeer(None, sock)


@contextlib.asynccontextmanager
async def open_raw_rig(scheme: str, **options: Any) -> AsyncIterator[tuple[RigCommunicator, RawPeer]]:
    """A communicator, and a bare socket that it takes for a rig."""
    if scheme == "tcp":
        (listener,) = await trio.open_tcp_listeners(0, host=LOOPBACK)
        async with listener:
            port = listener.socket.getsockname()[1]
            async with open_communicator(loopback("tcp", port), **options) as client:
                async with await listener.accept() as stream:
                    yield client, RawPeer(stream, stream.socket)
        return
    with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as sock:
        await sock.bind((LOOPBACK, 0))
        port = sock.getsockname()[1]
        async with open_communicator(loopback("udp", port), **options) as client:
            # The rig has to know where the client is.
            await client.send([1, "here I am"])
            _, address = await sock.recvfrom(65_536)
            await sock.connect(address)
            yield client, RawPeer(None, sock)


@contextlib.asynccontextmanager
async def open_client(**options: Any) -> AsyncIterator[tuple[RigCommunicator, trio.SocketListener]]:
    """A communicator, and the listener that it connects to."""
    (listener,) = await trio.open_tcp_listeners(0, host=LOOPBACK)
    async with listener:
        uri = loopback("tcp", listener.socket.getsockname()[1])
        async with open_communicator(uri, **options) as client:
            yield client, listener


def reset(stream: trio.SocketStream) -> None:
    """Close so that the peer gets a reset instead of an end of file."""
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    stream.socket.close()


@contextlib.contextmanager
def unused_port(scheme: str) -> Iterator[int]:
    """A port that nobody listens on, in a block in which the test may.

    For TCP it is kept meanwhile, where the system allows to listen on it nevertheless: no other socket is
    given it, nor connects from it. What is bound for UDP would get the datagrams.
    """
    kind = socket.SOCK_STREAM if scheme == "tcp" else socket.SOCK_DGRAM
    with socket.socket(socket.AF_INET, kind) as placeholder:
        if sys.platform == "linux":
            placeholder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        placeholder.bind((LOOPBACK, 0))
        port: int = placeholder.getsockname()[1]
        if scheme != "tcp" or sys.platform != "linux":
            placeholder.close()
        yield port


class Rigs:
    """Rigs that answer, and in which order they were asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.of: dict[str, RigCommunicator] = {}
        self.go_on: dict[str, trio.Event] = {}

    async def answer(self, event: RigEvent) -> None:
        self.asked.append(event.rig)
        if event.rig in self.go_on:
            await self.go_on[event.rig].wait()
        await self.of[event.rig].respond(event, event.rig, *event.data)

    def mute(self, name: str) -> None:
        """Have a rig confirm what it is told, and not answer."""
        self.of[name].clear_callbacks()


@contextlib.asynccontextmanager
async def open_rigs(scheme: str, **options: Any) -> AsyncIterator[tuple[RigServices, Rigs]]:
    """Services and their rigs, which answer everything; the options are for the services."""
    rigs = Rigs()
    async with contextlib.AsyncExitStack() as stack:
        for name in NAMES:
            listener = open_listener(loopback(scheme), name=name)
            rigs.of[name] = await stack.enter_async_context(listener)
            rigs.of[name].assign_callback(ExpMessage.any(), rigs.answer)
        uris = {name: loopback(scheme, rig.port) for name, rig in rigs.of.items()}
        yield await stack.enter_async_context(open_services(uris, **options)), rigs
