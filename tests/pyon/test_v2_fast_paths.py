"""The short cuts of PYON v2 give what the thorough way gives."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.pyon.hostile import near_json
from tests.pyon.values import ARRAY_DTYPES, any_text, assert_fresh, plain_values, same
from trionet import pyon
from trionet.pyon import PyonDecodeError, _decode, _encode, _plain

ROUND = settings(max_examples=200, deadline=None)


def outcome(decode: Any, text: Any) -> Any:
    """What decoding gives, comparable: the value, or that it is refused."""
    try:
        return ("value", decode(text))
    except PyonDecodeError:
        return "refused"


def thoroughly(text: str) -> Any:
    """The reference: the standard library's JSON, and classes built object by object."""
    try:
        return _decode._decode_thoroughly(text)
    except RecursionError:
        raise PyonDecodeError("nested too deep") from None


# --- JSON without classes


@ROUND
@given(plain_values, st.booleans(), st.sampled_from([None, 1, "\t"]))
def test_plain_text_is_read_like_json(value: Any, ascii_only: bool, indent: Any) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
    assert same(pyon.decode(text), thoroughly(text))
    assert same(pyon.decode(text), value) or "\\ud" in text
    with_surrogates = text.encode("utf-8", "surrogatepass")
    if with_surrogates.isascii():
        assert same(pyon.decode(with_surrogates), value) or "\\ud" in text


@settings(max_examples=1000, deadline=None)
@given(near_json(), st.sampled_from(["%s", "[%s]", '"%s"', '{"a":%s}', '["%s",1]']))
def test_near_json_is_read_or_refused_alike(text: str, frame: str) -> None:
    text = frame.replace("%s", text)
    expected = outcome(thoroughly, text)
    assert same(outcome(pyon.decode, text), expected)
    if "\ud800" not in text:
        assert same(outcome(pyon.decode, text.encode()), expected)


@pytest.mark.parametrize(
    "number",
    [
        *(
            "1e999",
            "-1e999",
            "1e-999",
            "-0",
            "-0.0",
            "18446744073709551616",
            "-9223372036854775809",
            "1" * 4300,
        ),
        *(
            "0.1",
            "1E5",
            "9007199254740993",
            "9007199254740993.0",
            "1.7976931348623159e308",
            "2.4703282292062328e-324",
        ),
        *(
            "5e-324",
            "0." + "0" * 400 + "1",
            "123456789" * 60,
            "0.3000000000000000444089209850062616169452667236",
        ),
    ],
)
def test_numbers(number: str) -> None:
    assert same(pyon.decode(number), json.loads(number))
    assert same(pyon.decode(f"[{number}]".encode()), [json.loads(number)])


@ROUND
@given(plain_values)
def test_plain_values_are_written_like_json(value: Any) -> None:
    expected = json.dumps(value, separators=(",", ":")).replace("\x7f", "\\u007f")
    assert pyon.encode(value) == expected
    assert pyon.encode_bytes(value, b"a", b"b") == b"a" + expected.encode() + b"b"
    assert _encode._text(_encode._pieces(value)) == expected
    if type(value) in (list, dict):
        quickly = _plain.encode_plain(value)
        assert quickly is None or quickly.decode() == expected


@settings(max_examples=500, deadline=None)
@given(
    st.lists(st.one_of(st.floats(), st.floats(width=16), st.decimals(-(10**20), 10**20, places=3).map(float)))
)
def test_floats_are_written_like_python_writes_them(numbers: list[float]) -> None:
    assert pyon.encode(numbers) == json.dumps(numbers, separators=(",", ":"))


@pytest.mark.parametrize("exponent", range(-30, 31))
def test_floats_of_all_sizes(exponent: int) -> None:
    numbers = [
        float(f"{digits}e{exponent}") for digits in ("1", "-9.5", "1.2345678901234567", "9.999999999999999")
    ]
    for number in numbers:
        assert pyon.encode([number]) == f"[{number!r}]"
        assert pyon.encode({"a": [number, None, "null"]}) == f'{{"a":[{number!r},null,"null"]}}'


@pytest.mark.parametrize(
    "value",
    [
        [],
        {},
        [1, 2.5, "text", None, True],
        {"a": [{"b": []}]},
        [-0.0, 123456.75],
        ["0.00001", "null", "1e5"],
        [2**63],
    ],
)
def test_the_quick_way_is_taken(value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_plain, "compact", None)  # what would be asked otherwise
    assert _plain.encode_plain(value) == json.dumps(value, separators=(",", ":")).encode()


