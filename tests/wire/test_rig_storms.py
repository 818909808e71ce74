"""Two exchanges with a bad network between them: nothing is lost that was confirmed, nothing circulates."""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trionet.wire.rig import STORM_GAP, Confirmed, Exchange, Incoming, Received

#: Seconds after which a message is sent once more, or given up.
ECHO_TIMEOUT = 0.5

# Copies of a datagram that arrive, each after so many milliseconds: a round trip is shorter than STORM_GAP.
GOOD_FATES = st.lists(st.integers(1, 9), min_size=1, max_size=1)
LOSSY_FATES = st.lists(st.integers(1, 9), max_size=1)
DOUBLING_FATES = st.lists(st.integers(1, 9), min_size=1, max_size=2)
ANY_FATES = st.lists(st.integers(1, 9), max_size=2)


@dataclass
class Side:
    """One of the two that talk: what it has sent, and what has come of it."""

    exchange: Exchange
    queue: list[tuple[bytes, int]] = field(default_factory=list)
    sent: Counter[bytes] = field(default_factory=Counter)
    confirmed: list[bytes] = field(default_factory=list)
    gave_up: list[bytes] = field(default_factory=list)
    delivered: Counter[bytes] = field(default_factory=Counter)
    sendings: int = 0


class BadNetwork:
    """Two sides, datagrams on their way, and a clock that jumps from one event to the next.

    Args:
        fate: Says for each datagram when its copies arrive, in milliseconds.
        windows: The `dedup_window` of each side.
    """

    def __init__(self, fate: Callable[[], Sequence[int]], windows: tuple[float, float] = (0.0, 0.0)) -> None:
        self.sides = (Side(Exchange(windows[0])), Side(Exchange(windows[1])))
        self.datagrams = 0
        self.now = 0.0
        self._fate = fate
        self._order = itertools.count()
        self._events: list[tuple[float, int, Callable[[], None]]] = []

    def at(self, time: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._events, (time, next(self._order), action))

    def run(self) -> None:
        """Until nothing is under way; a storm is a failure."""
        while self._events:
            # A little later each time: two things never happen at once.
            time, _, action = heapq.heappop(self._events)
            self.now = max(time, self.now + 1e-6)
            action()
            assert self.datagrams < 5000, "a storm"

    def confirmed_send(self, number: int, data: bytes, attempts: int = 1) -> None:
        """Have a side send a message after those that it is sending."""
        side = self.sides[number]
        side.queue.append((data, attempts))
        if len(side.queue) == 1:
            self._send_first(number)

    def _send_first(self, number: int) -> None:
        data, attempts = self.sides[number].queue[0]
        self.sides[number].exchange.send(data, self.now)
        self._attempt(number, attempts)

    def _attempt(self, number: int, attempts: int) -> None:
        side = self.sides[number]
        data = side.queue[0][0]
        side.sent[data] += 1
        side.sendings += 1
        sending = side.sendings
        self._transmit(number, data)

        def missed() -> None:
            if side.sendings != sending or side.exchange.awaited is None:
                return
            if attempts > 1:
                side.exchange.send_again(self.now)
                self._attempt(number, attempts - 1)
            else:
                side.exchange.give_up()
                side.gave_up.append(data)
                self._next(number)

        self.at(self.now + ECHO_TIMEOUT, missed)

    def _next(self, number: int) -> None:
        queue = self.sides[number].queue
        queue.pop(0)
        if queue:
            self._send_first(number)

    def send(self, number: int, data: bytes) -> None:
        """Have a side send a message without waiting for its echo."""
        side = self.sides[number]
        side.sent[data] += 1
        side.exchange.send_unconfirmed(data, self.now)
        self._transmit(number, data)

    def _transmit(self, number: int, data: bytes) -> None:
        self.datagrams += 1
        for delay in self._fate():
            self.at(self.now + delay / 1000, lambda: self._arrive(1 - number, data))

    def _arrive(self, number: int, data: bytes) -> None:
        side = self.sides[number]
        received: Received = side.exchange.receive(data, self.now)
        if received.echo is not None:
            assert received.echo == data
            self._transmit(number, data)
        if isinstance(received.meaning, Incoming):
            side.delivered[data] += 1
        elif isinstance(received.meaning, Confirmed):
            side.confirmed.append(data)
            self._next(number)


# When (in ms), by whom, what, whether its echo is awaited, how often it is sent.
Sending = tuple[int, int, int, bool, int]
SENDINGS = st.lists(
    st.tuples(st.integers(0, 100), st.integers(0, 1), st.integers(0, 2), st.booleans(), st.integers(1, 3)),
    min_size=1,
    max_size=12,
)
MESSAGES = [b"[1, null]", b"[2, null, null]", b"[64, 20, 1]"]
MESSAGES_AND_JUNK = [b"[1, null]", b"junk", b"[1]"]  # the last is a ping


def conversation(
    data: st.DataObject,
    fates: st.SearchStrategy[list[int]],
    sendings: list[Sending],
    name: Callable[[int, int, int], bytes],
    windows: tuple[float, float] = (0.0, 0.0),
) -> BadNetwork:
    """What becomes of these sendings; `name` makes the message: of its place in the list, side and kind."""
    network = BadNetwork(lambda: data.draw(fates), windows)
    for place, (when, number, kind, awaited, attempts) in enumerate(sendings):
        message = name(place, number, kind)
        if awaited:
            network.at(when / 1000, partial(network.confirmed_send, number, message, attempts))
        else:
            network.at(when / 1000, partial(network.send, number, message))
    network.run()
    return network


