"""Requests that wait for their turn or for each other, and where they are executed then."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import queue
import threading
from collections.abc import Callable
from typing import Any

import pytest
import trio
import trio.testing

import trionet
from tests.front.objects import ADDRESS, Thing, open_pair
from tests.front.zmtp_pairs import RawPeer
from tests.network.test_object_faults import PACK, open_server
from tests.wire.zmtp_bytes import DEALER_READY, GREETING, PING, PONG
from trionet._connect import connect
from trionet._zmtp import open_zmtp
from trionet.objects.proxy import reference_of
from trionet.wire.zmtp import SocketType
from trionet.wire.zmtp_frames import encode_message


class Property:
    def __init__(self) -> None:
        self.items: list[Any] = []
        self.map: dict[str, Any] = {}

    @property
    def thread(self) -> int:
        return threading.get_ident()

    def echo(self, *args: Any, **kwargs: Any) -> Any:
        return [*args, kwargs]

    def are_mine(self, items: Any, options: Any, thread: int) -> bool:
        return items is self.items and options["map"] is self.map and thread == threading.get_ident()


async def test_attributes_of_arguments_are_looked_up_where_methods_are_executed() -> None:
    requests: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
    idents: list[int] = []

    def work() -> None:
        idents.append(threading.get_ident())
        while (request := requests.get()) is not None:
            request()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.to_thread.run_sync, work)
        try:
            async with open_pair(Property(), sync_methods=requests.put) as (client, proxy):
                echoed = await proxy.echo(proxy.thread, [proxy.thread], key={"deep": proxy.thread})
                assert echoed == [idents[0], idents, {"key": {"deep": idents[0]}}]
                assert await proxy.thread.get() == idents[0]
                assert await client.get_obj([proxy.thread]) == idents
        finally:
            requests.put(None)


async def test_objects_among_the_arguments_are_these_and_no_copies() -> None:
    async with open_pair(Property(), sync_methods="thread") as (_, proxy):
        items, options = await proxy.items.get().as_proxy(), await proxy.map.get().as_proxy()
        assert await proxy.are_mine(items, {"map": options}, proxy.thread)


async def test_methods_in_threads_may_wait_for_more_of_them_than_trio_has_threads() -> None:
    count = int(trio.to_thread.current_default_thread_limiter().total_tokens) + 1
    barrier = threading.Barrier(count)

    class Target:
        def meet(self) -> int:
            return barrier.wait(10)

    async with open_pair(Target(), sync_methods="thread") as (_, target):
        calls = [target.meet().start() for _ in range(count)]
        assert sorted([await call for call in calls]) == list(range(count))


@pytest.mark.parametrize("sync_methods", ["inline", "thread"])
async def test_method_that_would_end_the_program_fails(sync_methods: str) -> None:
    """As argparse does with a wrong option."""

    class Target:
        def leave(self) -> None:
            raise SystemExit("enough")

        async def leave_later(self) -> None:
            await trio.lowlevel.checkpoint()
            raise SystemExit("enough")

    async with open_pair(Target(), sync_methods=sync_methods) as (client, target):
        for method in (target.leave, target.leave_later):
            with pytest.raises(trionet.RemoteError, match="SystemExit: enough"):
                await method()
        await client.ping()


async def ended(server: trionet.ObjectServer, clients: int) -> None:
    """Wait until so many clients are left."""
    with trio.fail_after(30):
        while server.connections > clients:
            await trio.testing.wait_all_tasks_blocked()


@pytest.mark.parametrize("place", ["inline", "thread", "elsewhere"])
async def test_exception_that_python_cannot_print_fails_its_request_only(
    place: str, caplog: pytest.LogCaptureFixture
) -> None:
    class Unprintable(Thing):
        def fail(self) -> None:
            column: Any = "not a number"
            raise SyntaxError("no", ("a program", 1, column, "text"))

    sync_methods: Any = (lambda work: work()) if place == "elsewhere" else place
    async with open_pair(Unprintable(), sync_methods=sync_methods) as (_, thing):
        with pytest.raises(SyntaxError, match="no"):
            await thing.fail()
        thing.fail().no_reply()
        assert await thing.add(1) == 2
    (record,) = (record for record in caplog.records if "without reply" in record.getMessage())
    assert "SyntaxError: no" in logging.Formatter().format(record)


async def test_client_that_leaves_while_its_requests_wait_is_noticed() -> None:
    target = Thing()
    async with open_server(target, max_pending_calls=2) as server:
        async with trionet.open_object_client(server.address) as client:
            thing = await client.get("thing")
            for number in range(5):
                thing.wait(str(number)).start()
            await trio.testing.wait_all_tasks_blocked()
            assert server.statistics().requests_in_flight == 2
        await ended(server, 0)
        assert sorted(target.events) == ["0 cancelled", "1 cancelled"]
        assert server.statistics().objects == 0


async def test_requests_that_want_no_answer_outlive_the_client_even_if_they_wait() -> None:
    target = Thing()
    async with open_server(target, max_pending_calls=2) as server:
        async with trionet.open_object_client(server.address) as client:
            thing = await client.get("thing")
            for number in range(5):
                thing.wait(str(number)).no_reply()
            thing.wait("unwanted").start()
            await trio.testing.wait_all_tasks_blocked()
        target.go_on.set()
        await ended(server, 0)
        await trio.testing.wait_all_tasks_blocked()
        assert sorted(target.events)[:5] == ["0", "1", "2", "3", "4"]


async def test_client_whose_requests_wait_gets_signs_of_life() -> None:
    target = Thing()
    async with open_server(target, max_pending_calls=1) as server:
        async with trionet.open_object_client(server.address) as client:
            thing = await client.get("thing")
            options = PACK.dumps({"obj": dataclasses.replace(reference_of(thing), attributes=("wait",))})
            waiting = encode_message([b"0", b"call_obj", b"auto", b"msgpack", options])
            async with await trio.open_tcp_stream(*server.addresses[0]) as stream:
                await stream.send_all(b"".join((GREETING, DEALER_READY, *waiting, *waiting, *waiting, PING)))
                received = b""
                with trio.fail_after(30):
                    while not received.endswith(PONG):
                        data = await stream.receive_some()
                        assert data, received
                        received += data
                assert server.statistics().requests_in_flight == 1


async def test_client_is_told_that_the_server_ends_also_while_requests_wait() -> None:
    async with trio.open_nursery() as nursery:
        server = await nursery.start(
            lambda **kw: trionet.serve_objects({"thing": Thing()}, max_pending_calls=1, **kw)
        )
        async with trionet.open_object_client(server.address) as client:
            thing = await client.get("thing")
            for _ in range(4):
                thing.wait().start()
            await trio.testing.wait_all_tasks_blocked()
            server.cancel_scope.cancel()
            await client.wait_disconnected()
            assert client.disconnect_reason == "the server has ended"


@pytest.mark.parametrize(("requests", "is_left"), [(20, False), (60, True)])
async def test_short_replies_that_are_not_read_count_for_the_memory_that_they_take(
    requests: int, is_left: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Each has about 40 bytes."""
    ours, theirs = trio.testing.lockstep_stream_pair()
    raw = RawPeer(ours)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: trionet.handle_object_stream(theirs, {}, ADDRESS, max_backlog=10_000))
        await raw.shake_hands()
        ping = b"".join(encode_message([b"0", b"ping", b"auto", b"msgpack", b""]))
        with contextlib.suppress(trio.BrokenResourceError):
            await ours.send_all(ping * requests)
        await trio.testing.wait_all_tasks_blocked()
        assert ("are not read" in caplog.text) == is_left
        await ours.aclose()


