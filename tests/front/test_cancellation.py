"""A client cancelled at every single await of a call, over every kind of stream.

An instrument counts the steps that all tasks take, those of the connection and of the server included, and
cancels the call before the n-th, for all n that there are: so in every state of every await. After each,
the next call must give its own result, or raise `ConnectionLost`; never another call's reply.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import trio
import trio.testing

import trionet
from trionet.testing import open_memory_rpc_client

LARGE = "x" * 3_000_000


class Target:
    def __init__(self) -> None:
        self.executed: list[Any] = []

    def echo(self, key: Any, size: int = 0) -> Any:
        self.executed.append(key)
        return key, "y" * size

    async def later(self, key: Any) -> Any:
        self.executed.append(key)
        for _ in range(3):
            await trio.lowlevel.checkpoint()
        return key


class CancelAtStep(trio.abc.Instrument):
    """Cancels `scope` before the n-th step of any task: in whatever its own task is waiting then."""

    def __init__(self, scope: trio.CancelScope, step: int) -> None:
        self.scope = scope
        self.steps_left = step

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.steps_left -= 1
        if self.steps_left == 0:
            self.scope.cancel()


async def cancel_at(step: int, call: Callable[[], Any]) -> tuple[bool, bool]:
    """Run `call`, cancelled before the n-th step of any task (0: before it begins).

    Returns whether it was cancelled, and whether there was an n-th step at all.
    """
    with trio.CancelScope() as scope:
        instrument = CancelAtStep(scope, step)
        if step == 0:
            scope.cancel()
        trio.lowlevel.add_instrument(instrument)
        try:
            await call()
        finally:
            trio.lowlevel.remove_instrument(instrument)
    return scope.cancelled_caught, instrument.steps_left <= 0


@contextlib.asynccontextmanager
async def over_memory(target: Target) -> AsyncIterator[trionet.RpcClient]:
    async with open_memory_rpc_client({"it": target}) as client:
        yield client


@contextlib.asynccontextmanager
async def over_sockets(target: Target) -> AsyncIterator[trionet.RpcClient]:
    async with trio.open_nursery() as nursery:
        server: trionet.RpcServer = await nursery.start(trionet.serve_rpc, {"it": target}, 0)
        async with trionet.open_rpc_client("127.0.0.1", server.port) as client:
            yield client
        await server.aclose()


CALLS: dict[str, Callable[[trionet.RpcClient], Any]] = {
    "small": lambda client: client.call("echo", "cancelled"),
    "large request": lambda client: client.call("echo", "cancelled" + LARGE),
    "large reply": lambda client: client.call("echo", "cancelled", len(LARGE)),
    "async": lambda client: client.call("later", "cancelled"),
    "describe": lambda client: client.describe(),
}


@pytest.mark.parametrize("connect", [over_memory, over_sockets])
@pytest.mark.parametrize("name", CALLS)
async def test_one_call_cancelled_everywhere(connect: Any, name: str) -> None:
    positions = 0
    for step in range(1000):
        async with connect(Target()) as client:
            cancelled, reached = await cancel_at(step, lambda: CALLS[name](client))  # awaited here
            positions += cancelled
            try:
                with trio.fail_after(60):
                    assert await client.call("echo", "next") == ("next", "")
            except trionet.ConnectionLost as error:
                assert cancelled
                assert "while it was being sent" in str(error)  # noqa: PT017
                assert error.call.elapsed == 0.0  # noqa: PT017  # at once
        if not reached:
            break
    assert not reached
    assert positions >= 5


@pytest.mark.parametrize("connect", [over_memory, over_sockets])
@pytest.mark.parametrize("name", CALLS)
async def test_one_of_several_calls_cancelled_everywhere(connect: Any, name: str) -> None:
    """Calls before and after it, in other tasks: each gets its own reply, or `ConnectionLost`."""
    lost = 0
    for step in range(1000):
        async with connect(Target()) as client, trio.open_nursery() as nursery:

            async def neighbour(key: str, client: trionet.RpcClient = client) -> None:
                nonlocal lost
                try:
                    assert await client.call("echo", key) == (key, "")
                except trionet.ConnectionLost:
                    lost += 1

            for key in "ab":
                nursery.start_soon(neighbour, key)
            await trio.lowlevel.checkpoint()
            for key in "cd":
                nursery.start_soon(neighbour, key)
            _, reached = await cancel_at(step, lambda: CALLS[name](client))  # awaited here
            nursery.start_soon(neighbour, "e")
        if not reached:
            break
    assert not reached
    if name == "small" and connect is over_sockets:
        assert lost == 0


async def test_a_discarded_reply_is_not_decoded(autojump_clock: trio.testing.MockClock) -> None:
    target = Target()
    async with over_memory(target) as client:
        with trio.move_on_after(0):
            await client.call("later", 1)
        assert target.executed == []
        with trio.move_on_after(1):
            await client.call("echo", 2)
        assert await client.call("echo", 3) == (3, "")
    assert target.executed == [2, 3]


async def test_cancelled_while_it_waits_for_its_turn() -> None:
    """Nothing of a request that still waits behind another one has been sent: it is taken back."""
    target = Target()
    client_end, server_end = trio.testing.memory_stream_pair()
    stuck = trio.Event()
    release = trio.Event()

    pump = client_end.send_stream.send_all_hook
    assert pump is not None

    async def block_first_request() -> None:
        stuck.set()
        await release.wait()
        await pump()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: trionet.handle_rpc_stream(server_end, {"it": target}))
        async with trionet.wrap_rpc_stream(client_end) as client:
            client_end.send_stream.send_all_hook = block_first_request
            nursery.start_soon(client.call, "echo", "first")
            await stuck.wait()
            client_end.send_stream.send_all_hook = pump
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as second:
                    second.start_soon(client.call, "echo", "second")
                    await trio.testing.wait_all_tasks_blocked()
                    scope.cancel()
            release.set()
            assert await client.call("echo", "third") == ("third", "")
    assert target.executed == ["first", "third"]


async def test_cancelled_in_the_middle_of_sending() -> None:
    client_end, server_end = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: trionet.handle_rpc_stream(server_end, {"it": Target()}))
        async with trionet.wrap_rpc_stream(client_end) as client:
            client_end.send_stream.send_all_hook = trio.sleep_forever
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as call:
                    call.start_soon(client.call, "echo", 1)
                    await trio.testing.wait_all_tasks_blocked()
                    scope.cancel()
            with pytest.raises(trionet.ConnectionLost, match="while it was being sent"):
                await client.call("echo", 2)
            await client.wait_disconnected()
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(trio.ClosedResourceError):  # closed at once, not when the block ends
                await client_end.receive_some()


async def test_select_target_cancelled(autojump_clock: trio.testing.MockClock) -> None:
    client_end, server_end = trio.testing.memory_stream_pair()
    await server_end.send_all(b'{"targets":["it"],"description":null}\n')
    async with trionet.wrap_rpc_stream(client_end, None) as client:
        with trio.move_on_after(3):
            await client.select_target("it")
        assert trio.current_time() == 3.0
        with pytest.raises(trionet.ConnectionLost):
            await client.call("echo", 1)
