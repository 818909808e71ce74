"""What an object server allows, and in which order and where it does things."""

from __future__ import annotations

import math
import queue
import threading
import types
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.testing

import trionet
from tests.front.objects import ADDRESS, Thing, open_pair

Use = Callable[[trionet.ObjectClient, Any], Awaitable[Any]]

REFUSED: list[tuple[str, str, Use]] = [
    ("private", "allow_private=True", lambda c, t: t.attribute("_hidden").get()),
    ("private set", "allow_private=True", lambda c, t: t.attribute("_hidden").set(1)),
    ("dunder", "unrestricted=True", lambda c, t: t.attribute("__class__").get()),
    ("globals", "unrestricted=True", lambda c, t: t.add.attribute("__globals__").get()),
    ("dunder set", "unrestricted=True", lambda c, t: t.attribute("__class__").set(1)),
    ("operator set", "unrestricted=True", lambda c, t: t.attribute("__len__").set(1)),
    ("setattr as object", "unrestricted=True", lambda c, t: t.attribute("__setattr__").get().as_proxy()),
    ("argument", "unrestricted=True", lambda c, t: t.echo(t.attribute("__dict__"))),
    ("import", r"allow_import=\['os'\]", lambda c, t: c.import_module("os")),
    ("similar name", "allow_import", lambda c, t: c.import_module("mathematics")),
    ("module", r"allow_import=\['queue'\]", lambda c, t: t.module.get()),
    ("publish", "allow_set_item=True", lambda c, t: c.set("x", 1)),
    ("close", "allow_close=True", lambda c, t: c.close_server()),
    ("frame", "unrestricted=True", lambda c, t: _frame(t)),
    ("format", "unrestricted=True", lambda c, t: _format(c, t)),
    ("class", "unrestricted=True", lambda c, t: t.cls.power.set(5)),
]


async def _frame(thing: Any) -> None:
    generator = await thing.generator()
    await generator.gi_frame.get()


async def _format(client: trionet.ObjectClient, thing: Any) -> None:
    text = await client.transfer("{0.__class__}")
    await text.format(thing)


def exposed() -> Thing:
    thing: Any = Thing()
    thing.module = queue
    thing.cls = Thing
    return thing  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("setting", "use"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED]
)
async def test_what_leads_out_of_published_objects_is_refused(setting: str, use: Use) -> None:
    async with open_pair(exposed(), allow_import=["math"]) as (client, thing):
        with pytest.raises(PermissionError, match=setting):
            await use(client, thing)
        assert await thing.add(1) == 2


async def test_unrestricted_server_allows_all_of_it() -> None:
    async with open_pair(exposed(), unrestricted=True) as (client, thing):
        for _, _, use in REFUSED:
            if use in (case[2] for case in REFUSED if case[0] in ("dunder set", "similar name", "close")):
                continue
            await use(client, thing)


async def test_settings_allow_what_they_say() -> None:
    async with open_pair(allow_import=["math", "os"], allow_private=True, allow_set_item=True) as (
        client,
        thing,
    ):
        assert await thing.attribute("_hidden").get() == 5
        await thing.attribute("_hidden").set(6)
        with pytest.raises(PermissionError, match="unrestricted"):
            await thing.attribute("__dict__").get()
        assert await (await client.import_module("math")).pi.get() == math.pi
        assert await (await client.import_module("os.path")).basename("a/b") == "b"
        await client.set("new", [1])
        assert await client.get("new") == [1]


async def test_modules_are_no_way_to_others() -> None:
    module = types.ModuleType("published")
    module.os = __import__("os")  # type: ignore[attr-defined]
    module.answer = 42  # type: ignore[attr-defined]
    async with open_pair(module) as (_, proxy):
        assert await proxy.answer.get() == 42
        with pytest.raises(PermissionError, match="module 'os'"):
            await proxy.os.getpid()


def test_names_of_modules_are_not_one_text() -> None:
    with pytest.raises(TypeError, match="several names"):
        trio.run(
            lambda: trionet.handle_object_stream(
                trio.testing.memory_stream_pair()[0], {}, ADDRESS, allow_import="os"
            )
        )


