"""A sink: takes records from forwarders, ours and upstream's, and logs them here."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import trio

from trionet._arguments import check_seconds
from trionet._server import (
    HANDSHAKE_TIMEOUT,
    AnyListener,
    Connection,
    Hosts,
    ServerHandle,
    open_listeners,
    serve_connections,
)
from trionet._tasks import call_of_program, contains
from trionet._tls import TLSConfig
from trionet._transport import Transport
from trionet.wire.errors import RemoteProtocolError
from trionet.wire.logs import MAX_RECORD_SIZE, TRACE, LogMessage, LogSinkConnection

logger = logging.getLogger("trionet.logs")

Emit = Callable[[logging.LogRecord], object]

#: Records are re-emitted on this logger by default, whatever their own name is.
FORWARDED: Final = "trionet.logs.forwarded"

# After so many records, other tasks have their turn.
_RECORDS_AT_A_STRETCH: Final = 128


@dataclass(frozen=True, slots=True)
class LogSinkStatistics:
    """What a log sink has done so far.

    Attributes:
        connections: Forwarders connected now.
        accepted: Forwarders connected so far.
        records: Records received.
        failed_records: Those for which ``emit`` raised.
        refused: Connections that were closed because the forwarder broke the protocol.
    """

    connections: int
    accepted: int
    records: int
    failed_records: int
    refused: int


class LogSink(ServerHandle):
    """Handle of a running log sink: see `ServerHandle`."""

    def __init__(self, listeners: list[AnyListener], service: Service) -> None:
        super().__init__(listeners)
        self._service = service

    def statistics(self) -> LogSinkStatistics:
        """Counters since the start."""
        service = self._service
        return LogSinkStatistics(
            self.connections, self.accepted, service.records, service.failed_records, service.refused
        )


async def serve_log_sink(
    port: int,
    *,
    emit: Emit | None = None,
    max_record_size: int = MAX_RECORD_SIZE,
    handshake_timeout: float = HANDSHAKE_TIMEOUT,
    host: Hosts = "127.0.0.1",
    ssl_context: TLSConfig | None = None,
    listeners: list[AnyListener] | None = None,
    task_status: trio.TaskStatus[LogSink] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Log here what forwarders send, until cancelled.

    Use it with ``sink = await nursery.start(serve_log_sink, 1066)``; the value is a `LogSink` with
    ``addresses``, ``cancel_scope``, ``aclose(grace=...)`` and ``statistics()``.

    A record has the level, name and text that it had where it was logged, and an attribute ``source``; what
    else it has (time, process) is of this side. To show the source, and something else for local records::

        logging.Formatter("%(source)s:%(levelname)s:%(name)s:%(message)s", defaults={"source": "here"})

    Args:
        port: TCP port; 0 for a free one, see ``addresses``. Upstream's master listens on 1066.
        emit: Called with each record, in the event loop, so it must not block. By default the record goes
            to the handlers of the logger ``trionet.logs.forwarded`` and those above it, through the filters
            of that logger. Levels of loggers do not matter: the forwarder has chosen what to send. Those
            of handlers do.
        max_record_size: Largest record accepted, in bytes with all its lines; a larger one ends its
            connection. A connection takes no more memory than a few times as much.
        handshake_timeout: Seconds a forwarder may take until it has said that it is one, and before that
            for TLS; then it is cut off. After that it may be silent for as long as it likes.
        host: Address to listen on, several, or None for all interfaces. Loopback by default, because
            whoever can connect can write anything into the log.
        ssl_context: Speak TLS; see `TLSIdentity`.
        listeners: Serve on these instead of opening some; they are closed at the end.
        task_status: Reports the handle once forwarders can connect.

    Raises:
        OSError: if an address cannot be listened on.
        ValueError: for a limit or a time that makes no sense, or a port that there cannot be.
        TypeError: for an async ``emit``.

    Errors: what ``emit`` raises is logged, once for each connection, and counted; the next record follows.
    A forwarder that breaks the protocol is disconnected, with one line in the log of ``trionet.logs``;
    others do not notice. A record that the end of its connection has cut off is lost.

    Loops: a program that serves a sink and also forwards what it logs, to another sink, passes on what it
    has received, with the original source. Where that comes back to this sink, it goes round for ever. Let
    the forwarder have local records only, if that can be:
    ``handler.addFilter(lambda record: not hasattr(record, "source"))``.

    Cancellation: connections are closed; records that were received but not handed on yet are lost. So it is
    with ``aclose``, whatever its grace: a connection on which records may come at any time is never idle.
    """
    service = Service(emit, max_record_size, handshake_timeout)
    handle = LogSink(await open_listeners(host, port, ssl_context, listeners), service)
    await serve_connections(service.serve, handle, handshake_timeout, task_status)