def unique(place: int, number: int, kind: int) -> bytes:
    return b'[64, 20, "%d by %d"]' % (place, number)


def own(place: int, number: int, kind: int) -> bytes:
    return b'[64, %d, "by %d"]' % (kind, number)


@given(st.data(), SENDINGS)
def test_good_network_delivers_and_confirms_everything_once(
    data: st.DataObject, sendings: list[Sending]
) -> None:
    """In whatever order datagrams overtake each other, and whoever sends at the same moment."""
    network = conversation(data, GOOD_FATES, sendings, unique)
    for side, other in (network.sides, network.sides[::-1]):
        assert side.gave_up == []
        assert other.delivered == side.sent
        assert all(count == 1 for count in side.sent.values())


@given(st.data(), SENDINGS)
def test_confirmed_messages_have_arrived(data: st.DataObject, sendings: list[Sending]) -> None:
    network = conversation(data, ANY_FATES, sendings, unique)
    for side, other in (network.sides, network.sides[::-1]):
        assert all(other.delivered[message] for message in side.confirmed)
        assert len(set(side.confirmed)) == len(side.confirmed)
        assert not set(side.confirmed) & set(side.gave_up)
        assert set(other.delivered) <= set(side.sent) | set(other.sent)


@given(st.data(), SENDINGS)
def test_lost_datagrams_deliver_nothing_twice_that_was_sent_once(
    data: st.DataObject,
    sendings: list[Sending],
) -> None:
    network = conversation(data, LOSSY_FATES, sendings, unique)
    for side, other in (network.sides, network.sides[::-1]):
        assert all(count <= side.sent[message] for message, count in other.delivered.items())


@given(st.data(), SENDINGS)
def test_window_delivers_everything_once_at_most(data: st.DataObject, sendings: list[Sending]) -> None:
    """Also what is sent for another time, if it has the same bytes."""
    network = conversation(data, ANY_FATES, sendings, own, (60.0, 60.0))
    for side, other in (network.sides, network.sides[::-1]):
        assert set(other.delivered) <= set(side.sent)
        assert all(count == 1 for count in other.delivered.values())
        assert all(other.delivered[message] for message in side.confirmed)


@given(st.data(), SENDINGS)
def test_window_of_the_receiver_is_enough_for_its_part(data: st.DataObject, sendings: list[Sending]) -> None:
    network = conversation(data, ANY_FATES, sendings, own, (0.0, 60.0))
    side, other = network.sides
    assert all(count == 1 for message, count in other.delivered.items() if message in side.sent)


@pytest.mark.parametrize("windows", [(0.0, 0.0), (0.0, 60.0), (60.0, 60.0), (0.005, 0.03)])
@pytest.mark.parametrize("messages", [MESSAGES, MESSAGES_AND_JUNK])
@given(data=st.data(), sendings=SENDINGS)
def test_nothing_circulates(
    messages: list[bytes],
    windows: tuple[float, float],
    data: st.DataObject,
    sendings: list[Sending],
) -> None:
    """Both send the same few messages, again and again; datagrams are lost, doubled, overtaken."""
    network = conversation(data, ANY_FATES, sendings, lambda _place, _side, kind: messages[kind], windows)
    for side in network.sides:
        assert side.exchange.awaited is None
        assert not side.queue


@pytest.mark.parametrize("message", [b"[1, null]", b"junk"])
@pytest.mark.parametrize("attempts", [1, 3])
@given(data=st.data(), sides=st.lists(st.integers(0, 1), min_size=1, max_size=4))
def test_every_datagram_doubled(data: st.DataObject, sides: list[int], message: bytes, attempts: int) -> None:
    sendings = [(0, number, 0, True, attempts) for number in sides]
    network = conversation(data, DOUBLING_FATES, sendings, lambda _place, _side, _kind: message)
    # One message and its echo, each doubled: and what is taken for a message goes to and fro once more.
    assert network.datagrams <= 20 * len(sides) * attempts


@pytest.mark.parametrize("first", [b"[1, null]", b"junk", b"[1]"])
def test_message_that_nobody_waits_for_comes_back_once(first: bytes) -> None:
    """Between two of upstream it would go to and fro for ever."""
    network = BadNetwork(lambda: [1])
    network.send(0, first)
    network.run()
    assert network.datagrams == 2


def test_junk_of_nobody_dies_out() -> None:
    """Neither of them has sent it, so each of them sends it back, but not for ever."""
    network = BadNetwork(lambda: [1])
    network.at(0.0, lambda: network._arrive(0, b"junk"))
    network.run()
    assert network.datagrams == 20


def test_gap_is_longer_than_the_round_trips_here() -> None:
    assert STORM_GAP > 2 * 0.009


@pytest.mark.parametrize("delay", [1, 25, 100, 200])
def test_doubled_echo_dies_out_whatever_the_round_trip(delay: int) -> None:
    doublings = iter([[delay], [delay, delay]])  # of the message, of its echo
    network = BadNetwork(lambda: next(doublings, [delay]))
    network.at(0.0, lambda: network.send(0, b"[1, null]"))
    network.run()
    assert network.datagrams <= 100


def test_burst_without_waiting_dies_out() -> None:
    network = BadNetwork(lambda: [1])
    for number in range(1000):
        network.send(0, b"[64, %d]" % number)
    network.run()
    assert network.datagrams == 2000
