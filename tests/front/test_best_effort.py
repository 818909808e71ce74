"""The best-effort client: exact times on the mock clock, then the same over real sockets."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio
import trio.testing

import trionet
from trionet._tasks import open_background_tasks
from trionet.rpc.best_effort import BestEffortRpcClient, _Keeper
from trionet.testing import open_memory_rpc_client


class Target:
    def echo(self, value: Any) -> Any:
        return value

    def fail(self) -> None:
        raise ValueError("remote")


class Server:
    """Stands in for the network: what each attempt to connect meets, and when it was made."""

    def __init__(self, *outcomes: float | Exception) -> None:
        self.outcomes = list(outcomes)
        self.attempts: list[float] = []

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[trionet.RpcClient]:
        """Fail, or hold a connection for some seconds, or for ever if there is no more to happen."""
        self.attempts.append(trio.current_time())
        outcome = self.outcomes.pop(0) if self.outcomes else float("inf")
        if isinstance(outcome, Exception):
            await trio.lowlevel.checkpoint()
            raise outcome
        if outcome < 0:  # says nothing
            await trio.sleep(-outcome)
        async with open_memory_rpc_client({"it": Target()}) as client, trio.open_nursery() as nursery:
            nursery.start_soon(self._end_after, outcome, client)
            yield client
            nursery.cancel_scope.cancel()

    async def _end_after(self, seconds: float, client: trionet.RpcClient) -> None:
        await trio.sleep(seconds)
        client._pipeline.lose("the server is gone", None)


@contextlib.asynccontextmanager
async def open_with(
    server: Server, first_timeout: float = 1.0, retry_interval: float = 5.0
) -> AsyncIterator[BestEffortRpcClient]:
    client = BestEffortRpcClient()
    keeper = _Keeper(client, server.open, "server", retry_interval)
    async with open_background_tasks() as nursery:
        await nursery.start(keeper.run, first_timeout)
        yield client


async def test_connected_at_once(autojump_clock: trio.testing.MockClock) -> None:
    async with open_with(Server()) as client:
        assert client.connected.value
        assert await client.call("echo", 1) == 1
        with pytest.raises(ValueError, match="remote"):
            await client.call("fail")
        with pytest.raises(AttributeError):
            await client.call("nope")
        with pytest.raises(TypeError):
            await client.call("echo", object())
        assert await client.call("echo", 2) == 2
    assert trio.current_time() == 0.0


async def test_refused_then_there(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    server = Server(ConnectionRefusedError("refused"), OSError("no route"))
    with caplog.at_level(logging.INFO):
        async with open_with(server) as client:
            assert trio.current_time() == 0.0
            assert not client.connected.value
            assert await client.call("echo", 1) is None
            assert await client.call("anything") is None
            await client.connected.wait_value(True)
            assert trio.current_time() == 10.0
            assert await client.call("echo", 1) == 1
    assert server.attempts == [0.0, 5.0, 10.0]
    assert [record.message for record in caplog.records if record.levelno >= logging.WARNING] == [
        "server: refused; trying again every 5.0 s",
        "server: connected again",
    ]


async def test_the_first_attempt_takes_no_longer_than_allowed(autojump_clock: trio.testing.MockClock) -> None:
    server = Server(-100.0)
    async with open_with(server) as client:
        assert trio.current_time() == 1.0
        assert not client.connected.value
        await client.connected.wait_value(True)
        assert trio.current_time() == 5.0
    assert server.attempts == [0.0, 5.0]


async def test_lost_after_a_long_time(autojump_clock: trio.testing.MockClock) -> None:
    """Opened again at once, then every 5 s."""
    server = Server(100.0, OSError("still down"))
    async with open_with(server) as client:
        await client.connected.wait_value(False)
        assert trio.current_time() == 100.0
        assert await client.call("echo", 1) is None
        await client.connected.wait_value(True)
    assert server.attempts == [0.0, 100.0, 105.0]


async def test_lost_again_and_again(autojump_clock: trio.testing.MockClock) -> None:
    """A server that accepts and closes is not stormed."""
    server = Server(0.5, 0.5, 0.5)
    async with open_with(server):
        await trio.sleep(20)
    assert server.attempts == [0.0, 5.0, 10.0, 15.0]


async def test_lost_in_the_middle_of_a_call(autojump_clock: trio.testing.MockClock) -> None:
    server = Server(2.0)
    async with open_with(server) as client:
        inner = client._client
        assert inner is not None

        async def never() -> None:
            await trio.sleep_forever()

        inner._pipeline._send = lambda call_id, line: None  # type: ignore[method-assign]
        assert await client.call("echo", 1) is None
        assert trio.current_time() == 2.0


async def test_a_loop_of_calls_does_not_keep_it_from_connecting(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_with(Server(1.0), retry_interval=0.0) as client:
        await trio.sleep(2)
        inner = client._client
        assert inner is not None
        inner._pipeline.lose("lost, but the client has not noticed yet", None)
        while await client.call("echo", 1) is None:
            pass


async def test_cancelled_in_the_first_attempt(autojump_clock: trio.testing.MockClock) -> None:
    with trio.move_on_after(0.5) as scope:
        async with open_with(Server(-100.0)):
            pytest.fail("the first attempt has not ended")
    assert scope.cancelled_caught
    assert trio.current_time() == 0.5


async def test_over_sockets() -> None:
    async with trio.open_nursery() as nursery:
        server: trionet.RpcServer = await nursery.start(trionet.serve_rpc, {"it": Target()}, 0)
        port = server.port
        async with trionet.open_best_effort_rpc_client(
            "127.0.0.1", port, "it", first_timeout=30, retry_interval=0.01
        ) as client:
            assert await client.call("echo", 1) == 1
            await server.aclose()
            await client.connected.wait_value(False)
            assert await client.call("echo", 2) is None
            server = await nursery.start(trionet.serve_rpc, {"it": Target()}, port)
            with trio.fail_after(30):
                await client.connected.wait_value(True)
            assert await client.call("echo", 3) == 3
        await server.aclose()


async def test_an_answer_that_makes_no_sense_is_an_outage(caplog: pytest.LogCaptureFixture) -> None:
    class Long:
        def get(self) -> str:
            return "x" * 1000

    async with trio.open_nursery() as nursery:
        server: trionet.RpcServer = await nursery.start(trionet.serve_rpc, {"it": Long()}, 0)
        async with trionet.open_best_effort_rpc_client(
            "127.0.0.1", server.port, "it", first_timeout=30, max_message_size=500
        ) as client:
            assert await client.call("get") is None
            await client.connected.wait_value(False)
            await trio.testing.wait_all_tasks_blocked()
        await server.aclose()
    assert "a line of " in caplog.text


async def test_a_server_without_the_target() -> None:
    async with trio.open_nursery() as nursery:
        server: trionet.RpcServer = await nursery.start(trionet.serve_rpc, {"it": Target()}, 0)
        async with trionet.open_best_effort_rpc_client(
            "127.0.0.1", server.port, "other", first_timeout=30
        ) as client:
            assert not client.connected.value
            assert await client.call("echo", 1) is None
        await server.aclose()


async def test_files_that_are_missing_are_no_outage() -> None:
    identity = trionet.TLSIdentity("missing.pem", "missing.key", "missing.pem")
    with pytest.raises(FileNotFoundError):
        async with trionet.open_best_effort_rpc_client("127.0.0.1", 1, "it", ssl_context=identity):
            pass
