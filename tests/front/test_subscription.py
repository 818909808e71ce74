"""Following a published structure: the value, conditions, callbacks and loops, over links in memory."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing

import trionet
from tests.front.feeds import Link, Network, Script, publishing, settle, subscribed
from tests.wire.values import identical
from trionet import ConnectionLost, Notifier
from trionet._backoff import Backoff
from trionet.wire.feeds import encode_line


def line(action: str, **keys: Any) -> bytes:
    return encode_line({"action": action, **keys}, 2)


def init(structure: Any) -> bytes:
    return line("init", struct=structure)


def set_a(value: Any) -> bytes:
    return line("setitem", path=[], key="a", value=value)


def only_link(script: Script) -> Link:
    (link,) = script.links
    return link


# -- the value ------------------------------------------------------------------------------------------


async def test_the_block_begins_with_the_structure() -> None:
    script = Script(init({"a": [(1, 2)]}))
    async with subscribed(script.connect, "name of it") as subscription:
        assert identical(subscription.value, {"a": [(1, 2)]})
        assert subscription.connected.value
        assert not subscription.stale
        assert (subscription.peer, subscription.name) == ("server", "name of it")
        assert only_link(script).up.take() == b"ARTIQ sync_struct\nname of it\n"
        assert not only_link(script).closed
    assert only_link(script).up.sender_closed
    assert subscription.value == {"a": [(1, 2)]}
    assert subscription.stale


async def test_the_value_is_changed_in_place_and_replaced_by_an_init() -> None:
    script = Script(init({"a": [1]}))
    async with subscribed(script.connect) as subscription:
        value = subscription.value
        only_link(script).down.put(
            line("append", path=["a"], x=2)
            + line("insert", path=["a"], i=0, x=0)
            + line("pop", path=["a"], i=1)
            + line("setitem", path=[], key="b", value=None)
            + line("delitem", path=["a"], key=0)
        )
        await settle()
        assert subscription.value is value
        assert value == {"a": [2], "b": None}
        only_link(script).down.put(init({"a": [3]}) + line("append", path=["a"], x=4))
        await settle()
        assert subscription.value is not value
        assert subscription.value == {"a": [3, 4]}
        assert value == {"a": [2], "b": None}
        assert subscription.connected.value


async def test_bytes_may_come_in_any_pieces() -> None:
    script = Script()
    async with trio.open_nursery() as nursery:

        async def trickle() -> None:
            await settle()
            for byte in init({}) + set_a(1):
                only_link(script).down.put(bytes([byte]))
                await settle()

        nursery.start_soon(trickle)
        async with subscribed(script.connect) as subscription:
            assert await subscription.wait_value(lambda value: value.get("a")) == {"a": 1}


async def test_both_versions_are_understood() -> None:
    notifier = Notifier({"a": (1, b"x")})
    for version in (1, 2):
        network = Network()
        async with publishing({"it": notifier}, network, pyon_version=version):
            async with (
                subscribed(network.connect) as subscription,
                subscribed(network.connect, pyon_version=version) as told,
            ):
                notifier["b"] = (version, {2: (3,)})
                await settle()
                assert identical(subscription.value, notifier.raw_view)
                assert identical(told.value, notifier.raw_view)


async def test_names_that_no_line_can_carry() -> None:
    script = Script()
    with pytest.raises(ValueError, match="a name must be one line"):
        async with subscribed(script.connect, "two\nlines"):
            pass
    assert script.attempts == []


# -- conditions -----------------------------------------------------------------------------------------


async def test_a_condition_that_holds_already() -> None:
    script = Script(init({"a": 1}))
    async with subscribed(script.connect) as subscription:
        assert await subscription.wait_value(lambda value: value["a"] == 1) is subscription.value


async def test_a_condition_that_holds_for_a_moment() -> None:
    """Within changes that come all at once."""
    script = Script(init({"a": 0}))
    seen: list[int] = []
    reached: list[bool] = []

    def is_two(value: Any) -> bool:
        seen.append(value["a"])
        return bool(value["a"] == 2)

    async with subscribed(script.connect) as subscription, trio.open_nursery() as nursery:

        async def wait() -> None:
            assert await subscription.wait_value(is_two) is subscription.value
            reached.append(True)

        nursery.start_soon(wait)
        await settle()
        only_link(script).down.put(b"".join(set_a(number) for number in range(1, 6)))
        await settle()
        assert reached
        assert subscription.value == {"a": 5}
    assert seen == [0, 1, 2]


async def test_several_wait_for_different_things() -> None:
    script = Script(init({"a": 0}))
    done: list[int] = []
    async with subscribed(script.connect) as subscription, trio.open_nursery() as nursery:

        async def wait(number: int) -> None:
            await subscription.wait_value(lambda value: value["a"] >= number)
            done.append(number)

        for number in (3, 1, 2, 1):
            nursery.start_soon(wait, number)
        for number, expected in ((0, []), (1, [1, 1]), (2, [1, 1, 2]), (5, [1, 1, 2, 3])):
            only_link(script).down.put(set_a(number))
            await settle()
            assert done == expected


async def test_a_condition_that_raises() -> None:
    """That concerns the one who waits, and nobody else."""
    script = Script(init({"a": 2}))
    async with subscribed(script.connect) as subscription:
        with pytest.raises(KeyError, match="b"):
            await subscription.wait_value(lambda value: value["b"])
        done: list[str] = []

        async def wait_and_fail() -> None:
            with pytest.raises(ZeroDivisionError):
                await subscription.wait_value(lambda value: 1 / value["a"] > 1)
            done.append("failed")

        async def wait() -> None:
            await subscription.wait_value(lambda value: value["a"] == 0)
            done.append("reached")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait_and_fail)
            nursery.start_soon(wait)
            await settle()
            only_link(script).down.put(set_a(0))
        assert sorted(done) == ["failed", "reached"]
        assert subscription.connected.value


async def test_who_stops_waiting_is_not_asked_any_more(autojump_clock: trio.testing.MockClock) -> None:
    script = Script(init({"a": 0}))
    seen: list[int] = []
    async with subscribed(script.connect) as subscription:
        with trio.move_on_after(1) as scope:
            await subscription.wait_value(lambda value: seen.append(value["a"]))
        assert scope.cancelled_caught
        only_link(script).down.put(set_a(1))
        await settle()
        assert seen == [0]
        with trio.CancelScope() as scope:
            scope.cancel()
            await subscription.wait_value(lambda value: True)
        assert scope.cancelled_caught


async def test_a_condition_that_stops_others_from_waiting() -> None:
    """And itself: whoever is cancelled meanwhile is not woken a second time."""
    script = Script(init({"a": 0}))
    finished: list[bool] = []
    async with subscribed(script.connect) as subscription:
        async with trio.open_nursery() as nursery:

            def cancel_all(value: Any) -> bool:
                if value["a"] == 1:
                    nursery.cancel_scope.cancel()
                return bool(value["a"] == 1)

            async def wait() -> None:
                await subscription.wait_value(cancel_all)
                finished.append(True)

            for _ in range(3):
                nursery.start_soon(wait)
            await settle()
            only_link(script).down.put(set_a(1) + set_a(2))
        await settle()
        assert subscription.value == {"a": 2}
        assert subscription.connected.value


@pytest.mark.parametrize("reset", [False, True])
async def test_who_waits_when_the_connection_ends(reset: bool) -> None:
    script = Script(init({"a": 0}))
    failed: list[str] = []
    async with subscribed(script.connect) as subscription:

        async def wait() -> None:
            with pytest.raises(ConnectionLost) as caught:
                await subscription.wait_value(lambda value: value["a"] == 9)
            failed.append(str(caught.value))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            nursery.start_soon(wait)
            await settle()
            only_link(script).down.put(set_a(1))
            only_link(script).cut(1000, reset=reset)
        with pytest.raises(ConnectionLost):
            await subscription.wait_value(lambda value: True)
        assert subscription.value == {"a": 1}
        assert subscription.stale
    reason = "connection lost: connection reset" if reset else "closed by the server"
    assert failed == [f"{reason} (target 'it', peer server)"] * 2


async def test_who_waits_for_the_outage() -> None:
    script = Script(init(1))
    async with subscribed(script.connect) as subscription, trio.open_nursery() as nursery:
        nursery.start_soon(subscription.connected.wait_value, False)
        await settle()
        only_link(script).cut()


@pytest.mark.parametrize("reconnect", [True, False])
async def test_who_waits_when_the_block_ends(reconnect: bool, autojump_clock: trio.testing.MockClock) -> None:
    """Nothing comes any more, so there is nothing to wait for."""
    script = Script(init({"a": 0}))
    closed = (ConnectionLost, trio.ClosedResourceError)
    with trio.fail_after(100):
        async with trio.open_nursery() as nursery:

            async def wait(subscription: trionet.Subscription) -> None:
                with pytest.raises(closed):
                    await subscription.wait_value(lambda value: value["a"] == 9)

            async def iterate(subscription: trionet.Subscription) -> None:
                with pytest.raises(closed):
                    async for _ in subscription:
                        pass

            async with subscribed(script.connect, backoff=Backoff() if reconnect else None) as subscription:
                nursery.start_soon(wait, subscription)
                nursery.start_soon(iterate, subscription)
                await settle()
        await wait(subscription)
        await iterate(subscription)


@pytest.mark.parametrize("attempt", range(10))
async def test_a_structure_that_has_come_is_there_although_the_connection_ends_at_once(attempt: int) -> None:
    """Trio decides by chance which task is first, so several attempts."""
    script = Script(init({"a": 1}))
    script.end_at_once = True
    async with subscribed(script.connect) as subscription:
        assert subscription.value == {"a": 1}
        with pytest.raises(ConnectionLost):
            await subscription.wait_value(lambda value: False)
