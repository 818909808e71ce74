"""Values to PYON v2 text: the thorough way, for everything that `_plain` leaves.

A walk makes a list of pieces: text, and for an array the view of its bytes. Containers of scalars only are
handed whole to the standard library's C encoder. The pieces are put together in one go, and arrays become
base64 only then, bit by bit: it never passes through JSON, and is never in memory besides the result.
"""

from __future__ import annotations

import io
import json
import math
import reprlib
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, groupby
from json.encoder import encode_basestring_ascii
from typing import Any, Final, cast

import numpy as np

from trionet.pyon import _arrays
from trionet.pyon._classes import CLASS_KEY, CLASSES, DICT_CLASS, TUPLE_CLASS, PyonClass
from trionet.pyon._plain import compact, encode_plain

#: Text; the same as ASCII bytes; or the bytes of an array that are to become base64.
Piece = str | bytes | memoryview

# From here on one call into C is cheaper than a loop that writes the items.
_MANY: Final = 8
# So many levels down, a container may be plain although what it is in is not; looking for that at each level
# of a deep value would take longer than it saves.
_PLAIN_LEVELS: Final = 8
# A long text grows by this part of its length at a time.
_GROWTH: Final = 16

_indented: Callable[[Any], str] = json.JSONEncoder(
    indent=4, separators=(",", ": "), check_circular=False
).encode


def encode(value: Any, pretty: bool = False) -> str:
    """Encode `value` as PYON v2 text: one line of ASCII, or indented by 4 with `pretty`.

    Raises:
        TypeError: for a type that PYON does not carry, anywhere inside.
        ValueError: for a dict with the reserved key ``__jsonclass__``, an array of datetime64 or
            timedelta64, an int of more digits than Python converts, or a value that contains itself or
            is nested deeper than the interpreter can follow.
    """
    try:
        if pretty:
            return _indented(_jsonable(value))
        if type(value) in (dict, list) and (plain := encode_plain(value)) is not None:
            return str(plain, "ascii")
        return _text(_pieces(value))
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None


def encode_bytes(value: Any, prefix: bytes = b"", suffix: bytes = b"") -> bytes:
    """PYON v2 between `prefix` and `suffix`, put together without further copies: what protocols send.

    Raises:
        TypeError: as `encode` does.
        ValueError: as `encode` does.
    """
    try:
        if type(value) in (dict, list) and (plain := encode_plain(value)) is not None:
            return prefix + plain + suffix
        return _bytes(prefix, _pieces(value), suffix)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None


def wrap(value: Any) -> Any:
    """Mark a value inside the arguments of a custom class as one to be encoded as PYON.

    All of them are, so this returns `value` itself. It is here for encoders written for sipyco, where the
    arguments are plain JSON unless wrapped.
    """
    return value


_TOO_DEEP: Final = "a value that contains itself, or is nested too deep, has no PYON form"


def _float_text(value: float) -> str:
    if math.isfinite(value):
        return float.__repr__(value)
    if value != value:
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"


_SCALAR_TEXT: Final[dict[type, Callable[[Any], str]]] = {
    type(None): lambda _: "null",
    bool: lambda value: "true" if value else "false",
    int: int.__repr__,
    float: _float_text,
    str: encode_basestring_ascii,
}


def _pieces(value: Any) -> list[Piece]:
    """Of a value that is not plain as a whole."""
    pieces: list[Piece] = []
    if type(value) in _SCALAR_TEXT:
        return [_SCALAR_TEXT[type(value)](value)]
    _write_mixed(value, pieces.append, _PLAIN_LEVELS)
    return pieces


def _joined(pieces: list[Piece]) -> Iterator[str]:
    """The text of `pieces`, in portions that are neither many nor long."""
    for kind, group in groupby(pieces, type):
        if kind is memoryview:
            yield from chain.from_iterable(map(_arrays.base64_pieces, cast(Iterator[memoryview], group)))
        elif kind is bytes:
            yield from (str(piece, "ascii") for piece in cast(Iterator[bytes], group))
        else:
            yield "".join(cast(Iterator[str], group))


def _text(pieces: list[Piece]) -> str:
    if {*map(type, pieces)} == {str}:
        return "".join(cast(list[str], pieces))
    # Joining a list would need the memory twice. CPython grows a text in place if it is added to like this,
    # in a plain loop, and if the system can extend memory.
    text = ""
    for portion in _growing(_joined(pieces)):
        text += portion
    return text


