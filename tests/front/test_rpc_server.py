"""The RPC server over memory streams and the mock clock: what is called when, and by whom."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import itertools
import logging
import threading
import weakref
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
import trio
import trio.testing

import trionet
from trionet.testing import open_memory_rpc_client


class Stage:
    """A target that records what happens to it."""

    position = 0.0

    def __init__(self) -> None:
        self.log: list[Any] = []

    @property
    def temperature(self) -> float:
        raise RuntimeError("reading this talks to the hardware")

    def echo(self, value: Any) -> Any:
        return value

    def thread(self) -> bool:
        return threading.current_thread() is threading.main_thread()

    async def move(self, name: str, seconds: float) -> str:
        """Move."""
        self.log.append((name, "begin", trio.current_time()))
        try:
            await trio.sleep(seconds)
        except trio.Cancelled:
            self.log.append((name, "cancelled", trio.current_time()))
            raise
        self.log.append((name, "end", trio.current_time()))
        return name

    def exit(self) -> None:
        raise SystemExit(3)

    async def exit_later(self) -> None:
        await trio.sleep(1)
        raise SystemExit(3)

    def fail(self) -> None:
        raise ValueError("out of range")

    def unserializable(self) -> object:
        return object()

    def _private(self) -> str:
        return "secret"


async def test_calls_with_all_kinds_of_arguments() -> None:
    class Target:
        def both(self, *args: Any, **kwargs: Any) -> Any:
            return args, kwargs

    async with open_memory_rpc_client({"it": Target()}) as client:
        assert await client.call("both") == ((), {})
        assert await client.call("both", 1, (2,), k={3: 4}) == ((1, (2,)), {"k": {3: 4}})
        assert await client.proxy.both(method="a", self_=1, args=2) == (
            (),
            {"method": "a", "self_": 1, "args": 2},
        )


async def test_only_public_methods_can_be_called() -> None:
    stage = Stage()
    stage.sub = SimpleNamespace(method=lambda: 1)  # type: ignore[attr-defined]
    async with open_memory_rpc_client({"stage": stage}) as client:
        assert client.methods == {"echo", "thread", "move", "exit", "exit_later", "fail", "unserializable"}
        # A client that does not care what is advertised, such as one of sipyco's:
        names = ("_private", "__class__", "__init__", "position", "temperature", "sub.method", "sub", "nope")
        client._methods |= set(names)
        for name in names:
            with pytest.raises((AttributeError, TypeError), match=name.replace(".", r"\.")):
                await client.call(name)
        with pytest.raises(TypeError, match="cannot be called"):
            await client.call("position")


async def test_calls_of_several_connections_wait_for_each_other(
    autojump_clock: trio.testing.MockClock,
) -> None:
    stage = Stage()
    await _move_on_two_connections(stage, allow_parallel=False)
    assert stage.log == [("a", "begin", 0.0), ("a", "end", 2.0), ("b", "begin", 2.0), ("b", "end", 3.0)]


async def test_calls_run_side_by_side_if_allowed(autojump_clock: trio.testing.MockClock) -> None:
    stage = Stage()
    await _move_on_two_connections(stage, allow_parallel=True)
    assert stage.log == [("a", "begin", 0.0), ("b", "begin", 0.0), ("b", "end", 1.0), ("a", "end", 2.0)]


async def _move_on_two_connections(stage: Stage, allow_parallel: bool) -> None:
    async with serve_in_memory({"stage": stage}, allow_parallel=allow_parallel) as connect:
        async with connect() as first, connect() as second, trio.open_nursery() as nursery:
            nursery.start_soon(first.call, "move", "a", 2)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(second.call, "move", "b", 1)


async def test_sync_calls_wait_for_an_async_one(autojump_clock: trio.testing.MockClock) -> None:
    async with serve_in_memory({"stage": Stage()}) as connect, connect() as first, connect() as second:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(first.call, "move", "a", 2)
            await trio.testing.wait_all_tasks_blocked()
            assert await second.call("echo", 1) == 1
            assert trio.current_time() == 2.0


async def test_calls_of_one_connection_stay_in_order(autojump_clock: trio.testing.MockClock) -> None:
    stage = Stage()
    results = []
    async with open_memory_rpc_client({"stage": stage}, allow_parallel=True) as client:

        async def call(name: str, seconds: float) -> None:
            results.append(await client.call("move", name, seconds))

        async with trio.open_nursery() as nursery:
            for name, seconds in (("a", 3), ("b", 1), ("c", 2)):
                nursery.start_soon(call, name, seconds)
                await trio.testing.wait_all_tasks_blocked()
    assert results == ["a", "b", "c"]
    assert [entry[2] for entry in stage.log] == [0.0, 3.0, 3.0, 4.0, 4.0, 6.0]


async def test_sync_methods_inline_or_in_threads() -> None:
    async with open_memory_rpc_client({"stage": Stage()}) as client:
        assert await client.call("thread") is True
    async with open_memory_rpc_client({"stage": Stage()}, sync_methods="thread") as client:
        assert await client.call("thread") is False
        assert await client.call("move", "a", 0) == "a"
        with pytest.raises(ValueError, match="out of range"):
            await client.call("fail")


async def test_a_client_that_leaves_cancels_its_call(autojump_clock: trio.testing.MockClock) -> None:
    stage = Stage()
    async with serve_in_memory({"stage": stage}) as connect:
        async with connect() as client:
            with trio.move_on_after(5):
                await client.call("move", "a", 100)
        async with connect() as client:
            assert await client.call("echo", "the lock is free") == "the lock is free"
    assert stage.log == [("a", "begin", 0.0), ("a", "cancelled", 5.0)]


async def test_a_client_that_leaves_while_it_waits_for_its_turn(
    autojump_clock: trio.testing.MockClock,
) -> None:
    stage = Stage()
    async with (
        serve_in_memory({"stage": stage}) as connect,
        connect() as first,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(first.call, "move", "a", 2)
        await trio.testing.wait_all_tasks_blocked()
        async with connect() as second:
            with trio.move_on_after(1):
                await second.call("move", "b", 1)
    assert stage.log == [("a", "begin", 0.0), ("a", "end", 2.0)]


async def test_requests_that_come_during_a_call_are_kept(autojump_clock: trio.testing.MockClock) -> None:
    async with open_memory_rpc_client({"stage": Stage()}) as client, trio.open_nursery() as nursery:
        nursery.start_soon(client.call, "move", "a", 1)
        await trio.testing.wait_all_tasks_blocked()
        async with trio.open_nursery() as calls:
            for size in (10, 200_000, 10):
                calls.start_soon(client.call, "echo", "x" * size)
        assert trio.current_time() == 1.0


async def test_listening_during_a_call_is_bounded(autojump_clock: trio.testing.MockClock) -> None:
    """What a client sends ahead waits in its stream, and is read when the call has ended."""
    client_end, server_end = trio.testing.memory_stream_pair()
    request = b'{"action":"call","name":"echo","args":["' + b"x" * 500 + b'"],"kwargs":{}}\n'
    move = b'{"action":"call","name":"move","args":["a",5],"kwargs":{}}\n'
    await client_end.send_all(b"ARTIQ pc_rpc\nstage pyon_v2\n" + move + request * 5000)
    assert isinstance(client_end, trio.StapledStream)
    answers = b""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: trionet.handle_rpc_stream(server_end, {"stage": Stage()}))
        await trio.testing.wait_all_tasks_blocked()
        unread = len(server_end.receive_stream._incoming._data)
        assert 1_000_000 < unread < len(request) * 5000
        while answers.count(b"\n") < 5003:
            answers += await client_end.receive_some()
        assert trio.current_time() == 5.0
        await client_end.aclose()


async def test_per_connection_targets() -> None:
    made: list[Stage] = []
    left: list[Stage] = []

    def make() -> Stage:
        made.append(Stage())
        return made[-1]

    async def make_async() -> Stage:
        await trio.lowlevel.checkpoint()
        return make()

    @contextlib.asynccontextmanager
    async def make_in_context() -> AsyncIterator[Stage]:
        stage = make()
        try:
            yield stage
        finally:
            left.append(stage)

    targets = {
        "plain": trionet.per_connection(make),
        "async": trionet.per_connection(make_async),
        "context": trionet.per_connection(make_in_context),
    }
    for name in targets:
        async with open_memory_rpc_client(targets, name) as client:
            assert await client.call("echo", 1) == 1
    assert len(made) == 3
    assert left == [made[2]]


async def test_a_factory_that_fails_ends_its_connection_only(caplog: pytest.LogCaptureFixture) -> None:
    failures: list[BaseException] = [ValueError("no camera"), asyncio.CancelledError("no camera")]

    def make() -> Stage:
        if failures:
            raise failures.pop()
        return Stage()

    async with trio.open_nursery() as nursery:
        targets = {"stage": trionet.per_connection(make)}
        server: trionet.RpcServer = await nursery.start(trionet.serve_rpc, targets, 0)
        for _ in range(2):
            with pytest.raises(trionet.ConnectionLost):
                async with trionet.open_rpc_client("127.0.0.1", server.port):
                    pass
        async with trionet.open_rpc_client("127.0.0.1", server.port) as client:
            assert await client.call("echo", 1) == 1
        await server.aclose()
    reasons = [str(record.exc_info[1]) for record in caplog.records if record.exc_info]
    assert reasons == ["no camera", "no camera"]


@pytest.mark.parametrize(
    ("targets", "error"),
    [
        ({"two words": Stage()}, ValueError),
        ({"a\x07bell": Stage()}, ValueError),
        ({"": Stage()}, ValueError),
        ({"stage": Stage}, TypeError),
        ({"stage": lambda: Stage()}, TypeError),
    ],
)
async def test_targets_that_cannot_be_served(targets: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        await trionet.serve_rpc(targets, 0)


async def test_sync_methods_must_be_known() -> None:
    with pytest.raises(ValueError, match="sync_methods"):
        await trionet.serve_rpc({}, 0, sync_methods="process")  # type: ignore[arg-type]


async def test_terminate_only_if_allowed(autojump_clock: trio.testing.MockClock) -> None:
    async with serve_in_memory({"stage": Stage()}) as connect, connect() as client:
        with pytest.raises(AttributeError):
            await client.call("terminate")
        client._methods |= {"terminate"}
        with pytest.raises(AttributeError, match="'Stage' object has no attribute 'terminate'"):
            await client.call("terminate")


async def test_terminate_answers_then_ends_the_server(autojump_clock: trio.testing.MockClock) -> None:
    async with serve_in_memory({"stage": Stage()}, allow_terminate=True, wait=True) as connect:
        async with connect() as bystander, connect() as client:
            assert "terminate" in client.methods
            assert (await client.describe()).methods["terminate"].signature == "()"
            assert await client.call("terminate", "arguments", are="ignored") is None
            await bystander.wait_disconnected()


@pytest.mark.parametrize("method", ["exit", "exit_later"])
async def test_system_exit_ends_a_server_that_may_be_terminated(
    method: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with serve_in_memory({"stage": Stage()}, allow_terminate=True, wait=True) as connect:
        async with connect() as client:
            with pytest.raises(trionet.ConnectionLost):
                await client.call(method)


@pytest.mark.parametrize("method", ["exit", "exit_later"])
async def test_system_exit_is_an_error_like_others_otherwise(
    method: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with open_memory_rpc_client({"stage": Stage()}) as client:
        with pytest.raises(trionet.RemoteError, match="SystemExit: 3"):
            await client.call(method)
        assert await client.call("echo", "alive") == "alive"


async def test_a_result_that_cannot_be_encoded_is_an_error_for_the_caller() -> None:
    async with open_memory_rpc_client({"stage": Stage()}) as client:
        with pytest.raises(TypeError, match="object"):
            await client.call("unserializable")
        assert await client.call("echo", 1) == 1


async def test_an_exception_without_text_is_an_error_for_the_caller() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    class Target:
        def fail(self) -> None:
            raise Mute

    async with open_memory_rpc_client({"it": Target()}) as client:
        with pytest.raises(trionet.RemoteError, match=r"Mute: <no text: RuntimeError"):
            await client.call("fail")


async def test_statistics() -> None:
    async with trio.open_nursery() as nursery:
        server: trionet.RpcServer = await nursery.start(trionet.serve_rpc, {"stage": Stage()}, 0)
        async with trionet.open_rpc_client("127.0.0.1", server.port) as client:
            await client.call("echo", 1)
            with pytest.raises(ValueError, match="out of range"):
                await client.call("fail")
            assert server.statistics() == trionet.RpcServerStatistics(
                connections=1, accepted=1, calls=2, failed_calls=1, calls_in_flight=0
            )
        await server.aclose()


async def test_silent_clients_are_cut_off(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    client_end, server_end = trio.testing.memory_stream_pair()
    await client_end.send_all(b"ARTIQ pc_rpc\n")
    await trionet.handle_rpc_stream(server_end, {"stage": Stage()}, handshake_timeout=7)
    assert trio.current_time() == 7.0
    assert "no target selected within 7 s" in caplog.text
    assert (await client_end.receive_some()).startswith(b'{"targets":["stage"]')
    assert await client_end.receive_some() == b""


async def test_a_bad_client_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    client_end, server_end = trio.testing.memory_stream_pair()
    await client_end.send_all(b"GET / HTTP/1.1\n")
    with caplog.at_level(logging.INFO):
        await trionet.handle_rpc_stream(server_end, {"stage": Stage()})
    (record,) = caplog.records
    assert record.name == "trionet.rpc"
    assert "not the banner of an RPC client: b'GET / HTTP/1.1'" in record.message
    assert await client_end.receive_some() == b""


@contextlib.asynccontextmanager
async def serve_in_memory(
    targets: dict[str, Any], *, wait: bool = False, **options: Any
) -> AsyncIterator[Any]:
    """A whole server whose clients connect through memory. With `wait`, it must end by itself."""
    send_stream, receive_stream = trio.open_memory_channel[trio.abc.Stream](100)
    listener = MemoryListener(receive_stream)

    @contextlib.asynccontextmanager
    async def connect() -> AsyncIterator[trionet.RpcClient]:
        client_end, server_end = trio.testing.memory_stream_pair()
        send_stream.send_nowait(server_end)
        async with trionet.wrap_rpc_stream(client_end) as client:
            yield client

    async with trio.open_nursery() as nursery:
        await nursery.start(lambda **kw: trionet.serve_rpc(targets, 0, listeners=[listener], **options, **kw))
        yield connect
        if not wait:
            nursery.cancel_scope.cancel()


class MemoryListener(trio.abc.Listener[trio.abc.Stream]):
    def __init__(self, streams: trio.MemoryReceiveChannel[trio.abc.Stream]) -> None:
        self._streams = streams

    async def accept(self) -> trio.abc.Stream:
        return await self._streams.receive()

    async def aclose(self) -> None:
        await self._streams.aclose()


async def test_a_client_that_does_not_read_holds_up_nobody(autojump_clock: trio.testing.MockClock) -> None:
    """Its answers cannot be sent, so its next call does not get a turn that others wait for."""
    streams, receive_streams = trio.open_memory_channel[trio.abc.Stream](2)
    greedy, greedy_server_end = trio.testing.memory_stream_pair()
    polite, polite_server_end = trio.testing.memory_stream_pair()
    assert isinstance(greedy_server_end, trio.StapledStream)
    await greedy.send_all(b"ARTIQ pc_rpc\nstage pyon_v2\n")
    streams.send_nowait(greedy_server_end)
    streams.send_nowait(polite_server_end)
    stage = Stage()
    async with trio.open_nursery() as nursery:
        serve = functools.partial(
            trionet.serve_rpc, {"stage": stage}, 0, listeners=[MemoryListener(receive_streams)]
        )
        await nursery.start(serve)
        async with trionet.wrap_rpc_stream(polite) as client:
            greedy_server_end.send_stream.send_all_hook = trio.sleep_forever
            echo = b'{"action":"call","name":"echo","args":[1],"kwargs":{}}\n'
            move = b'{"action":"call","name":"move","args":["greedy",1],"kwargs":{}}\n'
            await greedy.send_all(echo + move)
            await trio.testing.wait_all_tasks_blocked()
            with trio.fail_after(10):
                assert await client.call("move", "polite", 1) == "polite"
        assert [entry[0] for entry in stage.log] == ["polite", "polite"]
        nursery.cancel_scope.cancel()


async def test_requests_sent_with_the_handshake_may_finish_when_the_server_closes(
    autojump_clock: trio.testing.MockClock,
) -> None:
    streams, receive_streams = trio.open_memory_channel[trio.abc.Stream](1)
    client_end, server_end = trio.testing.memory_stream_pair()
    move = b'{"action":"call","name":"move","args":["a",5],"kwargs":{}}\n'
    await client_end.send_all(b"ARTIQ pc_rpc\nstage pyon_v2\n" + move)
    streams.send_nowait(server_end)
    stage = Stage()
    async with trio.open_nursery() as nursery:
        serve = functools.partial(
            trionet.serve_rpc, {"stage": stage}, 0, listeners=[MemoryListener(receive_streams)]
        )
        server: trionet.RpcServer = await nursery.start(serve)
        await trio.sleep(1)
        await server.aclose(30)
        assert trio.current_time() == 5.0
    assert [entry[1] for entry in stage.log] == ["begin", "end"]
    answers = b""
    while data := await client_end.receive_some():
        answers += data
    assert answers.endswith(b'{"status":"ok","ret":"a"}\n')


async def test_a_flood_of_requests_leaves_time_for_others() -> None:
    since_others = most = 0

    class Counter:
        def count(self) -> None:
            nonlocal since_others
            since_others += 1

    async def others() -> None:
        nonlocal since_others, most
        while True:
            await trio.lowlevel.checkpoint()
            most = max(most, since_others)
            since_others = 0

    client_end, server_end = trio.testing.memory_stream_pair()
    requests = b'{"action":"call","name":"count","args":[],"kwargs":{}}\n' * 1000
    await client_end.send_all(b"ARTIQ pc_rpc\nit pyon_v2\n" + requests)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: trionet.handle_rpc_stream(server_end, {"it": Counter()}))
        nursery.start_soon(others)
        received = b""
        while received.count(b"\n") < 1002:
            received += await client_end.receive_some()
        nursery.cancel_scope.cancel()
    assert 0 < most <= 2 * 128  # a turn before and one after, as trio shuffles them


async def test_a_client_that_is_accepted_while_the_server_closes(
    autojump_clock: trio.testing.MockClock,
) -> None:
    streams, receive_streams = trio.open_memory_channel[trio.abc.Stream](1)
    client_end, server_end = trio.testing.memory_stream_pair()

    class Closing(MemoryListener):
        async def accept(self) -> trio.abc.Stream:
            stream = await super().accept()
            nursery.start_soon(server.aclose, 30)
            return stream

    async with trio.open_nursery() as nursery:
        serve = functools.partial(
            trionet.serve_rpc, {"stage": Stage()}, 0, listeners=[Closing(receive_streams)]
        )
        server: trionet.RpcServer = await nursery.start(serve)
        streams.send_nowait(server_end)
        assert await client_end.receive_some() == b""
    assert trio.current_time() == 0.0


async def test_answers_are_sent_while_more_requests_wait() -> None:
    """Small requests with large answers: they are not collected until the last one."""

    class Large:
        calls = 0

        def get(self) -> str:
            self.calls += 1
            return "x" * 50_000

    large = Large()
    client_end, server_end = trio.testing.memory_stream_pair()
    requests = b'{"action":"call","name":"get","args":[],"kwargs":{}}\n' * 100
    await client_end.send_all(b"ARTIQ pc_rpc\nit pyon_v2\n" + requests)
    assert isinstance(server_end, trio.StapledStream)
    pump = server_end.send_stream.send_all_hook
    assert pump is not None
    calls_before_send: list[int] = []

    async def note() -> None:
        calls_before_send.append(large.calls)
        await pump()

    server_end.send_stream.send_all_hook = note
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: trionet.handle_rpc_stream(server_end, {"it": large}))
        received = b""
        while received.count(b"\n") < 102:
            received += await client_end.receive_some()
        nursery.cancel_scope.cancel()
    steps = [after - before for before, after in itertools.pairwise(calls_before_send)]
    assert max(steps) == 2


async def test_targets_made_for_a_connection_go_with_it() -> None:
    made: list[weakref.ref[Stage]] = []

    def make() -> Stage:
        stage = Stage()
        made.append(weakref.ref(stage))
        return stage

    async with serve_in_memory({"stage": trionet.per_connection(make)}) as connect:
        async with connect() as client:
            assert await client.call("echo", 1) == 1
        await trio.testing.wait_all_tasks_blocked()
        gc.collect()
        assert made[0]() is None
