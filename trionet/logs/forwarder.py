"""A handler for the `logging` module that sends records to a sink: ours, or upstream's."""

from __future__ import annotations

import contextlib
import logging
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

import trio
from trio_util import AsyncBool

from trionet._arguments import check_seconds
from trionet._backoff import FIRST_RETRY, Backoff
from trionet._connect import CONNECT_TIMEOUT, connector
from trionet._tasks import open_background_tasks
from trionet._tls import TLSConfig
from trionet._transport import Transport, format_address
from trionet.logs._backlog import Backlog
from trionet.wire.logs import MAX_SENT_SIZE, MIN_SENT_SIZE, LogMessage, encode_log_message, greet

LOGGER_NAME: Final = "trionet.logs"
logger = logging.getLogger(LOGGER_NAME)

#: Records that may wait for a connection by default, as upstream.
MAX_BACKLOG: Final = 1000
#: Seconds between attempts to connect at most, by default, as upstream.
MAX_RETRY: Final = 5.0
#: Seconds that the end of a program may be delayed by default, to send what it has logged last.
FLUSH_TIMEOUT: Final = 1.0


@dataclass(frozen=True, slots=True)
class LogForwarderStatistics:
    """What a `LogForwarder` has done so far.

    Attributes:
        connected: Whether there is a connection now.
        waiting: Records that wait to be sent.
        sent: Records that were handed to the system to be sent.
        dropped: Records that were not, because too many were waiting, or could not be.
    """

    connected: bool
    waiting: int
    sent: int
    dropped: int


class LogForwarder(logging.Handler):
    """A `logging.Handler` that sends what it is given to a sink. Made by `open_log_forwarder`.

    It may be used from any thread, from signal handlers and finalizers; it never waits and never raises.
    A record is formatted at once, in the thread that logs, by the handler's formatter; the default one
    gives the message with its traceback.

    Attributes:
        connected: Whether there is a connection now; ``await handler.connected.wait_value(True)`` waits
            for one. Read it, do not set it.
    """

    def __init__(
        self, source: str, backlog: Backlog, max_record_size: int, wake: Callable[[], object]
    ) -> None:
        super().__init__()
        self.connected = AsyncBool(False)
        self._source = source
        self._backlog = backlog
        self._max_record_size = max_record_size
        self._wake = wake
        self._closed = False
        self._process = os.getpid()

    def statistics(self) -> LogForwarderStatistics:
        """Counters since the start."""
        backlog = self._backlog
        return LogForwarderStatistics(self.connected.value, backlog.waiting, backlog.sent, backlog.dropped)

    def handle(self, record: logging.LogRecord) -> bool:
        """Filter a record and put it in the queue. Unlike other handlers, it takes no lock meanwhile."""
        passed: Any  # in new versions of Python a filter may return a record
        try:
            passed = self.filter(record)
        except Exception:  # a broken filter: rather a record too many than one too few
            passed = True
        if passed:
            self.emit(passed if isinstance(passed, logging.LogRecord) else record)
        return bool(passed)

    def emit(self, record: logging.LogRecord) -> None:
        """Put a record in the queue; once the handler is closed, do nothing."""
        # In a child process that was forked, the connection and the event loop are those of the parent.
        if self._closed or os.getpid() != self._process:
            return
        try:
            line = self._encode(record)
        except Exception as error:  # a record like no other: logging must not break what works
            line = report_line(self._source, f"a record could not be forwarded: {type(error).__name__}")
        if self._backlog.add(line):
            with contextlib.suppress(trio.RunFinishedError):
                self._wake()

    def close(self) -> None:
        """Take no more records. `open_log_forwarder` does this at its end."""
        self._closed = True
        super().close()

    def _encode(self, record: logging.LogRecord) -> bytes:
        source = getattr(record, "source", None)
        message = LogMessage(
            self._source if source is None else str(source),
            record.levelno,
            str(record.name),
            self._format_safely(record),
        )
        return encode_log_message(message, self._max_record_size)

    def _format_safely(self, record: logging.LogRecord) -> str:
        try:
            return self.format(record)
        except Exception as error:
            values = record.__dict__ | {"msg": _explain(record, error), "args": ()}
        try:
            return self.format(logging.makeLogRecord(values))  # with the traceback, if it has one
        except Exception:
            return str(values["msg"])


def _explain(record: logging.LogRecord, error: Exception) -> str:
    text = _try(str, record.msg)
    reason = f"{type(error).__name__}: {_try(str, error)}"
    return f"{text} [not formatted with {_try(repr, record.args)}: {reason}]"


