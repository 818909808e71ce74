"""`trionet_compat.sipyco.logs`."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

import trionet
from tests.compat.asyncio_programs import Told, port_of, run
from trionet_compat.sipyco import logs


class Kept(logging.Handler):
    """Keeps the records that have a source, as tuples."""

    def __init__(self) -> None:
        super().__init__()
        self.told = Told()

    def emit(self, record: logging.LogRecord) -> None:
        if hasattr(record, "source"):
            self.told((record.source, record.levelno, record.name, record.getMessage()))


@pytest.fixture(autouse=True)
def patient_flushes(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was logged last is sent, also where the machine stands still for more than a second then."""
    options = trionet.open_log_forwarder.__wrapped__.__kwdefaults__  # type: ignore[attr-defined]
    monkeypatch.setitem(options, "flush_timeout", 30.0)


@pytest.fixture
def kept() -> Iterator[Kept]:
    """What the logger of forwarded records is given."""
    handler = Kept()
    logs._fwd_logger.addHandler(handler)
    logs._fwd_logger.setLevel(logging.TRACE)  # type: ignore[attr-defined]
    yield handler
    logs._fwd_logger.setLevel(logging.NOTSET)
    logs._fwd_logger.removeHandler(handler)
    logs._fwd_logger.name = "fwd"


# -- text --------------------------------------------------------------------------------------------------


def test_importing_names_the_level() -> None:
    assert logging.TRACE == 5  # type: ignore[attr-defined]
    assert logging.getLevelName(5) == "TRACE"


@pytest.mark.parametrize(
    ("message", "text"),
    [("one", "INFO:n:one"), ("one\ntwo", "INFO<2>:n:one\ntwo"), ("", "INFO:n:")],
)
def test_records_as_text(message: str, text: str) -> None:
    record = logging.LogRecord("n", logging.INFO, "", 0, message, (), None)
    assert logs.MultilineFormatter().format(record) == text
    extra, level, name, first = logs.parse_log_message(text.split("\n")[0])
    assert (extra, level, name) == (message.count("\n"), logging.INFO, "n")
    assert first == message.split("\n")[0]


def test_the_lines_of_a_traceback_count() -> None:
    try:
        raise ValueError("so it is")
    except ValueError:
        record = logging.LogRecord("n", logging.ERROR, "", 0, "failed", (), sys.exc_info())
    text = logs.MultilineFormatter().format(record)
    assert text.startswith(f"ERROR<{len(text.splitlines())}>:n:failed\nTraceback")


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("WARN:a.b:x:y", (0, logging.WARNING, "a.b", "x:y")),
        ("WARNING<3>:a:x", (2, logging.WARNING, "a", "x")),
        ("TRACE:a:", (0, 5, "a", "")),
        ("CRITICAL<0>:a:x", (0, logging.CRITICAL, "a", "x")),
        ("info:a:x", (0, logging.INFO, "print", "info:a:x")),
        ("INFO:a", (0, logging.INFO, "print", "INFO:a")),
        ("INFO:a:x\ny", (0, logging.INFO, "print", "INFO:a:x\ny")),
        ("", (0, logging.INFO, "print", "")),
        ("INFO:\u269b:\ud800", (0, logging.INFO, "\u269b", "\ud800")),
    ],
)
def test_lines_are_read(text: str, parsed: tuple[int, int, str, str]) -> None:
    assert logs.parse_log_message(text) == parsed


def test_everything_can_be_logged_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        logs.multiline_log_config(logging.WARNING)
        logging.getLogger("some").warning("one\ntwo")
        logging.getLogger("some").info("three")
    finally:
        root.setLevel(level)
        root.handlers[:] = handlers
    assert capsys.readouterr().err == "WARNING<2>:some:one\ntwo\n"


def test_the_name_of_another_programs_logger(kept: Kept) -> None:
    logs.log_with_name("elsewhere", logging.ERROR, "%d of %d", 1, 2, extra={"source": "camera-pc"})
    logs.log_with_name("another", logging.INFO, "100 %", extra={"source": "here"})
    assert kept.told.values == [
        ("camera-pc", logging.ERROR, "elsewhere", "1 of 2"),
        ("here", logging.INFO, "another", "100 %"),
    ]
    assert "elsewhere" not in logging.Logger.manager.loggerDict


# -- parsing what other programs print ---------------------------------------------------------------------


def test_lines_become_records(kept: Kept) -> None:
    parser = logs.LogParser(lambda: "child")
    for line in ("INFO<2>:a:one", "two", "printed", "ERROR:b:100 %s"):
        parser.line_input(line)
    assert kept.told.values == [
        ("child", logging.INFO, "a", "one\ntwo"),
        ("child", logging.INFO, "print", "printed"),
        ("child", logging.ERROR, "b", "100 %s"),
    ]


def test_a_stream_is_read_to_its_end_whatever_is_in_it(kept: Kept) -> None:
    async def main() -> None:
        stream = asyncio.StreamReader(limit=32)
        stream.feed_data(b"INFO:a:one\r\n" + b"x" * 100 + b"\n" + b"DEBUG:a:\xff\n" + b"no end")
        stream.feed_eof()
        await logs.LogParser(lambda: "child").stream_task(stream)

    run(main)
    assert kept.told.values == [
        ("child", logging.INFO, "a", "one"),
        ("child", logging.DEBUG, "a", "\\xff"),
        ("child", logging.INFO, "print", "no end"),
    ]


