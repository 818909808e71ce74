"""`Exchange`: what everything that can come is taken for, and for how long."""

from __future__ import annotations

import tracemalloc
from collections.abc import Sequence

import pytest

from trionet.wire.errors import LocalProtocolError
from trionet.wire.rig import (
    LATE_ECHO,
    MAX_DATAGRAM,
    STORM_GAP,
    Confirmed,
    Exchange,
    Incoming,
    LateEcho,
    Malformed,
    Ping,
    Received,
    Repeat,
)
from trionet.wire.rig_messages import ERROR, PING, ExpMessage, encode_answer

HELLO = b'[1, "hello"]'
OTHER = b'[1, "other"]'
JUNK = b"junk"

NOTHING_BACK = Received(None, LateEcho())
REPEAT_IN_SILENCE = Received(None, Repeat())


def message(data: bytes, *items: object, event: ExpMessage = ExpMessage.EXPINIT) -> Received:
    """A message that is echoed."""
    return Received(data, Incoming(event, [*items]))


IS_HELLO = message(HELLO, "hello")
IS_OTHER = message(OTHER, "other")
CONFIRMED = Received(None, Confirmed())


def numbered(number: int) -> bytes:
    return b"[64, %d]" % number


def echoes_at(exchange: Exchange, data: bytes, times: Sequence[float]) -> list[bool]:
    """Whether it is sent back when it comes at these times."""
    return [exchange.receive(data, now).echo == data for now in times]


def confirmed(exchange: Exchange, data: bytes = HELLO, now: float = 0.0) -> None:
    """Send a message, and have its echo come back."""
    exchange.send(data, now)
    assert exchange.receive(data, now) == CONFIRMED


def test_figures_that_others_rely_on() -> None:
    assert MAX_DATAGRAM == 65_535 - 8 - 20  # UDP and IPv4 have headers
    assert 0.001 < STORM_GAP < 1.0 < LATE_ECHO  # a round trip; upstream's echo timeout


# What is awaited


@pytest.mark.parametrize("data", [HELLO, b"[1,2]", JUNK, b"[-0.5, 1]", b'[ 0, "e", 1]', b"[1]\n"])
@pytest.mark.parametrize("window", [0.0, 5.0])
def test_echo_of_anything_confirms_it(data: bytes, window: float) -> None:
    exchange = Exchange(window)
    exchange.send(data, 0.0)
    assert exchange.awaited == data
    assert exchange.receive(data, 1.0) == CONFIRMED
    assert exchange.awaited is None


@pytest.mark.parametrize("data", [b"", b"x", b"[0.5, 1]", b'[0, "e", 1]', b"\xff\xff", b"10"])
def test_what_nobody_sends_back_cannot_be_confirmed(data: bytes) -> None:
    exchange = Exchange()
    with pytest.raises(LocalProtocolError, match="second character"):
        exchange.send(data, 0.0)
    assert exchange.awaited is None
    exchange.send_unconfirmed(data, 0.0)


def test_message_in_between_is_a_message() -> None:
    exchange = Exchange()
    exchange.send(HELLO, 0.0)
    assert exchange.receive(OTHER, 0.0) == IS_OTHER
    assert exchange.awaited == HELLO
    assert exchange.receive(HELLO, 0.0) == CONFIRMED


@pytest.mark.parametrize("other", [HELLO[:-1], HELLO + b" ", HELLO.replace(b" ", b""), b'[1, "hell"]', b""])
def test_echo_that_is_not_the_same_confirms_nothing(other: bytes) -> None:
    exchange = Exchange()
    exchange.send(HELLO, 0.0)
    assert not isinstance(exchange.receive(other, 0.0).meaning, Confirmed)
    assert exchange.awaited == HELLO


