"""Values typed by a person: on a command line, or at the prompt.

A value is a Python literal, PYON of either version, or one of a few numpy constructors, in any nesting.
The text is parsed, never evaluated: the syntax tree is walked, and what is not listed here is refused.
"""

from __future__ import annotations

import ast
import contextlib
import math
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from trionet import pyon
from trionet.cli.numpy_calls import CONSTANTS, CONSTRUCTORS, SCALARS, NumpyCallError, make_dtype
from trionet.pyon import v1

# What JSON and the two versions of PYON call the values that Python names differently.
_NAMES: Final[dict[str, Any]] = {
    "true": True,
    "false": False,
    "null": None,
    "NaN": math.nan,
    "nan": math.nan,
    "Infinity": math.inf,
    "inf": math.inf,
}
_PYON_V1_CALLS: Final = frozenset({"Fraction", "OrderedDict", "nparray", "npscalar", "slice"})
# The key that makes a dict an object of PYON v2.
_CLASS_KEY: Final = "__jsonclass__"
_SHOWN: Final = 60


class ArgumentError(ValueError):
    """The text is no value; the message says which part of it, and how it might have been meant."""


@dataclass(frozen=True, slots=True)
class Call:
    """A call as it was typed."""

    method: str
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)


def parse_argument(text: str) -> Any:
    """The value that `text` stands for.

    Raises:
        ArgumentError: if it stands for none.
    """
    text = text.strip()
    try:
        return _value(_parse(text), text)
    except ArgumentError:
        # JSON that Python reads differently, such as a string with \/ in it next to `true`.
        with contextlib.suppress(pyon.PyonDecodeError):
            return pyon.decode(text)
        raise
    except RecursionError:
        raise ArgumentError(_TOO_DEEP) from None


