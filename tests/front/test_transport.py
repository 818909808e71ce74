"""Both transports behave alike: sockets with their short way, and any other stream."""

from __future__ import annotations

import contextlib
import socket
import ssl
import sys
import tempfile
from collections.abc import AsyncIterator, Callable

import pytest
import trio
import trio.testing

from trionet._transport import (
    SocketTransport,
    StreamTransport,
    Transport,
    format_address,
    local_host,
    open_transport,
    peer_name,
)

Pair = tuple[Transport, Transport]


@contextlib.asynccontextmanager
async def sockets() -> AsyncIterator[Pair]:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        client = await trio.open_tcp_stream(*listener.socket.getsockname()[:2])
        server = await listener.accept()
    pair = open_transport(client), open_transport(server)
    assert all(type(transport) is SocketTransport for transport in pair)
    yield pair
    for transport in pair:
        await transport.aclose()


@contextlib.asynccontextmanager
async def streams() -> AsyncIterator[Pair]:
    one, other = trio.testing.memory_stream_pair()
    pair = open_transport(one), open_transport(other)
    assert all(type(transport) is StreamTransport for transport in pair)
    yield pair
    for transport in pair:
        await transport.aclose()


both = pytest.mark.parametrize("open_pair", [sockets, streams])
OpenPair = Callable[[], contextlib.AbstractAsyncContextManager[Pair]]


async def receive_exactly(transport: Transport, size: int) -> bytes:
    received = b""
    while len(received) < size:
        data = await transport.receive()
        assert data
        received += data
    return received


@both
async def test_data_arrives_in_both_directions(open_pair: OpenPair) -> None:
    async with open_pair() as (one, other):
        await one.send(b"question")
        assert await receive_exactly(other, 8) == b"question"
        await other.send_all(b"answer")
        assert await receive_exactly(one, 6) == b"answer"


@both
async def test_receiving_into_a_buffer(open_pair: OpenPair) -> None:
    async with open_pair() as (one, other), trio.open_nursery() as nursery:
        data = bytes(range(256)) * 40_000
        nursery.start_soon(one.send, data)
        buffer = memoryview(bytearray(len(data) + 10))
        received = 0
        while received < len(data):
            received += await other.receive_into(buffer[received : len(data)])
        assert bytes(buffer) == data + bytes(10)
        with trio.CancelScope() as scope:
            scope.cancel()
            await other.receive_into(buffer)
        nursery.start_soon(one.aclose)
        assert await other.receive_into(buffer) == 0
        await other.aclose()
        with pytest.raises(trio.ClosedResourceError):
            await other.receive_into(buffer)


@both
async def test_receiving_into_a_buffer_waits_for_data(open_pair: OpenPair) -> None:
    async with open_pair() as (one, other), trio.open_nursery() as nursery:

        @nursery.start_soon
        async def receive() -> None:
            buffer = memoryview(bytearray(10))
            assert await other.receive_into(buffer) == 3
            assert bytes(buffer[:4]) == b"abc\0"
            with pytest.raises(trio.ClosedResourceError):
                await other.receive_into(buffer)

        await trio.testing.wait_all_tasks_blocked()
        await one.send(b"abc")
        await trio.testing.wait_all_tasks_blocked()
        await other.aclose()


async def test_sending_several_buffers_at_once() -> None:
    async with sockets() as (one, other):
        buffers: list[bytes | memoryview] = [b"ab", memoryview(b"cd"), b"", b"ef"]
        assert one.send_buffers_nowait(buffers) == 6
        assert one.send_buffers_nowait([b"gh"]) == 2
        assert await receive_exactly(other, 8) == b"abcdefgh"
        # As many as the system takes, and no more than a call may have.
        assert one.send_buffers_nowait([b"x"] * 10_000) == 64
        while one.send_buffers_nowait([bytes(100_000), bytes(100_000)]):
            pass
        await other.aclose()
        with pytest.raises(trio.BrokenResourceError):
            for _ in range(1000):
                one.send_buffers_nowait([b"x", b"y"])
                await trio.testing.wait_all_tasks_blocked()
        await one.aclose()
        with pytest.raises(trio.ClosedResourceError):
            one.send_buffers_nowait([b"x", b"y"])
    async with streams() as (one, other):
        assert one.send_buffers_nowait([b"x", b"y"]) == 0


