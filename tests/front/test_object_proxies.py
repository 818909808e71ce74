"""What can be done with proxies."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import trio
import trio.testing

import trionet
from tests.front.objects import ADDRESS, Thing, open_pair
from trionet.wire.errors import RemoteError

THING = "<class 'tests.front.objects.Thing'>"
BOTH = pytest.mark.parametrize("serializer", ["msgpack", "json"])


@pytest.mark.parametrize(
    "left", [np.arange(3), np.array(1.0), np.float64(2.0)], ids=["array", "0-d", "number"]
)
async def test_numpy_leaves_operators_to_proxies(left: Any) -> None:
    async with open_pair() as (_, thing):
        name, value = await (left + thing)
        assert name == "radd"
        np.testing.assert_array_equal(value, left)


@BOTH
async def test_methods_attributes_items_and_operators(serializer: str) -> None:
    async with open_pair(serializer=serializer) as (client, thing):
        assert await client.get("value") == 42
        assert await thing.add(2, y=5) == 7
        assert await thing.items.get() == [1, 2, 3]
        assert await thing[1] == 2
        assert await thing.child["a"] == 1
        assert await (thing + 7) == ["add", 7]
        assert await (7 + thing) == ["radd", 7]
        assert await (thing < 1) is True
        assert await (-thing) == "neg"
        assert await thing.__len__() == 3
        assert await thing.attribute("get")("x") == "got x"
        assert await thing.sleep(0) == 0


async def test_what_objects_say_of_themselves() -> None:
    """As the documentation of proxies says: by names that proxies use themselves."""
    async with open_pair() as (_, thing):
        items = await thing.items.get().as_proxy()
        assert await items.attribute("__eq__")([1, 2, 3]) is True
        assert await items.attribute("__contains__")(2) is True
        assert await items.__len__() == 3


async def test_operators_that_the_object_does_not_support() -> None:
    """Python would ask the other operand then; here it would get a proxy to NotImplemented, which is true."""
    async with open_pair() as (_, thing):
        number = await thing.add(1, y=2).as_proxy()
        assert await (number + 1) == 4
        operations: list[Callable[[], trionet.ObjectCall]] = [
            lambda: number + 1.5,
            lambda: number < 1.5,
            lambda: "x" + number,
        ]
        for unsupported in operations:
            with pytest.raises(TypeError, match=r"does not support .*: await p\.get\(\)"):
                await unsupported()
            pending = unsupported().start()
            for _ in range(2):
                with pytest.raises(TypeError, match="does not support"):
                    await pending
        found = await number.attribute("__add__")(1.5)  # a method like others
        assert "NotImplementedType" in repr(found)


@BOTH
async def test_arrays_travel_both_ways(serializer: str) -> None:
    array = np.arange(100_000, dtype=">f8").reshape(100, 1000)
    async with open_pair(serializer=serializer) as (_, thing):
        back = await thing.echo(array)
        assert back.dtype == array.dtype
        assert (back == array).all()


async def test_assigning_is_awaited_or_sent_without_reply() -> None:
    target = Thing()
    async with open_pair(target) as (client, thing):
        await thing.power.set(2.0)
        assert target.power == 2.0
        thing.power = 3.0
        thing[0] = 9
        del thing[1]
        del thing.child
        await client.ping()
        assert (target.power, target.items) == (3.0, [9, 3])
        assert not hasattr(target, "child")
        with pytest.raises(TypeError, match="no attribute that could be assigned"):
            thing.set(5)


async def test_return_type_is_for_the_caller_to_choose() -> None:
    async with open_pair() as (client, thing):
        items = await thing.items.get().as_proxy()
        assert isinstance(items, trionet.ObjectProxy)
        await items.append(4)
        assert await thing.items.get() == [1, 2, 3, 4]
        assert isinstance(await thing.echo(b"x"), trionet.ObjectProxy)
        assert await thing.echo(b"x").as_value() == b"x"
        copy = await client.transfer([1, 2])
        assert await copy[1] == 2
        assert await client.get_obj(copy) == [1, 2]
        assert await client.get_obj([1, copy]) == [1, [1, 2]]
        assert await client.call_obj(thing.add, [1], {"y": 2}) == 3


async def test_proxies_of_the_servers_own_objects_arrive_there_as_these() -> None:
    target: Any = Thing()
    received: list[Any] = []
    target.take = received.append
    async with open_pair(target) as (_, thing):
        await thing.take([thing, {"power": thing.power}])
    assert received == [[target, {"power": 1.0}]]


async def test_equality_hash_and_repr_ask_nobody() -> None:
    async with open_pair() as (client, thing):
        again = await thing.itself()
        requests = await client.get("value")
        assert again == thing
        assert again is not thing
        assert hash(again) == hash(thing)
        assert thing.a.b == again.a.b != thing.a
        assert thing != 5
        assert thing != await thing.new()
        assert repr(thing.power) == f"<ObjectProxy for {ADDRESS}[0] {THING}.power>"
        assert requests == 42


async def test_what_cannot_be_awaited_is_not_offered() -> None:
    async with open_pair() as (_, thing):
        for operation in (iter, list, len, int, lambda proxy: 1 in proxy):
            with pytest.raises(TypeError):
                operation(thing)
        with pytest.raises(AttributeError, match=r"attribute\('_hidden'\)"):
            _ = thing._hidden
        call = thing.add(1)
        with pytest.raises(TypeError, match="has to be awaited"):
            bool(call)
        assert await call == 2
        with pytest.raises(RuntimeError, match="was sent already"):
            await call


def drop(_: object) -> None:
    """Nothing else knows it."""


async def test_call_that_was_forgotten_is_noticed() -> None:
    async with open_pair() as (_, thing):
        with pytest.warns(RuntimeWarning, match="never awaited"):
            drop(thing.add(1))


async def test_calls_are_started_now_and_awaited_later() -> None:
    async with open_pair() as (_, thing):
        first, second = thing.add(1, 2).start(), thing.add(3, 4).start()
        assert not first.done
        with pytest.raises(TypeError, match="has to be awaited"):
            bool(first)
        assert await second == 7
        assert await first == 3
        assert await first == 3
        assert first.done
        failing = thing.fail().start()
        for _ in range(2):
            with pytest.raises(ValueError, match="no"):
                await failing


async def test_no_reply_means_none_not_even_an_error(caplog: pytest.LogCaptureFixture) -> None:
    target = Thing()
    async with open_pair(target) as (client, thing):
        thing.note("x").no_reply()
        thing.fail().no_reply()
        await client.ping()
        assert target.events == ["x"]
    (record,) = caplog.records
    assert "without reply failed" in record.getMessage()


async def test_exceptions_come_with_place_and_traceback() -> None:
    async with open_pair() as (client, thing):
        with pytest.raises(ValueError, match=r"^no\b") as caught:
            await thing.fail()
        call = caught.value.call  # type: ignore[attr-defined]
        assert (call.peer, call.method) == (ADDRESS, "<class 'tests.front.objects.Thing'>.fail")
        assert "in fail" in "".join(call.remote_traceback)
        with pytest.raises(KeyError, match="nothing there"):
            await client.get("nothing there")
        with pytest.raises(AttributeError, match="no_such"):
            await thing.no_such()
        await thing.attribute("echo")()


async def test_exception_that_is_no_builtin_is_a_remote_error() -> None:
    class OddError(Exception):
        pass

    class Odd:
        def fail(self) -> None:
            raise OddError("text")

    async with open_pair(Odd()) as (_, thing):
        with pytest.raises(RemoteError, match="OddError: text") as caught:
            await thing.fail()
        assert caught.value.class_name == "OddError"


async def test_what_cannot_be_sent_is_an_error_here_and_nothing_is_sent() -> None:
    async with open_pair() as (_, thing):
        for argument, error in [(object(), TypeError), ({1, 2}, TypeError), ("\ud800", ValueError)]:
            with pytest.raises(error):
                await thing.echo(argument)
        assert await thing.echo(1) == 1


async def test_result_that_cannot_be_sent_is_an_error_of_the_call() -> None:
    class Target:
        def text(self) -> list[Any]:
            return [object(), "\ud800"]

    async with open_pair(Target()) as (_, thing):
        with pytest.raises((UnicodeError, ValueError, RemoteError)):
            await thing.text()


async def test_proxy_is_released_when_nothing_uses_it() -> None:
    released = trio.Event()

    class Guarded:
        def __del__(self) -> None:
            released.set()

    class Maker:
        def make(self) -> Guarded:
            return Guarded()

    async with open_pair(Maker()) as (_, maker):
        made = await maker.make()
        chain = made.a.b
        del made
        gc.collect()
        await trio.testing.wait_all_tasks_blocked()
        assert not released.is_set()
        del chain
        gc.collect()
        await trio.testing.wait_all_tasks_blocked()
        assert released.is_set()


async def test_proxy_can_be_released_by_hand_once() -> None:
    async with open_pair() as (client, thing):
        other, again = await thing.new(), await thing.itself()
        await client.delete(other)
        with pytest.raises(KeyError, match="released"):
            await other.add(1)
        with pytest.raises(KeyError, match="released"):
            await client.delete(other)
        await client.delete(again)
        assert await thing.add(1) == 2


async def test_reply_to_a_cancelled_call_is_discarded_and_its_proxy_released() -> None:
    released = trio.Event()

    class Guarded:
        def __del__(self) -> None:
            released.set()

    class Maker:
        def __init__(self) -> None:
            self.go_on = trio.Event()

        async def make(self) -> Guarded:
            await self.go_on.wait()
            return Guarded()

        def echo(self, value: int) -> int:
            return value

    target = Maker()
    async with open_pair(target) as (_, maker):
        with trio.move_on_after(0):
            await maker.make()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(maker.make().start().wait)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        target.go_on.set()
        assert await maker.echo(5) == 5
        await trio.testing.wait_all_tasks_blocked()
        gc.collect()
        await trio.testing.wait_all_tasks_blocked()
        assert released.is_set()
