"""Messages, PING and PONG: the same however the stream is cut, exact limits, large frames kept once."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wire.pair import cut
from tests.wire.zmtp_bytes import PING, PONG, command, events_of, long, ready_connection, short
from trionet.wire.errors import LocalProtocolError, RemoteProtocolError
from trionet.wire.zmtp import Event, Message, OtherCommand, Ping, Pong, SocketType, ZmtpConnection
from trionet.wire.zmtp_frames import Frame

LARGE = 64 * 1024

STREAM = (
    short(b"one")
    + short(b"two", flags=1)
    + PING
    + long(b"x" * 300, flags=1)
    + command(b"FUTURE", b"data")
    + short(b"")
    + PONG
    + long(b"y" * 255, flags=0)
    + short(b"behind a", flags=1)
    + short(b"long one")
)
EVENTS: list[Event] = [
    Message([b"one"]),
    Ping(1.0, b"hi"),
    OtherCommand(b"FUTURE"),
    Message([b"two", b"x" * 300, b""]),
    Pong(b"hi"),
    Message([b"y" * 255]),
    Message([b"behind a", b"long one"]),
]


def flat(buffers: list[Frame]) -> bytes:
    return b"".join(buffers)


def received(connection: ZmtpConnection, data: bytes) -> list[Event]:
    """The events of a stream that is received into the vacant place whenever there is one."""
    events: list[Event] = []
    position = 0
    while position < len(data):
        vacant = connection.vacant()
        if vacant is not None:
            piece = data[position : position + max(1, len(vacant) // 2)]
            vacant[: len(piece)] = piece
            connection.fill(len(piece))
        else:
            piece = data[position : position + 7]
            connection.receive_data(piece)
        position += len(piece)
        events += events_of(connection)
    return events


def peak_of(action: Callable[[], object]) -> int:
    """Most bytes that were allocated meanwhile."""
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_every_way_to_cut_a_stream_in_two() -> None:
    for size in range(len(STREAM) + 1):
        connection = ready_connection()
        assert events_of(connection, STREAM[:size]) + events_of(connection, STREAM[size:]) == EVENTS
        assert connection.buffered == 0
        assert connection.is_between_messages


@pytest.mark.parametrize("length", [1, 2, 3, 7, 100])
def test_pieces_of_any_size(length: int) -> None:
    connection = ready_connection()
    assert [event for piece in cut(STREAM, length) for event in events_of(connection, piece)] == EVENTS


def test_pieces_may_pile_up_before_an_event_is_asked_for() -> None:
    connection = ready_connection()
    for piece in cut(STREAM, 5):
        connection.receive_data(piece)
    assert events_of(connection) == EVENTS


def test_a_stream_that_ends_early_has_an_unfinished_message() -> None:
    ends = {0}
    position = 0
    for unit in (short(b"one"), short(b"two", 1) + PING + short(b"three"), PONG):
        position += len(unit)
        ends.add(position)
    stream = short(b"one") + short(b"two", 1) + PING + short(b"three") + PONG
    for size in range(len(stream) + 1):
        connection = ready_connection()
        events_of(connection, stream[:size])
        assert connection.is_between_messages == (size in ends)


def test_buffered_counts_what_was_not_given() -> None:
    connection = ready_connection()
    events_of(connection, short(b"four", flags=1) + short(b"three")[:-2])
    assert connection.buffered == len("four") + len("thr")
    connection.receive_data(b"ee" + short(b"more"))
    assert connection.buffered == len("four") + len("three") + len(short(b"more"))
    assert events_of(connection) == [Message([b"four", b"three"]), Message([b"more"])]
    assert connection.buffered == 0


SIZES = [0, 1, 254, 255, 256, 4096, LARGE - 1, LARGE, LARGE + 1, 300_000, 2**19, 2**19 + 1, 1_500_000]


@pytest.mark.parametrize("size", SIZES)
def test_sizes_of_frames(size: int) -> None:
    body = bytes(range(256)) * (size // 256) + bytes(size % 256)
    buffers = ready_connection().send_message([b"head", body, b"", body])
    second = long if size > 255 else short
    stream = short(b"head", 1) + second(body, 1) + short(b"", 1) + second(body)
    assert flat(buffers) == stream
    for events in (events_of(ready_connection(), stream), received(ready_connection(), stream)):
        (message,) = events
        assert isinstance(message, Message)
        assert message.frames == [b"head", body, b"", body]
        assert all(isinstance(frame, bytes) for frame in message.frames if len(frame) < LARGE)


def test_long_header_on_a_short_body() -> None:
    assert events_of(ready_connection(), long(b"") + long(b"x")) == [Message([b""]), Message([b"x"])]


@given(st.lists(st.binary(max_size=600), min_size=1, max_size=6), st.integers(1, 700))
def test_round_trip(frames: list[bytes], length: int) -> None:
    stream = flat(ready_connection().send_message(frames))
    connection = ready_connection()
    events = [event for piece in cut(stream, length) for event in events_of(connection, piece)]
    assert events == [Message([*frames])]


@given(st.binary(max_size=200), st.integers(1, 50))
def test_any_bytes_are_events_or_an_error(data: bytes, length: int) -> None:
    whole: list[Event] = []
    pieces: list[Event] = []
    outcomes = []
    for found, parts in ((whole, [data]), (pieces, cut(data, length))):
        connection = ready_connection(max_message_size=100, max_frames=4)
        try:
            for part in parts:
                connection.receive_data(part)
                while (event := connection.next_event()) is not None:
                    found.append(event)
            outcomes.append("")
        except RemoteProtocolError as error:
            outcomes.append(error.message)
    assert whole == pieces
    assert outcomes[0] == outcomes[1]


def test_reserved_flags_and_commands_in_parts_are_refused() -> None:
    for flags in (*range(8, 256), 5, 7):
        with pytest.raises(RemoteProtocolError, match=f"flags {flags:#04x}"):
            events_of(ready_connection(), bytes([flags, 0]))


def test_a_long_header_is_looked_at_before_its_body_comes() -> None:
    for length in (10_000_001, 1 << 62, (1 << 64) - 1):
        connection = ready_connection()
        assert events_of(connection, long(b"", length=length)[:-1]) == []
        with pytest.raises(RemoteProtocolError, match=f"a frame of {length} bytes where 10000000"):
            events_of(connection, long(b"", length=length)[-1:])


@pytest.mark.parametrize("limit", [0, 1, 255, 256, 70_000])
def test_the_limit_of_a_message_is_exact(limit: int) -> None:
    def frame(size: int, flags: int = 0) -> bytes:
        return (long if size > 255 else short)(b"x" * size, flags)

    connection = ready_connection(max_message_size=limit)
    half = limit // 2
    for _ in range(2):  # the next message has the whole limit again
        assert len(events_of(connection, frame(limit))) == 1
        assert len(events_of(connection, frame(half, 1) + PING + frame(limit - half))) == 2
    with pytest.raises(RemoteProtocolError, match=f"where {limit - half} are allowed"):
        events_of(connection, frame(half, 1) + frame(limit - half + 1))
    with pytest.raises(RemoteProtocolError, match=f"where {limit} are allowed"):
        events_of(ready_connection(max_message_size=limit), frame(limit + 1))


def test_the_limit_of_frames_is_exact() -> None:
    connection = ready_connection(max_frames=3)
    for _ in range(2):
        assert events_of(connection, short(b"", 1) * 2 + short(b"")) == [Message([b""] * 3)]
    with pytest.raises(RemoteProtocolError, match="more than 3 frames"):
        events_of(connection, short(b"", 1) * 3)


def test_messages_before_a_bad_one_are_given() -> None:
    connection = ready_connection()
    connection.receive_data(short(b"good") + b"\xff\xff")
    assert connection.next_event() == Message([b"good"])
    with pytest.raises(RemoteProtocolError):
        connection.next_event()
    assert connection.next_event() is None


def test_push_and_pull_go_one_way() -> None:
    push = ready_connection(SocketType.PUSH, partner=b"PULL")
    assert push.send_message([b"x"]) == [short(b"x")]
    with pytest.raises(RemoteProtocolError, match="only sends"):
        events_of(push, short(b"x"))
    pull = ready_connection(SocketType.PULL, partner=b"PUSH")
    assert events_of(pull, short(b"x")) == [Message([b"x"])]
    with pytest.raises(LocalProtocolError, match="PULL"):
        pull.send_message([b"x"])
    assert pull.ping() == command(b"PING", b"\0\0")  # heartbeats go both ways
    assert events_of(ready_connection(SocketType.PUSH, partner=b"PULL"), PING) == [Ping(1.0, b"hi")]


def test_ping_and_pong_as_bytes() -> None:
    connection = ready_connection()
    assert connection.ping(1.0, b"hi") == PING
    assert connection.pong(b"hi") == PONG
    assert connection.ping(0.31)[-2:] == b"\0\x04"
    assert connection.ping(0.3)[-2:] == b"\0\x03"
    assert connection.ping(6553.5, b"c" * 16) == command(b"PING", b"\xff\xff" + b"c" * 16)
    for seconds, context in ((6553.6, b""), (-0.1, b""), (0.0, b"c" * 17)):
        with pytest.raises(ValueError, match="no PING can carry"):
            connection.ping(seconds, context)


def test_pings_that_are_odd() -> None:
    assert events_of(ready_connection(), command(b"PING", b"\0\0" + b"c" * 40)) == [Ping(0.0, b"c" * 16)]
    for data in (b"", b"\0"):
        with pytest.raises(RemoteProtocolError, match="PING that is cut off"):
            events_of(ready_connection(), command(b"PING", data))


def test_large_frames_are_sent_without_a_copy_and_small_ones_joined() -> None:
    large = bytes(LARGE)
    buffers = ready_connection().send_message([b"a", large, b"b" * 300, b"c", large])
    assert [len(buffer) for buffer in buffers] == [3 + 9, LARGE, 9 + 300 + 3 + 9, LARGE]
    assert buffers[1] is large
    assert buffers[3] is large


def test_buffers_that_are_no_bytes() -> None:
    numbers = np.arange(20_000, dtype=">f8").reshape(100, 200)
    frames: list[Any] = [bytearray(b"ab"), memoryview(b"cd"), numbers, np.empty((0, 3)), numbers[:1]]
    buffers = ready_connection().send_message(frames)
    (message,) = events_of(ready_connection(), flat(buffers))
    assert isinstance(message, Message)
    assert [bytes(frame) for frame in message.frames] == [
        *(b"ab", b"cd", numbers.tobytes(), b"", numbers[:1].tobytes())
    ]
    assert any(np.shares_memory(np.frombuffer(buffer, np.uint8), numbers) for buffer in buffers)
    with pytest.raises(BufferError, match="contiguous"):
        ready_connection().send_message([numbers[:, ::2].data])


def test_received_large_frames_cannot_be_written_to() -> None:
    stream = long(b"x" * LARGE)
    (message,) = received(ready_connection(), stream)
    assert isinstance(message, Message)
    (frame,) = message.frames
    assert isinstance(frame, memoryview)
    assert frame.readonly


def test_a_large_frame_is_kept_once() -> None:
    size = 8 << 20
    header = long(b"", length=size)
    piece = bytes(1 << 16)

    def receive(into: bool) -> None:
        connection = ready_connection()
        events_of(connection, header)
        assert events_of(connection, piece) == []
        for _ in range(size // len(piece) - 1):
            vacant = connection.vacant()
            assert vacant is not None
            if into:
                vacant[: len(piece)] = piece
                connection.fill(len(piece))
            else:
                connection.receive_data(piece)
        (message,) = events_of(connection)
        assert isinstance(message, Message)
        assert len(message.frames[0]) == size

    for into in (True, False):
        assert size < peak_of(lambda into=into: receive(into)) < 1.1 * size  # type: ignore[misc]


@pytest.mark.parametrize("length", [2**19 - 1, 2**19, 2**19 + 1, 1_000_000, 3_000_000])
def test_a_large_frame_and_what_is_behind_it_in_pieces_of_any_size(length: int) -> None:
    body = bytes(range(250)) * 9000
    stream = long(body, flags=1) + short(b"end") + short(b"next")
    connection = ready_connection()
    events = [event for piece in cut(stream, length) for event in events_of(connection, piece)]
    assert events == [Message([body, b"end"]), Message([b"next"])]
    assert connection.is_between_messages


def test_what_is_announced_and_not_sent_costs_little() -> None:
    def announce() -> None:
        for connection in connections:
            events_of(connection, long(b"", length=16 << 20) + bytes(1000))

    connections = [ready_connection(max_message_size=16 << 20) for _ in range(10)]
    assert peak_of(announce) < 6 << 20


def test_a_trickle_costs_no_more_than_its_bytes() -> None:
    size = 10_000
    connection = ready_connection()
    stream = cut(long(bytes(size), flags=1), 1)

    def trickle() -> None:
        for byte in stream:
            assert events_of(connection, byte) == []

    assert peak_of(trickle) < 3 * size
    assert connection.buffered == size


def test_nothing_is_kept_of_what_was_given() -> None:
    connection = ready_connection()
    piece = short(b"x" * 200) * 5000

    def flood() -> int:
        events_of(connection, piece + b"\0")
        kept = tracemalloc.get_traced_memory()[0]
        events_of(connection, b"\0" + piece)
        return max(kept, tracemalloc.get_traced_memory()[0])

    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        assert flood() - before < 10_000
    finally:
        tracemalloc.stop()


def test_a_closed_connection_keeps_nothing() -> None:
    connection = ready_connection()
    connection.close()
    assert events_of(connection, short(b"late")) == []
    assert connection.buffered == 0