def parse_arguments(words: Iterable[str]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and keyword arguments: each word is a value, or ``NAME=VALUE``.

    Raises:
        ArgumentError: if one is neither, or a name comes twice. It says which.
    """
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    for number, word in enumerate(words, 1):
        name, equals, rest = word.strip().partition("=")
        keyword = bool(equals) and name.isidentifier() and not rest.startswith("=")
        try:
            value = parse_argument(rest if keyword else word)
        except ArgumentError as error:
            which = repr(name) if keyword else str(number)
            raise ArgumentError(f"argument {which}: {error}") from None
        if not keyword:
            args.append(value)
        elif name in kwargs:
            raise ArgumentError(f"argument {name!r} is given twice")
        else:
            kwargs[name] = value
    return tuple(args), kwargs


def parse_call(line: str) -> Call:
    """A call as typed at the prompt: ``method(value, name=value)`` or ``method value name=value``.

    Raises:
        ArgumentError: if it is no call, or one of its arguments is no value.
    """
    line = line.strip()
    words = split_words(line)
    method = words[0] if words else ""
    if method.isidentifier():
        return Call(method, *parse_arguments(words[1:]))
    no_call = f"{_shorten(line)} is no call; write METHOD(VALUE, ...) or METHOD VALUE ..."
    if not method.partition("(")[0].isidentifier():
        raise ArgumentError(no_call)
    try:
        node = _parse(line)
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
            raise ArgumentError(no_call)
        args = tuple(_value(arg, line) for arg in node.args)
        return Call(node.func.id, args, {name: _value(value, line) for name, value in _keywords(node, line)})
    except RecursionError:
        raise ArgumentError(_TOO_DEEP) from None


def split_words(line: str) -> list[str]:
    """Cut at the white space that is outside of brackets and quotes, which stay where they are."""
    words: list[str] = []
    start, depth, quote, escaped = 0, 0, "", False
    for position, character in enumerate(line):
        if quote:
            if not escaped and character == quote:
                quote = ""
            escaped = character == "\\" and not escaped
        elif character in "\"'":
            quote = character
        elif character in "([{":
            depth += 1
        elif character in ")]}":
            depth -= 1
        elif character.isspace() and depth <= 0:
            words.append(line[start:position])
            start = position + 1
    return [word for word in (*words, line[start:]) if word]


_TOO_DEEP: Final = "the value is nested too deep"


def _parse(text: str) -> ast.expr:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "\d" in a string means the same with and without a warning
            return ast.parse(text, mode="eval").body
    except SyntaxError as error:
        raise ArgumentError(_syntax_message(text, error)) from None
    except (RecursionError, MemoryError):
        raise ArgumentError(_TOO_DEEP) from None
    except ValueError as error:  # null characters, bytes that are no text
        raise ArgumentError(f"{_shorten(text)} is no value: {error}") from None


def _syntax_message(text: str, error: SyntaxError) -> str:
    if not text:
        return "empty; for an empty text write '\"\"'"
    if not any(character in text for character in "\"'([{"):
        return _not_a_value(text)
    return f"{_shorten(text)} is no value: {error.msg.partition('. ')[0]}"


def _not_a_value(text: str) -> str:
    return f"{_shorten(text)} is no value; text needs quotes of its own: '\"{_shorten(text)}\"'"


def _parse_pyon_v2(text: str) -> Any:
    try:
        return pyon.decode(text)
    except pyon.PyonDecodeError as error:
        raise ArgumentError(f"{_shorten(text)} is no PYON: {error}") from None


def _value(node: ast.expr, text: str) -> Any:
    """What a node stands for; all kinds of nodes that are allowed are here."""
    match node:
        case ast.Constant(str(value)):
            # JSON writes some characters as two escapes, which are two half characters to Python.
            return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
        case ast.Constant(value) if value is not Ellipsis:
            return value
        case ast.List(items):
            return _values(items, text)
        case ast.Tuple(items):
            return tuple(_values(items, text))
        case ast.Set(items):
            return _hashable(node, text, lambda: set(_values(items, text)))
        case ast.Dict(keys, values):
            return _dict(node, keys, values, text)
        case ast.UnaryOp(ast.UAdd() | ast.USub() as sign, operand):
            return _signed(node, sign, _value(operand, text), text)
        case ast.BinOp(left, ast.Add() | ast.Sub() as operator, right):
            return _complex(node, _value(left, text), operator, _value(right, text), text)
        case ast.Name(name) if name in _NAMES:
            return _NAMES[name]
        case ast.Name():
            raise ArgumentError(_not_a_value(_source(node, text)))
        case ast.Attribute(ast.Name("np" | "numpy"), name) if name in CONSTANTS:
            return CONSTANTS[name]
        case ast.Call():
            return _call(node, text)
    raise ArgumentError(f"{_source(node, text)} is no value: only literals and numpy constructors are")


def _values(nodes: Iterable[ast.expr], text: str) -> list[Any]:
    return [_value(node, text) for node in nodes]


def _dict(node: ast.Dict, keys: list[ast.expr | None], values: list[ast.expr], text: str) -> Any:
    plain = [key for key in keys if key is not None]
    if any(isinstance(key, ast.Constant) and key.value == _CLASS_KEY for key in plain):
        return _parse_pyon_v2(ast.get_source_segment(text, node) or text)
    if len(plain) < len(keys):
        raise ArgumentError(f"** is not possible in {_source(node, text)}")
    pairs = zip(_values(plain, text), _values(values, text), strict=True)
    return dict(_hashable(node, text, lambda: dict(pairs)))


def _hashable(node: ast.expr, text: str, build: Callable[[], Any]) -> Any:
    try:
        return build()
    except TypeError as error:
        raise ArgumentError(f"in {_source(node, text)}: {error}") from None


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, complex)) and not isinstance(value, bool)


def _signed(node: ast.expr, sign: ast.unaryop, value: Any, text: str) -> Any:
    if not _is_number(value):
        raise ArgumentError(f"{_source(node, text)} is no value: a sign stands before a number only")
    return -value if isinstance(sign, ast.USub) else value


def _complex(node: ast.expr, real: Any, operator: ast.operator, imaginary: Any, text: str) -> complex:
    """The only sum that is a literal: a real and an imaginary number."""
    if not (_is_number(real) and not isinstance(real, complex) and type(imaginary) is complex):
        raise ArgumentError(f"{_source(node, text)} is no value: nothing is calculated here")
    return complex(real + imaginary if isinstance(operator, ast.Add) else real - imaginary)


def _call(node: ast.Call, text: str) -> Any:
    source = _source(node, text)
    match node.func:
        case ast.Name("set") if not node.args and not node.keywords:
            return set()
        case ast.Name(name) if name in _PYON_V1_CALLS:
            return _parse_pyon_v1(node, text)
        case ast.Name("array") | ast.Attribute(ast.Name("np" | "numpy"), "array"):
            name = "array"  # also without np: so numpy prints it
        case ast.Attribute(ast.Name("np" | "numpy"), name) if name in CONSTRUCTORS or name in SCALARS:
            pass
        case _:
            known = ", ".join(CONSTRUCTORS)
            raise ArgumentError(
                f"{source}: only np.{known.replace(', ', ', np.')} and numpy's scalar types can be called"
            )
    try:
        if name in SCALARS:
            return SCALARS[name](*_values(node.args, text), **dict(_keyword_values(node, text)))
        return CONSTRUCTORS[name](*_positional(node, name, text), **dict(_keyword_values(node, text)))
    except NumpyCallError as error:
        raise ArgumentError(f"{source}: {error}") from None


def _positional(node: ast.Call, name: str, text: str) -> list[Any]:
    """The arguments of a constructor; those in the place of `dtype` are types, not values."""
    place = CONSTRUCTORS[name].dtype_place
    return [_dtype(arg, text) if index == place else _value(arg, text) for index, arg in enumerate(node.args)]


def _keywords(node: ast.Call, text: str) -> list[tuple[str, ast.expr]]:
    pairs = []
    for keyword in node.keywords:
        if keyword.arg is None:
            raise ArgumentError(f"** is not possible in {_source(node, text)}")
        pairs.append((keyword.arg, keyword.value))
    return pairs


def _keyword_values(node: ast.Call, text: str) -> list[tuple[str, Any]]:
    return [
        (name, _dtype(value, text) if name == "dtype" else _value(value, text))
        for name, value in _keywords(node, text)
    ]


def _dtype(node: ast.expr, text: str) -> Any:
    """A type of numpy: ``"f4"``, ``np.float32``, ``float``, or ``float32`` as numpy prints it."""
    match node:
        case ast.Constant(str(name)) | ast.Name(name) | ast.Attribute(ast.Name("np" | "numpy"), name):
            try:
                return make_dtype(name)
            except NumpyCallError as error:
                raise ArgumentError(str(error)) from None
    raise ArgumentError(f'{_source(node, text)} is no dtype; write one as "float32" or np.float32')


def _parse_pyon_v1(node: ast.Call, text: str) -> Any:
    source = ast.get_source_segment(text, node)
    try:
        return v1.decode(source or "")
    except pyon.PyonDecodeError as error:
        raise ArgumentError(f"{_source(node, text)}: {error.reason}") from None


def _source(node: ast.expr, text: str) -> str:
    return _shorten(ast.get_source_segment(text, node) or text)


def _shorten(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."
