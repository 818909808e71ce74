"""Dicts and sets of decoded keys, built so that hostile keys can neither break it nor make it slow.

Python's hash of an int (and of a tuple of ints) is public arithmetic: half a megabyte of keys that share
one hash takes seconds, and ten times that takes minutes. Strings and bytes are safe, their hash is salted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, Final, TypeVar

from trionet.pyon._errors import PyonDecodeError

# So many keys of one hash are harmless; more do not occur by chance.
_MOST_OF_ONE_HASH: Final = 100
_SALTED: Final = frozenset({str, bytes})

_T = TypeVar("_T")


def make_set(items: list[Any]) -> set[Any]:
    """The set of these items.

    Raises:
        PyonDecodeError: if they cannot be hashed, or have too often the same hash.
    """
    return _built(items, lambda: set(items))


def make_dict(keys: list[Any], values: Iterable[Any]) -> dict[Any, Any]:
    """The dict with these keys and as many values; the last value of a repeated key counts.

    Raises:
        PyonDecodeError: if the keys cannot be hashed, or have too often the same hash.
    """
    return _built(keys, lambda: dict(zip(keys, values, strict=True)))


def _built(keys: list[Any], build: Callable[[], _T]) -> _T:
    try:
        if len(keys) > _MOST_OF_ONE_HASH and not {*map(type, keys)} <= _SALTED:
            _check_hashes(keys)
        return build()
    except PyonDecodeError:
        raise
    # Keys are compared, too, and comparing a numpy scalar with a tuple can raise about anything.
    except Exception as error:
        raise PyonDecodeError(f"{type(error).__name__}: {error}") from None


def _check_hashes(keys: list[Any]) -> None:
    most = max(Counter(map(hash, keys)).values())
    if most > _MOST_OF_ONE_HASH:
        raise PyonDecodeError(f"{most} keys with one and the same hash")
