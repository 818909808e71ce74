"""TCP without I/O: one end of a connection as a state machine.

Packets, calls and the time go in through methods; packets come out in `Connection.outgoing`, and
`Connection.deadline` is when `Connection.timeout` wants to be called. Whoever drives a connection
(`_tcp_driver.py`) looks at both after each call. States and transitions are a table in `_tcp_states.py`.

What is done as the books and Linux do it, with Linux's numbers: the handshake, cumulative acknowledgements,
delayed and carried by data where there is any, retransmission with exponential backoff, fast retransmission,
reassembly, the receive window and its probes, half-close, resets, keepalive, TIME_WAIT, orphans.

What is not: congestion control (a link's `bandwidth` and the window bound what is under way), Nagle's
algorithm (trio turns it off), a maximum segment size (a segment carries up to 64 KiB, whatever the link),
urgent data, SACK. Sequence numbers do not wrap: they are Python integers, see `_packets.SEQUENCE_SPACE`.
"""

from __future__ import annotations

import errno
import math
import os
from typing import Final

from trionet.testing.network._packets import Endpoint, Packet
from trionet.testing.network._tcp_states import CAN_SEND, OPENING, TRANSITIONS, Cause, State
from trionet.testing.network._tcp_timing import (
    ACK_DELAY,
    FIN_WAIT_2_TIME,
    GIVE_UP_TIME,
    ORPHAN_GIVE_UP_TIME,
    SYN_ACK_RETRIES,
    SYN_RETRIES,
    TIME_WAIT_TIME,
    Keepalive,
    RetransmissionTimer,
)

MAX_SEGMENT: Final = 64 * 1024
#: Data from which on an acknowledgement is sent at once: two full frames of an Ethernet.
_ACK_AT_ONCE: Final = 2 * 1460
_DUPLICATE_ACKS: Final = 3


