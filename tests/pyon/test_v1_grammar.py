"""What PYON v1 text may look like beyond what upstream writes today: older releases, repr(), people."""

from __future__ import annotations

import json
import math
from collections import OrderedDict
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.pyon.hostile import near_json
from tests.pyon.values import any_text, assert_fresh, plain_values, pyon_values, same
from trionet import pyon
from trionet.pyon import PyonDecodeError, v1
from trionet.pyon._v1_parse import parse

B64 = "AQAAAAIAAAA="
ARRAY = np.array([1, 2], "<i4")

# fmt: off
READABLE: list[tuple[str, Any]] = [
    # names and numbers
    ("None", None), ("True", True), ("False", False), (" null ", None), ("inf", math.inf),
    ("nan", math.nan), ("+1", 1), ("--1", 1), ("- 1", -1), ("-+-\t-1", -1), ("-0", 0), ("-0.0", -0.0),
    ("--0.0", 0.0), ("- inf", -math.inf), ("-nan", math.nan), ("+.5", 0.5), ("1.", 1.0), ("1.e3", 1000.0),
    ("1E5", 1e5), ("1e999", math.inf), ("-1e999", -math.inf), ("0e5", 0.0),
    ("1" * 400 + "j", complex(0, math.inf)), ("1" * 4000, int("1" * 4000)),
    ("- - " + "1" * 40, int("1" * 40)),
    # complex numbers
    ("1j", 1j), ("1.5J", 1.5j), ("-2.5j", complex(0.0, -2.5)), ("-0j", complex(0.0, -0.0)), ("+2j", 2j),
    ("infj", complex(0, math.inf)), ("-nanj", complex(0, math.nan)), ("(1-9j)", 1 - 9j),
    ("( 1 + 2j )", 1 + 2j), ("(-0-2.5j)", complex(-0.0, -2.5)), ("(--0-0j)", complex(0.0, -0.0)),
    ("-(1+2j)", -1 - 2j), ("- (-0-0j)", complex(0.0, 0.0)), ("(nan+nanj)", complex(math.nan, math.nan)),
    ("((1+2j),)", (1 + 2j,)), ("((1+2j))", 1 + 2j), ("(+inf-0j)", complex(math.inf, -0.0)),
    # strings
    ("'a'", "a"), ("''", ""), ("'\"'", '"'), ('"\'"', "'"), (r"'\''", "'"), (r'"\""', '"'), (r"'\\'", "\\"),
    (r"'\x41\101\0\7'", "AA\0\x07"), (r"'\1234'", "S4"), (r"'\u0041\U00000042'", "AB"), (r"'\777'", "ǿ"),
    (r"'\a\b\f\n\r\t\v'", "\a\b\f\n\r\t\v"), (r"'\q\/\8'", r"\q\/\8"), (r"'\N{BULLET}'", "•"),
    ("'a\\\nb'", "ab"), ("'a\\\rb'", "ab"), ("'a\\\r\nb'", "ab"), ("'\\\\\\\n'", "\\"),
    (r'"\ud83d\ude00"', "\U0001f600"), (r'"\U0001f600"', "\U0001f600"), (r'"\uD83D\uDE00"', "\U0001f600"),
    (r'"\ud83d"', "\ud83d"), (r'"\ude00\ud83d"', "\ude00\ud83d"), (r'"\ud83d\u0041"', "\ud83dA"),
    ('"é☃\U0001f600"', "é☃\U0001f600"), (r'"é\u00e9\n"', "éé\n"),
    ('"\x00\x01\x7f\u2028\t"', "\x00\x01\x7f\u2028\t"), ("'\ud800'", "\ud800"),
    ("'" + "x" * 5000 + "'", "x" * 5000), ("'" + r"\n" * 5000 + "'", "\n" * 5000),
    # bytes
    ("b''", b""), ('b"a"', b"a"), (r"b'\x00\xff\'\\'", b"\x00\xff'\\"), (r"b'\101\377'", b"A\xff"),
    (r"b'\u0041\N{x}\q'", rb"\u0041\N{x}\q"), ("b'a\\\nb'", b"ab"), ("b'\x00\t'", b"\x00\t"),
    # brackets
    ("()", ()), ("( )", ()), ("(1)", 1), ("((1))", 1), ("(1,)", (1,)), ("(1, )", (1,)), ("(1,2,)", (1, 2)),
    ("[ ]", []), ("[1,]", [1]), ("[[],[1,[2]]]", [[], [1, [2]]]), ("((),)", ((),)), ("{}", {}), ("{ }", {}),
    ("{1}", {1}), ("{1,}", {1}), ("{1,1,2}", {1, 2}), ("{(1,)}", {(1,)}), ("{1:2}", {1: 2}),
    ("{1:2,}", {1: 2}), ("{1:{2:{3:4}}}", {1: {2: {3: 4}}}), ("{1:2,1:3}", {1: 3}),
    ("{'a': {1}, 'b': {1: 2}}", {"a": {1}, "b": {1: 2}}),
    (" \t\f\r\n{\n  1 :\n\t2 ,\r\n3:\f4\n,\n}\n ", {1: 2, 3: 4}),
    ("{(1, 2j): Fraction(4, 1)}", {(1, 2j): Fraction(4)}),
    # calls
    ("slice(1, 2, None)", slice(1, 2)), ("slice (3)", slice(3)), ("slice(1,2,)", slice(1, 2)),
    ("Fraction(-4, 6)", Fraction(-2, 3)), ("Fraction(7)", Fraction(7)),
    ("Fraction\n( 1,\n2 )", Fraction(1, 2)), ("OrderedDict()", OrderedDict()),
    ("OrderedDict([])", OrderedDict()),
    ("OrderedDict([('b', 1), [(2,), 3]])", OrderedDict([("b", 1), ((2,), 3)])),
    ("OrderedDict((('b', 1),))", OrderedDict([("b", 1)])),
    ("OrderedDict({'b': 1})", OrderedDict([("b", 1)])),
    # arrays, also as older releases wrote them
    (f'nparray((2, ), "<i4", b"{B64}")', ARRAY), (f"nparray((2, ), \"<i4\", b'{B64}')", ARRAY),
    (f"nparray([2], '<i4', '{B64}',)", ARRAY), (f'nparray( (2,) ,\n"<i4" , "{B64}" )', ARRAY),
    (f'nparray((2, ), "<i4", b"\\x41{B64[1:]}")', ARRAY), (f'[nparray((2, ), "<i4", (b"{B64}"))]', [ARRAY]),
    ('nparray((1, ), "<i8", b"BwAAAAAAAAA=")', np.array([7])),
    ('nparray((), "<i8", "BwAAAAAAAAA=")', np.array(7)), ("npscalar('<i4', 'KgAAAA==')", np.int32(42)),
    ("npscalar('|b1', b'AQ==')", np.True_),
]
# fmt: on


