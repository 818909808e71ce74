"""Experiment messages: numbers and names, the bytes that iblutil writes, what is none, what is echoed."""

from __future__ import annotations

import datetime
import itertools
import json
import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wire.transcripts import Message, load
from trionet.wire.rig import MAX_DATAGRAM
from trionet.wire.rig_messages import (
    ERROR,
    PING,
    ExpMessage,
    ExpStatus,
    MalformedMessage,
    encode_message,
    error_message,
    is_echoed,
    parse_message,
    start_message,
)

TOKEN = {"foo": {"token": "4157aa522b85"}}
ALYX_URL = "https://alyx.example.org"

# What iblutil's client was asked to send, in the order of the recorded sessions, as it is said here.
CALLS: list[Any] = [
    [ExpMessage.EXPINIT, None],
    [ExpMessage.EXPINIT, 42],
    [ExpMessage.EXPINIT, {"exp_ref": "2022-01-01_1_subject"}],
    start_message("2022-01-01_1_subject", None),
    start_message({"subject": "baz", "date": datetime.date(2020, 1, 1), "sequence": 1}, {"foo": "bar"}),
    start_message("", None),
    [ExpMessage.EXPEND, None],
    [ExpMessage.EXPEND, "foo"],
    [ExpMessage.EXPINTERRUPT, "foo"],
    [ExpMessage.EXPCLEANUP, 8],
    [ExpMessage.EXPSTATUS, ExpStatus.STOPPED],
    [ExpMessage.EXPSTATUS, ExpStatus.validate("CONNECTED")],
    [ExpMessage.EXPSTATUS, ExpStatus.validate(20)],
    [ExpMessage.EXPINFO, ExpStatus.RUNNING, {"foo": "bar"}],
    [ExpMessage.EXPINFO, ExpStatus.INITIALIZED, None],
    [ExpMessage.ALYX, ALYX_URL, TOKEN],
    [ExpMessage.ALYX, None, {}],
]


def test_numbers_of_the_events() -> None:
    first = ["EXPINIT", "EXPSTART", "EXPEND", "EXPCLEANUP"]
    second = ["EXPINTERRUPT", "EXPSTATUS", "EXPINFO", "ALYX"]
    assert [(event.name, event.value) for event in ExpMessage] == [
        *zip(first, (1, 2, 4, 8), strict=True),
        *zip(second, (16, 32, 64, 128), strict=True),
    ]
    assert ERROR.value == 0


def test_numbers_of_the_status() -> None:
    names = ["CONNECTED", "INITIALIZED", "RUNNING", "STOPPED"]
    assert [(status.name, status.value) for status in ExpStatus] == [
        *zip(names, (0, 10, 20, 30), strict=True)
    ]


def test_events_combine_bitwise() -> None:
    mask = ExpMessage.EXPINIT | ExpMessage.ALYX
    assert mask == 129
    assert ExpMessage.ALYX in mask
    assert ExpMessage.EXPEND not in mask
    assert list(mask) == [ExpMessage.EXPINIT, ExpMessage.ALYX]
    assert ExpMessage.any() & ~mask == 126


def test_any_is_all_events() -> None:
    assert ExpMessage.any() == 255
    assert all(event in ExpMessage.any() for event in ExpMessage)
    assert isinstance(ExpMessage.any(), ExpMessage)


@pytest.mark.parametrize("bitwise", [True, False])
@pytest.mark.parametrize("event", [4, ExpMessage.EXPEND, "EXPEND", "expend", " ExpEnd\n"])
def test_event_that_is_one(event: Any, bitwise: bool) -> None:
    found = ExpMessage.validate(event, allow_bitwise=bitwise)
    assert found is ExpMessage.EXPEND


def test_true_is_the_first_event() -> None:
    assert ExpMessage.validate(True, allow_bitwise=False) is ExpMessage.EXPINIT


@pytest.mark.parametrize("number", [0, 3, 129, 255, 256, 4096, 257])
def test_numbers_that_are_not_one_event_are_masks(number: int) -> None:
    mask = ExpMessage.validate(number)
    assert isinstance(mask, ExpMessage)
    assert mask.value == number
    with pytest.raises(ValueError, match=rf"^{number} is not one event"):
        ExpMessage.validate(number, allow_bitwise=False)


