"""Whatever arrives as PYON v2 is decoded or is a PyonDecodeError: soon, and without much memory."""

from __future__ import annotations

import contextlib
import json
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.pyon.hostile import mutations
from tests.pyon.values import colliding_keys
from trionet import pyon
from trionet.pyon import PyonDecodeError, _arrays

# fmt: off
NOT_JSON = [
    "", " ", "\n", "nul", "None", "True", "'a'", "(1)", "[1,]", "[,1]", '{"a":1,}', "{1:2}", "{a:1}",
    '{"a"}', "[", "]", "{", "}", "[1", '{"a":1', '{"a":', '"', '"a', '"\\', "[1}", '{"a":1]', "1 2",
    "[1 2]", '["a" "b"]', "01", "+1", ".5", "1.", "0x10", "1e", "-", "-NaN", "nan", "inf", "-inf", "1_000",
    "1j", "--1", "infinity", '"\\x41"', '"\\u12"', '"\\q"', '"\t"', '"\n"', '"\x00"', "\ufeff1", "1\x00",
    "// 1", "1 // 1", "/**/1", "1" * 4301, "[" + "1" * 5000 + "]",
    '{"__jsonclass__":["tuple",[[' + "1" * 5000 + "]]]}",
]
# fmt: on


def of_class(name: object, *args: object) -> str:
    return json.dumps({"__jsonclass__": [name, list(args)]})


# fmt: off
NO_SUCH_VALUE = [
    of_class("no_such_class", 1), of_class("os.system", "true"), of_class("", 1), of_class(1, 1),
    of_class(None), '{"__jsonclass__":null}', '{"__jsonclass__":"tuple"}', '{"__jsonclass__":[]}',
    '{"__jsonclass__":["tuple"]}', '{"__jsonclass__":["tuple",[[1]],3]}',
    '{"__jsonclass__":["tuple",{"0":[1]}]}', '{"__jsonclass__":{"tuple":[[1]]}}',
    '{"\\u005f_jsonclass__":["tuple"]}', of_class("tuple"), of_class("tuple", [1], [2]),
    of_class("tuple", 1), of_class("tuple", "ab"), of_class("set", 1), of_class("set"),
    of_class("set", [[1]]), of_class("set", [{}]), of_class("dict"), of_class("dict", {}),
    of_class("dict", [1]), of_class("dict", [[1]]), of_class("dict", ["ab"]), of_class("dict", [[1, 2, 3]]),
    of_class("dict", [[[1], 2]]), of_class("OrderedDict", [[{}, 2]]), of_class("OrderedDict", 1),
    of_class("slice"), of_class("slice", 3), of_class("slice", 1, 2, 3, 4), of_class("complex"),
    of_class("complex", 1), of_class("complex", "1+2j"), of_class("complex", 1, "2"),
    of_class("complex", True, 1), of_class("complex", 10**400, 1), of_class("complex", None, 1),
    of_class("Fraction", 1), of_class("Fraction", 1, 0), of_class("Fraction", 1.5, 1),
    of_class("Fraction", "1", 2), of_class("Fraction", True, 2), of_class("bytes"), of_class("bytes", 1),
    of_class("bytes", "A"), of_class("bytes", "AA"), of_class("bytes", "AA=A"), of_class("bytes", "A A="),
    of_class("bytes", "é==="), of_class("nparray"), of_class("nparray", [1], "|u1"),
    of_class("nparray", [1], "|u1", "AA==", 1), of_class("nparray", 1, "|u1", "AA=="),
    of_class("nparray", "1", "|u1", "AA=="), of_class("nparray", [1], 1, ""),
    of_class("nparray", [1], "|u1", 1), of_class("nparray", [1], "|u1", None),
    of_class("nparray", [1], "|u1", ["AA=="]),
    *(of_class("nparray", [1], code, "AAAAAAAAAAA=") for code in
      ("O", "|O", "|O8", "object", "i8", "<i8,<O", "", "<i3")),
    *(of_class("nparray", shape, "|u1", "AA==") for shape in
      ([2], [0], [-1], [1.0], [True], [None], ["1"], [[1]])),
    *(of_class("nparray", [1], "|u1", data) for data in
      ("A", "AA", "A===", "!A==", "é===", "A A=", "====", "AA==AA==")),
    of_class("nparray", [1], "|b1", "Ag=="), of_class("nparray", [1], "<U1", "////fw=="),
    of_class("npscalar"), of_class("npscalar", "|u1"), of_class("npscalar", "|u1", 1),
    of_class("npscalar", 1, "AA=="), of_class("npscalar", "|O", "AAAAAAAAAAA="),
    of_class("npscalar", "<i4", "AA=="), of_class("npscalar", "<i4", ""),
    of_class("npscalar", "|b1", "/w=="), of_class("npscalar", "=f12", "AA=="),
    of_class("npscalar", ">U1", "AP8AAA=="),
]
# fmt: on

