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
from trionet.testing.network._tcp_inbound import Inbound
from trionet.testing.network._tcp_outbound import Outbound
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

#: Data from which on an acknowledgement is sent at once: two full frames of an Ethernet.
_ACK_AT_ONCE: Final = 2 * 1460


class Connection:
    """One end of a TCP connection. Times are those of one clock, in seconds.

    Attributes:
        local: This end.
        remote: The other end.
        state: Where it stands; `State.CLOSED` at the start and for good at the end.
        outgoing: Packets to be sent; the driver takes them out.
        error: Errno of what went wrong and was not reported yet, or 0.
        keepalive: Its settings.
        user_timeout: Seconds without acknowledgement after which to give up; 0 for the system's own.
    """

    __slots__ = (
        "_ack_at",
        "_expire_at",
        "_inbound",
        "_orphan",
        "_outbound",
        "_read_shut",
        "_retransmission",
        "_unreported",
        "error",
        "keepalive",
        "local",
        "outgoing",
        "remote",
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
        self.keepalive = Keepalive()
        self.user_timeout = 0.0
        self._outbound = Outbound(initial_sequence, send_limit)
        self._retransmission = RetransmissionTimer()
        self._inbound = Inbound(receive_limit)
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
        if self.state in OPENING:
            return 0
        if self.state not in CAN_SEND or self._outbound.ending:
            raise OSError(errno.EPIPE, os.strerror(errno.EPIPE))
        count = self._outbound.keep(data)
        if count:
            self._send_what_fits(now)
        return count

    def receive(self, count: int, *, peek: bool = False) -> bytes | None:
        """Up to `count` bytes of what has come; b"" at the end of the stream; None if there is nothing yet.

        Raises:
            OSError: what has happened to the connection, once; then it is at its end.
        """
        if self._inbound:
            data = self._inbound.read(count, peek=peek)
            if not peek and self.state is not State.CLOSED and self._inbound.open_window():
                self._emit(".", self._outbound.next)
            return data
        if self._inbound.finished:
            return b""
        if self.error:
            raise self.take_error()
        if self._read_shut or self.state is State.CLOSED:
            return b""
        return None

    def shut_down_sending(self, now: float) -> None:
        """Send FIN behind what is to be sent."""
        self._outbound.ending = True
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
        elif self.state is State.SYN_RECEIVED or self._inbound:
            self.abort()
        else:
            self._orphan = True
            self.shut_down_sending(now)
            if self.state is State.FIN_WAIT_2:
                self._expire_at = now + FIN_WAIT_2_TIME

    def abort(self) -> None:
        """End the connection with a reset."""
        if self.state not in (State.CLOSED, State.SYN_SENT, State.TIME_WAIT):
            self._emit("R.", self._outbound.next)
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
        if self._inbound or self._inbound.finished or self.error or self._read_shut:
            return True
        return self.state is State.CLOSED

    @property
    def writable(self) -> bool:
        """Whether sending would not wait. As in Linux a third of the buffer must be free for that."""
        if self.error or self._outbound.ending:
            return True
        if self.state in OPENING:
            return False
        return self.state not in CAN_SEND or len(self._outbound) * 3 <= self._outbound.limit * 2

    @property
    def send_limit(self) -> int:
        """Bytes that are kept until they are acknowledged; may be set."""
        return self._outbound.limit

    @send_limit.setter
    def send_limit(self, limit: int) -> None:
        self._outbound.limit = limit

    @property
    def receive_limit(self) -> int:
        """Bytes that are kept until they are read; may be set, for what is still to come."""
        return self._inbound.limit

    @receive_limit.setter
    def receive_limit(self, limit: int) -> None:
        self._inbound.limit = limit

    @property
    def receive_queue(self) -> int:
        """Bytes that were not read yet."""
        return len(self._inbound)

    @property
    def send_queue(self) -> int:
        """Bytes that were not acknowledged yet."""
        return len(self._outbound)

    # What the network does.

    def handle(self, packet: Packet, now: float) -> None:
        """Take in a packet."""
        flags = packet.flags
        if self.state is State.SYN_SENT:
            self._handle_in_syn_sent(packet, now)
        elif "R" in flags:
            if self._inbound.next <= packet.seq <= self._inbound.edge + 1:  # a FIN may precede it
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
        if acknowledged and packet.ack != self._outbound.next:
            # The peer means an earlier connection: ours, if this host has crashed. It is to forget it.
            if "R" not in packet.flags:
                self.outgoing.append(Packet("tcp", self.local, self.remote, b"", "R", packet.ack))
            return
        if "R" in packet.flags:
            if acknowledged:
                self._be_reset()
        elif "S" in packet.flags:
            self._learn_peer(packet)
            self.keepalive.heard(now)
            if acknowledged:
                self._change(Cause.SYN_ACKNOWLEDGED)
                self._acknowledged(packet.ack, now)
                self._emit_ack()
                self._send_what_fits(now)
            else:
                self._change(Cause.SYN)
                self._emit("S.", self._outbound.first)

    def _handle_syn(self, packet: Packet, now: float) -> None:
        both_connect = "." in packet.flags and packet.ack == self._outbound.next
        if self.state is State.SYN_RECEIVED and both_connect:
            self._handle_ack(packet, now)
        elif self.state is State.SYN_RECEIVED:
            self._emit("S.", self._outbound.first)  # ours was lost
        else:
            self._emit_ack()  # if the peer has forgotten the connection, it will reset it

    def _handle_ack(self, packet: Packet, now: float) -> bool:
        """Take note of what the peer has got. Returns whether the packet is to be looked at any further."""
        outbound, ack = self._outbound, packet.ack
        if ack > outbound.next:
            self._emit_ack()
            return False
        if self.state is State.SYN_RECEIVED:
            if ack != outbound.next:
                return False
            self._change(Cause.SYN_ACKNOWLEDGED)
        if ack > outbound.acknowledged:
            self._acknowledged(ack, now)
        elif ack == outbound.next:
            self._retransmission.probe_answered(now)
        elif ack == outbound.acknowledged and outbound.seems_lost(packet):
            outbound.recover = outbound.next
            self._retransmit(now)
        if outbound.learn_window(packet) and not outbound.under_way:
            self._retransmission.stop()  # it asked for just that
        return self.state is not State.CLOSED

    def _acknowledged(self, ack: int, now: float) -> None:
        outbound = self._outbound
        outbound.acknowledge(ack)
        self._retransmission.acknowledged(ack, now, outstanding=outbound.under_way)
        if outbound.fin_acknowledged:
            self._change(Cause.FIN_ACKNOWLEDGED)
            if self.state is State.CLOSED:
                self._end()
            elif self.state is State.TIME_WAIT:
                self._wait_for_stragglers(now)
            elif self._orphan:
                self._expire_at = now + FIN_WAIT_2_TIME
        elif outbound.under_way and ack < outbound.recover:
            self._retransmit(now)

    def _handle_content(self, packet: Packet, now: float) -> None:
        inbound, seq, payload, fin = self._inbound, packet.seq, packet.payload, "F" in packet.flags
        if not payload and not fin:
            if seq < inbound.next:
                self._emit_ack()  # it was asked for: a keepalive, or a probe of the window
        elif self._orphan and seq + len(payload) > inbound.next:
            self.abort()  # nobody will ever read it
        elif self._is_shut and seq + len(payload) > inbound.next:
            self.error = errno.ECONNRESET  # likewise
            self.abort()
        elif seq + len(payload) + fin <= inbound.next:
            self._emit_ack()  # ours was lost
            if self.state is State.TIME_WAIT:
                self._wait_for_stragglers(now)
        elif not inbound.finished:
            before, at_once = inbound.next, inbound.has_gap
            ended = inbound.take_in(seq, payload, fin)
            self._unreported += inbound.next - before
            if ended:
                self._change(Cause.FIN_RECEIVED)
                if self.state is State.TIME_WAIT:
                    self._wait_for_stragglers(now)
            if ended or at_once or inbound.next == before or self._unreported >= _ACK_AT_ONCE:
                self._emit_ack()
            else:
                self._ack_at = min(self._ack_at, now + ACK_DELAY)

    # Sending.

    def _send_syn(self, now: float) -> None:
        self._outbound.start()
        self._retransmission.sent(self._outbound.next, now)
        self._emit(self._syn_flags, self._outbound.first)

    @property
    def _syn_flags(self) -> str:
        return "S" if self.state is State.SYN_SENT else "S."

    def _learn_peer(self, packet: Packet) -> None:
        self._inbound.begin(packet.seq + 1)
        self._outbound.learn_window(packet)

    def _send_what_fits(self, now: float) -> None:
        if self.state not in CAN_SEND:
            return
        while (segment := self._outbound.take_segment()) is not None:
            self._retransmission.sent(self._outbound.next, now)
            self._emit(*segment)
            if segment.flags == "F.":
                self._change(Cause.FIN_SENT)
        if self._outbound.shut_out:
            self._retransmission.start(now)

    def _retransmit(self, now: float) -> None:
        """Send again the first of what was not acknowledged."""
        self._retransmission.repeated(now)
        flags, seq, payload = self._outbound.repeat_first()
        self._emit(self._syn_flags if flags == "S" else flags, seq, payload)

    def _retransmit_in_time(self, now: float) -> None:
        timer = self._retransmission
        if self._is_given_up(now):
            # Whoever connected to us and is not heard of again is nobody's error.
            self.fail(0 if self.state is State.SYN_RECEIVED else errno.ETIMEDOUT)
            return
        timer.back_off(now)
        if self._outbound.under_way:
            self._outbound.recover = self._outbound.next
            self._retransmit(now)
        elif self._outbound:
            self._emit(".", self._outbound.next - 1)  # is the window still closed?
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
        if self._outbound.under_way or self._outbound or self.state in OPENING:
            self.keepalive.postpone(now)  # the other timer is at work
        elif self.keepalive.ask(now):
            self._emit(".", self._outbound.next - 1)
        elif self.keepalive.at <= now:
            self._emit("R.", self._outbound.next)
            self.fail(errno.ETIMEDOUT)

    def _emit(self, flags: str, seq: int, payload: bytes = b"") -> None:
        inbound = self._inbound
        if flags == "S":
            packet = Packet("tcp", self.local, self.remote, b"", flags, seq, 0, inbound.limit)
        else:
            window = inbound.edge - inbound.next
            packet = Packet("tcp", self.local, self.remote, payload, flags, seq, inbound.next, window)
            self._unreported = 0
            self._ack_at = math.inf
        self.outgoing.append(packet)

    def _emit_ack(self) -> None:
        self._inbound.open_window()
        self._emit(".", self._outbound.next)

    # Ends.

    @property
    def _is_shut(self) -> bool:
        """Whether the user has ended both directions, and the peer has not."""
        return self._read_shut and self.state in (State.FIN_WAIT_1, State.FIN_WAIT_2)

    def _wait_for_stragglers(self, now: float) -> None:
        self._retransmission.stop()
        self.keepalive.stop()
        self._expire_at = now + TIME_WAIT_TIME

    def _be_reset(self) -> None:
        refused = self.state is State.SYN_SENT
        broken = self.state is State.CLOSE_WAIT
        if self.state is not State.TIME_WAIT and self.state is not State.CLOSED:
            self.error = errno.ECONNREFUSED if refused else errno.EPIPE if broken else errno.ECONNRESET
        self._end()

    def _end(self) -> None:
        self.state = State.CLOSED
        self._outbound.forget()
        self._inbound.forget_early()
        self._retransmission.stop()
        self.keepalive.stop()
        self._ack_at = self._expire_at = math.inf

    def _change(self, cause: Cause) -> None:
        self.state = TRANSITIONS[self.state][cause]
