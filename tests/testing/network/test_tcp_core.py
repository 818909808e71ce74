"""TCP without I/O: two state machines, or one and packets made by hand, and a clock that is a number."""

from __future__ import annotations

import errno
import math
import random

import pytest

from trionet.testing import Endpoint, Packet
from trionet.testing.network._tcp import Connection
from trionet.testing.network._tcp_outbound import MAX_SEGMENT
from trionet.testing.network._tcp_states import TRANSITIONS, Cause, State
from trionet.testing.network._tcp_timing import GIVE_UP_TIME

HERE = Endpoint("here", "10.0.0.1", 1000)
THERE = Endpoint("there", "10.0.0.2", 2000)


class Wire:
    """Two ends, and the packets between them; each may be lost, by number, on its way."""

    def __init__(self, *, delay: float = 0.01, **limits: int) -> None:
        self.now = 0.0
        self.delay = delay
        self.client = Connection(HERE, THERE, 1 << 32, **limits)
        self.server = Connection(THERE, HERE, 2 << 32, **limits)
        self.under_way: list[tuple[float, int, Packet]] = []
        self.sent: list[Packet] = []
        self.lose: set[int] = set()
        self.deaf = False

    def connect(self) -> None:
        self.client.connect(self.now)
        self.run(1)

    def run(self, seconds: float) -> None:
        """Let time pass."""
        end = self.now + seconds
        while True:
            self.collect()
            due = min([self.client.deadline, self.server.deadline, *(due for due, _, _ in self.under_way)])
            if due > end:
                self.now = end
                return
            self.now = max(self.now, due)
            for entry in sorted(entry for entry in self.under_way if entry[0] <= self.now):
                self.under_way.remove(entry)
                self.arrive(entry[2])
            for end_point in (self.client, self.server):
                if end_point.deadline <= self.now:
                    end_point.timeout(self.now)

    def arrive(self, packet: Packet) -> None:
        to = self.client if packet.dst == HERE else self.server
        if to is self.server and to.state is State.CLOSED and packet.flags == "S":
            to.accept_syn(packet, self.now)
        else:
            to.handle(packet, self.now)

    def collect(self) -> None:
        for end_point in (self.client, self.server):
            for packet in end_point.outgoing:
                number = len(self.sent)
                self.sent.append(packet)
                if number not in self.lose and not self.deaf:
                    self.under_way.append((self.now + self.delay, number, packet))
            end_point.outgoing.clear()

    def since(self, number: int) -> list[str]:
        """Who sent what flags."""
        return [f"{packet.src.host} {packet.flags}" for packet in self.sent[number:]]


@pytest.fixture
def wire() -> Wire:
    wire = Wire()
    wire.connect()
    return wire


def test_the_table_has_all_states_and_leads_to_states_only() -> None:
    assert {*TRANSITIONS} == {*State} - {State.LISTEN}
    assert all(Cause.END not in causes for causes in TRANSITIONS.values())  # possible everywhere


def test_handshake() -> None:
    wire = Wire()
    wire.connect()
    assert wire.since(0) == ["here S", "there S.", "here ."]
    assert wire.client.state is wire.server.state is State.ESTABLISHED


def test_acknowledgements_travel_with_answers(wire: Wire) -> None:
    wire.client.send(b"question", wire.now)
    wire.run(0.05)
    assert wire.server.receive(100) == b"question"
    wire.server.send(b"answer", wire.now)
    wire.run(0.05)
    assert wire.since(3) == ["here P.", "there P."]
    wire.run(1)
    assert wire.since(5) == ["here ."]


def test_orderly_close(wire: Wire) -> None:
    wire.client.close(wire.now)
    wire.run(1)
    assert (wire.client.state, wire.server.state) == (State.FIN_WAIT_2, State.CLOSE_WAIT)
    assert wire.server.receive(1) == b""
    wire.server.close(wire.now)
    wire.run(1)
    assert (wire.client.state, wire.server.state) == (State.TIME_WAIT, State.CLOSED)
    wire.run(60)
    assert wire.client.state is State.CLOSED


def test_both_close_at_once(wire: Wire) -> None:
    wire.client.close(wire.now)
    wire.server.close(wire.now)
    wire.run(1)
    assert wire.client.state is wire.server.state is State.TIME_WAIT


def test_both_connect_at_once() -> None:
    wire = Wire()
    wire.client.connect(0)
    wire.server.connect(0)
    wire.run(5)
    assert wire.client.state is wire.server.state is State.ESTABLISHED
    wire.client.send(b"x", wire.now)
    wire.run(1)
    assert wire.server.receive(1) == b"x"