ABSURD_SHAPES = [
    of_class("nparray", [10**12], "<f8", ""),
    of_class("nparray", [2**63 - 1], "|u1", ""),
    of_class("nparray", [2**63], "|u1", ""),
    of_class("nparray", [10**4000], "|u1", ""),
    of_class("nparray", [10**5, 10**5], "<f8", "AAAAAAAA8D8="),
    of_class("nparray", [1] * 65, "|u1", "AA=="),
    of_class("nparray", [0, 2**63 - 1, 2**63 - 1], "<f8", ""),
    of_class("nparray", [0], "|V2147483647", ""),
    of_class("nparray", [10**9], "|S0", ""),
    of_class("nparray", [10**9], "<U0", ""),
    of_class("nparray", [10**9], "|V0", ""),
    of_class("nparray", [0], "|S9999999999", ""),
    of_class("npscalar", "|V2000000000", ""),
]

N = 1_000_000
# Base64 is decoded in pieces of this length.
PIECE = _arrays._TEXT_PIECE
ARRAY_HEAD = '{"__jsonclass__":["nparray",[[1],"|u1","'
LARGE = {
    "open brackets": "[" * N,
    "open braces": '{"a":' * (N // 5),
    "open classes": '{"__jsonclass__":["tuple",[[' * (N // 28),
    "nested and closed": "[" * 100_000 + "]" * 100_000,
    "nested classes": '{"__jsonclass__":["tuple",[[' * 50_000 + "]]]}" * 50_000,
    "minus signs": "-" * N,
    "spaces": " " * N,
    "unterminated string": '"' + "x" * N,
    "escapes": '"' + "\\\\" * (N // 2),
    "backslashes": "\\" * N,
    "quotes": '"' * (N + 1),
    "digits": "1" * N,
    "unclosed list": "[" + "1," * (N // 2),
    "heads of arrays": ARRAY_HEAD * (N // len(ARRAY_HEAD)),
    "heads and shapes": '{"__jsonclass__":["nparray",[[' + "1," * (N // 2),
    "a long unfinished array": "[" + ARRAY_HEAD + "A" * N,
    "a long wrong array": ARRAY_HEAD + "A" * N + '"]]}',
    "a long array of other things": ARRAY_HEAD + "é" * N + '"]]}',
    "a long padded array": ARRAY_HEAD + "=" * N + '"]]}',
    "padding in the middle": of_class("nparray", [750_000], "|u1", f"{'A' * (N // 2)}=={'A' * (N // 2 - 2)}"),
    "padding at the end of a piece": of_class(
        "nparray", [750_000], "|u1", f"{'A' * (PIECE - 2)}=={'A' * (N - PIECE)}"
    ),
    "one hash": of_class("set", [k * (2**61 - 1) for k in range(1, 40_000)]),
    "one hash of keys": of_class("dict", [[k * (2**61 - 1), 1] for k in range(1, 40_000)]),
    "a path of long keys": json.dumps({"k" * (N // 2): [[1]] * 100_000 + [{"__jsonclass__": 1}]}),
}


def refused(text: str | bytes) -> PyonDecodeError:
    with pytest.raises(PyonDecodeError) as info:
        pyon.decode(text)
    return info.value


@pytest.mark.parametrize("text", NOT_JSON, ids=lambda text: ascii(text[:30]))
def test_not_json(text: str) -> None:
    for document in (text, f"[1, {text}", f"{of_class('tuple', [])} {text.strip() or '?'}"):
        error = refused(document)
        assert error.reason
        assert error.where.startswith("line ") or "digits" in error.reason


@pytest.mark.parametrize("text", [*NO_SUCH_VALUE, *ABSURD_SHAPES], ids=lambda text: text[18:60])
def test_no_such_value(text: str) -> None:
    refused(text)
    error = refused(f'{{"a":[1,{text}]}}'.encode())
    assert error.where == '$["a"][1]'
    assert str(error) == f'{error.reason} (at $["a"][1])'


@pytest.mark.parametrize("name", LARGE)
@pytest.mark.timeout(10)
def test_large_input_is_refused_soon(name: str) -> None:
    for text in (LARGE[name], LARGE[name].encode()):
        refused(text)


@pytest.mark.parametrize(
    "text", [*ABSURD_SHAPES, *LARGE.values()], ids=range(len(ABSURD_SHAPES) + len(LARGE))
)
def test_memory_is_bounded_by_the_input(text: str) -> None:
    tracemalloc.start()
    try:
        refused(text)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # An empty list takes 60 bytes and 3 characters.
    assert peak < 2_000_000 + 40 * len(text)


@pytest.mark.parametrize(
    "text",
    [
        b"\xff",
        b'"\xc3"',
        b'["\xed\xa0\x80"]',
        b'{"__jsonclass__":["tuple",[["\xff"]]]}',
        b'["' + b"x" * 70_000 + b'",' + ARRAY_HEAD.encode() + b"A" * 8000 + b'"]]},"\xff"]',
    ],
    ids=["plain", "string", "surrogate", "class", "around an array"],
)
def test_not_utf_8(text: bytes) -> None:
    error = refused(text)
    assert "UTF-8" in error.reason
    position = int(error.where.removeprefix("byte "))
    assert text[position] in b"\xff\xc3\xed"


def test_the_cause_of_an_error_is_kept() -> None:
    cause = refused(of_class("complex", 10**400, 1)).__cause__
    assert isinstance(cause, OverflowError)


def test_a_key_whose_comparison_raises() -> None:
    items = pyon.encode(list(colliding_keys()))
    assert "ValueError" in refused(f'{{"__jsonclass__":["set",[{items}]]}}').reason


DOCUMENTS: list[Any] = [
    {"a": [1, -2.5, None, True, "é\n\U0001f600"], "b": {"c": []}},
    {"a": [1, -2.5, None], 2: (1,), (3,): {4, "x"}},
    [1 - 9j, b"it's\x00", slice(1, "b", None), float("inf")],
    [np.arange(6, dtype="<i2").reshape(2, 3), np.float32(0.1), {"k": np.array(["ab"])}],
]


@pytest.mark.parametrize("pretty", [False, True])
@pytest.mark.parametrize("value", DOCUMENTS, ids=range(len(DOCUMENTS)))
def test_every_prefix_is_refused(value: Any, pretty: bool) -> None:
    text = pyon.encode(value, pretty=pretty)
    for end in range(len(text)):
        refused(text[:end])
        refused(text[:end].encode())


@pytest.mark.parametrize("value", DOCUMENTS, ids=range(len(DOCUMENTS)))
def test_mutated_bytes(value: Any) -> None:
    for mutated in mutations(pyon.encode(value).encode(), b'[]{},:"\\-+.01'):
        with contextlib.suppress(PyonDecodeError):
            pyon.decode(mutated)


@settings(max_examples=200, deadline=None)
@given(st.one_of(st.text(), st.binary(), st.text('[]{},:"\\-+.01 \n', max_size=30)))
def test_any_text(text: str | bytes) -> None:
    with contextlib.suppress(PyonDecodeError):
        pyon.decode(text)


@pytest.mark.parametrize("before", ["", "[[], ", '["[[[", {"a\\"[": ', "\n[\n"])
def test_where_it_is_nested_too_deep(before: str) -> None:
    text = before + "[" * 100_000
    with pytest.raises(PyonDecodeError, match="nested too deep") as caught:
        pyon.decode(text)
    assert caught.value.where == f"character {len(text) - 1}"
