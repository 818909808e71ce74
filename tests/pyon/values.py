"""What the PYON tests share: the recorded samples, a strict comparison, and strategies for values."""

from __future__ import annotations

import builtins
import json
import math
import struct
from collections import OrderedDict
from fractions import Fraction
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

SAMPLES_FILE = Path(__file__).parents[1] / "data" / "pyon_samples.json"
_SCOPE = {
    "__builtins__": {
        name: getattr(builtins, name)
        for name in (
            *("Ellipsis", "bool", "bytearray", "bytes", "complex", "float", "frozenset", "int", "memoryview"),
            *("object", "range", "set", "slice", "str", "tuple"),
        )
    },
    "np": np,
    "Fraction": Fraction,
    "OrderedDict": OrderedDict,
    "inf": math.inf,
    "nan": math.nan,
}


@cache
def samples() -> list[dict[str, Any]]:
    """The recorded table, one dict for each value."""
    table: list[dict[str, Any]] = json.loads(SAMPLES_FILE.read_text())["samples"]
    assert len(table) > 100
    return table


def value_of(sample: dict[str, Any]) -> Any:
    """The value that a sample is about. The expressions are our own file's, not a peer's."""
    return eval(sample["expr"], dict(_SCOPE))


def type_name(value: object) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"


def same(left: Any, right: Any, ordered: bool = True) -> bool:
    """Whether two values are the same in type and content, down to the sign of a zero and NaN.

    Without `ordered` the order of a dict with only str keys does not matter.
    """
    inner = partial(same, ordered=ordered)
    if type(left) is not type(right):
        return False
    match left:
        case np.ndarray():
            return bool(
                left.dtype == right.dtype
                and left.dtype.str == right.dtype.str
                and left.shape == right.shape
                and left.tobytes() == right.tobytes()
            )
        case np.generic():
            return bool(left.dtype.str == right.dtype.str and left.tobytes() == right.tobytes())
        case float():
            return struct.pack("d", left) == struct.pack("d", right) or (left != left and right != right)
        case complex():
            return same(left.real, right.real) and same(left.imag, right.imag)
        case dict() if type(left) is dict and not ordered and all(type(key) is str for key in left):
            return left.keys() == right.keys() and all(inner(left[key], right[key]) for key in left)
        case dict():
            return len(left) == len(right) and all(map(inner, left.items(), right.items()))
        case list() | tuple():
            return len(left) == len(right) and all(map(inner, left, right))
        case set():
            return len(left) == len(right) and all(
                any(inner(item, other) for other in right) for item in left
            )
        case slice():
            return all(inner(getattr(left, name), getattr(right, name)) for name in ("start", "stop", "step"))
    return bool(left == right)


def assert_fresh(array: Any) -> None:
    """An array that comes out of PYON belongs to its receiver."""
    assert type(array) is np.ndarray
    assert array.flags.writeable
    assert array.flags.owndata
    assert array.flags.c_contiguous


def colliding_keys() -> tuple[tuple[int, int], np.int64]:
    """A tuple and a numpy scalar of the same hash."""
    key = next(key for key in ((n, n) for n in range(1000)) if abs(hash(key)) < 2**60)
    assert hash(np.int64(hash(key))) == hash(key)
    return key, np.int64(hash(key))


#: dtype strings of arrays in all sizes and both byte orders.
ARRAY_DTYPES = (
    *("|b1", "|i1", "|u1", "|S1", "|S5", "|V3", "|S0", "<U0", "|V0"),
    *(
        order + code
        for order in "<>"
        for code in ("i2", "i4", "i8", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16", "U1", "U4")
    ),
)

any_text = st.text(st.characters(codec=None), max_size=12)  # lone surrogates, too
plain_scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), any_text)
plain_values = st.recursive(
    plain_scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=10), st.dictionaries(any_text, inner, max_size=6), st.lists(st.floats())
    ),
    max_leaves=30,
)
fractions = st.builds(Fraction, st.integers(), st.integers(min_value=1))
arrays = hnp.arrays(
    st.sampled_from([np.dtype(text) for text in ARRAY_DTYPES if text[1:] not in ("S0", "U0", "V0", "V3")]),
    hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3),
)


def numpy_scalars(dtypes: str) -> st.SearchStrategy[Any]:
    """Scalars of these dtypes, given as text with spaces."""
    return st.sampled_from(dtypes.split()).flatmap(
        lambda text: hnp.arrays(np.dtype(text), (1,)).map(lambda array: array[0])
    )


NUMBER_SCALARS = "i1 i2 i4 i8 u1 u2 u4 u8 f2 f4 c8 c16"


def pyon_values(numpy_leaves: st.SearchStrategy[Any], ordered_dicts: bool) -> st.SearchStrategy[Any]:
    """Values of every Python type that PYON carries.

    Args:
        numpy_leaves: Values of numpy to have inside.
        ordered_dicts: Whether there are OrderedDicts, whose type v2 loses.
    """
    hashable = st.one_of(
        plain_scalars,
        st.complex_numbers(),
        st.binary(max_size=8),
        fractions,
        st.tuples(st.integers(), any_text),
    )
    leaves = st.one_of(hashable, numpy_leaves)
    ordered = (
        st.dictionaries(hashable, leaves, max_size=3).map(OrderedDict) if ordered_dicts else st.nothing()
    )
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.lists(inner, max_size=10),
            st.lists(inner, max_size=4).map(tuple),
            st.dictionaries(hashable, inner, max_size=4),
            st.dictionaries(any_text, inner, max_size=4),
            st.sets(hashable, min_size=1, max_size=4),
            st.builds(slice, inner, inner, inner),
            ordered,
        ),
        max_leaves=20,
    )
