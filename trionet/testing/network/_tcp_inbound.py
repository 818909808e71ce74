"""What comes in on a TCP connection: putting it in order, keeping it until it is read, and the window."""

from __future__ import annotations

from typing import Final

# The window is opened by so much at a time, or half of the buffer: little pieces would make little packets.
_STEP: Final = 64 * 1024


class Inbound:
    """The receiving side of a connection.

    Attributes:
        next: Sequence number of the first byte that is missing.
        edge: The peer may send what is before this. It never goes back.
        limit: Bytes that are kept until they are read.
        finished: Whether everything up to the peer's FIN is there.
    """

    __slots__ = ("_data", "_early", "edge", "finished", "limit", "next")

    def __init__(self, limit: int) -> None:
        self.next = self.edge = -1
        self.limit = limit
        self.finished = False
        self._data = bytearray()
        self._early: dict[int, tuple[bytes, bool]] = {}

    def __len__(self) -> int:
        """Bytes that can be read."""
        return len(self._data)

    @property
    def has_gap(self) -> bool:
        """Whether something came before what precedes it."""
        return bool(self._early)

    def begin(self, seq: int) -> None:
        """The first byte will be this."""
        self.next = seq
        self.edge = seq + self.limit

    def read(self, count: int, *, peek: bool) -> bytes:
        """Some bytes, which are taken out unless one only wants to see them."""
        data = bytes(self._data[:count])
        if not peek:
            del self._data[:count]
        return data

    def take_in(self, seq: int, payload: bytes, fin: bool) -> bool:
        """Keep what is new and fits into the window. Returns whether the FIN has been reached."""
        if seq < self.next:
            payload = payload[self.next - seq :]
            seq = self.next
        room = max(0, self.edge - seq)
        if len(payload) > room:
            payload, fin = payload[:room], False
        if seq > self.next:
            if payload or fin:
                self._early.setdefault(seq, (payload, fin))
            return False
        self._append(payload, fin)
        while self._early and (first := min(self._early)) <= self.next and not self.finished:
            payload, fin = self._early.pop(first)
            skip = self.next - first
            self._append(payload[skip:], fin and skip <= len(payload))
        return self.finished

    def _append(self, payload: bytes, fin: bool) -> None:
        self._data += payload
        self.next += len(payload)
        if fin:
            self.next += 1
            self.edge = max(self.edge, self.next)
            self.finished = True
            self._early.clear()

    def open_window(self) -> bool:
        """Let the peer send more, if it is worth while. Returns whether it may."""
        edge = self.next + self.limit - len(self._data)
        if self.finished or edge - self.edge < min(self.limit // 2, _STEP):
            return False
        self.edge = edge
        return True

    def forget_early(self) -> None:
        """What is missing will not come any more."""
        self._early.clear()
