"""Large arrays: the same values as through msgpack alone, aligned, and where they were received."""

from __future__ import annotations

import base64
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trionet.wire.object_large_arrays import LARGE_ARRAY
from trionet.wire.object_values import TYPE_KEY, MsgpackSerializer

Array = np.ndarray[Any, Any]

NUMBERS = np.arange(LARGE_ARRAY // 8, dtype=np.float64)
ARRAYS = {
    "float64": NUMBERS,
    "two dimensions": NUMBERS.reshape(4, -1),
    "not contiguous": np.arange(LARGE_ARRAY, dtype=np.int32)[::3],
    "Fortran's order": np.asfortranarray(NUMBERS.reshape(8, -1)),
    "one byte each": np.arange(LARGE_ARRAY + 3, dtype=np.uint8),
    "complex": NUMBERS.astype(np.complex128),
    "big endian": NUMBERS.astype(">f8"),
    "structured": np.zeros(LARGE_ARRAY // 12, dtype=[("a", "<i4"), ("b", "<f8")]),
}


def arrived(data: bytes) -> memoryview:
    """As a large frame is given."""
    return memoryview(bytearray(data)).toreadonly()


def same(one: Any, other: Any) -> bool:
    """Whether two values with arrays in them are equal, types included."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other)
    return type(one) is type(other) and bool(one == other)


@pytest.mark.parametrize("array", ARRAYS.values(), ids=ARRAYS)
def test_arrays_come_back(array: Array) -> None:
    serializer = MsgpackSerializer()
    value = {"obj": None, "args": [1, array, "text"], "kwargs": {"again": array}}
    data = serializer.dumps(value)
    for received in (data, arrived(data)):
        assert same(serializer.loads(received), value)


def test_any_reader_of_msgpack_takes_them() -> None:
    data = MsgpackSerializer().dumps([NUMBERS])
    (plain,) = msgspec.msgpack.decode(data)
    assert plain == {
        TYPE_KEY: "ndarray",
        "data": NUMBERS.tobytes(),
        "dtype": "float64",
        "shape": [len(NUMBERS)],
    }


@pytest.mark.parametrize("length", range(16))
def test_wherever_they_are_in_a_message_they_are_aligned_and_not_copied(length: int) -> None:
    serializer = MsgpackSerializer()
    frame = arrived(serializer.dumps({"n" * length: "text", "result": NUMBERS}))
    array = serializer.loads(frame)["result"]
    assert np.shares_memory(array, np.frombuffer(frame, np.uint8))
    assert array.flags.aligned
    assert not array.flags.writeable
    assert np.array_equal(array, NUMBERS)


def test_each_of_several_is_aligned() -> None:
    serializer = MsgpackSerializer()
    data = serializer.dumps([NUMBERS, "abc", NUMBERS, NUMBERS])
    start = 0
    for _ in range(3):
        start = data.index(NUMBERS.tobytes(), start)
        assert start % 8 == 0
        start += NUMBERS.nbytes


@pytest.mark.parametrize("length", range(8))
def test_those_of_others_may_be_anywhere(length: int) -> None:
    plain = {TYPE_KEY: "ndarray", "data": NUMBERS.tobytes(), "dtype": "float64", "shape": [len(NUMBERS)]}
    data = msgspec.msgpack.encode({"n" * length: plain})
    array = MsgpackSerializer().loads(arrived(data))["n" * length]
    assert array.flags.aligned
    assert np.array_equal(array, NUMBERS)


@pytest.mark.parametrize("length", range(8))
def test_items_that_are_text_are_no_items(length: int) -> None:
    text = base64.b64encode(NUMBERS.tobytes()).decode()
    plain = {TYPE_KEY: "ndarray", "data": text, "dtype": "float64", "shape": [len(NUMBERS)]}
    data = msgspec.msgpack.encode({"n" * length: plain})
    array = MsgpackSerializer().loads(arrived(data))["n" * length]
    assert np.array_equal(array, NUMBERS)


def test_one_of_several_does_not_keep_the_others_in_memory() -> None:
    serializer = MsgpackSerializer()
    frame = arrived(serializer.dumps([NUMBERS, NUMBERS, NUMBERS]))
    for array in serializer.loads(frame):
        assert not np.shares_memory(array, np.frombuffer(frame, np.uint8))
        assert np.array_equal(array, NUMBERS)


def test_other_large_values_are_what_they_were() -> None:
    serializer = MsgpackSerializer()
    deep: Any = [NUMBERS]
    for _ in range(20):
        deep = {"deeper": deep}
    for value in (
        {"data": bytes(LARGE_ARRAY)},
        [bytes(LARGE_ARRAY), "x" * LARGE_ARRAY, [*range(LARGE_ARRAY)]],
        {str(number): NUMBERS[: LARGE_ARRAY // 64] for number in range(20)},
        {**{str(number): number for number in range(20)}, "array": NUMBERS},
        deep,
    ):
        assert same(serializer.loads(arrived(serializer.dumps(value))), value)


def test_what_could_not_be_written_leaves_nothing_behind() -> None:
    serializer = MsgpackSerializer()
    with pytest.raises(TypeError):
        serializer.dumps([NUMBERS, object()])
    data = serializer.dumps([1, NUMBERS])
    assert len(data) < NUMBERS.nbytes + 200
    assert same(serializer.loads(data), [1, NUMBERS])


_GOOD = MsgpackSerializer().dumps({"rval": NUMBERS, "error": None})


@given(st.integers(0, 80) | st.integers(len(_GOOD) - 40, len(_GOOD) - 1), st.integers(0, 255), st.booleans())
def test_damaged_messages_are_read_as_msgpack_alone_reads_them(place: int, byte: int, is_cut: bool) -> None:
    damaged = _GOOD[:place] if is_cut else _GOOD[:place] + bytes([byte]) + _GOOD[place + 1 :]
    serializer = MsgpackSerializer()
    results: list[Any] = []
    for data in (damaged, arrived(damaged)):
        try:
            results.append(serializer.loads(data))
        except ValueError:
            results.append("refused")
    assert same(*results)