@pytest.mark.parametrize("bitwise", [True, False])
@pytest.mark.parametrize("name", ["", "INIT", "EXPINIT|EXPSTART", "1", "any", "EXP INIT"])
def test_name_of_no_event(name: str, bitwise: bool) -> None:
    with pytest.raises(ValueError, match=r"EXPINIT, EXPSTART, .*ALYX"):
        ExpMessage.validate(name, allow_bitwise=bitwise)


@pytest.mark.parametrize("bitwise", [True, False])
@pytest.mark.parametrize("event", [1.0, None, b"EXPINIT", [1], {}])
def test_what_cannot_be_an_event(event: Any, bitwise: bool) -> None:
    with pytest.raises(TypeError, match=type(event).__name__):
        ExpMessage.validate(event, allow_bitwise=bitwise)


@pytest.mark.parametrize("status", [20, ExpStatus.RUNNING, "RUNNING", " running "])
def test_status_that_is_one(status: Any) -> None:
    assert ExpStatus.validate(status) is ExpStatus.RUNNING


@pytest.mark.parametrize("status", [5, -10, 99, "", "20", "RUNNING|STOPPED", None])
def test_status_that_is_none(status: Any) -> None:
    with pytest.raises(ValueError, match=r"[sS]tatus"):
        ExpStatus.validate(status)


@pytest.mark.parametrize("session", ["iblutil_udp_session", "iblutil_tcp_session"])
def test_bytes_are_those_of_iblutil(session: str) -> None:
    (recording,) = load(session)
    recorded = recording.lines("client")
    assert [encode_message(message) for message in CALLS] == recorded[: len(CALLS)]


@pytest.mark.parametrize(
    ("file", "connection"),
    [("iblutil_udp_session", 0), ("iblrig_auxiliaries_udp", 0), ("iblrig_auxiliaries_udp", 1)],
)
def test_every_recorded_message_is_written_as_it_was(file: str, connection: int) -> None:
    for message in load(file)[connection].messages:
        event, data = parse_message(message.line)
        assert encode_message([event, *data]) == message.line


@pytest.mark.parametrize(
    ("message", "data"),
    [
        ([1, (1, 2)], b"[1, [1, 2]]"),
        ([64, 10, "\u269b\ud83d"], b'[64, 10, "\\u269b\\ud83d"]'),
        ([1, {2: None, "a": True}], b'[1, {"2": null, "a": true}]'),
        ([1, math.nan, -math.inf], b"[1, NaN, -Infinity]"),
        ((1, 2), b"[1, 2]"),
        ("no JSON \u269b", b"no JSON \xe2\x9a\x9b"),
        (b"\xff", b"\xff"),
        (bytearray(b"[1,2]"), b"[1,2]"),
        (memoryview(b"[1,2]"), b"[1,2]"),
        (None, b"null"),
    ],
)
def test_what_is_written(message: Any, data: bytes) -> None:
    encoded = encode_message(message)
    assert type(encoded) is bytes
    assert encoded == data


@pytest.mark.parametrize("value", [object(), {1, 2}, b"bytes", 1j, {(1, 2): 3}])
def test_what_json_cannot_carry(value: Any) -> None:
    with pytest.raises(TypeError):
        encode_message([1, value])


def endless() -> Any:
    value: list[Any] = [1]
    value.append(value)
    return value


def deep() -> Any:
    value: Any = None
    for _ in range(100_000):
        value = [value]
    return [1, value]


