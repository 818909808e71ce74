"""Iterating over the mods of a subscription, and cancelling it anywhere."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable
from typing import Any

import pytest
import trio
import trio.testing

import trionet
from tests.front.feeds import Network, Script, publishing, settle, subscribed
from tests.front.test_cancellation import cancel_at
from tests.front.test_subscription import init, line, only_link, set_a
from tests.wire.values import identical
from trionet import ConnectionLost, Notifier
from trionet._feeds import _READ_AHEAD


async def test_the_value_is_what_the_mod_in_hand_has_made_of_it() -> None:
    """Although more has come: neither older nor newer."""
    script = Script(init({"a": 0}))
    async with subscribed(script.connect) as subscription:
        mods = aiter(subscription)
        only_link(script).down.put(
            b"".join(set_a(number) for number in (1, 2, 3)) + init({"a": 4}) + set_a(5)
        )
        for expected in range(1, 6):
            await settle()
            assert subscription.value == {"a": expected - 1}
            mod = await anext(mods)
            assert mod["action"] == ("init" if expected == 4 else "setitem")
            assert subscription.value == {"a": expected}


async def test_a_loop_sees_what_comes_while_it_runs() -> None:
    notifier = Notifier([])
    network = Network()
    async with publishing({"it": notifier}, network), subscribed(network.connect) as subscription:
        async with trio.open_nursery() as nursery:

            async def change() -> None:
                for number in range(20):
                    notifier.append(number)
                    if number % 3 == 0:
                        await settle()

            nursery.start_soon(change)
            seen = []
            async for mod in subscription:
                seen.append(mod["x"])
                assert subscription.value == [*range(len(seen))]
                if len(seen) == 20:
                    break
        assert seen == [*range(20)]


async def test_when_a_loop_is_left_the_subscription_goes_on() -> None:
    """With what has come already, and with what comes."""
    script = Script(init({"a": 0}))
    seen: list[str] = []
    async with subscribed(script.connect, on_mod=lambda mod: seen.append(mod["action"])) as subscription:
        for start in (0, 10):
            only_link(script).down.put(b"".join(set_a(start + number) for number in (1, 2, 3)))
            async for _ in subscription:
                assert subscription.value == {"a": start + 1}
                await settle()
                assert subscription.value == {"a": start + 1}
                break
            await settle()
            assert subscription.value == {"a": start + 3}
            only_link(script).down.put(set_a(start + 4))
            await settle()
            assert subscription.value == {"a": start + 4}
        with trio.fail_after(1):
            await subscription.wait_value(lambda value: value["a"] == 14)
    assert len(seen) == 9


async def test_a_large_rest_is_taken_when_a_loop_is_left() -> None:
    """More than is read ahead, and other tasks have their turn."""
    script = Script(init({"a": 0}))
    count = 1 + 2 * _READ_AHEAD // len(set_a("x" * 100))
    async with subscribed(script.connect) as subscription:
        mods = aiter(subscription)
        only_link(script).down.put(b"".join(set_a("x" * 100) for _ in range(count)) + set_a(1))
        await anext(mods)
        await settle()
        assert len(only_link(script).down.waiting) > _READ_AHEAD // 2  # not read
        del mods
        await settle()
        assert subscription.value == {"a": 1}


async def test_a_loop_that_the_garbage_collector_finds_in_another_thread() -> None:
    script = Script(init({"a": 0}))
    async with subscribed(script.connect) as subscription:

        async def take_one() -> None:
            mods = aiter(subscription)
            cycle: list[Any] = [mods]
            cycle.append(cycle)
            link = only_link(script)
            link.down.put(b"".join(set_a(number) for number in range(1, 10)))
            assert (await anext(mods))["value"] == 1

        await take_one()
        await trio.to_thread.run_sync(gc.collect)
        with trio.fail_after(60):
            await subscription.wait_value(lambda value: value["a"] == 9)


async def test_there_is_one_loop_at_a_time() -> None:
    script = Script(init({"a": 0}))
    async with subscribed(script.connect) as subscription:
        first = aiter(subscription)
        for _ in range(2):
            with pytest.raises(trio.BusyResourceError, match="somebody else is taking the items of 'it'"):
                async for _ in subscription:
                    pass
        only_link(script).down.put(set_a(1))
        assert (await anext(first))["value"] == 1  # not disturbed
        del first
        second = aiter(subscription)
        only_link(script).down.put(set_a(2))
        assert (await anext(second))["value"] == 2


async def test_a_loop_that_is_left_by_an_exception() -> None:
    script = Script(init({"a": 0}))
    async with subscribed(script.connect) as subscription:
        only_link(script).down.put(set_a(1) + set_a(2))
        with pytest.raises(ZeroDivisionError):
            async for _ in subscription:
                raise ZeroDivisionError
        await settle()
        assert subscription.value == {"a": 2}
        aiter(subscription)


async def test_a_cancelled_step_takes_nothing(autojump_clock: trio.testing.MockClock) -> None:
    script = Script(init({"a": 0}))
    async with subscribed(script.connect) as subscription:
        mods = aiter(subscription)
        seen = []
        for start in (0, 10, 20):
            with trio.move_on_after(1) as scope:
                await anext(mods)
            assert scope.cancelled_caught
            only_link(script).down.put(set_a(start) + set_a(start + 1))
            with trio.CancelScope() as scope:
                scope.cancel()
                await anext(mods)
            assert scope.cancelled_caught
            seen += [(await anext(mods))["value"], (await anext(mods))["value"]]
    assert seen == [0, 1, 10, 11, 20, 21]


async def test_who_waits_for_a_value_is_woken_by_the_loop() -> None:
    script = Script(init({"a": 0}))
    done: list[int] = []
    async with subscribed(script.connect) as subscription, trio.open_nursery() as nursery:

        async def wait() -> None:
            done.append((await subscription.wait_value(lambda value: value["a"] == 2))["a"])

        nursery.start_soon(wait)
        mods = aiter(subscription)
        only_link(script).down.put(set_a(1) + set_a(2) + set_a(3))
        for expected in ([], [2], [2]):
            await settle()
            await anext(mods)
            await settle()
            assert done == expected


@pytest.mark.parametrize("reset", [False, True])
async def test_a_loop_ends_with_the_connection_after_all_that_came(reset: bool) -> None:
    script = Script(init({"a": 0}))
    async with subscribed(script.connect) as subscription:
        seen = []
        mods = aiter(subscription)
        only_link(script).down.put(set_a(1) + set_a(2) + b'{"action":')
        only_link(script).cut(1000, reset=reset)
        await settle()
        assert subscription.stale
        with pytest.raises(ConnectionLost, match="connection reset" if reset else "closed by the server"):
            while True:
                seen.append((await anext(mods))["value"])
        assert seen == [1, 2]
        assert subscription.value == {"a": 2}


async def test_a_loop_after_the_end_says_so_again() -> None:
    script = Script(init({"a": 0}))
    async with subscribed(script.connect) as subscription:
        only_link(script).cut()
        for _ in range(3):
            with pytest.raises(ConnectionLost):
                async for _ in subscription:
                    pass


async def test_a_structure_from_a_connection_that_has_ended_is_stale() -> None:
    """The `init` of a resync is still to be taken when the end comes."""
    script = Script(init({"a": 0}))
    async with subscribed(script.connect) as subscription:
        mods = aiter(subscription)
        only_link(script).down.put(init({"a": 1}) + set_a(2))
        only_link(script).down.end()
        await settle()
        assert subscription.stale
        assert (await anext(mods))["action"] == "init"
        assert subscription.value == {"a": 1}
        assert subscription.stale
        assert (await anext(mods))["action"] == "setitem"
        assert subscription.stale
        with pytest.raises(ConnectionLost):
            await anext(mods)


@pytest.mark.parametrize("attempt", range(20))
async def test_what_makes_no_sense_is_reported_to_the_loop_even_if_the_end_follows(attempt: int) -> None:
    """Trio decides by chance which task is first, so several attempts."""
    script = Script(init({"a": 0}))
    async with subscribed(script.connect) as subscription:
        async with trio.open_nursery() as nursery:

            async def iterate() -> None:
                with pytest.raises(trionet.RemoteProtocolError, match="unknown action 'dance'"):
                    async for _ in subscription:
                        pass

            nursery.start_soon(iterate)
            await settle()
            only_link(script).down.put(set_a(1) + line("dance"))
            only_link(script).down.end()
        assert subscription.value == {"a": 1}


async def test_builder_and_callback_that_raise_in_the_loop() -> None:
    def build(structure: Any) -> Any:
        return {"a": 1 / structure["a"]}

    def fail(mod: trionet.Mod) -> None:
        if mod.get("value") == 5:
            raise KeyError("mine")

    script = Script(init({"a": 1}))
    async with subscribed(script.connect, build=build, on_mod=fail) as subscription:
        mods = aiter(subscription)
        only_link(script).down.put(init({"a": 0}) + set_a(5) + set_a(6))
        with pytest.raises(ZeroDivisionError):
            await anext(mods)
        with pytest.raises(KeyError, match="mine"):
            await anext(mods)
        assert (await anext(mods))["value"] == 6


async def test_a_loop_that_stops_asking_blocks_nobody_else() -> None:
    notifier = Notifier({"a": 0})
    network = Network(capacity=10_000)
    async with publishing({"it": notifier}, network, max_backlog=20_000) as publisher:
        async with subscribed(network.connect) as lazy, subscribed(network.connect) as busy:
            mods = aiter(lazy)
            notifier["a"] = 1
            assert (await anext(mods))["value"] == 1
            total = 0
            while total < 4 * _READ_AHEAD:
                for _ in range(10):
                    notifier["a"] = (total, "x" * 1000)
                    total += 1000
                await settle()
                assert identical(busy.value, notifier.raw_view)
            assert lazy.value == {"a": 1}
            assert not lazy.stale
            lazies, busies = publisher.statistics().subscribers
            assert lazies.resyncs == 1
            assert lazies.backlog <= 10_000 + 20_000
            assert lazies.lag > 0
            assert (busies.resyncs, busies.lag, busies.backlog) == (0, 0, 0)
            actions = []
            while not identical(lazy.value, notifier.raw_view):
                actions.append((await anext(mods))["action"])
            assert actions.count("init") == 1
            assert len(actions) < total // 1000
            notifier["b"] = 2
            assert (await anext(mods))["key"] == "b"
            assert identical(lazy.value, notifier.raw_view)


# -- cancellation ---------------------------------------------------------------------------------------


async def _iterate(subscription: trionet.Subscription) -> None:
    async for mod in subscription:
        if mod["value"] == 3:
            break


async def _wait(subscription: trionet.Subscription) -> None:
    await subscription.wait_value(lambda value: value["a"] == 3)


async def _only_open(subscription: trionet.Subscription) -> None:
    assert subscription.value["a"] is not None


@pytest.mark.parametrize("use", [_only_open, _wait, _iterate])
async def test_cancelled_anywhere_nothing_stays(use: Callable[[Any], Any]) -> None:
    """Before each step that any task takes, from connecting to the end of the block."""
    notifier = Notifier({"a": 0})
    network = Network(capacity=20)
    cancelled_somewhere = 0
    async with publishing({"it": notifier}, network) as publisher, trio.open_nursery() as nursery:

        async def change() -> None:
            while True:
                for number in range(4):
                    notifier["a"] = number
                    await settle()

        nursery.start_soon(change)
        for step in range(1000):
            await settle()
            living = trio.lowlevel.current_statistics().tasks_living

            async def follow() -> None:
                async with subscribed(network.connect) as subscription:
                    await use(subscription)

            cancelled, reached = await cancel_at(step, follow)
            cancelled_somewhere += cancelled
            await settle()
            assert trio.lowlevel.current_statistics().tasks_living == living
            assert publisher.connections == 0
            assert all(link.up.sender_closed for link in network.links)
            if not reached:
                break
        nursery.cancel_scope.cancel()
    assert not reached
    assert cancelled_somewhere >= 5


async def test_cancelled_in_a_loop_the_subscription_goes_on() -> None:
    """Whatever was being waited for: each mod is seen once, by the loop or by the next one."""
    for step in range(1000):
        script = Script(init({"a": 0}))
        seen: list[int] = []
        async with subscribed(script.connect) as subscription:
            mods = aiter(subscription)

            async def take_all(mods: Any = mods, seen: list[int] = seen, script: Script = script) -> None:
                for start in (0, 2, 4):
                    only_link(script).down.put(set_a(start) + set_a(start + 1))
                    seen.append((await anext(mods))["value"])
                    seen.append((await anext(mods))["value"])

            _, reached = await cancel_at(step, take_all)
            only_link(script).down.put(set_a("end"))
            with contextlib.suppress(trio.TooSlowError):
                while (value := (await anext(mods))["value"]) != "end":
                    seen.append(value)
        assert seen == [*range(len(seen))]
        if not reached:
            break
    assert not reached
    assert len(seen) == 6


async def test_a_loop_is_left_although_its_exception_is_kept() -> None:
    """As many a program does: the traceback of an exception keeps what was called alive."""

    def fail(mod: trionet.Mod) -> None:
        if mod.get("value") == 1:
            raise ZeroDivisionError

    script = Script(init({"a": 0}))
    async with subscribed(script.connect, on_mod=fail) as subscription:
        script.links[0].down.put(set_a(1))
        kept: list[Exception] = []
        try:
            async for _ in subscription:
                pass
        except ZeroDivisionError as error:
            kept.append(error)
        script.links[0].down.put(set_a(2))
        await subscription.wait_value(lambda value: value["a"] == 2)
        mods = aiter(subscription)  # free for another loop
        script.links[0].down.put(set_a(3))
        assert (await anext(mods))["value"] == 3
    assert kept
