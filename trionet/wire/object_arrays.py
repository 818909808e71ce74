"""numpy arrays as pyacq's object proxies carry them: the printed dtype, the shape, the items in C order.

The dtype is text of the peer. For a structure it looks like Python, and upstream executes it; here it is read
as a literal, compared with what numpy prints, and refused if it is anything else. Sizes are compared with
the data that came before anything is made of them.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

import numpy as np

from trionet.wire.zmtp_frames import Frame

# Longest text of a dtype that is looked at: structures of a few thousand fields.
_LONGEST_DTYPE: Final = 1 << 16
# numpy's own limit since 2.0; older versions allow 32.
_MAX_DIMENSIONS: Final = 64
# Structures inside structures.
_MAX_DEPTH: Final = 16
# Fields may overlap, as those of a union do. So often, on average, a byte may be part of one.
_MOST_OVERLAPS: Final = 8
# Items of no bytes take no memory, but whoever makes a list of them would.
_MOST_ITEMS_OF_NOTHING: Final = 1 << 16

_UNIT: Final = r"(?:\[(?:\d{1,9})?(?:Y|M|W|D|h|m|s|ms|us|μs|ns|ps|fs|as|generic)\])?"
# The names that numpy prints, and array-protocol strings. No objects, and nothing else of np.dtype().
_SCALAR: Final = re.compile(
    r"bool|u?int(?:8|16|32|64)|float(?:16|32|64|96|128)|complex(?:64|128|192|256)"
    rf"|(?:datetime64|timedelta64){_UNIT}"
    rf"|[<>=|]?(?:b1|\?|[iu][1248]|f(?:2|4|8|12|16)|c(?:8|16|24|32)|[SV]\d{{1,10}}|U\d{{1,9}}|[mM]8{_UNIT})"
)
# What numpy prints of structures whose items are `numpy.record`, in front of the fields.
_RECORD: Final = "numpy.record"
_MAPPING_KEYS: Final = frozenset({"names", "formats", "offsets", "titles", "itemsize", "aligned"})


def can_carry(array: np.ndarray[Any, Any]) -> bool:
    """Whether the items have bytes of their own. Python objects have not, nor has numpy's variable text."""
    return not array.dtype.hasobject and array.dtype.kind in "biufcSUVmM"


def array_bytes(array: np.ndarray[Any, Any]) -> memoryview:
    """The items in C order; a copy only if the array is not laid out like that already."""
    contiguous = np.ascontiguousarray(array)
    if not contiguous.size or not contiguous.itemsize:
        return memoryview(b"")
    octets: Any = contiguous.reshape(-1).view(np.uint8)  # numpy declares itself a buffer from Python 3.12 on
    return memoryview(octets)


def printed_dtype(dtype: np.dtype[Any]) -> str:
    """The printed dtype; of a record array, what a plain structure of the same fields prints."""
    text = str(dtype)
    return ast.unparse(_without_records(text)) if _RECORD in text else text


def _without_records(text: str) -> ast.expr:
    """A printed structure, where numpy adds to records which class of scalars they have."""
    fields: ast.expr = _RecordRemover().visit(ast.parse(text, mode="eval").body)
    return fields


class _RecordRemover(ast.NodeTransformer):
    """Replaces ``(numpy.record, [...])`` by the list."""

    def visit_Tuple(self, node: ast.Tuple) -> ast.AST:
        self.generic_visit(node)
        match node.elts:
            case [ast.Attribute(ast.Name("numpy"), "record"), fields]:
                return fields
        return node


def read_array(data: Frame, dtype_text: object, shape: object) -> np.ndarray[Any, Any]:
    """The array that was described, as a view of `data`, so it cannot be written to.

    Raises:
        ValueError: if the parts do not fit together, or are not what numpy prints.
    """
    dtype, lengths = _read_dtype(dtype_text), _read_shape(shape)
    size = math.prod(lengths)
    if size * dtype.itemsize != len(data):
        raise ValueError(
            f"an array of shape {tuple(lengths)} and dtype {dtype} takes {size * dtype.itemsize} bytes,"
            f" not {len(data)}"
        )
    if not dtype.itemsize and size > _MOST_ITEMS_OF_NOTHING:
        raise ValueError(f"{size} items without any bytes")
    try:
        array: np.ndarray[Any, Any] = np.ndarray(lengths, dtype, data)
    except (TypeError, ValueError, MemoryError) as error:
        raise ValueError(f"an array of shape {tuple(lengths)} and dtype {dtype}: {error}") from None
    if size:
        _check_items(array)
    return array


