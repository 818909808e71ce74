"""What front ends offer to code that brings its own calls, connections, or changes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import trio

import trionet
from trionet._connect import connector
from trionet._transport import Transport
from trionet.testing import open_memory_rpc_client
from trionet.wire.lines import MAX_MESSAGE_SIZE

pytestmark = pytest.mark.usefixtures("autojump_clock")


class Target:
    def double(self, value: int) -> int:
        return 2 * value

    async def double_async(self, value: int) -> int:
        await trio.lowlevel.checkpoint()
        return 2 * value


class Closable:
    """A result to wait for, that has to be closed."""

    def __init__(self, result: Any) -> None:
        self.result = result
        self.closed = 0

    def __await__(self) -> Any:
        return self._wait().__await__()

    async def _wait(self) -> Any:
        await trio.lowlevel.checkpoint()
        return self.result

    def close(self) -> None:
        self.closed += 1


@pytest.mark.parametrize("sync_methods", ["inline", "thread"])
@pytest.mark.parametrize("method", ["double", "double_async"])
async def test_every_call_goes_through_the_hook(
    method: str, sync_methods: Any, nursery: trio.Nursery
) -> None:
    seen: list[Any] = []

    def call_method(function: Callable[..., Any], args: Any, kwargs: dict[str, Any]) -> Any:
        seen.append((function.__name__, [*args], kwargs))
        return function(*args, **kwargs)

    server = await nursery.start(
        partial(trionet.serve_rpc, call_method=call_method, sync_methods=sync_methods), {"t": Target()}, 0
    )
    async with trionet.open_rpc_client("127.0.0.1", server.port) as client:
        assert await client.call(method, 21) == 42
        assert await client.call(method, value=2) == 4
    assert seen == [(method, [21], {}), (method, [], {"value": 2})]
    await server.aclose()


async def test_the_hook_of_a_single_stream() -> None:
    async with open_memory_rpc_client(
        {"t": Target()}, call_method=lambda function, args, kwargs: [function.__name__, *args]
    ) as client:
        assert await client.call("double", 21) == ["double", 21]


async def test_what_the_hook_gives_to_wait_for_is_closed(nursery: trio.Nursery) -> None:
    made: list[Closable] = []

    def call_method(function: Callable[..., Any], args: Any, kwargs: dict[str, Any]) -> Any:
        made.append(Closable(function(*args, **kwargs)))
        return made[-1]

    server = await nursery.start(partial(trionet.serve_rpc, call_method=call_method), {"t": Target()}, 0)
    async with trionet.open_rpc_client("127.0.0.1", server.port) as client:
        assert await client.call("double", 21) == 42
    assert [one.closed for one in made] == [1]
    await server.aclose()


async def test_a_change_that_is_made_elsewhere_is_published(nursery: trio.Nursery) -> None:
    structure: dict[str, int] = {}
    publisher = await nursery.start(trionet.serve_publisher, {"n": trionet.Notifier(structure)}, 0)
    sink = publisher.sink("n")
    async with trionet.open_subscription("127.0.0.1", publisher.port, "n") as subscription:
        mod = {"action": "setitem", "path": [], "key": "key", "value": 1}
        prepared = sink.prepare(mod)
        structure["key"] = 1
        sink.publish(prepared)
        assert await subscription.wait_value(bool) == {"key": 1}
    with pytest.raises(KeyError):
        publisher.sink("other")
    await publisher.aclose()


async def test_feeds_over_connections_of_ones_own(nursery: trio.Nursery) -> None:
    notifier, broadcaster = trionet.Notifier({"key": 1}), trionet.Broadcaster()
    publisher = await nursery.start(trionet.serve_publisher, {"n": notifier}, 0)
    server = await nursery.start(trionet.serve_broadcaster, broadcaster, 0)

    async def connect(port: int) -> Transport:
        connected.append(port)
        return await connector("127.0.0.1", port)()

    connected: list[int] = []
    options: dict[str, Any] = {"peer": "p", "backoff": None, "pyon_version": 2}
    subscription = trionet.Subscription(
        partial(connect, publisher.port),
        name="n",
        build=lambda structure: structure,
        on_mod=None,
        answer_timeout=1.0,
        max_message_size=MAX_MESSAGE_SIZE,
        **options,
    )
    async with subscription.running():
        assert subscription.value == {"key": 1}
    receiver = trionet.BroadcastReceiver(
        partial(connect, server.port), channel="c", max_message_size=MAX_MESSAGE_SIZE, **options
    )
    async with receiver.running():
        await broadcaster.wait_receivers("c")
        broadcaster.broadcast("c", 1)
        assert await anext(receiver) == 1
    assert connected == [publisher.port, server.port]
    nursery.cancel_scope.cancel()
