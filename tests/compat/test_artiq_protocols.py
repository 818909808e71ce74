"""`trionet_compat.artiq`: the classes of sipyco, as ARTIQ 4 had them, over the wire of that time."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import signal
import sys
import threading
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from tests.compat.served import Instrument, port_of, serving, until_alone
from trionet_compat.artiq import tools
from trionet_compat.artiq.frontend import artiq_rpctool
from trionet_compat.artiq.protocols import (
    asyncio_server,
    broadcast,
    fire_and_forget,
    packed_exceptions,
    pc_rpc,
    pipe_ipc,
    pyon,
    remote_exec,
    sync_struct,
)
from trionet_compat.artiq.protocols import logging as artiq_logging
from trionet_compat.sipyco import pc_rpc as today

HOST = "127.0.0.1"
# Only PYON v1 keeps its type.
ORDERED = OrderedDict(a=1)


@contextlib.asynccontextmanager
async def started(server: Any) -> AsyncIterator[int]:
    """Serve; gives the port."""
    await server.start(HOST, 0)
    try:
        yield server.server.sockets[0].getsockname()[1]
    finally:
        await server.stop()


async def lines_from(port: int, *asked: bytes) -> asyncio.StreamReader:
    """What a server says to these lines."""
    reader, writer = await asyncio.open_connection(HOST, port)
    writer.write(b"".join(line + b"\n" for line in asked))
    reader.__dict__["writer"] = writer  # it would close the connection
    return reader


async def leave(reader: asyncio.StreamReader) -> None:
    writer = reader.__dict__.pop("writer")
    writer.close()
    await writer.wait_closed()


def test_blocking_clients_speak_v1() -> None:
    with serving({"laser": Instrument()}) as (_, server):
        for client in (
            pc_rpc.Client(HOST, port_of(server)),
            pc_rpc.BestEffortClient(HOST, port_of(server), "laser", firstcon_timeout=30),
        ):
            assert type(client.echo(ORDERED)) is OrderedDict
            client.close_rpc()
        now = today.Client(HOST, port_of(server))
        assert type(now.echo(ORDERED)) is dict
        now.close_rpc()


def test_the_asyncio_client_speaks_v1_and_is_closed_by_a_plain_function() -> None:
    async def main() -> None:
        client = pc_rpc.AsyncioClient()
        client.close_rpc()
        for _ in range(2):
            await client.connect_rpc(HOST, port_of(server), "laser")
            assert type(await client.echo(ORDERED)) is OrderedDict
            assert client.close_rpc() is None  # type: ignore[func-returns-value]
            assert client.get_rpc_id() == (None, None)
            await asyncio.to_thread(portal.call, until_alone, server)
        await client.connect_rpc(HOST, port_of(server), "laser")
        await client.connect_rpc(HOST, port_of(server), "laser")
        client.close_rpc()

    with serving({"laser": Instrument()}) as (portal, server):
        asyncio.run(main())
        portal.call(server.aclose)
        assert server.accepted == 4


def test_the_server_speaks_v1() -> None:
    async def main() -> None:
        async with started(pc_rpc.Server({"laser": Instrument()})) as port:
            client = today.AsyncioClient()
            await client.connect_rpc(HOST, port)
            assert type(await client.echo(ORDERED)) is OrderedDict
            await client.close_rpc()
            reader = await lines_from(port, b"ARTIQ pc_rpc", b"laser pyon_v2")
            assert b"laser" in await reader.readline()
            assert await reader.read() == b""  # nobody offered that
            await leave(reader)

    asyncio.run(main())


def test_structures_are_published_in_v1() -> None:
    async def main() -> None:
        notifier = sync_struct.Notifier({"a": (1,)})
        async with started(sync_struct.Publisher({"datasets": notifier})) as port:
            reader = await lines_from(port, b"ARTIQ sync_struct", b"datasets")
            assert pyon.decode((await reader.readline()).decode()) == {
                "action": "init",
                "struct": {"a": (1,)},
            }
            notifier["b"] = (2,)
            assert b"(2, )" in await reader.readline()
            await leave(reader)

    asyncio.run(main())


def test_structures_are_followed_in_v1() -> None:
    async def main() -> None:
        notifier = sync_struct.Notifier({"a": (1,)})
        changed = asyncio.Event()
        copies: list[Any] = []

        def build(structure: Any) -> Any:
            copies.append(structure)
            return structure

        async with started(sync_struct.Publisher({"datasets": notifier})) as port:
            subscriber = sync_struct.Subscriber("datasets", build, lambda mod: changed.set())
            await subscriber.connect(HOST, port)
            await changed.wait()
            changed.clear()
            notifier["b"] = ORDERED
            await changed.wait()
            assert copies == [{"a": (1,), "b": ORDERED}]
            assert type(copies[0]["b"]) is OrderedDict
            await subscriber.close()

    asyncio.run(main())


def test_both_ways_to_read_a_notifier() -> None:
    backing = {"a": {"b": [1]}}
    notifier = sync_struct.Notifier(backing)
    assert notifier.read is notifier.raw_view is backing
    child = notifier["a"]
    assert isinstance(child, sync_struct.Notifier)
    assert child.read is backing["a"]
    sync_struct.process_mod(notifier, {"action": "append", "path": ["a", "b"], "x": 2})
    assert notifier.read == {"a": {"b": [1, 2]}}


def test_objects_are_broadcast_in_v1() -> None:
    async def main() -> None:
        received: asyncio.Queue[Any] = asyncio.Queue()
        broadcaster = broadcast.Broadcaster()
        async with started(broadcaster) as port:
            receiver = broadcast.Receiver("log", received.put_nowait)
            await receiver.connect(HOST, port)
            while received.empty():
                broadcaster.broadcast("log", ORDERED)
                await asyncio.sleep(0)
            assert type(await received.get()) is OrderedDict
            await receiver.close()

    asyncio.run(main())


def test_what_is_the_same_as_today() -> None:
    with pytest.raises(packed_exceptions.GenericRemoteException):
        packed_exceptions.raise_packed_exc({"class": "X", "message": "text", "traceback": []})
    assert pyon.encode((1,)) == "(1, )"
    for module, names in (
        (asyncio_server, {"AsyncioServer"}),
        (pipe_ipc, {"AsyncioChildComm", "AsyncioParentComm", "ChildComm"}),
        (artiq_logging, {"LogForwarder", "LogParser", "Server", "SourceFilter"}),
    ):
        assert names <= set(dir(module))


def test_the_logger_of_fire_and_forget(caplog: pytest.LogCaptureFixture) -> None:
    ff = fire_and_forget.FFProxy(Instrument())
    ff.fail("no power")
    ff.ff_join()
    assert [record.name for record in caplog.records] == ["artiq.protocols.fire_and_forget"]


def test_remote_code_has_the_name_of_that_time(monkeypatch: pytest.MonkeyPatch) -> None:
    served: list[Any] = []
    monkeypatch.setattr(remote_exec, "simple_server_loop", lambda *args: served.append(args))
    remote_exec.simple_rexec_server_loop("driver", Instrument(), HOST, 0)
    made = served[0][0]["driver_rexec"]()
    assert made.namespace["__name__"] == "artiq.protocols.remote_exec"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "sipyco", None)
        made.add_code("from artiq.protocols.pc_rpc import Client")
    assert made.namespace["Client"] is pc_rpc.Client


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield loop
    asyncio.set_event_loop(None)
    loop.close()


def _serve_and(use: Callable[[int], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the loop of a server, and use that from another thread."""
    start = pc_rpc.Server.start
    threads: list[threading.Thread] = []

    async def start_and_tell(self: pc_rpc.Server, *args: Any) -> None:
        await start(self, *args)
        port = self.server.sockets[0].getsockname()[1]
        threads.append(threading.Thread(target=use, args=(port,)))
        threads[0].start()

    monkeypatch.setattr(pc_rpc.Server, "start", start_and_tell)
    try:
        pc_rpc.simple_server_loop({"laser": Instrument()}, HOST, 0, "text")
    finally:
        threads[0].join()