def test_an_orphan_does_not_wait_for_ever_for_the_other_fin(wire: Wire) -> None:
    wire.client.close(wire.now)
    wire.run(59)
    states = [wire.client.state]
    wire.run(2)
    assert [*states, wire.client.state] == [State.FIN_WAIT_2, State.CLOSED]


def test_an_orphan_resets_when_data_comes(wire: Wire) -> None:
    wire.client.close(wire.now)
    wire.run(1)
    wire.server.send(b"anybody there?", wire.now)
    wire.run(1)
    assert wire.client.state is wire.server.state is State.CLOSED
    assert wire.server.error == errno.EPIPE  # it knew that the peer would send no more


@pytest.mark.parametrize("lost", [{0}, {1}, {2}, {0, 1, 2}, {3}, {4}, {3, 4, 5}])
def test_lost_packets_are_sent_again(lost: set[int]) -> None:
    wire = Wire()
    wire.lose = lost
    wire.client.connect(0)
    wire.run(20)
    wire.client.send(b"data", wire.now)
    wire.client.shut_down_sending(wire.now)
    wire.run(20)
    assert wire.server.receive(100) == b"data"
    assert wire.server.receive(100) == b""


def test_times_of_connecting() -> None:
    wire = Wire()
    wire.deaf = True
    wire.client.connect(0)
    times: list[float] = []
    while wire.client.state is not State.CLOSED:
        wire.collect()
        times.append(wire.now)
        wire.now = wire.client.deadline
        wire.client.timeout(wire.now)
    assert times == [0, 1, 3, 7, 15, 31, 63]
    assert (wire.now, wire.client.error) == (127, errno.ETIMEDOUT)


def test_times_of_data(wire: Wire) -> None:
    wire.run(1)
    wire.deaf = True
    start, first = wire.now, len(wire.sent)
    wire.client.send(b"x", wire.now)
    wire.run(900)
    assert wire.client.state is State.ESTABLISHED
    wire.run(100)
    assert (wire.client.state, wire.client.error) == (State.CLOSED, errno.ETIMEDOUT)
    assert 15 <= len(wire.sent) - first <= 17
    assert wire.now - start > GIVE_UP_TIME


def test_a_user_timeout_gives_up_earlier(wire: Wire) -> None:
    wire.client.user_timeout = 5
    wire.deaf = True
    wire.client.send(b"x", wire.now)
    wire.run(15)
    assert wire.client.error == errno.ETIMEDOUT


def test_three_similar_acknowledgements_bring_the_lost_segment_at_once(wire: Wire) -> None:
    wire.lose = {len(wire.sent)}
    for number in range(5):
        wire.client.send(bytes([number]), wire.now)
        wire.collect()
    wire.run(0.05)  # far less than any timeout
    assert wire.server.receive(100) == bytes(range(5))


def test_several_losses_are_made_up_for_without_waiting(wire: Wire) -> None:
    wire.lose = {len(wire.sent), len(wire.sent) + 5}
    for _ in range(6):
        wire.client.send(bytes(20_000), wire.now)
        wire.collect()
    wire.run(0.1)  # round trips, but no timeout
    assert wire.server.receive_queue == 120_000


def test_window_closes_and_opens() -> None:
    wire = Wire(receive_limit=1000, send_limit=5000)
    wire.connect()
    assert wire.client.send(bytes(range(250)) * 40, wire.now) == 5000
    assert wire.client.send(b"more", wire.now) == 0
    wire.run(100)
    assert wire.server.receive_queue == 1000
    assert wire.client.send_queue == 4000
    got = b""
    while len(got) < 5000:
        got += wire.server.receive(300) or b""
        wire.run(1)
    assert got == bytes(range(250)) * 20


def test_a_closed_window_is_asked_for_when_the_news_was_lost() -> None:
    wire = Wire(receive_limit=1000)
    wire.connect()
    wire.client.send(bytes(2000), wire.now)
    wire.run(10)
    wire.lose = {len(wire.sent)}
    assert len(wire.server.receive(1000) or b"") == 1000
    wire.run(60)
    assert wire.server.receive_queue == 1000