def test_one_message_at_a_time() -> None:
    exchange = Exchange()
    exchange.send(HELLO, 0.0)
    with pytest.raises(LocalProtocolError):
        exchange.send(OTHER, 0.0)
    assert exchange.awaited == HELLO
    assert exchange.receive(OTHER, 0.0) == IS_OTHER  # it was not noted as sent
    assert exchange.receive(HELLO, 0.0) == CONFIRMED
    exchange.send(OTHER, 0.0)


def test_nothing_to_send_again() -> None:
    exchange = Exchange()
    with pytest.raises(LocalProtocolError):
        exchange.send_again(0.0)
    confirmed(exchange)
    with pytest.raises(LocalProtocolError):
        exchange.send_again(0.0)


def test_two_that_send_at_the_same_moment() -> None:
    one, two = Exchange(), Exchange()
    one.send(HELLO, 0.0)
    two.send(OTHER, 0.0)
    assert one.receive(OTHER, 0.01) == IS_OTHER
    assert two.receive(HELLO, 0.01) == IS_HELLO
    assert one.receive(HELLO, 0.02) == CONFIRMED
    assert two.receive(OTHER, 0.02) == CONFIRMED


def test_two_that_send_the_very_same_bytes() -> None:
    one, two = Exchange(), Exchange()
    one.send(HELLO, 0.0)
    two.send(HELLO, 0.0)
    assert one.receive(HELLO, 0.01) == CONFIRMED
    assert two.receive(HELLO, 0.01) == CONFIRMED


# Late echoes


@pytest.mark.parametrize("give_up", [True, False])
@pytest.mark.parametrize("late", [0.0, STORM_GAP, LATE_ECHO])
def test_late_echo(give_up: bool, late: float) -> None:
    exchange = Exchange()
    if give_up:
        exchange.send(HELLO, 3.0)
        exchange.give_up()
    else:
        exchange.send_unconfirmed(HELLO, 3.0)
    assert exchange.awaited is None
    assert exchange.receive(HELLO, 3.0 + late) == NOTHING_BACK


def test_echo_is_not_known_for_ever() -> None:
    exchange = Exchange()
    exchange.send_unconfirmed(HELLO, 3.0)
    assert exchange.receive(HELLO, 3.01 + LATE_ECHO) == IS_HELLO


def test_forgotten_at_once_not_once_more() -> None:
    """What came too late to be an echo is not counted when the same is sent anew."""
    exchange = Exchange()
    confirmed(exchange)
    assert exchange.receive(HELLO, 1 + LATE_ECHO) == IS_HELLO
    assert exchange.receive(HELLO, 1.1 + LATE_ECHO) == IS_HELLO
    exchange.send_unconfirmed(HELLO, 2 + LATE_ECHO)
    assert exchange.receive(HELLO, 3 + LATE_ECHO) == NOTHING_BACK


@pytest.mark.parametrize("late", [LATE_ECHO + 1, 3600.0])
def test_later_than_late_it_is_a_message_but_no_storm(late: float) -> None:
    exchange = Exchange()
    exchange.send_unconfirmed(HELLO, 0.0)
    assert exchange.receive(HELLO, late) == IS_HELLO
    assert exchange.receive(HELLO, late + STORM_GAP / 2) == REPEAT_IN_SILENCE
    assert echoes_at(exchange, HELLO, [late + 0.1, late + 0.2, late + 0.3]) == [True, True, False]
    assert echoes_at(exchange, HELLO, [late + 0.8, late + 0.9]) == [True, False]


@pytest.mark.parametrize("window", [0.0, 5.0, 60.0])
def test_what_was_said_long_ago_the_peer_may_say_as_often_as_it_likes(window: float) -> None:
    exchange = Exchange(window)
    confirmed(exchange, PING)
    later = 0.01 + max(LATE_ECHO, window)
    assert [exchange.receive(PING, later).meaning for _ in range(100)] == [Ping()] * 100


def test_what_still_goes_to_and_fro_is_not_forgotten() -> None:
    exchange = Exchange()
    confirmed(exchange)
    assert sum(echoes_at(exchange, HELLO, [0.1 * number for number in range(1, 1000)])) <= 3 + 2 * 100


