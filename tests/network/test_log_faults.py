"""Log forwarding over real loopback: many threads, sinks that come and go, peers that break the protocol."""

from __future__ import annotations

import contextlib
import logging
import socket
import struct
import threading
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import trio
from trio_util import AsyncValue

from tests.network.certificates import Certificates
from trionet.logs.forwarder import LogForwarder, open_log_forwarder
from trionet.logs.sink import FORWARDED, LogSink, serve_log_sink

BANNER = b"ARTIQ logging\n"


class Received:
    """What a sink has been sent."""

    def __init__(self) -> None:
        self.records: list[logging.LogRecord] = []
        self.count = AsyncValue(0)

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)
        self.count.value = len(self.records)

    async def wait_for(self, message: str) -> None:
        """Until this has arrived."""
        with trio.fail_after(30):
            await self.count.wait_value(lambda _: message in self.messages)

    async def wait_count(self, count: int) -> None:
        with trio.fail_after(60):
            await self.count.wait_value(lambda value: value >= count)

    @property
    def messages(self) -> list[str]:
        return [record.getMessage() for record in self.records]


async def start(nursery: trio.Nursery, received: Received | None, port: int = 0, **options: Any) -> LogSink:
    emit = received.emit if received is not None else None
    sink: LogSink = await nursery.start(lambda **kw: serve_log_sink(port, emit=emit, **options, **kw))
    return sink


@contextlib.asynccontextmanager
async def forwarding(port: int, **options: Any) -> AsyncIterator[tuple[LogForwarder, logging.Logger]]:
    """A forwarder, and a logger that belongs to no other and has it as handler."""
    defaults: dict[str, Any] = {"first_retry": 0.001, "max_retry": 0.1, "flush_timeout": 30.0}
    async with open_log_forwarder("127.0.0.1", port, source="here", **defaults | options) as handler:
        logger = logging.Logger("lab.laser", 1)
        logger.addHandler(handler)
        yield handler, logger


async def wait_connected(handler: LogForwarder, connected: bool = True) -> None:
    with trio.fail_after(30):
        await handler.connected.wait_value(connected)


def reset(stream: trio.SocketStream) -> None:
    """Close so that the peer gets a reset instead of an end of file."""
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    stream.socket.close()


async def send_ignoring_errors(stream: trio.SocketStream, data: bytes) -> None:
    with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):  # refused half-way
        await stream.send_all(data)


async def receive_all(stream: trio.SocketStream) -> bytes:
    received = b""
    with contextlib.suppress(trio.BrokenResourceError), trio.fail_after(30):
        while data := await stream.receive_some():
            received += data
    return received


async def check_alive(sink: LogSink, received: Received) -> None:
    async with forwarding(sink.port) as (_, logger):
        logger.info("alive")
    await received.wait_for("alive")


async def test_everything_arrives_as_it_was() -> None:
    received = Received()
    async with trio.open_nursery() as nursery:
        sink = await start(nursery, received)
        async with forwarding(sink.port) as (_, logger):
            logger.log(5, "low")
            logger.critical("multi\nline: %s\n", "⚛")
            logger.log(35, "odd", extra={"source": "other"})
            try:
                raise ZeroDivisionError("by zero")
            except ZeroDivisionError:
                logger.exception("failed")
        await received.wait_count(4)
        assert sink.statistics().records == 4
        await sink.aclose()
    shown = [
        (one.__dict__["source"], one.levelname, one.name, one.getMessage().split("\n")[0])
        for one in received.records
    ]
    assert shown == [
        ("here", "TRACE", "lab.laser", "low"),
        ("here", "CRITICAL", "lab.laser", "multi"),
        ("other", "WARNING", "lab.laser", "odd"),
        ("here", "ERROR", "lab.laser", "failed"),
    ]
    assert received.messages[1] == "multi\nline: ⚛\n"
    assert received.messages[3].endswith("\nZeroDivisionError: by zero")


