"""What `trionet watch` is made of: paths, rows, marks, columns."""

from __future__ import annotations

from collections import OrderedDict
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trionet import Notifier
from trionet.cli.watch.live import Marks
from trionet.cli.watch.path import NoSuchPart, key_text, parse_path
from trionet.cli.watch.screen import fit
from trionet.cli.watch.tree import array_rows, brief, rows

STRUCTURE: dict[Any, Any] = {
    "a": {"b": [10, 20, {"c": 30}]},
    "p/q": 1,
    "it's": 2,
    3: {4.5: "float", "4": "text", True: "one"},
    (1, 2): {"x": "tuple"},
    "dotted.key": 4,
    "": {"": 5},
    "array": np.arange(6).reshape(2, 3),
}


@pytest.mark.parametrize(
    ("path", "keys"),
    [
        ("", ()),
        ("/", ()),
        ("a", ("a",)),
        ("/a/b/", ("a", "b")),
        ("a/b/2/c", ("a", "b", 2, "c")),
        (" a/b/-1/c", ("a", "b", -1, "c")),
        ('"p/q"', ("p/q",)),
        ("'p/q'", ("p/q",)),
        ("it's", ("it's",)),
        ("3/4.5", (3, 4.5)),
        ("3/4", (3, "4")),
        ("(1, 2)/x", ((1, 2), "x")),
        ("dotted.key", ("dotted.key",)),
        ('""/""', ("", "")),
        ("array/1/2", ("array", 1, 2)),
    ],
)
def test_paths(path: str, keys: tuple[Any, ...]) -> None:
    expected: Any = STRUCTURE
    for key in keys:
        expected = expected[key]
    found, part = parse_path(path).find(STRUCTURE)
    assert found == keys
    np.testing.assert_array_equal(part, expected)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("nope", "the structure has no 'nope', but a, p/q"),
        ("a/b/3", "a/b has no '3', but the indices 0 to 2"),
        ("a/b/-4", "a/b has no '-4'"),
        ("a/b/c", "a/b has no 'c'"),
        ("a/b/True", "a/b has no 'True'"),
        ("a/b/0/x", "a/b/0 has no 'x': it is of type int"),
        ("array/0/0/0", "array/0/0 has no '0'"),
        ("[]", "the structure has no '[]'"),
        ("a//b", "a has no '', but b"),
    ],
)
def test_paths_to_nothing(path: str, message: str) -> None:
    with pytest.raises(NoSuchPart) as caught:
        parse_path(path).find(STRUCTURE)
    assert str(caught.value).startswith(message.replace("p/q", "'p/q'"))


def test_not_all_keys_are_named() -> None:
    with pytest.raises(NoSuchPart, match=r"but k0, .*, k11 and 88 more$"):
        parse_path("x").find({f"k{number}": 0 for number in range(100)})


@given(st.text(alphabet="ab/'\"()\\ ,1", max_size=20))
def test_any_text_is_a_path(text: str) -> None:
    with pytest.raises(NoSuchPart):
        parse_path(f"x/{text}").find({})


pairs = st.tuples(st.integers(), st.text("ab/"))
keys = st.one_of(st.text(), st.integers(), st.floats(allow_nan=False), pairs)


@given(keys, keys)
def test_a_key_can_be_typed_as_it_is_shown(first: Any, second: Any) -> None:
    structure = {first: {second: 1}}
    assert parse_path(f"{key_text(first)}/{key_text(second)}").find(structure)[1] == 1


# -- rows ----------------------------------------------------------------------------------------------


def shown(structure: Any) -> list[str]:
    return [f"{'  ' * row.depth}{row.text}" for row in rows(structure)]


def test_rows() -> None:
    structure = {"a": {"b": [1, [], {}], "c": {}}, "l": [{"x": 1}, [2], 3], 7: None, "t": ({"y": 1}, [2])}
    assert shown(structure) == [
        "a:",
        "  b: [1, [], {}]",
        "  c: {}",
        "l: (3 items)",
        "  0:",
        "    x: 1",
        "  1: [2]",
        "  2: 3",
        "7: None",
        "t: ({'y': 1}, [2])",
    ]
    assert [row.path for row in rows(structure, ("root",))][5] == ("root", "l", 0, "x")