def test_doubled_echo_of_an_answer_is_none_of_the_peers_messages() -> None:
    answer = encode_answer([ExpMessage.EXPINIT, "hello"])
    exchange = Exchange()
    confirmed(exchange, answer)
    assert exchange.receive(answer, LATE_ECHO) == NOTHING_BACK
    assert exchange.receive(HELLO, LATE_ECHO) == IS_HELLO


def test_as_many_late_echoes_as_were_sent() -> None:
    exchange = Exchange()
    exchange.send(HELLO, 0.0)
    exchange.send_again(1.0)
    exchange.send_again(2.0)
    exchange.give_up()
    for _ in range(3):
        assert exchange.receive(HELLO, 2.1) == NOTHING_BACK
    assert exchange.receive(HELLO, 2.1) == IS_HELLO


def test_echo_is_known_since_it_was_sent_last() -> None:
    exchange = Exchange()
    exchange.send(HELLO, 0.0)
    exchange.send_again(LATE_ECHO)
    exchange.give_up()
    assert exchange.receive(HELLO, 2 * LATE_ECHO) == NOTHING_BACK


def test_what_was_refused_is_no_transmission() -> None:
    """The system has said that it did not arrive: one echo less is to come."""
    exchange = Exchange()
    exchange.send(HELLO, 0.0)
    exchange.withdraw(HELLO)
    exchange.send_again(1.0)
    assert exchange.receive(HELLO, 1.1) == CONFIRMED
    assert exchange.receive(HELLO, 1.2) == IS_HELLO


def test_refusal_concerns_one_message() -> None:
    exchange = Exchange()
    confirmed(exchange, OTHER)
    exchange.send(HELLO, 0.0)
    exchange.withdraw(HELLO)
    exchange.give_up()
    exchange.withdraw(HELLO)  # nothing is known of it any more
    assert exchange.receive(OTHER, 0.1) == IS_OTHER
    assert exchange.receive(HELLO, 0.1) == IS_HELLO


@pytest.mark.parametrize("window", [0.0, 60.0])
def test_what_was_not_sent_the_peer_may_send_as_often_as_it_likes(window: float) -> None:
    exchange = Exchange(window)
    exchange.send_unconfirmed(HELLO, 0.0)
    exchange.withdraw(HELLO)
    assert exchange.receive(HELLO, 0.1) == IS_HELLO
    if not window:
        assert [exchange.receive(HELLO, 0.1) for _ in range(100)] == [IS_HELLO] * 100


def test_an_attempt_that_was_not_sent_leaves_the_echo_of_the_one_before() -> None:
    exchange = Exchange()
    exchange.send(HELLO, 0.0)
    exchange.send_again(1.0)
    exchange.withdraw(HELLO)
    exchange.give_up()
    assert exchange.receive(HELLO, 1.1) == NOTHING_BACK
    assert exchange.receive(HELLO, 1.2) == IS_HELLO


def test_answer_that_has_the_bytes_of_the_question() -> None:
    exchange = Exchange()
    confirmed(exchange)
    assert exchange.receive(HELLO, 0.0001) == IS_HELLO


def test_every_question_may_have_such_an_answer() -> None:
    """They follow each other as fast as a network allows: no gap between them."""
    exchange = Exchange()
    for number in range(100):
        now = number / 10_000
        confirmed(exchange, HELLO, now)
        assert exchange.receive(HELLO, now + 1 / 20_000) == IS_HELLO


def test_answer_after_echoes_that_were_all_needed() -> None:
    exchange = Exchange()
    exchange.send(HELLO, 0.0)
    exchange.send_again(1.0)
    assert exchange.receive(HELLO, 1.1) == CONFIRMED
    assert exchange.receive(HELLO, 1.2) == NOTHING_BACK
    assert exchange.receive(HELLO, 1.3) == IS_HELLO


