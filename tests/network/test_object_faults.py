"""Bad peers of object servers and clients over loopback: each ends its own connection, and nothing else."""

from __future__ import annotations

import contextlib
import gc
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio
import trio.testing

import trionet
from tests.front.objects import Thing
from tests.wire.zmtp_bytes import GREETING, ready_of
from trionet._connect import connect
from trionet._zmtp import open_zmtp
from trionet._zmtp_stream import ZmtpStream
from trionet.wire.object_values import MsgpackSerializer, ProxyReference
from trionet.wire.objects import ObjectReply, decode_from_server
from trionet.wire.zmtp import SocketType

PACK = MsgpackSerializer()


@contextlib.asynccontextmanager
async def open_server(thing: Any = None, **options: Any) -> AsyncIterator[trionet.ObjectServer]:
    """A server that must still be alive at the end."""
    namespace = {"thing": Thing() if thing is None else thing}
    async with trio.open_nursery() as nursery:
        server: trionet.ObjectServer = await nursery.start(
            lambda **kw: trionet.serve_objects(namespace, **options, **kw)
        )
        yield server
        with trio.fail_after(30):
            async with trionet.open_object_client(server.address) as client:
                await client.ping()
        nursery.cancel_scope.cancel()


@contextlib.asynccontextmanager
async def open_raw(server: trionet.ObjectServer) -> AsyncIterator[ZmtpStream]:
    """A client that sends what it likes."""
    transport = await connect(*server.addresses[0])
    async with open_zmtp(transport, SocketType.DEALER, identity=b"odd one") as zmtp:
        yield zmtp


