"""Whatever arrives as PYON v1 is decoded or is a PyonDecodeError: soon, and without much memory."""

from __future__ import annotations

import contextlib
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.pyon.hostile import mutations
from tests.pyon.values import colliding_keys
from trionet.pyon import PyonDecodeError, _arrays, v1
from trionet.pyon._v1_parse import parse

# fmt: off
OUTSIDE_THE_GRAMMAR = [
    # names, operators, comprehensions, calls
    "foo", "Null", "TRUE", "Infinity", "NaN", "infinity", "nanx", "j", "__import__", "object", "Ellipsis",
    "...", "__import__('os')", "().__class__", "(1).real", "1 .real", "[1][0]", "{1:2}[1]", "'a'.upper()",
    "null.x", "1+1", "1-2j", "2*3", "1 if 1 else 2", "not 1", "~1", "1 == 1", "1 and 2", "lambda: 1",
    "x:=1", "a=1", "[x for x in []]", "{x for x in []}", "(i for i in ())", "[*[1]]", "{**{}}", "(*(),)",
    "-true", "-'a'", "-(1)", "set()", "set([1])", "frozenset()", "dict()", "list()", "eval('1')",
    "np.int32(3)", "array([1])", "print(1)", "slice", "slice[1]", "slice(start=1)", "slice(*[1])",
    "slice(1)(2)", "nparray", "(slice)(1)", "Slice(1)", "1;2", "1\n2", "1,2", "1,", ",", "# comment",
    "1 # comment", "1\\\n", "[1 2]", "[1,,2]", "[,]", "(,)", "{,}",
    # brackets
    "", " ", "\n", "(", "[", "{", ")", "]", "}", "[)", "(]", "{]", "[1)", "(1]", "{1]", "[1}", "[1", "(1,",
    "{1:", "{1:2", "{:}", "{1:}", "{:1}", "{1:2:3}", "{1:2,3}", "{1,2:3}", "{1::2}", "{1:,}", "[1:2]",
    "(1:2)", "1:2", "[]]", "())", "{}}", "[1];", "slice(", "slice(1", "slice(1,", "slice(,)", "slice(1:2)",
    "slice(1]", "{1:2,,}",
    # numbers
    "1_000", "0x10", "0o7", "0b1", "01", "00", "-01", "01.5", "1e", "1e+", ".", "-", "+", "+-", "1.2.3",
    "1..2", ".e1", "1l", "1L", "1jj", "1j1", "1.0f", "\u0661", "1\u00a02", "-", "--", "1e5.5", "1 e5", "0x",
    "in f", "(1+2)", "(1j+2)", "(1+2j+3j)", "(1+-2j)", "(1++2j)", "(1-9j", "((1)+2j)", "(1 2j)",
    "(true+1j)", "1" * 4301, "-" + "9" * 10000,
    # strings and bytes
    '"', "'", "'a", "\"a'", "'a\"", "'a\nb'", "'a\rb'", '"\n"', "'\\", "'\\'", "b'", "b'\\'", "b'a\nb'",
    "'\\\n\n'", "u'a'", "r'a'", "f'a'", "rb'a'", "B'a'", "br'a'", "F'{1}'", "'a' 'b'", "'a''b'",
    "b'a' b'b'", "''''''", "'''a'''", r"'\x'", r"'\x4'", r"'\xgg'", r"'\u'", r"'\u123'", r"'\U0000'",
    r"'\U00110000'", r"'\UFFFFFFFF'", r"'\N'", r"'\N{}'", r"'\N{NO SUCH NAME}'", r"'\N{BULLET'",
    r"'\N{LATIN SMALL LETTER R WITH TILDE}'", r"'é\x4'", "b'é'", "b'\\é'", "b'\\xe9é'", r"b'\x'", r"b'\x4'",
    r"b'\400'", r"b'\777'", "'\\ud83d\\u'", "'\\ud83d\\uzzzz'",
    # other
    "\ufeff1", "1\x00", "\x001", "\u00a01", "1\u2028", "$", "?", "`1`", "@", "!", "\ud800", "é", "_",
    "\x0b1",
]
# fmt: on