async def test_a_thousand_records_from_each_of_eight_threads() -> None:
    received = Received()
    async with trio.open_nursery() as nursery:
        sink = await start(nursery, received)
        async with forwarding(sink.port, max_backlog=10_000) as (handler, logger):

            def log(thread: int) -> None:
                for number in range(1000):
                    logger.info("%d\n%d", thread, number)

            async with trio.open_nursery() as threads:
                for thread in range(8):
                    threads.start_soon(trio.to_thread.run_sync, log, thread)
        await received.wait_count(8000)
        assert handler.statistics().sent == 8000
        assert handler.statistics().dropped == 0
        await sink.aclose()
    assert len(received.records) == 8000
    for thread in range(8):
        numbers = [int(text.split("\n")[1]) for text in received.messages if text.startswith(f"{thread}\n")]
        assert numbers == list(range(1000))


async def test_a_sink_that_is_stopped_and_started_again(caplog: pytest.LogCaptureFixture) -> None:
    before, after = Received(), Received()
    async with trio.open_nursery() as nursery:
        sink = await start(nursery, before)
        async with forwarding(sink.port, max_backlog=100) as (handler, logger):
            logger.info("one")
            await before.wait_for("one")
            await sink.aclose()
            await wait_connected(handler, False)
            for number in range(150):
                logger.info("%d", number)
            sink = await start(nursery, after, sink.port)
            await after.wait_for("149")
            assert after.messages == [
                "50 records were dropped here: the connection was lost or too slow",
                *[str(number) for number in range(50, 150)],
            ]
            logger.info("two")
            await after.wait_for("two")
        await sink.aclose()
    reported = [record for record in caplog.records if record.name == "trionet.logs"]
    assert [record.levelname for record in reported] == ["WARNING"] * len(reported)
    assert "the sink has closed the connection" in reported[0].getMessage()
    assert sum("trying again" in record.getMessage() for record in reported) == 1


async def test_threads_that_log_while_the_sink_comes_and_goes() -> None:
    """None of them notices; each record arrives, or was in a connection that broke, or is counted."""
    received = Received()
    stop = threading.Event()
    logged = [0] * 4
    async with trio.open_nursery() as nursery:
        sink = await start(nursery, received)
        async with forwarding(sink.port) as (handler, logger):

            def log(thread: int) -> None:
                while not stop.wait(0.0001):
                    logger.info("thread %d: %d", thread, logged[thread])
                    logged[thread] += 1

            async with trio.open_nursery() as threads:
                for thread in range(4):
                    threads.start_soon(trio.to_thread.run_sync, log, thread)
                for _ in range(10):
                    await received.wait_count(len(received.records) + 50)
                    await sink.aclose()
                    await wait_connected(handler, False)
                    sink = await start(nursery, received, sink.port)
                    await wait_connected(handler)
                stop.set()
            logger.info("end")
            await received.wait_for("end")
            statistics = handler.statistics()
        await sink.aclose()
    assert statistics.sent + statistics.dropped == sum(logged) + 1
    assert statistics.waiting == 0
    for thread in range(4):
        prefix = f"thread {thread}: "
        numbers = [int(text.removeprefix(prefix)) for text in received.messages if text.startswith(prefix)]
        first_times = list(dict.fromkeys(numbers))  # some may have come twice
        assert first_times
        assert first_times == sorted(first_times)


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_a_sink_that_leaves_an_idle_forwarder(how: str) -> None:
    arrived = trio.Event()
    connections = 0

    async def leave(stream: trio.SocketStream) -> None:
        nonlocal connections
        connections += 1
        if connections == 3:
            arrived.set()
        await stream.receive_some()
        if how == "reset":
            reset(stream)
        await stream.aclose()

    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listeners[0].socket.getsockname()[1]
        nursery.start_soon(trio.serve_listeners, leave, listeners)
        async with forwarding(port):
            with trio.fail_after(30):
                await arrived.wait()
        nursery.cancel_scope.cancel()


async def test_a_sink_that_does_not_read() -> None:
    """The sockets fill, then the queue; the program goes on, and its end does not wait for ever."""

    async def stare(stream: trio.SocketStream) -> None:
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listeners[0].socket.getsockname()[1]
        nursery.start_soon(trio.serve_listeners, stare, listeners)
        async with forwarding(port, flush_timeout=0.01, max_backlog=50) as (handler, logger):
            await wait_connected(handler)
            with trio.fail_after(60):
                while not handler.statistics().dropped:
                    for _ in range(20):
                        logger.info("x" * 60_000)
                    await trio.lowlevel.checkpoint()
            assert 50 <= handler.statistics().waiting <= 53
        assert handler.statistics().waiting == 0
        nursery.cancel_scope.cancel()


