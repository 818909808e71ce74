"""PYON v2 against what upstream was recorded to write and read."""

from __future__ import annotations

from collections import defaultdict
from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np
import pytest

from tests.pyon.values import assert_fresh, same, samples, type_name, value_of
from tests.recorded_repr import recorded_repr
from trionet import pyon

WRITTEN = [pytest.param(sample, id=sample["expr"]) for sample in samples() if sample["v2"] is not None]
REFUSED = [pytest.param(sample, id=sample["expr"]) for sample in samples() if sample["v2"] is None]


@pytest.mark.parametrize("sample", WRITTEN)
def test_encode(sample: dict[str, Any]) -> None:
    value = value_of(sample)
    assert pyon.encode(value) == sample["v2"]
    assert pyon.encode_bytes(value, b"<", b">\n") == b"<" + sample["v2"].encode() + b">\n"


@pytest.mark.parametrize("sample", WRITTEN)
def test_encode_pretty(sample: dict[str, Any]) -> None:
    assert pyon.encode(value_of(sample), pretty=True) == sample.get("v2_pretty", sample["v2"])


@pytest.mark.parametrize("sample", WRITTEN)
@pytest.mark.parametrize("form", ["v2", "v2_pretty"])
@pytest.mark.parametrize("as_bytes", [False, True])
def test_decode(sample: dict[str, Any], form: str, as_bytes: bool) -> None:
    text = sample.get(form, sample["v2"])
    decoded = pyon.decode(text.encode() if as_bytes else text)
    assert type_name(decoded) == sample["v2_decoded_type"]
    assert recorded_repr(decoded) == sample["v2_decoded_repr"]
    flags = sample.get("v2_decoded_array")
    if flags:
        assert_fresh(decoded)
        assert decoded.dtype.str == flags["dtype"]
        assert list(decoded.shape) == flags["shape"]


@pytest.mark.parametrize("sample", REFUSED)
def test_encode_refuses_what_upstream_refuses(sample: dict[str, Any]) -> None:
    for pretty in (False, True):
        with pytest.raises((TypeError, ValueError), match="PYON"):
            pyon.encode([value_of(sample)], pretty=pretty)
    with pytest.raises((TypeError, ValueError), match="PYON"):
        pyon.encode_bytes(value_of(sample))
    # The reserved key is an assertion upstream, which an optimised interpreter drops.
    error = sample["v2_error"].partition(":")[0]
    expected = {"TypeError": TypeError, "ValueError": ValueError, "AssertionError": ValueError}[error]
    with pytest.raises(expected, match="PYON"):
        pyon.encode(value_of(sample))


def test_subclasses_are_written_as_their_base() -> None:
    class Name(str):
        pass

    class Row(list[int]):
        pass

    class Pair(NamedTuple):
        left: int
        right: int

    class Level(IntEnum):
        LOW = 3

    value = {
        Name("k"): Row([1]),
        "f": np.float64(0.5),
        "p": Pair(1, 2),
        "l": Level.LOW,
        "d": defaultdict(int, {1: 2}),
    }
    expected = {"k": [1], "f": 0.5, "p": (1, 2), "l": 3, "d": {1: 2}}
    for pretty in (False, True):
        assert pyon.encode(value, pretty=pretty) == pyon.encode(expected, pretty=pretty)
    assert same(pyon.decode(pyon.encode(value)), expected)


def test_long_lists_of_scalars() -> None:
    value = (list(range(20)), [None, True, "é", 1e16, float("inf"), -0.0, 2**70, float("nan")])
    text = pyon.encode(value)
    assert text.endswith(r'[null,true,"\u00e9",1e+16,Infinity,-0.0,1180591620717411303424,NaN]]]]}')
    assert same(pyon.decode(text), value)


@pytest.mark.parametrize("value", [[1, 2**20000], {"a": (10**5000,)}], ids=["plain", "classes"])
def test_ints_beyond_pythons_limit_are_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="digits"):
        pyon.encode(value)


def circular(depth: int) -> list[Any]:
    value: list[Any] = []
    value.append(value)
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize("pretty", [False, True])
def test_circular_and_too_deep_values_are_refused(pretty: bool) -> None:
    for value in (circular(0), (circular(3),), {"a": circular(1)}):
        with pytest.raises(ValueError, match="contains itself"):
            pyon.encode(value, pretty=pretty)
        with pytest.raises(ValueError, match="contains itself"):
            pyon.encode_bytes(value)


def test_a_scalar_with_object_fields_never_leaves_as_pointers() -> None:
    scalar = np.array([({},)], dtype=[("field", object)])[0]
    for encode in (pyon.encode, pyon.encode_bytes):
        with pytest.raises(TypeError, match="object"):
            encode(scalar)


@pytest.mark.parametrize(("scalar", "dtype"), [(np.bytes_(b""), "|S0"), (np.void(b""), "|V0")])
def test_scalars_without_bytes(scalar: np.generic, dtype: str) -> None:
    """Upstream writes them, but cannot read them."""
    text = f'{{"__jsonclass__":["npscalar",["{dtype}",""]]}}'
    assert pyon.encode(scalar) == text
    assert same(pyon.decode(text), scalar)
