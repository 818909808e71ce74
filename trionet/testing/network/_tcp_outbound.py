"""What goes out on a TCP connection: keeping it until it was acknowledged, and what may be sent when."""

from __future__ import annotations

from typing import Final, NamedTuple

from trionet.testing.network._packets import Packet

#: The longest payload of a segment.
MAX_SEGMENT: Final = 64 * 1024

_SIMILAR_ACKS: Final = 3


class Segment(NamedTuple):
    """What a packet carries of this direction. SYN and FIN take a number each, as a byte does."""

    flags: str
    seq: int
    payload: bytes


class Outbound:
    """The sending side of a connection.

    Attributes:
        first: Sequence number of the SYN.
        acknowledged: The peer has got everything before this.
        next: What is sent for the first time begins here.
        limit: Bytes that are kept until they are acknowledged.
        window: Bytes after `acknowledged` that the peer has room for.
        ending: Whether a FIN is to follow, or has followed, the data.
        recover: Losses before this are made up for one by one, as acknowledgements come.
    """

    __slots__ = (
        "_data",
        "_fin",
        "_similar",
        "_window_ack",
        "_window_seq",
        "acknowledged",
        "ending",
        "first",
        "limit",
        "next",
        "recover",
        "window",
    )

    def __init__(self, first: int, limit: int) -> None:
        self.first = self.acknowledged = self.next = first
        self.limit = limit
        self.window = 0
        self.ending = False
        self.recover = -1
        self._data = bytearray()  # from `acknowledged` on
        self._fin = -1  # its number, once it was sent
        self._similar = 0
        self._window_seq = self._window_ack = -1  # of the packet that the window was learned from

    def __len__(self) -> int:
        """Bytes that were not acknowledged, sent or not."""
        return len(self._data)

    @property
    def under_way(self) -> bool:
        """Whether anything was sent that was not acknowledged."""
        return self.acknowledged < self.next

    @property
    def fin_acknowledged(self) -> bool:
        """Whether the peer has got everything, the FIN included."""
        return 0 <= self._fin < self.acknowledged

    def keep(self, data: bytes | memoryview) -> int:
        """Keep what there is room for, to be sent. Returns how many bytes that are."""
        room = self.limit - len(self._data)
        if room <= 0:
            return 0
        part = data if len(data) <= room else data[:room]
        self._data += part
        return len(part)

    def forget(self) -> None:
        """Send nothing any more."""
        self._data.clear()

    # What to send.

    def start(self) -> None:
        """Send the SYN."""
        self.next = self.first + 1

    def take_segment(self) -> Segment | None:
        """What can be sent now for the first time, data or the FIN; it counts as sent."""
        start, seq = self.next - self.acknowledged, self.next
        rest = len(self._data) - start
        if rest > 0:
            count = min(rest, self.window - start, MAX_SEGMENT)
            if count <= 0:
                return None
            self.next += count
            flags = "P." if count == rest else "."
            return Segment(flags, seq, bytes(self._data[start : start + count]))
        if self.ending and self._fin < 0:
            self._fin = seq
            self.next += 1
            return Segment("F.", seq, b"")
        return None

    @property
    def shut_out(self) -> bool:
        """Whether data waits for the window, and nothing is under way that would bring news of it."""
        return bool(self._data) and not self.under_way

    def repeat_first(self) -> Segment:
        """The first that is not acknowledged, to be sent again. The caller knows the flags of a SYN."""
        seq = self.acknowledged
        if seq == self.first:
            return Segment("S", seq, b"")
        if seq == self._fin:
            return Segment("F.", seq, b"")
        count = min(self.next - seq, MAX_SEGMENT, max(1, self.window))  # one byte more than there is, for FIN
        return Segment("P.", seq, bytes(self._data[:count]))

    # What the peer says.

    def acknowledge(self, ack: int) -> None:
        """The peer has got everything before this, which is news."""
        syn = self.acknowledged == self.first
        del self._data[: ack - self.acknowledged - syn]
        self.acknowledged = ack
        self._similar = 0

    def learn_window(self, packet: Packet) -> bool:
        """Take note of the window, if the packet is not older than the last. Whether it has opened."""
        place = (packet.seq, packet.ack)
        if place < (self._window_seq, self._window_ack):
            return False
        self._window_seq, self._window_ack = place
        opened = self.window == 0 and packet.window > 0
        self.window = packet.window
        return opened

    def seems_lost(self, packet: Packet) -> bool:
        """Whether this acknowledgement, which is no news, is the third of its kind: a segment was lost."""
        if packet.payload or "F" in packet.flags or packet.window != self.window:
            return False
        self._similar += 1
        return self._similar == _SIMILAR_ACKS and self.acknowledged >= self.recover
