"""Values of object proxies: what each serializer writes, reads, and refuses."""

from __future__ import annotations

import contextlib
import datetime
import enum
import math
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trionet.wire.object_arrays import read_array
from trionet.wire.object_values import (
    SERIALIZERS,
    TYPE_KEY,
    JsonSerializer,
    MsgpackSerializer,
    ProxyReference,
    Serializer,
    is_sent_by_value,
)

REFERENCE = ProxyReference("tcp://127.0.0.1:5555", 3, 7, "<class 'X'>", ("a", "b"))
BOTH = pytest.mark.parametrize("kind", [MsgpackSerializer, JsonSerializer])


class Level(enum.IntEnum):
    HIGH = 3


class Name(str):
    __slots__ = ()


def round_trip(kind: type[Serializer], value: Any) -> Any:
    return kind().loads(kind().dumps(value))


RECORDS = np.rec.array([(1, 2.5), (3, 4.5)], dtype=[(("a title", "numpy.record"), "<i4"), ("b", "<f8")])
NESTED_RECORDS = np.zeros(
    2, np.dtype({"names": ["a", "b"], "formats": ["u1", RECORDS.dtype], "offsets": [0, 8]})
)


@BOTH
@pytest.mark.parametrize("array", [RECORDS, NESTED_RECORDS], ids=["records", "in a structure"])
def test_records_are_structures(kind: type[Serializer], array: Any) -> None:
    data = kind().dumps(array)
    assert b"(numpy.record" not in data
    received = kind().loads(data)
    assert received.tolist() == array.tolist()
    assert received.dtype.names == array.dtype.names


def test_records_are_read_as_numpy_prints_them() -> None:
    for array in (RECORDS, NESTED_RECORDS):
        received = read_array(array.tobytes(), str(array.dtype), array.shape)
        assert received.tolist() == array.tolist()
    for text in ("(numpy.record, 5)", "(numpy.record, [('a', numpy.record)])", "(numpy.record, [f()])"):
        with pytest.raises(ValueError, match="not a dtype that can be carried"):
            read_array(b"", text, [0])


@BOTH
@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        1.5,
        -0.0,
        math.inf,
        "⚛",
        2**63,
        -(2**63),
        b"\x00\xff",
        [1, [None, {"a": "b"}]],
        {},
        datetime.datetime(2015, 1, 2, 3, 4, 5, 678),
        datetime.datetime(2015, 1, 2),
        datetime.date(2015, 1, 2),
        REFERENCE,
        {"nested": [REFERENCE, b"x"]},
    ],
    ids=repr,
)
def test_value_comes_back_as_it_was(kind: type[Serializer], value: Any) -> None:
    back = round_trip(kind, value)
    assert back == value
    assert type(back) is type(value)


@BOTH
@pytest.mark.parametrize(
    ("value", "back"),
    [
        ((1, (2,)), [1, [2]]),
        (np.float32(0.5), 0.5),
        (np.float64(0.5), 0.5),
        (np.int64(5), 5),
        (np.int32(5), 5),
        (Level.HIGH, 3),
        (Name("x"), "x"),
        (bytearray(b"x"), b"x"),
        ({Name("x"): 1}, {"x": 1}),
        ([np.int32(1), 2], [1, 2]),
    ],
    ids=repr,
)
def test_derived_types_come_back_as_plain_ones(kind: type[Serializer], value: Any, back: Any) -> None:
    received = round_trip(kind, value)
    assert received == back
    assert type(received) is type(back)


def test_keys_that_are_numbers_stay_so_in_msgpack_and_become_text_in_json() -> None:
    assert round_trip(MsgpackSerializer, {1: 2, None: 3}) == {1: 2, None: 3}
    assert round_trip(JsonSerializer, {1: 2}) == {"1": 2}


ARRAYS = [
    np.arange(6).reshape(2, 3),
    np.asfortranarray(np.arange(6, dtype="f4").reshape(2, 3)),
    np.arange(10)[::3],
    np.array(2.5),
    np.zeros((0, 3)),
    np.array([1, 2], ">i4"),
    np.array([True, False]),
    np.array(["ab", "c"]),
    np.array([b"ab", b"c"]),
    np.array(["2024-01-01", "NaT"], "M8[D]"),
    np.array([5], "m8[ns]"),
    np.array([1 + 2j]),
    np.array([(1, 2.5)], [("a", "<i4"), ("b", "<f8")]),
    np.zeros(2, [("a", "u1", (2, 2)), ("b", [("x", "?"), ("y", "<U3")])]),
    np.zeros(2, np.dtype([("a", "i1"), ("b", "f8")], align=True)),
]