@pytest.mark.parametrize("make", [endless, deep, lambda: "\ud800"])
def test_what_has_no_end_or_no_bytes(make: Callable[[], Any]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the text is the standard library's
        encode_message(make())


@pytest.mark.parametrize(
    ("exp_ref", "text"),
    [
        ("2020-01-01_1_foo", "2020-01-01_1_foo"),
        (None, None),
        ("", None),
        ({}, None),
        ({"date": "2020-01-01", "sequence": "007", "subject": "foo"}, "2020-01-01_7_foo"),
        ({"subject": "a_b", "sequence": 2.0, "date": datetime.date(2020, 2, 3), "x": 1}, "2020-02-03_2_a_b"),
    ],
)
def test_experiment_reference(exp_ref: Any, text: str | None) -> None:
    assert start_message(exp_ref, [1]) == [ExpMessage.EXPSTART, text, [1]]


@pytest.mark.parametrize(
    ("exp_ref", "reason"),
    [
        ({"date": "2020-01-01", "subject": "foo"}, "lacks sequence$"),
        ({"sequence": 1}, "lacks date, subject$"),
        ({"date": "2020-01-01", "sequence": "one", "subject": "foo"}, "'one'"),
    ],
)
def test_experiment_reference_that_is_incomplete(exp_ref: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        start_message(exp_ref, None)


def test_report_of_an_error_is_that_of_iblutil() -> None:
    report = error_message(ValueError("Callback failed"), ExpMessage.EXPINIT)
    (recording,) = load("iblutil_udp_session")
    assert encode_message(report) in recording.lines("server")
    assert parse_message(encode_message(report)) == (ERROR, ["ValueError: Callback failed", 1])


@pytest.mark.parametrize("character", ["x", "\u269b", "\U0001f52c", "\ud800", '"'])
def test_report_of_an_error_fits_a_datagram(character: str) -> None:
    report = error_message(ValueError(character * 100_000), ExpMessage.ALYX)
    assert report[1].startswith("ValueError: " + character * 1000)
    assert len(encode_message(report)) <= MAX_DATAGRAM


def test_report_of_an_error_without_a_text() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise OSError("no words")

    event, text, failed = error_message(Mute(), ExpMessage.EXPEND)
    assert (event, failed) == (ERROR, ExpMessage.EXPEND)
    assert text.startswith("Mute: ")
    assert "OSError" in text


def test_ping_is_an_event_without_data_that_is_echoed() -> None:
    assert parse_message(PING) == (ExpMessage.EXPSTATUS, [])
    assert is_echoed(PING)
    assert encode_message([ExpMessage.EXPSTATUS]) != PING  # others can send that, too


@pytest.mark.parametrize(
    ("data", "event", "items"),
    [
        (b"[1, null]", ExpMessage.EXPINIT, [None]),
        (b"[128, null, {}]", ExpMessage.ALYX, [None, {}]),
        (b'[2, "ref"]', ExpMessage.EXPSTART, ["ref"]),
        (b"[1, 1, 2, 3]", ExpMessage.EXPINIT, [1, 2, 3]),
        (b"[1]", ExpMessage.EXPINIT, []),
        (b'["alyx"]', ExpMessage.ALYX, []),
        (b'["expinit", 1]', ExpMessage.EXPINIT, [1]),
        (b'[" ExpEnd ", 1]', ExpMessage.EXPEND, [1]),
        (b"[true, 1]", ExpMessage.EXPINIT, [1]),
        (b"[32, 99]", ExpMessage.EXPSTATUS, [99]),
        (b"[1,2]", ExpMessage.EXPINIT, [2]),
        (b" [ 1, 2]\n", ExpMessage.EXPINIT, [2]),
        ('[64, 10, "\u269b"]'.encode(), ExpMessage.EXPINFO, [10, "\u269b"]),
        (b'[64, 10, "\\u269b"]', ExpMessage.EXPINFO, [10, "\u269b"]),
        (b'[64, "\\ud800"]', ExpMessage.EXPINFO, ["\ud800"]),
        (b"[64, 1e400, -Infinity]", ExpMessage.EXPINFO, [math.inf, -math.inf]),
        (b"[64, " + b"9" * 4300 + b"]", ExpMessage.EXPINFO, [int("9" * 4300)]),
        (b"[1, 2] ", ExpMessage.EXPINIT, [2]),
        (b'[0, "err", 1]', ERROR, ["err", 1]),
        (b'[ 0, "err", 4096]', ERROR, ["err", 4096]),
        (b'[null, "err", 1]', ERROR, ["err", 1]),
    ],
)
def test_what_is_a_message(data: bytes, event: ExpMessage, items: list[Any]) -> None:
    found, found_items = parse_message(data)
    assert (found, found_items) == (event, items)
    assert isinstance(found, ExpMessage)


def test_nan_is_read() -> None:
    _, (value,) = parse_message(b"[64, NaN]")
    assert math.isnan(value)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        *(
            (data, "no JSON")
            for data in (b"", b" ", b"foo", b"[1, 2", b"[1,]", b"[1 2]", b"{'a': 1}", b"[1, 'a']")
        ),
        *((data, "no JSON") for data in (b"[1, 2][1, 2]", b"[1, 2]]", b"[1, 2]\x00", b"\xef\xbb\xbf[1, 2]")),
        *((data, "no JSON") for data in (b"[01, 2]", b"[1, +2]", b'[1, "a\nb"]', b"[1, \\u0031]")),
        *(
            (data, "no UTF-8")
            for data in (b"\xff", b'[64, 10, "\xff"]', b'[1, "\xe2\x9a"]', "[1]".encode("utf-16"))
        ),
        (b"[" * 100_000, "no JSON"),
        (b"[" * 100_000 + b"]" * 100_000, "no JSON"),
        (b"[1, " + b"[" * 100_000 + b"]" * 100_000 + b"]", "no JSON"),
        (b'[1, {"a": ' * 50_000, "no JSON"),
        (b"[1, " + b"9" * 60_000 + b"]", "no JSON"),
        (b"[" + b"9" * 4000 + b", 1]", "not one event"),
        *((data, "no list, but dict") for data in (b"{}", b'{"a": 1}')),
        *((b"10", "no list, but int"), (b'"[1, 2]"', "no list, but str"), (b"null", "no list, but NoneType")),
        *(
            (b"[]", "an empty list"),
            (b"[0]", "0 items instead of 2"),
            (b"[null]", "0 items instead of 2"),
            (b"[3]", "not one event"),
        ),
        *((data, "not one event") for data in (b"[3, null]", b"[255, 1]", b"[4096, null]", b"[-1, 1]")),
        *(
            (data, "a number or a name")
            for data in (b"[1.0, 1]", b"[0.5, 1]", b"[NaN, 1]", b"[[], 1]", b"[{}, 1]")
        ),
        *((data, "no event is called") for data in (b'["0", 1]', b'["", 1]', b'["EXPINIT|EXPEND", 1]')),
        *((data, "1 items instead of 2") for data in (b"[0, 1]", b"[null, 1]")),
        *((data, "3 items instead of 2") for data in (b'[0, "a", 1, 2]', b'[null, "a", 1, 2]')),
    ],
    ids=lambda value: repr(value[:30]),
)
def test_what_is_no_message(data: bytes, reason: str) -> None:
    with pytest.raises(MalformedMessage, match=reason):
        parse_message(data)