def make_record(message: LogMessage) -> logging.LogRecord:
    """A record as it was on the other side, as far as that is known."""
    # The program's own factory, because its formatters may need what that adds.
    record = logging.getLogRecordFactory()(
        message.name, message.level, "(forwarded)", 0, message.message, (), None
    )
    if message.level == TRACE and record.levelname == f"Level {TRACE}":
        # Not by logging.addLevelName(), which is for the program to call.
        record.levelname = "TRACE"
    record.__dict__["source"] = message.source
    return record


def handle_forwarded(record: logging.LogRecord) -> None:
    """The default for ``emit``."""
    # Not the logger that the record is named after: loggers are kept for ever, so a forwarder could fill
    # the memory with them.
    logging.getLogger(FORWARDED).handle(record)


class Service:
    """What the connections of a sink share."""

    def __init__(self, emit: Emit | None, max_record_size: int, handshake_timeout: float) -> None:
        if inspect.iscoroutinefunction(emit):
            raise TypeError("emit must be an ordinary function, not an async one")
        if max_record_size < 1:
            raise ValueError(f"max_record_size must be at least 1, not {max_record_size}")
        check_seconds("handshake_timeout", handshake_timeout)
        self._emit = emit if emit is not None else handle_forwarded
        self._max_record_size = max_record_size
        self._handshake_timeout = handshake_timeout
        self.records = self.failed_records = self.refused = 0

    @trio.lowlevel.enable_ki_protection  # Ctrl-C is for the program, not for tasks that it does not see
    async def serve(self, client: Connection) -> None:
        """Serve one forwarder until it leaves."""
        wire = LogSinkConnection(self._max_record_size)
        try:
            if await self._shake_hands(client.transport, wire):
                await self._receive_records(client.transport, wire)
        except RemoteProtocolError as error:
            self.refused += 1
            logger.warning("%s: connection closed: %s", client.transport.peer, error.message)

    async def _shake_hands(self, transport: Transport, wire: LogSinkConnection) -> bool:
        """Wait for the banner. Returns whether it came."""
        with trio.move_on_after(self._handshake_timeout):
            while wire.next_event() is None:
                data = await transport.receive()
                if not data:
                    return False
                wire.receive_data(data)
            return True
        logger.warning("%s: no log forwarder within %s s", transport.peer, self._handshake_timeout)
        return False

    async def _receive_records(self, transport: Transport, wire: LogSinkConnection) -> None:
        failure_reported = False
        at_a_stretch = 0
        while True:
            match wire.next_event():
                case LogMessage() as message:
                    self.records += 1
                    try:
                        call_of_program(self._emit, make_record(message))
                    except BaseException as error:
                        if contains(error, KeyboardInterrupt, SystemExit):
                            raise
                        self.failed_records += 1
                        if not failure_reported:
                            logger.exception("%s: a record could not be logged here", transport.peer)
                            failure_reported = True
                    at_a_stretch += 1
                    if at_a_stretch >= _RECORDS_AT_A_STRETCH:
                        await trio.lowlevel.checkpoint()
                        at_a_stretch = 0
                case _:
                    data = await transport.receive()
                    if not data:
                        break
                    wire.receive_data(data)
        if wire.incomplete:
            logger.info("%s: the connection has ended in the middle of a record", transport.peer)