def test_reading_a_stream_ends_quietly_when_it_is_cancelled_or_the_stream_fails() -> None:
    async def main() -> None:
        parser = logs.LogParser(lambda: "child")
        task = asyncio.create_task(parser.stream_task(asyncio.StreamReader()))
        await asyncio.sleep(0)
        task.cancel()
        await task
        broken = asyncio.StreamReader()
        broken.set_exception(BrokenPipeError())
        await parser.stream_task(broken)

    run(main)


# -- forwarding --------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def serving(port: int = 0) -> AsyncIterator[int]:
    server = logs.Server()
    await server.start("127.0.0.1", port)
    try:
        yield port_of(server)
    finally:
        await server.stop()


def record(message: str, level: int = logging.INFO, **attributes: Any) -> logging.LogRecord:
    return logging.makeLogRecord({"name": "n", "levelno": level, "msg": message, **attributes})


def test_records_arrive_at_a_server(kept: Kept) -> None:
    async def main() -> None:
        async with serving() as port:
            forwarder = logs.LogForwarder("127.0.0.1", port, level=logging.INFO)
            forwarder.addFilter(logs.SourceFilter(logging.INFO, "here"))
            forwarder.handle(record("before it was started"))
            forwarder.start()
            assert isinstance(forwarder.task, asyncio.Task)
            await kept.told.wait(1)
            forwarder.handle(record("one\ntwo", logging.ERROR))
            forwarder.handle(record("not from here", source="elsewhere"))
            forwarder.handle(record("not important", logging.DEBUG))
            await kept.told.wait(3)
            thread = threading.Thread(target=forwarder.handle, args=(record("by a thread"),))
            thread.start()
            thread.join()
            assert await kept.told.wait(4) == [
                ("here", logging.INFO, "n", "before it was started"),
                ("here", logging.ERROR, "n", "one\ntwo"),
                ("elsewhere", logging.INFO, "n", "not from here"),
                ("here", logging.INFO, "n", "by a thread"),
            ]
            await forwarder.stop()
            assert not hasattr(forwarder, "task")

    run(main)


def test_stopping_sends_what_was_logged_last_and_a_second_start_goes_on(kept: Kept) -> None:
    async def main() -> None:
        async with serving() as port:
            forwarder = logs.LogForwarder("127.0.0.1", port)
            forwarder.setFormatter(logging.Formatter("<%(message)s>"))
            for number in range(2):
                forwarder.start()
                forwarder.handle(record(f"{number} started", source="here"))
                await forwarder.stop()
                forwarder.handle(record(f"{number} stopped", source="here"))
            told = await kept.told.wait(3)
            assert [message for *_, message in told] == ["<0 started>", "<0 stopped>", "<1 started>"]
            forwarder.start()
            await kept.told.wait(4)
            forwarder.handle(record("still there", source="here"))
            assert (await kept.told.wait(5))[-1][-1] == "<still there>"
            assert not forwarder.task.done()
            await forwarder.stop()

    run(main)


def test_a_forwarder_may_be_stopped_without_a_server_or_cancelled() -> None:
    async def main() -> None:
        async with serving() as port:
            pass
        forwarder = logs.LogForwarder("127.0.0.1", port, reconnect_timer=0)
        forwarder.start()
        await asyncio.sleep(0)
        await forwarder.stop()
        forwarder.start()
        await asyncio.sleep(0)
        forwarder.task.cancel()
        await forwarder.stop()

    run(main)


def test_so_many_records_may_wait() -> None:
    forwarder = logs.LogForwarder("127.0.0.1", 1, queue_size=2)
    for number in range(3):
        forwarder.handle(record(str(number), source="here"))
    assert [one.msg for one in forwarder._waiting] == ["1", "2"]
    forwarder.close()


def test_a_record_without_source_is_an_error_of_the_handler(capsys: pytest.CaptureFixture[str]) -> None:
    forwarder = logs.LogForwarder("127.0.0.1", 1)
    forwarder.handle(record("from nowhere"))
    assert "SourceFilter" in capsys.readouterr().err
    assert not forwarder._waiting
    forwarder.close()


@pytest.mark.parametrize(
    ("level", "source", "passes"),
    [(10, None, False), (30, None, True), (10, "here", False), (10, "elsewhere", True)],
)
def test_a_filter_is_for_records_of_this_program(level: int, source: str | None, passes: bool) -> None:
    one = record("message", level, **({} if source is None else {"source": source}))
    assert logs.SourceFilter(20, "here").filter(one) is passes
    assert one.__dict__["source"] == (source or "here")


def test_a_forwarder_that_breaks_the_protocol_is_named(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with serving() as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"ARTIQ logging\nno source\n")
            assert await reader.read() == b""
            writer.close()
            await writer.wait_closed()

    run(main)
    (warning,) = (one for one in caplog.records if one.levelno == logging.WARNING)
    assert "127.0.0.1" in warning.getMessage()