# fmt: off
WRONG_ARGUMENTS = [
    "slice()", "slice(1,2,3,4)", "Fraction()", "Fraction(1,2,3)", "Fraction(1,0)", "Fraction(1.5)",
    "Fraction('1/2')", "Fraction(true,1)", "Fraction(1,null)", "OrderedDict(1)", "OrderedDict([],[])",
    "OrderedDict([1])", "OrderedDict(['ab'])", "OrderedDict([(1,)])", "OrderedDict([(1,2,3)])",
    "OrderedDict([([],1)])", "OrderedDict('ab')", "OrderedDict({1})", "{[]:1}", "{{}}", "{[]}", "{{1}:1}",
    "{([],)}", "{slice([1])}", "nparray()", "nparray((1,),'|u1')", "nparray((1,),'|u1',b'AA==',1)",
    "npscalar()", "npscalar('|u1')", "nparray(1,'|u1',b'AA==')", "nparray((1),'|u1',b'AA==')",
    "nparray({},'|u1',b'AA==')", "nparray('a','|u1','')", "nparray((1,),b'|u1',b'AA==')",
    "nparray((1,),1,b'AA==')", "nparray((1,),'|u1',1)", "nparray((1,),'|u1',[])",
    "nparray((1,),'O',b'AAAAAAAAAAA=')", "nparray((1,),'|O',b'AAAAAAAAAAA=')",
    "nparray((1,),'|O8',b'AAAAAAAAAAA=')", "nparray((1,),'u1',b'AA==')", "nparray((1,),'i4,O',b'AA==')",
    "nparray((1,),'<i3',b'AAAA')", "nparray((),'','')", "nparray((2,),'|u1',b'AA==')",
    "nparray((0,),'|u1',b'AA==')", "nparray((-1,),'|u1',b'AA==')", "nparray((1.0,),'|u1',b'AA==')",
    "nparray((true,),'|u1',b'AA==')", "nparray((null,),'|u1',b'AA==')", "nparray((1,),'|u1',b'A')",
    "nparray((1,),'|u1',b'AA')", "nparray((1,),'|u1',b'A===')", "nparray((1,),'|u1',b'!A==')",
    "nparray((1,),'|u1','é===')", "nparray((1,),'|u1','A A=')", "nparray((2,),'|u1','AA==AA==')",
    "nparray((1,),'|b1',b'Ag==')", "nparray((1,),'<U1',b'AAARAP//')", "nparray((1,),'<U1',b'////fw==')",
    "npscalar('|O',b'AAAAAAAAAAA=')", "npscalar('<i4',b'AA==')", "npscalar('<i4',b'')", "npscalar('|u1',1)",
    "npscalar(b'|u1',b'AA==')", "npscalar('|b1',b'/w==')", "npscalar('<i4',b'KgAAAA')",
]
# fmt: on

# fmt: off
ABSURD_SHAPES = [
    "nparray((1000000000000,),'<f8',b'')", "nparray((9223372036854775807,),'|u1',b'')",
    "nparray((9223372036854775808,),'|u1',b'')", "nparray((" + "9" * 4000 + ",),'|u1',b'')",
    "nparray((100000,100000),'<f8',b'AAAAAAAA8D8=')", "nparray((" + "1," * 65 + "),'|u1',b'AA==')",
    "nparray((0,9223372036854775807,9223372036854775807),'<f8',b'')", "nparray((0,),'|V2147483647',b'')",
    "nparray((1000000000,),'|S0',b'')", "nparray((1000000000,),'<U0',b'')",
    "nparray((1000000000,),'|V0',b'')", "nparray((0,),'|S9999999999',b'')", "npscalar('|V2000000000',b'')",
    "nparray((),'<U536870911',b'')",
]
# fmt: on

