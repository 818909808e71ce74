"""PYON values for tests: a strategy that makes them, and a comparison that forgives nothing."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
from hypothesis import strategies as st


def identical(left: Any, right: Any) -> bool:
    """Equal in type and value, everywhere inside; a NaN equals itself and -0.0 differs from 0.0."""
    if type(left) is not type(right):
        return False
    if isinstance(left, np.ndarray):
        return bool(
            left.dtype == right.dtype and left.shape == right.shape and left.tobytes() == right.tobytes()
        )
    if isinstance(left, np.generic):
        return bool(left.dtype == right.dtype and left.tobytes() == right.tobytes())
    if isinstance(left, (list, tuple)):
        return len(left) == len(right) and all(map(identical, left, right))
    if isinstance(left, dict):
        return identical([*left], [*right]) and identical([*left.values()], [*right.values()])
    if isinstance(left, slice):
        return identical((left.start, left.stop, left.step), (right.start, right.stop, right.step))
    if isinstance(left, (float, complex)):
        return repr(left) == repr(right)
    return bool(left == right)


def _array(values: list[int], dtype: str) -> np.ndarray[Any, Any]:
    return np.array(values, dtype)


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=True),
    st.text(max_size=8),
    st.binary(max_size=8),
    st.complex_numbers(allow_nan=False, allow_infinity=False),
    st.fractions(),
    st.builds(np.int32, st.integers(-(2**31), 2**31 - 1)),
    st.builds(np.float32, st.floats(width=32, allow_nan=False)),
    st.builds(
        _array, st.lists(st.integers(0, 100), max_size=4), st.sampled_from(["<i4", "|u1", ">f8", "<c8"])
    ),
)

# Hashable, and no two of them equal that are of different types (1 and True, say).
keys = st.one_of(st.none(), st.integers(2, 99), st.text(max_size=4), st.tuples(st.integers(2, 9)))

#: Values that both versions of PYON carry without loss: no empty set, it is a dict in v1.
pyon_values = st.recursive(
    scalars | st.builds(slice, st.none() | st.integers(), st.none() | st.integers(), st.none()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.text(max_size=4), inner, max_size=3),
        st.dictionaries(keys, inner, max_size=3),
        st.sets(keys, min_size=1, max_size=3),
    ),
    max_leaves=8,
)

#: A few of every kind, for tests that try all.
SAMPLES: tuple[Any, ...] = (
    *(
        None,
        True,
        0,
        -1,
        2**80,
        0.1,
        -0.0,
        1e16,
        float("nan"),
        float("-inf"),
        "",
        "plain",
        'a"b\\',
        "\u269b\x7f",
    ),
    *(
        b"",
        b"\x00\xff",
        (),
        (1,),
        [],
        [1, [2]],
        {},
        {"a": {"b": (1,)}},
        {2: "b", (1,): None},
        {1},
        slice(1, None, 2),
    ),
    *(1 - 2j, Fraction(-3, 4), np.int8(5), np.array([1.5, 2.5]), np.zeros((0, 2)), {"__json": "class__"}),
)