@pytest.mark.parametrize(
    "value",
    [
        *([1e16], [1e-5], [float("nan")], [None, float("inf")], [0.5, "0.00001"], [0.5, None, "null"]),
        *(["é"], ["\ud800"], [2**64], [-(2**63) - 1]),
    ],
)
def test_plain_values_that_the_standard_library_writes(value: Any) -> None:
    assert _plain.encode_plain(value) == json.dumps(value, separators=(",", ":")).encode()


@pytest.mark.parametrize(
    "value", [[(1,)], [{1: 2}], [{"__jsonclass__": 1}], [np.float64(1)], {"a": b""}, {"a": 1, 2: 3}]
)
def test_values_that_are_not_plain(value: Any) -> None:
    assert _plain.encode_plain(value) is None


def test_ints_that_python_does_not_convert() -> None:
    with pytest.raises(ValueError, match="4300"):
        pyon.encode([10**5000])


def test_values_too_deep_or_too_many_for_the_quick_way(monkeypatch: pytest.MonkeyPatch) -> None:
    deep: list[Any] = []
    for _ in range(100):
        deep = [deep]
    assert _plain.encode_plain(deep) is None
    assert pyon.encode(deep) == "[" * 101 + "]" * 101
    monkeypatch.setattr(_plain, "_MOST_CONTAINERS", 10)
    assert _plain.encode_plain([[[], []] for _ in range(9)]) is None


# --- arrays that are cut out of a long text

B64 = "A" * 8000
ARRAY = f'{{"__jsonclass__":["nparray",[[6000],"|u1","{B64}"]]}}'
SPACE = " " * 70_000


@pytest.mark.parametrize("dtype", ARRAY_DTYPES)
@pytest.mark.parametrize("size", [0, 1, 40_000])
def test_every_dtype(dtype: str, size: int) -> None:
    array = np.ndarray((size,), dtype)
    if array.dtype.kind == "U":
        array[...] = np.resize(["x", "é☃", "\U0001f600"], size)
    elif array.size:
        array.view(np.uint8)[...] = np.random.default_rng(1).integers(0, 2, array.nbytes)
    for value in (array, array.reshape(-1, 4) if size > 4 else array):
        text = pyon.encode({"k": value})
        for decoded in (pyon.decode(text)["k"], pyon.decode(text.encode())["k"], thoroughly(text)["k"]):
            assert_fresh(decoded)
            assert same(decoded, value)
        assert text == json.dumps(json.loads(pyon.encode({"k": value}, pretty=True)), separators=(",", ":"))


@pytest.mark.parametrize(
    "array",
    [
        np.array(7),
        np.zeros((0, 3)),
        np.arange(60_000.0).reshape(200, 300).T,
        np.asfortranarray(np.arange(60_000).reshape(200, 300)),
        np.arange(60_000)[::-3],
        np.arange(60_000, dtype=">u2").reshape(3, 100, 200)[:, ::2, 1:],
        np.broadcast_to(np.arange(300), (200, 300)),
        np.ones(60_000, [("a", "u1"), ("b", ">f4")])["b"],
    ],
    ids=["0-d", "empty", "transposed", "fortran", "backwards", "slice", "broadcast", "field"],
)
def test_every_layout(array: np.ndarray[Any, Any]) -> None:
    for decoded in (pyon.decode(pyon.encode(array)), pyon.decode(pyon.encode_bytes([array]))[0]):
        assert_fresh(decoded)
        assert same(decoded, array)