class Connection:
    """One end of a TCP connection. Times are those of one clock, in seconds.

    Attributes:
        local: This end.
        remote: The other end.
        state: Where it stands; `State.CLOSED` at the start and for good at the end.
        outgoing: Packets to be sent; the driver takes them out.
        error: Errno of what went wrong and was not reported yet, or 0.
        send_limit: Bytes that are kept until they are acknowledged.
        receive_limit: Bytes that are kept until they are read.
        keepalive: Its settings.
        user_timeout: Seconds without acknowledgement after which to give up; 0 for the system's own.
    """

    __slots__ = (
        "_ack_at",
        "_early",
        "_expire_at",
        "_fin_received",
        "_fin_seq",
        "_iss",
        "_orphan",
        "_read_shut",
        "_received",
        "_receiving_edge",
        "_receiving_next",
        "_recover",
        "_retransmission",
        "_sending",
        "_sending_fin",
        "_sending_next",
        "_sending_window",
        "_similar_acks",
        "_unacknowledged",
        "_unreported",
        "_window_ack",
        "_window_seq",
        "error",
        "keepalive",
        "local",
        "outgoing",
        "receive_limit",
        "remote",
        "send_limit",
        "state",
        "user_timeout",
    )

    def __init__(
        self,
        local: Endpoint,
        remote: Endpoint,
        initial_sequence: int,
        *,
        send_limit: int = 128 * 1024,
        receive_limit: int = 128 * 1024,
    ) -> None:
        self.local = local
        self.remote = remote
        self.state = State.CLOSED
        self.outgoing: list[Packet] = []
        self.error = 0
        self.send_limit = send_limit
        self.receive_limit = receive_limit
        self.keepalive = Keepalive()
        self.user_timeout = 0.0
        # Sending: the buffer holds the bytes from _unacknowledged on; those before _sending_next were sent.
        self._iss = self._unacknowledged = self._sending_next = initial_sequence
        self._sending = bytearray()
        self._sending_fin = False
        self._fin_seq = -1  # of our FIN, once it was sent
        self._sending_window = 0
        self._window_seq = self._window_ack = -1
        self._similar_acks = 0
        self._recover = -1  # below this, losses are made up for one by one
        self._retransmission = RetransmissionTimer()
        # Receiving: the buffer holds the bytes before _receiving_next; the peer may send up to the edge.
        self._receiving_next = -1
        self._receiving_edge = -1
        self._received = bytearray()
        self._early: dict[int, tuple[bytes, bool]] = {}
        self._fin_received = False
        self._read_shut = False
        self._unreported = 0  # bytes received that were not acknowledged yet
        self._ack_at = math.inf
        self._expire_at = math.inf
        self._orphan = False

    # What users of a socket do.

    def connect(self, now: float) -> None:
        """Begin to connect."""
        self._change(Cause.CONNECT)
        self._send_syn(now)

    def accept_syn(self, packet: Packet, now: float) -> None:
        """Answer the packet of somebody who connects to us."""
        self._change(Cause.SYN)
        self._learn_peer(packet)
        self._send_syn(now)

    def send(self, data: bytes | memoryview, now: float) -> int:
        """Take data to be sent. Returns how many bytes were taken; 0 if none can be, now.

        Raises:
            OSError: EPIPE if no more can be sent, or what has happened to the connection.
        """
        if self.error:
            raise self.take_error()
        if self.state in OPENING and not self._sending_fin:
            return 0
        if self.state not in CAN_SEND or self._sending_fin:
            raise OSError(errno.EPIPE, os.strerror(errno.EPIPE))
        room = self.send_limit - len(self._sending)
        if room <= 0:
            return 0
        part = data if len(data) <= room else data[:room]
        self._sending += part
        self._send_what_fits(now)
        return len(part)

    def receive(self, count: int, *, peek: bool = False) -> bytes | None:
        """Up to `count` bytes of what has come; b"" at the end of the stream; None if there is nothing yet.

        Raises:
            OSError: what has happened to the connection, once; then it is at its end.
        """
        if self._received:
            data = bytes(self._received[:count])
            if not peek:
                del self._received[:count]
                self._announce_room()
            return data
        if self._fin_received:
            return b""
        if self.error:
            raise self.take_error()
        if self._read_shut or self.state is State.CLOSED:
            return b""
        return None

    def shut_down_sending(self, now: float) -> None:
        """Send FIN behind what is to be sent."""
        self._sending_fin = True
        self._send_what_fits(now)

    def shut_down_receiving(self) -> None:
        """From now on a read that would have to wait is the end of the stream."""
        self._read_shut = True

    def close(self, now: float) -> None:
        """Leave the connection alone: it sends what it has, and then its FIN; or resets.

        Linux resets a connection that is closed before everything was read, and so does this: the peer is
        to know that not all it sent was seen.
        """
        if self.state is State.SYN_SENT:
            self._end()
        elif self.state is State.SYN_RECEIVED or self._received:
            self.abort()
        else:
            self._orphan = True
            self.shut_down_sending(now)
            if self.state is State.FIN_WAIT_2:
                self._expire_at = now + FIN_WAIT_2_TIME

    def abort(self) -> None:
        """End the connection with a reset."""
        if self.state not in (State.CLOSED, State.SYN_SENT, State.TIME_WAIT):
            self._emit("R.", self._sending_next)
        self._end()

    def fail(self, number: int) -> None:
        """End the connection with an error, for reasons outside of it."""
        self.error = number
        self._end()

    def take_error(self) -> OSError:
        """The error to be reported, which is reported once."""
        number, self.error = self.error, 0
        return OSError(number, os.strerror(number))

    # What the driver asks for.

    @property
    def deadline(self) -> float:
        """When to call `timeout`; infinity if there is nothing to wait for."""
        return min(self._retransmission.at, self._ack_at, self.keepalive.at, self._expire_at)

    @property
    def readable(self) -> bool:
        """Whether reading would not wait."""
        if self._received or self._fin_received or self.error or self._read_shut:
            return True
        return self.state is State.CLOSED

    @property
    def writable(self) -> bool:
        """Whether sending would not wait. As in Linux a third of the buffer must be free for that."""
        if self.error or self._sending_fin:
            return True
        if self.state in OPENING:
            return False
        return self.state not in CAN_SEND or len(self._sending) * 3 <= self.send_limit * 2

    @property
    def receive_queue(self) -> int:
        """Bytes that were not read yet."""
        return len(self._received)

    @property
    def send_queue(self) -> int:
        """Bytes that were not acknowledged yet."""
        return len(self._sending)

    # What the network does.

    def handle(self, packet: Packet, now: float) -> None:
        """Take in a packet."""
        flags = packet.flags
        if self.state is State.SYN_SENT:
            self._handle_in_syn_sent(packet, now)
        elif "R" in flags:
            if self._receiving_next <= packet.seq <= self._receiving_edge + 1:  # a FIN may precede it
                self._be_reset()
        elif "S" in flags:
            self._handle_syn(packet, now)
        elif "." in flags and self.state is not State.CLOSED:
            self.keepalive.heard(now)
            if self._handle_ack(packet, now):
                self._handle_content(packet, now)
                self._send_what_fits(now)

    def timeout(self, now: float) -> None:
        """Do what is due."""
        if self._ack_at <= now:
            self._emit_ack()
        if self._expire_at <= now:
            self._end()
        elif self._retransmission.at <= now:
            self._retransmit_in_time(now)
        if self.keepalive.at <= now:
            self._ask_for_life(now)

    def _handle_in_syn_sent(self, packet: Packet, now: float) -> None:
        acknowledged = "." in packet.flags
        if acknowledged and packet.ack != self._sending_next:
            return  # of an earlier connection
        if "R" in packet.flags:
            if acknowledged:
                self._be_reset()
        elif "S" in packet.flags:
            self._learn_peer(packet)
            self.keepalive.heard(now)
            if acknowledged:
                self._change(Cause.SYN_ACKNOWLEDGED)
                self._acknowledged(packet.ack, now)
                self._sending_window = packet.window
                self._emit_ack()
                self._send_what_fits(now)
            else:
                self._change(Cause.SYN)
                self._emit("S.", self._iss)

    def _handle_syn(self, packet: Packet, now: float) -> None:
        both_connect = "." in packet.flags and packet.ack == self._sending_next
        if self.state is State.SYN_RECEIVED and both_connect:
            self._handle_ack(packet, now)
        elif self.state is State.SYN_RECEIVED:
            self._emit("S.", self._iss)  # ours was lost
        else:
            self._emit_ack()  # if the peer has forgotten the connection, it will reset it

    def _handle_ack(self, packet: Packet, now: float) -> bool:
        """Take note of what the peer has got. Returns whether the packet is to be looked at any further."""
        ack = packet.ack
        if ack > self._sending_next:
            self._emit_ack()
            return False
        if self.state is State.SYN_RECEIVED:
            if ack != self._sending_next:
                return False
            self._change(Cause.SYN_ACKNOWLEDGED)
        if ack > self._unacknowledged:
            self._acknowledged(ack, now)
        elif ack == self._sending_next:
            self._retransmission.probe_answered(now)
        elif ack == self._unacknowledged and not packet.payload and "F" not in packet.flags:
            self._count_similar(packet, now)
        if packet.seq > self._window_seq or (packet.seq == self._window_seq and ack >= self._window_ack):
            self._window_seq, self._window_ack = packet.seq, ack
            if packet.window and not self._sending_window and ack == self._sending_next:
                self._retransmission.stop()  # it asked for just that
            self._sending_window = packet.window
        return self.state is not State.CLOSED

    def _acknowledged(self, ack: int, now: float) -> None:
        syn = self._unacknowledged == self._iss
        del self._sending[: ack - self._unacknowledged - syn]
        self._unacknowledged = ack
        self._similar_acks = 0
        self._retransmission.acknowledged(ack, now, outstanding=ack < self._sending_next)
        if ack <= self._fin_seq:
            return
        if self._fin_seq >= 0:
            self._change(Cause.FIN_ACKNOWLEDGED)
            if self.state is State.CLOSED:
                self._end()
            elif self.state is State.TIME_WAIT:
                self._wait_for_stragglers(now)
            elif self._orphan:
                self._expire_at = now + FIN_WAIT_2_TIME
        elif ack < self._recover:
            self._retransmit(now)

    def _count_similar(self, packet: Packet, now: float) -> None:
        if packet.window != self._sending_window:
            return
        self._similar_acks += 1
        if self._similar_acks == _DUPLICATE_ACKS and self._unacknowledged >= self._recover:
            self._recover = self._sending_next
            self._retransmit(now)

    def _handle_content(self, packet: Packet, now: float) -> None:
        payload, seq, fin = packet.payload, packet.seq, "F" in packet.flags
        if not payload and not fin:
            if seq < self._receiving_next:
                self._emit_ack()  # it was asked for: a keepalive, or a probe of the window
            return
        if self._orphan and seq + len(payload) > self._receiving_next:
            self.abort()  # nobody will ever read it
            return
        if seq < self._receiving_next:
            payload = payload[self._receiving_next - seq :]
            if seq + len(packet.payload) + fin <= self._receiving_next:
                self._emit_ack()  # ours was lost
                if self.state is State.TIME_WAIT:
                    self._wait_for_stragglers(now)
                return
            seq = self._receiving_next
        room = max(0, self._receiving_edge - seq)
        if len(payload) > room:
            payload, fin = payload[:room], False
        if not payload and not fin:
            self._emit_ack()  # a probe of the window
        elif seq > self._receiving_next:
            self._early.setdefault(seq, (payload, fin))
            self._emit_ack()
        else:
            self._take_in(payload, fin, now)

    def _take_in(self, payload: bytes, fin: bool, now: float) -> None:
        at_once = bool(self._early)
        self._keep(payload)
        while self._early and not fin:
            first = min(self._early)
            if first > self._receiving_next:
                break
            payload, fin = self._early.pop(first)
            skip = self._receiving_next - first
            if skip <= len(payload):
                self._keep(payload[skip:])
            else:
                fin = False
        if fin:
            self._receiving_next += 1
            self._receiving_edge = max(self._receiving_edge, self._receiving_next)
            self._fin_received = True
            self._early.clear()
            self._change(Cause.FIN_RECEIVED)
            if self.state is State.TIME_WAIT:
                self._wait_for_stragglers(now)
        if fin or at_once or self._unreported >= _ACK_AT_ONCE:
            self._emit_ack()
        else:
            self._ack_at = min(self._ack_at, now + ACK_DELAY)

    def _keep(self, payload: bytes) -> None:
        self._received += payload
        self._receiving_next += len(payload)
        self._unreported += len(payload)

    # Sending.

    def _send_syn(self, now: float) -> None:
        self._sending_next = self._iss + 1
        self._retransmission.sent(self._sending_next, now)
        self._emit(self._syn_flags, self._iss)

    @property
    def _syn_flags(self) -> str:
        return "S" if self.state is State.SYN_SENT else "S."

    def _learn_peer(self, packet: Packet) -> None:
        self._receiving_next = packet.seq + 1
        self._receiving_edge = self._receiving_next + self.receive_limit
        self._sending_window = packet.window

    def _send_what_fits(self, now: float) -> None:
        if self.state not in CAN_SEND:
            return
        buffer = self._sending
        while (start := self._sending_next - self._unacknowledged) < len(buffer):
            room = self._unacknowledged + self._sending_window - self._sending_next
            count = min(len(buffer) - start, room, MAX_SEGMENT)
            if count <= 0:
                if start == 0:  # nothing under way that would bring the news of an open window
                    self._retransmission.start(now)
                return
            last = start + count == len(buffer)
            self._sending_next += count
            self._retransmission.sent(self._sending_next, now)
            payload = bytes(buffer[start : start + count])
            self._emit("P." if last else ".", self._sending_next - count, payload)
        if self._sending_fin:
            self._fin_seq = self._sending_next
            self._sending_next += 1
            self._change(Cause.FIN_SENT)
            self._retransmission.sent(self._sending_next, now)
            self._emit("F.", self._fin_seq)

    def _retransmit(self, now: float) -> None:
        """Send again the first of what was not acknowledged."""
        self._retransmission.repeated(now)
        first = self._unacknowledged
        if first == self._iss:
            self._emit(self._syn_flags, first)
        elif first == self._fin_seq:
            self._emit("F.", first)
        else:
            end = self._sending_next - (self._fin_seq >= 0)
            count = min(end - first, MAX_SEGMENT, max(1, self._sending_window))
            self._emit("P.", first, bytes(self._sending[:count]))

    def _retransmit_in_time(self, now: float) -> None:
        timer = self._retransmission
        if self._is_given_up(now):
            # Whoever connected to us and is not heard of again is nobody's error.
            self.fail(0 if self.state is State.SYN_RECEIVED else errno.ETIMEDOUT)
            return
        timer.back_off(now)
        if self._unacknowledged < self._sending_next:
            self._recover = self._sending_next
            self._retransmit(now)
        elif self._sending:
            self._emit(".", self._sending_next - 1)  # is the window still closed?
        else:
            timer.stop()

    def _is_given_up(self, now: float) -> bool:
        timer = self._retransmission
        if self.state is State.SYN_SENT and not self.user_timeout:
            return timer.backoffs >= SYN_RETRIES
        if self.state is State.SYN_RECEIVED:
            return timer.backoffs >= SYN_ACK_RETRIES
        limit = ORPHAN_GIVE_UP_TIME if self._orphan else self.user_timeout or GIVE_UP_TIME
        return timer.unanswered(now) >= limit

    def _ask_for_life(self, now: float) -> None:
        if self._unacknowledged < self._sending_next or self._sending or self.state in OPENING:
            self.keepalive.postpone(now)  # the other timer is at work
        elif self.keepalive.ask(now):
            self._emit(".", self._sending_next - 1)
        elif self.keepalive.at <= now:
            self._emit("R.", self._sending_next)
            self.fail(errno.ETIMEDOUT)

    def _emit(self, flags: str, seq: int, payload: bytes = b"") -> None:
        if flags == "S":
            packet = Packet("tcp", self.local, self.remote, b"", flags, seq, 0, self.receive_limit)
        else:
            window = self._receiving_edge - self._receiving_next
            packet = Packet("tcp", self.local, self.remote, payload, flags, seq, self._receiving_next, window)
            self._unreported = 0
            self._ack_at = math.inf
        self.outgoing.append(packet)

    def _emit_ack(self) -> None:
        self._open_window()
        self._emit(".", self._sending_next)

    def _open_window(self) -> bool:
        """Let the peer send more, if it is worth while: little pieces would make little packets."""
        edge = self._receiving_next + self.receive_limit - len(self._received)
        if edge - self._receiving_edge < min(self.receive_limit // 2, MAX_SEGMENT):
            return False
        self._receiving_edge = edge
        return True

    def _announce_room(self) -> None:
        if self.state is not State.CLOSED and not self._fin_received and self._open_window():
            self._emit(".", self._sending_next)

    # Ends.

    def _wait_for_stragglers(self, now: float) -> None:
        self._retransmission.stop()
        self._expire_at = now + TIME_WAIT_TIME

    def _be_reset(self) -> None:
        refused = self.state is State.SYN_SENT
        broken = self.state is State.CLOSE_WAIT
        if self.state is not State.TIME_WAIT and self.state is not State.CLOSED:
            self.error = errno.ECONNREFUSED if refused else errno.EPIPE if broken else errno.ECONNRESET
        self._end()

    def _end(self) -> None:
        self.state = State.CLOSED
        self._sending.clear()
        self._early.clear()
        self._retransmission.stop()
        self.keepalive.stop()
        self._ack_at = self._expire_at = math.inf

    def _change(self, cause: Cause) -> None:
        self.state = TRANSITIONS[self.state][cause]