async def test_asynchronous_methods_of_one_client_run_at_the_same_time(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_pair() as (_, thing):
        start = trio.current_time()
        calls = [thing.sleep(seconds).start() for seconds in (3, 1, 2)]
        assert [await call for call in calls] == [3, 1, 2]
        assert trio.current_time() - start == 3


async def test_method_may_call_back_whoever_calls_it() -> None:
    """The client has called `call`, which calls a function of ours, which calls `call` again."""
    async with trio.open_nursery() as nursery:
        ours = await nursery.start(trionet.serve_objects, {})
        theirs = await nursery.start(trionet.serve_objects, {"thing": Thing()})
        async with trionet.open_object_client(theirs.address, server=ours) as client:
            thing = await client.get("thing")

            async def recurse(depth: int) -> int:
                return depth if depth == 0 else 1 + await thing.call(recurse, depth - 1)

            assert await thing.call(recurse, 5) == 5
        nursery.cancel_scope.cancel()


async def test_synchronous_methods_are_executed_in_the_order_of_the_requests() -> None:
    target = Thing()
    async with open_pair(target) as (client, thing):
        for number in range(200):
            thing.note(str(number)).no_reply()
        await client.ping()
    assert target.events == [str(number) for number in range(200)]


async def test_methods_may_run_in_threads_several_at_a_time() -> None:
    barrier = threading.Barrier(3)

    class Target:
        def meet(self) -> int:
            barrier.wait(60)
            return threading.get_ident()

        async def here(self) -> int:
            return threading.get_ident()

    async with open_pair(Target(), sync_methods="thread") as (_, target):
        calls = [target.meet().start() for _ in range(3)]
        idents = {await call for call in calls}
        assert len(idents) == 3
        assert threading.get_ident() not in idents
        assert await target.here() == threading.get_ident()
        with pytest.raises(AttributeError, match="nothing"):
            await target.nothing()


async def test_requests_may_be_executed_by_whom_the_program_chooses() -> None:
    target = Thing()
    requests: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()

    def work() -> None:
        while (request := requests.get()) is not None:
            request()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.to_thread.run_sync, work)
        try:
            async with open_pair(target, sync_methods=requests.put) as (_, thing):
                for number in range(50):
                    thing.note(str(number)).no_reply()
                assert await thing.add(1) == 2
                assert target.events == [str(number) for number in range(50)]
                assert await thing.sleep(0) == 0
                with pytest.raises(ValueError, match="no"):
                    await thing.fail()
        finally:
            requests.put(None)


async def test_executor_that_fails_fails_the_request() -> None:
    def refuse(_: Callable[[], None]) -> None:
        raise RuntimeError("no executor any more")

    ours, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(
            lambda: trionet.handle_object_stream(
                theirs, {"a": 1}, ADDRESS, sync_methods=refuse, allow_close=True
            )
        )
        async with trionet.wrap_object_stream(ours, ADDRESS) as client:
            with pytest.raises(RuntimeError, match="no executor"):
                await client.get("a")
            with pytest.raises(RuntimeError, match="no executor"):
                await client.close_server()
            await client.ping()


async def test_client_that_leaves_cancels_what_it_waited_for_and_nothing_else() -> None:
    target = Thing()
    async with trio.open_nursery() as nursery:
        server = await nursery.start(trionet.serve_objects, {"thing": target})
        async with trionet.open_object_client(server.address) as client:
            thing = await client.get("thing")
            waiting = thing.wait("with reply").start()
            thing.wait("without").no_reply()
            await client.ping()
            await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(trionet.ConnectionLost, match="this side has closed"):
            await waiting
        while server.connections:
            await trio.testing.wait_all_tasks_blocked()
        assert target.events == ["with reply cancelled"]
        target.go_on.set()
        await trio.testing.wait_all_tasks_blocked()
        assert target.events == ["with reply cancelled", "without"]
        assert server.statistics().objects == 0
        nursery.cancel_scope.cancel()


async def test_pending_calls_of_a_client_are_bounded() -> None:
    target = Thing()
    async with open_pair(target, max_pending_calls=2) as (client, thing):
        calls = [thing.wait(str(number)).start() for number in range(3)]
        ping = client.start("ping")
        await trio.testing.wait_all_tasks_blocked()
        assert not ping.done  # the third call is not begun, so what is behind it is not read
        target.go_on.set()
        assert [await call for call in calls] == ["0", "1", "2"]
        assert await ping == "pong"


