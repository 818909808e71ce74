"""What coroutines as methods, and the ends of servers, mean to asyncio programs."""

from __future__ import annotations

import asyncio
import gc
import inspect
import os
import signal
import sys
import threading
from typing import Any

import pytest

from tests.compat.asyncio_programs import port_of, run
from tests.compat.test_asyncio_rpc import Instrument, connected, serving
from trionet_compat.sipyco._rpc_server import _AsyncioCall
from trionet_compat.sipyco.pc_rpc import (
    AsyncioClient,
    Client,
    GenericRemoteException,
    Server,
    simple_server_loop,
)


def test_coroutines_of_several_clients_take_turns() -> None:
    async def main() -> None:
        laser = Instrument()
        async with serving({"laser": laser}) as port:
            async with connected(port) as one, connected(port) as two:
                first = asyncio.create_task(one.wait(1))
                await laser.begun.wait(1)
                second = asyncio.create_task(two.wait(2))
                for _ in range(20):
                    await asyncio.sleep(0)
                assert laser.begun.values == [1]
                laser.may_go_on.set()
                assert (await first, await second) == (1, 2)

    run(main)


def test_coroutines_run_at_the_same_time_where_that_is_allowed() -> None:
    async def main() -> None:
        laser = Instrument()
        async with serving({"laser": laser}, allow_parallel=True) as port:
            async with connected(port) as one, connected(port) as two:
                calls = [asyncio.create_task(client.wait()) for client in (one, two)]
                await laser.begun.wait(2)
                laser.may_go_on.set()
                await asyncio.gather(*calls)

    run(main)


def test_a_coroutine_goes_on_when_its_client_leaves() -> None:
    async def main() -> None:
        laser = Instrument()
        async with serving({"laser": laser}) as port:
            async with connected(port) as client:
                call = asyncio.create_task(client.wait("finished"))
                await laser.begun.wait(1)
            with pytest.raises(EOFError):
                await call
            async with connected(port) as client:
                echo = asyncio.create_task(client.echo("in turn"))
                for _ in range(20):
                    await asyncio.sleep(0)
                assert laser.calls == []
                laser.may_go_on.set()
                assert await echo == "in turn"
            assert laser.ended.values == ["finished"]

    run(main)


def test_stopping_the_server_cancels_a_coroutine_and_waits_for_it() -> None:
    async def main() -> None:
        laser = Instrument()
        async with serving({"laser": laser}) as port:
            client = AsyncioClient()
            await client.connect_rpc("127.0.0.1", port)
            call = asyncio.create_task(client.wait())
            await laser.begun.wait(1)
        assert len(laser.ended.values) == 1
        with pytest.raises(EOFError):
            await call
        await client.close_rpc()

    run(main)


def test_the_end_of_the_program_cancels_a_coroutine() -> None:
    laser = Instrument()

    async def main() -> None:
        server = Server({"laser": laser})
        await server.start("127.0.0.1", 0)
        client = AsyncioClient()
        await client.connect_rpc("127.0.0.1", port_of(server))
        calls.append(asyncio.create_task(client.wait()))
        clients.append(client)
        await laser.begun.wait(1)

    calls: list[asyncio.Task[Any]] = []
    clients: list[AsyncioClient] = []
    run(main)
    assert calls[0].cancelled()
    assert len(laser.ended.values) == 1
    with pytest.warns(ResourceWarning, match="unclosed"):
        forget(calls, clients)


def forget(*everything: list[Any]) -> None:
    for things in everything:
        things.clear()
    gc.collect()


@pytest.mark.parametrize(
    ("method", "name"),
    [
        ("cancel", "CancelledError"),
        ("cancel_itself", "CancelledError"),
        ("ask_for_cancelled", "CancelledError"),
        ("stop_generating", "GeneratorExit"),
        ("stop_generating_later", "GeneratorExit"),
    ],
)
@pytest.mark.parametrize("allow_parallel", [False, True])
def test_what_is_no_exception_for_python_is_one_for_the_caller_only(
    method: str, name: str, allow_parallel: bool
) -> None:
    async def main() -> None:
        async with serving({"laser": Instrument()}, allow_parallel=allow_parallel) as port:
            async with connected(port) as client, connected(port) as other:
                with pytest.raises(GenericRemoteException, match=name) as caught:
                    await getattr(client, method)()
                assert f"in {method}" in "".join(caught.value.parent_traceback)
                assert (await client.echo(1), await other.echo(2)) == (1, 2)

    run(main)


def test_a_method_may_start_tasks_and_call_other_servers() -> None:
    class Forwarding:
        def __init__(self, port: int) -> None:
            self.port = port
            self.tasks: list[asyncio.Task[Any]] = []

        def begin(self) -> None:
            self.tasks.append(asyncio.create_task(self.forward("begun")))

        async def end(self) -> Any:
            return await self.tasks.pop()

        async def forward(self, value: Any) -> Any:
            async with connected(self.port) as client:
                return await client.echo(value)

    async def main() -> None:
        async with serving({"laser": Instrument()}) as port:
            async with serving({"forwarding": Forwarding(port)}) as forwarding:
                async with connected(forwarding) as client:
                    assert await client.forward("at once") == "at once"
                    await client.begin()
                    assert await client.end() == "begun"

    run(main)


