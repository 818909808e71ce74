"""Log forwarding; stands for ``sipyco.logs``. It gives the level 5 the name ``TRACE``, as upstream's does."""

from __future__ import annotations

import asyncio
import logging
import math
import ssl
import sys
from collections import deque
from collections.abc import Callable
from typing import Any, Final

import trio

import trionet
from trionet.wire.logs import LEVELS, PRINT, RECORD
from trionet_compat import guest
from trionet_compat._background import cancel_and_wait, wait_ended
from trionet_compat.sipyco._serving import FrontEndServer
from trionet_compat.sipyco.tools import Host, SimpleSSLConfig, TaskObject

__all__ = [
    "LogForwarder",
    "LogParser",
    "MultilineFormatter",
    "Server",
    "SourceFilter",
    "log_with_name",
    "multiline_log_config",
    "parse_log_message",
]

logger = logging.getLogger("sipyco.logs")
_fwd_logger = logging.getLogger("fwd")

logging.TRACE = trionet.TRACE  # type: ignore[attr-defined]
logging.addLevelName(trionet.TRACE, "TRACE")

# Seconds between two attempts to connect must be some.
_SHORTEST_RETRY: Final = 0.001


class MultilineFormatter(logging.Formatter):
    """``LEVEL:logger:message``, or ``LEVEL<n>:logger:message`` if that has n lines; for `LogParser`.

    Stands for sipyco's class of that name.
    """

    def __init__(self) -> None:
        super().__init__("%(levelname)s:%(name)s:%(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """The record as text, its traceback included."""
        text = super().format(record)
        lines = text.count("\n") + 1
        if lines == 1:
            return text
        level = record.levelname
        return f"{level}<{lines}>{text.removeprefix(level)}"


def multiline_log_config(level: int) -> None:
    """Have everything from a level on logged to standard error, in the form of `MultilineFormatter`."""
    root = logging.getLogger()
    root.setLevel(level)
    handler = logging.StreamHandler()
    handler.setFormatter(MultilineFormatter())
    root.addHandler(handler)


def log_with_name(name: str, *args: Any, **kwargs: Any) -> None:
    """Log under the name of another program's logger; the arguments are those of `logging.Logger.log`.

    No logger is made for it: all such records come from the logger ``fwd``, which is renamed.
    """
    _fwd_logger.name = name
    _fwd_logger.log(*args, **kwargs)


def parse_log_message(msg: str) -> tuple[int, int, str, str]:
    """Read the first line of a record.

    Returns:
        How many lines follow, the level, the name, and the message. What is no record is a message of the
        level INFO and the name ``print``.
    """
    record = None if "\n" in msg else RECORD.fullmatch(msg.encode(errors="surrogatepass"))
    if record is None:
        return 0, logging.INFO, PRINT, msg
    level, lines, name, text = record.groups()
    return (
        max(int(lines or 1) - 1, 0),
        LEVELS[level],
        name.decode(errors="surrogatepass"),
        text.decode(errors="surrogatepass"),
    )


class LogParser:
    """Logs what another program has printed, such as records by `MultilineFormatter`.

    Stands for sipyco's class of that name. What is different: a line that is too long for the stream, or not
    UTF-8, does not end `stream_task`, or the other program would come to a halt when its pipe is full.

    Args:
        source_cb: Asked for the source of each record.
    """

    def __init__(self, source_cb: Callable[[], str]) -> None:
        self.source_cb = source_cb
        self._missing = 0
        self._begun: tuple[int, str] = 0, ""
        self._lines: list[str] = []

    def line_input(self, msg: str) -> None:
        """Take a line, without its end."""
        if self._missing:
            self._missing -= 1
            self._lines.append(msg)
        else:
            self._missing, level, name, text = parse_log_message(msg)
            self._begun = level, name
            self._lines = [text]
        if not self._missing:
            level, name = self._begun
            log_with_name(name, level, "\n".join(self._lines), extra={"source": self.source_cb()})

    async def stream_task(self, stream: asyncio.StreamReader) -> None:
        """Take lines until the end of a stream of asyncio. Ends quietly also when it is cancelled."""
        try:
            while line := await self._read_line(stream):
                self.line_input(line.decode(errors="backslashreplace").rstrip("\r\n"))
        except asyncio.CancelledError:
            pass
        except Exception:
            logger.debug("exception in log forwarding", exc_info=True)
        logger.debug("stopped log forwarding of stream %s of %s", stream, self.source_cb())

    async def _read_line(self, stream: asyncio.StreamReader) -> bytes:
        while True:
            try:
                return await stream.readline()
            except ValueError:
                logger.warning("a line of %s was too long, and is left out", self.source_cb())


class Server(FrontEndServer):
    """Logs here what forwarders send; stands for sipyco's class of that name. See `trionet.serve_log_sink`.

    A record is logged by `log_with_name`, and has an attribute ``source``. A forwarder that breaks the
    protocol is disconnected, with a warning to the log of ``trionet.logs``.
    """

    async def _serve(
        self,
        host: Host,
        port: int,
        context: ssl.SSLContext | None,
        *,
        task_status: trio.TaskStatus[trionet.LogSink],
    ) -> None:
        await trionet.serve_log_sink(
            port,
            emit=_log_again,
            handshake_timeout=math.inf,
            host=host,
            ssl_context=context,
            task_status=task_status,
        )


def _log_again(record: logging.LogRecord) -> None:
    source = record.__dict__["source"]
    log_with_name(record.name, record.levelno, record.getMessage(), extra={"source": source})


class SourceFilter:
    """Gives records a source, and filters those of this program by their level.

    Stands for sipyco's class of that name.

    Attributes:
        local_level: The lowest level of records of this program; forwarded ones always pass.
        local_source: The source of records of this program.
    """

    def __init__(self, local_level: int, local_source: str) -> None:
        self.local_level = local_level
        self.local_source = local_source

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to log it."""
        source = record.__dict__.setdefault("source", self.local_source)
        return bool(source != self.local_source or record.levelno >= self.local_level)


class LogForwarder(logging.Handler, TaskObject):
    """Sends what it is given to a log server, whenever that is there. See `trionet.open_log_forwarder`.

    Stands for sipyco's class of that name. Records need an attribute ``source``: put a `SourceFilter` on the
    handler. One without is reported as an error of the handler (`logging.Handler.handleError`).

    What is different: of too many records the oldest are left out, and logging does not raise
    `asyncio.QueueFull`; what was being sent when the connection broke is sent again; `stop` waits up to a
    second until what was logged last is sent.

    Args:
        host: Name or address of the server.
        port: Its port.
        reconnect_timer: Seconds between attempts to connect, at most.
        queue_size: Records that may wait. 0 for any number.
        ssl_config: Speak TLS.
        **kwargs: For `logging.Handler`: ``level``.
    """

    def __init__(
        self,
        host: str,
        port: int,
        reconnect_timer: float = 5.0,
        queue_size: int = 1000,
        ssl_config: SimpleSSLConfig | None = None,
        **kwargs: Any,
    ) -> None:
        logging.Handler.__init__(self, **kwargs)
        self.host = host
        self.port = port
        self.reconnect_timer = reconnect_timer
        self.ssl_config = ssl_config
        self._queue_size = queue_size if queue_size > 0 else sys.maxsize
        # Between `start` and `stop`, there is a forwarder; else records wait here.
        self._waiting: deque[logging.LogRecord] = deque(maxlen=queue_size if queue_size > 0 else None)
        self._forwarder: trionet.LogForwarder | None = None
        self._leaving = trio.Event()

    def start(self, *, loop: asyncio.AbstractEventLoop | None = None) -> None:
        """Begin to send, in the loop given or the current one, which need not be running."""
        self._leaving = trio.Event()
        TaskObject.start(self, loop=loop)

    async def stop(self) -> None:
        """Send what waits, if there is a connection, within a second; then close it."""
        self._leaving.set()
        try:
            await wait_ended(self.task)
        finally:
            await cancel_and_wait(self.task)
        del self.task

    def emit(self, record: logging.LogRecord) -> None:
        """Put a record in the queue. From any thread."""
        if not hasattr(record, "source"):
            try:
                raise AttributeError("a record without source: the handler needs a SourceFilter")
            except AttributeError:
                self.handleError(record)
            return
        if self._forwarder is None:
            self._waiting.append(record)
        else:
            self._forwarder.formatter = self.formatter
            self._forwarder.emit(record)

    async def _do(self) -> None:
        await guest.run(self._forward)

    async def _forward(self) -> None:
        retry = max(self.reconnect_timer, _SHORTEST_RETRY)
        context = None if self.ssl_config is None else self.ssl_config.create_client_context()
        async with trionet.open_log_forwarder(
            self.host,
            self.port,
            source="",
            max_backlog=self._queue_size,
            first_retry=retry,
            max_retry=retry,
            ssl_context=context,
        ) as forwarder:
            self._use(forwarder)
            try:
                await self._leaving.wait()
            finally:
                self._use(None)

    def _use(self, forwarder: trionet.LogForwarder | None) -> None:
        self.acquire()  # other threads may be logging
        try:
            self._forwarder = forwarder
            while forwarder is not None and self._waiting:
                self.emit(self._waiting.popleft())
        finally:
            self.release()
