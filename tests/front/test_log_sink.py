"""The log sink over memory streams: what is re-emitted, what is refused, exact times on the mock clock."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections.abc import AsyncIterator, Iterator

import pytest
import trio
import trio.testing

from tests.wire.transcripts import load
from trionet._server import Connection
from trionet._transport import open_transport
from trionet.logs.sink import FORWARDED, Emit, Service, handle_forwarded, serve_log_sink

Stream = trio.StapledStream[trio.testing.MemorySendStream, trio.testing.MemoryReceiveStream]
Clock = trio.testing.MockClock

BANNER = b"ARTIQ logging\n"


class Collector(logging.Handler):
    """Keeps what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    @property
    def messages(self) -> list[str]:
        return [record.getMessage() for record in self.records]


def shown(record: logging.LogRecord) -> tuple[object, int, str, str]:
    return record.__dict__["source"], record.levelno, record.name, record.getMessage()


@contextlib.asynccontextmanager
async def served(
    emit: Emit | None, max_record_size: int = 10_000, handshake_timeout: float = 60.0
) -> AsyncIterator[tuple[Service, Stream]]:
    """A sink, and a stream to it."""
    service = Service(emit, max_record_size, handshake_timeout)
    ours, theirs = trio.testing.memory_stream_pair()

    async def serve() -> None:
        await service.serve(Connection(open_transport(theirs, "peer")))
        await theirs.aclose()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        yield service, ours
        nursery.cancel_scope.cancel()


async def send(stream: Stream, data: bytes) -> None:
    """Send, and wait until that has been dealt with."""
    await stream.send_all(data)
    await trio.testing.wait_all_tasks_blocked()


@contextlib.contextmanager
def handler_on(name: str, handler: logging.Handler) -> Iterator[logging.Logger]:
    logger = logging.getLogger(name)
    logger.addHandler(handler)
    try:
        yield logger
    finally:
        logger.removeHandler(handler)


async def test_every_field() -> None:
    log = Collector()
    async with served(log.handle) as (service, stream):
        await send(stream, BANNER)
        await send(stream, b"src:TRACE:a.b:low\nsrc:CRITICAL<3>:n:one\ntwo: 2\n\n")
        await send(stream, "::INFO:::100% ⚛ %s\r\n".encode())
        await send(stream, b":WARN::\n")
        assert service.records == 4
    assert [shown(record) for record in log.records] == [
        ("src", 5, "a.b", "low"),
        ("src", 50, "n", "one\ntwo: 2\n"),
        ("", 20, "print", ":INFO:::100% ⚛ %s\r"),
        ("", 30, "", ""),
    ]
    assert [record.levelname for record in log.records] == ["TRACE", "CRITICAL", "INFO", "WARNING"]


async def test_percent_signs_are_text() -> None:
    log = Collector()
    async with served(log.handle) as (_, stream):
        await send(stream, BANNER + b"s:INFO:n:100% %s %(a)s %d\n")
    assert log.messages == ["100% %s %(a)s %d"]


async def test_the_recorded_session() -> None:
    """What upstream's forwarder sent, to the handlers of a program."""
    (recording,) = load("logging_session")
    log = Collector()
    log.setFormatter(logging.Formatter("%(source)s:%(levelname)s:%(name)s:%(message)s"))
    async with served(log.handle) as (_, stream):
        for line in recording.lines("client"):
            await send(stream, line)
    formatted = [log.format(record) for record in log.records]
    assert formatted[3:7] == [
        "src42:TRACE:client.logger:trace",
        "src42:CRITICAL:client.logger:unicode ⚛",
        "src42:INFO:client.logger:three\nlines\nhere",
        "src42:INFO:client.logger:ends with newline\n",
    ]
    assert len(formatted) == 10
    assert formatted[9].endswith("ZeroDivisionError: division by zero")


