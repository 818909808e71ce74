"""Warnings that strangers can cause: the first in full, then their number, on the mock clock."""

from __future__ import annotations

import logging

import pytest
import trio
import trio.testing

from trionet.rig._limited_log import LimitedLog

logger = logging.getLogger("test")


def texts(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was logged since the last call."""
    messages = [record.getMessage() for record in caplog.records]
    caplog.clear()
    return messages


async def test_the_first_five_in_full_and_then_a_count(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    log = LimitedLog(logger, "rig")
    for number in range(1000):
        log.warning("bad thing %d", number)
    assert texts(caplog) == [f"bad thing {number}" for number in range(5)]
    await trio.sleep(59)
    log.warning("bad thing")
    assert texts(caplog) == []
    await trio.sleep(1)
    log.warning("a minute later")
    count, message = texts(caplog)
    assert count.startswith("rig: 996 more ")
    assert message == "a minute later"


async def test_a_flood_is_counted_at_most_once_a_minute(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    log = LimitedLog(logger, "rig")
    for _ in range(600):
        for _ in range(10):
            log.warning("bad")
        await trio.sleep(1)
    assert len(texts(caplog)) == 10 * 5 + 9


async def test_few_are_never_counted(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    log = LimitedLog(logger, "rig")
    for _ in range(20):
        log.warning("bad")
        await trio.sleep(15)
    assert texts(caplog) == ["bad"] * 20
    log.flush()
    assert texts(caplog) == []


async def test_what_was_left_out_is_told_at_the_end_once(caplog: pytest.LogCaptureFixture) -> None:
    log = LimitedLog(logger, "rig")
    for _ in range(7):
        log.warning("bad")
    caplog.clear()
    log.flush()
    log.flush()
    (count,) = texts(caplog)
    assert count.startswith("rig: 2 more ")
