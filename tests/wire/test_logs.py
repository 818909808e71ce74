"""ARTIQ logging without I/O: every line, every way to cut it, everything that is not allowed."""

from __future__ import annotations

import ast
import contextlib
import re
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.wire.pair import cut
from tests.wire.test_lines import peak_of
from tests.wire.transcripts import Recording, load
from trionet.wire.errors import RemoteProtocolError
from trionet.wire.logs import (
    LEVELS,
    MAX_SENT_SIZE,
    MIN_SENT_SIZE,
    ForwarderArrived,
    LogMessage,
    LogSinkConnection,
    State,
    encode_log_message,
    greet,
)

ROUND = settings(max_examples=300, deadline=None)

BANNER = b"ARTIQ logging\n"
RECORDS = [
    LogMessage("src", 20, "a.b", "one line"),
    LogMessage("", 5, "", ""),
    LogMessage("src", 40, "n", "three\nlines: 1 ⚛\nend"),
    LogMessage("other", 50, "n", "\n\n"),
    LogMessage("src", 10, "n", "src:INFO:n:x\r"),
]
LINES = [
    b"src:INFO:a.b:one line\n",
    b":TRACE::\n",
    "src:ERROR<3>:n:three\nlines: 1 ⚛\nend\n".encode(),
    b"other:CRITICAL<3>:n:\n\n\n",
    b"src:DEBUG:n:src:INFO:n:x\r\n",
]


def take(sink: LogSinkConnection) -> list[LogMessage]:
    """The records that are there."""
    records = []
    while (event := sink.next_event()) is not None:
        if isinstance(event, LogMessage):
            records.append(event)
    return records


def received(pieces: Iterable[bytes], max_record_size: int = 10_000) -> list[LogMessage]:
    sink = LogSinkConnection(max_record_size)
    records = []
    for piece in pieces:
        sink.receive_data(piece)
        records += take(sink)
    return records


def ready(max_record_size: int = 10_000) -> LogSinkConnection:
    sink = LogSinkConnection(max_record_size)
    sink.receive_data(greet())
    assert sink.next_event() == ForwarderArrived()
    assert sink.state is State.WAIT_RECORD
    return sink


def refusal(data: bytes, max_record_size: int = 10_000) -> str:
    """Why a connection ends."""
    sink = ready(max_record_size)
    sink.receive_data(data)
    with pytest.raises(RemoteProtocolError) as caught:
        take(sink)
    assert sink.state is State.CLOSED
    sink.receive_data(b"s:INFO:n:later\n")
    assert sink.next_event() is None
    return caught.value.message


def test_what_is_sent() -> None:
    assert greet() == BANNER
    assert [encode_log_message(record) for record in RECORDS] == LINES


@pytest.mark.parametrize("length", [1, 2, 3, 7, 1000])
def test_pieces_of_any_length(length: int) -> None:
    assert received(cut(BANNER + b"".join(LINES), length)) == RECORDS


def test_every_way_to_cut_a_stream_in_three() -> None:
    stream = BANNER + b"".join(LINES)
    for first in range(len(stream) + 1):
        for second in range(first, len(stream) + 1):
            assert received([stream[:first], stream[first:second], stream[second:]]) == RECORDS


def test_truncated_everywhere() -> None:
    """What is whole is there at once, and the rest is known to be missing."""
    stream = BANNER + b"".join(LINES)
    ends = [len(BANNER) + sum(map(len, LINES[:count])) for count in range(len(LINES) + 1)]
    for length in range(len(stream) + 1):
        sink = LogSinkConnection()
        sink.receive_data(stream[:length])
        whole = sum(end <= length for end in ends[1:])
        assert take(sink) == RECORDS[:whole]
        assert sink.incomplete == (length not in [0, *ends])


@pytest.mark.parametrize("name", LEVELS)
def test_every_level(name: bytes) -> None:
    (record,) = received([BANNER, b"s:%b:n:m\n" % name])
    assert record == LogMessage("s", LEVELS[name], "n", "m")
    (record,) = received([BANNER, b"s:%b<2>:n:m\n\n" % name])
    assert record == LogMessage("s", LEVELS[name], "n", "m\n")
    if name != b"WARN":
        assert encode_log_message(LogMessage("s", LEVELS[name], "n", "m")) == b"s:%b:n:m\n" % name