def test_the_loop_of_a_server_ends_with_terminate(
    loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def use(port: int) -> None:
        client = pc_rpc.Client(HOST, port)
        assert client.get_rpc_id() == (["laser"], "text")
        client.terminate()
        client.close_rpc()

    _serve_and(use, monkeypatch)
    assert loop.is_closed()


def test_the_loop_of_a_server_makes_a_loop_if_need_be(monkeypatch: pytest.MonkeyPatch) -> None:
    asyncio.set_event_loop(None)

    def use(port: int) -> None:
        client = pc_rpc.Client(HOST, port)
        client.terminate()
        client.close_rpc()

    _serve_and(use, monkeypatch)


def test_ctrl_c_in_the_loop_of_a_server(
    loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(port: int) -> None:
        loop.call_soon_threadsafe(signal.raise_signal, signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        _serve_and(interrupt, monkeypatch)
    assert loop.is_closed()


def test_the_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with serving({"laser": Instrument()}) as (_, server):
        words = ["artiq_rpctool", HOST, str(port_of(server)), "call", "echo", "OrderedDict([('a', 1)])"]
        monkeypatch.setattr(sys, "argv", words)
        artiq_rpctool.main()
    assert capsys.readouterr().out == f"{ORDERED!r}\n"
    with pytest.raises(SystemExit):
        artiq_rpctool.get_argparser().parse_args(["--ssl", "a", "b", "c", HOST, "1", "list-targets"])


def test_arguments_of_a_controller() -> None:
    parser = argparse.ArgumentParser()
    tools.verbosity_args(parser)
    tools.simple_network_args(parser, 3251)
    args = parser.parse_args(["-v", "--bind", "lab"])
    assert tools.bind_address_from_args(args) == ["127.0.0.1", "::1", "lab"]
    assert not hasattr(args, "ssl")
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        tools.init_logger(args)
        assert root.level == logging.INFO
        (handler,) = (one for one in root.handlers if one not in handlers)
        assert isinstance(handler.formatter, tools.MultilineFormatter)
    finally:
        root.setLevel(level)
        root.handlers[:] = handlers


def test_waiting_that_is_cancelled_cancels_what_it_waits_for() -> None:
    async def main() -> None:
        waiting = [asyncio.ensure_future(asyncio.Event().wait()) for _ in range(3)]
        task = asyncio.ensure_future(tools.asyncio_wait_or_cancel(waiting))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert all(one.cancelled() for one in waiting)
        done, pending = await tools.asyncio_wait_or_cancel(
            [asyncio.ensure_future(asyncio.sleep(0)), asyncio.ensure_future(asyncio.sleep(0))],
            return_when=asyncio.ALL_COMPLETED,
        )
        assert (len(done), len(pending)) == (2, 0)

    asyncio.run(main())


def test_exceptions_that_become_warnings(caplog: pytest.LogCaptureFixture) -> None:
    async def fail() -> None:
        raise ValueError("no power")

    async def main() -> None:
        await tools.exc_to_warning(fail())
        await tools.exc_to_warning(asyncio.sleep(0))

    asyncio.run(main())
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "no power" in caplog.text
