"""Log records on their way to another process, and where they arrive."""

from __future__ import annotations

import atexit
import contextlib
import logging
import queue
import sys
import threading
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Final

import trio

from trionet._tasks import open_background_tasks
from trionet.objects.log_records import RecordSender, RecordServer, encode_record, serve_log_records
from trionet_compat.portal import Opened, PortalClosed, current_portal
from trionet_compat.pyacq.core.rpc.log.names import get_host_name, get_process_name, get_thread_name

logger = logging.getLogger("pyacq.core.rpc.log.remote")

# Seconds for the last records to leave.
_FLUSH_TIMEOUT: Final = 1.0


class LogSender(logging.Handler):
    """Sends log records to a `LogServer`: pyacq's `LogSender`.

    What cannot be sent yet waits; of more than 10,000 records the oldest are lost. Exceptions are sent as
    text.

    Args:
        address: Of the server, str or bytes. Without it, `connect` is to be called.
        logger: The logger, or its name, to be added to.
    """

    def __init__(
        self, address: str | bytes | None = None, logger: logging.Logger | str | None = None
    ) -> None:
        super().__init__()
        self._opened: Opened[RecordSender] | None = None
        if address is not None:
            self.connect(address)
        if logger is not None:
            _logger_of(logger).addHandler(self)

    def connect(self, addr: str | bytes) -> None:
        """Send to a server from now on, and no other one.

        Raises:
            ValueError: for an address that is none.
        """
        text = addr.decode() if isinstance(addr, bytes) else addr
        opened, self._opened = self._opened, current_portal().open(_open_sender(text))
        if opened is not None:
            opened.close()
        atexit.unregister(self.flush)  # before the portal ends
        atexit.register(self.flush)

    def emit(self, record: logging.LogRecord) -> None:
        if self._opened is None:
            return
        try:
            data = encode_record(
                record,
                process_name=getattr(record, "process_name", get_process_name()),
                thread_name=getattr(record, "thread_name", _thread_name(record)),
                host_name=getattr(record, "host_name", get_host_name()),
            )
            self._opened.value.post(data)
        except Exception:
            self.handleError(record)

    def flush(self) -> None:
        """Wait for a second at most until all records have been sent. Not in the portal's thread."""
        opened = self._opened
        if opened is not None:
            with contextlib.suppress(RuntimeError):
                opened.call(_flush, opened.value)

    def close(self) -> None:
        """Send what there is, and nothing any more."""
        self.flush()
        atexit.unregister(self.flush)
        opened, self._opened = self._opened, None
        if opened is not None:
            with contextlib.suppress(PortalClosed):
                opened.close()
        super().close()


def _thread_name(record: logging.LogRecord) -> str:
    """The name that was given to the thread; or else that of Python's threads."""
    name = get_thread_name(record.thread)
    return record.threadName or name if name == f"thread-{record.thread or 0:x}" else name


@contextlib.asynccontextmanager
async def _open_sender(address: str) -> AsyncIterator[RecordSender]:
    sender = RecordSender(address)
    async with open_background_tasks() as nursery:
        nursery.start_soon(sender.run)
        yield sender


async def _flush(sender: RecordSender) -> None:
    with trio.move_on_after(_FLUSH_TIMEOUT):
        await sender.wait_sent()


class LogServer(threading.Thread):
    """Gives the log records of other processes to a logger of this one: pyacq's `LogServer`.

    It is a thread, to be started. Records have the attributes ``process_name``, ``thread_name`` and
    ``host_name``.

    Args:
        logger: The logger, or its name.
        address: Where to listen.
        sort: Without effect: `RPCLogHandler` sorts.

    Attributes:
        address: Where it listens, as bytes.

    Raises:
        ValueError: for an address that is none.
        OSError: if it cannot listen there.
    """

    def __init__(
        self, logger: logging.Logger | str, address: str = "tcp://127.0.0.1:*", sort: bool = True
    ) -> None:
        super().__init__(daemon=True)
        self.logger = _logger_of(logger)
        self._records: queue.SimpleQueue[logging.LogRecord | None] = queue.SimpleQueue()
        self._opened = current_portal().open(self._open(address))
        self.address = self._opened.value.endpoints[0].encode()

    def run(self) -> None:
        """Give the records to the logger, until it is closed."""
        while (record := self._records.get()) is not None:
            try:
                self.logger.handle(record)
            except Exception:
                logger.exception("a log record could not be handled")

    def close(self) -> None:
        """Take no more records."""
        with contextlib.suppress(PortalClosed):
            self._opened.close()

    @contextlib.asynccontextmanager
    async def _open(self, address: str) -> AsyncIterator[RecordServer]:
        async with open_background_tasks() as nursery:
            server = await nursery.start(serve_log_records, self._records.put, address)
            try:
                yield server
            finally:
                self._records.put(None)


class _Global:
    """Of the whole process, as upstream has it."""

    server: LogServer | None = None
    sender: LogSender | None = None
    address: bytes | None = None


def start_log_server(logger: logging.Logger | str) -> None:
    """Start the log server of this process; processes that are spawned send their records to it.

    Args:
        logger: The logger that gets them, or its name.

    Raises:
        Exception: if there is one.
    """
    if _Global.server is not None:
        raise Exception("A global LogServer has already been created.")
    _Global.server = LogServer(logger)
    _Global.server.start()
    _Global.address = _Global.server.address


def get_logger_address() -> bytes | None:
    """Where the records of this process go, or are taken; None if that was not said."""
    return _Global.address


def set_logger_address(addr: str | bytes) -> None:
    """Send all log records of this process to a log server.

    Raises:
        Exception: if that was done before.
    """
    if _Global.sender is not None:
        raise Exception("A global LogSender has already been created.")
    _Global.address = addr.encode() if isinstance(addr, str) else addr
    _Global.sender = LogSender(_Global.address, "")


def log_exceptions() -> None:
    """Have exceptions that nobody catches logged, as warnings, instead of printed."""

    def log(kind: type[BaseException], error: BaseException, frames: TracebackType | None) -> None:
        logging.getLogger().warning("Unhandled exception:", exc_info=(kind, error, frames))

    sys.excepthook = log


def _logger_of(logger: logging.Logger | str) -> logging.Logger:
    return logging.getLogger(logger) if isinstance(logger, str) else logger