@BOTH
@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: f"{array.dtype}-{array.shape}")
def test_array_comes_back_equal_and_read_only(kind: type[Serializer], array: np.ndarray[Any, Any]) -> None:
    (back,) = round_trip(kind, [array])
    assert back.dtype == array.dtype
    assert back.shape == array.shape
    assert back.tobytes() == array.tobytes()
    assert not back.flags.writeable


def described(data: bytes, dtype: Any, shape: Any) -> bytes:
    return msgspec.msgpack.encode({TYPE_KEY: "ndarray", "data": data, "dtype": dtype, "shape": shape})


@pytest.mark.parametrize(
    "dtype",
    [
        "O",
        "object",
        "[('a', 'O')]",
        "[('a', [('b', '|O')])]",
        "__import__('os').getpid()",
        "[('a', __import__('os'))]",
        "i4,i4",
        "",
        "[('a', '<i4'",
        "[" * 5000,
        "(" * 100 + ")" * 100,
        "{'names': ['a']}",
        "[('a', '<i4', -1)]",
        "[('a', '<i4', 9999999999999999)]",
        "[5]",
        "x" * 100_000,
        str({"names": [*"abcdefghi"], "formats": ["<i8"] * 9, "offsets": [0] * 9, "itemsize": 8}),
        7,
        None,
    ],
    ids=lambda dtype: repr(dtype)[:30],
)
def test_text_that_is_no_dtype_is_refused(dtype: Any) -> None:
    with pytest.raises(ValueError, match="dtype"):
        MsgpackSerializer().loads(described(b"\0" * 8, dtype, [1]))


def test_names_of_a_received_structure_may_be_changed() -> None:
    """Nobody else receives it with other names for that."""
    data = described(bytes(8), "[('a', '<i4'), ('b', [('c', '<i4')])]", [1])
    for _ in range(2):
        array = MsgpackSerializer().loads(data)
        assert array.dtype.names == ("a", "b")
        assert array.dtype["b"].names == ("c",)
        array.dtype.names = ("x", "y")
        array.dtype["y"].names = ("z",)


def test_fields_may_overlap() -> None:
    union = {"names": ["whole", "low"], "formats": ["<i4", "<i2"], "offsets": [0, 0], "itemsize": 4}
    array = MsgpackSerializer().loads(described(b"\1\0\1\0", str(union), [1]))
    assert (array["whole"][0], array["low"][0]) == (0x10001, 1)