@pytest.mark.parametrize(
    ("level", "name"),
    [
        (35, b"WARNING"),
        (49, b"ERROR"),
        (1000, b"CRITICAL"),
        (6, b"TRACE"),
        (9, b"TRACE"),
        (11, b"DEBUG"),
        (4, b"TRACE"),
        (0, b"TRACE"),
        (-3, b"TRACE"),
    ],
)
def test_levels_that_the_protocol_does_not_know(level: int, name: bytes) -> None:
    assert encode_log_message(LogMessage("s", level, "n", "m")) == b"s:%b:n:m\n" % name


@pytest.mark.parametrize(
    "text",
    [
        "just text",
        "",
        "Level 35:n:m",
        "info:n:m",
        " INFO:n:m",
        "NOTSET:n:m",
        "20:n:m",
        "INFO:no second colon",
        "INFO",
        "INFO<3>",
        "INFO<3>:no second colon",
        "INFO<-1>:n:m",
        "INFO<+1>:n:m",
        "INFO< 1>:n:m",
        "INFO<>:n:m",
        "INFO<1_0>:n:m",
        "INFO<2>x:n:m",
        "INFO<2:n:m",
        "WARNINGS:n:m",
        "⚛ <b>\r",
    ],
)
def test_printed_text(text: str) -> None:
    """It is a record of one line, so the next line is a record again."""
    data = f"s:{text}\ns:DEBUG:n:next\n".encode()
    assert received([BANNER, data]) == [LogMessage("s", 20, "print", text), LogMessage("s", 10, "n", "next")]


@pytest.mark.parametrize("digits", [b"1", b"0", b"01", b"000"])
def test_numbers_that_mean_one_line(digits: bytes) -> None:
    data = b"s:INFO<%b>:n:one\ns:INFO:n:two\n" % digits
    assert [record.message for record in received([BANNER, data])] == ["one", "two"]


def test_leading_zeros() -> None:
    zeros = b"0" * 5000  # more digits than int() takes
    assert [record.message for record in received([BANNER, b"s:INFO<%b2>:n:a\nb\n" % zeros])] == ["a\nb"]


@pytest.mark.parametrize("line", [b"s:INFO:n:two", b"nocolon", b"", b"s:INFO<3>:n:x", b"ARTIQ logging"])
def test_lines_of_a_message_may_look_like_anything(line: bytes) -> None:
    data = b"s:INFO<2>:n:one\n%b\ns:INFO:n:next\n" % line
    assert [record.message for record in received([BANNER, data])] == ["one\n" + line.decode(), "next"]


def test_only_line_feeds_end_a_line() -> None:
    text = "a\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029b\0"
    assert encode_log_message(LogMessage("s", 20, "n", text)).startswith(b"s:INFO:n:")
    assert received([BANNER, encode_log_message(LogMessage("s", 20, "n", text))])[0].message == text


@pytest.mark.parametrize(
    "banner", [b"ARTIQ other\n", b"ARTIQ logging\r\n", b" ARTIQ logging\n", b"\n", b"GET / HTTP/1.1\r\n"]
)
def test_another_banner(banner: bytes) -> None:
    sink = LogSinkConnection()
    sink.receive_data(banner)
    with pytest.raises(RemoteProtocolError, match="not the banner of a log forwarder"):
        sink.next_event()
    assert sink.state is State.CLOSED


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"nocolon\n", "a record without a source: b'nocolon'"),
        (b"\n", "a record without a source: b''"),
        (b"s:INFO:n:\xff\n", "a record that is not UTF-8"),
        (b"s:INFO:\xff:m\n", "a record that is not UTF-8"),
        (b"\xff:INFO:n:m\n", "a record that is not UTF-8"),
        (b"s:\xff\n", "a record that is not UTF-8"),
        (b"s:INFO<2>:n:m\n\xff\n", "a record that is not UTF-8"),
        (b"s:INFO<2>:n:\xe2\n\x9a\x9b\n", "a record that is not UTF-8"),
        (b"s:INFO:n:\xed\xb2\x80\n", "a record that is not UTF-8"),  # a surrogate
        (b"s:INFO<10001>:n:m\n", "a record of 10001 lines"),
        (b"s:INFO<999999999>:n:m\n", "a record of 999999999 lines"),
        (b"s:INFO<" + b"9" * 9000 + b">:n:m\n", "a record of 99999999999999999999 lines"),
        (b"s:INFO:n:" + b"x" * 10_000, "a line of more than 10000 bytes"),
        (b"s:INFO:n:" + b"x" * 10_000 + b"\n", "a line of 10009 bytes, 10000 are allowed"),
        (b"s:INFO<9000>:n:" + b"x" * 9000 + b"\n" * 1002, "a record of more than 10000 bytes"),
        (b"s:INFO<9>:n:\n" + b"x" * 5000 + b"\n" + b"y" * 5000 + b"\n", "a record of more than 10000 bytes"),
    ],
)
def test_what_ends_a_connection(data: bytes, reason: str) -> None:
    assert refusal(data).startswith(reason)


