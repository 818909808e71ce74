"""`LineBuffer`: the same lines however a stream is cut, exact limits, memory that follows the bytes."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.wire.pair import cut
from trionet.wire.lines import LineBuffer, LineTooLong

ROUND = settings(max_examples=300, deadline=None)

STREAM = b"one\n\ntwo three\n\xff\x00\r\n\n\nunfinished"
LINES = [b"one", b"", b"two three", b"\xff\x00\r", b"", b""]


def lines_of(buffer: LineBuffer) -> list[bytes]:
    lines = []
    while (line := buffer.next_line()) is not None:
        assert type(line) is bytes
        lines.append(line)
    return lines


def fed(max_length: int, pieces: Iterable[bytes]) -> LineBuffer:
    buffer = LineBuffer(max_length)
    for piece in pieces:
        buffer.feed(piece)
    return buffer


def peak_of(action: Callable[[], object]) -> int:
    """Most bytes that were allocated meanwhile."""
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_every_way_to_cut_a_stream_in_three() -> None:
    for first in range(len(STREAM) + 1):
        for second in range(first, len(STREAM) + 1):
            buffer = fed(100, [STREAM[:first], STREAM[first:second], STREAM[second:]])
            assert lines_of(buffer) == LINES
            assert buffer.buffered == len("unfinished")


@pytest.mark.parametrize("length", [1, 2, 3, 7])
def test_lines_are_there_as_soon_as_they_are_complete(length: int) -> None:
    buffer = LineBuffer(100)
    received = b""
    lines: list[bytes] = []
    for piece in cut(STREAM, length):
        received += piece
        buffer.feed(piece)
        lines += lines_of(buffer)
        assert lines == received.split(b"\n")[:-1]


@ROUND
@given(
    st.lists(st.binary(max_size=20) | st.sampled_from([b"\n", b"a\nb", b"\n\n"]), max_size=20),
    st.lists(st.booleans(), min_size=20, max_size=20),
)
def test_same_as_split(pieces: list[bytes], take: list[bool]) -> None:
    buffer = LineBuffer(1000)
    lines = []
    for piece, now in zip(pieces, take, strict=False):
        buffer.feed(piece)
        if now:
            lines += lines_of(buffer)
    lines += lines_of(buffer)
    *expected, rest = b"".join(pieces).split(b"\n")
    assert lines == expected
    assert buffer.buffered == len(rest)


def test_large_and_small_pieces_in_turn() -> None:
    pieces = [b"a" * 5000, b"b", b"c" * 10, b"d" * 4096, b"e" * 4095, b"f\ng"]
    buffer = fed(20_000, pieces)
    assert lines_of(buffer) == [b"".join(pieces)[:-2]]
    assert buffer.buffered == 1


def test_what_was_fed_can_be_changed_afterwards() -> None:
    small = bytearray(b"abc")
    buffer = fed(100, [bytes(small), b"\n"])
    small[:] = b"xyz"
    assert lines_of(buffer) == [b"abc"]


@pytest.mark.parametrize("limit", [0, 1, 10, 4095, 4096, 10_000])
@pytest.mark.parametrize("length", [1, 3, 4096, 100_000])
def test_limit_is_exact(limit: int, length: int) -> None:
    longest = b"x" * limit
    assert lines_of(fed(limit, cut(longest + b"\n", length))) == [longest]
    for too_long in (longest + b"x\n", longest + b"x"):
        buffer = fed(limit, cut(too_long, length))
        with pytest.raises(LineTooLong, match=str(limit)):
            buffer.next_line()


def test_unfinished_line_at_the_limit_may_still_end() -> None:
    buffer = fed(3, [b"abc"])
    assert buffer.next_line() is None
    buffer.feed(b"\n")
    assert buffer.next_line() == b"abc"


@pytest.mark.parametrize("too_long", [b"four", b"four\n", b"four\nthen\n"])
@pytest.mark.parametrize("length", [1, 100])
def test_lines_before_the_long_one_are_delivered(too_long: bytes, length: int) -> None:
    buffer = fed(3, cut(b"one\ntwo\n" + too_long, length))
    assert [buffer.next_line(), buffer.next_line()] == [b"one", b"two"]
    for _ in range(2):  # there is no way on
        with pytest.raises(LineTooLong):
            buffer.next_line()
        buffer.feed(b"\nmore\n")


def test_line_without_end_takes_no_more_memory_than_the_limit() -> None:
    limit, piece = 1 << 20, b"x" * (1 << 16)
    buffer = LineBuffer(limit)

    def flood() -> None:
        for _ in range(1000):
            buffer.feed(piece)

    assert peak_of(flood) < 2 * limit
    assert buffer.buffered <= limit + len(piece)


@pytest.mark.parametrize("length", [1, 2, 50, 1000])
def test_tiny_pieces_cost_little_more_than_their_bytes(length: int) -> None:
    size = 200_000
    pieces = cut(bytes(range(11, 211)) * (size // 200), length)
    buffer = LineBuffer(size)

    def trickle() -> None:
        for piece in pieces:
            buffer.feed(piece)

    assert peak_of(trickle) < 3 * size
    assert buffer.buffered == size


def test_line_of_many_pieces_is_joined_once() -> None:
    size = 1 << 20
    pieces = cut(b"x" * size, 4096)
    buffer = LineBuffer(size)

    def receive() -> None:
        for piece in pieces:
            buffer.feed(piece)
        buffer.feed(b"\n")
        assert len(buffer.next_line() or b"") == size

    assert peak_of(receive) < 1.5 * size  # the pieces themselves are allocated before


def test_buffered_counts_lines_that_wait() -> None:
    buffer = fed(100, [b"ab\ncd\nef"])
    assert buffer.buffered == len(b"ab\ncd\nef")
    assert buffer.next_line() == b"ab"
    assert buffer.buffered == len(b"cd\nef")
    lines_of(buffer)
    assert buffer.buffered == len(b"ef")


def test_buffered_counts_empty_lines() -> None:
    """A reader that stops at a limit must see a flood of line feeds: each costs memory, too."""
    buffer = fed(100, [b"\n" * 1000] * 10)
    assert buffer.buffered == 10_000
