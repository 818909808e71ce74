"""Sessions recorded from sipyco's own peers, played to the classes of that name here, and by them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.compat.asyncio_programs import Told, port_of, run
from tests.compat.test_compat_logs import Kept, kept
from tests.wire.test_logs import logged
from tests.wire.transcripts import Recording, load
from tests.wire.values import identical
from trionet import pyon
from trionet_compat.sipyco import logs
from trionet_compat.sipyco.broadcast import Broadcaster, Receiver
from trionet_compat.sipyco.pc_rpc import AsyncioClient, GenericRemoteException
from trionet_compat.sipyco.sync_struct import Notifier, Publisher, Subscriber, process_mod
from trionet_compat.sipyco.tools import AsyncioServer

__all__ = ["kept"]  # a fixture


class Replaying(AsyncioServer):
    """Plays the server: sends what that sent after as many lines of the client as it had read then."""

    def __init__(self, recording: Recording) -> None:
        super().__init__()
        self._messages = [one for one in recording.messages if one.line]
        self.received: list[bytes] = []
        self.played = Told()

    async def _handle_connection_cr(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for message in self._messages:
            if message.sender == "client":
                self.received.append(await reader.readline())
            else:
                writer.write(message.line)
        self.played()
        assert await reader.read() == b""


@contextlib.asynccontextmanager
async def replaying(recording: Recording) -> AsyncIterator[tuple[Replaying, int]]:
    server = Replaying(recording)
    await server.start("127.0.0.1", 0)
    try:
        yield server, port_of(server)
    finally:
        await server.stop()
    assert server.received == recording.lines("client")


async def subscribed_lines(port: int, recording: Recording, count: int) -> AsyncIterator[bytes]:
    """Send what the recorded client sent first, and read so many lines."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"".join(recording.lines("client")))
    for _ in range(count):
        yield await reader.readline()
    writer.close()
    await writer.wait_closed()


def decode(line: bytes) -> Any:
    return pyon.decode(line.decode())


def what(mod: dict[str, Any]) -> list[Any]:
    """A mod without the values, which change with the structure."""
    return [mod.get(key) for key in ("action", "path", "key", "i")]


def test_a_client_of_rpc() -> None:
    (recording,) = load("pc_rpc_v2_asyncio_client")

    async def main() -> None:
        async with replaying(recording) as (_, port):
            client = AsyncioClient()
            await client.connect_rpc("127.0.0.1", port, "echo")
            assert await client.echo((1, {"a": 2})) == (1, {"a": 2})
            with pytest.raises(GenericRemoteException, match="CustomError: custom text") as caught:
                await client.raise_custom()
            failure = decode(recording.lines("server")[-1])["exception"]
            assert caught.value.parent_traceback == failure["traceback"]
            await client.close_rpc()

    run(main)


def test_a_subscriber() -> None:
    (recording, _) = load("sync_struct_session")
    lines = recording.lines("server")

    async def main() -> None:
        told = Told()
        targets: list[Any] = []

        def build(structure: Any) -> Any:
            targets.append(structure)
            return structure

        subscriber = Subscriber("test", build, told)
        async with replaying(recording) as (_, port):
            await subscriber.connect("127.0.0.1", port)
            mods = await told.wait(len(lines))
            await subscriber.close()
        expected = decode(lines[0])["struct"]
        for line in lines[1:]:
            process_mod(expected, decode(line))
        assert identical(targets, [expected])
        assert [what(mod) for mod in mods] == [what(decode(line)) for line in lines]

    run(main)


def test_a_publisher() -> None:
    (recording, _) = load("sync_struct_session")
    lines = recording.lines("server")

    async def main() -> None:
        notifier = Notifier(decode(lines[0])["struct"])
        publisher = Publisher({"test": notifier})
        await publisher.start("127.0.0.1", 0)
        received = subscribed_lines(port_of(publisher), recording, len(lines))
        assert await anext(received) == lines[0]
        for line in lines[1:]:
            process_mod(notifier, decode(line))
        assert [line async for line in received] == lines[1:]
        await publisher.stop()

    run(main)


def test_a_receiver() -> None:
    recording = load("broadcast_session")[0]

    async def main() -> None:
        told = Told()
        receiver = Receiver("chan", told)
        async with replaying(recording) as (_, port):
            await receiver.connect("127.0.0.1", port)
            assert await told.wait(3) == [{"key": "value", "number": 42}, (1, [2], {3: 4}), None]
            await receiver.close()

    run(main)


def test_a_broadcaster() -> None:
    recording = load("broadcast_session")[0]
    lines = recording.lines("server")

    async def main() -> None:
        broadcaster = Broadcaster()
        await broadcaster.start("127.0.0.1", 0)
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of(broadcaster))
        writer.write(b"".join(recording.lines("client")))
        ready = asyncio.ensure_future(reader.readline())
        while not ready.done():
            broadcaster.broadcast("chan", "ready")
            await asyncio.sleep(0)
        for line in lines:
            broadcaster.broadcast("chan", decode(line))
        received = [await ready]
        while received[-1] != lines[-1]:
            received.append(await reader.readline())
        assert received[-len(lines) :] == lines
        writer.close()
        await writer.wait_closed()
        await broadcaster.stop()

    run(main)


def test_a_log_forwarder() -> None:
    """But for the level that the protocol does not know: see `tests.wire.test_logs`."""
    (recording,) = load("logging_session")
    (note,) = [message.note for message in recording.messages if "the server logged" in message.note]
    odd = b"src42:Level 35:client.logger:odd level\n"
    expected = [
        line.replace(odd, b"src42:WARNING:client.logger:odd level\n") for line in recording.lines("client")
    ]
    assert expected != recording.lines("client")

    async def main() -> None:
        async def receive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            received.set_result(await reader.read())
            writer.close()
            await writer.wait_closed()

        received: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        server = await asyncio.start_server(receive, "127.0.0.1", 0)
        forwarder = logs.LogForwarder("127.0.0.1", server.sockets[0].getsockname()[1])
        forwarder.addFilter(logs.SourceFilter(logging.NOTSET, "src42"))
        forwarder.start()
        for one in logged(note):
            level, message = (35, "odd level") if one.name == "print" else (one.level, one.message)
            record = {"name": "client.logger", "levelno": level, "levelname": logging.getLevelName(level)}
            forwarder.handle(logging.makeLogRecord({**record, "msg": message}))
        await forwarder.stop()
        assert (await received).splitlines(keepends=True) == expected
        server.close()
        await server.wait_closed()

    run(main)


def test_a_server_of_logs(kept: Kept) -> None:
    (recording,) = load("logging_session")
    (note,) = [message.note for message in recording.messages if "the server logged" in message.note]
    expected = [(one.source, one.level, one.name, one.message) for one in logged(note)]

    async def main() -> None:
        server = logs.Server()
        await server.start("127.0.0.1", 0)
        _, writer = await asyncio.open_connection("127.0.0.1", port_of(server))
        writer.write(b"".join(recording.lines("client")))
        assert await kept.told.wait(len(expected)) == expected
        writer.close()
        await writer.wait_closed()
        await server.stop()

    run(main)
