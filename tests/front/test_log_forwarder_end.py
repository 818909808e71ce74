"""The end of a log forwarder: what is still sent, and how long that may take."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from tests.front.log_forwarding import Clock, Sink, Stubborn, forwarding, logger_with, make_link, over
from trionet._transport import Transport
from trionet.logs.forwarder import open_link


async def test_the_end_waits_until_all_is_sent(autojump_clock: Clock) -> None:
    sink = Sink(-0.5)
    async with forwarding(sink) as handler:
        with logger_with(handler) as logger:
            logger.info("short program")
    assert trio.current_time() == 0.5
    assert sink.messages == ["short program"]


async def test_the_end_waits_no_longer_than_allowed(
    autojump_clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    sink = Sink(-100.0)
    async with forwarding(sink, flush_timeout=3.0) as handler:
        with logger_with(handler) as logger:
            logger.info("one")
            logger.info("two")
    assert trio.current_time() == 3.0
    assert handler.statistics().dropped == 2
    assert [record.getMessage() for record in caplog.records] == [
        "sink: the end has come before the last records were sent: 2"
    ]


async def test_the_end_does_not_wait_without_connection(autojump_clock: Clock) -> None:
    sink = Sink(OSError("refused"))
    async with forwarding(sink) as handler:
        with logger_with(handler) as logger:
            logger.info("one")
            await trio.sleep(0.5)
    assert trio.current_time() == 0.5


async def test_the_end_does_not_wait_for_the_next_attempt(autojump_clock: Clock) -> None:
    sink = Sink()

    async def connect_slowly() -> Transport:
        await trio.sleep(0.25)
        raise OSError("refused")

    sink.connect = connect_slowly  # type: ignore[method-assign]
    async with forwarding(sink) as handler:
        with logger_with(handler) as logger:
            logger.info("one")
    assert trio.current_time() == 0.25


async def test_the_end_does_not_wait_if_all_is_sent(autojump_clock: Clock) -> None:
    async with forwarding(Sink()) as handler:
        with logger_with(handler) as logger:
            logger.info("one")
            await trio.sleep(1)
    assert trio.current_time() == 1.0


async def test_the_last_words_of_a_program_that_fails(autojump_clock: Clock) -> None:
    sink = Sink(-0.5)
    with pytest.raises(ExceptionGroup) as caught:
        async with forwarding(sink) as handler:
            with logger_with(handler) as logger:
                logger.critical("help")
                raise ValueError("bug")
    assert caught.group_contains(ValueError, match="bug")
    assert trio.current_time() == 0.5
    assert handler.statistics().sent == 1


async def test_what_the_block_raises_is_not_wrapped(autojump_clock: Clock) -> None:
    with pytest.raises(ValueError, match="bug"):
        async with over([Stubborn(False, [])]):
            raise ValueError("bug")


async def test_cancellation_does_not_wait(autojump_clock: Clock) -> None:
    sink = Sink(-100.0)
    with trio.move_on_after(0.25) as scope:
        async with forwarding(sink, flush_timeout=10.0) as handler:
            with logger_with(handler) as logger:
                logger.info("one")
                await trio.sleep_forever()
    assert scope.cancelled_caught
    assert trio.current_time() == 0.25


async def test_cancellation_ends_the_waiting_at_the_end(autojump_clock: Clock) -> None:
    sink = Sink(-100.0)
    with trio.move_on_after(0.25) as scope:
        async with forwarding(sink, flush_timeout=10.0) as handler:
            with logger_with(handler) as logger:
                logger.info("one")
    assert scope.cancelled_caught
    assert trio.current_time() == 0.25


async def test_cancellation_does_not_replace_an_exception(autojump_clock: Clock) -> None:
    """Neither while the end waits, nor before."""

    async def connect() -> Transport:
        await trio.sleep_forever()

    for at_once in (False, True):
        link = make_link(connect)
        start = trio.current_time()
        with pytest.raises(ValueError, match="bug"), trio.move_on_after(0.25) as scope:
            async with open_link(link, 10.0) as handler:
                with logger_with(handler) as logger:
                    logger.info("one")
                    if at_once:
                        scope.cancel()
                    raise ValueError("bug")
        assert trio.current_time() - start == (0.0 if at_once else 0.25)


async def test_a_handler_that_is_left_on_its_logger(autojump_clock: Clock) -> None:
    sink = Sink()
    async with forwarding(sink) as handler:
        pass
    with logger_with(handler) as logger:
        logger.info("too late")
        logger.info("%d", "x")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(handler, "_encode", lambda record: pytest.fail("a closed handler does nothing"))
            logger.info("too late")
    assert handler.statistics().waiting == 0
    assert handler.statistics().sent == 0
    assert sink.records == []
    handler.close()  # once more, as logging.shutdown() does


def test_a_handler_that_outlives_trio() -> None:
    handlers = []

    async def main() -> None:
        link = make_link(trio.sleep_forever)
        handlers.append(link.forwarder)
        link._backlog.take()  # as the task that sends, when it goes to sleep

    trio.run(main)
    (handler,) = handlers
    with logger_with(handler) as logger:
        logger.info("the event loop is gone, and the handler has not been closed")
    assert handler.statistics().waiting == 1


async def test_close_by_the_user(autojump_clock: Clock) -> None:
    sink = Sink()
    async with forwarding(sink) as handler:
        with logger_with(handler) as logger:
            logger.info("one")
            handler.close()
            logger.info("two")
    assert sink.messages == ["one"]
