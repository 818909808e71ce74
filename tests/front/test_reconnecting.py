"""Subscriptions that connect again, and those that do not: exact times, and every kind of bad publisher."""

from __future__ import annotations

import random
from typing import Any

import pytest
import trio
import trio.testing

import trionet
from tests.front.feeds import Network, Script, publishing, settle, subscribed, warnings_of
from tests.front.test_backoff import Constant
from tests.front.test_subscription import init, line, only_link, set_a
from tests.wire.values import identical
from trionet import ConnectionLost, Notifier, RemoteProtocolError
from trionet._backoff import Backoff

INIT = init({"a": [1]})


def backoff(first: float = 0.1, most: float = 10.0, number: float = 0.0) -> Backoff:
    """Without chance: each delay is the longest possible, unless `number` is given."""
    return Backoff(first, most, Constant(number))


def refused() -> OSError:
    return ConnectionRefusedError("refused")


# -- without connecting again ---------------------------------------------------------------------------


async def test_refused() -> None:
    script = Script(refused(), INIT)
    with pytest.raises(ConnectionRefusedError, match="refused"):
        async with subscribed(script.connect):
            pytest.fail("nobody is there")
    assert len(script.attempts) == 1


async def test_a_name_that_is_not_published() -> None:
    network = Network()
    async with publishing({"it": Notifier(1)}, network):
        with pytest.raises(ConnectionLost, match="it has nothing of this name, or speaks another") as caught:
            async with subscribed(network.connect, "other"):
                pytest.fail("there is no such notifier")
        assert caught.value.call == trionet.CallInfo("server", "other")
    assert network.links[0].up.sender_closed


async def test_lost_before_the_structure_has_come() -> None:
    script = Script(INIT[:-1])
    async with trio.open_nursery() as nursery:

        async def cut() -> None:
            await settle()
            only_link(script).cut(1000, reset=True)

        nursery.start_soon(cut)
        with pytest.raises(ConnectionLost, match="connection reset"):
            async with subscribed(script.connect):
                pytest.fail("the structure is not whole")


@pytest.mark.parametrize("use", ["opening", "nothing"])
async def test_a_publisher_that_says_nothing(use: str, autojump_clock: trio.testing.MockClock) -> None:
    script = Script(b"")
    with pytest.raises(ConnectionLost, match=r"no answer within 7 s \(target 'it', peer server\)"):
        async with subscribed(script.connect, answer_timeout=7):
            pytest.fail("nothing has come")
    assert trio.current_time() == 7.0
    assert only_link(script).closed


async def test_a_publisher_that_has_begun_may_take_its_time(autojump_clock: trio.testing.MockClock) -> None:
    script = Script(INIT[:1])
    async with trio.open_nursery() as nursery:

        async def go_on() -> None:
            await trio.sleep(1000)
            only_link(script).down.put(INIT[1:])

        nursery.start_soon(go_on)
        async with subscribed(script.connect, answer_timeout=7) as subscription:
            assert trio.current_time() == 1000.0
            await trio.sleep(1000)  # and silence is no fault
            assert subscription.connected.value


# -- connecting again -----------------------------------------------------------------------------------


