"""The log of a network's packets.

Logging is on the way of every packet, so it does next to nothing there: entries are kept as they are, and
are made text when somebody looks. Only the digest has to see all of them, and does that a batch at a time.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator
from itertools import islice
from typing import Final, NamedTuple

from trionet.testing.network._packets import Packet

_BATCH: Final = 512
# Bytes of payload that the entries may keep alive; with more, fewer entries are kept.
_PAYLOAD_LIMIT: Final = 16 * 1024 * 1024


class TraceEntry(NamedTuple):
    """What happened to a packet, or to a host or link.

    Attributes:
        time: Seconds since the network was opened.
        what: "sent", "delivered", "dropped", "held", or, without a packet, what else happened.
        packet: The packet.
        why: Why it was dropped; "" otherwise.
    """

    time: float
    what: str
    packet: Packet | None
    why: str = ""

    def __str__(self) -> str:
        why = f" ({self.why})" if self.why else ""
        packet = f" {self.packet}" if self.packet is not None else ""
        return f"{self.time:.6f} {self.what}{why}{packet}"


class Trace:
    """The last entries of a network's log, and count and digest of all.

    ``str(trace)`` is the log as text, a line for each entry, in tcpdump's spirit; iteration gives the
    entries. Two runs in which the same happened have the same digest.
    """

    def __init__(self, length: int) -> None:
        self._entries: deque[TraceEntry] = deque()
        self._length = length
        self._payload = 0
        self._undigested: list[TraceEntry] = []
        self._digest = hashlib.sha256()
        self._count = 0
        self.start = 0.0

    @property
    def length(self) -> int:
        """How many entries are kept; may be set, which keeps the last ones."""
        return self._length

    @length.setter
    def length(self, length: int) -> None:
        self._length = length
        self._forget()

    @property
    def count(self) -> int:
        """How many entries there were, those included that are not kept any more."""
        return self._count + len(self._undigested)

    @property
    def digest(self) -> str:
        """SHA-256 over all entries and over what the packets carried, in hexadecimal."""
        self._digest_batch()
        return self._digest.hexdigest()

    def record(self, now: float, what: str, packet: Packet | None, why: str = "") -> None:
        """Add an entry; `now` is the time of Trio's clock."""
        entry = TraceEntry(now - self.start, what, packet, why)
        self._entries.append(entry)
        self._undigested.append(entry)
        if packet is not None:
            self._payload += len(packet.payload)
        if len(self._entries) > self._length or self._payload > _PAYLOAD_LIMIT:
            self._forget()
        if len(self._undigested) >= _BATCH:
            self._digest_batch()

    def _forget(self) -> None:
        entries = self._entries
        while entries and (len(entries) > self._length or self._payload > _PAYLOAD_LIMIT):
            packet = entries.popleft().packet
            if packet is not None:
                self._payload -= len(packet.payload)

    def last(self, count: int) -> str:
        """The last entries as text."""
        return "\n".join(map(str, islice(self._entries, max(0, len(self._entries) - count), None)))

    def __iter__(self) -> Iterator[TraceEntry]:
        return iter(tuple(self._entries))

    def __len__(self) -> int:
        return len(self._entries)

    def __str__(self) -> str:
        return "\n".join(map(str, self._entries))

    def _digest_batch(self) -> None:
        lines = [
            f"{entry} {entry.packet.checksum:08x}\n" if entry.packet is not None else f"{entry}\n"
            for entry in self._undigested
        ]
        self._digest.update("".join(lines).encode())
        self._count += len(lines)
        self._undigested.clear()