@given(st.binary() | st.text().map(str.encode) | st.builds(lambda end: b"[1, " + end, st.binary()))
def test_any_bytes_are_a_message_or_malformed(data: bytes) -> None:
    try:
        event, items = parse_message(data)
    except MalformedMessage:
        pass
    else:
        assert event in [*ExpMessage, ERROR]
        assert event or len(items) == 2


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(st.sampled_from(list(ExpMessage)), st.lists(JSON, max_size=3))
def test_what_was_written_is_read_the_same(event: ExpMessage, items: list[Any]) -> None:
    data = encode_message([event, *items])
    assert data.isascii()
    assert parse_message(data) == (event, items)
    assert data == json.dumps([event.value, *items]).encode()


ECHOED = [
    *(
        b"[1, null]",
        b"foo",
        b"[]",
        b"{}",
        b'["0", 1]',
        b'[ 0, "err", 1]',
        b'[null, "err", 1]',
        b"[128, null, {}]",
    ),
    *(b"[1, 2][1, 2]", b"01", b"1 0", b"[\n0, 1, 1]", b"0" + "\u0660".encode(), "\u269b1".encode()),
]
NOT_ECHOED = [
    *(b"", b"x", b"0", b"00", b"10", b'[0, "err", 1]', b"[0.5, 1]", b"[0]", "\u269b".encode()),
    *(b"\xff", b"[1, \xff]", "\u269b0".encode(), b"[1, \xe2\x9a"),
]


@pytest.mark.parametrize("data", ECHOED)
def test_what_is_echoed(data: bytes) -> None:
    assert is_echoed(data)


@pytest.mark.parametrize("data", NOT_ECHOED)
def test_what_is_not_echoed(data: bytes) -> None:
    assert not is_echoed(data)


def test_what_iblutil_echoed_is_echoed() -> None:
    (recording,) = load("iblutil_udp_edge_cases")
    for message, following in itertools.pairwise([*recording.messages, Message("client", b"", "")]):
        if message.sender == "client":
            assert is_echoed(message.line) is (following.sender == "server"), message.line