async def test_a_record_that_the_sink_refuses() -> None:
    """It does not stand in the way of those behind it."""
    received = Received()
    async with trio.open_nursery() as nursery:
        sink = await start(nursery, received, max_record_size=2000)
        async with forwarding(sink.port, max_record_size=50_000_000) as (handler, logger):
            await wait_connected(handler)
            logger.info("x" * 40_000_000)  # more than any socket takes at once
            with trio.fail_after(30):
                while not sink.statistics().refused:
                    await trio.lowlevel.checkpoint()
            logger.info("good")
            await received.wait_for("good")
        await sink.aclose()
    assert 1 <= sink.statistics().refused <= 2
    assert "x" * 40_000_000 not in received.messages


async def test_tls(certificates: Certificates) -> None:
    received = Received()
    identity = certificates.identity("client", "server")
    async with trio.open_nursery() as nursery:
        sink = await start(nursery, received, ssl_context=certificates.identity("server", "client"))
        async with forwarding(sink.port, ssl_context=identity) as (handler, logger):
            for _ in range(100):
                logger.info("x" * 60_000)
            await received.wait_count(100)
            await sink.aclose()
            await wait_connected(handler, False)
            logger.info("later")
            sink = await start(
                nursery, received, sink.port, ssl_context=certificates.identity("server", "client")
            )
            await received.wait_for("later")
        await sink.aclose()
    assert len(received.records) == 101


async def test_tls_with_a_sink_that_is_not_trusted(
    certificates: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    received = Received()
    identity = certificates.identity("client", "server")
    async with trio.open_nursery() as nursery:
        sink = await start(nursery, received, ssl_context=certificates.identity("stranger", "client"))
        async with forwarding(sink.port, ssl_context=identity, flush_timeout=0.0) as (_, logger):
            logger.info("secret")
            with trio.fail_after(30):
                while sink.accepted < 2:
                    await trio.lowlevel.checkpoint()
        await sink.aclose()
    assert received.records == []
    outages = [record for record in caplog.records if "trying again" in record.getMessage()]
    assert len(outages) == 1
    assert "certificate verify failed" in outages[0].getMessage()


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "not the banner"),
        (BANNER + b"nocolon\n", "without a source"),
        (BANNER + b"s:INFO:n:\xff\n", "not UTF-8"),
        (BANNER + b"s:INFO<99999999>:n:m\n", "a record of 99999999 lines"),
        (BANNER + b"x" * 500_000, "a line of more than 100000 bytes"),
        (BANNER + b"s:INFO<90000>:n:\n" + b"x\n" * 80_000, "a record of more than 100000 bytes"),
    ],
)
async def test_what_ends_a_connection(sent: bytes, reason: str, caplog: pytest.LogCaptureFixture) -> None:
    received = Received()
    async with trio.open_nursery() as nursery:
        sink = await start(nursery, received, max_record_size=100_000)
        async with forwarding(sink.port) as (handler, logger):
            await wait_connected(handler)
            bad = await trio.open_tcp_stream("127.0.0.1", sink.port)
            peer = f"127.0.0.1:{bad.socket.getsockname()[1]}"
            async with bad, trio.open_nursery() as io:
                io.start_soon(send_ignoring_errors, bad, sent)
                assert await receive_all(bad) == b""
            logger.info("bystander")
            await received.wait_for("bystander")
            assert sink.statistics().refused == 1
            assert handler.connected.value
        await sink.aclose()
    (warning,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert warning.name == "trionet.logs"
    assert warning.getMessage().startswith(f"{peer}: connection closed: ")
    assert reason in warning.getMessage()


@pytest.mark.parametrize("piece", [b"x" * 100_000, b"\n" * 100_000, b"ab\n" * 30_000])
async def test_a_record_without_end(piece: bytes) -> None:
    """Memory stays flat, the connection is closed at the limit."""
    received = Received()
    sent = 0
    async with trio.open_nursery() as nursery:
        sink = await start(nursery, received, max_record_size=400_000)
        stream = await trio.open_tcp_stream("127.0.0.1", sink.port)
        await stream.send_all(BANNER + b"s:INFO<400000>:n:")
        tracemalloc.start()
        try:
            with pytest.raises(trio.BrokenResourceError):
                for _ in range(10_000):
                    await stream.send_all(piece)
                    sent += len(piece)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        await stream.aclose()
        await check_alive(sink, received)
        await sink.aclose()
    assert sent < 100_000_000
    assert peak < 20_000_000


@pytest.mark.parametrize("sent", [b"", b"ARTIQ", BANNER, BANNER + b"s:INFO:n:m", BANNER + b"s:INFO<2>:n:m\n"])
@pytest.mark.parametrize("how", ["close", "reset"])
async def test_forwarders_that_go_away(sent: bytes, how: str, caplog: pytest.LogCaptureFixture) -> None:
    received = Received()
    async with trio.open_nursery() as nursery:
        sink = await start(nursery, received)
        stream = await trio.open_tcp_stream("127.0.0.1", sink.port)
        await stream.send_all(sent)
        if how == "reset":
            reset(stream)
        await stream.aclose()
        await check_alive(sink, received)
        with trio.fail_after(30):
            await sink._connected.wait_value(0)
        await sink.aclose()
    assert received.messages == ["alive"]
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@contextlib.contextmanager
def root_handler(handler: logging.Handler) -> Iterator[None]:
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)