def test_echo_that_is_owed_is_no_answer_to_the_next_attempt() -> None:
    """The rig was busy, and whoever sent the message sends it again: both come back."""
    exchange = Exchange()
    exchange.send(HELLO, 0.0)
    exchange.give_up()
    exchange.send(HELLO, LATE_ECHO)
    assert exchange.receive(HELLO, LATE_ECHO) == CONFIRMED
    assert exchange.receive(HELLO, LATE_ECHO + 1) == NOTHING_BACK
    assert exchange.receive(HELLO, LATE_ECHO + 2) == IS_HELLO


@pytest.mark.parametrize("came", [True, False])
def test_echo_that_came_or_is_too_late_is_not_owed(came: bool) -> None:
    exchange = Exchange()
    if came:
        confirmed(exchange)
    else:
        exchange.send_unconfirmed(HELLO, 0.0)
    confirmed(exchange, HELLO, 1.0 if came else LATE_ECHO + 1)
    assert exchange.receive(HELLO, LATE_ECHO + 2) == IS_HELLO


def test_doubled_echo_is_sent_back_once_only() -> None:
    exchange = Exchange()
    confirmed(exchange)
    assert exchange.receive(HELLO, 1.0) == IS_HELLO
    for later in (0.0, 0.01, STORM_GAP - 0.001):
        assert exchange.receive(HELLO, 1.0 + later) == REPEAT_IN_SILENCE
    assert exchange.receive(HELLO, 1.001 + STORM_GAP) == IS_HELLO


def test_what_is_sent_back_in_one_go_is_counted_for_each_message() -> None:
    exchange = Exchange()
    for data in (HELLO, OTHER):
        confirmed(exchange, data)
    assert exchange.receive(HELLO, 1.0) == IS_HELLO
    assert exchange.receive(OTHER, 1.0) == IS_OTHER


# The window for repeats


@pytest.mark.parametrize("later", [0.0, STORM_GAP, 3.0])
def test_doubled_echo_within_the_window(later: float) -> None:
    exchange = Exchange(3.0)
    confirmed(exchange, HELLO, 1.0)
    for _ in range(3):
        assert exchange.receive(HELLO, 1.0 + later) == NOTHING_BACK


def test_window_that_is_longer_than_echoes_are_late() -> None:
    exchange = Exchange(60.0)
    confirmed(exchange)
    assert exchange.receive(HELLO, LATE_ECHO + 1) == NOTHING_BACK


def test_without_a_window_an_answer_may_come_in_the_same_moment() -> None:
    exchange = Exchange()
    confirmed(exchange, HELLO, 5.0)
    assert exchange.receive(HELLO, 5.0) == IS_HELLO


def test_after_the_window_it_is_a_message() -> None:
    exchange = Exchange(3.0)
    confirmed(exchange, HELLO, 1.0)
    assert exchange.receive(HELLO, 4.1) == IS_HELLO


def test_without_a_window_nothing_is_a_repeat() -> None:
    exchange = Exchange()
    for _ in range(100):
        assert exchange.receive(HELLO, 0.0) == IS_HELLO


def test_repeat_is_echoed_and_not_delivered() -> None:
    exchange = Exchange(3.0)
    assert exchange.receive(HELLO, 1.0) == IS_HELLO
    assert exchange.receive(HELLO, 1.0) == Received(HELLO, Repeat())
    assert exchange.receive(OTHER, 2.0) == IS_OTHER
    assert exchange.receive(HELLO, 4.0) == Received(HELLO, Repeat())
    assert exchange.receive(HELLO, 4.1) == IS_HELLO
    assert exchange.receive(OTHER, 4.2) == Received(OTHER, Repeat())


def test_repeats_do_not_lengthen_the_window() -> None:
    exchange = Exchange(3.0)
    deliveries = [exchange.receive(HELLO, second).meaning for second in range(8)]
    assert [isinstance(meaning, Incoming) for meaning in deliveries] == [True, *[False] * 3] * 2