def _growing(portions: Iterator[str]) -> Iterator[str]:
    """The same text in portions that grow with it, so that copying it for each costs little, if need be."""
    taken: list[str] = []
    size = total = 0
    for portion in portions:
        taken.append(portion)
        size += len(portion)
        if size >= total // _GROWTH:
            yield "".join(taken)
            taken.clear()
            total += size
            size = 0
    yield "".join(taken)


def _bytes(prefix: bytes, pieces: list[Piece], suffix: bytes) -> bytes:
    if {*map(type, pieces)} == {str}:
        return b"".join([prefix, *map(str.encode, cast(list[str], pieces)), suffix])
    file = io.BytesIO()  # gives away what it has grown without a copy
    file.write(prefix)
    for kind, group in groupby(pieces, type):
        if kind is memoryview:
            for data in cast(Iterator[memoryview], group):
                file.writelines(_arrays.base64_byte_pieces(data))
        elif kind is bytes:
            file.writelines(cast(Iterator[bytes], group))
        else:
            file.write("".join(cast(Iterator[str], group)).encode())
    file.write(suffix)
    return file.getvalue()


def _write(value: Any, out: Callable[[Piece], None], levels: int) -> None:
    scalar_text = _SCALAR_TEXT.get(type(value))
    if scalar_text is not None:
        out(scalar_text(value))
    elif levels and type(value) in (dict, list) and (plain := encode_plain(value)) is not None:
        out(plain)
    else:
        _write_mixed(value, out, levels)


def _write_mixed(value: Any, out: Callable[[Piece], None], levels: int) -> None:
    """Write what is not plain as a whole."""
    kind = _kind(value)
    if kind is list:
        _write_list(value, out, levels - 1 if levels else 0)
    elif kind is dict:
        _write_dict(value, out, levels - 1 if levels else 0)
    elif isinstance(kind, PyonClass):
        _write_class(kind, value, out, levels)
    else:  # a subclass of str, int or float
        out(_SCALAR_TEXT[kind](value))


def _kind(value: Any) -> type | PyonClass:
    """What `value` is written as: a JSON type or a class."""
    cls = type(value)
    if cls is list or cls is dict:
        return _dict_kind(value) if cls is dict else list
    pyon_class = CLASSES.by_type.get(cls)
    if pyon_class is not None:
        return pyon_class
    if isinstance(value, dict):
        return _dict_kind(value)
    if isinstance(value, tuple):
        return TUPLE_CLASS
    for json_type in (list, str, int, float):
        if isinstance(value, json_type):
            return json_type
    raise TypeError(f"{reprlib.repr(value)}: objects of type {cls.__name__} have no PYON form")


def _dict_kind(value: dict[Any, Any]) -> type | PyonClass:
    if CLASS_KEY in value:
        raise ValueError(f"a dict with the reserved key {CLASS_KEY!r} has no PYON form")
    return dict if all(isinstance(key, str) for key in value) else DICT_CLASS


def _write_list(items: list[Any], out: Callable[[Piece], None], levels: int) -> None:
    if len(items) >= _MANY and {*map(type, items)} <= _SCALAR_TEXT.keys():
        out(compact(items))
    else:
        _write_items(items, out, levels)


def _write_items(items: Iterable[Any], out: Callable[[Piece], None], levels: int) -> None:
    separator = "["
    for item in items:
        out(separator)
        _write(item, out, levels)
        separator = ","
    out("[]" if separator == "[" else "]")


def _write_dict(value: dict[str, Any], out: Callable[[Piece], None], levels: int) -> None:
    separator = "{"
    for key, item in value.items():
        out(f"{separator}{encode_basestring_ascii(key)}:")
        _write(item, out, levels)
        separator = ","
    out("{}" if separator == "{" else "}")


def _write_class(pyon_class: PyonClass, value: Any, out: Callable[[Piece], None], levels: int) -> None:
    out(f'{{"{CLASS_KEY}":[{encode_basestring_ascii(pyon_class.name)},')
    if type(value) is np.ndarray:
        data = _arrays.array_bytes(value)
        out(f'[{compact(list(value.shape))},"{value.dtype.str}","')
        out(data)
        out('"]')
    else:
        _write_items(pyon_class.encode(value), out, levels)
    out("]}")


def _jsonable(value: Any) -> Any:
    """The same value as dicts, lists and scalars that the JSON encoder writes as PYON."""
    if type(value) in _SCALAR_TEXT:
        return value
    kind = _kind(value)
    if kind is list:
        return [_jsonable(item) for item in value]
    if kind is dict:
        return {key: _jsonable(item) for key, item in value.items()}
    if isinstance(kind, PyonClass):
        return {CLASS_KEY: [kind.name, [_jsonable(item) for item in kind.encode(value)]]}
    return value