async def test_name_of_a_client_is_one_line_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async with open_server() as server:
        transport = await connect(*server.addresses[0])
        async with open_zmtp(transport, SocketType.DEALER, identity=b"me\nERROR all is lost") as zmtp:
            zmtp.post([b"-1", b"no action", b"auto", b"msgpack", b""])
            zmtp.post([b"0", b"ping", b"auto", b"msgpack", b""])
            await zmtp.receive()
    assert "'no action' without reply failed" in caplog.text
    assert "\nERROR all" not in caplog.text


async def test_what_was_begun_elsewhere_is_forgotten_when_the_client_has_left() -> None:
    """It ends in something to be awaited, and there is nobody who would."""
    work: list[Callable[[], None]] = []
    target = Thing()
    async with open_server(target, sync_methods=work.append) as server:
        async with trionet.open_object_client(server.address) as client:
            getting = client.start("get_item", {"name": "thing"})
            await trio.testing.wait_all_tasks_blocked(0.01)
            work.pop()()
            thing = await getting
            thing.wait().start()
            await client.ping()
        await ended(server, 0)
        work.pop()()
        await trio.testing.wait_all_tasks_blocked()
        assert not work
        assert target.events == []
        assert server.statistics().requests_in_flight == 0


async def test_no_more_than_little_is_read_while_requests_wait() -> None:
    target = Thing()
    async with open_server(target, max_pending_calls=1) as server:
        async with trionet.open_object_client(server.address) as client:
            thing = await client.get("thing")
            calls = [thing.wait().start() for _ in range(2)]
            for number in range(20):
                thing.note(str(number).ljust(200_000)).no_reply()
            await trio.testing.wait_all_tasks_blocked(0.01)
            (session,) = server._service.sessions
            assert len(session._incoming._ahead) <= 6
            target.go_on.set()
            assert [await call for call in calls] == ["wait"] * 2
            await client.ping()
    notes = [event.strip() for event in target.events if event != "wait"]
    assert notes == [str(number) for number in range(20)]


@pytest.mark.parametrize("place", ["thread", "elsewhere"])
async def test_timer_calls_where_methods_are_executed(place: str) -> None:
    requests: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
    idents: list[int] = []
    done = trio.Event()

    def work() -> None:
        while (request := requests.get()) is not None:
            request()

    def tick() -> Any:
        idents.append(threading.get_ident())
        return finish() if len(idents) == 2 else None

    async def finish() -> None:
        idents.append(threading.get_ident())
        done.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.to_thread.run_sync, work)
        try:
            async with open_server(sync_methods="thread" if place == "thread" else requests.put) as server:
                server.start_timer(tick, 0.001, limit=2)
                with trio.fail_after(30):
                    await done.wait()
        finally:
            requests.put(None)
    here = threading.get_ident()
    assert [ident == here for ident in idents] == [False, False, True]
