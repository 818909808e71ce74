"""What is published of one notifier, and how far each subscriber has got.

The changes stand in a chain of batches, shared by all subscribers; each subscriber holds the batch that it
is to be sent next. So a change is encoded once, lines are put together once, and what all have been sent is
freed by itself. A subscriber that is too far behind lets go of the chain; when it has taken what was on its
way, the whole structure is next for it. Everything here happens between two checkpoints: the structure and
the end of the chain always belong together.
"""

from __future__ import annotations

import logging
import threading
import weakref
from typing import Final

import trio

from trionet.sync_struct.notifier import Notifier
from trionet.wire.feeds import PyonVersion
from trionet.wire.sync_struct import Mod, encode_mod

logger = logging.getLogger("trionet.sync_struct")

# A batch is complete with this many bytes, or as soon as a subscriber is free to take it.
_BATCH: Final = 64 * 1024
# So much is put together for one send.
_CHUNK: Final = 256 * 1024


class Batch:
    """Lines that leave together. The last batch of a chain is still open, and has no data."""

    __slots__ = ("data", "first_byte", "first_version", "next")

    def __init__(self, first_byte: int, first_version: int) -> None:
        self.first_byte = first_byte
        self.first_version = first_version
        self.data = b""
        self.next: Batch | None = None


class Snapshot:
    """The structure as a line; shared by those that are sent it at the same time."""

    __slots__ = ("__weakref__", "line", "version")

    def __init__(self, line: bytes, version: int) -> None:
        self.line = line
        self.version = version


class Subscriber:
    """How far a subscriber has got.

    Attributes:
        peer: Its address.
        resyncs: How often it was too far behind.
        next: The batch that it is to be sent next; None if the whole structure is.
        taken: Bytes that were taken last; 0 once they have been sent.
        snapshot: The snapshot among them.
        version: Number of changes that it has taken.
    """

    __slots__ = ("next", "peer", "resyncs", "snapshot", "taken", "version")

    def __init__(self, peer: str) -> None:
        self.peer = peer
        self.resyncs = 0
        self.next: Batch | None = None
        self.taken = 0
        self.snapshot: Snapshot | None = None
        self.version = 0


class Channel:
    """A notifier that is published; its `ModSink`.

    Args:
        name: Under which name.
        notifier: The notifier.
        pyon_version: How its changes are encoded.
        max_backlog: Bytes that may wait for a subscriber.

    Attributes:
        name: As given.
        subscribers: Those that have joined, in that order.
        version: Number of changes so far.
    """

    def __init__(self, name: str, notifier: Notifier, pyon_version: PyonVersion, max_backlog: int) -> None:
        self.name = name
        self.subscribers: dict[Subscriber, None] = {}
        self.version = 0
        self._notifier = notifier
        self._pyon_version = pyon_version
        self._max_backlog = max_backlog
        self._thread = threading.get_ident()
        self._changed = trio.lowlevel.ParkingLot()
        self._open = Batch(0, 0)
        self._lines: list[bytes] = []  # those of the open batch
        self._end = 0  # bytes so far, those of the open batch included
        self._next_check = 0  # where somebody may be too far behind
        self._snapshot: weakref.ref[Snapshot] | None = None

    # -- the notifier's side -----------------------------------------------------------------------------

    def prepare(self, mod: Mod) -> bytes | None:
        """The change as a line, if there is anybody to be sent it.

        Raises:
            RuntimeError: in another thread than that of the publisher.
            TypeError: if PYON cannot carry it (ValueError likewise).
        """
        if threading.get_ident() != self._thread:
            raise RuntimeError(
                f"{self.name!r} is published by a Trio run in another thread: "
                "change it there, with trio.from_thread.run_sync"
            )
        return encode_mod(mod, self._pyon_version) if self.subscribers else None

    def publish(self, prepared: bytes | None) -> None:
        """The change has been made."""
        self.version += 1
        if prepared is None:
            return
        self._lines.append(prepared)
        self._end += len(prepared)
        if self._end - self._open.first_byte >= _BATCH:
            self._complete_batch()
        if self._end > self._next_check:
            self._drop_backlogs()
        self.wake()

    def _complete_batch(self) -> Batch:
        """Close the open batch and begin another one, unless it is empty. Returns the open one."""
        if self._lines:
            batch, self._open = self._open, Batch(self._end, self.version)
            batch.data = b"".join(self._lines)
            batch.next = self._open
            self._lines.clear()
        return self._open

    def _drop_backlogs(self) -> None:
        """Have those that are too far behind let go of the chain; and find out when to look again."""
        first_needed = self._end
        for subscriber in self.subscribers:
            if subscriber.next is None:
                continue
            if self._end - subscriber.next.first_byte > self._max_backlog:
                subscriber.next = None
                subscriber.resyncs += 1
                if subscriber.resyncs == 1:
                    logger.warning(
                        "%s: more than %d bytes behind on %r; it will be sent the whole structure instead",
                        subscriber.peer,
                        self._max_backlog,
                        self.name,
                    )
            else:
                first_needed = min(first_needed, subscriber.next.first_byte)
        self._next_check = first_needed + self._max_backlog

    # -- the subscribers' side ---------------------------------------------------------------------------

    def join(self, peer: str) -> Subscriber:
        """A new subscriber. The whole structure is next for it."""
        subscriber = Subscriber(peer)
        self.subscribers[subscriber] = None
        return subscriber

    def leave(self, subscriber: Subscriber) -> None:
        """A subscriber has gone."""
        del self.subscribers[subscriber]

    def take(self, subscriber: Subscriber) -> bytes | None:
        """What is to be sent to a subscriber next, now that everything before has been; None if nothing is.

        Raises:
            TypeError: if PYON cannot carry the structure (ValueError likewise).
        """
        subscriber.taken = 0
        subscriber.snapshot = None
        if subscriber.next is None:
            subscriber.snapshot = self._take_snapshot()
            subscriber.next = self._complete_batch()
            subscriber.version = self.version
            data = subscriber.snapshot.line
        elif chunk := self._take_batches(subscriber):
            data = chunk
        else:
            return None
        subscriber.taken = len(data)
        return data

    def _take_batches(self, subscriber: Subscriber) -> bytes:
        parts: list[bytes] = []
        batch = subscriber.next
        assert batch is not None
        size = 0
        if batch is self._open:
            self._complete_batch()
        while batch.next is not None and size < _CHUNK:
            parts.append(batch.data)
            size += len(batch.data)
            batch = batch.next
            if batch is self._open and size < _CHUNK:
                self._complete_batch()
        if parts:
            subscriber.next = batch
            subscriber.version = batch.first_version
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _take_snapshot(self) -> Snapshot:
        snapshot = None if self._snapshot is None else self._snapshot()
        if snapshot is None or snapshot.version != self.version:
            mod = {"action": "init", "struct": self._notifier.raw_view}
            snapshot = Snapshot(encode_mod(mod, self._pyon_version), self.version)
            self._snapshot = weakref.ref(snapshot)
        return snapshot

    async def wait_changed(self) -> None:
        """Wait until there may be something to take."""
        await self._changed.park()

    def wake(self) -> None:
        """Let all who wait look again."""
        if self._changed:
            self._changed.unpark_all()

    def lag(self, subscriber: Subscriber) -> int:
        """Changes that a subscriber has not taken yet."""
        return self.version - subscriber.version

    def backlog(self, subscriber: Subscriber) -> int:
        """Bytes that wait for a subscriber, or are being sent to it."""
        waiting = 0 if subscriber.next is None else self._end - subscriber.next.first_byte
        return waiting + subscriber.taken
