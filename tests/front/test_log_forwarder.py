"""The handler that forwards records, over memory streams: what it makes of them, and its arguments."""

from __future__ import annotations

import logging
import math
import random
import sys
from typing import Any

import pytest
import trio
import trio.testing

from tests.front.log_forwarding import Clock, Sink, forwarding, logger_with
from trionet.logs.forwarder import open_log_forwarder
from trionet.wire.logs import LogMessage


async def test_records_arrive(autojump_clock: Clock) -> None:
    sink = Sink()
    async with forwarding(sink) as handler:
        with logger_with(handler) as logger:
            logger.info("one")
            logger.warning("two %d %s", 2, "x")
            logger.log(5, "three: a\nb\n")
            logger.log(35, "four")
            await handler.connected.wait_value(True)
            await trio.testing.wait_all_tasks_blocked()
            assert sink.messages == ["one", "two 2 x", "three: a\nb\n", "four"]
            logger.error("five")
            await trio.testing.wait_all_tasks_blocked()
            assert len(sink.records) == 5
    assert sink.records == [
        LogMessage("here", 20, "lab.laser", "one"),
        LogMessage("here", 30, "lab.laser", "two 2 x"),
        LogMessage("here", 5, "lab.laser", "three: a\nb\n"),
        LogMessage("here", 30, "lab.laser", "four"),
        LogMessage("here", 40, "lab.laser", "five"),
    ]
    assert sink.attempts == [0.0]
    statistics = handler.statistics()
    assert (statistics.sent, statistics.dropped, statistics.waiting) == (5, 0, 0)


async def test_statistics_of_the_connection(autojump_clock: Clock) -> None:
    sink = Sink(OSError("refused"), 3.0, OSError("refused"), math.inf)
    async with forwarding(sink) as handler:
        assert not handler.statistics().connected
        await handler.connected.wait_value(True)
        assert trio.current_time() == 1.0
        assert handler.statistics().connected
        await handler.connected.wait_value(False)
        assert trio.current_time() == 4.0
        await handler.connected.wait_value(True)
        assert trio.current_time() == 10.0
    assert sink.attempts == [0.0, 1.0, 6.0, 10.0]


async def test_traceback_and_stack(autojump_clock: Clock) -> None:
    sink = Sink()
    async with forwarding(sink) as handler:
        with logger_with(handler) as logger:
            try:
                raise ZeroDivisionError("by zero")
            except ZeroDivisionError:
                logger.exception("failed")
            logger.info("where", stack_info=True)
    first, second = sink.messages
    assert first.startswith("failed\nTraceback (most recent call last):\n  File ")
    assert first.endswith("\nZeroDivisionError: by zero")
    assert second.startswith("where\nStack (most recent call last):\n")


async def test_a_formatter_and_a_filter_of_the_user(autojump_clock: Clock) -> None:
    sink = Sink()
    async with forwarding(sink) as handler:
        handler.setFormatter(logging.Formatter("<%(levelname)s> %(message)s"))
        handler.addFilter(lambda record: record.levelno != 10)
        handler.setLevel(logging.DEBUG)
        with logger_with(handler) as logger:
            logger.info("one")
            logger.debug("two")
            logger.log(9, "three")
    assert sink.messages == ["<INFO> one"]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="filters return records since Python 3.12")
async def test_a_filter_that_returns_another_record(autojump_clock: Clock) -> None:
    sink = Sink()
    async with forwarding(sink) as handler:
        other = logging.LogRecord("n", 20, "", 0, "other", (), None)
        handler.addFilter(lambda record: other)  # type: ignore[arg-type,return-value,unused-ignore]
        with logger_with(handler) as logger:
            logger.info("one")
    assert sink.messages == ["other"]


async def test_a_source_of_its_own(autojump_clock: Clock) -> None:
    sink = Sink()
    async with forwarding(sink) as handler:
        with logger_with(handler) as logger:
            logger.info("one", extra={"source": "there"})
            logger.info("two", extra={"source": ""})
            logger.info("three", extra={"source": None})
            logger.info("four", extra={"source": 4})
    assert [record.source for record in sink.records] == ["there", "", "here", "4"]


async def test_arguments_may_change_later(autojump_clock: Clock) -> None:
    sink = Sink()
    values = [1]
    async with forwarding(sink) as handler:
        with logger_with(handler) as logger:
            logger.info("%s", values)
            values.append(2)
    assert sink.messages == ["[1]"]


class Hostile:
    """Cannot be shown."""

    def __str__(self) -> str:
        raise RuntimeError("no")

    __repr__ = __str__


class Endless:
    def __init__(self, logger: logging.Logger) -> None:
        self.logger = logger

    def __str__(self) -> str:
        self.logger.info("%s", self)
        return "endless"


