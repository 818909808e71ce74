"""The five calls that PYON v1 text may contain, built from the values of their arguments."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from fractions import Fraction
from typing import Any, Final, NamedTuple

import numpy as np

from trionet.pyon import _arrays
from trionet.pyon._errors import PyonDecodeError
from trionet.pyon._hashed import make_dict


class Base64Span(NamedTuple):
    """Where in the text the base64 of a large array stands: it is decoded there, not copied."""

    text: str
    start: int
    end: int


def build_call(name: str, args: list[Any]) -> Any:
    """What calling `name`, one of `CALLS`, with these arguments stands for.

    Raises:
        PyonDecodeError: if they do not fit.
    """
    fewest, most, build = CALLS[name]
    if not fewest <= len(args) <= most:
        wanted = str(most) if fewest == most else f"{fewest} to {most}"
        raise PyonDecodeError(f"{name} takes {wanted} argument(s), not {len(args)}")
    return build(*args)


def _build_fraction(numerator: Any, denominator: Any = 1) -> Fraction:
    if type(numerator) is not int or type(denominator) is not int or denominator == 0:
        raise PyonDecodeError("a Fraction takes whole numbers, the second not zero")
    return Fraction(numerator, denominator)


def _build_ordered_dict(content: Any = ()) -> OrderedDict[Any, Any]:
    # Newer Pythons write the repr with a dict: OrderedDict({'a': 1}).
    pairs = list(content.items()) if type(content) is dict else content
    if type(pairs) not in (list, tuple) or not all(type(pair) in (list, tuple) for pair in pairs):
        raise PyonDecodeError("an OrderedDict takes a list of pairs")
    if not all(len(pair) == 2 for pair in pairs):
        raise PyonDecodeError("an OrderedDict takes a list of pairs")
    return OrderedDict(make_dict([key for key, _ in pairs], [value for _, value in pairs]))


def _build_array(shape: Any, dtype: Any, data: Any) -> np.ndarray[Any, Any]:
    if type(data) is Base64Span:
        return _arrays.decode_array(shape, dtype, *data)
    return _arrays.decode_array(shape, dtype, _checked_base64(data))


def _build_scalar(dtype: Any, data: Any) -> np.generic:
    return _arrays.decode_scalar(dtype, _checked_base64(data))


def _checked_base64(data: Any) -> str | bytes:
    if type(data) is str or type(data) is bytes:
        return data
    raise PyonDecodeError(f"expected base64 as bytes or text, not {type(data).__name__}")


#: Fewest and most arguments, and what builds the value.
CALLS: Final[dict[str, tuple[int, int, Callable[..., Any]]]] = {
    "slice": (1, 3, slice),
    "Fraction": (1, 2, _build_fraction),
    "OrderedDict": (0, 1, _build_ordered_dict),
    "nparray": (3, 3, _build_array),
    "npscalar": (2, 2, _build_scalar),
}
