"""Bringing events to those who wait for them, without sockets: streams, callbacks, their order and bounds."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio
import trio.lowlevel
import trio.testing

import trionet
from trionet import ExpMessage, RigEvent, RigEvents
from trionet.rig.events import EventDispatcher, covers

ERROR = ExpMessage(0)
ANY = ExpMessage.any()


def event(kind: int, *data: Any) -> RigEvent:
    return RigEvent(ExpMessage(kind), list(data), ("127.0.0.1", 1), "rig")


class Reports:
    """What would be told to the peer."""

    def __init__(self) -> None:
        self.made: list[tuple[RigEvent, str]] = []
        self.go_on = trio.Event()
        self.go_on.set()

    async def report(self, event: RigEvent, error: Exception) -> None:
        await self.go_on.wait()
        self.made.append((event, repr(error)))


@contextlib.asynccontextmanager
async def open_dispatcher(max_running: int = 10) -> AsyncIterator[tuple[EventDispatcher, Reports]]:
    reports = Reports()
    async with trio.open_nursery() as nursery:
        yield EventDispatcher(nursery, reports.report, max_running), reports
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("mask", "kind", "covered"),
    [
        (1, 1, True),
        (1, 2, False),
        (3, 2, True),
        (255, 128, True),
        (255, 0, False),
        (0, 0, True),
        (0, 1, False),
    ],
)
def test_which_events_a_mask_contains(mask: int, kind: int, covered: bool) -> None:
    assert covers(ExpMessage(mask), ExpMessage(kind)) == covered


async def test_a_stream_gives_its_events_in_order() -> None:
    async with open_dispatcher() as (dispatcher, _):
        with dispatcher.open_events(ExpMessage(3), False, 10) as events:
            for kind in (1, 4, 2, 0, 1):
                dispatcher.dispatch(event(kind))
            assert [(await events.receive()).event for _ in range(3)] == [1, 2, 1]
            with pytest.raises(trio.WouldBlock):
                await _receive_now(events)


async def _receive_now(events: trionet.RigEvents) -> RigEvent:
    """The event that waits, or WouldBlock."""
    received: list[RigEvent] = []

    async def receive() -> None:
        received.append(await events.receive())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    if not received:
        raise trio.WouldBlock
    return received[0]


async def test_a_stream_with_reports() -> None:
    async with open_dispatcher() as (dispatcher, _):
        with (
            dispatcher.open_events(ExpMessage.EXPINIT, True, 10) as both,
            dispatcher.open_events(ERROR, False, 10) as reports,
        ):
            dispatcher.dispatch(event(0, "text", 1))
            dispatcher.dispatch(event(1, None))
            assert [(await both.receive()).event for _ in range(2)] == [0, 1]
            assert (await reports.receive()).data == ["text", 1]


async def test_a_reader_waits_and_is_woken(autojump_clock: trio.testing.MockClock) -> None:
    async with open_dispatcher() as (dispatcher, _), trio.open_nursery() as nursery:
        with dispatcher.open_events(ANY, False, 10) as events:
            received: list[Any] = []

            async def read() -> None:
                data = (await events.receive()).data
                received.append((trio.current_time(), data))

            for _ in range(2):
                nursery.start_soon(read)
            await trio.sleep(1)
            dispatcher.dispatch(event(1, "a"))
            await trio.sleep(1)
            dispatcher.dispatch(event(1, "b"))
            await trio.sleep(1)
            assert received == [(1.0, ["a"]), (2.0, ["b"])]


async def test_each_event_goes_to_one_of_several_readers() -> None:
    async with open_dispatcher() as (dispatcher, _):
        received: list[Any] = []

        async def read(events: trionet.RigEvents) -> None:
            received.extend([one.data[0] async for one in events])

        async with trio.open_nursery() as nursery:
            with dispatcher.open_events(ANY, False, 1000) as events:
                for _ in range(3):
                    nursery.start_soon(read, events)
                for number in range(100):
                    dispatcher.dispatch(event(1, number))
                    if number % 7 == 0:
                        await trio.lowlevel.checkpoint()
        assert sorted(received) == list(range(100))


@pytest.mark.parametrize("waiting", [0, 1])
async def test_a_cancelled_reader_has_taken_nothing(waiting: int) -> None:
    """Also if it is cancelled in the moment in which the event comes."""
    async with open_dispatcher() as (dispatcher, _):
        for _ in range(20):
            with dispatcher.open_events(ANY, False, 10) as events:
                received: list[RigEvent] = []

                async def read(
                    events: trionet.RigEvents = events, received: list[RigEvent] = received
                ) -> None:
                    received.append(await events.receive())

                async with trio.open_nursery() as nursery:
                    for _ in range(2):
                        nursery.start_soon(read)
                    await trio.testing.wait_all_tasks_blocked()
                    if waiting:
                        dispatcher.dispatch(event(1))
                    nursery.cancel_scope.cancel()
                    if not waiting:
                        dispatcher.dispatch(event(1))
                if not received:
                    received.append(await _receive_now(events))
                assert len(received) == 1


async def test_a_full_stream_says_how_many_it_has_lost_and_goes_on() -> None:
    async with open_dispatcher() as (dispatcher, _):
        with dispatcher.open_events(ANY, False, 3) as events:
            for number in range(10):
                dispatcher.dispatch(event(1, number))
            assert [(await events.receive()).data for _ in range(2)] == [[0], [1]]
            dispatcher.dispatch(event(1, "lost as well: what comes after a gap would hide it"))
            assert (await events.receive()).data == [2]
            with pytest.raises(trionet.EventsLost, match="8 events were lost"):
                await events.receive()
            dispatcher.dispatch(event(1, "new"))
            assert (await events.receive()).data == ["new"]


async def test_more_readers_than_places_are_told_of_losses(autojump_clock: trio.testing.MockClock) -> None:
    read: list[str] = []

    async def read_one(events: RigEvents) -> None:
        try:
            read.append((await events.receive()).data[0])
        except trionet.EventsLost as lost:
            read.append(lost.message)

    async with open_dispatcher() as (dispatcher, _):
        with dispatcher.open_events(ANY, False, 1) as events, trio.fail_after(1):
            async with trio.open_nursery() as nursery:
                for _ in range(2):
                    nursery.start_soon(read_one, events)
                await trio.testing.wait_all_tasks_blocked()
                for text in ("kept", "lost"):
                    dispatcher.dispatch(event(1, text))
    assert sorted(read) == ["1 events were lost: 1 had not been read", "kept"]


async def test_iterating_tells_about_losses_too() -> None:
    async with open_dispatcher() as (dispatcher, _):
        with dispatcher.open_events(ANY, False, 1) as events:
            for _ in range(2):
                dispatcher.dispatch(event(1))
            assert (await anext(events)).event == 1
            with pytest.raises(trionet.EventsLost):
                await anext(events)


async def test_closing_ends_all_streams_after_what_has_come() -> None:
    async with open_dispatcher() as (dispatcher, _), trio.open_nursery() as nursery:
        ended: list[str] = []

        async def read(name: str) -> None:
            with dispatcher.open_events(ANY, False, 10) as events:
                ended.extend([f"{name} {one.data[0]}" async for one in events])
                ended.append(f"{name} ended")
                with pytest.raises(trio.ClosedResourceError):
                    await events.receive()

        for name in "ab":
            nursery.start_soon(read, name)
        await trio.testing.wait_all_tasks_blocked()
        dispatcher.dispatch(event(1, 1))
        dispatcher.close()
        dispatcher.dispatch(event(1, 2))
        await trio.testing.wait_all_tasks_blocked()
        assert sorted(ended) == ["a 1", "a ended", "b 1", "b ended"]
        with pytest.raises(trio.ClosedResourceError), dispatcher.open_events(ANY, False, 10):
            pass


async def test_a_stream_is_closed_behind_its_block() -> None:
    async with open_dispatcher() as (dispatcher, _):
        with dispatcher.open_events(ANY, False, 10) as events:
            dispatcher.dispatch(event(1, "before"))
        dispatcher.dispatch(event(1, "after"))
        assert [one.data async for one in events] == [["before"]]


async def test_streams_come_before_callbacks_and_callbacks_in_order() -> None:
    order: list[Any] = []
    async with open_dispatcher() as (dispatcher, reports):
        with dispatcher.open_events(ANY, False, 10) as events:

            def look(one: RigEvent) -> None:
                order.append(("sync", one.data[0], len(events._waiting)))

            async def wait(one: RigEvent) -> None:
                await trio.lowlevel.checkpoint()
                order.append(("async", one.data[0]))

            for callback in (look, wait, look):
                dispatcher.assign_callback(ANY, callback)
            dispatcher.dispatch(event(1, "a"))
            dispatcher.dispatch(event(1, "b"))
            await trio.testing.wait_all_tasks_blocked()
        assert order[:2] == [("sync", "a", 1), ("sync", "b", 2)]
        for name in "ab":
            assert [entry[0] for entry in order if entry[1] == name] == ["sync", "async", "sync"]
        assert reports.made == []


async def test_what_a_callback_returns_is_awaited_if_it_can_be() -> None:
    called: list[str] = []

    async def later() -> None:
        await trio.lowlevel.checkpoint()
        called.append("awaited")

    class Later:
        def __await__(self) -> Any:
            return later().__await__()

    async with open_dispatcher() as (dispatcher, reports):
        dispatcher.assign_callback(ANY, lambda one: Later())
        dispatcher.assign_callback(ANY, lambda one: "a value of no interest")
        dispatcher.assign_callback(ANY, lambda one: called.append("last"))
        dispatcher.dispatch(event(1))
        await trio.testing.wait_all_tasks_blocked()
        assert called == ["awaited", "last"]
        assert reports.made == []


@pytest.mark.parametrize("failing", [0, 1, 2])
async def test_the_first_callback_that_raises_is_reported_and_is_the_last(failing: int) -> None:
    called: list[int] = []
    async with open_dispatcher() as (dispatcher, reports):
        for number in range(3):

            async def asynchronous(one: RigEvent, number: int = number) -> None:
                await trio.lowlevel.checkpoint()
                called.append(number)
                if number == failing:
                    raise ValueError(number)

            def plain(one: RigEvent, number: int = number) -> None:
                called.append(number)
                if number == failing:
                    raise ValueError(number)

            dispatcher.assign_callback(ANY, plain if number % 2 else asynchronous)
        dispatcher.dispatch(event(4, "x"))
        await trio.testing.wait_all_tasks_blocked()
        assert called == list(range(failing + 1))
        assert reports.made == [(event(4, "x"), f"ValueError({failing})")]


async def test_a_callback_that_was_cancelled_by_itself_is_no_failure() -> None:
    async with open_dispatcher() as (dispatcher, reports):

        async def give_up(one: RigEvent) -> None:
            with trio.move_on_after(0):
                await trio.sleep_forever()

        dispatcher.assign_callback(ANY, give_up)
        dispatcher.dispatch(event(1))
        await trio.testing.wait_all_tasks_blocked()
        assert reports.made == []


async def test_an_exception_that_is_no_error_is_not_swallowed() -> None:
    def leave(one: RigEvent) -> None:
        raise SystemExit(3)

    async with open_dispatcher() as (dispatcher, reports):
        dispatcher.assign_callback(ANY, leave)
        with pytest.raises(SystemExit):
            dispatcher.dispatch(event(1))
        assert reports.made == []


async def test_no_more_callbacks_run_at_once_than_allowed() -> None:
    running: list[Any] = []
    go_on = trio.Event()

    async def wait(one: RigEvent) -> None:
        running.append(one.data[0])
        await go_on.wait()

    async with open_dispatcher(max_running=2) as (dispatcher, reports):
        dispatcher.assign_callback(ExpMessage.EXPINIT, wait)
        with dispatcher.open_events(ANY, False, 100) as events:
            for number in range(4):
                dispatcher.dispatch(event(1, number))
            dispatcher.dispatch(event(2, "nobody wants it"))
            await trio.testing.wait_all_tasks_blocked()
            assert sorted(running) == [0, 1]
            assert sorted(one.data[0] for one, _ in reports.made) == [2, 3]
            assert all("callbacks of 2 earlier messages" in error for _, error in reports.made)
            go_on.set()
            await trio.testing.wait_all_tasks_blocked()
            dispatcher.dispatch(event(1, 4))
            await trio.testing.wait_all_tasks_blocked()
            assert sorted(running) == [0, 1, 4]
            assert len([await events.receive() for _ in range(6)]) == 6


async def test_reports_that_cannot_be_delivered_do_not_pile_up() -> None:
    """A peer that does not read: what it is told is bounded, and it is told again when it reads."""

    def fail(one: RigEvent) -> None:
        raise ValueError

    async with open_dispatcher(max_running=3) as (dispatcher, reports):
        reports.go_on = trio.Event()
        dispatcher.assign_callback(ANY, fail)
        for number in range(1000):
            dispatcher.dispatch(event(1, number))
        await trio.testing.wait_all_tasks_blocked()
        reports.go_on.set()
        await trio.testing.wait_all_tasks_blocked()
        assert sorted(one.data[0] for one, _ in reports.made) == [0, 1, 2]
        dispatcher.dispatch(event(1, "next"))
        await trio.testing.wait_all_tasks_blocked()
        assert reports.made[-1][0].data == ["next"]


ASSIGNED = [("a", 3), ("b", 3), ("c", 4), ("d", 0)]


@pytest.mark.parametrize(
    ("mask", "only", "cleared", "left"),
    [
        (255, None, 3, {0: "d"}),
        (255, "a", 1, {1: "b", 2: "b", 4: "c", 0: "d"}),
        (1, None, 2, {2: "ab", 4: "c", 0: "d"}),
        (2, "b", 1, {1: "ab", 2: "a", 4: "c", 0: "d"}),
        (8, None, 0, {1: "ab", 2: "ab", 4: "c", 0: "d"}),
        (0, None, 1, {1: "ab", 2: "ab", 4: "c"}),
    ],
)
async def test_clearing_callbacks(mask: int, only: str | None, cleared: int, left: dict[int, str]) -> None:
    called = ""

    def note(name: str) -> None:
        nonlocal called
        called += name

    callbacks = {name: lambda one, name=name: note(name) for name, _ in ASSIGNED}
    async with open_dispatcher() as (dispatcher, _):
        for name, assigned in ASSIGNED:
            dispatcher.assign_callback(ExpMessage(assigned), callbacks[name])
        callback = callbacks[only] if only is not None else None
        assert dispatcher.clear_callbacks(ExpMessage(mask), callback) == cleared
        for kind in (0, 1, 2, 4, 8):
            called = ""
            dispatcher.dispatch(event(kind, "text", 1))
            assert called == left.get(kind, "")


async def test_callbacks_may_be_changed_by_a_callback() -> None:
    called: list[str] = []

    async with open_dispatcher() as (dispatcher, _):

        def once(one: RigEvent) -> None:
            called.append("once")
            dispatcher.clear_callbacks(ANY, once)
            dispatcher.assign_callback(ANY, lambda one: called.append("new"))

        dispatcher.assign_callback(ANY, once)
        dispatcher.dispatch(event(1))
        assert called == ["once"]
        dispatcher.dispatch(event(1))
        assert called == ["once", "new"]


async def test_methods_are_the_same_callback_each_time_they_are_named() -> None:
    class Rig:
        def heard(self, one: RigEvent) -> None:
            """Nothing."""

    rig = Rig()
    async with open_dispatcher() as (dispatcher, _):
        dispatcher.assign_callback(ANY, rig.heard)
        assert dispatcher.clear_callbacks(ANY, Rig().heard) == 0
        assert dispatcher.clear_callbacks(ANY, rig.heard) == 1
