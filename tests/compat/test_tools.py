"""`trionet_compat.sipyco.tools`."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
import os
import signal
import socket
import ssl
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.compat.asyncio_programs import Told, port_of, run, run_program
from tests.network.certificates import Certificates
from trionet_compat.sipyco import tools

needs_signals = pytest.mark.skipif(sys.platform == "win32", reason="os.kill only kills there")


class Upper(tools.AsyncioServer):
    """Answers lines in upper case. Its `__init__` calls no other."""

    def __init__(self) -> None:
        self.peers: list[Any] = []
        self.left = Told()

    async def _handle_connection_cr(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.peers.append(writer.get_extra_info("peername"))
        self.keepalive = writer.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        try:
            while line := await reader.readline():
                if line == b"fail\n":
                    raise ValueError("so told")
                writer.write(line.upper())
                await writer.drain()
        finally:
            self.left()


async def ask(port: int, line: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(line)
        return await reader.readline()
    finally:
        writer.close()
        await writer.wait_closed()


# -- AsyncioServer -----------------------------------------------------------------------------------------


def test_a_subclass_serves_with_the_streams_of_asyncio() -> None:
    async def main() -> None:
        server = Upper()
        await server.start("127.0.0.1", 0)
        try:
            assert await ask(port_of(server), b"hello\n") == b"HELLO\n"
            assert server.peers[0][0] == "127.0.0.1"
            assert server.keepalive != 0
        finally:
            await server.stop()
        assert not hasattr(server, "server")

    run(main)


def test_the_connection_is_closed_when_the_handler_returns_and_its_failure_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        server = Upper()
        await server.start("127.0.0.1", 0)
        assert await ask(port_of(server), b"fail\n") == b""
        assert await ask(port_of(server), b"hello\n") == b"HELLO\n"
        await server.stop()

    run(main)
    (record,) = (record for record in caplog.records if record.name == "sipyco.tools")
    assert record.getMessage() == "Client connection closed with error"
    assert record.levelno == logging.ERROR
    assert record.exc_info is not None


def test_stop_cancels_handlers_and_waits_for_them() -> None:
    async def main() -> None:
        server = Upper()
        await server.start("127.0.0.1", 0)
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of(server))
        writer.write(b"hello\n")
        await reader.readline()
        await server.stop()
        assert len(server.left.values) == 1
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()

    run(main)


def test_a_server_that_is_not_overridden_closes_the_connection(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        server = tools.AsyncioServer()
        await server.start("127.0.0.1", 0)
        assert await ask(port_of(server), b"") == b""
        await server.stop()

    run(main)
    assert "NotImplementedError" in caplog.text


def test_stop_before_start_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError):
        asyncio.run(tools.AsyncioServer().stop())


def test_a_server_can_be_started_on_several_hosts_and_again() -> None:
    async def main() -> None:
        server = Upper()
        for _ in range(2):
            await server.start(["127.0.0.1", "localhost"], 0)
            for sock in server.server.sockets:
                if sock.family == socket.AF_INET:
                    assert await ask(sock.getsockname()[1], b"hello\n") == b"HELLO\n"
            await server.stop()

    run(main)


def test_a_client_that_does_not_read_does_not_keep_the_server_from_stopping(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tools, "_CLOSE_TIMEOUT", 0.0)

    class Flood(tools.AsyncioServer):
        async def _handle_connection_cr(
            self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> None:
            writer.write(bytes(size))
            flooded()
            await writer.drain()

    flooded = Told()
    size = 16 * 1024 * 1024

    async def main() -> None:
        server = Flood()
        await server.start("127.0.0.1", 0)
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of(server))
        await flooded.wait(1)
        await server.stop()
        received = 0
        with contextlib.suppress(ConnectionResetError):
            while data := await reader.read(1 << 20):
                received += len(data)
        assert received < size
        writer.close()
        with contextlib.suppress(ConnectionResetError):
            await writer.wait_closed()

    run(main)


def test_tls_with_the_certificates_of_both_sides(tmp_path: Path) -> None:
    Certificates(tmp_path)

    def config(own: str, peer: str) -> tools.SimpleSSLConfig:
        paths = (tmp_path / f"{own}.pem", tmp_path / f"{own}.key", tmp_path / f"{peer}.pem")
        return tools.SimpleSSLConfig(*map(str, paths))

    async def ask_with(port: int, context: ssl.SSLContext) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        writer.write(b"hello\n")
        answer = await reader.readline()
        writer.close()
        await writer.wait_closed()
        return answer

    async def main() -> None:
        server = Upper()
        mine = config("server", "client")
        assert mine.local_cert.endswith("server.pem")
        await server.start("127.0.0.1", 0, mine)
        port = port_of(server)
        assert await ask_with(port, config("client", "server").create_client_context()) == b"HELLO\n"
        with pytest.raises(ssl.SSLCertVerificationError):
            await ask_with(port, config("client", "stranger").create_client_context())
        await server.stop()

    asyncio.run(main())  # without debug mode, in which asyncio complains of such a client
    with pytest.raises(ssl.SSLError):
        tools.SimpleSSLConfig(
            str(tmp_path / "client.pem"), str(tmp_path / "server.key"), str(tmp_path / "server.pem")
        ).create_client_context()


# -- TaskObject, BackgroundTaskPool, Condition -------------------------------------------------------------


class Sleeper(tools.TaskObject):
    """Its `__init__` calls no other, and its base has none."""

    def __init__(self) -> None:
        self.begun = Told()

    async def _do(self) -> None:
        self.begun()
        await asyncio.Event().wait()


def test_a_task_object_is_started_before_its_loop_runs_and_lives_through_gaps() -> None:
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        sleeper = Sleeper()
        sleeper.start()
        assert isinstance(sleeper.task, asyncio.Task)
        loop.run_until_complete(sleeper.begun.wait(1))
        loop.run_until_complete(asyncio.sleep(0))
        assert not sleeper.task.done()
        task = sleeper.task
        loop.run_until_complete(sleeper.stop())
        assert task.cancelled()
        assert not hasattr(sleeper, "task")
    finally:
        asyncio.set_event_loop(None)
        loop.close()


def test_a_task_object_takes_a_loop() -> None:
    loop = asyncio.new_event_loop()
    try:
        sleeper = Sleeper()
        sleeper.start(loop=loop)
        loop.run_until_complete(sleeper.begun.wait(1))
        loop.run_until_complete(sleeper.stop())
    finally:
        loop.close()


def test_the_failure_of_a_task_object_is_logged_and_raised_by_stop(caplog: pytest.LogCaptureFixture) -> None:
    class Failing(tools.TaskObject):
        async def _do(self) -> None:
            raise ValueError("so it is")

    async def main() -> None:
        failing = Failing()
        failing.start()
        await asyncio.wait([failing.task])
        with pytest.raises(ValueError, match="so it is"):
            await failing.stop()

    run(main)
    (record,) = (record for record in caplog.records if record.name == "sipyco.tools")
    assert record.getMessage() == "Unhandled exception in TaskObject task body"


def test_who_stops_a_task_object_can_be_cancelled() -> None:
    class Stubborn(tools.TaskObject):
        async def _do(self) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                ending()
                await may_end.wait()

    ending = Told()
    may_end = asyncio.Event()

    async def main() -> None:
        stubborn = Stubborn()
        stubborn.start()
        await asyncio.sleep(0)
        stopping = asyncio.create_task(stubborn.stop())
        await ending.wait(1)
        stopping.cancel()
        with pytest.raises(asyncio.CancelledError):
            await stopping
        may_end.set()
        await asyncio.wait([stubborn.task])

    run(main)


def test_a_pool_keeps_tasks_until_they_have_ended() -> None:
    async def main() -> None:
        pool = tools.BackgroundTaskPool(asyncio.get_running_loop())
        assert pool.loop is asyncio.get_running_loop()
        event = asyncio.Event()
        pool.create(event.wait())
        (task,) = pool.tasks
        event.set()
        await task
        await asyncio.sleep(0)
        assert pool.tasks == set()

    run(main)


def test_a_condition_wakes_all_who_wait_now() -> None:
    async def main() -> None:
        condition = tools.Condition()
        condition.notify()
        waiting = [asyncio.create_task(condition.wait()) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        await asyncio.sleep(0)
        late = asyncio.create_task(condition.wait())
        condition.notify()
        await asyncio.gather(*waiting[1:])
        await asyncio.sleep(0)
        assert not late.done()
        condition.notify()
        await late
        assert not condition._waiting

    run(main)


# -- the program's end -------------------------------------------------------------------------------------


@needs_signals
@pytest.mark.parametrize(
    ("number", "name"), [("SIGINT", "Ctrl-C"), ("SIGTERM", "SIGTERM"), ("SIGHUP", "SIGHUP")]
)
def test_a_signal_handler_waits_for_signals(
    number: str, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)]

    async def main() -> None:
        waiting = asyncio.create_task(handler.wait_terminate())
        await asyncio.sleep(0)
        os.kill(os.getpid(), getattr(signal, number))
        await waiting

    handler = tools.SignalHandler()
    handler.setup()
    try:
        asyncio.run(main())
    finally:
        handler.teardown()
    assert capsys.readouterr().out == f"\nCaught {name}, terminating...\n"
    assert [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)] == before
    assert signal.set_wakeup_fd(-1) == -1


@needs_signals
def test_a_signal_that_comes_before_it_is_waited_for_is_not_lost() -> None:
    handler = tools.SignalHandler()
    handler.setup()
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        asyncio.run(handler.wait_terminate())
    finally:
        handler.teardown()


def test_a_coroutine_function_runs_at_exit() -> None:
    program = """
import asyncio
from trionet_compat.sipyco.tools import atexit_register_coroutine
async def say(): print("closed")
loop = asyncio.new_event_loop()
asyncio.set_event_loop(loop)
import atexit; atexit.register(loop.close)
atexit_register_coroutine(say)
"""
    done = run_program(program)
    assert (done.stdout, done.stderr, done.returncode) == ("closed\n", "", 0)


# -- former names ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("former", "name"), [("asyncio_tools", "tools"), ("logging_tools", "logs")])
def test_the_former_names_of_modules_warn(former: str, name: str) -> None:
    sys.modules.pop(f"trionet_compat.sipyco.{former}", None)
    with pytest.warns(DeprecationWarning, match=name):
        module = importlib.import_module(f"trionet_compat.sipyco.{former}")
    original = importlib.import_module(f"trionet_compat.sipyco.{name}")
    assert all(getattr(module, one) is getattr(original, one) for one in module.__all__)
