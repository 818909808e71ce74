"""Bad peers over real loopback: each ends its own connection, and nothing else."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import socket
import struct
import tracemalloc
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.testing

import trionet

HANDSHAKE = b"ARTIQ pc_rpc\necho pyon_v2\n"
CALL = b'{"action":"call","name":"echo","args":{"__jsonclass__":["tuple",[[1]]]},"kwargs":{}}\n'


class Echo:
    def __init__(self) -> None:
        self.started = trio.Event()
        self.cancelled = trio.Event()

    def echo(self, value: Any) -> Any:
        return value

    async def never(self) -> None:
        self.started.set()
        try:
            await trio.sleep_forever()
        finally:
            self.cancelled.set()


async def serve(nursery: trio.Nursery, echo: Echo | None = None, **options: Any) -> trionet.RpcServer:
    targets = {"echo": echo or Echo()}
    server: trionet.RpcServer = await nursery.start(
        lambda **kw: trionet.serve_rpc(targets, 0, **options, **kw)
    )
    return server


async def check_alive(server: trionet.RpcServer) -> None:
    with trio.fail_after(30):
        async with trionet.open_rpc_client("127.0.0.1", server.port) as client:
            assert await client.call("echo", "alive") == "alive"


async def receive_all(stream: trio.SocketStream) -> bytes:
    received = b""
    try:
        while data := await stream.receive_some():
            received += data
    except trio.BrokenResourceError:
        pass  # the server closed while there was still something to read for it
    return received


async def read_lines(stream: trio.SocketStream, count: int) -> bytes:
    received = b""
    while received.count(b"\n") < count:
        data = await stream.receive_some()
        assert data
        received += data
    return received


def reset(stream: trio.SocketStream) -> None:
    """Close so that the peer gets a reset instead of an end of file."""
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    stream.socket.close()


@pytest.mark.parametrize(
    ("sent", "log"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "not the banner"),
        (b"ARTIQ pc_rpc\r\n", "not the banner"),
        (b"ARTIQ pc_rpc\nother pyon_v2\n", "unknown target 'other'"),
        (b"ARTIQ pc_rpc\necho pyon_v3\n", "unknown feature 'pyon_v3'"),
        (b"ARTIQ pc_rpc\n\xff\n", "not UTF-8"),
        (HANDSHAKE + b"not json\n", "not PYON"),
        (HANDSHAKE + b"\n", "not PYON"),
        (HANDSHAKE + b"[" * 100_000 + b"\n", "nested too deep"),
        (HANDSHAKE + b"x" * 2_000_000, "a line of more than 1000000 bytes"),
        (HANDSHAKE + b"x" * 2_000_000 + b"\n", "a line of "),
    ],
)
async def test_what_ends_a_connection(sent: bytes, log: str, caplog: pytest.LogCaptureFixture) -> None:
    async with trio.open_nursery() as nursery:
        server = await serve(nursery, max_message_size=1_000_000)
        async with trionet.open_rpc_client("127.0.0.1", server.port) as bystander:
            bad = await trio.open_tcp_stream("127.0.0.1", server.port)
            async with bad, trio.open_nursery() as io:
                io.start_soon(send_ignoring_errors, bad, sent)
                with trio.fail_after(30):
                    await receive_all(bad)
            assert await bystander.call("echo", 1) == 1
        await server.aclose()
    warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warnings) == 1
    assert log in warnings[0]


async def send_ignoring_errors(stream: trio.SocketStream, data: bytes) -> None:
    with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):  # refused half-way
        await stream.send_all(data)


@pytest.mark.parametrize(
    ("request_line", "answer"),
    [
        (b'{"action":"dance"}\n', b'"class":"ValueError","message":"Unknown action: dance"'),
        (
            b'{"action":"call","name":"nope","args":[],"kwargs":{}}\n',
            b"'Echo' object has no attribute 'nope'",
        ),
        (b'{"action":"call","name":"echo","args":[1,2,3],"kwargs":{}}\n', b'"class":"TypeError"'),
        (b'{"action":"call","name":"echo","args":{},"kwargs":{}}\n', b'"class":"TypeError"'),
        (b'{"action":"call","name":"echo","args":[]}\n', b'"class":"KeyError","message":"\'kwargs\'"'),
        (b"[1]\n", b'"class":"TypeError"'),
    ],
)
async def test_what_is_answered_with_an_error(request_line: bytes, answer: bytes) -> None:
    async with trio.open_nursery() as nursery:
        server = await serve(nursery)
        stream = await trio.open_tcp_stream("127.0.0.1", server.port)
        async with stream:
            await stream.send_all(HANDSHAKE + request_line + CALL)
            *_, failed, ok = (await read_lines(stream, 4)).splitlines()
        assert b'"status":"failed"' in failed
        assert answer in failed
        assert ok == b'{"status":"ok","ret":1}'
        await server.aclose()


async def test_a_line_without_end() -> None:
    """A gigabyte without a line feed: memory stays flat, the connection is closed at the limit."""
    piece = b"x" * 1_000_000
    sent = 0
    async with trio.open_nursery() as nursery:
        server = await serve(nursery, max_message_size=4_000_000)
        stream = await trio.open_tcp_stream("127.0.0.1", server.port)
        await stream.send_all(HANDSHAKE)
        tracemalloc.start()
        try:
            with pytest.raises(trio.BrokenResourceError):
                for _ in range(1000):
                    await stream.send_all(piece)
                    sent += len(piece)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        await stream.aclose()
        await check_alive(server)
        await server.aclose()
    assert 4_000_000 <= sent < 100_000_000
    assert peak < 12_000_000


async def test_a_server_that_sends_a_line_without_end() -> None:
    async def send_forever(stream: trio.SocketStream) -> None:
        async with stream:
            await send_ignoring_errors(stream, b"x" * 20_000_000)

    async with trio.open_nursery() as nursery:
        port = await listen(nursery, send_forever)
        with pytest.raises(trionet.RemoteProtocolError, match="more than 1000000 bytes"):
            async with trionet.open_rpc_client("127.0.0.1", port, max_message_size=1_000_000):
                pass
        nursery.cancel_scope.cancel()


# What a client has sent, and how many lines it has got back, when it goes away.
STATES: dict[str, tuple[bytes, int]] = {
    "connected": (b"", 0),
    "in the banner": (b"ARTIQ", 0),
    "greeted": (b"ARTIQ pc_rpc\n", 1),
    "in the target": (b"ARTIQ pc_rpc\nec", 1),
    "idle": (HANDSHAKE, 2),
    "in a request": (HANDSHAKE + CALL[:20], 2),
    "answered": (HANDSHAKE + CALL, 3),
}


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("how", ["half-close", "close", "reset"])
async def test_clients_that_go_away(state: str, how: str, caplog: pytest.LogCaptureFixture) -> None:
    sent, lines = STATES[state]
    async with trio.open_nursery() as nursery:
        server = await serve(nursery)
        stream = await trio.open_tcp_stream("127.0.0.1", server.port)
        await stream.send_all(sent)
        await read_lines(stream, lines)
        if how == "half-close":
            await stream.send_eof()
            with trio.fail_after(30):
                assert await receive_all(stream) == b""
        elif how == "reset":
            reset(stream)
        await stream.aclose()
        await check_alive(server)
        with trio.fail_after(30):
            await server._connected.wait_value(0)
        await server.aclose()
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("how", ["half-close", "close", "reset"])
async def test_a_client_that_leaves_a_method_that_never_returns(how: str) -> None:
    echo = Echo()
    async with trio.open_nursery() as nursery:
        server = await serve(nursery, echo)
        stream = await trio.open_tcp_stream("127.0.0.1", server.port)
        await stream.send_all(HANDSHAKE + CALL.replace(b'"echo"', b'"never"').replace(b"[[1]]", b"[[]]"))
        await echo.started.wait()
        if how == "half-close":
            await stream.send_eof()
        elif how == "reset":
            reset(stream)
        else:
            await stream.aclose()
        with trio.fail_after(30):
            await echo.cancelled.wait()
        await stream.aclose()
        await check_alive(server)
        await server.aclose()


async def test_a_client_that_does_not_read() -> None:
    """It is not read from either, and costs no memory beyond what is in the sockets."""
    async with trio.open_nursery() as nursery:
        server = await serve(nursery)
        stream = await trio.open_tcp_stream("127.0.0.1", server.port)
        await stream.send_all(HANDSHAKE)
        request = b'{"action":"call","name":"echo","args":["' + b"x" * 100_000 + b'"],"kwargs":{}}\n'
        tracemalloc.start()
        sent = await send_until_blocked(stream, request * 10)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert 0 < sent < 100_000_000  # a server that read on would take all of it
        assert peak < 15_000_000
        await check_alive(server)
        await stream.aclose()
        await server.aclose()


async def send_until_blocked(stream: trio.SocketStream, data: bytes) -> int:
    """Send again and again until the server takes no more. Returns how much it took."""
    sent = refused = 0
    with socket.socket(fileno=os.dup(stream.socket.fileno())) as plain:
        plain.setblocking(False)
        while refused < 10 and sent < 100_000_000:
            try:
                sent += plain.send(memoryview(data)[sent % len(data) :])
            except BlockingIOError:
                refused += 1
                await trio.testing.wait_all_tasks_blocked(0.01)
            else:
                refused = 0
    return sent


async def test_a_thousand_silent_clients() -> None:
    async with trio.open_nursery() as nursery:
        # Each takes two descriptors here; common limits are 1024.
        server = await serve(nursery)
        streams = [
            await trio.open_tcp_stream("127.0.0.1", server.port) for _ in range(raise_limit(2_100) - 50)
        ]
        await check_alive(server)
        for stream in streams:
            await stream.aclose()
        with trio.fail_after(60):
            await server._connected.wait_value(0)
        await server.aclose()


def raise_limit(wanted: int) -> int:
    """Allow this process as many sockets, if the system lets it. Returns half of how many there can be."""
    resource: Any = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft < limit:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    return int(max(soft, limit)) // 2 if max(soft, limit) < wanted else wanted // 2


Behaviour = Callable[[trio.SocketStream], Awaitable[None]]


async def listen(nursery: trio.Nursery, behaviour: Behaviour) -> int:
    serve = functools.partial(trio.serve_tcp, behaviour, 0, host="127.0.0.1")
    (listener,) = await nursery.start(serve)
    port: int = listener.socket.getsockname()[1]
    return port


GREETING = b'{"targets":["echo"],"description":null,"features":["pyon_v2"]}\n'
METHODS = b'["echo"]\n'

# How many lines a server has got, and what it has sent, when it goes away.
SERVER_STATES: dict[str, tuple[int, bytes]] = {
    "connected": (0, b""),
    "in the greeting": (1, GREETING[:20]),
    "greeted": (1, GREETING),
    "in the methods": (2, GREETING + METHODS[:5]),
    "idle": (2, GREETING + METHODS),
    "in a call": (3, GREETING + METHODS),
    "in a reply": (3, GREETING + METHODS + b'{"status":"ok",'),
}


@pytest.mark.parametrize("state", SERVER_STATES)
@pytest.mark.parametrize("how", ["half-close", "close", "reset"])
async def test_servers_that_go_away(state: str, how: str) -> None:
    lines, sent = SERVER_STATES[state]
    gone = trio.Event()

    async def go_away(stream: trio.SocketStream) -> None:
        await stream.send_all(sent)
        await read_lines(stream, lines)
        if how == "half-close":
            await stream.send_eof()
            gone.set()
            await receive_all(stream)
        elif how == "reset":
            reset(stream)
        else:
            await stream.aclose()
        gone.set()

    async with trio.open_nursery() as nursery:
        port = await listen(nursery, go_away)
        with trio.fail_after(30), pytest.raises(trionet.ConnectionLost) as caught:
            async with trionet.open_rpc_client("127.0.0.1", port) as client:
                if state == "idle":
                    await gone.wait()
                    await client.wait_disconnected()
                await client.call("echo", 1)
        assert caught.value.call.peer == f"127.0.0.1:{port}"
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "name", ["eval", "exec", "SystemExit", "KeyboardInterrupt", "os.system", "subprocess.Popen"]
)
async def test_a_server_whose_exception_is_none(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    message = "print('executed')"

    async def lie(stream: trio.SocketStream) -> None:
        await stream.send_all(b'{"targets":["it"],"description":null,"features":["pyon_v2"]}\n["f"]\n')
        await read_lines(stream, 3)
        reply = (
            f'{{"status":"failed","exception":{{"class":"{name}","message":"{message}","traceback":[]}}}}\n'
        )
        await stream.send_all(reply.encode())

    async with trio.open_nursery() as nursery:
        port = await listen(nursery, lie)
        async with trionet.open_rpc_client("127.0.0.1", port) as client:
            with pytest.raises(trionet.RemoteError) as caught:
                await client.call("f")
        assert caught.value.class_name == name
        assert caught.value.message == f"{name}: {message}"
        nursery.cancel_scope.cancel()
    assert capsys.readouterr().out == ""
