"""What other threads want a thread to do: the requests that clients send to its server."""

from __future__ import annotations

import queue
import sys
from collections.abc import Callable
from typing import Final, Protocol

# How often a waiting thread looks up, in seconds, as in the portal: for Ctrl-C.
_WAIT: Final = 0.1 if sys.platform == "win32" else 0.5


class Inbox(Protocol):
    """Requests for one thread, done there in the order in which they came."""

    def put(self, work: Callable[[], object]) -> None:
        """Have something done. From any thread."""

    def wake(self) -> None:
        """Have `serve_until` look again. From any thread."""

    def serve_until(self, done: Callable[[], bool]) -> None:
        """Do what comes until something is the case. In the thread; also while it does something else of it.

        Raises:
            BaseException: what ends the thread: SystemExit, KeyboardInterrupt.
        """

    def serve_one(self) -> None:
        """Wait for something, and do it."""


class ThreadInbox:
    """The requests of a thread that waits for them, or comes to see what there is: see `Inbox`."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()

    def put(self, work: Callable[[], object]) -> None:
        self._queue.put(work)

    def wake(self) -> None:
        self._queue.put(None)

    def serve_until(self, done: Callable[[], bool]) -> None:
        while not done():
            self._do(self._wait_for_next())

    def serve_one(self) -> None:
        while not self._do(self._wait_for_next()):
            pass

    def _wait_for_next(self) -> Callable[[], object] | None:
        try:
            return self._queue.get(timeout=_WAIT)
        except queue.Empty:
            return None

    def _do(self, work: Callable[[], object] | None) -> bool:
        """Do something; nobody keeps it, and its arguments, alive until the next one comes."""
        if work is None:
            return False
        work()
        return True
