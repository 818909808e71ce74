"""Callbacks of a subscription, structures of the user's own, and the exceptions of both."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing

import trionet
from tests.front.feeds import Network, Script, publishing, settle, subscribed
from tests.front.test_subscription import init, line, only_link, set_a
from trionet import Notifier
from trionet._backoff import Backoff


async def test_the_callback_sees_each_mod_when_the_value_has_changed() -> None:
    notifier = Notifier({"a": 0})
    network = Network()
    seen: list[tuple[str, Any]] = []

    def note(mod: trionet.Mod) -> None:
        value = holder[0].value if holder else None
        seen.append((mod["action"], dict(value) if value is not None else None))

    holder: list[trionet.Subscription] = []
    async with publishing({"it": notifier}, network, max_backlog=200):
        async with subscribed(network.connect, on_mod=note) as subscription:
            holder.append(subscription)
            notifier["a"] = 1
            notifier["a"] = 2
            await settle()
            for number in range(100):
                notifier["a"] = number
            await settle()
    assert seen == [
        ("init", None),
        ("setitem", {"a": 1}),
        ("setitem", {"a": 2}),
        ("init", {"a": 99}),
    ]


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("reconnect", [True, False])
async def test_a_callback_that_raises_ends_the_block_with_its_exception(first: bool, reconnect: bool) -> None:
    script = Script(init({}))

    def fail(mod: trionet.Mod) -> None:
        if first or mod["action"] != "init":
            raise ZeroDivisionError("mine")

    backoff = Backoff() if reconnect else None
    with pytest.raises(ZeroDivisionError, match="mine"):
        async with subscribed(script.connect, on_mod=fail, backoff=backoff):
            assert not first
            only_link(script).down.put(set_a(1))
            await trio.sleep_forever()
    assert only_link(script).closed
    assert len(script.attempts) == 1


async def test_a_callback_that_raises_while_the_block_has_tasks_of_its_own() -> None:
    script = Script(init({}))

    def fail(mod: trionet.Mod) -> None:
        if mod["action"] != "init":
            raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        async with subscribed(script.connect, on_mod=fail) as subscription, trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            nursery.start_soon(subscription.wait_value, lambda value: False)
            await settle()
            only_link(script).down.put(set_a(1))
            await trio.sleep_forever()


async def test_a_callback_that_raises_while_all_is_cancelled() -> None:
    """The exception is not lost, and nothing else comes with it."""
    script = Script(init({}))
    outer = trio.CancelScope()

    def fail(mod: trionet.Mod) -> None:
        if mod["action"] != "init":
            outer.cancel()
            raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        with outer:
            async with subscribed(script.connect, on_mod=fail), trio.open_nursery() as nursery:
                nursery.start_soon(trio.sleep_forever)
                await settle()
                only_link(script).down.put(set_a(1))
                await trio.sleep_forever()


@pytest.mark.parametrize("reconnect", [True, False])
async def test_an_exception_of_a_callback_is_not_taken_for_one_of_the_connection(
    reconnect: bool, autojump_clock: trio.testing.MockClock
) -> None:
    script = Script(init({}))
    send, receive = trio.open_memory_channel[trionet.Mod](10)
    receive.close()
    with trio.fail_after(100), pytest.raises(trio.BrokenResourceError):
        backoff = Backoff() if reconnect else None
        async with subscribed(script.connect, on_mod=send.send_nowait, backoff=backoff):
            await trio.sleep_forever()
    assert len(script.attempts) == 1


async def test_a_callback_that_changes_what_it_follows() -> None:
    notifier = Notifier({"wanted": 0, "done": 0})
    network = Network()

    def follow(mod: trionet.Mod) -> None:
        if mod.get("key") == "wanted":
            notifier["done"] = mod["value"]

    async with publishing({"it": notifier}, network):
        async with (
            subscribed(network.connect, on_mod=follow) as subscription,
            subscribed(network.connect) as other,
        ):
            for number in range(1, 20):
                notifier["wanted"] = number
                if number % 3 == 0:
                    await settle()
            await subscription.wait_value(lambda value: value["done"] == 19)
            await settle()
            assert notifier.raw_view == {"wanted": 19, "done": 19}
            assert subscription.value == other.value == notifier.raw_view


async def test_others_have_their_turn_while_much_comes_at_once() -> None:
    script = Script(init({}))
    turns = 0
    seen: list[int] = []

    async def take_turns() -> None:
        nonlocal turns
        while len(seen) < 901:
            turns += 1
            await trio.lowlevel.checkpoint()

    async with subscribed(script.connect, on_mod=lambda mod: seen.append(turns)):
        only_link(script).down.put(b"".join(set_a(number) for number in range(900)))
        await take_turns()
    assert len(set(seen)) > 4


# -- building -------------------------------------------------------------------------------------------


class Queue:
    """A structure of the user's own, which takes the mods that a list takes."""

    made = 0

    def __init__(self, items: list[Any]) -> None:
        Queue.made += 1
        self.items = dict(enumerate(items))

    def append(self, item: Any) -> None:
        self.items[len(self.items)] = item

    def __setitem__(self, key: int, value: Any) -> None:
        self.items[key] = (value, "set")

    def __getitem__(self, key: int) -> Any:
        return self.items[key]