def _try(function: Callable[[object], str], value: object) -> str:
    try:
        return function(value)
    except Exception:
        return f"<{type(value).__name__}>"


def report_line(source: str, text: str) -> bytes:
    """A record of the forwarder itself."""
    return encode_log_message(LogMessage(source, logging.WARNING, LOGGER_NAME, text))


def report_dropped(source: str, count: int) -> bytes:
    """The record that stands for those that were dropped."""
    records = "1 record was" if count == 1 else f"{count} records were"
    return report_line(source, f"{records} dropped here: the connection was lost or too slow")


@contextlib.asynccontextmanager
async def open_log_forwarder(
    host: str,
    port: int,
    *,
    source: str,
    max_backlog: int = MAX_BACKLOG,
    max_record_size: int = MAX_SENT_SIZE,
    first_retry: float = FIRST_RETRY,
    max_retry: float = MAX_RETRY,
    flush_timeout: float = FLUSH_TIMEOUT,
    connect_timeout: float = CONNECT_TIMEOUT,
    ssl_context: TLSConfig | None = None,
    rng: random.Random | None = None,
) -> AsyncIterator[LogForwarder]:
    """Send what is logged to a sink, from now on and whenever it is there: `serve_log_sink`, or upstream's.

    The value is a `logging.Handler`; give it to the logger whose records are wanted::

        async with trionet.open_log_forwarder("master", 1066, source="lab-pc") as handler:
            logging.getLogger().addHandler(handler)

    The block begins at once, with or without connection. Records wait while there is none.

    Args:
        host: Name or address of the sink.
        port: Its port.
        source: Where the records come from, as the sink will show it. A record with an attribute
            ``source``, as a sink re-emits them, keeps its own.
        max_backlog: Records that may wait. When there are more, the oldest is dropped, also while there is a
            connection, if so many come at once; a record that says how many is sent in their place.
        max_record_size: Bytes that a record may take, 1024 at least. The message of a larger one is cut
            off, with a note. With ``max_backlog`` this bounds the memory: 64 MiB by default.
        first_retry: Seconds before the first attempt to connect again. Each failure doubles them.
        max_retry: Seconds between attempts at most.
        flush_timeout: Seconds that the end of the block may wait until what was logged is sent, if there
            is a connection or one is being made. Also when the block raises, as the last records are
            the ones that matter then; not when it is cancelled.
        connect_timeout: Seconds for each attempt to connect.
        ssl_context: Speak TLS; see `TLSIdentity`.
        rng: Source of the randomness in the times between attempts.

    Raises:
        ValueError: for a limit or a time that makes no sense, or a port that there cannot be.
        OSError: if a file of a `TLSIdentity` cannot be used.

    Outages, with the reason of the first failure, go to the log of ``trionet.logs``, once for each. Nothing
    is raised here, whatever the sink does.

    What is lost: the protocol has no confirmations. What the system had accepted when a connection broke
    may not have arrived. The records that were just being sent, some 64 KiB at most, are sent once more, so
    a few may arrive twice; those that break a second connection are dropped.

    The end: the handler is not removed from its loggers, but does nothing any more. Do not give a forwarder
    what a sink in the same program re-emits, if that sink is where it sends it: see `serve_log_sink`.
    """
    if max_backlog < 1:
        raise ValueError(f"max_backlog must be at least 1, not {max_backlog}")
    if max_record_size < MIN_SENT_SIZE:
        raise ValueError(f"max_record_size must be at least {MIN_SENT_SIZE}, not {max_record_size}")
    check_seconds("flush_timeout", flush_timeout)
    link = Link(
        connector(host, port, ssl_context=ssl_context, connect_timeout=connect_timeout),
        format_address((host, port)),
        source=source,
        max_backlog=max_backlog,
        max_record_size=max_record_size,
        backoff=Backoff(first_retry, max_retry, rng),
        stable_after=max_retry,
    )
    async with open_link(link, flush_timeout) as forwarder:
        yield forwarder


@contextlib.asynccontextmanager
async def open_link(link: Link, flush_timeout: float) -> AsyncIterator[LogForwarder]:
    """Run a link for a block, which gets its handler."""
    try:
        async with open_background_tasks() as nursery:
            nursery.start_soon(link.run)
            try:
                yield link.forwarder
            except (trio.Cancelled, GeneratorExit):
                raise
            except BaseException:
                with contextlib.suppress(trio.Cancelled):  # it would replace the exception
                    await link.flush(flush_timeout)
                raise
            await link.flush(flush_timeout)
    finally:
        link.close()