@pytest.mark.parametrize(("text", "value"), READABLE, ids=[text[:40] for text, _ in READABLE])
def test_read(text: str, value: Any) -> None:
    assert same(v1.decode(text), value)
    assert same(parse(text), value)
    assert same(v1.decode(f"[{text}, ({text},)]"), [value, (value,)])


def test_large_sets_and_dicts() -> None:
    """The search for keys of one hash lets everything through that is not made to be slow."""
    keys = [
        *range(-1000, 1000),
        *(number / 7 for number in range(1000)),
        *((number, "x") for number in range(1000)),
    ]
    for value in (set(keys), dict.fromkeys(keys), {*map(str, range(1000))}):
        assert v1.decode(v1.encode(value)) == value
        assert pyon.decode(pyon.encode(value)) == value


@pytest.mark.parametrize("quote", ["'", '"'])
@pytest.mark.parametrize("prefix", ["", "b"])
@pytest.mark.parametrize("size", [1000, 50_000])
def test_arrays_long_enough_to_be_read_in_place(quote: str, prefix: str, size: int) -> None:
    array = np.arange(size, dtype="<i4").reshape(2, -1)
    text = v1.encode([array, {"k": array}])
    text = text.replace('b"', f"{prefix}{quote}").replace('")', f"{quote})")
    first, second = v1.decode(text.encode())[0], v1.decode(text)[1]["k"]
    for decoded in (first, second):
        assert_fresh(decoded)
        assert same(decoded, array)


@pytest.mark.parametrize(
    ("opener", "closer", "unpack"),
    [
        ("[", "]", lambda value: value[0]),
        ("(", ")", lambda value: value),
        ("(1,", ")", lambda value: value[1]),
        ("{1:", "}", lambda value: value[1]),
        ("slice(", ")", lambda value: value.stop),
    ],
)
def test_nesting_of_many_hundreds(opener: str, closer: str, unpack: Callable[[Any], Any]) -> None:
    value = v1.decode(opener * 900 + "7" + closer * 900)
    for _ in range(900):
        value = unpack(value)
    assert value == 7


@settings(max_examples=150, deadline=None)
@given(plain_values)
def test_the_fast_way_reads_what_the_parser_reads(value: Any) -> None:
    """For JSON of any spacing; also for text with slashes, escaped as only JSON does it."""
    for text in (json.dumps(value), json.dumps(value, indent=2, ensure_ascii=False), v1.encode(value)):
        try:
            fast = v1.decode(text)
        except PyonDecodeError:  # NaN and Infinity are no PYON v1
            with pytest.raises(PyonDecodeError):
                parse(text)
        else:
            assert same(fast, parse(text))


@settings(max_examples=1000, deadline=None)
@given(near_json("'", "None", "inf"), st.sampled_from(["%s", "[%s]", '"%s"', '{"a":%s}', '["%s",1]']))
def test_near_json_is_read_or_refused_alike(text: str, frame: str) -> None:
    text = frame.replace("%s", text)
    try:
        expected = parse(text)
    except PyonDecodeError:
        with pytest.raises(PyonDecodeError):
            v1.decode(text)
    else:
        assert same(v1.decode(text), expected)


@settings(max_examples=150, deadline=None)
@given(pyon_values(st.nothing(), ordered_dicts=True))
def test_repr_of_a_value_is_legal(value: Any) -> None:
    """Except for the repr of an empty set, which upstream cannot read either: none are drawn."""
    assert same(v1.decode(repr(value)), value)


@settings(max_examples=100, deadline=None)
@given(any_text, st.binary())
def test_ascii_of_text_and_bytes(text: str, data: bytes) -> None:
    # Two escapes of surrogates are one character here, unlike in Python.
    joined = text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
    assert v1.decode(ascii(text)) == joined
    assert v1.decode(ascii((data,))) == (data,)