N = 1_000_000
# Base64 is decoded in pieces of this length.
PIECE = _arrays._TEXT_PIECE
LARGE = {
    "open brackets": "[" * N,
    "open parentheses": "(" * N,
    "open braces": "{" * N,
    "open calls": "slice(" * (N // 6),
    "dicts in dicts": "{1:" * (N // 3),
    "nested and closed": "[" * 100_000 + "]" * 100_000,
    "parentheses and closed": "(" * 100_000 + "1" + ")" * 100_000,
    "minus signs": "-" * N,
    "signs and spaces": "- " * (N // 2),
    "parentheses and signs": "(-" * (N // 2),
    "signs, then a bracket": "-" * N + "[",
    "signs in a complex number": "(" + "-" * N,
    "spaces": " " * N,
    "spaces in brackets": "[" + " " * N,
    "spaces after values": "[1" + " " * N,
    "lines": "\n" * N + "?",
    "spaces in a complex number": "(1" + " " * N + "+",
    "unterminated string": '"' + "x" * N,
    "unterminated strings": "['a','" * (N // 6),
    "unterminated bytes": "b'" + "x" * N,
    "escapes": '"' + "\\\\" * (N // 2),
    "escaped quotes": '"' + '\\"' * (N // 2),
    "invalid escapes": '"' + "\\x" * (N // 2) + '"',
    "backslashes": "\\" * N,
    "quotes": '"' * (N + 1),
    "mixed quotes": "\"'" * (N // 2),
    "wrong string": '"' + "x" * N + '"' + "y",
    "digits": "1" * N,
    "negative digits": "-" + "1" * N,
    "digits and dots": "1." * (N // 2),
    "exponent": "1e" + "1" * N + "x",
    "commas": "," * N,
    "commas in a list": "[1" + "," * N,
    "colons": "{1" + ":" * N,
    "letters": "a" * N,
    "letters and parentheses": "a(" * (N // 2),
    "a call and spaces": "slice" + " " * N,
    "unclosed list": "[" + "1," * (N // 2),
    "unclosed strings": "[" + "'a'," * (N // 4),
    "one hash": "{" + ",".join(str(k * (2**61 - 1)) for k in range(1, 40_000)) + "}",
    "one hash of tuples": "{" + ",".join(f"({k * (2**61 - 1)},):1" for k in range(1, 30_000)) + "}",
    "NaN scalars": "{" + "npscalar('<f8','AAAAAAAA+H8=')," * 25_000,
    "base64 of other things": "nparray((9,),'|u1','" + "é" * N + "')",
    "padding in the middle": f"nparray((750000,),'|u1','{'A' * (N // 2)}=={'A' * (N // 2 - 2)}')",
    "padding at the end of a piece": f"nparray((750000,),'|u1','{'A' * (PIECE - 2)}=={'A' * (N - PIECE)}')",
}


def refused(text: str | bytes) -> PyonDecodeError:
    with pytest.raises(PyonDecodeError) as info:
        v1.decode(text)
    assert len(str(info.value)) < 20_000
    return info.value


@pytest.mark.parametrize("text", OUTSIDE_THE_GRAMMAR, ids=lambda text: ascii(text[:30]))
def test_outside_the_grammar(text: str) -> None:
    for document in (text, f" {text}", f"({{1: {text}"):
        error = refused(document)
        assert error.where.startswith("line ")
        assert ", character " in error.where


@pytest.mark.parametrize("text", [*WRONG_ARGUMENTS, *ABSURD_SHAPES], ids=lambda text: text[:50])
def test_wrong_arguments(text: str) -> None:
    error = refused(f"[1,\n {text}]")
    # The place of the call, or of the key that cannot be hashed.
    assert error.where.startswith("line 2 column 2,")


@pytest.mark.parametrize("name", LARGE)
@pytest.mark.timeout(10)
def test_large_input_is_refused_soon(name: str) -> None:
    refused(LARGE[name])


@pytest.mark.parametrize(
    "text", [*ABSURD_SHAPES, "[" * N, "(" * N, "-" * N, '"' + "\\\\" * (N // 2)], ids=range(18)
)
def test_memory_is_bounded_by_the_input(text: str) -> None:
    tracemalloc.start()
    try:
        refused(text)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2_000_000 + 8 * len(text)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("[1, ?]", "line 1 column 5, character 4"),
        ("[1,\n  foo]", "line 2 column 3, character 6"),
        ("[1,\n  'a\\x4']", "line 2 column 5, character 8"),
        ("[1, [2", "line 1 column 7, character 6"),
        ("{1: 2\n 3}", "line 2 column 2, character 7"),
        ("[0, " + "7" * 5000 + "]", "line 1 column 5, character 4"),
        ("[\n- " + "7" * 5000 + "]", "line 2 column 1, character 2"),
    ],
)
def test_the_error_says_where(text: str, place: str) -> None:
    assert refused(text).where == place


def test_the_error_of_an_end_names_the_bracket_that_is_open() -> None:
    assert refused("[(1, 2").reason == "unexpected end, '(' of character 1 is open"
    assert refused("").reason == "unexpected end"


@pytest.mark.parametrize(
    "text", [b"\xff", b"'\xc3'", b"[1, '\xed\xa0\x80']", b'"\xff"', "'é'".encode("latin-1")]
)
def test_not_utf_8(text: bytes) -> None:
    error = refused(text)
    assert "UTF-8" in error.reason
    assert error.where.startswith("byte ")


def test_a_key_whose_comparison_raises() -> None:
    """A numpy scalar and a tuple of one hash are compared, which gives an array without a truth value."""
    key, scalar = colliding_keys()
    assert "ValueError" in refused(f"{{{v1.encode(key)}, {v1.encode(scalar)}}}").reason


DOCUMENTS: list[Any] = [
    {"a": [1, -2.5, None, True, "é\n\U0001f600"], 2: (1,), (3,): {4, "x"}},
    [1 - 9j, 2.5j, b"it's\x00", slice(1, "b", None), float("inf")],
    [np.arange(6, dtype="<i2").reshape(2, 3), np.float64(0.1), {"k": np.array(["ab"])}],
]


@pytest.mark.parametrize("pretty", [False, True])
@pytest.mark.parametrize("value", DOCUMENTS, ids=range(len(DOCUMENTS)))
def test_every_prefix_is_refused(value: Any, pretty: bool) -> None:
    text = v1.encode(value, pretty=pretty)
    for end in range(len(text)):
        refused(text[:end])


@pytest.mark.parametrize("value", DOCUMENTS, ids=range(len(DOCUMENTS)))
def test_mutated_bytes(value: Any) -> None:
    for mutated in mutations(v1.encode(value).encode(), b"()[]{},:'\"\\-+.jb01"):
        with contextlib.suppress(PyonDecodeError):
            v1.decode(mutated)


@settings(max_examples=200, deadline=None)
@given(st.one_of(st.text(), st.binary(), st.text("()[]{},:'\"\\-+.jb01 \n", max_size=30)))
def test_any_text(text: str | bytes) -> None:
    with contextlib.suppress(PyonDecodeError):
        v1.decode(text)
    if isinstance(text, str):
        with contextlib.suppress(PyonDecodeError):
            parse(text)