class Link:
    """Keeps a forwarder connected, and sends what waits.

    Args:
        connect: Makes a connection.
        peer: Name of the sink, for the log.
        source: Given to records without one.
        max_backlog: Records that may wait.
        max_record_size: Bytes that a record may take.
        backoff: The delays between attempts.
        stable_after: Seconds that a connection must last to end an outage, in the log.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[Transport]],
        peer: str,
        *,
        source: str,
        max_backlog: int,
        max_record_size: int,
        backoff: Backoff,
        stable_after: float,
    ) -> None:
        self._connect = connect
        self._peer = peer
        self._backlog = Backlog(max_backlog, lambda count: report_dropped(source, count))
        self._backoff = backoff
        self._stable_after = stable_after
        token = trio.lowlevel.current_trio_token()
        self.forwarder = LogForwarder(
            source, self._backlog, max_record_size, lambda: token.run_sync_soon(self._wake, idempotent=True)
        )
        self._arrived = trio.Event()
        # Between attempts, nobody waits for what is not sent.
        self._trying = True
        self._settled = trio.Event()
        self._outage_reported = False

    def _wake(self) -> None:
        self._arrived.set()

    @trio.lowlevel.enable_ki_protection  # Ctrl-C is for the program, not for tasks that it does not see
    async def run(self) -> None:
        """Connect again and again."""
        while True:
            self._trying = True
            lasted, reason = await self._connect_and_send()
            self._trying = False
            self._settled.set()
            self._report_outage(reason)
            await trio.sleep(self._backoff.next_delay(lasted))

    async def flush(self, seconds: float) -> None:
        """Wait until everything is sent or nothing can be, for some seconds at most."""
        if self._trying and self._backlog.waiting:
            self._settled = trio.Event()
            with trio.move_on_after(seconds):
                await self._settled.wait()

    def close(self) -> None:
        """Take no more records, and drop those that wait."""
        self.forwarder.close()
        left = self._backlog.close()
        if left:
            logger.warning("%s: the end has come before the last records were sent: %d", self._peer, left)

    async def _connect_and_send(self) -> tuple[float, str]:
        """Send until there is no connection. Returns how long there was one, in seconds, and why not now."""
        try:
            transport = await self._connect()
        except (OSError, ValueError) as error:  # ValueError: a host name that cannot be one
            return 0.0, str(error) or type(error).__name__
        started = trio.current_time()
        reasons: list[str] = []
        try:
            self.forwarder.connected.value = True
            async with trio.open_nursery() as nursery:
                for task in (self._watch, self._send):
                    nursery.start_soon(self._until_lost, task, transport, nursery.cancel_scope, reasons)
                nursery.start_soon(self._report_connection)
        finally:
            self.forwarder.connected.value = False
            await transport.aclose()
        return trio.current_time() - started, reasons[0]

    @trio.lowlevel.enable_ki_protection
    async def _until_lost(
        self,
        task: Callable[[Transport], Awaitable[None]],
        transport: Transport,
        connection: trio.CancelScope,
        reasons: list[str],
    ) -> None:
        try:
            await task(transport)
            reasons.append("the sink has closed the connection")
        except trio.BrokenResourceError as error:
            reasons.append(f"connection lost: {error}")
        connection.cancel()

    async def _watch(self, transport: Transport) -> None:
        """A sink says nothing, but it may leave; without this an idle forwarder would not notice."""
        while await transport.receive():
            pass

    async def _send(self, transport: Transport) -> None:
        await transport.send(greet())
        while True:
            await trio.lowlevel.checkpoint()  # sending has none if the system takes all at once
            data = self._backlog.take()
            if not data:
                self._settled.set()
                await self._arrived.wait()
                self._arrived = trio.Event()
                continue
            try:
                await transport.send(data)
            except BaseException:
                self._backlog.fail()
                raise
            self._backlog.succeed()

    def _report_outage(self, reason: str) -> None:
        if not self._outage_reported:
            self._outage_reported = True
            logger.warning("%s: %s; trying again, what is logged waits", self._peer, reason)

    @trio.lowlevel.enable_ki_protection
    async def _report_connection(self) -> None:
        """Not at once: a sink that accepts and closes would be reported again and again."""
        if self._outage_reported:
            await trio.sleep(self._stable_after)
            self._outage_reported = False
            logger.warning("%s: connected again", self._peer)