def test_repeats_are_echoed_ten_times_at_once_then_twice_a_second() -> None:
    exchange = Exchange(100.0)
    assert exchange.receive(HELLO, 0.0) == IS_HELLO
    assert echoes_at(exchange, HELLO, [0.0] * 11) == [True] * 10 + [False]
    assert echoes_at(exchange, HELLO, [0.4, 0.51, 0.6, 1.02]) == [False, True, False, True]
    assert echoes_at(exchange, HELLO, [50.0] * 11) == [True] * 10 + [False]


def test_report_of_an_error_that_is_repeated() -> None:
    report = b'[0, "e", 1]'
    exchange = Exchange(3.0)
    assert exchange.receive(report, 0.0) == Received(None, Incoming(ERROR, ["e", 1]))
    assert exchange.receive(report, 1.0) == REPEAT_IN_SILENCE


# Pings


@pytest.mark.parametrize("window", [0.0, 5.0])
def test_ping_is_echoed_as_often_as_it_comes(window: float) -> None:
    exchange = Exchange(window)
    for number in range(100):
        assert exchange.receive(b"[32]", number / 10_000) == Received(b"[32]", Ping())


def test_pings_that_follow_each_other_are_confirmed() -> None:
    one, two = Exchange(), Exchange(5.0)
    for number in range(100):
        one.send(b"[32]", number / 10_000)
        echo = two.receive(b"[32]", number / 10_000).echo
        assert echo == b"[32]"
        assert one.receive(echo, number / 10_000) == CONFIRMED


@pytest.mark.parametrize(("data", "is_patient"), [(PING, True), (b"[32]", False), (HELLO, False)])
def test_who_pings_as_trionet_does_is_patient(data: bytes, is_patient: bool) -> None:
    exchange = Exchange()
    assert not exchange.is_patient
    exchange.receive(data, 0.0)
    assert exchange.is_patient == is_patient
    exchange.receive(HELLO, 0.0)
    assert exchange.is_patient == is_patient


# What is no message


@pytest.mark.parametrize(
    ("data", "reason"), [(JUNK, "JSON"), (b"{}", "dict"), (b"[]", "empty"), (b"[3, 1]", "event")]
)
def test_what_is_no_message_is_echoed_as_upstream_does(data: bytes, reason: str) -> None:
    received = Exchange().receive(data, 0.0)
    assert received.echo == data
    assert isinstance(received.meaning, Malformed)
    assert reason in received.meaning.reason


def test_reason_does_not_repeat_all_that_came() -> None:
    received = Exchange().receive(b'["' + b"x" * 60_000 + b'", 1]', 0.0)
    assert isinstance(received.meaning, Malformed)
    assert len(received.meaning.reason) == 200


@pytest.mark.parametrize("data", [b"", b"x", b"10", b"[0]", b"[0.5, 1]", b"\xff\xff"])
def test_what_is_neither_message_nor_echoed(data: bytes) -> None:
    received = Exchange().receive(data, 0.0)
    assert received.echo is None
    assert isinstance(received.meaning, Malformed)


@pytest.mark.parametrize("window", [0.0, 5.0])
def test_junk_is_echoed_ten_times_at_once_then_twice_a_second(window: float) -> None:
    exchange = Exchange(window)
    assert echoes_at(exchange, JUNK, [0.0] * 11) == [True] * 10 + [False]
    assert echoes_at(exchange, JUNK, [0.4, 0.51, 0.6, 1.02]) == [False, True, False, True]
    assert echoes_at(exchange, b"other junk", [1.02]) == [True]


def test_error_reports_are_messages_without_echo() -> None:
    assert Exchange().receive(b'[0, "e", 1]', 0.0) == Received(None, Incoming(ERROR, ["e", 1]))
    echoed = b'[null, "e", 1]'
    assert Exchange().receive(echoed, 0.0) == message(echoed, "e", 1, event=ERROR)


# What is remembered is bounded