def test_what_came_before_is_kept() -> None:
    sink = ready()
    sink.receive_data(b"s:INFO:n:good\nbad\ns:INFO:n:later\n")
    assert sink.next_event() == LogMessage("s", 20, "n", "good")
    with pytest.raises(RemoteProtocolError):
        sink.next_event()
    assert sink.next_event() is None


def test_the_largest_record() -> None:
    text = b"x" * 4999 + b"\n" + b"y" * 5000
    sink = ready(10_000)
    sink.receive_data(b"s:INFO<2>:n:" + text + b"\n")
    assert [record.message for record in take(sink)] == [text.decode()]
    assert refusal(b"s:INFO<2>:n:" + text + b"y\n") == "a record of more than 10000 bytes"


def test_memory_of_a_record_of_short_lines() -> None:
    sink = ready(1_000_000)
    sink.receive_data(b"s:INFO<400000>:n:\n")
    assert sink.next_event() is None

    def receive() -> None:
        for _ in range(100):
            sink.receive_data(b"ab\n" * 3000)
            assert sink.next_event() is None

    assert peak_of(receive) < 3_000_000


@pytest.mark.parametrize("data", [b"", b"s:INFO:n:m", b"s:INFO<2>:n:m\n", b"s:INFO:n:m\n"])
def test_close(data: bytes) -> None:
    sink = ready()
    sink.receive_data(data)
    sink.close()
    assert sink.state is State.CLOSED
    assert sink.next_event() is None
    sink.receive_data(b"\n")
    assert sink.next_event() is None


def test_separators_in_source_and_name() -> None:
    line = encode_log_message(LogMessage("::1\n", 20, "a:b\nc", "d:e"))
    assert line == b"__1_:INFO:a_b_c:d:e\n"


def test_text_that_utf8_does_not_have() -> None:
    line = encode_log_message(LogMessage("s\udc80", 20, "n\ud800", "m\udcff"))
    assert line == b"s\\udc80:INFO:n\\ud800:m\\udcff\n"


@pytest.mark.parametrize("size", [MIN_SENT_SIZE, 2000, MAX_SENT_SIZE])
@pytest.mark.parametrize("text", ["x" * 100_000, "⚛" * 50_000, "one\n" * 30_000, "\n" * 100_000])
def test_a_message_that_is_too_long(text: str, size: int) -> None:
    message = LogMessage("s" * 10_000, 50, "n⚛" * 10_000, text)
    line = encode_log_message(message, size)
    assert size - 60 < len(line) <= size
    (record,) = received([BANNER, line], size)
    note = f" [cut off here, {len(text.encode())} bytes in all]"
    assert record.message.endswith(note)
    assert text.startswith(record.message.removesuffix(note))
    assert record.source == "s" * 256
    assert record.name == "n⚛" * 64


def test_a_message_that_just_fits_is_not_cut() -> None:
    fits = MIN_SENT_SIZE - 2 - 40
    assert encode_log_message(LogMessage("s", 20, "n", "x" * fits), MIN_SENT_SIZE).endswith(
        b":xxx" + b"x" * (fits - 3) + b"\n"
    )
    assert b"cut off" in encode_log_message(LogMessage("s", 20, "n", "x" * (fits + 1)), MIN_SENT_SIZE)