@both
async def test_more_than_fits(open_pair: OpenPair) -> None:
    data = bytes(range(256)) * 40_000
    async with open_pair() as (one, other), trio.open_nursery() as nursery:
        nursery.start_soon(one.send, data)
        assert await receive_exactly(other, len(data)) == data


@both
async def test_the_end_of_the_stream(open_pair: OpenPair) -> None:
    async with open_pair() as (one, other):
        await one.send(b"last")
        assert isinstance(one.stream, trio.SocketStream | trio.StapledStream)
        await one.stream.send_eof()
        assert await other.receive() == b"last"
        assert await other.receive() == b""
        assert await other.receive() == b""


@both
async def test_closed_on_this_side(open_pair: OpenPair) -> None:
    async with open_pair() as (one, _):
        await one.aclose()
        await one.aclose()
        with pytest.raises(trio.ClosedResourceError):
            await one.receive()
        with pytest.raises(trio.ClosedResourceError):
            await one.send(b"x")


@both
async def test_closed_while_receiving(open_pair: OpenPair) -> None:
    async with open_pair() as (one, _), trio.open_nursery() as nursery:

        async def receive() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await one.receive()

        nursery.start_soon(receive)
        await trio.testing.wait_all_tasks_blocked()
        await one.aclose()


@both
async def test_closed_on_the_other_side(open_pair: OpenPair) -> None:
    async with open_pair() as (one, other):
        await other.send(b"unread")
        await trio.testing.wait_all_tasks_blocked()
        await one.aclose()  # with data unread: a socket resets
        with pytest.raises(trio.BrokenResourceError):
            for _ in range(1000):
                await other.send(b"x" * 100_000)


@both
async def test_receiving_cancelled_takes_nothing(open_pair: OpenPair) -> None:
    async with open_pair() as (one, other):
        for _ in range(40):
            with trio.CancelScope() as scope:
                scope.cancel()
                await one.receive()
            await other.send(b"x")
            assert await one.receive() == b"x"


async def test_a_default_timeout_of_the_process_does_not_block() -> None:
    socket.setdefaulttimeout(30)
    try:
        async with sockets() as (one, _):
            assert isinstance(one, SocketTransport)
            assert one._receive_nowait() is None
            assert one._socket.gettimeout() == 0
    finally:
        socket.setdefaulttimeout(None)


async def test_names_of_peers() -> None:
    async with sockets() as (one, _):
        port = one.stream.socket.getpeername()[1]  # type: ignore[attr-defined]
        assert one.peer == f"127.0.0.1:{port}"
        await one.aclose()
        assert peer_name(one.stream) == "disconnected peer"
    assert format_address(("::1", 80, 0, 0)) == "[::1]:80"
    assert format_address("/run/socket") == "/run/socket"


@pytest.mark.skipif(sys.platform == "win32", reason="no Unix sockets")
async def test_names_of_peers_at_unix_sockets() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/socket"
        with trio.socket.socket(socket.AF_UNIX) as sock:
            await sock.bind(path)
            sock.listen()
            client = open_transport(await trio.open_unix_socket(path))
            server = open_transport(await trio.SocketListener(sock).accept())
        assert client.peer == server.peer == path
        assert local_host(client.stream) is None
        await client.send(b"hello")
        assert await receive_exactly(server, 5) == b"hello"
        for transport in (client, server):
            await transport.aclose()


class Brittle(trio.abc.Stream):
    """A stream that breaks as one of TLS does: the reason is only in the cause."""

    def __init__(self, reason: Exception | None) -> None:
        self.reason = reason

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        raise trio.BrokenResourceError from self.reason

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        raise trio.BrokenResourceError from self.reason

    async def wait_send_all_might_not_block(self) -> None:
        raise AssertionError

    async def aclose(self) -> None:
        pass


@pytest.mark.parametrize(
    ("reason", "message"),
    [
        (ssl.SSLError(1, "wrong version number"), "wrong version number"),
        (
            ssl.SSLEOFError(8, "EOF"),
            "cut off in TLS, as by a peer that has died, or that does not trust our certif",
        ),
        (None, "the stream is broken"),
    ],
)
async def test_a_stream_that_breaks_says_why(reason: Exception | None, message: str) -> None:
    transport = open_transport(Brittle(reason))
    for use in (
        lambda: transport.receive(),
        lambda: transport.receive_into(memoryview(bytearray(10))),
        lambda: transport.send_all(b"x"),
    ):
        with pytest.raises(trio.BrokenResourceError, match=message) as caught:
            await use()
        assert caught.value.__cause__ is reason