@pytest.mark.parametrize("size", [10, 64, 65, 60_000])
def test_messages_of_any_length_are_told_apart(size: int) -> None:
    one, two = (b'[64, "%b%d"]' % (b"x" * (size - 9), number) for number in (1, 2))
    exchange = Exchange(5.0)
    confirmed(exchange, one)
    assert exchange.receive(one, 1.0) == NOTHING_BACK
    assert isinstance(exchange.receive(two, 1.0).meaning, Incoming)
    assert exchange.receive(two, 1.0) == Received(two, Repeat())


def test_long_messages_cost_no_more_memory_than_short_ones() -> None:
    exchange = Exchange(100.0)
    tracemalloc.start()
    try:
        for number in range(500):
            exchange.receive(b'[64, "%b%d"]' % (b"x" * 60_000, number), 0.0)
        assert tracemalloc.get_traced_memory()[0] < 1_000_000
    finally:
        tracemalloc.stop()


def test_thousand_messages_are_known_as_sent() -> None:
    exchange = Exchange()
    for number in range(3000):
        exchange.send_unconfirmed(numbered(number), 0.0)
    for number in range(3000 - 1024, 3000):
        assert exchange.receive(numbered(number), 0.0) == NOTHING_BACK
    assert isinstance(exchange.receive(numbered(0), 0.0).meaning, Incoming)


def test_sending_the_same_again_keeps_it_in_mind() -> None:
    exchange = Exchange()
    exchange.send_unconfirmed(HELLO, 0.0)
    for number in range(1023):
        exchange.send_unconfirmed(numbered(number), 0.0)
    exchange.send_unconfirmed(HELLO, 0.0)
    for number in range(1023):
        exchange.send_unconfirmed(numbered(2000 + number), 0.0)
    assert exchange.receive(HELLO, 0.0) == NOTHING_BACK


def test_awaited_message_is_known_however_many_were_sent_meanwhile() -> None:
    exchange = Exchange()
    exchange.send(HELLO, 0.0)
    for number in range(3000):
        exchange.send_unconfirmed(numbered(number), 0.0)
    exchange.send_again(1.0)
    assert exchange.receive(HELLO, 1.0) == CONFIRMED


def test_message_that_is_sent_again_is_known_again() -> None:
    exchange = Exchange()
    exchange.send(HELLO, 0.0)
    for number in range(3000):
        exchange.send_unconfirmed(numbered(number), 0.0)
    exchange.send_again(1.0)
    exchange.give_up()
    assert exchange.receive(HELLO, 1.1) == NOTHING_BACK


def use_up(exchange: Exchange, junk: bytes, now: float = 0.0) -> None:
    """Have it sent back as often as it is."""
    assert echoes_at(exchange, junk, [now] * 11) == [True] * 10 + [False]


def test_sixty_four_kinds_of_junk_are_known_and_memory_is_bounded() -> None:
    exchange = Exchange()
    junk = [b"junk %d" % number for number in range(100)]
    for data in junk:
        use_up(exchange, data)
    assert [exchange.receive(data, 0.0).echo for data in junk[-64:]] == [None] * 64
    assert exchange.receive(junk[0], 0.0).echo == junk[0]


def test_junk_that_comes_again_and_again_is_kept_in_mind() -> None:
    exchange = Exchange()
    use_up(exchange, JUNK)
    for number in range(63):
        use_up(exchange, b"junk %d" % number)
    assert exchange.receive(JUNK, 0.0).echo is None
    use_up(exchange, b"one more")
    assert exchange.receive(JUNK, 0.0).echo is None


def test_thousand_messages_are_known_as_received() -> None:
    exchange = Exchange(100.0)
    for number in range(5000):
        assert isinstance(exchange.receive(numbered(number), number / 1000).meaning, Incoming)
    for number in range(4000, 5000):
        assert isinstance(exchange.receive(numbered(number), 5.0).meaning, Repeat)
    assert isinstance(exchange.receive(numbered(0), 5.0).meaning, Incoming)
