"""PYON v1 against what upstream was recorded to write and read."""

from __future__ import annotations

import math
from collections import OrderedDict
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from tests.pyon.values import assert_fresh, same, samples, type_name, value_of
from tests.recorded_repr import recorded_repr
from trionet.pyon import v1
from trionet.pyon._v1_parse import parse

WRITTEN = [pytest.param(sample, id=sample["expr"]) for sample in samples() if sample["v1"] is not None]
REFUSED = [pytest.param(sample, id=sample["expr"]) for sample in samples() if sample["v1"] is None]

# Where upstream's evaluator loses something that the text still has.
READ_BETTER = {"'\\U0001f600'", "complex(inf, -0.0)"}


@pytest.mark.parametrize("sample", WRITTEN)
def test_encode(sample: dict[str, Any]) -> None:
    value = value_of(sample)
    assert v1.encode(value) == sample["v1"]
    assert v1.encode(value, pretty=True) == sample.get("v1_pretty", sample["v1"])


@pytest.mark.parametrize("sample", WRITTEN)
@pytest.mark.parametrize("read", [v1.decode, lambda text: v1.decode(text.encode()), parse])
def test_decode(sample: dict[str, Any], read: Any) -> None:
    decoded = read(sample["v1"])
    assert type_name(decoded) == sample["v1_decoded_type"]
    if sample["expr"] in READ_BETTER:
        assert same(decoded, value_of(sample))
    else:
        assert recorded_repr(decoded) == sample["v1_decoded_repr"]
    flags = sample.get("v1_decoded_array")
    if flags:
        assert_fresh(decoded)
        assert decoded.dtype.str == flags["dtype"]
        assert list(decoded.shape) == flags["shape"]
    if "v1_pretty" in sample:
        assert read(sample["v1_pretty"]) == decoded


@pytest.mark.parametrize("sample", REFUSED)
def test_encode_refuses_what_upstream_refuses(sample: dict[str, Any]) -> None:
    # Upstream writes an array of objects as raw pointers: the one value where we must differ.
    error = sample.get("v1_error", "TypeError:").partition(":")[0]
    for pretty in (False, True):
        with pytest.raises({"TypeError": TypeError, "ValueError": ValueError}[error], match="PYON"):
            v1.encode([value_of(sample)], pretty=pretty)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (complex(-0.0, 1), "(-0+1j)"),
        (complex(0.0, -0.0), "-0j"),
        (complex(-0.0, -0.0), "(-0-0j)"),
        (complex(-0.0, -2.5), "(-0-2.5j)"),
        (complex(0, math.inf), "infj"),
        (complex(0, -math.inf), "-infj"),
        (complex(math.nan, math.nan), "(nan+nanj)"),
        (complex(-math.inf, 2), "(-inf+2j)"),
        (complex(1e16, 1e-7), "(1e+16+1e-07j)"),
        (slice("a", b"b", None), "slice('a', b'b', None)"),
        (slice((1,), [1.5], {1: 2}), "slice((1,), [1.5], {1: 2})"),
        (slice(math.inf, math.nan, -math.inf), "slice(inf, nan, -inf)"),
        (slice(Fraction(1, 2), 1j, complex(-0.0, 1)), "slice(Fraction(1, 2), 1j, (-0+1j))"),
        (slice(True, {1, 2}, "it's"), 'slice(True, {1, 2}, "it\'s")'),
        (
            slice(OrderedDict([(1, 2)]), slice(1, 2, 3), "\U0001f600\ud800é\x7f"),
            "slice(OrderedDict([(1, 2)]), slice(1, 2, 3), '\U0001f600\\ud800é\\x7f')",
        ),
        ([slice(OrderedDict()), OrderedDict()], "[slice(None, OrderedDict(), None), OrderedDict([])]"),
        (b"it's", 'b"it\'s"'),
        (b"a\"'", "b'a\"\\''"),
        (list(range(9)), "[0, 1, 2, 3, 4, 5, 6, 7, 8]"),
        ([*range(8), math.inf], "[0, 1, 2, 3, 4, 5, 6, 7, inf]"),
        (
            [(None, True), *[False] * 8],
            "[(null, true), false, false, false, false, false, false, false, false]",
        ),
        (np.float64(-0.0), 'npscalar("<f8", b"AAAAAAAAAIA=")'),
    ],
)
def test_more_that_upstream_writes(value: Any, text: str) -> None:
    """Seen against upstream, but not in the table."""
    assert v1.encode(value) == text
    assert same(v1.decode(text), value)
    assert same(parse(text), value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({1: {2: 3, 4: {8: 9, 0: 1}}}, "{1: {\n    2: 3,\n    4: {\n        8: 9,\n        0: 1\n    }\n}}"),
        (
            [{1: 2, 3: 4}, ({"b": 1, "a": (2, {"z": 1, "y": []})},)],
            '[{\n    1: 2,\n    3: 4\n}, ({\n    "a": (2, {\n        "y": [],\n        "z": 1\n    }),\n'
            '    "b": 1\n}, )]',
        ),
        ({"b": 1, 2: 2}, '{\n    "b": 1,\n    2: 2\n}'),
        ({"only": {}}, '{"only": {}}'),
        (slice({1: 2, 3: 4}, None, None), "slice({1: 2, 3: 4}, None, None)"),
        (
            OrderedDict([("b", 1), ("a", {1: 2, 3: 4})]),
            'OrderedDict([("b", 1), ("a", {\n    1: 2,\n    3: 4\n})])',
        ),
    ],
)
def test_pretty_form(value: Any, text: str) -> None:
    assert v1.encode(value, pretty=True) == text
    assert v1.decode(text) == value


def test_inside_a_slice_everything_stays_readable() -> None:
    """Upstream writes numpy's own repr, `set()` and whatever else there, and cannot read it."""
    value = slice(np.int32(3), np.array([1, 2]), [(1,), set(), "a"])
    text = v1.encode(value)
    assert text.startswith('slice(npscalar("<i4", b"AwAAAA=="), nparray((2,), ')
    decoded = v1.decode(text)
    assert same(decoded.start, np.int32(3))
    assert same(decoded.stop, np.array([1, 2]))
    assert decoded.step == [(1,), {}, "a"]
    assert v1.encode([slice(1, 2, None), True]) == "[slice(1, 2, None), true]"
    with pytest.raises(TypeError, match="range"):
        v1.encode(slice(range(3)))


def test_ints_beyond_pythons_limit_are_refused() -> None:
    for value in (10**5000, [1] * 8 + [10**5000], slice(10**5000)):
        with pytest.raises(ValueError, match="digits"):
            v1.encode(value)


@pytest.mark.parametrize("pretty", [False, True])
def test_circular_and_too_deep_values_are_refused(pretty: bool) -> None:
    value: list[Any] = []
    value.append({"a": (value, slice(value))})
    with pytest.raises(ValueError, match="contains itself"):
        v1.encode(value, pretty=pretty)
