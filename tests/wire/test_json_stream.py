"""`JsonStream`: the same values however a stream is cut, exact limits, each byte looked at once."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.wire.pair import cut
from trionet.wire import json_stream
from trionet.wire.json_stream import JsonStream, ValueTooLong

BLANKS = b" \t\r\n"

# Everything that may confuse who counts brackets.
HARD_VALUES = [
    b"[1, null]",
    b"{}",
    b"[]",
    b'["]"]',
    b'["[{", "}"]',
    b'["\\""]',
    b'["\\\\"]',
    b'["\\\\\\"]"]',
    b'{"}": {"{": [[], {}]}}',
    '["\u269b\u20ac\U0001f52c", "\u00bb]\u00ab"]'.encode(),
    b'["\\u005d\\u0022"]',
    b"[ 1 ,\n\t2\r\n]",
    b'["\x00\xff]"]',
]


def values_of(stream: JsonStream) -> list[bytes]:
    values = []
    while (value := stream.next_value()) is not None:
        assert type(value) is bytes
        values.append(value)
    return values


def fed(pieces: Iterable[bytes], max_length: int = 1_000_000) -> tuple[list[bytes], JsonStream]:
    """What comes out when each piece is followed by a look, and the stream with the rest."""
    stream = JsonStream(max_length)
    values = []
    for piece in pieces:
        stream.feed(piece)
        values += values_of(stream)
    return values, stream


def stripped(values: Iterable[bytes]) -> list[bytes]:
    """Without the whitespace behind, which belongs to a value only if it came with it."""
    return [value.rstrip(BLANKS) for value in values]


def pieces_of(data: bytes, cuts: Iterable[int]) -> Sequence[bytes]:
    places = sorted({0, len(data), *(place % (len(data) + 1) for place in cuts)})
    return [data[start:end] for start, end in itertools.pairwise(places)]


@pytest.mark.parametrize("value", HARD_VALUES)
def test_one_value_byte_by_byte(value: bytes) -> None:
    values, stream = fed(cut(value[:-1], 1))
    assert values == []
    assert stream.buffered == len(value) - 1
    stream.feed(value[-1:])
    assert values_of(stream) == [value]
    assert stream.buffered == 0


@pytest.mark.parametrize("length", range(1, 30))
def test_values_in_pieces_of_any_length(length: int) -> None:
    values, stream = fed(cut(b"".join(HARD_VALUES), length))
    assert values == HARD_VALUES
    assert stream.buffered == 0


def test_every_way_to_cut_a_stream_in_three() -> None:
    expected = [b'["\\"]"]', b"[1, 2]", b'{"a": "\xc3\xa4"}']
    data = b"".join(expected)
    for first in range(len(data) + 1):
        for second in range(first, len(data) + 1):
            values, stream = fed([data[:first], data[first:second], data[second:]])
            assert values == expected
            assert stream.buffered == 0


def test_truncated_everywhere_and_continued() -> None:
    data = b"".join(HARD_VALUES)
    for end in range(len(data) + 1):
        values, stream = fed([data[:end]])
        taken = sum(map(len, values))
        assert values == HARD_VALUES[: len(values)]
        assert stream.buffered == end - taken
        assert len(HARD_VALUES) == len(values) or end - taken < len(HARD_VALUES[len(values)])
        stream.feed(data[end:])
        assert values + values_of(stream) == HARD_VALUES


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text('[]{}"\\ \n\u269b') | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text('[]"\\a'), inner, max_size=4),
    max_leaves=15,
)
MESSAGES = st.lists(
    st.builds(
        lambda value, ascii_only, indent: json.dumps(value, ensure_ascii=ascii_only, indent=indent),
        st.lists(JSON, max_size=4) | st.dictionaries(st.text('[]"\\a'), JSON, max_size=4),
        st.booleans(),
        st.sampled_from([None, 0, 1]),
    ).map(str.encode),
    max_size=8,
)
CUTS = st.lists(st.integers(0, 10_000), max_size=20)


@given(MESSAGES, st.lists(st.text(" \t\r\n", max_size=3).map(str.encode), min_size=9, max_size=9), CUTS)
def test_any_messages_in_any_pieces(messages: list[bytes], blanks: list[bytes], cuts: list[int]) -> None:
    data = blanks[8] + b"".join(map(bytes.__add__, messages, blanks))
    values, stream = fed(pieces_of(data, cuts))
    assert stripped(values) == messages
    assert stream.buffered == 0


def brackets_counted(data: bytes) -> list[bytes]:
    """The values in brackets, by a reading character by character."""
    values = []
    value, depth, in_string, escaped = bytearray(), 0, False, False
    for byte in data:
        char = chr(byte)
        if not depth and char not in "[{":
            continue
        value.append(byte)
        if escaped:
            escaped = False
        elif in_string:
            escaped = char == "\\"
            in_string = char != '"'
        else:
            in_string = char == '"'
            depth += (char in "[{") - (char in "]}")
            if not depth:
                values.append(bytes(value))
                value.clear()
    return values


ANYTHING = st.text('[]{}"\\a, \n', max_size=60).map(str.encode) | st.binary(max_size=60)


@given(ANYTHING, CUTS)
@example(b'"[1]"', [])
@example(b"]}x[}", [3])
@example(b'["\\', [])
def test_any_bytes_are_cut_at_the_same_brackets(data: bytes, cuts: list[int]) -> None:
    values, stream = fed(pieces_of(data, cuts))
    in_brackets = [value for value in values if value[:1] in (b"[", b"{")]
    assert stripped(in_brackets) == stripped(brackets_counted(data))
    rest = stream.take(stream.buffered)
    assert rest[:1] in (b"", b"[", b"{")
    # Nothing is lost but whitespace.
    assert b"".join([*values, rest]).translate(None, BLANKS) == data.translate(None, BLANKS)


@pytest.mark.parametrize(
    ("pieces", "values"),
    [
        ([b"[1]\n"], [b"[1]\n"]),
        ([b"[1] \t\r\n[2]"], [b"[1] \t\r\n", b"[2]"]),
        ([b"[1]", b"\n", b"[2]"], [b"[1]", b"[2]"]),
        ([b"[1]\r", b"\n[2]"], [b"[1]\r", b"[2]"]),
        ([b" \n [1]"], [b"[1]"]),
        ([b" ", b"\t", b"\r\n"], []),
        ([b"[1]\x0b[2]"], [b"[1]", b"\x0b", b"[2]"]),
    ],
)
def test_whitespace(pieces: list[bytes], values: list[bytes]) -> None:
    found, stream = fed(pieces)
    assert found == values
    assert stream.buffered == 0


@pytest.mark.parametrize(
    ("pieces", "values"),
    [
        ([b"foo"], [b"foo"]),
        ([b"fo", b"o"], [b"fo", b"o"]),
        ([b"x[1]"], [b"x", b"[1]"]),
        ([b"[1]foo[2]"], [b"[1]", b"foo", b"[2]"]),
        ([b'10 "a" {}'], [b'10 "a" ', b"{}"]),
        ([b'"[1]"'], [b'"', b"[1]", b'"']),
        ([b"\\[1]"], [b"\\", b"[1]"]),
        ([b"]}[1]"], [b"]}", b"[1]"]),
        ([b"[1]\n]\n[2]"], [b"[1]\n", b"]\n", b"[2]"]),
        ([b"\xff\x00", b"[1]"], [b"\xff\x00", b"[1]"]),
        ([b"[1}{2]"], [b"[1}", b"{2]"]),
        ([b"[[1}]"], [b"[[1}]"]),
    ],
)
def test_junk_costs_nothing_but_itself(pieces: list[bytes], values: list[bytes]) -> None:
    found, stream = fed(pieces)
    assert found == values
    assert stream.buffered == 0


def test_unclosed_string_swallows_what_follows() -> None:
    values, stream = fed([b'["a]', b"[1, 2]"])
    assert values == []
    assert stream.buffered == 10


@pytest.mark.parametrize("length", [1, 2, 7, 1000])
@pytest.mark.parametrize("limit", [2, 10, 100])
def test_limit_is_exact(limit: int, length: int) -> None:
    longest = b"[" + b"1" * (limit - 2) + b"]"
    junk = b"x" * limit
    for good in (longest, b" \n" + longest, longest + b"\n" * 200):
        assert stripped(fed(cut(good, length), limit)[0]) == [longest]
    assert b"".join(fed(cut(junk, length), limit)[0]) == junk
    for too_long in (b"[" + longest, longest[:-1] + b"1]", b"[" + b"1" * limit, b"[" + b'"' * limit):
        with pytest.raises(ValueTooLong, match=rf"\b{limit}\b"):
            fed(cut(too_long, length), limit)


def test_junk_too_long() -> None:
    with pytest.raises(ValueTooLong):
        fed([b"x" * 11], 10)
    with pytest.raises(ValueTooLong):
        fed([b"x" * 11 + b"[1]"], 10)


def test_unfinished_value_at_the_limit_may_still_end() -> None:
    values, stream = fed([b"[12"], 4)
    assert values == []
    stream.feed(b"]")
    assert values_of(stream) == [b"[12]"]


@pytest.mark.parametrize("too_long", [b"[12345]", b"[12345", b"[12345][1]", b"foobar"])
def test_values_before_the_long_one_are_given_and_nothing_behind(too_long: bytes) -> None:
    stream = JsonStream(5)
    stream.feed(b"[1][123]" + too_long)
    assert [stream.next_value(), stream.next_value()] == [b"[1]", b"[123]"]
    for _ in range(3):
        with pytest.raises(ValueTooLong):
            stream.next_value()
        stream.feed(b"[1]")


class CountingPattern:
    """A pattern that counts the bytes it has looked at."""

    looked_at = 0

    def __init__(self, pattern: re.Pattern[bytes]) -> None:
        self._pattern = pattern

    def search(self, data: bytearray, start: int = 0) -> re.Match[bytes] | None:
        found = self._pattern.search(data, start)
        CountingPattern.looked_at += max(0, (found.end() if found is not None else len(data)) - start)
        return found


@pytest.mark.parametrize("length", [1, 3, 1000, 200_000])
@pytest.mark.parametrize(
    "data",
    [
        b'["' + b"x" * 50_000 + b'"]',
        b'["' + b"\\\\" * 25_000 + b'"]',
        b"[" + b"1, " * 15_000 + b"1]",
        b"[" * 25_000 + b"]" * 25_000,
        b"[1, null]\n" * 5_000,
        b" " * 50_000 + b"[1]",
        b"x" * 50_000,
    ],
    ids=["string", "escapes", "numbers", "nested", "messages", "blanks", "junk"],
)
def test_each_byte_is_looked_at_once(data: bytes, length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as twice where a value begins, or whitespace is looked for behind one."""
    for name, pattern in vars(json_stream).copy().items():
        if isinstance(pattern, re.Pattern):
            monkeypatch.setattr(json_stream, name, CountingPattern(pattern))
    monkeypatch.setattr(CountingPattern, "looked_at", 0)
    fed(cut(data, length))
    assert len(data) / 3 < CountingPattern.looked_at < 3 * len(data)  # escaped characters are jumped over


def test_beginning_of_what_is_expected() -> None:
    stream = JsonStream(100)
    stream.feed(b"[1, ")
    assert stream.startswith(b"[1")
    assert not stream.startswith(b"[1, 2]")
    assert stream.may_become(b"[1, 2]")
    assert stream.may_become(b"[1, ")
    assert not stream.may_become(b"[1,2]")
    assert not stream.may_become(b"[1")


@pytest.mark.parametrize("before", [b"[", b'["', b'["\\', b'[["a"'])
def test_taking_bytes_out_begins_anew(before: bytes) -> None:
    """Whatever was open in what is taken out, it is not in what follows."""
    stream = JsonStream(100)
    stream.feed(before)
    assert stream.next_value() is None
    stream.feed(b'x]["\\"]", 2]')
    assert stream.take(len(before) + 2) == before + b"x]"
    assert values_of(stream) == [b'["\\"]", 2]']


def test_hard_values_are_what_they_are_meant_to_be() -> None:
    """So that the table above does not test something else."""
    parsed: list[Any] = [json.loads(value) for value in HARD_VALUES[:-1]]
    assert parsed[6:8] == [["\\"], ['\\"]']]
