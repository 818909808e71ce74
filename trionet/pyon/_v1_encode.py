"""Values to PYON v1 text, character by character what upstream writes."""

from __future__ import annotations

import json
import reprlib
from collections import OrderedDict
from collections.abc import Callable, Iterable
from fractions import Fraction
from json.encoder import encode_basestring_ascii
from typing import Any, Final

import numpy as np

from trionet.pyon import _arrays

# From here on one call into C is cheaper than a loop that writes the items.
_MANY: Final = 8
_JSON_SCALARS: Final = frozenset({type(None), bool, int, float, str})
_json_text: Callable[[Any], str] = json.JSONEncoder(allow_nan=False, check_circular=False).encode

#: Unlike v2 with float64, which is a float there; without bool_, bytes_, void and the times.
_SCALAR_TYPES: Final[frozenset[type]] = frozenset(
    {
        *(np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64),
        *(np.float16, np.float32, np.float64, np.complex64, np.complex128),
    }
)


def encode(value: Any, pretty: bool = False) -> str:
    """Encode `value` as PYON v1 text: one line, or dicts of two and more items broken up with `pretty`.

    An empty set is written as an empty dict: PYON v1 has no other form of it.

    Raises:
        TypeError: for a type that PYON v1 does not carry, anywhere inside. Types are matched exactly.
        ValueError: for an array of datetime64 or timedelta64, an int of more digits than Python converts,
            or a value that contains itself or is nested deeper than the interpreter can follow.
    """
    writer = _Writer(pretty)
    try:
        writer.write(value)
    except RecursionError:
        raise ValueError("a value that contains itself, or is nested too deep, has no PYON form") from None
    return "".join(writer.pieces)


# float, complex and bytes stand in PYON v1 as in Python; so does everything inside a slice.
_PYTHON_TEXT: Final[dict[type, Callable[[Any], str]]] = {
    type(None): repr,
    bool: repr,
    int: int.__repr__,
    float: float.__repr__,
    complex: complex.__repr__,
    str: str.__repr__,
    bytes: bytes.__repr__,
    Fraction: lambda value: f"Fraction({value.numerator}, {value.denominator})",
}
_PYON_TEXT: Final[dict[type, Callable[[Any], str]]] = {
    **_PYTHON_TEXT,
    type(None): lambda _: "null",
    bool: lambda value: "true" if value else "false",
    str: encode_basestring_ascii,
}


class _Writer:
    """Collects the pieces of the text; they are joined once."""

    def __init__(self, pretty: bool) -> None:
        self.pieces: list[str] = []
        self._out = self.pieces.append
        self._pretty = pretty
        self._indentation = "\n"
        # Inside a slice the form is Python's own.
        self._python = False

    def write(self, value: Any) -> None:
        cls = type(value)
        scalar_text = (_PYTHON_TEXT if self._python else _PYON_TEXT).get(cls)
        if scalar_text is not None:
            self._out(scalar_text(value))
        elif cls is dict:
            self._write_dict(value)
        elif cls is list:
            self._write_list(value)
        elif cls is tuple:
            self._write_tuple(value)
        elif cls is set:
            self._write_items("{", value, "}")
        elif cls is slice:
            self._write_slice(value)
        elif cls is OrderedDict:
            brackets = ("OrderedDict(", ")") if self._python and not value else ("OrderedDict([", "])")
            self._write_items(brackets[0], value.items(), brackets[1])
        elif cls is np.ndarray:
            self._write_array(value)
        elif cls in _SCALAR_TYPES:
            self._out(f'npscalar("{value.dtype.str}", b"{_arrays.encode_base64(value.tobytes())}")')
        else:
            raise TypeError(f"{reprlib.repr(value)}: objects of type {cls.__name__} have no PYON v1 form")

    def _write_items(self, opener: str, items: Iterable[Any], closer: str) -> None:
        self._out(opener)
        separator = ""
        for item in items:
            self._out(separator)
            self.write(item)
            separator = ", "
        self._out(closer)

    def _write_list(self, items: list[Any]) -> None:
        if len(items) >= _MANY and not self._python and {*map(type, items)} <= _JSON_SCALARS:
            try:
                self._out(_json_text(items))
            except ValueError:  # infinite, or an int that is too long, which raises again
                self._write_items("[", items, "]")
        else:
            self._write_items("[", items, "]")

    def _write_tuple(self, items: tuple[Any, ...]) -> None:
        single = ",)" if self._python else ", )"
        self._write_items("(", items, single if len(items) == 1 else ")")

    def _write_dict(self, value: dict[Any, Any]) -> None:
        outer = self._indentation
        broken_up = self._pretty and not self._python and len(value) > 1
        items: Iterable[tuple[Any, Any]] = value.items()
        if broken_up:
            self._indentation += "    "
            if all(type(key) is str for key in value):
                items = sorted(items, key=lambda item: item[0])
        separator = self._indentation if broken_up else ""
        self._out("{")
        for key, item in items:
            self._out(separator)
            self.write(key)
            self._out(": ")
            self.write(item)
            separator = f",{self._indentation}" if broken_up else ", "
        self._indentation = outer
        self._out(f"{outer}}}" if broken_up else "}")

    def _write_slice(self, value: slice) -> None:
        outer, self._python = self._python, True
        self._write_items("slice(", (value.start, value.stop, value.step), ")")
        self._python = outer

    def _write_array(self, array: np.ndarray[Any, Any]) -> None:
        data = _arrays.array_bytes(array)
        self._out("nparray(")
        self.write(array.shape)
        self._out(f', "{array.dtype.str}", b"')
        for piece in _arrays.base64_pieces(data):
            self._out(piece)
        self._out('")')
