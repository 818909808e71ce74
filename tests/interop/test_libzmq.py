"""ZMTP with libzmq, which listens or connects: all types, both transports, restarts, heartbeats, refusals."""

from __future__ import annotations

import logging
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final

import pytest
import trio

from trionet._server import Connection, ServerHandle, serve_connections
from trionet._transport import Transport
from trionet._zmtp import open_zmtp, zmtp_handler
from trionet._zmtp_endpoints import (
    connect_endpoint,
    listening_endpoints,
    open_endpoint_listeners,
    parse_endpoint,
)
from trionet._zmtp_stream import ZmtpStream
from trionet.wire.errors import ConnectionLost, RemoteProtocolError
from trionet.wire.zmtp import SocketType

zmq: Any = pytest.importorskip("zmq")

#: Milliseconds after which libzmq gives up, because nothing will happen any more.
PATIENCE: Final = 30_000

SIZES: Final = [0, 1, 255, 256, 8192, 65_535, 65_536, 1_000_000]
MESSAGES: Final = [
    [b"0", b"ping", b"auto", b"msgpack", b""],
    *([os.urandom(size)] for size in SIZES),
    [os.urandom(size) for size in SIZES],
    [b""] * 100,
]
BOTH_WAYS: Final = [("DEALER", "ROUTER"), ("ROUTER", "DEALER"), ("DEALER", "DEALER"), ("PAIR", "PAIR")]

Handler = Callable[[Connection, ZmtpStream], Any]


@pytest.fixture
def context() -> Iterator[Any]:
    context = zmq.Context()
    yield context
    context.destroy(linger=0)


@pytest.fixture(params=["tcp", "ipc"])
def address(request: pytest.FixtureRequest) -> Iterator[str]:
    """Where to listen."""
    with tempfile.TemporaryDirectory() as folder:
        yield "tcp://127.0.0.1:*" if request.param == "tcp" else f"ipc://{folder}/socket"


def open_socket(context: Any, name: str, **options: object) -> Any:
    """A socket of libzmq that does not wait for ever."""
    opened = context.socket(getattr(zmq, name))
    for option, value in {"rcvtimeo": PATIENCE, "sndtimeo": PATIENCE, "linger": 0, **options}.items():
        setattr(opened, option, value)
    return opened


in_thread = partial(trio.to_thread.run_sync, abandon_on_cancel=True)


async def serve(
    address: str,
    handler: Handler,
    name: str = "ROUTER",
    *,
    task_status: trio.TaskStatus[tuple[ServerHandle, str]],
) -> None:
    """A server of ours. Reports its handle and where it listens."""
    listeners = await open_endpoint_listeners(parse_endpoint(address))
    handle = ServerHandle(listeners)
    async with trio.open_nursery() as nursery:
        await nursery.start(
            partial(
                serve_connections,
                zmtp_handler(handler, SocketType(name), logging.getLogger("trionet.test")),
                handle,
                10.0,
            )
        )
        task_status.started((handle, listening_endpoints(listeners)[0]))


async def echo(client: Connection, zmtp: ZmtpStream) -> None:
    async for frames in zmtp:
        await zmtp.send(frames)


def exchange_as_client(socket: Any) -> None:
    """Send everything, have it sent back. A ROUTER that connects knows its peer once it has heard of it."""
    for message in MESSAGES:
        socket.send_multipart(message)
        assert socket.recv_multipart() == message


def echo_as_server(socket: Any) -> None:
    for _ in MESSAGES:
        socket.send_multipart(socket.recv_multipart())


async def exchange(zmtp: ZmtpStream) -> None:
    for message in MESSAGES:
        await zmtp.send(message)
        assert await zmtp.receive() == message


@pytest.mark.parametrize("name", ["DEALER", "PAIR"])
async def test_libzmq_connects(name: str, context: Any, address: str) -> None:
    ours = {"DEALER": "ROUTER"}.get(name, name)
    async with trio.open_nursery() as nursery:
        handle, found = await nursery.start(serve, address, echo, ours)
        with open_socket(context, name) as client:
            client.connect(found)
            await in_thread(exchange_as_client, client)
        await handle.aclose(1.0)


@pytest.mark.parametrize(("ours", "theirs"), BOTH_WAYS)
async def test_libzmq_listens(ours: str, theirs: str, context: Any, address: str) -> None:
    with open_socket(context, theirs) as server:
        server.bind(address)
        transport = await connect_endpoint(parse_endpoint(server.last_endpoint.decode().rstrip("\0")))
        async with open_zmtp(transport, SocketType(ours), identity=b"me") as zmtp:
            assert zmtp.peer_ready.socket_type.value == theirs
            async with trio.open_nursery() as nursery:
                nursery.start_soon(in_thread, echo_as_server, server)
                await exchange(zmtp)


async def test_a_router_of_libzmq_knows_the_identity(context: Any) -> None:
    with open_socket(context, "ROUTER", identity=b"router") as server:
        server.bind("tcp://127.0.0.1:*")
        transport = await connect_endpoint(parse_endpoint(server.last_endpoint.decode()))
        async with open_zmtp(transport, SocketType.DEALER, identity=b"host.process.thread") as zmtp:
            assert zmtp.peer_ready.identity == b"router"
            zmtp.post([b"hello"])
            assert await in_thread(server.recv_multipart) == [b"host.process.thread", b"hello"]


