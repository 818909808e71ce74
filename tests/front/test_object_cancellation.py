"""Calls of remote objects cancelled at every single await, and servers that end there.

As in `test_cancellation`. Here a connection survives all of it, and no reference is left behind.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest
import trio
import trio.testing

import trionet
from tests.front.objects import Thing
from tests.front.test_cancellation import CancelAtStep, cancel_at

LARGE = "x" * 1_000_000


class Target(Thing):
    async def later(self, value: Any) -> Any:
        for _ in range(3):
            await trio.lowlevel.checkpoint()
        return value

    def several(self) -> list[Any]:
        return [Thing(), [Thing()], {"a": Thing()}]


@dataclass
class Lab:
    """What a test uses.

    Attributes:
        thing: A proxy to the target.
        server: The server of the target.
        ours: The server of the client.
        far: A proxy, of the client, to a thing of a third server, to which it is not connected.
    """

    client: trionet.ObjectClient
    thing: Any
    server: trionet.ObjectServer
    ours: trionet.ObjectServer
    far: Any


@contextlib.asynccontextmanager
async def open_lab(sync_methods: Any = "inline") -> AsyncIterator[Lab]:
    async with trio.open_nursery() as nursery:
        far = await nursery.start(trionet.serve_objects, {"thing": Thing()})
        ours = await nursery.start(trionet.serve_objects, {})
        server = await nursery.start(
            lambda **kw: trionet.serve_objects({"thing": Target()}, sync_methods=sync_methods, **kw)
        )
        async with trionet.open_object_client(far.address) as holder:
            thing_far = await holder.get("thing")
            async with trionet.open_object_client(server.address, server=ours) as client:
                thing = await client.get("thing")
                await thing.child.set(thing_far)
                yield Lab(client, thing, server, ours, await thing.child.get())
        nursery.cancel_scope.cancel()


def local() -> int:
    return 5


CALLS: dict[str, Callable[[Lab], Awaitable[Any]]] = {
    "small": lambda lab: lab.thing.add(1),
    "large request": lambda lab: lab.thing.add(LARGE, "y"),
    "large reply": lambda lab: lab.thing.items.__mul__(100_000),
    "proxies": lambda lab: lab.thing.several(),
    "asynchronous": lambda lab: lab.thing.later(Thing),
    "call back": lambda lab: lab.thing.call(local),
    "another server": lambda lab: lab.far.add(1),
    "release": lambda lab: _release(lab),
}


async def _release(lab: Lab) -> None:
    await lab.client.delete(await lab.thing.new())


@pytest.mark.parametrize("name", CALLS)
async def test_one_call_cancelled_everywhere(name: str) -> None:
    positions = 0
    async with open_lab() as lab:
        for step in range(1000):
            cancelled, reached = await cancel_at(step, lambda: CALLS[name](lab))
            positions += cancelled
            with trio.fail_after(60):
                assert await lab.thing.add(step) == step + 1
                assert await lab.thing.call(local) == 5
                if name == "another server":
                    assert await lab.far.add(step) == step + 1
            if not reached:
                break
        assert not reached
        assert positions >= 2
        with trio.fail_after(60):
            while lab.server.statistics().objects > 1:
                gc.collect()
                await trio.testing.wait_all_tasks_blocked()
                await lab.client.ping()
        assert lab.server.statistics().requests_in_flight == 0
        assert len(lab.client._connection._pending) == 0


async def test_cancelled_block_is_cancelled_also_where_the_connection_is_lost_first() -> None:
    """A task that had not begun its call finds a connection whose tasks were cancelled already."""
    async with open_lab() as lab:
        await lab.server.aclose()
        await lab.client.wait_disconnected()
        for call in (lab.thing.add(1), lab.client.ping(), lab.client.get("thing")):
            with trio.CancelScope() as scope:
                scope.cancel()
                await call
            assert scope.cancelled_caught


@pytest.mark.parametrize("sync_methods", ["inline", "thread"])
@pytest.mark.parametrize("name", ["small", "large request", "large reply", "asynchronous", "call back"])
async def test_server_that_ends_anywhere(name: str, sync_methods: str) -> None:
    """Whoever waits is told so, at once, or has the result."""
    for step in range(0, 1000, 1 if sync_methods == "inline" else 3):
        async with open_lab(sync_methods) as lab:
            reached = await _end_at(step, lambda: CALLS[name](lab), lab.server)  # awaited here
        if not reached:
            break
    assert not reached


async def _end_at(step: int, call: Callable[[], Awaitable[Any]], server: trionet.ObjectServer) -> bool:
    """Call, and end the server at the n-th step of any task. Returns whether there was an n-th step."""

    instrument = CancelAtStep(server.cancel_scope, step)
    trio.lowlevel.add_instrument(instrument)
    try:
        with trio.fail_after(60), contextlib.suppress(trionet.ConnectionLost):
            await call()
    finally:
        trio.lowlevel.remove_instrument(instrument)
    return instrument.steps_left <= 0