def test_a_loss_after_the_window_was_closed_for_long_is_noticed_soon() -> None:
    wire = Wire(receive_limit=1000)
    wire.connect()
    wire.client.send(bytes(2000), wire.now)
    wire.run(1000)
    wire.lose = {len(wire.sent) + 1}  # the news arrives, the data does not
    wire.server.receive(1000)
    wire.run(3)
    assert wire.server.receive_queue == 1000


def test_a_closed_window_is_no_reason_to_give_up() -> None:
    wire = Wire(receive_limit=1000)
    wire.connect()
    wire.client.send(bytes(2000), wire.now)
    wire.run(10_000)
    assert wire.client.state is State.ESTABLISHED
    wire.deaf = True
    wire.run(2000)
    assert wire.client.error == errno.ETIMEDOUT


def test_segments_are_bounded(wire: Wire) -> None:
    wire.client.send(bytes(100 * 1024), wire.now)
    wire.run(1)
    assert max(len(packet.payload) for packet in wire.sent) == MAX_SEGMENT


@pytest.mark.parametrize("seed", range(200))
def test_any_bytes_arrive_in_order_over_any_weather(seed: int) -> None:
    rng = random.Random(seed)
    wire = Wire(receive_limit=rng.choice([1000, 5000, 100_000]), send_limit=rng.choice([1000, 50_000]))
    wire.connect()
    data = {wire.client: rng.randbytes(30_000), wire.server: rng.randbytes(30_000)}
    sent = dict.fromkeys(data, 0)
    got = {end: bytearray() for end in data}
    loss = rng.choice([0.0, 0.1, 0.3])
    for _ in range(5000):
        wire.lose = {number for number in range(len(wire.sent), len(wire.sent) + 50) if rng.random() < loss}
        wire.delay = rng.random() * rng.choice([0.001, 0.1])
        for end in data:
            if sent[end] < 30_000:
                sent[end] += end.send(data[end][sent[end] :][: rng.randrange(1, 5000)], wire.now)
                if sent[end] == 30_000:
                    end.shut_down_sending(wire.now)
            got[end] += end.receive(rng.randrange(1, 5000)) or b""
        wire.run(rng.random())
        if all(len(part) == 30_000 for part in got.values()):
            break
    assert got[wire.client] == data[wire.server]
    assert got[wire.server] == data[wire.client]


def test_a_reset_of_another_connection_does_nothing(wire: Wire) -> None:
    for seq in (0, 7 << 32, wire.sent[0].seq - 1):
        wire.server.handle(Packet("tcp", HERE, THERE, b"", "R", seq), wire.now)
    assert wire.server.state is State.ESTABLISHED


def test_an_old_packet_says_nothing_about_the_window(wire: Wire) -> None:
    number = wire.sent[-1].seq

    def acknowledgement(offset: int, window: int) -> Packet:
        return Packet("tcp", HERE, THERE, b"", ".", number + offset, wire.sent[1].seq + 1, window)

    wire.server.handle(acknowledgement(0, 5), wire.now)
    wire.server.handle(acknowledgement(-1, 9000), wire.now)
    wire.server.send(bytes(100), wire.now)
    wire.run(0.05)
    assert wire.client.receive_queue == 5


def test_what_does_not_fit_into_the_window_is_cut_off() -> None:
    wire = Wire(receive_limit=1000)
    wire.connect()
    first = wire.sent[2]
    wire.server.handle(Packet("tcp", HERE, THERE, bytes(1500), "F.", first.seq, first.ack, 1000), wire.now)
    assert wire.server.receive_queue == 1000
    assert wire.server.state is State.ESTABLISHED


def test_keepalive_asks_and_gives_up(wire: Wire) -> None:
    keepalive = wire.client.keepalive
    keepalive.idle, keepalive.interval, keepalive.count = 10, 10, 3
    keepalive.start(wire.now)
    wire.run(100)
    assert wire.client.state is State.ESTABLISHED
    number = len(wire.sent)
    wire.run(0.05 + 10)
    assert wire.since(number) == ["here .", "there ."]
    wire.deaf = True
    wire.run(41)
    assert wire.client.error == errno.ETIMEDOUT


def test_nothing_is_due_on_an_idle_connection(wire: Wire) -> None:
    wire.run(10)
    assert wire.client.deadline == wire.server.deadline == math.inf


def test_an_error_is_reported_once(wire: Wire) -> None:
    wire.client.fail(errno.ETIMEDOUT)
    with pytest.raises(TimeoutError):
        wire.client.receive(1)
    assert wire.client.receive(1) == b""
    with pytest.raises(BrokenPipeError):
        wire.client.send(b"x", wire.now)