async def test_a_structure_of_the_users_own() -> None:
    notifier = Notifier(["a", ["b"]])
    network = Network()
    Queue.made = 0
    async with publishing({"it": notifier}, network, max_backlog=200):
        async with subscribed(network.connect, build=Queue) as subscription:
            queue = subscription.value
            assert isinstance(queue, Queue)
            assert queue.items == {0: "a", 1: ["b"]}
            notifier.append("c")
            notifier[0] = "d"
            notifier[1].append("e")
            assert await subscription.wait_value(lambda value: value[1] == ["b", "e"]) is queue
            assert queue.items == {0: ("d", "set"), 1: ["b", "e"], 2: "c"}
            for _ in range(20):
                notifier.append("f")
            await settle()
            assert Queue.made == 2
            assert len(subscription.value.items) == 23


@pytest.mark.parametrize("calls", [1, 2])
async def test_a_builder_that_raises_ends_the_block_with_its_exception(calls: int) -> None:
    script = Script(init({}))
    left = calls

    def build(structure: Any) -> Any:
        nonlocal left
        left -= 1
        if not left:
            raise ZeroDivisionError("mine")
        return structure

    with pytest.raises(ZeroDivisionError, match="mine"):
        async with subscribed(script.connect, build=build):
            only_link(script).down.put(init({}))
            await trio.sleep_forever()
    assert only_link(script).closed


async def test_a_structure_of_the_users_own_that_raises() -> None:
    """The exception is the user's, not taken for the publisher's fault."""
    script = Script(init([]))
    with pytest.raises(AttributeError, match="insert"):
        async with subscribed(script.connect, build=Queue):
            only_link(script).down.put(line("insert", path=[], i=0, x=1))
            await trio.sleep_forever()


@pytest.mark.parametrize("name", ["build", "on_mod"])
async def test_functions_that_would_have_to_be_awaited(name: str) -> None:
    async def later(_: Any) -> None: ...

    options: dict[str, Any] = {name: later}
    with pytest.raises(TypeError, match="not async"):
        async with trionet.open_subscription("127.0.0.1", 1, "it", **options):
            pass


@pytest.mark.parametrize("loop", [False, True])
@pytest.mark.parametrize("reconnect", [False, True])
async def test_a_protocol_error_of_a_callback_is_not_taken_for_one_of_the_publisher(
    reconnect: bool, loop: bool
) -> None:
    """A callback may use another connection, and that may fail."""
    script = Script(init({}))
    mine = trionet.RemoteProtocolError("mine")

    def fail(mod: trionet.Mod) -> None:
        if mod["action"] != "init":
            raise mine

    backoff = Backoff() if reconnect else None
    with pytest.raises(trionet.RemoteProtocolError) as caught:
        async with subscribed(script.connect, on_mod=fail, backoff=backoff) as subscription:
            mods = aiter(subscription) if loop else None
            only_link(script).down.put(set_a(1))
            if mods is not None:
                await anext(mods)
            await trio.sleep_forever()
    assert caught.value is mine
    assert len(script.attempts) == 1