async def test_delays_double_up_to_the_limit(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    script = Script(*(refused() for _ in range(7)), INIT)
    async with subscribed(script.connect, backoff=backoff(0.1, 1.0)) as subscription:
        assert subscription.value == {"a": [1]}
    assert script.attempts == pytest.approx([0.0, 0.1, 0.3, 0.7, 1.5, 2.5, 3.5, 4.5])
    assert warnings_of(caplog.records) == [
        "server: 'it': refused; trying again",
        "server: 'it': connected again",
    ]


async def test_delays_are_shortened_at_random(autojump_clock: trio.testing.MockClock) -> None:
    for number, expected in ((0.5, [0.0, 0.75, 2.25]), (0.999_999, [0.0, 0.5, 1.5])):
        script = Script(refused(), refused(), INIT)
        start = trio.current_time()
        async with subscribed(script.connect, backoff=backoff(1.0, 10.0, number)):
            pass
        assert [time - start for time in script.attempts] == pytest.approx(expected, rel=1e-5)


async def test_a_connection_that_lasted_ends_the_series(autojump_clock: trio.testing.MockClock) -> None:
    script = Script(refused(), refused(), refused(), INIT, INIT, INIT)
    async with subscribed(script.connect, backoff=backoff(1.0, 5.0)) as subscription:
        assert trio.current_time() == 7.0  # 1 + 2 + 4
        await trio.sleep(4.9)
        script.links[0].cut()
        await subscription.connected.wait_value(False)
        await subscription.connected.wait_value(True)
        assert trio.current_time() == pytest.approx(7.0 + 4.9 + 5.0)  # not long enough
        await trio.sleep(5.0)
        script.links[1].cut()
        await subscription.connected.wait_value(False)
        await subscription.connected.wait_value(True)
        assert trio.current_time() == pytest.approx(7.0 + 4.9 + 5.0 + 5.0 + 1.0)


async def test_a_publisher_that_accepts_and_closes_is_not_stormed(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    network = Network()
    async with publishing({"other": Notifier(1)}, network):
        with trio.move_on_after(100):
            async with subscribed(network.connect, backoff=backoff(1.0, 20.0)):
                pytest.fail("there is no such notifier")
    assert network.attempts == pytest.approx([0, 1, 3, 7, 15, 31, 51, 71, 91])
    ours = [text for text in warnings_of(caplog.records) if text.startswith("server")]
    assert len(ours) == 1
    assert "it has nothing of this name" in ours[0]


async def test_each_outage_is_reported_once(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    script = Script(INIT, refused(), b"", refused(), INIT, INIT)
    async with subscribed(script.connect, backoff=backoff(), answer_timeout=5) as subscription:
        assert not warnings_of(caplog.records)
        for link, reset in ((0, False), (2, True)):
            script.links[link].cut(reset=reset)
            await subscription.connected.wait_value(False)
            await subscription.connected.wait_value(True)
    assert warnings_of(caplog.records) == [
        "server: 'it': closed by the server; trying again",
        "server: 'it': connected again",
        "server: 'it': connection lost: connection reset; trying again",
        "server: 'it': connected again",
    ]
    assert {record.name for record in caplog.records} == {"trionet.sync_struct"}


async def test_a_silent_publisher_is_tried_again(autojump_clock: trio.testing.MockClock) -> None:
    script = Script(b"", b"", INIT)
    async with subscribed(script.connect, backoff=backoff(1.0), answer_timeout=7) as subscription:
        assert script.attempts == [0.0, 8.0, 17.0]
        assert [link.closed for link in script.links] == [True, True, False]
        assert subscription.connected.value


async def test_a_publisher_that_is_restarted_with_other_content(
    autojump_clock: trio.testing.MockClock,
) -> None:
    network = Network()
    async with publishing({"it": Notifier({"a": 1})}, network) as publisher:
        async with subscribed(network.connect, backoff=backoff(1.0)) as subscription:
            kept = subscription.value
            publisher.cancel_scope.cancel()
            await subscription.connected.wait_value(False)
            assert subscription.stale
            assert subscription.value == {"a": 1}
            await trio.sleep(100)
            assert subscription.stale
            other = Notifier(["something", ("else",)])
            async with publishing({"it": other}, network):
                await subscription.connected.wait_value(True)
                assert not subscription.stale
                assert identical(subscription.value, other.raw_view)
                assert kept == {"a": 1}
                other.append(3)
                await settle()
                assert identical(subscription.value, other.raw_view)


async def test_a_value_that_is_stale_fulfils_no_condition(autojump_clock: trio.testing.MockClock) -> None:
    script = Script(init({"a": 1}), refused(), init({"a": 2}), init({"a": 1}))
    asked: list[tuple[float, Any]] = []

    def is_one(value: Any) -> bool:
        asked.append((trio.current_time(), value["a"]))
        return bool(value["a"] == 1)

    async with subscribed(script.connect, backoff=backoff(1.0)) as subscription:
        script.links[0].cut()
        await subscription.connected.wait_value(False)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(subscription.wait_value, is_one)
            await trio.sleep(10)
            script.links[1].cut()
    assert asked == [(3.0, 2), (14.0, 1)]


async def test_a_loop_goes_on_over_an_outage(autojump_clock: trio.testing.MockClock) -> None:
    script = Script(init({"a": 0}), init({"a": 10}))
    async with subscribed(script.connect, backoff=backoff(1.0)) as subscription:
        mods = aiter(subscription)
        script.links[0].down.put(set_a(1) + set_a(2))
        script.links[0].cut(1000)
        assert (await anext(mods))["value"] == 1
        assert (await anext(mods))["value"] == 2
        assert (await anext(mods))["action"] == "init"
        assert trio.current_time() == 1.0
        assert subscription.value == {"a": 10}
        assert not subscription.stale
        script.links[1].down.put(set_a(11))
        assert (await anext(mods))["value"] == 11


async def test_what_is_left_of_a_broken_connection_gives_way_to_the_next(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A loop that was not asking: it is told of the new structure, and not of what is outdated."""
    script = Script(init({"a": 0}), init({"a": 10}))
    async with subscribed(script.connect, backoff=backoff(1.0)) as subscription:
        mods = aiter(subscription)
        script.links[0].down.put(set_a(1) + set_a(2))
        script.links[0].cut(1000, reset=True)
        await trio.sleep(0.5)
        assert subscription.stale
        assert (await anext(mods))["value"] == 1
        assert subscription.stale
        await trio.sleep(1)
        assert (await anext(mods))["action"] == "init"
        assert subscription.value == {"a": 10}
        assert not subscription.stale


async def test_each_outage_is_reported_with_its_own_reason(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """What a loop finds among the leftovers of a lost connection says nothing about the next one."""
    script = Script(INIT, INIT, INIT)
    async with subscribed(script.connect, backoff=backoff(1.0)) as subscription:
        mods = aiter(subscription)
        script.links[0].down.put(line("dance"))
        script.links[0].cut(1000, reset=True)
        await subscription.connected.wait_value(False)
        await settle()
        assert (await anext(mods))["action"] == "init"
        script.links[1].cut()
        assert (await anext(mods))["action"] == "init"
    assert warnings_of(caplog.records) == [
        "server: 'it': connection lost: connection reset; trying again",
        "server: 'it': connected again",
        "server: 'it': closed by the server; trying again",
        "server: 'it': connected again",
    ]


async def test_own_randomness_by_default() -> None:
    delays = {Backoff(1.0, 10.0).next_delay() for _ in range(10)}
    assert len(delays) == 10
    assert (
        Backoff(1.0, 10.0, random.Random(3)).next_delay() == Backoff(1.0, 10.0, random.Random(3)).next_delay()
    )


@pytest.mark.parametrize("when", ["connecting", "waiting to try again", "waiting for an answer"])
async def test_cancelled_while_it_is_not_connected(when: str, autojump_clock: trio.testing.MockClock) -> None:
    script = Script(*([] if when == "waiting for an answer" else [refused()]))

    async def connect() -> Any:
        if when == "connecting":
            await trio.sleep_forever()
        return await script.connect()

    with trio.move_on_after(1) as scope:
        async with subscribed(connect, backoff=backoff(5.0)):
            pytest.fail("not connected")
    assert scope.cancelled_caught
    assert trio.current_time() == 1.0
    assert all(link.closed for link in script.links)


# -- publishers that make no sense ----------------------------------------------------------------------

# What may come at any time.
BAD = {
    "no PYON": (b"nope\n", "not PYON"),
    "an empty line": (b"\n", "not PYON"),
    "no class of PYON": (b'{"action":"init","struct":{"__jsonclass__":["nope",[]]}}\n', "not PYON"),
    "not UTF-8": (b'"\xff"\n', "UTF-8"),
    "another protocol": (b"HTTP/1.1 400 Bad Request\r\n", "not PYON"),
    "no mod": (b"[1]\n", "expected a mod, not list"),
    "no action": (b"{}\n", "unknown action 'None'"),
    "an unknown action": (line("dance"), "unknown action 'dance'"),
    "an action that is none": (b'{"action":{"a":1}}\n', "unknown action"),
    "an init without structure": (line("init"), "'init', but without 'struct'"),
    "a line without end": (b"x" * 5000, "a line of (more than 1000|50.. bytes)"),
    "a line too long": (b"x" * 5000 + b"\n", "a line of 5000 bytes, 1000 are allowed"),
}
# What must not come first.
BAD_BEFORE_INIT = BAD | {
    "a mod before init": (line("append", path=["a"], x=1), "'append' before 'init'"),
}
# What must not come later; the structure is {"a": [1]}.
BAD_AFTER_INIT = BAD | {
    "no such path": (line("append", path=["b"], x=1), r"'append' cannot be applied at \['b'\]: KeyError"),
    "no such place": (line("append", path=["a", 3], x=1), r"cannot be applied at \['a'\]\[3\]: IndexError"),
    "no such key": (line("delitem", path=[], key="b"), "'delitem' cannot be applied at the root: KeyError"),
    "no list there": (line("append", path=[], x=1), "'append' cannot be applied at the root: AttributeError"),
    "no container there": (line("setitem", path=["a", 0, 1], key=0, value=0), "cannot be applied.*TypeError"),
    "a key that is none": (line("setitem", path=[], key=[1], value=0), "cannot be applied.*TypeError"),
    "too few to pop": (line("pop", path=["a"], i=7), "'pop' cannot be applied.*IndexError"),
    "a path that is none": (line("append", path="a", x=1), "a path that is no list: a"),
    "no value": (line("setitem", path=[], key=1), "'setitem', but without 'value'"),
    "no path": (line("append", x=1), "'append', but without 'path'"),
}


@pytest.mark.parametrize("name", BAD_BEFORE_INIT)
async def test_bad_from_the_beginning(name: str) -> None:
    sent, message = BAD_BEFORE_INIT[name]
    script = Script(sent)
    with pytest.raises(RemoteProtocolError, match=message) as caught:
        async with subscribed(script.connect, max_message_size=1000):
            pytest.fail("there was no structure")
    assert caught.value.call == trionet.CallInfo("server", "it")
    assert only_link(script).closed
    assert len(script.attempts) == 1


@pytest.mark.parametrize("name", BAD_AFTER_INIT)
@pytest.mark.parametrize("use", ["wait", "iterate", "look"])
async def test_bad_after_the_structure(name: str, use: str) -> None:
    sent, message = BAD_AFTER_INIT[name]
    script = Script(INIT)
    async with subscribed(script.connect, max_message_size=1000) as subscription:

        async def send() -> None:
            await settle()
            only_link(script).down.put(line("append", path=["a"], x=2) + sent + set_a(3))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            if use == "look":
                await subscription.connected.wait_value(False)
            with pytest.raises(RemoteProtocolError, match=message) as caught:
                if use == "iterate":
                    async for mod in subscription:
                        assert mod["x"] == 2
                else:
                    await subscription.wait_value(lambda value: value["a"] == 3)
        assert caught.value.call == trionet.CallInfo("server", "it")
        assert subscription.value == {"a": [1, 2]}
        assert subscription.stale
        await settle()
        assert only_link(script).closed


@pytest.mark.parametrize("iterate", [False, True])
@pytest.mark.parametrize("name", BAD_AFTER_INIT)
async def test_after_bad_input_it_connects_again(
    name: str, iterate: bool, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    sent, message = BAD_AFTER_INIT[name]
    script = Script(BAD_BEFORE_INIT.get(name, (line("dance"),))[0], INIT, init({"a": [5]}))
    async with subscribed(script.connect, max_message_size=1000, backoff=backoff(1.0)) as subscription:
        assert trio.current_time() == 1.0
        script.links[1].down.put(sent + set_a(3))
        if iterate:
            async for mod in subscription:
                assert mod["action"] == "init"
                break
        else:
            await subscription.wait_value(lambda value: value["a"] == [5])
        assert subscription.value == {"a": [5]}
        assert not subscription.stale
        assert script.attempts == [0.0, 1.0, 3.0]
        script.links[2].down.put(set_a(6))
        await subscription.wait_value(lambda value: value["a"] == 6)
    warnings = warnings_of(caplog.records)
    assert len(warnings) == 4
    caplog.clear()
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(warnings[2])
    assert warnings[2].endswith("; trying again")
    assert len(warnings[2]) < 250


async def test_an_init_in_the_middle_is_no_fault() -> None:
    script = Script(INIT)
    async with subscribed(script.connect, backoff=backoff()) as subscription:
        script.links[0].down.put(set_a(2) + init([]) + line("append", path=[], x=1) + init([7]))
        await settle()
        assert subscription.value == [7]
        assert subscription.connected.value
        assert len(script.attempts) == 1


async def test_keys_that_are_not_known_are_no_fault() -> None:
    script = Script(line("init", struct={}, since="later"))
    async with subscribed(script.connect) as subscription:
        script.links[0].down.put(line("setitem", path=[], key=1, value=2, i=3, author="x"))
        await settle()
        assert subscription.value == {1: 2}


async def test_a_version_that_was_told_is_not_guessed() -> None:
    v1_only = b"{'action': 'init', 'struct': (1, 2)}\n"
    async with subscribed(Script(v1_only).connect) as subscription:
        assert subscription.value == (1, 2)
    async with subscribed(Script(v1_only).connect, pyon_version=1) as subscription:
        assert subscription.value == (1, 2)
    with pytest.raises(RemoteProtocolError):
        async with subscribed(Script(v1_only).connect, pyon_version=2):
            pass
    with pytest.raises(ValueError, match="versions 1 and 2"):
        async with subscribed(Script(v1_only).connect, pyon_version=3):
            pass
