"""A handler that shows the records of several processes in the order of their times, in colours."""

from __future__ import annotations

import atexit
import logging
import sys
import threading
import time
from typing import Any, ClassVar, Final, TextIO

from trionet_compat.pyacq.core.rpc.log.names import get_host_name, get_process_name, get_thread_name

_RESET: Final = "\x1b[0m"
_HEADERS: Final = ("\x1b[32m", "\x1b[36m", "\x1b[34m", "\x1b[35m", "\x1b[31m")
_LEVELS: Final = (
    (logging.CRITICAL, "\x1b[1;31m"),
    (logging.ERROR, "\x1b[31m"),
    (logging.WARNING, "\x1b[33m"),
    (logging.INFO, "\x1b[37m"),
)


class RPCLogHandler(logging.StreamHandler[TextIO]):
    """Shows log records with the host, process and thread that they come from: pyacq's `RPCLogHandler`.

    Records wait 0.2 seconds for earlier ones of slower processes, and are shown by a thread of the handler.

    Args:
        stream: Where to. Colours are used if it is a terminal.
    """

    thread_headers: ClassVar[dict[str, str]] = {}

    def __init__(self, stream: TextIO = sys.stderr) -> None:
        super().__init__(stream)
        self.delay = 0.2
        self.record_lock = threading.Lock()
        self.records: list[logging.LogRecord] = []
        self._come = threading.Event()
        self.thread = threading.Thread(target=self.poll_records, daemon=True)
        self.thread.start()
        atexit.register(self.flush_records)

    @property
    def is_tty(self) -> bool:
        """Whether there are colours."""
        try:
            return bool(self.stream.isatty())
        except (AttributeError, ValueError):  # it has no such method, or is closed
            return False

    def emit(self, record: logging.LogRecord) -> None:
        if not hasattr(record, "thread_name"):
            record.thread_name = get_thread_name(record.thread)
            record.process_name = get_process_name()
            record.host_name = get_host_name()
        with self.record_lock:
            self.records.append(record)
        self._come.set()

    def poll_records(self) -> None:
        """Show records when it is their time. What the handler's thread does."""
        while True:
            self._come.wait()
            self._come.clear()
            while self.records:
                self._show(time.time() - self.delay)
                threading.Event().wait(self.delay / 4)

    def flush_records(self) -> None:
        """Show all that wait."""
        self._show(None)

    def close(self) -> None:
        """Show all that wait; the handler is not to be used any more."""
        atexit.unregister(self.flush_records)
        self.flush_records()
        super().close()

    def _show(self, latest: float | None) -> None:
        with self.record_lock:
            ready: list[logging.LogRecord] = []
            waiting: list[logging.LogRecord] = []
            for record in self.records:  # once only: whoever logs waits for that
                (ready if latest is None or record.created <= latest else waiting).append(record)
            self.records = waiting
        for record in sorted(ready, key=lambda record: record.created):
            if not getattr(self.stream, "closed", False):
                super().emit(record)

    def format(self, record: logging.LogRecord) -> str:
        return f"{self.get_thread_header(record)} {self.colorize(super().format(record), record)}"

    def get_thread_header(self, record: logging.LogRecord) -> str:
        """Where a record comes from, in a colour of its own."""
        names: Any = record
        header = f"[{names.host_name}:{names.process_name}:{names.thread_name}]"
        if not self.is_tty:
            return header
        colour = self.thread_headers.setdefault(header, _HEADERS[len(self.thread_headers) % len(_HEADERS)])
        return f"{colour}{header}{_RESET}"

    def colorize(self, message: str, record: logging.LogRecord) -> str:
        """The text of a record, in the colour of its level."""
        if not self.is_tty:
            return message
        colour = next((colour for level, colour in _LEVELS if record.levelno >= level), "")
        return f"{colour}{message}{_RESET}" if colour else message
