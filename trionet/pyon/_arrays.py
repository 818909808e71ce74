"""numpy arrays and scalars as PYON carries them: shape, dtype string, base64 of the items in C order.

What profiling a 32 MB array showed, and what follows from it:

- Writing fresh memory costs more than base64 itself: the kernel hands out and clears every page, about
  15 ms for the 43 MB of text, against 2 ms for the conversion. So the conversions here work on pieces that
  stay in the processor's cache, and only the final result is ever allocated in full.
- The standard library's base64 is some 20 times slower than pybase64's vectorised one.

Nothing is allocated before the size that the shape and dtype ask for has been compared with the size of
the data that came, so a few bytes of input cannot ask for gigabytes.
"""

from __future__ import annotations

import binascii
import math
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, Final

import numpy as np
import pybase64

from trionet.pyon._errors import PyonDecodeError

# Bytes of array converted at a time: a multiple of 3, so that no piece but the last is padded, and small
# enough that it and its text stay in a core's L2 cache.
_PIECE: Final = 3 * 64 * 1024
_TEXT_PIECE: Final = _PIECE // 3 * 4

# numpy always allocates one item, even for an array without any, so the item size itself needs a bound
# where no data stands behind it.
_LARGEST_ITEM_OF_EMPTY: Final = 1 << 20
# Items of no bytes take no memory, but whoever makes a list of them would.
_MOST_ITEMS_OF_NOTHING: Final = 1 << 16
# numpy's own limit since 2.0; older versions allow 32.
_MAX_DIMENSIONS: Final = 64

# Array-protocol strings (numpy calls them `dtype.str`), and nothing else that np.dtype() would understand:
# no field lists, no sub-arrays, no objects. Long doubles (f12, f16, c24, c32) exist on some machines only.
_DTYPE = re.compile(
    r"[<>|=](?:b1|[iu][1248]|f(?:[248]|12|16)|c(?:8|16|24|32)|[SV]\d{1,10}|U\d{1,9}"
    r"|[mM]8(?:\[(?:\d{1,9})?(?:Y|M|W|D|h|m|s|ms|us|ns|ps|fs|as|generic)\])?)"
)

Base64 = str | bytes


def array_bytes(array: np.ndarray[Any, Any]) -> memoryview:
    """The items in C order; a copy only if the array is not laid out like that already.

    Raises:
        TypeError: for items that are Python objects, which have no bytes of their own.
        ValueError: for datetime64 and timedelta64 items: scalars of these exist in PYON, arrays do not.
    """
    dtype = array.dtype
    if dtype.hasobject:
        raise TypeError("numpy arrays with object dtype have no PYON form")
    if dtype.kind not in "biufcSUV":
        raise ValueError(f"numpy arrays of dtype {dtype} have no PYON form")
    contiguous = np.ascontiguousarray(array)
    # A view as bytes, because structured dtypes and single Unicode items have no buffer format of their own.
    return _bytes_of(contiguous) if contiguous.size and contiguous.itemsize else memoryview(b"")


def _bytes_of(array: np.ndarray[Any, Any]) -> memoryview:
    octets: Any = array.reshape(-1).view(np.uint8)  # numpy declares itself a buffer from Python 3.12 on
    return memoryview(octets)


def base64_pieces(data: memoryview) -> Iterator[str]:
    """Base64 text of `data`, in pieces that are cheap to join."""
    for start in range(0, len(data), _PIECE):
        yield pybase64.b64encode_as_string(data[start : start + _PIECE])


def base64_byte_pieces(data: memoryview) -> Iterator[bytes]:
    """The same as ASCII bytes."""
    for start in range(0, len(data), _PIECE):
        yield pybase64.b64encode(data[start : start + _PIECE])


def encode_base64(data: bytes | memoryview) -> str:
    """Base64 text of `data`: standard alphabet, padded."""
    return pybase64.b64encode_as_string(data)


def decode_base64(text: Base64) -> bytes:
    """The bytes that base64 text stands for.

    Raises:
        PyonDecodeError: for any character outside the standard alphabet, or wrong padding.
    """
    try:
        return pybase64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise PyonDecodeError(f"invalid base64: {error}") from None


@lru_cache(maxsize=256)
def parse_dtype(text: str) -> np.dtype[Any]:
    """The dtype that an array-protocol string names.

    Raises:
        PyonDecodeError: if it is not one, or names a type that PYON does not carry.
    """
    if _DTYPE.fullmatch(text) is None:
        raise PyonDecodeError(f"dtype {text[:40]!r} is not one that PYON carries")
    try:
        return np.dtype(text)
    except (TypeError, ValueError, OverflowError) as error:
        raise PyonDecodeError(f"dtype {text[:40]!r}: {error}") from None


