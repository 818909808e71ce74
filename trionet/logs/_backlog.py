"""The records that wait to be sent: put in by any thread, taken out by the task that sends."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Final

# So much is sent at a time, in bytes: enough that a system call for each does not matter, and no more,
# because it is what may arrive twice, or not at all, when a connection is lost.
_BATCH: Final = 1 << 16


class Backlog:
    """Bounded: when it is full, the oldest record makes room, and is counted.

    Args:
        max_records: How many may wait.
        report: Makes the record that says how many were dropped; it stands where they are missing.

    Attributes:
        sent: Records that were sent so far.
        dropped: Records that were dropped so far.
    """

    def __init__(self, max_records: int, report: Callable[[int], bytes]) -> None:
        self.sent = self.dropped = 0
        self._max_records = max_records
        self._report = report
        # Held for some operations on deques and numbers. A signal handler or a __del__ that logs may
        # come in between them, in the same thread: that must not deadlock, and every line allows for it.
        self._mutex = threading.RLock()
        self._waiting: deque[bytes] = deque()
        # Those that are being sent, and those whose sending has failed once.
        self._in_flight: deque[bytes] = deque()
        self._again: deque[bytes] = deque()
        self._second_try = False
        self._unreported = self._reported_in_flight = 0
        self._taker_waits = False

    @property
    def waiting(self) -> int:
        """Records that were not sent yet."""
        with self._mutex:
            return len(self._again) + len(self._in_flight) + len(self._waiting)

    def add(self, record: bytes) -> bool:
        """Put a record in. Returns whether the task that takes them out must be woken."""
        with self._mutex:
            self._waiting.append(record)
            self._trim()
            wake, self._taker_waits = self._taker_waits, False
            return wake

    def take(self) -> bytes:
        """Some records, to be sent at once; b"" if there are none, and then the next `add` will say so.

        Call `succeed` or `fail` when it is known what became of them.
        """
        with self._mutex:
            self._second_try = bool(self._again)
            source, limit = (self._again, None) if self._again else (self._waiting, _BATCH)
            size = 0
            while source and (limit is None or size < limit):
                self._in_flight.append(source.popleft())
                size += len(self._in_flight[-1])
            self._reported_in_flight, self._unreported = self._unreported, 0
            self._taker_waits = not self._in_flight and not self._reported_in_flight
            report = self._report(self._reported_in_flight) if self._reported_in_flight else b""
            return report + b"".join(self._in_flight)

    def succeed(self) -> None:
        """What was taken is on its way."""
        with self._mutex:
            self.sent += len(self._in_flight)
            self._in_flight.clear()
            self._reported_in_flight = 0

    def fail(self) -> None:
        """What was taken could not be sent. It is tried once more.

        Not for ever: a sink may disconnect because of what is in there.
        """
        with self._mutex:
            self._unreported += self._reported_in_flight
            self._reported_in_flight = 0
            if self._second_try:
                self._drop(len(self._in_flight))
            else:
                self._again.extend(self._in_flight)
            self._in_flight.clear()
            self._trim()

    def close(self) -> int:
        """Drop what is left. Returns how many records that are."""
        with self._mutex:
            left = len(self._again) + len(self._in_flight) + len(self._waiting)
            self._drop(left)
            for records in (self._again, self._in_flight, self._waiting):
                records.clear()
            return left

    def _trim(self) -> None:
        while len(self._again) + len(self._waiting) > self._max_records:
            (self._again or self._waiting).popleft()
            self._drop(1)

    def _drop(self, count: int) -> None:
        self.dropped += count
        self._unreported += count
