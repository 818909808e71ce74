"""Listening at ZeroMQ's addresses and connecting to them, over the system's sockets."""

from __future__ import annotations

import errno
import logging
import os
import socket
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import trio

from trionet._server import AnyListener, Connection, ServerHandle, serve_connections
from trionet._zmtp import open_zmtp, zmtp_handler
from trionet._zmtp_endpoints import (
    IpcEndpoint,
    connect_endpoint,
    listening_endpoints,
    open_endpoint_listeners,
    parse_endpoint,
)
from trionet._zmtp_stream import ZmtpStream
from trionet.wire.zmtp import SocketType

on_unix = pytest.mark.skipif(sys.platform == "win32", reason="no Unix sockets")


@pytest.fixture
def socket_file() -> Iterator[Path]:
    """A path that is short enough for a socket, and free."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) / "socket"


def is_socket(path: Path) -> bool:
    return path.is_socket()


async def echo(client: Connection, zmtp: ZmtpStream) -> None:
    async for frames in zmtp:
        await zmtp.send(frames)


async def ask(address: str) -> None:
    """Send something, and have it sent back."""
    transport = await connect_endpoint(parse_endpoint(address))
    async with open_zmtp(transport, SocketType.DEALER) as zmtp:
        assert zmtp.peer == address.removeprefix("tcp://")
        for frame in (b"hello", bytes(5_000_000)):
            await zmtp.send([frame])
            assert await zmtp.receive() == [frame]


async def aclose_all(listeners: list[AnyListener]) -> None:
    for listener in listeners:
        await listener.aclose()


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:*", pytest.param("ipc", marks=on_unix)])
async def test_a_server_is_as_any_other(address: str, socket_file: Path) -> None:
    endpoint = parse_endpoint(address.replace("ipc", f"ipc://{socket_file}"))
    listeners = await open_endpoint_listeners(endpoint)
    (found,) = listening_endpoints(listeners)
    assert found.startswith(str(endpoint).rstrip("*"))
    handle = ServerHandle(listeners)
    handler = zmtp_handler(echo, SocketType.ROUTER, logging.getLogger("trionet.test"))
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(serve_connections, handler, handle, 10.0))
        await ask(found)
        async with open_zmtp(await connect_endpoint(parse_endpoint(found)), SocketType.DEALER) as idle:
            await ask(found)
            assert handle.accepted == 3
            await handle.aclose()
            assert [frames async for frames in idle] == []
    with pytest.raises(OSError, match=r"refused|No such file"):
        await ask(found)
    assert not is_socket(socket_file)


async def test_any_port_of_a_name_and_of_all_interfaces() -> None:
    for address in ("tcp://localhost:*", "tcp://*:0"):
        listeners = await open_endpoint_listeners(parse_endpoint(address))
        found = listening_endpoints(listeners)
        assert len({one.rpartition(":")[2] for one in found}) == 1
        assert all(parse_endpoint(one).port > 0 for one in found)  # type: ignore[union-attr]
        await aclose_all(listeners)


async def test_a_port_in_use() -> None:
    listeners = await open_endpoint_listeners(parse_endpoint("tcp://127.0.0.1:*"))
    (found,) = listening_endpoints(listeners)
    with pytest.raises(OSError, match=r"cannot listen on 127\.0\.0\.1:") as raised:
        await open_endpoint_listeners(parse_endpoint(found))
    assert raised.value.errno == errno.EADDRINUSE
    await aclose_all(listeners)


@on_unix
async def test_a_file_that_was_left_behind_is_replaced(
    socket_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Before one that may be in use is replaced, looking at it on a busy machine is given up.
    monkeypatch.setattr("trionet._zmtp_endpoints._PROBE_TIMEOUT", 30.0)
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(socket_file))
    assert is_socket(socket_file)
    with pytest.raises(ConnectionRefusedError, match=f"ipc://{socket_file}"):
        await connect_endpoint(IpcEndpoint(str(socket_file)))
    listeners = await open_endpoint_listeners(IpcEndpoint(str(socket_file)))
    transport = await connect_endpoint(IpcEndpoint(str(socket_file)))
    await transport.aclose()
    await aclose_all(listeners)
    assert not is_socket(socket_file)


@on_unix
async def test_a_file_in_use_is_not(socket_file: Path) -> None:
    endpoint = IpcEndpoint(str(socket_file))
    listeners = await open_endpoint_listeners(endpoint)
    with pytest.raises(OSError, match=f"cannot listen on {endpoint}: Address already in use") as raised:
        await open_endpoint_listeners(endpoint)
    assert raised.value.errno == errno.EADDRINUSE
    transport = await connect_endpoint(endpoint)
    await transport.aclose()
    await aclose_all(listeners)


@on_unix
def test_other_files_are_left_alone(socket_file: Path) -> None:
    socket_file.write_text("data")
    with pytest.raises(OSError, match=r"cannot listen on .*: Address already in use"):
        trio.run(open_endpoint_listeners, IpcEndpoint(str(socket_file)))
    assert socket_file.read_text() == "data"


@on_unix
async def test_a_listener_removes_no_file_but_its_own(socket_file: Path) -> None:
    endpoint = IpcEndpoint(str(socket_file))
    first = await open_endpoint_listeners(endpoint)
    os.unlink(socket_file)
    second = await open_endpoint_listeners(endpoint)
    await aclose_all(first)
    assert is_socket(socket_file)
    await aclose_all(second)
    await aclose_all(second)
    third = await open_endpoint_listeners(endpoint)
    os.unlink(socket_file)
    await aclose_all(third)
    assert not is_socket(socket_file)


@on_unix
async def test_a_folder_that_is_not_there(socket_file: Path) -> None:
    endpoint = IpcEndpoint(f"{socket_file}/missing/socket")
    with pytest.raises(FileNotFoundError, match="cannot listen on ipc://"):
        await open_endpoint_listeners(endpoint)
    with pytest.raises(FileNotFoundError, match="ipc://"):
        await connect_endpoint(endpoint)


@on_unix
async def test_a_path_that_is_too_long() -> None:
    endpoint = IpcEndpoint("/tmp/" + "x" * 200)
    for action in (open_endpoint_listeners, connect_endpoint):
        with pytest.raises(OSError, match="too long"):
            await action(endpoint)


async def test_a_system_without_unix_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    for action in (open_endpoint_listeners, connect_endpoint):
        with pytest.raises(NotImplementedError, match="use tcp://"):
            await action(IpcEndpoint("laser"))