async def test_records_go_to_the_handlers_of_the_program() -> None:
    """Whatever the levels of its loggers are: the root logger has WARNING, unless told otherwise."""
    local, above = Collector(), Collector()
    above.setLevel(logging.INFO)
    with handler_on(FORWARDED, local) as logger, handler_on("", above):
        logger.setLevel(logging.ERROR)
        async with served(None) as (_, stream):
            await send(stream, BANNER + b"s:DEBUG:n:one\ns:INFO:n:two\n")
            logger.propagate = False
            await send(stream, b"s:INFO:n:three\n")
            logger.propagate = True
            logger.addFilter(no_noise)
            await send(stream, b"s:INFO:noise:four\n")
            logger.removeFilter(no_noise)
        logger.setLevel(logging.NOTSET)
    assert local.messages == ["one", "two", "three"]
    assert above.messages == ["two"]


def no_noise(record: logging.LogRecord) -> bool:
    return record.name != "noise"


async def test_no_loggers_are_made_for_names_that_come_in() -> None:
    log = Collector()
    with handler_on(FORWARDED, log):
        async with served(None) as (_, stream):
            await send(stream, BANNER + b"s:INFO:never.heard.of:m\n")
    assert log.messages == ["m"]
    assert "never.heard.of" not in logging.Logger.manager.loggerDict


async def test_the_program_may_have_a_name_for_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    log = Collector()
    names = {level: name for level, name in logging._levelToName.items() if level != 5}
    monkeypatch.setattr(logging, "_levelToName", names)  # modules of upstream give it one
    async with served(log.handle) as (_, stream):
        await send(stream, BANNER + b"s:TRACE:n:m\n")
        assert logging.getLevelName(5) == "Level 5"  # the registry is not touched
        monkeypatch.setattr(logging, "_levelToName", {**names, 5: "FINE"})
        await send(stream, b"s:TRACE:n:m\n")
    assert [record.levelname for record in log.records] == ["TRACE", "FINE"]


async def test_the_record_factory_of_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    log = Collector()

    class Record(logging.LogRecord):
        room = "B12"
        source = "default"

    monkeypatch.setattr(logging, "_logRecordFactory", Record)
    async with served(log.handle) as (_, stream):
        await send(stream, BANNER + b"s:INFO:n:m\n")
    (record,) = log.records
    assert isinstance(record, Record)
    assert record.room == "B12"
    assert record.source == "s"


@pytest.mark.parametrize("error", [RuntimeError("disk full"), asyncio.CancelledError("disk full")])
async def test_an_emit_that_fails(error: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    """It is logged once, and the records behind it are handed on."""
    seen = []

    def emit(record: logging.LogRecord) -> None:
        if "bad" in record.getMessage():
            raise error
        seen.append(record.getMessage())

    async with served(emit) as (service, stream):
        await send(stream, BANNER + b"s:INFO:n:bad\ns:INFO:n:good\ns:INFO:n:bad\ns:INFO:n:good\n")
        assert (service.records, service.failed_records, service.refused) == (4, 2, 0)
    assert seen == ["good", "good"]
    (complaint,) = caplog.records
    assert complaint.name == "trionet.logs"
    assert complaint.getMessage() == "peer: a record could not be logged here"
    assert complaint.exc_info is not None
    assert str(complaint.exc_info[1]) == "disk full"


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
async def test_an_emit_that_ends_the_program(error: type[BaseException]) -> None:
    def emit(record: logging.LogRecord) -> None:
        raise error

    with pytest.raises(BaseExceptionGroup) as caught:
        async with served(emit) as (_, stream):
            await send(stream, BANNER + b"s:INFO:n:m\n")
            await trio.sleep_forever()
    assert caught.group_contains(error)


async def test_an_async_emit() -> None:
    async def emit(record: logging.LogRecord) -> None:
        pass

    with pytest.raises(TypeError, match="not an async one"):
        await serve_log_sink(0, emit=emit)


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (b"ARTIQ other\n", "not the banner of a log forwarder: b'ARTIQ other'"),
        (b"x" * 20_000, "a line of more than 10000 bytes"),
        (BANNER + b"nocolon\n", "a record without a source: b'nocolon'"),
        (BANNER + b"\n", "a record without a source: b''"),
        (BANNER + b"s:INFO:n:\xff\n", "a record that is not UTF-8: b'\\xff'"),
        (BANNER + b"s:INFO<999999999>:n:m\n", "a record of 999999999 lines"),
        (BANNER + b"s:INFO:n:" + b"x" * 20_000, "a line of more than 10000 bytes"),
        (BANNER + b"s:INFO<9>:n:\n" + (b"x" * 5000 + b"\n") * 8, "a record of more than 10000 bytes"),
    ],
)
async def test_what_is_refused(sent: bytes, reason: str, caplog: pytest.LogCaptureFixture) -> None:
    log = Collector()
    async with served(log.handle) as (service, stream):
        await send(stream, sent)
        assert await stream.receive_some() == b""  # closed
        assert service.refused == 1
    assert [(one.name, one.levelname, one.getMessage()) for one in caplog.records] == [
        ("trionet.logs", "WARNING", f"peer: connection closed: {reason}")
    ]
    assert log.records == []


