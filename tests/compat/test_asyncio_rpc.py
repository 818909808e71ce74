"""`AsyncioClient` and `Server` of ``trionet_compat.sipyco.pc_rpc``, with each other, under asyncio."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest

from tests.compat.asyncio_programs import Told, port_of, run, wait_nobody_connected
from trionet_compat.sipyco.pc_rpc import (
    AsyncioClient,
    AutoTarget,
    GenericRemoteException,
    IncompatibleServer,
    Server,
)


class Refused(Exception):
    """A class that no client knows."""


class Instrument:
    """An instrument."""

    def __init__(self) -> None:
        self.begun = Told()
        self.ended = Told()
        self.may_go_on = asyncio.Event()
        self.calls: list[Any] = []

    def echo(self, value: Any) -> Any:
        """Returns its argument."""
        self.calls.append(value)
        return value

    async def wait(self, value: Any = None) -> Any:
        """Awaits something of asyncio."""
        self.begun(value)
        try:
            await self.may_go_on.wait()
            assert asyncio.current_task() is not None
            return value
        finally:
            self.ended(value)

    def refuse(self) -> None:
        raise Refused("not now")

    async def fail(self) -> None:
        await asyncio.sleep(0)
        raise ValueError("so it is")

    async def exit(self) -> None:
        raise SystemExit

    async def cancel(self) -> None:
        raise asyncio.CancelledError

    def ask_for_cancelled(self) -> None:
        task = asyncio.get_running_loop().create_future()
        task.cancel()
        task.result()

    def stop_generating(self) -> None:
        raise GeneratorExit

    async def stop_generating_later(self) -> None:
        await asyncio.sleep(0)
        raise GeneratorExit

    async def cancel_itself(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)

    def future(self) -> asyncio.Future[int]:
        future = asyncio.get_running_loop().create_future()
        future.set_result(3)
        return future


@contextlib.asynccontextmanager
async def serving(targets: dict[str, Any], **options: Any) -> AsyncIterator[int]:
    server = Server(targets, **options)
    await server.start("127.0.0.1", 0)
    try:
        yield port_of(server)
    finally:
        await server.stop()


@contextlib.asynccontextmanager
async def connected(port: int, *args: Any) -> AsyncIterator[AsyncioClient]:
    client = AsyncioClient()
    await client.connect_rpc("127.0.0.1", port, *args)
    try:
        yield client
    finally:
        await client.close_rpc()


# -- targets -----------------------------------------------------------------------------------------------


def test_a_client_selects_the_only_target_and_calls_it() -> None:
    async def main() -> None:
        async with serving({"laser": Instrument()}, description="a laser") as port:
            async with connected(port) as client:
                assert client.get_rpc_id() == (["laser"], "a laser")
                assert client.get_selected_target() == "laser"
                assert client.get_local_host() == "127.0.0.1"
                assert await client.echo((1, {2.5})) == (1, {2.5})
                assert await client.echo(value=None) is None
            assert client.get_rpc_id() == (None, None)
            assert client.get_selected_target() == "laser"

    run(main)


def test_a_target_is_selected_later() -> None:
    async def main() -> None:
        async with serving({"one": Instrument(), "two": Instrument()}) as port:
            async with connected(port, None) as client:
                targets, description = client.get_rpc_id()
                assert targets == ["one", "two"]
                assert description is None
                assert client.get_selected_target() is None
                assert not hasattr(client, "echo")
                await client.select_rpc_target("two")
                assert client.get_selected_target() == "two"
                assert await client.echo(1) == 1

    run(main)


def test_targets_that_cannot_be_selected() -> None:
    async def main() -> None:
        async with serving({"one": Instrument(), "two": Instrument()}) as port:
            client = AsyncioClient()
            with pytest.raises(ValueError, match=r"^Server has multiple targets: one two$"):
                await client.connect_rpc("127.0.0.1", port, AutoTarget)
            with pytest.raises(IncompatibleServer, match=r"^valid target name\(s\): one two$"):
                await client.connect_rpc("127.0.0.1", port, "three")
            assert client.get_rpc_id() == (None, None)
        async with serving({}) as port:
            with pytest.raises(IndexError):
                await client.connect_rpc("127.0.0.1", port)
        with pytest.raises(ConnectionRefusedError):
            await client.connect_rpc("127.0.0.1", port)

    run(main)


def test_targets_that_can_be_called_are_made_for_each_connection() -> None:
    made: list[Instrument] = []

    def make() -> Instrument:
        made.append(Instrument())
        return made[-1]

    class Called(Instrument):
        def __call__(self) -> SimpleNamespace:
            return SimpleNamespace(name=lambda: "made by an instance")

    async def main() -> None:
        targets = {"lambda": make, "class": Instrument, "instance": Called()}
        async with serving(targets) as port:
            for name in ("lambda", "lambda", "class"):
                async with connected(port, name) as client:
                    assert await client.echo(name) == name
            async with connected(port, "instance") as client:
                assert await client.name() == "made by an instance"
        assert len(made) == 2

    run(main)


def test_targets_made_of_functions() -> None:
    async def later(value: int) -> int:
        await asyncio.sleep(0)
        return value

    class Borrowed:
        def __init__(self) -> None:
            self.echo = Instrument().echo

    async def main() -> None:
        namespace = SimpleNamespace(add=lambda a, b: a + b, later=lambda: later(7))
        async with serving({"namespace": namespace, "borrowed": Borrowed()}) as port:
            async with connected(port, "namespace") as client:
                assert await client.add(1, b=2) == 3
                assert await client.later() == 7
            async with connected(port, "borrowed") as client:
                assert await client.echo("x") == "x"

    run(main)


def test_arguments_of_a_server_are_checked() -> None:
    with pytest.raises(ValueError, match="target names must not contain whitespace"):
        Server({"a b": Instrument()})
    with pytest.raises(ValueError, match="description must be `None` or `str`"):
        Server({"a": Instrument()}, 5)  # type: ignore[arg-type]


def test_the_description_of_a_function() -> None:
    spec, documentation = Server._document_function(Instrument.echo)
    assert spec["args"] == ["self", "value"]
    assert spec["annotations"] == {"value": "Any", "return": "Any"}
    assert documentation == "Returns its argument."


# -- calls -------------------------------------------------------------------------------------------------


def test_methods_are_looked_up_when_they_are_named() -> None:
    async def main() -> None:
        async with serving({"laser": Instrument()}) as port:
            async with connected(port) as client:
                assert hasattr(client, "echo")
                assert not hasattr(client, "notify_run_end")
                assert asyncio.iscoroutinefunction(client.echo)
                echo = client.echo
            with pytest.raises(AttributeError):
                await echo(1)
            assert not hasattr(client, "echo")

    run(main)


def test_a_client_that_never_connected() -> None:
    client = AsyncioClient()
    assert client.get_rpc_id() == (None, None)
    with pytest.raises(AttributeError):
        client.get_selected_target()
    with pytest.raises(AttributeError):
        client.get_local_host()
    asyncio.run(client.close_rpc())


def test_remote_exceptions() -> None:
    async def main() -> None:
        async with serving({"laser": Instrument()}) as port, connected(port) as client:
            with pytest.raises(ValueError, match="so it is") as caught:
                await client.fail()
            (line,) = caught.value.parent_traceback  # type: ignore[attr-defined]
            assert "raise ValueError" in line
            with pytest.raises(GenericRemoteException) as refused:
                await client.refuse()
            assert str(refused.value).endswith("test_asyncio_rpc.Refused: not now")
            with pytest.raises(TypeError):
                await client.echo(object())
            assert await client.echo("still there") == "still there"

    run(main)


def test_calls_at_the_same_time_are_answered_in_their_order() -> None:
    async def main() -> None:
        laser = Instrument()
        async with serving({"laser": laser}) as port, connected(port) as client:
            assert await asyncio.gather(*(client.echo(number) for number in range(100))) == [*range(100)]
            assert laser.calls == [*range(100)]

    run(main)


def test_a_cancelled_call_leaves_nothing_to_the_next_one() -> None:
    async def main() -> None:
        laser = Instrument()
        async with serving({"laser": laser}) as port, connected(port) as client:
            call = asyncio.create_task(client.wait("late"))
            await laser.begun.wait(1)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            laser.may_go_on.set()
            assert await client.echo("next") == "next"
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0):
                    await client.echo("too late")
            assert await client.echo("next") == "next"

    run(main)


def test_a_call_that_is_cancelled_before_its_turn_lets_the_others_go_on() -> None:
    async def main() -> None:
        async with serving({"laser": Instrument()}) as port, connected(port) as client:
            turn = client._turns.take()  # as one that has not begun yet
            calls = [asyncio.create_task(client.echo(number)) for number in range(2)]
            await asyncio.sleep(0)
            calls[0].cancel()
            await asyncio.wait(calls[:1])
            assert not calls[1].done()
            client._turns.leave(turn)
            assert await calls[1] == 1

    run(main)


def test_a_connection_can_be_lost_and_made_again() -> None:
    async def main() -> None:
        client = AsyncioClient()
        for _ in range(2):
            async with serving({"laser": Instrument()}) as port:
                await client.connect_rpc("127.0.0.1", port)
                assert await client.echo(1) == 1
            with pytest.raises(EOFError, match="Connection closed unexpectedly"):
                await client.echo(2)
            with pytest.raises(ConnectionResetError):
                await client.echo(3)
        await client.close_rpc()
        await client.close_rpc()

    run(main)


def test_a_client_whose_loop_has_ended_is_of_no_use_but_can_be_closed() -> None:
    client = AsyncioClient()

    async def connect() -> None:
        server = Server({"laser": Instrument()})
        await server.start("127.0.0.1", 0)
        await client.connect_rpc("127.0.0.1", port_of(server))

    async def call() -> None:
        with pytest.raises(EOFError, match="Connection closed unexpectedly"):
            await client.echo(1)

    run(connect)
    run(call)
    run(client.close_rpc)


def test_a_client_that_was_not_closed_says_so_and_is_closed() -> None:
    async def main() -> None:
        server = Server({"laser": Instrument()})
        await server.start("127.0.0.1", 0)
        clients = [AsyncioClient()]
        await clients[0].connect_rpc("127.0.0.1", port_of(server))
        with pytest.warns(ResourceWarning, match="unclosed <.*AsyncioClient"):
            await asyncio.to_thread(clients.clear)  # as garbage may be
        await wait_nobody_connected(server)
        await server.stop()

    run(main)
