"""What this host, this process and its threads are called in log records."""

from __future__ import annotations

import os
import socket
import threading
from typing import ClassVar


class _Names:
    """The names that were given."""

    host: str | None = None
    process: str | None = None
    threads: ClassVar[dict[int, str]] = {}


def get_host_name() -> str:
    """The name of this host: by default that of the system."""
    return socket.gethostname() if _Names.host is None else _Names.host


def set_host_name(name: str) -> None:
    """Give this host another name."""
    _Names.host = name


def get_process_name() -> str:
    """The name of this process: by default ``process-`` and its number."""
    return f"process-{os.getpid()}" if _Names.process is None else _Names.process


def set_process_name(name: str) -> None:
    """Give this process a name."""
    _Names.process = name


def get_thread_name(tid: int | None = None) -> str:
    """The name of a thread: by default ``thread-`` and its number.

    Args:
        tid: The number of the thread, as `threading.get_ident` gives it; this one by default.
    """
    number = threading.get_ident() if tid is None else tid
    return _Names.threads.get(number, f"thread-{number:x}")


def set_thread_name(name: str, tid: int | None = None) -> None:
    """Give a thread a name. See `get_thread_name`."""
    _Names.threads[threading.get_ident() if tid is None else tid] = name
