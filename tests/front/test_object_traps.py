"""What clients could do with values that they bring along, or with proxies of others, and may not."""

from __future__ import annotations

import functools
from collections import UserString
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trio

import trionet
from tests.front.objects import Thing, open_pair

Use = Callable[[Any, Path], Awaitable[Any]]

ARRAY = np.arange(5)
RECORDS = np.zeros(2, [("a", "i4"), ("b", "i4")])

TRAPS: list[tuple[str, Any, Use]] = [
    ("tofile", ARRAY, lambda array, path: array.tofile(str(path))),
    ("dump", ARRAY, lambda array, path: array.dump(str(path))),
    ("resize", ARRAY, lambda array, path: array.resize(0, refcheck=False)),
    ("ctypes", ARRAY, lambda array, path: array.ctypes.data.get()),
    ("a scalar", ARRAY, lambda array, path: _of_a_scalar(array, path)),
    ("strides", ARRAY, lambda array, path: array.strides.set([8])),
    ("names", RECORDS, lambda array, path: array.dtype.names.set(["b", "a"])),
    ("format", "{0.__class__}", lambda text, path: text.format(1)),
    ("format_map", "{a.__class__}", lambda text, path: text.format_map({"a": 1})),
]


async def _of_a_scalar(array: Any, path: Path) -> None:
    scalar = await array.dtype.type(1).as_proxy()
    await scalar.tofile(str(path))


@pytest.mark.parametrize(("value", "use"), [trap[1:] for trap in TRAPS], ids=[trap[0] for trap in TRAPS])
async def test_copies_that_clients_bring_along_are_no_tools(value: Any, use: Use, tmp_path: Path) -> None:
    async with open_pair() as (client, _):
        with pytest.raises(PermissionError, match="unrestricted=True"):
            await use(await client.transfer(value), tmp_path / "written")
    assert not (tmp_path / "written").exists()


async def test_unrestricted_servers_let_arrays_write_files(tmp_path: Path) -> None:
    async with open_pair(unrestricted=True) as (client, _):
        await (await client.transfer(ARRAY)).tofile(str(tmp_path / "written"))
    assert (tmp_path / "written").read_bytes() == ARRAY.tobytes()


@pytest.mark.parametrize("kind", [str, UserString])
async def test_methods_of_types_take_any_object(kind: type) -> None:
    thing: Any = Thing()
    thing.kind = kind
    async with open_pair(thing) as (_, proxy):
        with pytest.raises(PermissionError, match="'format' of a"):
            await proxy.kind.format("{0.add.__globals__}", proxy)


@pytest.mark.parametrize("arguments", [(), (5, 6)], ids=["none", "a number"])
async def test_attributes_are_changed_by_their_names(arguments: tuple[int, ...]) -> None:
    async with open_pair() as (_, thing):
        with pytest.raises(TypeError, match="the name of an attribute"):
            await thing.attribute("__setattr__")(*arguments)


async def test_server_is_no_relay_to_the_attributes_of_another_one() -> None:
    """A proxy may be put somewhere, and be read from there. It is for the objects themselves to use it."""
    async with trio.open_nursery() as nursery:
        far = await nursery.start(trionet.serve_objects, {"thing": Thing()})
        near = await nursery.start(trionet.serve_objects, {"thing": Thing()})
        async with (
            trionet.open_object_client(far.address) as to_far,
            trionet.open_object_client(near.address) as to_near,
        ):
            secret, thing = await to_far.get("thing"), await to_near.get("thing")
            await thing.child.set(secret)
            assert await thing.child.get() == secret
            for call in (
                thing.child.add(1),
                thing.child(),
                thing.child.attribute("__add__")(1),
                thing.child.power.set(2.0),
                thing.child.power.get(),
            ):
                with pytest.raises(PermissionError, match="object of another server"):
                    await call
            assert far.accepted == 1
            assert await thing.call(secret.add, 1) == 2
        nursery.cancel_scope.cancel()


# Each of them asks the other side of an operator, where that of its own does not know what to do.
RELAYS: list[tuple[str, Any, Callable[[Any, Any], Any]]] = [
    ("a list", [1.0], lambda values, secret: values.__lt__([secret])),
    ("items", np.array([1.0]), lambda array, secret: _put_and_sum(array, secret)),
]


async def _put_and_sum(array: Any, secret: Any) -> Any:
    objects = await array.astype("O").as_proxy()
    await objects.attribute("__setitem__")(0, secret)
    return await objects.sum(initial=1)


@pytest.mark.parametrize(
    ("value", "use"), [relay[1:] for relay in RELAYS], ids=[relay[0] for relay in RELAYS]
)
async def test_values_that_clients_bring_along_call_no_other_server(
    value: Any, use: Callable[[Any, Any], Any]
) -> None:
    async with trio.open_nursery() as nursery:
        far = await nursery.start(trionet.serve_objects, {"thing": Thing()})
        near = await nursery.start(trionet.serve_objects, {})
        async with (
            trionet.open_object_client(far.address) as to_far,
            trionet.open_object_client(near.address) as to_near,
        ):
            secret = await to_far.get("thing")
            with pytest.raises(PermissionError, match="object of another server"):
                await use(await to_near.transfer(value), secret)
            assert far.accepted == 1
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("way", ["a method", "its __call__", "an object", "a partial function"])
async def test_code_of_the_program_calls_other_servers(way: str) -> None:
    """It need not be asynchronous: what it has begun is awaited."""

    class Adder:
        def __call__(self, thing: Any) -> Any:
            return thing.add(1)

    thing: Any = Thing()
    thing.adder = Adder()
    thing.partial = functools.partial(Adder().__call__)
    async with trio.open_nursery() as nursery:
        far = await nursery.start(trionet.serve_objects, {"thing": Thing()})
        near = await nursery.start(trionet.serve_objects, {"thing": thing})
        async with (
            trionet.open_object_client(far.address) as to_far,
            trionet.open_object_client(near.address) as to_near,
        ):
            secret, proxy = await to_far.get("thing"), await to_near.get("thing")
            calls = {
                "a method": lambda: proxy.begin(secret),
                "its __call__": lambda: proxy.begin.attribute("__call__")(secret),
                "an object": lambda: proxy.adder(secret),
                "a partial function": lambda: proxy.partial(secret),
            }
            assert await calls[way]() == 2
        nursery.cancel_scope.cancel()