async def test_a_relay() -> None:
    """A program that collects records and passes them on keeps their source, and does not go round."""
    received = Received()
    async with trio.open_nursery() as nursery:
        master = await start(nursery, received)
        relay = await start(nursery, None)
        async with open_log_forwarder("127.0.0.1", master.port, source="relay", flush_timeout=30) as onward:
            with root_handler(onward):
                async with forwarding(relay.port) as (_, logger):
                    logger.info("from afar")
                await received.wait_for("from afar")
                logging.getLogger("local").warning("from the relay")
                await received.wait_for("from the relay")
        await relay.aclose()
        await master.aclose()
    assert [(one.__dict__["source"], one.name) for one in received.records] == [
        ("here", "lab.laser"),
        ("relay", "local"),
    ]


async def test_a_sink_and_a_forwarder_of_local_records_in_one_program() -> None:
    """The filter that the documentation recommends keeps records from going round."""
    log = logging.getLogger(FORWARDED)
    received = Received()

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            received.emit(record)

    async with trio.open_nursery() as nursery:
        sink = await start(nursery, None)
        log.addHandler(handler := Handler())
        async with open_log_forwarder("127.0.0.1", sink.port, source="here", flush_timeout=30) as forwarder:
            forwarder.addFilter(lambda record: not hasattr(record, "source"))
            with root_handler(forwarder):
                for number in range(10):
                    logging.getLogger("local").warning("%d", number)
                await received.wait_for("9")
                logging.getLogger("local").warning("end")
                await received.wait_for("end")
        log.removeHandler(handler)
        await sink.aclose()
    assert received.messages == [*map(str, range(10)), "end"]


async def test_a_port_in_use() -> None:
    async with trio.open_nursery() as nursery:
        sink = await start(nursery, Received())
        with pytest.raises(OSError, match="in use"):
            await serve_log_sink(sink.port)
        await sink.aclose()


async def test_statistics_of_a_sink() -> None:
    received = Received()
    async with trio.open_nursery() as nursery:
        sink = await start(nursery, received)
        async with forwarding(sink.port) as (_, logger):
            logger.info("one")
            await received.wait_for("one")
            statistics = sink.statistics()
            assert (statistics.connections, statistics.accepted, statistics.records) == (1, 1, 1)
        with trio.fail_after(30):
            await sink._connected.wait_value(0)
        statistics = sink.statistics()
        assert (statistics.connections, statistics.accepted, statistics.refused) == (0, 1, 0)
        await sink.aclose()