def test_a_target_that_cannot_be_made_ends_its_connection_only() -> None:
    def make() -> None:
        raise asyncio.CancelledError

    async def main() -> None:
        async with serving({"laser": Instrument(), "made": make}) as port:
            async with connected(port, "laser") as client:
                with pytest.raises(EOFError):
                    await AsyncioClient().connect_rpc("127.0.0.1", port, "made")
                assert await client.echo(1) == 1

    run(main)


def test_calls_are_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    class Stage:
        def move(self, *args: Any, **kwargs: Any) -> None:
            pass

    async def main() -> None:
        async with serving({"stage": Stage()}) as port, connected(port) as client:
            await client.move()
            await client.move(1, "x", speed=2.0, axis="y")

    with caplog.at_level("DEBUG", "sipyco.pc_rpc"):
        run(main)
    assert [record.getMessage() for record in caplog.records if record.name == "sipyco.pc_rpc"] == [
        "calling move()",
        "calling move(1, 'x', axis='y', speed=2.0)",
    ]


def test_a_coroutine_whose_turn_never_came_is_closed() -> None:
    async def never() -> None:
        pytest.fail("it is not its turn")

    coroutine = never()
    _AsyncioCall(coroutine, set()).close()
    assert inspect.getcoroutinestate(coroutine) == inspect.CORO_CLOSED


def test_a_future_is_awaited_too() -> None:
    async def main() -> None:
        async with serving({"laser": Instrument()}) as port, connected(port) as client:
            assert await client.future() == 3

    run(main)


@pytest.mark.parametrize("method", ["terminate", "exit"])
def test_a_client_can_terminate_the_server_if_that_is_allowed(method: str) -> None:
    async def main() -> None:
        server = Server({"laser": Instrument()}, builtin_terminate=True)
        waiting = asyncio.create_task(server.wait_terminate())
        await server.start("127.0.0.1", 0)
        async with connected(port_of(server)) as client:
            if method == "terminate":
                assert await client.terminate() is None
            else:
                with pytest.raises(EOFError):
                    await client.exit()
        await waiting
        assert not server.server.is_serving()
        await server.stop()
        await server.wait_terminate()

    run(main)


def test_stopping_is_no_termination() -> None:
    async def main() -> None:
        server = Server({"laser": Instrument()}, builtin_terminate=True)
        await server.start("127.0.0.1", 0)
        await server.stop()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await server.wait_terminate()

    run(main)


def test_without_that_there_is_no_terminate() -> None:
    async def main() -> None:
        server = Server({"laser": Instrument()})
        with pytest.raises(AttributeError):
            await server.wait_terminate()
        await server.start("127.0.0.1", 0)
        async with connected(port_of(server)) as client:
            assert not hasattr(client, "terminate")
        await server.stop()
        with pytest.raises(AttributeError):
            await server.stop()

    run(main)


def test_a_server_listens_where_it_is_told_or_fails() -> None:
    async def main() -> None:
        server = Server({"laser": Instrument()})
        await server.start(["127.0.0.1"], 0)
        other = Server({"laser": Instrument()})
        with pytest.raises(OSError, match="in use"):
            await other.start("127.0.0.1", port_of(server))
        assert not hasattr(other, "server")
        await server.stop()
        await server.start(None, 0)
        async with connected(port_of(server)) as client:
            assert await client.echo(1) == 1
        await server.stop()

    run(main)


@pytest.mark.parametrize("own_loop", [False, True])
def test_the_main_loop_of_a_controller_ends_by_terminate(
    own_loop: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def start(self: Server, *args: Any, **kwargs: Any) -> None:
        await started(self, *args, **kwargs)
        threads.append(threading.Thread(target=call_and_terminate, args=(port_of(self), results)))
        threads[0].start()

    threads: list[threading.Thread] = []
    results: list[Any] = []
    started = Server.start
    monkeypatch.setattr(Server, "start", start)
    loop = asyncio.new_event_loop() if own_loop else None
    simple_server_loop({"laser": Instrument()}, "127.0.0.1", 0, "a laser", loop=loop)
    threads[0].join()
    assert results == [1, None]
    if loop is not None:
        assert not loop.is_closed()
        loop.close()


def call_and_terminate(port: int, results: list[Any]) -> None:
    client = Client("127.0.0.1", port)
    results.append(client.echo(1))
    results.append(client.terminate())
    client.close_rpc()


@pytest.mark.skipif(sys.platform == "win32", reason="os.kill only kills there")
def test_the_main_loop_of_a_controller_ends_by_a_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    async def start(self: Server, *args: Any, **kwargs: Any) -> None:
        await started(self, *args, **kwargs)
        os.kill(os.getpid(), signal.SIGTERM)

    started = Server.start
    monkeypatch.setattr(Server, "start", start)
    simple_server_loop({"laser": Instrument()}, "127.0.0.1", 0)