async def ask(zmtp: ZmtpStream, *frames: bytes) -> ObjectReply:
    zmtp.post(frames)
    reply = decode_from_server(PACK, await zmtp.receive())
    assert isinstance(reply, ObjectReply)
    return reply


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" + b" " * 64, "connection closed"),
        (GREETING[:12] + b"PLAIN".ljust(20, b"\0") + GREETING[32:], "PLAIN"),
        (GREETING[:10] + b"\x01" + GREETING[11:], "connection closed"),
        (GREETING + ready_of(b"PUSH"), "PUSH"),
        (GREETING + b"\x00\x01x", "connection closed"),
        (GREETING + ready_of(b"DEALER") + b"\x02" + (1 << 40).to_bytes(8, "big"), "connection closed"),
    ],
    ids=["greeting", "mechanism", "version", "socket type", "before READY", "oversized"],
)
async def test_peer_that_speaks_otherwise_is_refused(
    data: bytes, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_server() as server:
        async with await trio.open_tcp_stream(*server.addresses[0]) as stream:
            await stream.send_all(data)
            with contextlib.suppress(trio.BrokenResourceError):
                while await stream.receive_some():
                    pass
    (record,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert reason in record.getMessage()


@pytest.mark.parametrize(
    "frames",
    [
        [b"0", b"ping"],
        [b"x", b"ping", b"auto", b"msgpack", b""],
        [b"99999999999999999999", b"ping", b"auto", b"msgpack", b""],
    ],
    ids=str,
)
async def test_what_is_no_request_ends_the_connection(
    frames: list[bytes], caplog: pytest.LogCaptureFixture
) -> None:
    async with open_server() as server, open_raw(server) as zmtp:
        zmtp.post(frames)
        with pytest.raises(trionet.ConnectionLost):
            await zmtp.receive()
    assert "a request" in caplog.text


def proxy(server: trionet.ObjectServer, object_id: int, reference_id: int, *names: str) -> ProxyReference:
    return ProxyReference(server.address, object_id, reference_id, "", names)


@pytest.mark.parametrize(
    ("action", "serializer", "options", "error", "text"),
    [
        (b"dance", b"msgpack", b"", "ValueError", "unknown action 'dance'"),
        (b"ping", b"pickle", b"", "ValueError", "unknown serializer 'pickle'"),
        (b"get_item", b"msgpack", b"\xc1", "ValueError", "not msgpack"),
        (b"get_item", b"msgpack", b"\x91\x01", "TypeError", "must be a map, not list"),
        (b"call_obj", b"msgpack", b"\x05", "TypeError", "must be a map, not int"),
        (b"get_item", b"msgpack", b"", "TypeError", "'name' is missing"),
        (b"get_item", b"msgpack", PACK.dumps({"name": 5}), "TypeError", "'name' must be a str"),
        (b"get_item", b"msgpack", PACK.dumps({"name": "x"}), "KeyError", "'x'"),
        (b"call_obj", b"msgpack", PACK.dumps({"obj": 5}), "TypeError", "not callable"),
        (b"call_obj", b"msgpack", PACK.dumps({"obj": 5, "args": 5}), "TypeError", "must be a list"),
        (b"delete", b"msgpack", PACK.dumps({"obj_id": 9, "ref_id": 0}), "KeyError", "object 9"),
        (b"delete", b"msgpack", PACK.dumps({"obj_id": "a", "ref_id": 0}), "TypeError", "must be a int"),
        (b"import", b"msgpack", PACK.dumps({"module": "os"}), "PermissionError", "allow_import"),
    ],
    ids=str,
)
async def test_request_that_makes_no_sense_is_answered_with_an_error(
    action: bytes, serializer: bytes, options: bytes, error: str, text: str
) -> None:
    async with open_server() as server, open_raw(server) as zmtp:
        reply = await ask(zmtp, b"7", action, b"auto", serializer, options)
        assert reply.failure is not None
        assert (reply.number, reply.failure.class_name) == (7, error)
        assert text in reply.failure.message
        assert server.statistics().failed_requests == 1
        assert (await ask(zmtp, b"8", b"ping", b"odd", b"msgpack", b"")).value == "pong"
        assert (server.statistics().requests, server.statistics().failed_requests) == (2, 1)


async def test_references_that_are_none_are_no_objects() -> None:
    async with open_server() as server, open_raw(server) as zmtp:
        name = PACK.dumps({"name": "thing"})
        given = await ask(zmtp, b"0", b"get_item", b"auto", b"msgpack", name)
        assert (given.value["obj_id"], given.value["ref_id"]) == (0, 0)
        for reference in (
            proxy(server, 5, 0),
            proxy(server, 0, 5),
            proxy(server, -1, -1),
            proxy(server, 0, 1),
        ):
            for action in (b"get_obj", b"call_obj"):
                options = PACK.dumps({"obj": reference})
                reply = await ask(zmtp, b"1", action, b"auto", b"msgpack", options)
                assert reply.failure is not None
                assert reply.failure.class_name == "KeyError"
        await ask(zmtp, b"2", b"delete", b"auto", b"msgpack", PACK.dumps({"obj_id": 0, "ref_id": 0}))
        options = PACK.dumps({"obj": proxy(server, 0, 0, "add"), "args": [1]})
        reply = await ask(zmtp, b"3", b"call_obj", b"auto", b"msgpack", options)
        assert reply.failure is not None
        assert "released" in reply.failure.message


async def test_proxy_of_another_server_is_passed_through_and_not_called() -> None:
    foreign = ProxyReference("tcp://127.0.0.1:1", 0, 0, "<class 'X'>")
    async with open_server() as server, open_raw(server) as zmtp:
        options = PACK.dumps({"obj": foreign})
        reply = await ask(zmtp, b"0", b"get_obj", b"auto", b"msgpack", options)
        assert PACK.revive(reply.value) == foreign
        reply = await ask(zmtp, b"1", b"call_obj", b"auto", b"msgpack", options)
        assert reply.failure is not None
        assert (reply.failure.class_name, "unrestricted" in reply.failure.message) == (
            "PermissionError",
            True,
        )


async def test_client_that_never_reads_is_left(caplog: pytest.LogCaptureFixture) -> None:
    class Source:
        def data(self) -> bytes:
            return b"x" * 1_000_000

    async with open_server(Source(), max_backlog=4_000_000) as server:
        async with open_raw(server) as zmtp:
            name = PACK.dumps({"name": "thing"})
            await ask(zmtp, b"0", b"get_item", b"auto", b"msgpack", name)
            options = PACK.dumps({"obj": proxy(server, 0, 0, "data")})
            for number in range(50):
                zmtp.post([b"%d" % number, b"call_obj", b"value", b"msgpack", options])
            with trio.fail_after(30):
                while server.connections:
                    await trio.testing.wait_all_tasks_blocked(0.01)
    assert "replies are not read" in caplog.text


async def test_single_reply_may_be_longer_than_the_backlog() -> None:
    async with open_server(max_backlog=1000) as server:
        async with trionet.open_object_client(server.address) as client:
            thing = await client.get("thing")
            assert await thing.echo(b"x" * 3_000_000).as_value() == b"x" * 3_000_000


async def test_client_that_is_gone_holds_nothing() -> None:
    target = Thing()
    async with open_server(target) as server:
        async with open_raw(server) as zmtp:
            name = PACK.dumps({"name": "thing"})
            await ask(zmtp, b"0", b"get_item", b"auto", b"msgpack", name)
            options = PACK.dumps({"obj": proxy(server, 0, 0, "wait")})
            for number in range(10):
                zmtp.post([b"%d" % number, b"call_obj", b"auto", b"msgpack", options])
            await target.started.wait()
        with trio.fail_after(30):
            while server.connections:
                await trio.testing.wait_all_tasks_blocked()
        statistics = server.statistics()
        assert (statistics.requests_in_flight, statistics.objects) == (0, 0)
        assert target.events == ["wait cancelled"] * 10


async def test_server_that_ends_fails_the_calls_in_flight_and_later_ones() -> None:
    async with trio.open_nursery() as nursery:
        server = await nursery.start(trionet.serve_objects, {"thing": Thing()})
        async with trionet.open_object_client(server.address) as client:
            thing = await client.get("thing")
            calls = [thing.wait().start() for _ in range(10)]
            await client.ping()
            server.cancel_scope.cancel()
            with trio.fail_after(30):
                for call in calls:
                    with pytest.raises(trionet.ConnectionLost, match="the server has ended"):
                        await call
                await client.wait_disconnected()
            for use in (lambda: thing.add(1), client.ping, lambda: client.get("thing")):
                with pytest.raises(trionet.ConnectionLost, match="the server has ended"):
                    await use()
            with pytest.raises(trionet.ConnectionLost):
                thing.add(1).no_reply()


async def test_closing_lets_calls_in_flight_finish() -> None:
    target = Thing()
    async with trio.open_nursery() as nursery:
        server = await nursery.start(trionet.serve_objects, {"thing": target})
        async with trionet.open_object_client(server.address) as client:
            thing = await client.get("thing")
            call = thing.wait().start()
            await target.started.wait()
            nursery.start_soon(server.aclose, 30)
            await trio.testing.wait_all_tasks_blocked()
            target.go_on.set()
            assert await call == "wait"
            await client.wait_disconnected()
            assert client.disconnect_reason == "the server has ended"


async def test_client_may_end_a_server_that_allows_it_and_others_are_told() -> None:
    async with trio.open_nursery() as nursery:
        server = await nursery.start(lambda **kw: trionet.serve_objects({}, allow_close=True, **kw))
        async with (
            trionet.open_object_client(server.address) as first,
            trionet.open_object_client(server.address, serializer="json") as second,
        ):
            await first.close_server()
            await second.wait_disconnected()
            assert second.disconnect_reason == "the server has ended"


async def test_ten_thousand_proxies_may_be_dropped_at_once() -> None:
    class Maker:
        def make(self) -> list[object]:
            return [object() for _ in range(10_000)]

    async with open_server(Maker()) as server:
        async with trionet.open_object_client(server.address) as client:
            maker = await client.get("thing")
            made = await maker.make()
            assert server.statistics().objects == 10_001
            del made
            gc.collect()
            with trio.fail_after(30):
                while server.statistics().objects > 1:
                    await client.ping()
            await maker.make()
        with trio.fail_after(30):
            while server.connections:
                await trio.testing.wait_all_tasks_blocked()
        assert server.statistics().objects == 0


async def test_proxies_of_a_client_are_bounded() -> None:
    async with open_server(max_proxies=3) as server:
        async with trionet.open_object_client(server.address) as client:
            thing = await client.get("thing")
            kept = [await thing.new() for _ in range(2)]
            with pytest.raises(RuntimeError, match="max_proxies"):
                await thing.new()
            with pytest.raises(RuntimeError, match="max_proxies"):
                await client.transfer([1])
            await client.delete(kept.pop())
            await thing.new()


async def test_result_that_fails_halfway_leaves_no_references() -> None:
    class Target:
        def half(self) -> list[Any]:
            return [object(), object(), {(1, 2): 3}]

    async with open_server(Target()) as server:
        async with trionet.open_object_client(server.address) as client:
            target = await client.get("thing")
            with pytest.raises(TypeError, match="key of type tuple"):
                await target.half()
            assert server.statistics().objects == 1


async def test_proxy_that_was_passed_on_outlives_the_client_that_did() -> None:
    """The owner's object is used by another server, as its own client."""
    kept: list[Any] = []

    class Keeper:
        async def keep(self, proxy: Any) -> int:
            kept.append(proxy)
            return int(await proxy.add(1))

    async with open_server() as owner, open_server(Keeper()) as other:
        async with (
            trionet.open_object_client(owner.address) as client,
            trionet.open_object_client(other.address) as via,
        ):
            thing, keeper = await client.get("thing"), await via.get("thing")
            assert await keeper.keep(await thing.new()) == 2
            gc.collect()
            await client.ping()
        with trio.fail_after(30):
            while owner.connections > 1:
                await trio.testing.wait_all_tasks_blocked()
        assert await kept[0].add(2) == 3
        kept.clear()


async def test_proxy_that_was_passed_on_is_not_released_behind_the_others_back() -> None:
    kept: list[Any] = []

    class Keeper:
        def keep(self, proxy: Any) -> None:
            kept.append(proxy)

        async def use(self) -> int:
            return int(await kept.pop().add(1))

    async with open_server() as owner, open_server(Keeper()) as other:
        async with (
            trionet.open_object_client(owner.address) as client,
            trionet.open_object_client(other.address) as via,
        ):
            thing, keeper = await client.get("thing"), await via.get("thing")
            await keeper.keep(await thing.new())
            gc.collect()
            await client.ping()
            assert await keeper.use() == 2


async def test_server_that_calls_itself_otherwise_is_connected_to_once() -> None:
    """Its proxies name 127.0.0.1."""
    async with open_server() as server:
        async with trionet.open_object_client(f"tcp://localhost:{server.port}") as client:
            thing = await client.get("thing")
            assert await thing.add(1) == 2
            assert server.statistics().accepted == 1