async def test_what_came_before_is_handed_on() -> None:
    log = Collector()
    async with served(log.handle) as (_, stream):
        await send(stream, BANNER + b"s:INFO:n:one\nbad\ns:INFO:n:two\n")
        assert await stream.receive_some() == b""
    assert log.messages == ["one"]


@pytest.mark.parametrize("sent", [b"", b"ARTIQ", BANNER, BANNER + b"s:INFO:n:one\n"])
async def test_a_forwarder_that_leaves(sent: bytes, caplog: pytest.LogCaptureFixture) -> None:
    log = Collector()
    with caplog.at_level(logging.INFO):
        async with served(log.handle) as (_, stream):
            await send(stream, sent)
            await stream.send_eof()
            assert await stream.receive_some() == b""
    assert len(log.records) == sent.count(b"INFO")
    assert caplog.records == []


@pytest.mark.parametrize("sent", [b"s:INFO:n:cut o", b"s:INFO<3>:n:one\n", b"s:INFO<3>:n:one\ntwo\nthr"])
async def test_a_record_that_is_cut_off_is_lost(sent: bytes, caplog: pytest.LogCaptureFixture) -> None:
    log = Collector()
    with caplog.at_level(logging.INFO):
        async with served(log.handle) as (_, stream):
            await send(stream, BANNER + sent)
            await stream.send_eof()
            assert await stream.receive_some() == b""
    assert log.records == []
    assert [(one.levelname, one.getMessage()) for one in caplog.records] == [
        ("INFO", "peer: the connection has ended in the middle of a record")
    ]


async def test_a_client_that_says_nothing(autojump_clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    log = Collector()
    async with served(log.handle, handshake_timeout=7.0) as (_, stream):
        await stream.send_all(b"ARTIQ")
        assert await stream.receive_some() == b""
        assert trio.current_time() == 7.0
    assert [one.getMessage() for one in caplog.records] == ["peer: no log forwarder within 7.0 s"]


async def test_a_forwarder_may_be_silent(autojump_clock: Clock) -> None:
    log = Collector()
    async with served(log.handle, handshake_timeout=7.0) as (_, stream):
        await stream.send_all(BANNER)
        await trio.sleep(80_000)
        await send(stream, b"s:INFO:n:still here\n")
    assert log.messages == ["still here"]


async def test_other_tasks_run_while_many_records_come() -> None:
    log = Collector()
    progress = []
    async with served(log.handle) as (_, stream):
        await stream.send_all(BANNER + b"s:INFO:n:m\n" * 10_000)
        while len(log.records) < 10_000:
            progress.append(len(log.records))
            await trio.lowlevel.checkpoint()
    assert len(set(progress)) > 10


async def test_default_is_to_log_here() -> None:
    service = Service(None, 1000, 1.0)
    assert service._emit is handle_forwarded


async def test_listeners_of_the_program() -> None:
    """Over a listener without sockets, through the public function."""
    log = Collector()
    listener = trio.testing.open_stream_to_socket_listener
    (socket_listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with trio.open_nursery() as nursery:
        sink = await nursery.start(
            functools.partial(serve_log_sink, 0, emit=log.handle, listeners=[socket_listener])
        )
        async with await listener(socket_listener) as stream:
            await stream.send_all(BANNER + b"s:INFO:n:m\n")
            await stream.send_eof()
            assert await stream.receive_some() == b""
        statistics = sink.statistics()
        await sink.aclose()
    assert log.messages == ["m"]
    assert (statistics.accepted, statistics.records, statistics.failed_records) == (1, 1, 0)