async def test_records_that_cannot_be_formatted(autojump_clock: Clock) -> None:
    sink = Sink()
    async with forwarding(sink) as handler:
        with logger_with(handler) as logger:
            logger.info("%d", "x")
            logger.info("%s")
            logger.info("%s %s", 1)
            logger.info("no", 1, 2)
            logger.info("%s", Hostile())
            logger.info(Hostile())
            logger.info("fine \udc80 %s", "\0")
            try:
                raise ZeroDivisionError("by zero")
            except ZeroDivisionError:
                logger.exception("%d", "x")
    assert sink.messages[:1] == [
        "%d [not formatted with ('x',): TypeError: %d format: a real number is required, not str]"
    ]
    assert sink.messages[1] == "%s"  # no arguments, so nothing is formatted
    assert "not enough arguments" in sink.messages[2]
    assert "not all arguments converted" in sink.messages[3]
    assert sink.messages[4:7] == [
        "%s [not formatted with <tuple>: RuntimeError: no]",
        "<Hostile> [not formatted with (): RuntimeError: no]",
        "fine \\udc80 \0",
    ]
    assert sink.messages[7].startswith("%d [not formatted with ('x',): TypeError")
    assert sink.messages[7].endswith("ZeroDivisionError: by zero")
    assert len(sink.messages) == 8


async def test_records_like_no_other(autojump_clock: Clock) -> None:
    """Built by hand, with anything in them."""
    sink = Sink()
    async with forwarding(sink) as handler:
        handler.handle(logging.makeLogRecord({"msg": "no level"}))
        handler.handle(logging.makeLogRecord({"msg": "no name", "levelno": 20, "name": None}))
        handler.handle(logging.makeLogRecord({"msg": "big", "levelno": 10**30, "name": "n:\n"}))
        handler.handle(logging.makeLogRecord({"msg": "s", "levelno": 20, "name": "n", "source": Hostile()}))
        broken = logging.makeLogRecord({"msg": "m", "levelno": 20, "name": "n", "exc_info": "no such"})
        handler.handle(broken)
        handler.emit(None)  # type: ignore[arg-type]
    assert sink.records == [
        LogMessage("here", 30, "trionet.logs", "a record could not be forwarded: TypeError"),
        LogMessage("here", 20, "None", "no name"),
        LogMessage("here", 50, "n__", "big"),
        LogMessage("here", 30, "trionet.logs", "a record could not be forwarded: RuntimeError"),
        sink.records[4],
        LogMessage("here", 30, "trionet.logs", "a record could not be forwarded: AttributeError"),
    ]
    assert sink.messages[4].startswith("m [not formatted with (): ")


async def test_formatters_and_filters_that_fail(autojump_clock: Clock) -> None:
    sink = Sink()

    def fail(record: logging.LogRecord) -> bool:
        raise RuntimeError("broken filter")

    async with forwarding(sink) as handler:
        handler.setFormatter(logging.Formatter("%(nothing)s %(message)s"))
        handler.addFilter(fail)
        with logger_with(handler) as logger:
            logger.info("hello %d", 3)
    (message,) = sink.messages
    assert message.startswith("hello %d [not formatted with (3,): ")
    assert "nothing" in message


async def test_recursion_while_formatting(autojump_clock: Clock) -> None:
    """It ends where Python says so, and the program goes on."""
    sink = Sink()
    async with forwarding(sink) as handler:
        with logger_with(handler) as logger:
            logger.info("%s", Endless(logger))
            logger.info("alive")
    assert sink.messages[-1] == "alive"


async def test_a_long_message_is_cut_off(autojump_clock: Clock) -> None:
    sink = Sink()
    async with forwarding(sink, max_record_size=2000) as handler:
        with logger_with(handler) as logger:
            logger.info("x" * 10_000)
            logger.info("next")
    assert len(sink.messages[0]) < 2000
    assert sink.messages[0].endswith(" [cut off here, 10000 bytes in all]")
    assert sink.messages[1] == "next"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_backlog": 0}, "max_backlog must be at least 1"),
        ({"max_record_size": 1023}, "max_record_size must be at least 1024"),
        ({"flush_timeout": -1.0}, "flush_timeout must be at least 0 s, not -1.0"),
        ({"connect_timeout": math.nan}, "connect_timeout must be at least 0 s, not nan"),
        ({"first_retry": 0.0}, "first delay"),
        ({"first_retry": 6.0}, "first delay"),
    ],
)
async def test_limits_that_make_no_sense(
    autojump_clock: Clock, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        async with open_log_forwarder("127.0.0.1", 1, source="s", **options):
            pass


async def test_a_host_name_that_cannot_be_one(
    autojump_clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_log_forwarder("a..b", 1, source="s", rng=random.Random(1)) as handler:
        await trio.sleep(10)
        assert not handler.connected.value
    assert len(caplog.records) == 1