async def test_client_has_a_bound_too() -> None:
    target = Thing()
    async with open_pair(target, client={"max_pending_calls": 2}) as (_, thing):
        calls = [thing.wait().start() for _ in range(2)]
        with pytest.raises(trio.WouldBlock, match="2 replies"):
            thing.add(1).start()
        with trio.CancelScope() as scope:
            scope.cancel()
            await thing.add(1)
        assert scope.cancelled_caught
        target.go_on.set()
        assert [await call for call in calls] == ["wait", "wait"]
        assert await thing.add(1) == 2


async def test_calls_that_find_no_place_have_it_later() -> None:
    results: list[int] = []

    async def add(thing: Any, number: int) -> None:
        results.append(await thing.add(number))

    async with open_pair(client={"max_pending_calls": 1}) as (_, thing):
        async with trio.open_nursery() as nursery:
            for number in range(5):
                nursery.start_soon(add, thing, number)
    assert sorted(results) == [1, 2, 3, 4, 5]


async def test_calls_wait_while_too_much_is_unsent() -> None:
    go_on = trio.Event()
    results: list[int] = []

    async def send_later() -> None:
        await go_on.wait()
        await pump()

    async def add(number: int) -> None:
        results.append(await thing.add(number))

    async with open_pair(client={"max_backlog": 1000}) as (client, thing), trio.open_nursery() as nursery:
        stream: Any = client._connection._zmtp._transport.stream
        pump = stream.send_stream.send_all_hook
        stream.send_stream.send_all_hook = send_later
        first = thing.echo("x" * 5000).start()
        with pytest.raises(trio.WouldBlock, match="bytes wait to be sent"):
            thing.add(1).start()
        with pytest.raises(trio.WouldBlock, match="bytes wait to be sent"):
            thing.note("lost").no_reply()
        for number in range(3):
            nursery.start_soon(add, number)
        with trio.CancelScope() as scope:
            nursery.start_soon(cancel_when_blocked, scope)
            await thing.add(1)
        assert scope.cancelled_caught
        assert results == []
        go_on.set()
        assert len(await first) == 5000
    assert sorted(results) == [1, 2, 3]


async def cancel_when_blocked(scope: trio.CancelScope) -> None:
    await trio.testing.wait_all_tasks_blocked()
    scope.cancel()


async def test_call_that_is_cancelled_while_it_waits_to_be_sent_leaves_its_place_to_the_next() -> None:
    async def add(scope: trio.CancelScope) -> None:
        with scope:
            await thing.add(1)

    async with open_pair(client={"max_pending_calls": 1, "max_backlog": 1000}) as (client, thing):
        zmtp = client._connection._zmtp
        first, second = trio.CancelScope(), trio.CancelScope()
        pending = thing.add(1).start()
        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                for scope in (first, second):
                    nursery.start_soon(add, scope)
                    await trio.lowlevel.checkpoint()
                zmtp.unsent += 5000  # as if somebody had sent much meanwhile
                assert await pending == 2
                await trio.testing.wait_all_tasks_blocked()
                first.cancel()
                zmtp.unsent -= 5000
        assert first.cancelled_caught
        assert not second.cancelled_caught


async def test_timer_calls_from_start_to_start(autojump_clock: trio.testing.MockClock) -> None:
    times: list[float] = []

    async def tick() -> None:
        times.append(trio.current_time() - start)
        await trio.sleep(0.25)

    async with trio.open_nursery() as nursery:
        server = await nursery.start(trionet.serve_objects, {})
        start = trio.current_time()
        timer = server.start_timer(tick, 1.0, limit=3)
        assert timer.running
        await trio.sleep(10)
        assert times == [1.0, 2.0, 3.0]
        assert (timer.calls, timer.running) == (3, False)
        endless = server.start_timer(lambda: times.append(0), 1.0)
        await trio.sleep(2.5)
        endless.stop()
        await trio.sleep(5)
        assert endless.calls == 2
        nursery.cancel_scope.cancel()


async def test_timer_that_fails_says_so(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with trio.open_nursery() as nursery:
        server = await nursery.start(trionet.serve_objects, {})
        timer = server.start_timer(lambda: 1 / 0, 1.0)
        await trio.sleep(5)
        assert timer.calls == 1
        assert not timer.running
        nursery.cancel_scope.cancel()
    assert "timer stopped" in caplog.text
