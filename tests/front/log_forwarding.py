"""A sink that is no network, and a forwarder that sends to it, for the tests of log forwarding."""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import pytest
import trio
import trio.testing

from tests.front.test_backoff import Constant
from trionet._backoff import Backoff
from trionet._transport import StreamTransport, Transport, open_transport
from trionet.logs.forwarder import Link, LogForwarder, open_link
from trionet.wire.logs import LogMessage, LogSinkConnection

Clock = trio.testing.MockClock
Stream = trio.StapledStream[trio.testing.MemorySendStream, trio.testing.MemoryReceiveStream]


class Sink:
    """Stands in for the network: what each attempt to connect meets, and what has arrived.

    An outcome is an exception, or the seconds until the sink closes the connection; negative: the seconds
    until it answers. The last of them is repeated for ever.
    """

    def __init__(self, *outcomes: float | Exception) -> None:
        self.outcomes = list(outcomes) or [math.inf]
        self.attempts: list[float] = []
        self.records: list[LogMessage] = []
        self.streams: list[Stream] = []
        self.times: list[float] = []
        self.nursery: trio.Nursery | None = None

    async def connect(self) -> Transport:
        self.attempts.append(trio.current_time())
        outcome = self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]
        if isinstance(outcome, Exception):
            await trio.lowlevel.checkpoint()
            raise outcome
        await trio.sleep(max(0.0, -outcome))
        ours, theirs = trio.testing.memory_stream_pair()
        self.streams.append(theirs)
        assert self.nursery is not None
        self.nursery.start_soon(self._receive, theirs, outcome if outcome >= 0 else math.inf)
        return open_transport(ours, "sink")

    async def _receive(self, stream: Stream, seconds: float) -> None:
        wire = LogSinkConnection()
        with trio.move_on_after(seconds), contextlib.suppress(trio.ClosedResourceError):
            while data := await stream.receive_some():
                wire.receive_data(bytes(data))
                while (event := wire.next_event()) is not None:
                    if isinstance(event, LogMessage):
                        self.records.append(event)
                        self.times.append(trio.current_time())
        await stream.aclose()

    @property
    def messages(self) -> list[str]:
        return [record.message for record in self.records]


class Stubborn(StreamTransport):
    """Takes everything, or nothing, or breaks."""

    def __init__(self, breaks: bool, taken: list[bytes]) -> None:
        ours, _ = trio.testing.memory_stream_pair()
        super().__init__(ours, "sink")
        self.breaks = breaks
        self.taken = taken
        self.greeted = False

    async def receive(self) -> bytes:
        await trio.sleep_forever()

    def send_nowait(self, data: bytes) -> int:
        if not self.greeted:
            self.greeted = True
            return len(data)
        self.taken.append(data)
        if self.breaks:
            raise trio.BrokenResourceError("broken pipe")
        return len(data)

    async def send_all(self, data: bytes | memoryview) -> None:
        raise AssertionError("not used")


def make_link(
    connect: Callable[[], Awaitable[Transport]], *, max_backlog: int = 1000, max_record_size: int = 65536
) -> Link:
    """A link whose attempts come after exactly 1, 2, 4, 5, 5, ... seconds."""
    link = Link(
        connect,
        "sink",
        source="here",
        max_backlog=max_backlog,
        max_record_size=max_record_size,
        backoff=Backoff(1.0, 5.0, Constant(0.0)),
        stable_after=5.0,
    )
    link.forwarder.handleError = complain  # type: ignore[method-assign]
    return link


def complain(record: logging.LogRecord) -> None:
    """Other handlers write to stderr when they fail; this one must not."""
    pytest.fail(f"a handler has failed: {record}")


@contextlib.asynccontextmanager
async def forwarding(
    sink: Sink, *, max_backlog: int = 1000, max_record_size: int = 65536, flush_timeout: float = 1.0
) -> AsyncIterator[LogForwarder]:
    """A forwarder to this sink."""
    async with trio.open_nursery() as nursery:
        sink.nursery = nursery
        link = make_link(sink.connect, max_backlog=max_backlog, max_record_size=max_record_size)
        async with open_link(link, flush_timeout) as forwarder:
            yield forwarder
        await trio.testing.wait_all_tasks_blocked()  # what was sent is received
        nursery.cancel_scope.cancel()


@contextlib.asynccontextmanager
async def over(transports: list[Transport], max_backlog: int = 1000) -> AsyncIterator[LogForwarder]:
    """A forwarder that gets these, one after the other."""

    async def connect() -> Transport:
        await trio.lowlevel.checkpoint()
        return transports.pop(0)

    async with open_link(make_link(connect, max_backlog=max_backlog), 1.0) as forwarder:
        yield forwarder


@contextlib.contextmanager
def logger_with(handler: logging.Handler, name: str = "") -> Iterator[logging.Logger]:
    """A logger that belongs to no other and has this handler; or one that exists, by its name."""
    logger = logging.getLogger(name) if name else logging.Logger("lab.laser")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(1)
    try:
        yield logger
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
