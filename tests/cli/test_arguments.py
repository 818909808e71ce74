"""Values and calls as they are typed."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trionet import pyon
from trionet.cli.arguments import (
    ArgumentError,
    Call,
    parse_argument,
    parse_arguments,
    parse_call,
    split_words,
)
from trionet.pyon import v1

PLAIN: list[tuple[str, Any]] = [
    ("1", 1),
    (" -1 ", -1),
    ("+1.5", 1.5),
    ("-1e3", -1000.0),
    ("0x1f", 31),
    ("1_000", 1000),
    ("2j", 2j),
    ("1+2j", 1 + 2j),
    ("-1.5-2j", -1.5 - 2j),
    ("True", True),
    ("None", None),
    ("'text'", "text"),
    ('"a" "b"', "ab"),
    (r"'\d'", r"\d"),
    ("b'bytes'", b"bytes"),
    ("[1, [2, (3,)]]", [1, [2, (3,)]]),
    ("1, 2", (1, 2)),
    ("()", ()),
    ("{1, 2}", {1, 2}),
    ("set()", set()),
    ("{'a': {1: -2}}", {"a": {1: -2}}),
    ("[1,\n2]", [1, 2]),
    # JSON and PYON
    ("[true, false, null]", [True, False, None]),
    ("[Infinity, -Infinity, inf]", [math.inf, -math.inf, math.inf]),
    ('{"__jsonclass__": ["tuple", [[1, 2]]]}', (1, 2)),
    ('{"a": {"__jsonclass__": ["set", [[1]]]}}', {"a": {1}}),
    ('({"__jsonclass__": ["set", [[1]]]}, None)', ({1}, None)),
    ("Fraction(1, 3)", Fraction(1, 3)),
    ("[OrderedDict([('b', 1)])]", [OrderedDict(b=1)]),
    ("slice(1, 2, None)", slice(1, 2, None)),
    # constants of numpy
    ("-np.pi", -math.pi),
    ("[np.inf, numpy.e]", [math.inf, math.e]),
]

ARRAYS: list[tuple[str, Any]] = [
    ("np.array([1, 2])", np.array([1, 2])),
    ("np.array([[1.5, -2], [3, np.inf]])", np.array([[1.5, -2], [3, np.inf]])),
    ("np.array([1, 2], np.int16)", np.array([1, 2], np.int16)),
    ("np.array([1, 2], dtype='<u4')", np.array([1, 2], "<u4")),
    ("np.array(object=[1], dtype=float)", np.array([1.0])),
    ("array([1., 2.], dtype=float32)", np.array([1.0, 2.0], np.float32)),
    ("np.array(['a', 'bc'])", np.array(["a", "bc"])),
    ("np.zeros(3)", np.zeros(3)),
    ("np.zeros((2, 3), 'f4')", np.zeros((2, 3), "f4")),
    ("numpy.ones(shape=[2])", np.ones(2)),
    ("np.full((2,), -7, dtype=int)", np.full(2, -7)),
    ("np.arange(5)", np.arange(5)),
    ("np.arange(0, 1, 0.25)", np.arange(0, 1, 0.25)),
    ("np.arange(stop=3, start=1, dtype=np.uint8)", np.arange(1, 3, dtype=np.uint8)),
    ("np.linspace(0, 1, 5)", np.linspace(0, 1, 5)),
    ("np.linspace(0, 1, num=3, dtype='f4')", np.linspace(0, 1, 3, dtype="f4")),
    ("np.eye(2)", np.eye(2)),
    ("np.eye(2, 3, k=1)", np.eye(2, 3, k=1)),
    ("nparray((2,), '<f8', b'AAAAAAAA8D8AAAAAAADwPw==')", np.ones(2)),
    ("np.float32(1.5)", np.float32(1.5)),
    ("np.int16(-3)", np.int16(-3)),
    ("np.complex64(1+2j)", np.complex64(1 + 2j)),
    ("np.bool_(True)", np.True_),
    ("np.False_", np.False_),
    ("np.str_('a')", np.str_("a")),
]

REFUSED: list[tuple[str, str]] = [
    ("", "empty; for an empty text write '\"\"'"),
    ("hello", "hello is no value; text needs quotes of its own: '\"hello\"'"),
    ("hello world", "hello world is no value; text needs quotes"),
    ("/data/run 7", "'\"/data/run 7\"'"),
    ("[1, hello]", "hello is no value; text needs quotes"),
    ("'open", "'open is no value: unterminated string"),
    ("[1, 2", "'\\[' was never closed"),
    ("1\0", "no value"),
    ("'\udc80'", "surrogates not allowed"),
    ("x" * 100, r"xxx\.\.\. is no value"),
    # nothing is evaluated
    ("__import__('os').system('true')", "can be called"),
    ("print(1)", r"print\(1\): only np.array"),
    ("os.system('true')", r"os.system\('true'\): only np.array"),
    ("np.load('x')", "only np.array"),
    ("np.array.__class__", "only literals"),
    ("np.float32", "np.float32 is no value"),
    ("(lambda: 1)()", "can be called"),
    ("lambda: 1", "only literals"),
    ("[x for x in (1,)]", "only literals"),
    ("[1][0]", "only literals"),
    ("f'{1}'", "only literals"),
    ("x == 1", "only literals"),
    ("(x := 1)", "only literals"),
    ("...", "only literals"),
    ("1 if True else 2", "only literals"),
    ("not True", "only literals"),
    ("~1", "only literals"),
    ("2**99", "only literals"),
    ("'a' * 9", "only literals"),
    ("1 + 1", "1 \\+ 1 is no value: nothing is calculated"),
    ("1j + 1j", "nothing is calculated"),
    ("True + 1j", "nothing is calculated"),
    ("'a' - 1j", "nothing is calculated"),
    ("-'a'", "-'a' is no value: a sign"),
    ("-True", "a sign stands before a number"),
    ("[*[1]]", r"\*\[1\] is no value"),
    ("{**{}}", r"\*\* is not possible in \{\*\*\{\}\}"),
    ("set([1])", "can be called"),
    ("{[]: 1}", r"in \{\[\]: 1\}: unhashable"),
    ("{[]}", r"in \{\[\]\}: unhashable"),
    # PYON that is none
    ('{"__jsonclass__": ["tuple", []]}', "is no PYON: class 'tuple'"),
    ('{"__jsonclass__": ', "is no value"),
    ("Fraction(1, 0)", r"Fraction\(1, 0\): a Fraction takes"),
    ("npscalar(1)", "npscalar takes 2 argument"),
    # constructors
    ("np.zeros()", r"np.zeros\(\): needs 'shape'"),
    ("np.zeros(3, order='F')", "has no parameter 'order' here, but: shape, dtype"),
    ("np.zeros(3, shape=3)", "'shape' is given twice"),
    ("np.zeros(1, 'f4', 'C')", "takes at most 2 arguments"),
    ("np.zeros(*[1])", "no value"),
    ("np.zeros(**{})", r"\*\* is not possible"),
    ("np.zeros('a')", r"np.zeros\('a'\): "),
    ("np.zeros(-1)", "negative dimensions"),
    ("np.zeros(10000000000)", "more than 256 MiB"),
    ("np.zeros((100000, 100000), 'i1')", "more than 256 MiB"),
    ("np.arange(1e12)", "more than 256 MiB"),
    ("np.arange(0, 1, 1e-12)", "more than 256 MiB"),
    ("np.arange(0, 1, 0)", r"np.arange\(0, 1, 0\): "),
    ("np.linspace(0, 1, 1000000000)", "more than 256 MiB"),
    ("np.eye(1000000)", "more than 256 MiB"),
    ("np.full(3)", "needs 'fill_value'"),
    ("np.array([[1], [1, 2]])", "inhomogeneous"),
    ("np.array([None])", "no common type"),
    ("np.array([1], dtype=object)", "'object' is no dtype"),
    ("np.array([1], dtype='i4,f4')", "'i4,f4' is no dtype"),
    ("np.array([1], dtype='U999999999')", "is no dtype"),
    ("np.array([1], dtype=np.nope)", "'nope' is no dtype"),
    ("np.array([1], dtype=3)", "3 is no dtype; write one as"),
    ("np.array([300], dtype='i1')", "out of bounds"),
    ("np.int8(300)", r"np.int8\(300\): .*out of bounds"),
    ("np.float32(1e300)", "overflow"),
    ("np.float32()", "takes one number"),
    ("np.float32([1])", "takes one number"),
    ("np.float32(value=1)", "takes one number"),
]

HOSTILE = [
    "(" * 1000,
    "[" * 100_000,
    "-" * 100_000 + "1",
    "9" * 5000,
    "a." * 50_000 + "a",
    "[" * 90 + "]" * 90,
]


@pytest.mark.parametrize(("text", "value"), PLAIN)
def test_literals_and_pyon(text: str, value: Any) -> None:
    parsed = parse_argument(text)
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize(("text", "value"), ARRAYS)
def test_numpy(text: str, value: Any) -> None:
    parsed = parse_argument(text)
    assert type(parsed) is type(value)
    assert parsed.dtype == value.dtype
    np.testing.assert_array_equal(parsed, value, strict=True)


@pytest.mark.parametrize("text", ["nan", "NaN", "-NaN", "np.nan"])
def test_not_a_number(text: str) -> None:
    assert math.isnan(parse_argument(text))


def test_numpy_inside_of_containers() -> None:
    value = parse_argument("{'x': [np.zeros(2), (np.int8(1), true)]}")
    assert value["x"][0].tolist() == [0.0, 0.0]
    assert value["x"][1] == (np.int8(1), True)


def test_json_that_python_does_not_read() -> None:
    assert parse_argument(r'"\ud83d\ude00"') == "\U0001f600"
    assert parse_argument('{"a": true,\n "b": [null]}') == {"a": True, "b": [None]}


@pytest.mark.parametrize(("text", "message"), REFUSED)
def test_refused(text: str, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        parse_argument(text)


def refusal(parse: Callable[[str], Any], text: str) -> str:
    """Why a text is refused; "accepted" if it is not."""
    try:
        parse(text)
    except ArgumentError as error:
        return str(error)
    return "accepted"


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_text_is_an_error_or_a_value(text: str) -> None:
    for parse in (parse_argument, parse_call):
        assert len(refusal(parse, text)) < 300


# What `repr` writes so that it can be read again: no NaN, because it equals nothing.
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.complex_numbers(allow_nan=False, allow_infinity=False),
    st.text(),
    st.binary(),
)
hashable = st.recursive(scalars, lambda inner: st.tuples(inner, inner), max_leaves=4)
values = st.recursive(
    st.one_of(scalars, st.sets(hashable, max_size=3)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(hashable, inner, max_size=4),
    ),
    max_leaves=12,
)


@given(values)
def test_repr_is_read_back(value: Any) -> None:
    assert parse_argument(repr(value)) == value


@given(values)
def test_pyon_v1_is_read(value: Any) -> None:
    text = v1.encode(value)
    assert parse_argument(text) == v1.decode(text)


@given(st.lists(st.one_of(st.booleans(), st.floats(allow_nan=False), st.fractions(), st.tuples())))
def test_pyon_v2_with_classes_is_read(value: Any) -> None:
    assert parse_argument(pyon.encode(value)) == value


@given(st.text(alphabet="()[]{}'\"\\ ,:=*-1aej.np", max_size=30))
def test_any_text_is_a_value_or_an_argument_error(text: str) -> None:
    for parse in (parse_argument, parse_call, lambda line: parse_arguments(split_words(line))):
        assert refusal(parse, text) != ""


# -- lists of arguments --------------------------------------------------------------------------------


def test_keyword_arguments() -> None:
    words = ["1", "ramp=-0.5", "'a=b'", "shape=np.zeros(3, dtype='f4').shape"]
    with pytest.raises(ArgumentError, match=r"argument 'shape': .*only literals"):
        parse_arguments(words)
    assert parse_arguments(words[:3]) == ((1, "a=b"), {"ramp": -0.5})
    args, kwargs = parse_arguments(["np.zeros(2, dtype='f4')", "x=1"])
    assert args[0].dtype == np.float32
    assert kwargs == {"x": 1}


def test_arguments_are_named_in_errors() -> None:
    with pytest.raises(ArgumentError, match=r"^argument 2: x is no value"):
        parse_arguments(["1", "x"])
    with pytest.raises(ArgumentError, match=r"^argument 1: a==1 is no value"):
        parse_arguments(["a==1"])
    with pytest.raises(ArgumentError, match=r"^argument 'a' is given twice"):
        parse_arguments(["a=1", "a=1"])
    with pytest.raises(ArgumentError, match=r"^argument 'a': empty"):
        parse_arguments(["a="])


# -- calls ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "call"),
    [
        ("f", Call("f")),
        (" f() ", Call("f")),
        ("f(1, 'a b', x=[2])", Call("f", (1, "a b"), {"x": [2]})),
        ("f 1 'a b' x=[2, 3] (4, 5)", Call("f", (1, "a b", (4, 5)), {"x": [2, 3]})),
        ("f (1, 2)", Call("f", ((1, 2),))),
        (r"f 'it\'s' -1", Call("f", ("it's", -1))),
    ],
)
def test_calls(line: str, call: Call) -> None:
    assert parse_call(line) == call


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "is no call"),
        ("1", "1 is no call; write METHOD"),
        ("laser.f(1)", "is no call"),
        ("f(1)(2)", "is no call"),
        ("f(1", "never closed"),
        ("f(*[1])", "no value"),
        ("f(**{})", r"\*\* is not possible"),
        ("f(x)", "x is no value"),
        ("f x", "argument 1: x is no value"),
        ("f(" + "[" * 300 + "]" * 300 + ")", "too many nested"),
        ("f(" + "-" * 3000 + "1)", "nested too deep"),
    ],
)
def test_no_calls(line: str, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        parse_call(line)


def test_words() -> None:
    assert split_words("") == []
    assert split_words("  a\t[1, 2]  'b c' d)e f ") == ["a", "[1, 2]", "'b c'", "d)e", "f"]
