"""Who may release which reference, and how many there can be."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio
import trio.testing

import trionet
from tests.front.objects import Thing
from tests.network.test_object_faults import PACK, ask, open_raw, open_server, proxy


@contextlib.asynccontextmanager
async def open_both(**options: Any) -> AsyncIterator[tuple[trionet.ObjectServer, Any]]:
    """A server of this side, with these options, and a proxy to a thing of another one, which knows it."""
    async with trio.open_nursery() as nursery:
        ours = await nursery.start(lambda **kw: trionet.serve_objects({}, **options, **kw))
        theirs = await nursery.start(trionet.serve_objects, {"thing": Thing()})
        async with trionet.open_object_client(theirs.address, server=ours) as client:
            yield ours, await client.get("thing")
        nursery.cancel_scope.cancel()


async def test_function_that_is_passed_again_and_again_is_one_reference() -> None:
    """Nobody says when an argument is of no more use to the other side."""

    class Local:
        def one(self) -> int:
            return 1

        def two(self) -> int:
            return 2

    async with open_both(max_proxies=3) as (ours, thing):
        local = Local()
        for _ in range(4):
            assert await thing.call(local.one) == 1
            assert await thing.call(local.two) == 2
        assert ours.statistics().objects == 2
        with pytest.raises(RuntimeError, match="max_proxies"):
            await thing.echo([object(), object()])
        assert await thing.call(Local().two) == 2
        assert ours.statistics().objects == 3


async def test_server_on_all_interfaces_tells_others_an_address_that_leads_to_it() -> None:
    class Target:
        async def call(self, proxy: Any) -> str:
            return f"{proxy} {await proxy()}"

    async with open_server(Target()) as theirs, open_server(address="tcp://*:*") as ours:
        assert ours.address.startswith("tcp://0.0.0.0:")
        async with trionet.open_object_client(theirs.address, server=ours) as client:
            target = await client.get("thing")
            said = await target.call(lambda: "called")
            assert said.startswith(f"<ObjectProxy for tcp://127.0.0.1:{ours.port}[0]")
            assert said.endswith("called")


async def test_nothing_is_kept_of_servers_that_were_connected_to() -> None:
    async with open_server() as owner, open_server() as other:
        async with trionet.open_object_client(owner.address) as client:
            thing = await client.get("thing")
            async with trionet.open_object_client(other.address) as second:
                await thing.child.set(await second.get("thing"))
            foreign = await thing.child.get()

            async def add() -> None:
                with contextlib.suppress(KeyError):  # its client has gone
                    await foreign.add(1)

            async with trio.open_nursery() as nursery:
                for _ in range(3):
                    nursery.start_soon(add)
            links = foreign._sender
            assert links._opening == {}
            assert set(links._connections) == {owner.address, other.address}


async def test_what_is_lent_to_one_is_not_lent_to_another() -> None:
    """Two connections of ours hold it, each with a reference of its own."""
    local = Thing()
    async with open_both() as (ours, thing):
        async with trionet.open_object_client(thing_address(thing), server=ours) as second:
            other = await second.get("thing")
            await other.items.append(local)
            await thing.items.append(local)
        assert ours.statistics().objects == 1
        assert await thing.echo(local) is local


def thing_address(thing: Any) -> str:
    return repr(thing).split("[")[0].removeprefix("<ObjectProxy for ")


@pytest.mark.parametrize("way", ["collected", "deleted"])
async def test_proxy_that_went_through_two_connections_is_released_at_both(way: str) -> None:
    async with open_server() as server:
        async with (
            trionet.open_object_client(server.address) as client,
            trionet.open_object_client(server.address) as second,
        ):
            value = await client.transfer([1])
            other = await second.get("thing")
            assert await other.add(value, [2]) == [1, 2]
            if way == "deleted":
                await client.delete(value)
            del value
            gc.collect()
            await trio.testing.wait_all_tasks_blocked()
            await client.ping()
            await second.ping()
            assert server.statistics().objects == 1


async def test_proxy_of_another_server_is_not_released_by_its_numbers() -> None:
    async with open_server() as one, open_server() as other:
        async with (
            trionet.open_object_client(one.address) as client,
            trionet.open_object_client(other.address) as second,
        ):
            mine, theirs = await client.get("thing"), await second.get("thing")
            with pytest.raises(ValueError, match="another server"):
                await client.delete(theirs)
            assert await mine.add(1) == 2
            assert await theirs.add(1) == 2


async def test_release_that_was_cancelled_happens_when_the_proxy_is_collected() -> None:
    async with open_server() as server, trionet.open_object_client(server.address) as client:
        thing = await client.get("thing")
        with trio.CancelScope() as scope:
            scope.cancel()
            await client.delete(thing)
        assert await thing.add(1) == 2
        del thing
        gc.collect()
        await trio.testing.wait_all_tasks_blocked()
        await client.ping()
        assert server.statistics().objects == 0


async def test_references_of_others_count_too() -> None:
    """Numbers can be guessed: who uses a reference holds it, and is bounded as everybody."""
    async with open_server(max_proxies=2) as server:
        async with (
            trionet.open_object_client(server.address) as client,
            trionet.open_object_client(server.address) as second,
            open_raw(server) as zmtp,
        ):
            kept = [await one.transfer([n]) for n, one in enumerate((client, client, second))]
            for number in (0, 1, 0):
                options = {"obj": proxy(server, number, number)}
                reply = await ask(zmtp, b"1", b"get_obj", b"auto", b"msgpack", PACK.dumps(options))
                assert reply.failure is None
            options = {"obj": proxy(server, 2, 2)}
            reply = await ask(zmtp, b"1", b"get_obj", b"value", b"msgpack", PACK.dumps(options))
            assert reply.failure is not None
            assert "max_proxies" in reply.failure.message
            numbers = {"obj_id": 2, "ref_id": 2}
            reply = await ask(zmtp, b"2", b"delete", b"auto", b"msgpack", PACK.dumps(numbers))
            assert reply.failure is not None
            assert reply.failure.class_name == "KeyError"
            assert await kept[2].get() == [2]


async def test_object_may_send_others_when_it_ends() -> None:
    """It is deleted where references are counted, and needs one more for its last words."""
    heard: list[Any] = []

    class Last:
        def __init__(self, listener: Any) -> None:
            self.listener = listener

        def __del__(self) -> None:
            heard.append(type(self.listener))
            self.listener.note(object()).no_reply()

    async with open_both() as (ours, listener):
        ours.namespace["new"] = lambda: Last(listener)
        async with trionet.open_object_client(ours.address) as client:
            new = await client.get("new")
            await client.delete(await new())
            assert heard == [trionet.ObjectProxy]
            await client.ping()
