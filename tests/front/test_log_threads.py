"""Logging from threads, signal handlers, finalizers and forked processes."""

from __future__ import annotations

import gc
import math
import os
import signal
import threading
from typing import Any

import pytest
import trio
import trio.testing

from tests.front.log_forwarding import Clock, Sink, forwarding, logger_with


async def test_any_thread(autojump_clock: Clock) -> None:
    sink = Sink()
    async with forwarding(sink, max_backlog=10_000) as handler:
        with logger_with(handler) as logger:

            def log(thread: int) -> None:
                for number in range(200):
                    logger.info("%d %d", thread, number)

            async with trio.open_nursery() as nursery:
                for thread in range(8):
                    nursery.start_soon(trio.to_thread.run_sync, log, thread)
    assert sorted(sink.messages) == sorted(f"{thread} {n}" for thread in range(8) for n in range(200))
    for thread in range(8):  # in order
        numbers = [message.split()[1] for message in sink.messages if message.startswith(f"{thread} ")]
        assert numbers == [str(number) for number in range(200)]
    assert handler.statistics().dropped == 0


async def test_threads_that_log_more_than_fits(autojump_clock: Clock) -> None:
    """Every record is sent or counted."""
    sink = Sink(OSError("refused"), math.inf)
    async with forwarding(sink, max_backlog=50) as handler:
        with logger_with(handler) as logger:

            def log() -> None:
                for number in range(500):
                    logger.info("%d", number)

            async with trio.open_nursery() as nursery:
                for _ in range(4):
                    nursery.start_soon(trio.to_thread.run_sync, log)
            await trio.sleep(10)
    statistics = handler.statistics()
    assert statistics.sent + statistics.dropped == 2000
    reported = [int(record.message.split()[0]) for record in sink.records if record.name == "trionet.logs"]
    assert sum(reported) == statistics.dropped
    assert len(sink.records) - len(reported) == statistics.sent


async def test_an_idle_sender_is_woken_once(autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = Sink()
    async with forwarding(sink) as handler:
        await handler.connected.wait_value(True)
        await trio.testing.wait_all_tasks_blocked()
        wakes = []
        original = handler._wake
        monkeypatch.setattr(handler, "_wake", lambda: wakes.append(original()))
        with logger_with(handler) as logger:
            for _ in range(100):
                logger.info("one")
            await trio.testing.wait_all_tasks_blocked()
            assert len(wakes) == 1
            logger.info("two")
            await trio.testing.wait_all_tasks_blocked()
            assert len(wakes) == 2
    assert len(sink.records) == 101


async def test_a_thread_that_formats_does_not_hold_up_others(autojump_clock: Clock) -> None:
    """Other handlers hold their lock meanwhile."""
    sink = Sink()
    formatting = threading.Event()
    logged = threading.Event()

    class Slow:
        def __str__(self) -> str:
            formatting.set()
            assert logged.wait(30)
            return "slow"

    async with forwarding(sink) as handler:
        with logger_with(handler) as logger:

            def log_quickly() -> None:
                assert formatting.wait(30)
                logger.info("quick")
                logged.set()

            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.to_thread.run_sync, logger.info, "%s", Slow())
                nursery.start_soon(trio.to_thread.run_sync, log_quickly)
    assert sink.messages == ["quick", "slow"]


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no such signals here")
async def test_signal_handlers_and_finalizers(autojump_clock: Clock) -> None:
    """They come in between any two steps of the thread that they interrupt."""
    sink = Sink()
    count = 0

    class Dying:
        def __init__(self) -> None:
            self.itself = self  # so that the collector finds it, at any time

        def __del__(self) -> None:
            nonlocal count
            count += 1
            logger.info("dying")

    async with forwarding(sink, max_backlog=100_000) as handler:
        with logger_with(handler) as logger:

            def interrupt(number: int, frame: Any) -> None:
                nonlocal count
                count += 1
                logger.info("interrupted")

            previous = signal.signal(signal.SIGALRM, interrupt)
            threshold = gc.get_threshold()
            gc.set_threshold(5, 2, 2)
            signal.setitimer(signal.ITIMER_REAL, 0.0001, 0.0001)
            try:
                for _ in range(5000):
                    Dying()
                    logger.info("working")
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
                signal.signal(signal.SIGALRM, previous)
                gc.set_threshold(*threshold)
            gc.collect()
    assert len(sink.records) == 5000 + count
    assert count >= 5000
    assert "interrupted" in sink.messages


async def test_a_forked_child_forwards_nothing(
    autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = Sink()
    async with forwarding(sink) as handler:
        with logger_with(handler) as logger:
            process = os.getpid()
            monkeypatch.setattr(os, "getpid", lambda: process + 1)
            logger.info("in the child")
            monkeypatch.undo()
            logger.info("in the parent")
    assert sink.messages == ["in the parent"]