TEXTS = st.text(st.characters() | st.sampled_from("\n:<>\r\udc80"))


def written(text: str) -> str:
    """What arrives of a text."""
    return text.encode(errors="backslashreplace").decode()


def field_written(text: str) -> str:
    """What arrives of a source or name."""
    return re.sub("[:\n]", "_", written(text)).encode()[:256].decode(errors="ignore")


@ROUND
@given(
    st.lists(st.builds(LogMessage, TEXTS, st.sampled_from([5, 10, 20, 30, 40, 50]), TEXTS, TEXTS)), st.data()
)
def test_round_trip(messages: list[LogMessage], data: st.DataObject) -> None:
    stream = BANNER + b"".join(map(encode_log_message, messages))
    length = data.draw(st.integers(1, len(stream)))
    expected = [
        LogMessage(
            field_written(message.source),
            message.level,
            field_written(message.name),
            written(message.message),
        )
        for message in messages
    ]
    assert received(cut(stream, length)) == expected


@ROUND
@given(st.lists(st.binary(max_size=40) | st.sampled_from([*LINES, BANNER, b"s:INFO<2>:n:"])))
def test_any_bytes(pieces: list[bytes]) -> None:
    """They give records or a refusal, the same however they are cut."""

    def outcome(pieces: Iterable[bytes]) -> tuple[list[object], str]:
        sink = ready(1000)
        events: list[object] = []
        try:
            for piece in pieces:
                sink.receive_data(piece)
                while (event := sink.next_event()) is not None:
                    events.append(event)
        except RemoteProtocolError as error:
            return events, error.message.partition(":")[0]
        return events, ""

    stream = b"".join(pieces)
    assert outcome(pieces) == outcome(cut(stream, 1)) == outcome([stream])


# Transcripts

SESSION = load("logging_session")
EDGE_CASES = load("logging_edge_cases")


def logged(note: str) -> list[LogMessage]:
    """The records that the recorded server made, by the note."""
    found = re.search(r"\[.*\]", note, re.DOTALL)
    assert found is not None
    return [LogMessage(*record) for record in ast.literal_eval(found[0])]


def test_the_recorded_client_is_understood() -> None:
    (recording,) = SESSION
    (note,) = [message.note for message in recording.messages if "the server logged" in message.note]
    stream = b"".join(recording.lines("client"))
    expected = logged(note)
    assert len(expected) == 10
    assert received([stream]) == expected
    assert received(cut(stream, 1)) == expected


def test_the_recorded_lines_are_sent() -> None:
    """But for the level that the protocol does not know: ours becomes WARNING, not a text of `print`."""
    (recording,) = SESSION
    (note,) = [message.note for message in recording.messages if "the server logged" in message.note]
    sent = greet()
    for record in logged(note):
        if record.name == "print":
            assert record.message == "Level 35:client.logger:odd level"
            odd = LogMessage(record.source, 35, "client.logger", "odd level")
            assert encode_log_message(odd) == b"src42:WARNING:client.logger:odd level\n"
            sent += b"src42:Level 35:client.logger:odd level\n"
        else:
            sent += encode_log_message(record)
    assert sent == b"".join(recording.lines("client"))


@pytest.mark.parametrize("recording", EDGE_CASES, ids=str)
def test_the_recorded_edge_cases(recording: Recording) -> None:
    sink = LogSinkConnection()
    sink.receive_data(b"".join(recording.lines("client")))
    refused = any("closed the connection" in message.note for message in recording.messages)
    if refused:
        with pytest.raises(RemoteProtocolError):
            take(sink)
    else:
        assert take(sink)
        assert not sink.incomplete


def test_what_the_recorded_server_made_of_the_edge_cases() -> None:
    records = []
    for recording in EDGE_CASES:
        sink = LogSinkConnection()
        sink.receive_data(b"".join(recording.lines("client")))
        with contextlib.suppress(RemoteProtocolError):
            records += take(sink)
    assert records == [  # its note is about all connections together
        LogMessage("src", 20, "print", "just text"),
        LogMessage("src", 30, "n", "msg"),
        LogMessage("src", 20, "n", "one\nsrc:INFO:n:two"),
        LogMessage("src", 20, "n", "msg\r"),
    ]
