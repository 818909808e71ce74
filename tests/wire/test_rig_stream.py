"""`StreamExchange`: echoes and messages in one stream, however it is cut."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.wire.pair import cut
from tests.wire.test_rig_exchange import CONFIRMED, HELLO, IS_HELLO, IS_OTHER, JUNK, OTHER
from trionet.wire.errors import RemoteProtocolError
from trionet.wire.rig import Incoming, LateEcho, Malformed, Received, Repeat, StreamExchange


def received_from(
    exchange: StreamExchange, pieces: list[bytes], before: Callable[[int], None] = lambda _: None
) -> list[Received]:
    found = []
    for number, piece in enumerate(pieces):
        before(number)
        exchange.receive_data(piece)
        while (received := exchange.next_received(1.0)) is not None:
            found.append(received)
    return found


@pytest.mark.parametrize("length", [1, 2, 5, 100])
def test_answer_right_behind_the_echo(length: int) -> None:
    exchange = StreamExchange(1000)
    exchange.send(HELLO, 0.0)
    received = received_from(exchange, [*cut(HELLO + OTHER + HELLO, length)])
    assert received == [CONFIRMED, IS_OTHER, IS_HELLO]


@pytest.mark.parametrize("length", [1, 2, 5, 100])
@pytest.mark.parametrize("data", [JUNK, b"[1", b"]]", b'["', b"[1][2]", b"[1, 2]\n", b" x", b"11"])
def test_echo_of_text_ends_where_the_text_does(data: bytes, length: int) -> None:
    exchange = StreamExchange(1000)
    exchange.send(data, 0.0)
    assert received_from(exchange, [*cut(data + OTHER, length)]) == [CONFIRMED, IS_OTHER]
    assert not exchange.incomplete


@pytest.mark.parametrize("length", [1, 2, 5, 100])
def test_message_in_the_stream_before_the_echo(length: int) -> None:
    exchange = StreamExchange(1000)
    exchange.send(HELLO, 0.0)
    assert received_from(exchange, [*cut(OTHER + HELLO, length)]) == [IS_OTHER, CONFIRMED]


def test_message_that_had_begun_before_ours_was_sent() -> None:
    exchange = StreamExchange(1000)
    pieces = [OTHER[:5], OTHER[5:] + HELLO]
    received = received_from(exchange, pieces, lambda number: exchange.send(HELLO, 0.0) if number else None)
    assert received == [IS_OTHER, CONFIRMED]


def test_blanks_in_front_of_the_echo() -> None:
    exchange = StreamExchange(1000)
    exchange.send(HELLO, 0.0)
    assert received_from(exchange, [b"\n", b" " + HELLO, b"\n"]) == [CONFIRMED]
    assert not exchange.incomplete


def test_message_that_is_not_continued_is_incomplete() -> None:
    exchange = StreamExchange(1000)
    assert not exchange.incomplete
    assert received_from(exchange, [OTHER[:-1]]) == []
    assert exchange.incomplete
    assert received_from(exchange, [OTHER[-1:]]) == [IS_OTHER]
    assert not exchange.incomplete


def test_half_an_echo_is_incomplete() -> None:
    exchange = StreamExchange(1000)
    exchange.send(JUNK, 0.0)
    assert received_from(exchange, [JUNK[:2]]) == []
    assert exchange.incomplete
    assert received_from(exchange, [JUNK[2:]]) == [CONFIRMED]


def test_junk_in_the_stream_is_echoed_and_costs_itself_only() -> None:
    exchange = StreamExchange(1000)
    received = received_from(exchange, [JUNK + HELLO + b"{}" + OTHER])
    assert [item.echo for item in received] == [JUNK, HELLO, b"{}", OTHER]
    assert [type(item.meaning) for item in received] == [Malformed, Incoming] * 2


@pytest.mark.parametrize("window", [0.0, 5.0])
def test_new_connection_begins_with_a_new_message(window: float) -> None:
    exchange = StreamExchange(len(OTHER), window)
    exchange.send(HELLO, 0.0)
    assert received_from(exchange, [OTHER[:-1]]) == []
    exchange.begin_stream()
    assert not exchange.incomplete
    assert exchange.awaited == HELLO
    assert received_from(exchange, [OTHER + HELLO]) == [IS_OTHER, CONFIRMED]
    exchange.receive_data(b" " + OTHER[:-1] + b"1]")
    with pytest.raises(RemoteProtocolError):  # the limit is the same
        exchange.next_received(0.0)


def test_new_connection_brings_no_echo_of_what_went_over_the_former() -> None:
    exchange = StreamExchange(1000)
    exchange.send(HELLO, 0.0)
    exchange.give_up()
    exchange.begin_stream()
    assert received_from(exchange, [HELLO]) == [IS_HELLO]


def test_message_that_is_sent_again_over_a_new_connection_is_sent_once() -> None:
    exchange = StreamExchange(1000)
    exchange.send(HELLO, 0.0)
    exchange.begin_stream()
    exchange.withdraw(HELLO)
    exchange.send_again(0.5)
    assert received_from(exchange, [HELLO + HELLO]) == [CONFIRMED, IS_HELLO]


def test_window_reaches_beyond_a_connection() -> None:
    """Who sends a message again over a new connection should not have it delivered again."""
    exchange = StreamExchange(1000, 5.0)
    assert received_from(exchange, [HELLO]) == [IS_HELLO]
    exchange.begin_stream()
    assert received_from(exchange, [HELLO]) == [Received(HELLO, Repeat())]


def test_window_in_a_stream() -> None:
    received = received_from(StreamExchange(1000, 5.0), [HELLO + HELLO])
    assert received == [IS_HELLO, Received(HELLO, Repeat())]


@pytest.mark.parametrize("awaits", [True, False])
def test_message_too_long(awaits: bool) -> None:
    exchange = StreamExchange(len(HELLO))
    if awaits:
        exchange.send(b"[4, 1]", 0.0)
    exchange.receive_data(HELLO + b"[" + HELLO)
    assert exchange.next_received(0.0) == IS_HELLO
    with pytest.raises(RemoteProtocolError, match=str(len(HELLO))):
        exchange.next_received(0.0)


def test_no_message_no_meaning() -> None:
    exchange = StreamExchange(1000)
    assert exchange.next_received(0.0) is None
    exchange.send(HELLO, 0.0)
    assert exchange.next_received(0.0) is None
    assert exchange.awaited == HELLO


def test_echo_in_a_stream_is_known_however_late_it_comes() -> None:
    exchange = StreamExchange(1000)
    exchange.send_unconfirmed(HELLO, 0.0)
    exchange.receive_data(HELLO)
    assert exchange.next_received(100_000.0) == Received(None, LateEcho())