def test_a_long_text_with_several_arrays_is_read_around_them(monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = [np.arange(count, dtype="<u2") for count in (9000, 3, 5000, 40_000)]
    value = {"é": arrays[0], "b": (arrays[1], [arrays[2]]), "c": {"d": arrays[3]}, "e": ["x" * 5000]}
    text = pyon.encode(value)
    raw = text.replace("\\u00e9", "é")
    monkeypatch.setattr(_decode, "_decode_thoroughly", lambda _: pytest.fail("not read around the arrays"))
    for document in (text, text.encode(), raw, raw.encode(), f" {text}\r\n"):
        assert same(pyon.decode(document), value)


HOSTILE = {
    "a number for base64": ARRAY.replace(f'"{B64}"', "0"),
    "a bool for base64": ARRAY.replace(f'"{B64}"', "true"),
    "a number as text": ARRAY.replace(B64, "0"),
    "the key twice, the last a number": ARRAY[:-1] + ',"__jsonclass__":["nparray",[[6000],"|u1",0]]}',
    "the key twice, the last an array": ARRAY[:-1] + "," + ARRAY[1:],
    "the key twice, the last another class": ARRAY[:-1] + ',"__jsonclass__":["tuple",[[1]]]}',
    "the key twice, the first another class": '{"__jsonclass__":["x"],' + ARRAY[1:],
    "other keys": ARRAY[:-1] + ',"other":' + ARRAY + "}",
    "a key that wins": f'{{"a":{ARRAY},"a":1}}',
    "too many arguments": ARRAY[:-3] + ",1]]}",
    "a wrong shape": ARRAY.replace("6000", "6001"),
    "a wrong dtype": ARRAY.replace("|u1", "|O8"),
    "wrong base64": ARRAY.replace("AAA", "A!A", 1),
    "an escape in base64": ARRAY.replace("AAA", "A\\u0041A", 1),
    "an escaped slash in base64": ARRAY.replace("AAA", "A\\/A", 1),
    "an escaped quote in base64": ARRAY.replace("AAA", 'A\\"A', 1),
    "a control character in base64": ARRAY.replace("AAA", "A\nA", 1),
    "another name": ARRAY.replace("nparray", "nparraz"),
    "an escaped name": ARRAY.replace("nparray", "nparra\\u0079"),
    "an escaped key": ARRAY.replace("_json", "\\u005fjson"),
    "inside a string": json.dumps(ARRAY),
    "a string before": '"x' + ARRAY,
    "unfinished": ARRAY[:-1],
    "only begun": ARRAY[:60],
    "spaces": ARRAY.replace(":", " : ").replace(",", " , "),
    "two class arguments": f'{{"__jsonclass__":["tuple",[[{ARRAY},{ARRAY}]]]}}',
    "as a shape": ARRAY.replace("[6000]", f"[{ARRAY}]"),
    "as a class name": f'{{"__jsonclass__":[{ARRAY},[]]}}',
    "as a key": f'{{"__jsonclass__":["dict",[[[{ARRAY},1]]]]}}',
    "deep": "[" * 200 + ARRAY + "]" * 200,
    "too deep": "[" * 100_000 + ARRAY + "]" * 100_000,
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize(
    "frame", ["%s", f"[{ARRAY},%s]", f"[%s,{ARRAY}]", f"[{ARRAY},%s,{ARRAY}]", "[0,%s,1,true]"]
)
def test_hostile_documents_with_large_arrays(name: str, frame: str) -> None:
    text = SPACE + frame.replace("%s", HOSTILE[name])
    expected = outcome(thoroughly, text)
    assert same(outcome(pyon.decode, text), expected)
    assert same(outcome(pyon.decode, text.encode()), expected)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.sampled_from([*HOSTILE.values(), ARRAY, ARRAY, "[", "]", ",", "0", "1", '"0"']),
            any_text.map(json.dumps),
        ),
        max_size=5,
    ),
    st.sampled_from(["", ","]),
)
def test_hostile_mixtures(parts: list[str], separator: str) -> None:
    text = f"{SPACE}[{separator.join(parts)}]"
    assert same(outcome(pyon.decode, text), outcome(thoroughly, text))


@ROUND
@given(plain_values, st.lists(st.integers(0, 5000), min_size=1, max_size=4), st.booleans())
def test_values_around_arrays(value: Any, sizes: list[int], pretty: bool) -> None:
    arrays = [np.arange(size, dtype="<f8") for size in sizes]
    mixed = ["x" * 70_000, value, *arrays, (value, {"k": arrays, 1: value})]
    text = pyon.encode(mixed, pretty=pretty)
    expected = thoroughly(text)
    assert same(pyon.decode(text), expected)
    assert same(pyon.decode(text.encode()), expected)


@pytest.mark.parametrize("encode", [pyon.encode, pyon.encode_bytes])
def test_memory_for_a_large_array(encode: Any) -> None:
    """Its text takes 4/3 of its size; room for a second one is the most that is allowed."""
    array = np.arange(1_000_000, dtype="f8")
    encode(array)
    tracemalloc.start()
    try:
        text = encode({"a": array})
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(text) > array.nbytes
    assert peak < 3 * array.nbytes