async def test_push_and_pull_both_ways(context: Any, address: str) -> None:
    received: list[Any] = []

    async def collect(client: Connection, zmtp: ZmtpStream) -> None:
        received.extend([frames async for frames in zmtp])
        nursery.cancel_scope.cancel()

    def push() -> None:
        with open_socket(context, "PUSH", linger=PATIENCE) as socket:
            socket.connect(found)
            for message in MESSAGES:
                socket.send_multipart(message)

    async with trio.open_nursery() as nursery:
        _, found = await nursery.start(serve, address, collect, "PULL")
        await in_thread(push)
    assert received == MESSAGES

    with open_socket(context, "PULL") as socket:
        socket.bind("tcp://127.0.0.1:*")
        transport = await connect_endpoint(parse_endpoint(socket.last_endpoint.decode()))
        async with open_zmtp(transport, SocketType.PUSH) as zmtp:
            for message in MESSAGES:
                zmtp.post(message)
            assert [await in_thread(socket.recv_multipart) for _ in MESSAGES] == MESSAGES


async def test_100_megabytes_there_and_back(context: Any) -> None:
    data = bytes(range(250)) * 400_000

    def exchange_large() -> None:
        with open_socket(context, "DEALER") as client:
            client.connect(found)
            client.send(data, copy=False)
            assert client.recv(copy=False).buffer == data

    async with trio.open_nursery() as nursery:
        handle, found = await nursery.start(serve, "tcp://127.0.0.1:*", echo)
        await in_thread(exchange_large)
        await handle.aclose()


async def test_libzmq_connects_again_when_our_server_restarts(context: Any, address: str) -> None:
    found = address
    with open_socket(context, "DEALER", identity=b"me") as client:
        for turn in range(3):
            async with trio.open_nursery() as nursery:
                handle, found = await nursery.start(serve, found, echo)
                if not turn:
                    client.connect(found)
                client.send_multipart([b"%d" % turn])
                assert await in_thread(client.recv_multipart) == [b"%d" % turn]
                await handle.aclose()


class Tap:
    """Hears what goes through a transport, and tells when something has come so many times."""

    def __init__(self, transport: Transport, sought: bytes, count: int) -> None:
        self.heard = b""
        self.enough = trio.Event()
        self._sought, self._count = sought, count
        receive, send = transport.receive, transport.send_buffers_nowait

        async def tapped_receive() -> bytes:
            data = await receive()
            self._hear(data)
            return data

        def tapped_send(buffers: Any) -> int:
            self._hear(b"".join(buffers))
            return send(buffers)

        transport.receive, transport.send_buffers_nowait = tapped_receive, tapped_send  # type: ignore[method-assign]

    def _hear(self, data: bytes) -> None:
        self.heard += data
        if self.heard.count(self._sought) >= self._count:
            self.enough.set()


async def test_heartbeats_of_libzmq_are_answered(context: Any) -> None:
    async def wait_pongs(client: Connection, zmtp: ZmtpStream) -> None:
        tap = Tap(client.transport, b"\x04PONG", 5)
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def answer() -> None:
                await echo(client, zmtp)

            await tap.enough.wait()
            await zmtp.send([b"alive"])

    async with trio.open_nursery() as nursery:
        handle, found = await nursery.start(serve, "tcp://127.0.0.1:*", wait_pongs)
        options = {"heartbeat_ivl": 10, "heartbeat_timeout": PATIENCE, "heartbeat_ttl": PATIENCE}
        with open_socket(context, "DEALER", **options) as client:
            client.connect(found)
            assert await in_thread(client.recv_multipart) == [b"alive"]
            assert handle.accepted == 1
        await handle.aclose()


async def test_libzmq_answers_our_heartbeats(context: Any) -> None:
    with open_socket(context, "ROUTER") as server:
        server.bind("tcp://127.0.0.1:*")
        transport = await connect_endpoint(parse_endpoint(server.last_endpoint.decode()))
        tap = Tap(transport, b"\x04PONG", 5)
        async with open_zmtp(
            transport, SocketType.DEALER, heartbeat_interval=0.01, heartbeat_timeout=30.0
        ) as zmtp:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(zmtp.receive)
                await tap.enough.wait()
                nursery.cancel_scope.cancel()
            assert zmtp.error is None


@pytest.mark.parametrize(
    ("name", "options", "reason"),
    [
        ("SUB", {}, "ROUTER talks to DEALER or ROUTER, not to 'SUB'"),
        ("PUSH", {}, "not to 'PUSH'"),
        ("REQ", {}, "not to 'REQ'"),
        # libzmq may see first that the mechanisms differ, and close in silence.
        ("DEALER", {"plain_username": b"me"}, "mechanism 'PLAIN', only NULL|in the ZMTP handshake|lost"),
    ],
)
async def test_sockets_of_libzmq_that_are_refused(
    name: str, options: dict[str, Any], reason: str, context: Any, caplog: pytest.LogCaptureFixture
) -> None:
    refused = trio.Event()

    class Wait(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if re.search(reason, record.getMessage()):
                refused.set()

    caplog.set_level(logging.INFO, "trionet.test")
    wait = Wait()
    logging.getLogger("trionet.test").addHandler(wait)
    try:
        async with trio.open_nursery() as nursery:
            handle, found = await nursery.start(serve, "tcp://127.0.0.1:*", echo)
            with open_socket(context, name, **options) as client:
                client.connect(found)
                await refused.wait()
            await handle.aclose()
    finally:
        logging.getLogger("trionet.test").removeHandler(wait)


@pytest.mark.parametrize("name", ["REP", "PUB"])
async def test_we_are_refused_by_libzmq(name: str, context: Any) -> None:
    with open_socket(context, name) as server:
        server.bind("tcp://127.0.0.1:*")
        transport = await connect_endpoint(parse_endpoint(server.last_endpoint.decode()))
        # A REP takes a DEALER: then it is this side that refuses, if libzmq has not closed before.
        with pytest.raises((RemoteProtocolError, ConnectionLost), match=f"'{name}'|handshake|lost"):
            async with open_zmtp(transport, SocketType.DEALER):
                pass