def decode_array(
    shape: Sequence[object], dtype_text: object, payload: Base64, start: int = 0, end: int | None = None
) -> np.ndarray[Any, Any]:
    """Build the array described by the three arguments of `nparray`.

    Args:
        shape: The lengths, as decoded, not yet checked.
        dtype_text: The dtype string, as decoded, not yet checked.
        payload: Text that holds the base64 of the items in C order.
        start: Where the base64 begins in `payload`, so that a long message need not be copied to cut it out.
        end: Where it ends; the end of `payload` by default.

    Returns:
        A fresh array: writable, C-contiguous, owner of its memory.

    Raises:
        PyonDecodeError: if the arguments do not fit together.
    """
    dtype, lengths = _checked_dtype(dtype_text), _checked_shape(shape)
    stop = len(payload) if end is None else end
    expected = math.prod(lengths) * dtype.itemsize
    given = _decoded_size(payload, start, stop)
    if given != expected:
        raise PyonDecodeError(
            f"an array of shape {tuple(lengths)} and dtype {dtype.str} takes {expected} bytes, not {given}"
        )
    if expected == 0 and dtype.itemsize > _LARGEST_ITEM_OF_EMPTY:
        raise PyonDecodeError(f"an empty array with items of {dtype.itemsize} bytes")
    if dtype.itemsize == 0 and math.prod(lengths) > _MOST_ITEMS_OF_NOTHING:
        raise PyonDecodeError(f"{math.prod(lengths)} items without any bytes")
    try:
        # Not np.empty(), which makes the items of |S0 and <U0 longer, out of memory that held other things.
        array: np.ndarray[Any, Any] = np.ndarray(lengths, dtype)
    except (ValueError, MemoryError) as error:
        raise PyonDecodeError(f"shape {tuple(lengths)}: {error}") from None
    if expected:
        _fill(_bytes_of(array), payload, start, stop)
        _check_items(array)
    return array


def decode_scalar(dtype_text: object, payload: Base64) -> np.generic:
    """Build the numpy scalar described by the two arguments of `npscalar`.

    Raises:
        PyonDecodeError: if the data is not exactly one item.
    """
    dtype, data = _checked_dtype(dtype_text), decode_base64(payload)
    if len(data) != dtype.itemsize:
        raise PyonDecodeError(f"a {dtype.str} scalar takes {dtype.itemsize} bytes, not {len(data)}")
    # An item of no bytes (|S0) cannot be read from a buffer; numpy can only make it.
    item = np.frombuffer(data, dtype) if data else np.zeros(1, dtype)
    _check_items(item)
    scalar: np.generic = item[0]
    return scalar


def _checked_dtype(dtype_text: object) -> np.dtype[Any]:
    if type(dtype_text) is not str:
        raise PyonDecodeError(f"a dtype must be a string, not {type(dtype_text).__name__}")
    return parse_dtype(dtype_text)


def _checked_shape(shape: Sequence[object]) -> list[int]:
    if type(shape) not in (list, tuple):
        raise PyonDecodeError(f"a shape must be a list, not {type(shape).__name__}")
    if len(shape) > _MAX_DIMENSIONS:
        raise PyonDecodeError(f"an array of {len(shape)} dimensions")
    lengths = [length for length in shape if type(length) is int and 0 <= length < 1 << 63]
    if len(lengths) != len(shape):
        raise PyonDecodeError("a shape must be whole numbers, none of them negative or beyond 63 bits")
    return lengths


def _decoded_size(payload: Base64, start: int, stop: int) -> int:
    """How many bytes the base64 in payload[start:stop] must decode to, by its length and padding."""
    length = stop - start
    if length % 4:
        raise PyonDecodeError(f"invalid base64: {length} characters are no multiple of 4")
    tail = payload[max(start, stop - 2) : stop]
    equals: Any = b"=" if isinstance(tail, bytes) else "="
    return length // 4 * 3 - tail.count(equals)


def _fill(target: memoryview, payload: Base64, start: int, stop: int) -> None:
    filled = 0
    for piece_start in range(start, stop, _TEXT_PIECE):
        piece = decode_base64(payload[piece_start : min(piece_start + _TEXT_PIECE, stop)])
        target[filled : filled + len(piece)] = piece
        filled += len(piece)
    if filled != len(target):  # a piece before the last ended in padding
        raise PyonDecodeError("invalid base64: padding before the end")


def _check_items(array: np.ndarray[Any, Any]) -> None:
    """Refuse bytes that are no value of the dtype: numpy would hand out broken bools and strings."""
    if array.dtype.kind == "b":
        if array.view(np.uint8).max() > 1:
            raise PyonDecodeError("a bool array with items other than 0 and 1")
    elif array.dtype.kind == "U" and array.itemsize:
        code_points = np.frombuffer(array.tobytes(), array.dtype.byteorder.replace("|", "=") + "u4")
        if code_points.max() > 0x10FFFF:
            raise PyonDecodeError("a string array with items beyond Unicode")
