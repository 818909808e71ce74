"""Two ends of a ZMTP connection over one pair of streams, and peers that are written by hand."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import trio
import trio.testing

from tests.wire.zmtp_bytes import GREETING, ready_of
from trionet._transport import open_transport
from trionet._zmtp import open_zmtp
from trionet._zmtp_stream import ZmtpStream
from trionet.wire.zmtp import SocketType

StreamPair = tuple[trio.abc.Stream, trio.abc.Stream]
OpenStreams = Callable[[], contextlib.AbstractAsyncContextManager[StreamPair]]


@contextlib.asynccontextmanager
async def memory_streams() -> AsyncIterator[StreamPair]:
    """Sending never waits."""
    yield trio.testing.memory_stream_pair()


@contextlib.asynccontextmanager
async def lockstep_streams() -> AsyncIterator[StreamPair]:
    """Sending waits until everything has been read."""
    yield trio.testing.lockstep_stream_pair()


@contextlib.asynccontextmanager
async def tcp_streams() -> AsyncIterator[StreamPair]:
    """Sockets of the system, which the transport has a short way for."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        client = await trio.open_tcp_stream(*listener.socket.getsockname()[:2])
        server = await listener.accept()
    yield client, server


@contextlib.asynccontextmanager
async def open_pair(
    open_streams: OpenStreams = memory_streams,
    socket_types: tuple[SocketType, SocketType] = (SocketType.DEALER, SocketType.ROUTER),
    **options: Any,
) -> AsyncIterator[tuple[ZmtpStream, ZmtpStream]]:
    """Both ends, after their handshake; the options are for both."""
    done = trio.Event()
    ends: list[ZmtpStream] = []

    async def open_other(stream: trio.abc.Stream) -> None:
        async with open_zmtp(open_transport(stream), socket_types[1], **options) as other:
            ends.append(other)
            is_open.set()
            await done.wait()

    async with open_streams() as (first, second), trio.open_nursery() as nursery:
        is_open = trio.Event()
        nursery.start_soon(open_other, second)
        async with open_zmtp(open_transport(first), socket_types[0], **options) as one:
            await is_open.wait()
            yield one, ends[0]
            done.set()


class RawPeer:
    """The other end of a stream, byte by byte."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream

    async def shake_hands(self, socket_type: bytes = b"DEALER") -> None:
        """Say what a peer says, and read what comes."""
        await self.stream.send_all(GREETING + ready_of(socket_type))
        await self.receive(len(GREETING))
        (_, length) = await self.receive(2)
        await self.receive(length)

    async def receive(self, size: int) -> bytes:
        """So many bytes, or fewer if the stream ends."""
        received = b""
        while len(received) < size:
            piece = await self.stream.receive_some(size - len(received))
            if not piece:
                break
            received += piece
        return received


@contextlib.asynccontextmanager
async def open_raw(
    open_streams: OpenStreams = memory_streams, **options: Any
) -> AsyncIterator[tuple[ZmtpStream, RawPeer]]:
    """A ROUTER, and a DEALER that is written by hand, after their handshake."""
    async with open_streams() as (first, second), trio.open_nursery() as nursery:
        raw = RawPeer(second)
        nursery.start_soon(raw.shake_hands)
        async with open_zmtp(open_transport(first), SocketType.ROUTER, **options) as zmtp:
            await trio.testing.wait_all_tasks_blocked()
            yield zmtp, raw
        await second.aclose()