@pytest.mark.parametrize(
    ("data", "dtype", "shape", "reason"),
    [
        (b"\0" * 8, "int64", [2], "takes 16 bytes, not 8"),
        (b"", "int64", [1 << 40], "bytes, not 0"),
        (b"", "int64", [1 << 40, 0, 1 << 40], "shape"),
        (b"\0" * 8, "int64", [-1], "whole numbers"),
        (b"\0" * 8, "int64", [True], "whole numbers"),
        (b"\0" * 8, "int64", 1, "must be a list"),
        (b"\0" * 8, "int64", [1] * 65, "65 dimensions"),
        (b"\0", "S0", [1], "bytes, not 1"),
        (b"", "V0", [1 << 40], "items without any bytes"),
        (b"\2", "bool", [1], "other than 0 and 1"),
        (b"\0\0\0\xff", "<U1", [1], "beyond Unicode"),
        (b"\0\0\0\xff", "[('a', '<U1')]", [1], "beyond Unicode"),
    ],
)
def test_array_that_is_not_what_it_says_is_refused(data: bytes, dtype: str, shape: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        MsgpackSerializer().loads(described(data, dtype, shape))


@pytest.mark.parametrize(
    "value",
    [
        {TYPE_KEY: "ndarray"},
        {TYPE_KEY: "datetime", "data": "yesterday"},
        {TYPE_KEY: "datetime", "data": 5},
        {TYPE_KEY: "date", "data": "2015-13-01"},
        {TYPE_KEY: "bytes", "data": "no base64!"},
        {TYPE_KEY: "proxy"},
        {TYPE_KEY: "proxy", "rpc_addr": "x", "obj_id": "1", "ref_id": 1, "attributes": []},
        {TYPE_KEY: "proxy", "rpc_addr": "x", "obj_id": 1, "ref_id": 1, "attributes": [1]},
    ],
    ids=repr,
)
@BOTH
def test_map_that_is_not_what_it_says_is_refused(kind: type[Serializer], value: Any) -> None:
    with pytest.raises(ValueError, match=r".+"):
        kind().revive(value)


def test_unknown_type_is_read_as_the_map_without_its_key() -> None:
    assert MsgpackSerializer().revive({TYPE_KEY: "unknown", "x": [{TYPE_KEY: "none"}]}) == {"x": [None]}


def contains_itself() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


@BOTH
@pytest.mark.parametrize(
    ("value", "error"),
    [
        (contains_itself(), ValueError),
        ({TYPE_KEY: "none"}, ValueError),
        (datetime.datetime(2015, 1, 2, tzinfo=datetime.UTC), ValueError),
        ({(1, 2): 3}, TypeError),
        ([{1, 2}], TypeError),
        (object(), TypeError),
        (1j, TypeError),
        (np.uint8(5), TypeError),
        (np.array([object()]), TypeError),
    ],
)
def test_what_has_no_form_is_refused(kind: type[Serializer], value: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        kind().dumps(value)


def test_integers_beyond_64_bits_have_no_form_in_msgpack() -> None:
    for value in (2**64, [1, -(2**63) - 1], [None, 2**70]):
        with pytest.raises(TypeError, match="type int"):
            MsgpackSerializer().dumps(value)
        assert round_trip(JsonSerializer, value) == value


@BOTH
def test_what_has_no_form_becomes_a_proxy_where_there_is_a_server(kind: type[Serializer]) -> None:
    met: list[Any] = []

    def refer(value: Any) -> ProxyReference:
        met.append(value)
        return REFERENCE

    thing, numbers = object(), {1, 2}
    assert kind().loads(kind(refer).dumps([thing, {"a": numbers}, 1])) == [REFERENCE, {"a": REFERENCE}, 1]
    assert met == [thing, numbers]


@BOTH
def test_resolve_makes_what_programs_see_of_a_proxy(kind: type[Serializer]) -> None:
    data = kind().dumps([REFERENCE])
    assert kind(resolve=lambda reference: reference.object_id).loads(data) == [3]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"\x92\x01",
        b"\xdd\xff\xff\xff\xff",
        b"\x91" * 100_000,
        b"\xc7\x01\x05a",
        b"\x81\x80\x01",
    ],
)
def test_what_is_no_msgpack_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="not msgpack"):
        MsgpackSerializer().loads(data)


@pytest.mark.parametrize("data", [b"", b"{", b"[" * 100_000, b"\xff\xfe\xfd", b'"\\u12"', b"nul"])
def test_what_is_no_json_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="not json"):
        JsonSerializer().loads(data)


def test_types_that_upstream_copies() -> None:
    copied: list[Any] = [None, 1, True, 1.0, "a", (), [], {}, np.zeros(1), np.float64(1), REFERENCE]
    for value in copied:
        assert is_sent_by_value(value)
    proxied: list[Any] = [b"", {1}, np.int64(1), 1j, object(), datetime.date(2015, 1, 1)]
    for value in proxied:
        assert not is_sent_by_value(value)


SCALARS = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text()
)
LEAVES = SCALARS | st.binary() | st.datetimes() | st.dates()
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner) | st.dictionaries(st.text().filter(lambda key: key != TYPE_KEY), inner),
)


@BOTH
@given(value=VALUES)
def test_any_value_comes_back(kind: type[Serializer], value: Any) -> None:
    assert round_trip(kind, value) == value


@given(data=st.binary(), name=st.sampled_from(sorted(SERIALIZERS)))
def test_any_bytes_are_read_or_refused(data: bytes, name: str) -> None:
    with contextlib.suppress(ValueError):
        SERIALIZERS[name]().loads(data)
