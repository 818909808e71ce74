"""Functions of the program that a portal runs in other threads, on a mock clock."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from trionet_compat.portal import open_portal


def test_the_clock_stands_still_while_a_thread_computes() -> None:
    def compute() -> str:
        sleeper_begun.wait()
        for _ in range(100):  # the portal has nothing to do, and could jump
            threading.Event().wait(0.0001)
        return threading.current_thread().name

    async def sleep_beside() -> None:
        sleeper_begun.set()
        await trio.sleep(1000)
        times.append(trio.current_time())

    async def main() -> str:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sleep_beside)
            began = trio.current_time()
            name = await portal.run_in_thread(compute, thread_name="a callback")
            assert trio.current_time() == began
        assert times == [began + 1000]
        return name

    sleeper_begun = threading.Event()
    times: list[float] = []
    with open_portal(clock=MockClock(autojump_threshold=0)) as portal:
        assert portal.call(main) == "a callback"


def test_time_passes_while_a_thread_waits_for_a_call() -> None:
    def sleep() -> tuple[float, float]:
        began = portal.current_time()
        portal.sleep(5)
        return began, portal.current_time()

    with open_portal(clock=MockClock(autojump_threshold=0)) as portal:
        began, ended = portal.call(portal.run_in_thread, sleep)
        assert ended == began + 5
        assert portal.current_time() == ended
        portal.sleep(1)
        assert portal.current_time() == ended + 1


def test_time_waits_for_the_thread_that_computes_of_two() -> None:
    def sleep() -> float:
        portal.sleep(5)
        woken.set()
        return portal.current_time()

    def compute() -> float:
        for _ in range(100):
            assert not woken.wait(0.0001)
        return portal.current_time()

    async def main() -> list[float]:
        ended: list[float] = []

        async def run(fn: Any) -> None:
            ended.append(await portal.run_in_thread(fn))

        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run, sleep)
            nursery.start_soon(run, compute)
        return [time - began for time in ended]

    woken = threading.Event()
    with open_portal(clock=MockClock(autojump_threshold=0)) as portal:
        assert sorted(portal.call(main)) == [0, 5]


def test_a_thread_that_is_given_up_stops_the_clock_no_more() -> None:
    def hang() -> None:
        begun.set()
        released.wait()

    async def main() -> None:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(portal.run_in_thread, hang)
                await trio.to_thread.run_sync(begun.wait)
                scope.cancel()
        await trio.sleep(1000)

    begun, released = threading.Event(), threading.Event()
    with open_portal(clock=MockClock(autojump_threshold=0)) as portal:
        portal.call(main)
        assert portal.current_time() >= 1000
    released.set()


def test_what_a_function_raises() -> None:
    def fail() -> None:
        raise ValueError("no light")

    with open_portal() as portal, pytest.raises(ValueError, match="no light"):
        portal.call(portal.run_in_thread, fail)