def _read_shape(shape: object) -> list[int]:
    if type(shape) not in (list, tuple):
        raise ValueError(f"the shape of an array must be a list, not {type(shape).__name__}")
    assert isinstance(shape, Sequence)
    if len(shape) > _MAX_DIMENSIONS:
        raise ValueError(f"an array of {len(shape)} dimensions")
    lengths = [length for length in shape if type(length) is int and 0 <= length < 1 << 63]
    if len(lengths) != len(shape):
        raise ValueError("the shape of an array must be whole numbers, none of them negative")
    return lengths


def _read_dtype(text: object) -> np.dtype[Any]:
    if type(text) is not str:
        raise ValueError(f"the dtype of an array must be text, not {type(text).__name__}")
    if len(text) > _LONGEST_DTYPE:
        raise ValueError(f"a dtype of {len(text)} characters")
    return parse_dtype(text)


def parse_dtype(text: str) -> np.dtype[Any]:
    """The dtype that numpy prints like this. A structure is a new one, because its names can be changed.

    Raises:
        ValueError: if it prints none like this, or one with Python objects in it.
    """
    dtype: np.dtype[Any] = np.dtype(_described(text))
    return dtype


@lru_cache(maxsize=256)
def _described(text: str) -> Any:
    shown = text if len(text) <= 80 else f"{text[:80]}..."
    try:
        described = _checked(_parsed(text) if text[:1] in ("[", "{", "(") else text, 0)
        dtype: np.dtype[Any] = np.dtype(described)
        if _bytes_of_fields(dtype) > _MOST_OVERLAPS * dtype.itemsize:
            raise ValueError("too many fields overlap")
    except (ValueError, TypeError, SyntaxError, OverflowError, MemoryError, RecursionError) as error:
        raise ValueError(f"not a dtype that can be carried: {shown!r} ({error})") from None
    if dtype.hasobject:
        raise ValueError(f"not a dtype that can be carried: {shown!r}")
    return described


def _parsed(text: str) -> Any:
    return ast.literal_eval(_without_records(text) if _RECORD in text else text)


def _bytes_of_fields(dtype: np.dtype[Any]) -> int:
    """How many bytes of an item have to be looked at, if all fields are."""
    base, lengths = dtype.base, dtype.shape
    fields = [base[name] for name in base.names or ()]
    size = sum(map(_bytes_of_fields, fields)) if fields else base.itemsize
    return size * math.prod(lengths)


def _checked(described: object, depth: int) -> Any:
    """What was written, if numpy could have; otherwise ValueError."""
    if depth > _MAX_DEPTH:
        raise ValueError("structures in each other")
    if isinstance(described, str):
        if _SCALAR.fullmatch(described) is None:
            raise ValueError("unknown name")
        return described
    if isinstance(described, list):
        return [_checked_field(field, depth + 1) for field in described]
    if isinstance(described, dict) and described.keys() <= _MAPPING_KEYS:
        formats = described.get("formats")
        if not isinstance(formats, list):
            raise ValueError("no list of formats")
        return {**described, "formats": [_checked(one, depth + 1) for one in formats]}
    if isinstance(described, tuple) and len(described) == 2:  # a subarray: its items and its shape
        return _checked(described[0], depth + 1), _checked_lengths(described[1])
    raise ValueError("unknown form")


def _checked_field(field: object, depth: int) -> tuple[Any, ...]:
    if not isinstance(field, tuple) or len(field) not in (2, 3):
        raise ValueError("a field must be a name, a type and maybe a shape")
    name = field[0]
    names = name if isinstance(name, tuple) and len(name) == 2 else (name,)
    if not all(isinstance(one, str) for one in names):
        raise ValueError("the name of a field must be text")
    return (name, _checked(field[1], depth), *map(_checked_lengths, field[2:]))


def _checked_lengths(shape: object) -> tuple[int, ...]:
    lengths = shape if isinstance(shape, tuple) else (shape,)
    if not all(type(length) is int and 0 <= length < 1 << 31 for length in lengths):
        raise ValueError("the shape of a field must be whole numbers")
    return lengths


def _check_items(array: np.ndarray[Any, Any]) -> None:
    """Refuse bytes that are no value of the dtype: numpy would hand out broken bools and strings."""
    dtype = array.dtype
    if dtype.fields is not None:
        for name in dtype.names or ():
            _check_items(array[name])
    elif dtype.kind == "b":
        if array.view(np.uint8).max() > 1:
            raise ValueError("a bool array with items other than 0 and 1")
    elif dtype.kind == "U" and dtype.itemsize:
        order = dtype.byteorder.replace("|", "=")
        if np.frombuffer(array.tobytes(), f"{order}u4").max() > 0x10FFFF:
            raise ValueError("a text array with items beyond Unicode")
