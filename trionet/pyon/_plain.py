"""Values that are JSON already, written by msgspec.

Profiling the encoder showed two costs: walking every value in Python to find the few that JSON cannot
carry, and formatting, most of all of floats. Nearly all lab data is JSON already, so:

- `_survey` proves it level by level, not value by value: all items of all containers of one depth are
  chained and typed with a few calls into C, about 15 ns an item;
- msgspec writes such values 7 to 10 times faster than the standard library, and reads them twice as fast.

Where msgspec's text could differ from Python's (floats that are not finite or have an exponent, characters
above ASCII, DEL) the text itself shows it, at the price of a few searches; then the standard library writes
the value, which is slower and right. One number such as 1e-6 is enough for that: to repair it in msgspec's
text took longer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from itertools import chain
from typing import Any, Final

import msgspec

from trionet.pyon._classes import CLASS_KEY

_PLAIN_TYPES: Final = frozenset({type(None), bool, int, float, str, list, dict})
_STR_ONLY: Final = frozenset({str})

# Up to so many items, looking at each costs less than what is made for whole levels.
_FEW: Final = 8
_FEW_LEVELS: Final = 3

# A value that contains itself has no last level, and may double at each one.
_MOST_LEVELS: Final = 64
_MOST_CONTAINERS: Final = 1_000_000

# An exponent; written so that the search can leap from one "e" to the next.
_EXPONENT: Final = re.compile(rb"e(?<=[0-9]e)")

#: The standard library's form of plain values.
compact: Callable[[Any], str] = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode

_to_json = msgspec.json.Encoder().encode
_from_json = msgspec.json.Decoder().decode


def encode_plain(value: list[Any] | dict[Any, Any]) -> bytes | None:
    """JSON of a container, as Python writes it; None if it holds anything that JSON cannot carry."""
    survey = (False, 0) if _is_simple(value) else _survey(value)
    if survey is None:
        return None
    has_floats, nones = survey
    try:
        text = _to_json(value)
    except (UnicodeEncodeError, ValueError, OverflowError, TypeError):  # lone surrogates, int beyond limits
        return compact(value).encode()
    if text.isascii() and text.find(b"\x7f") < 0 and (not has_floats or _floats_as_python(text, nones)):
        return text
    return compact(value).encode()


def _survey(value: list[Any] | dict[Any, Any]) -> tuple[bool, int] | None:
    """Whether there are floats, and how many None: or None if not everything inside is plain."""
    dicts: list[dict[Any, Any]] = []
    lists: list[list[Any]] = []
    (dicts if type(value) is dict else lists).append(value)  # type: ignore[arg-type]
    has_floats, nones = False, 0
    for _ in range(_MOST_LEVELS):
        # Rows of a table share their keys, so few different tuples remain to be looked at.
        for keys in set(map(tuple, dicts)):
            if (keys and {*map(type, keys)} != _STR_ONLY) or CLASS_KEY in keys:
                return None
        if len(lists) == 1 and not dicts:
            values = lists[0]
        else:
            values = [*chain.from_iterable(map(dict.values, dicts)), *chain.from_iterable(lists)]
        types = {*map(type, values)}
        if not types <= _PLAIN_TYPES:
            return None
        has_floats = has_floats or float in types
        if type(None) in types:
            nones += values.count(None)
        dicts = [item for item in values if type(item) is dict] if dict in types else []
        lists = [item for item in values if type(item) is list] if list in types else []
        if not dicts and not lists:
            return has_floats, nones
        if len(dicts) + len(lists) > _MOST_CONTAINERS:
            return None
    return None


def _is_simple(value: Any, levels: int = _FEW_LEVELS) -> bool:
    """Whether this is a small container, and of small ones, with plain items and no float with an exponent.

    Nearly all messages are. False says nothing.
    """
    if len(value) > _FEW or not levels:
        return False
    items = value
    if type(value) is dict:
        if CLASS_KEY in value:
            return False
        for key in value:
            if type(key) is not str:
                return False
        items = value.values()
    for item in items:
        kind = type(item)
        if kind is str or kind is int or kind is bool or item is None:
            continue
        if kind is float:
            if not (1e-4 <= item < 1e16 or -1e16 < item <= -1e-4 or item == 0):
                return False
        elif not ((kind is list or kind is dict) and _is_simple(item, levels - 1)):
            return False
    return True


def _floats_as_python(text: bytes, nones: int) -> bool:
    """Whether all floats stand in the text as Python writes them.

    msgspec writes null for those that are not finite, `1e16` for Python's `1e+16`, and `0.00001` for
    `1e-05`. A string that happens to look like one of these only costs time.
    """
    return b"0.0000" not in text and _EXPONENT.search(text) is None and text.count(b"null") == nones


def decode_plain(text: str | bytes) -> Any:
    """Read JSON that holds no class.

    Raises:
        ValueError: (RecursionError, too) for anything that the standard library should have a look at: it
            reads more (NaN, lone surrogates, 1e999) and says better what is wrong.
    """
    return _from_json(text)