@pytest.mark.parametrize(("structure", "text"), [({}, "{}"), ([], "[]"), (5, "5"), ([1, 2], "[1, 2]")])
def test_a_structure_that_is_one_row(structure: Any, text: str) -> None:
    assert shown(structure) == [text]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a'b", '"a\'b"'),
        (b"\0", "b'\\x00'"),
        ((1,), "(1,)"),
        ((), "()"),
        (set(), "set()"),
        ({1}, "{1}"),
        (OrderedDict(a=1), "{'a': 1}"),
        (Fraction(1, 3), "Fraction(1, 3)"),
        (slice(1, 2), "slice(1, 2, None)"),
        (np.float32(1.5), "1.5"),
        ([[[[[1]]]]], "[[[[...] (1 item)]]]"),
        pytest.param(10**5000, "<int, too long to be shown>", id="huge"),
        (np.zeros((0, 3)), "float64[0, 3]"),
        (np.array(7), "int64[]  7"),
        (np.array([1, 2], np.int16), "int16[2]  1, 2"),
        (np.arange(7), "int64[7]  min 0  mean 3  max 6"),
        (np.array([True] * 3 + [False] * 5), "bool[8]  3 of 8 true"),
        (np.array([1.0, np.nan] * 4), "float64[8]  min 1  mean 1  max 1  (4 nan)"),
        (np.full(8, np.nan), "float64[8]  all nan"),
        (np.array([np.inf, -np.inf] * 4), "float64[8]  min -inf  mean nan  max inf"),
        (np.arange(8) * 1j, "complex128[8]  0j, 1j, 2j, 3j, 4j, 5j, ..."),
        (np.array(["a", "b"]), "<U1[2]  'a', 'b'"),
    ],
)
def test_brief_values(value: Any, text: str) -> None:
    assert brief(value) == text


@pytest.mark.parametrize(
    "value",
    ["x" * 10**6, b"\0" * 10**6, list(range(10**6)), {"k" * 500: ["v" * 500] * 500}, 10**4000],
    ids=range(5),
)
def test_long_values_are_shortened(value: Any) -> None:
    assert len(brief(value)) < 400
    assert "..." in brief(value)


def test_deep_structures_are_no_problem() -> None:
    deep: Any = 0
    for _ in range(5000):
        deep = {"x": [deep]}
    assert sum(1 for _ in rows(deep)) == 9999


def test_rows_of_an_array() -> None:
    assert array_rows(np.arange(4).reshape(2, 2), 40) == ["[[0 1]", " [2 3]]"]
    assert len(array_rows(np.zeros(10**6), 40)) < 5


# -- marks ---------------------------------------------------------------------------------------------


def test_marks() -> None:
    marks = Marks({("a", "new"): (0.0, True), ("b", "array"): (0.0, False), ("c",): (0.0, False)})
    assert marks.has(("a", "new"), opened=True)
    assert marks.has(("a", "new", "x", 0), opened=False)
    assert not marks.has(("a",), opened=True)
    assert marks.has(("a",), opened=False)
    assert not marks.has(("a", "old"), opened=False)
    assert marks.has(("b",), opened=False)
    assert marks.has(("c",), opened=True)
    assert not marks.has(("c", "x"), opened=False)


# -- columns -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "columns", "fitting"),
    [
        ("abc", 3, "abc"),
        ("abcdef", 5, "ab..."),
        ("abc", 2, ".."),
        ("\u65e5\u672c", 4, "\u65e5\u672c"),
        ("\u65e5\u672c\u65e5", 5, "\u65e5..."),
        ("e\u0301" * 4, 4, "e\u0301" * 4),
        ("e\u0301" * 5, 4, "e\u0301..."),
    ],
)
def test_text_is_cut_to_columns(text: str, columns: int, fitting: str) -> None:
    assert fit(text, columns) == fitting


def test_a_notifier_takes_what_is_shown() -> None:
    """The rows of a structure are made of the notifier's own objects, which are left alone."""
    notifier = Notifier({"a": [1, {"b": 2}]})
    shown(notifier.raw_view)
    assert notifier.raw_view == {"a": [1, {"b": 2}]}
