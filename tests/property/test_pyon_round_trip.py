"""Every value that PYON carries comes back the same: type, content, sign of zero, NaN, byte order."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.pyon.values import NUMBER_SCALARS, arrays, numpy_scalars, plain_values, pyon_values, same
from trionet import pyon
from trionet.pyon import v1

# In v2, numpy's float64 and str_ come back as Python's own.
v2_values = pyon_values(
    st.one_of(arrays, numpy_scalars(f"b1 {NUMBER_SCALARS} S5 M8[ns] m8[D]".replace(" f8", ""))),
    ordered_dicts=False,
)
v1_values = pyon_values(st.one_of(arrays, numpy_scalars(NUMBER_SCALARS)), ordered_dicts=True)
ROUND = settings(max_examples=200, deadline=None)


def joined(value: str) -> str:
    """Text with its pairs of lone surrogates joined, as both versions read their escapes."""
    return value.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")


@ROUND
@given(v2_values)
def test_v2(value: Any) -> None:
    text = pyon.encode(value)
    assert text.isascii()
    assert "\n" not in text
    assert pyon.encode_bytes(value) == text.encode()
    for form in (text, text.encode(), pyon.encode(value, pretty=True)):
        assert same(pyon.decode(form), value)


@ROUND
@given(v1_values)
def test_v1(value: Any) -> None:
    text = v1.encode(value)
    assert "\n" not in text
    for form in (text, text.encode()):
        assert same(v1.decode(form), value)
    assert same(v1.decode(v1.encode(value, pretty=True)), value, ordered=False)


@ROUND
@given(plain_values)
def test_plain_values_in_both_versions(value: Any) -> None:
    assert same(pyon.decode(pyon.encode(value)), value)
    assert same(v1.decode(v1.encode(value)), value)


@ROUND
@given(st.text(st.characters(codec=None)))
def test_text(text: str) -> None:
    assert pyon.decode(pyon.encode(text)) == joined(text)
    assert v1.decode(v1.encode(text)) == joined(text)
    assert v1.decode(v1.encode(slice(text))).stop == joined(text)
