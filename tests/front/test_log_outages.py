"""Log forwarding when the sink is missing, slow or hostile: exact times on the mock clock."""

from __future__ import annotations

import math

import pytest
import trio
import trio.testing

from tests.front.log_forwarding import Clock, Sink, Stubborn, forwarding, logger_with, over
from trionet.logs._backlog import Backlog
from trionet.wire.logs import LogMessage


async def test_records_wait_for_a_connection(autojump_clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    sink = Sink(OSError("refused"), OSError("refused"), math.inf)
    async with forwarding(sink) as handler:
        with logger_with(handler) as logger:
            logger.info("one")
            await trio.sleep(2)
            logger.info("two")
            assert handler.statistics().waiting == 2
            await handler.connected.wait_value(True)
            assert trio.current_time() == 3.0
            await trio.testing.wait_all_tasks_blocked()
            assert sink.messages == ["one", "two"]
            await trio.sleep(10)
    assert sink.attempts == [0.0, 1.0, 3.0]
    assert [(record.name, record.getMessage()) for record in caplog.records] == [
        ("trionet.logs", "sink: refused; trying again, what is logged waits"),
        ("trionet.logs", "sink: connected again"),
    ]


async def test_the_oldest_are_dropped_and_counted(autojump_clock: Clock) -> None:
    sink = Sink(OSError("refused"), math.inf)
    async with forwarding(sink, max_backlog=3) as handler:
        with logger_with(handler) as logger:
            for number in range(8):
                logger.info("%d", number)
            assert handler.statistics().waiting == 3
            assert handler.statistics().dropped == 5
            await trio.sleep(10)
            logger.info("later")
            await trio.sleep(1)
    assert sink.records[:2] == [
        LogMessage(
            "here",
            30,
            "trionet.logs",
            "5 records were dropped here: the connection was lost or too slow",
        ),
        LogMessage("here", 20, "lab.laser", "5"),
    ]
    assert sink.messages[1:] == ["5", "6", "7", "later"]
    assert handler.statistics().sent == 4


async def test_one_record_was_dropped(autojump_clock: Clock) -> None:
    sink = Sink(OSError("refused"), math.inf)
    async with forwarding(sink, max_backlog=1) as handler:
        with logger_with(handler) as logger:
            logger.info("one")
            logger.info("two")
            await trio.sleep(10)
    assert sink.messages == ["1 record was dropped here: the connection was lost or too slow", "two"]


async def test_a_sink_that_leaves_is_noticed_at_once(autojump_clock: Clock) -> None:
    """While nothing is logged, so nothing is sent."""
    sink = Sink(100.0, math.inf)
    async with forwarding(sink) as handler:
        await handler.connected.wait_value(True)
        await handler.connected.wait_value(False)
        assert trio.current_time() == 100.0
        with logger_with(handler) as logger:
            logger.info("one")
        await trio.sleep(5)
        assert sink.messages == ["one"]
    assert sink.attempts == [0.0, 101.0]


async def test_a_connection_that_has_lasted(autojump_clock: Clock) -> None:
    """The attempts after it begin with the shortest delay again."""
    sink = Sink(OSError("refused"), OSError("refused"), 100.0, math.inf)
    async with forwarding(sink):
        await trio.sleep(200)
    assert sink.attempts == [0.0, 1.0, 3.0, 104.0]


async def test_what_a_sink_says_is_ignored(autojump_clock: Clock) -> None:
    sink = Sink()
    async with forwarding(sink) as handler:
        await handler.connected.wait_value(True)
        await sink.streams[0].send_all(b"hello?\n" * 100)
        with logger_with(handler) as logger:
            logger.info("one")
        await trio.testing.wait_all_tasks_blocked()
        assert sink.messages == ["one"]


async def test_trouble_does_not_feed_itself(autojump_clock: Clock) -> None:
    """The forwarder hears of its own outage once, however often an attempt fails."""
    sink = Sink(*[OSError(f"failure {number}") for number in range(1000)], math.inf)
    async with forwarding(sink, max_backlog=100) as handler:
        with logger_with(handler, "trionet"):
            await handler.connected.wait_value(True)
            assert len(sink.attempts) == 1001
            assert handler.statistics().waiting == 1
            assert handler.statistics().dropped == 0
            await trio.sleep(100)
    assert sink.messages == [
        "sink: failure 0; trying again, what is logged waits",
        "sink: connected again",
    ]


async def test_a_sink_that_accepts_and_closes_is_one_outage(
    autojump_clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    sink = Sink(*[1.0] * 1000, 10.0, math.inf)
    async with forwarding(sink, max_backlog=100) as handler:
        with logger_with(handler, "trionet"):
            await trio.sleep(7000)
            assert len(sink.attempts) == 1002
    assert [record.getMessage() for record in caplog.records] == [
        "sink: the sink has closed the connection; trying again, what is logged waits",
        "sink: connected again",
        "sink: the sink has closed the connection; trying again, what is logged waits",
        "sink: connected again",
    ]


async def test_reset_connection(autojump_clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    sink = Sink()
    async with forwarding(sink) as handler:
        await handler.connected.wait_value(True)
        with logger_with(handler) as logger:
            sink.streams[0].send_stream.close()
            sink.streams[0].receive_stream.close()
            logger.info("one")
            await trio.sleep(2)
            assert sink.messages == ["one"]


async def test_what_could_not_be_sent_is_sent_again(autojump_clock: Clock) -> None:
    taken: list[bytes] = []
    async with over([Stubborn(True, taken), Stubborn(False, taken)]) as handler:
        with logger_with(handler) as logger:
            logger.info("one")
            logger.info("two")
            await trio.sleep(0.5)
            assert handler.statistics().waiting == 2
            logger.info("three")
            await trio.sleep(2)
    batch = b"here:INFO:lab.laser:one\nhere:INFO:lab.laser:two\n"
    assert taken == [batch, batch, b"here:INFO:lab.laser:three\n"]
    assert handler.statistics().sent == 3
    assert handler.statistics().dropped == 0


async def test_what_breaks_two_connections_is_dropped(autojump_clock: Clock) -> None:
    """A sink may disconnect because of a record; it must not stand in the way for ever."""
    taken: list[bytes] = []
    async with over([Stubborn(True, taken), Stubborn(True, taken), Stubborn(False, taken)]) as handler:
        with logger_with(handler) as logger:
            logger.info("poison")
            await trio.sleep(0.5)
            logger.info("good")
            await trio.sleep(9)
    assert taken[:2] == [b"here:INFO:lab.laser:poison\n"] * 2
    assert taken[2:] == [
        b"here:WARNING:trionet.logs:1 record was dropped here: the connection was lost or too slow\n"
        b"here:INFO:lab.laser:good\n"
    ]
    assert handler.statistics().dropped == 1


async def test_sending_that_blocks(autojump_clock: Clock) -> None:
    """What is being sent when the sink leaves is sent again, and the rest keeps its bound meanwhile."""

    class Blocking(Stubborn):
        def send_nowait(self, data: bytes) -> int:
            if not self.greeted:
                return super().send_nowait(data)
            self.taken.append(data)
            return 1

        async def send_all(self, data: bytes | memoryview) -> None:
            await trio.sleep_forever()

        async def receive(self) -> bytes:
            await trio.sleep(50)
            return b""

    taken: list[bytes] = []
    async with over([Blocking(False, taken), Stubborn(False, taken)], max_backlog=3) as handler:
        with logger_with(handler) as logger:
            logger.info("one")
            await trio.sleep(1)
            for number in range(5):
                logger.info("%d", number)
            await trio.sleep(1)
            statistics = handler.statistics()
            assert (statistics.waiting, statistics.dropped, statistics.sent) == (4, 2, 0)
            await trio.sleep(60)
            statistics = handler.statistics()
            assert (statistics.waiting, statistics.dropped, statistics.sent) == (0, 3, 3)
    assert taken == [
        b"here:INFO:lab.laser:one\n",
        b"here:WARNING:trionet.logs:3 records were dropped here: the connection was lost or too slow\n"
        b"here:INFO:lab.laser:2\nhere:INFO:lab.laser:3\nhere:INFO:lab.laser:4\n",
    ]


async def test_many_records_are_sent_together(autojump_clock: Clock) -> None:
    taken: list[bytes] = []
    async with over([Stubborn(False, taken)]) as handler:
        with logger_with(handler) as logger:
            for number in range(1000):
                logger.info("%04d", number)
    assert taken == [b"".join(b"here:INFO:lab.laser:%04d\n" % number for number in range(1000))]


async def test_other_tasks_run_while_much_is_sent(autojump_clock: Clock) -> None:
    taken: list[bytes] = []
    progress = []
    async with over([Stubborn(False, taken)]) as handler:
        with logger_with(handler) as logger:
            for _ in range(100):
                logger.info("x" * 60_000)
        while handler.statistics().waiting:
            progress.append(handler.statistics().waiting)
            await trio.lowlevel.checkpoint()
    assert len(set(progress)) > 10
    assert max(map(len, taken)) < 3 * 65536


def test_batches_have_a_bound() -> None:
    backlog = Backlog(100, lambda count: b"%d dropped\n" % count)
    for _ in range(10):
        backlog.add(b"x" * 30_000)
    assert len(backlog.take()) == 90_000
    assert backlog.waiting == 10
    backlog.succeed()
    assert (backlog.waiting, backlog.sent) == (7, 3)


def test_a_report_that_could_not_be_sent() -> None:
    """It is made again, with those that were dropped meanwhile."""
    backlog = Backlog(2, lambda count: b"%d dropped\n" % count)
    for letter in (b"a", b"b", b"c"):
        backlog.add(letter)
    assert backlog.take() == b"1 dropped\nbc"
    backlog.fail()
    backlog.add(b"d")
    assert backlog.waiting == 2
    assert backlog.take() == b"2 dropped\nc"
    backlog.fail()
    assert backlog.take() == b"3 dropped\nd"
    backlog.succeed()
    assert backlog.take() == b""
    assert (backlog.sent, backlog.dropped) == (1, 3)


def test_only_a_taker_that_found_nothing_is_woken() -> None:
    backlog = Backlog(2, lambda count: b"%d dropped\n" % count)
    assert not backlog.add(b"a")
    assert backlog.take() == b"a"
    assert not backlog.add(b"b")
    backlog.succeed()
    assert backlog.take() == b"b"
    backlog.succeed()
    assert backlog.take() == b""
    assert backlog.add(b"c")
    assert not backlog.add(b"d")
