"""Making a published structure equal to another one, with as few changes as that takes."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from trionet.sync_struct.notifier import NotifierNode


def update_from_dict(target: NotifierNode, source: Mapping[Any, Any], *, nested: bool = True) -> None:
    """Change a published dict until it equals another one.

    What is equal already, types included, is left alone and not published again. Where both have a dict or
    list, only what differs inside is changed, and of an array with the same shape and type only the rows
    from the first to the last that differ. Keys that are missing in `source` are deleted first.

    Args:
        target: The notifier, or a place in it, that holds a dict.
        source: What it is to become. It is copied, so it stays the caller's.
        nested: False to replace members of `target` as a whole, as sipyco does.

    Raises:
        TypeError: if the target holds no dict. If PYON cannot carry a value (ValueError likewise): changes up
            to there have been made.
    """
    if not isinstance(target.raw_view, Mapping):
        raise TypeError(f"{target!r} holds no dict, but a {type(target.raw_view).__name__}")
    # First of all: it may hold parts of the structure that is about to change.
    new = {key: own_copy(value) for key, value in source.items()}
    if nested:
        _update_dict(target, new)
        return
    old = _delete_missing(target, new)
    for key, value in new.items():
        if key not in old or not same(old[key], value):
            target[key] = value


def same(left: Any, right: Any) -> bool:
    """Whether two values are equal in a way that no subscriber could tell them apart.

    Types count, everywhere inside; so does the sign of a zero, and a NaN equals a NaN. The order of a
    dict does not.
    """
    kind = type(left)
    if kind is not type(right):
        return False
    if left is right and kind in _IMMUTABLE:
        return True
    if isinstance(left, dict):
        return (
            len(left) == len(right)
            and not _missing(left, right)
            and all(same(value, right[key]) for key, value in left.items())
        )
    if isinstance(left, (list, tuple)):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, set):
        return len(left) == len(right) and not _missing(left, right)
    if kind is slice:
        return same((left.start, left.stop, left.step), (right.start, right.stop, right.step))
    if isinstance(left, (np.ndarray, np.generic)):
        alike = left.dtype == right.dtype and left.shape == right.shape
        return bool(alike and left.tobytes() == right.tobytes())
    if kind in (float, complex):
        return repr(left) == repr(right)
    return bool(left == right)


def _missing(keys: Iterable[Any], other: Iterable[Any]) -> list[Any]:
    """The keys that are not in `other`. True is another key than 1, although Python takes it for one."""
    own = {key: key for key in other}
    return [key for key in keys if key not in own or not same(key, own[key])]


_IMMUTABLE = frozenset({type(None), bool, int, float, complex, str, bytes})


def own_copy(value: Any) -> Any:
    """A copy of what can be changed in a value, at any depth."""
    kind = type(value)
    if kind in _IMMUTABLE:
        return value
    if kind is dict:
        return {key: own_copy(item) for key, item in value.items()}
    if kind in (list, tuple):
        return kind(map(own_copy, value))
    return copy.deepcopy(value)


def _update(target: NotifierNode, key: Any, old: Any, new: Any) -> None:
    """Make ``target[key]``, which is `old`, equal to `new`."""
    kind = type(old)
    if kind is type(new) and kind is dict:
        _update_dict(target[key], new)
    elif kind is type(new) and kind is list:
        _update_list(target[key], old, new)
    elif same(old, new):
        pass
    elif kind is type(new) and kind is np.ndarray and _can_be_filled(old, new):
        _update_array(target[key], old, new)
    else:
        target[key] = new


def _delete_missing(target: NotifierNode, source: Mapping[Any, Any]) -> dict[Any, Any]:
    """Delete the keys that `source` does not have; returns what is left."""
    old: dict[Any, Any] = target.raw_view
    for key in _missing(old, source):
        del target[key]
    return old


def _update_dict(target: NotifierNode, source: Mapping[Any, Any]) -> None:
    old = _delete_missing(target, source)
    for key, value in source.items():
        if key in old:
            _update(target, key, old[key], value)
        else:
            target[key] = value


def _update_list(target: NotifierNode, old: list[Any], new: list[Any]) -> None:
    """Leave the equal beginning and end alone; in between, item by item, then insert or delete the rest."""
    shorter = min(len(old), len(new))
    start = 0
    while start < shorter and same(old[start], new[start]):
        start += 1
    end = 0
    while end < shorter - start and same(old[-1 - end], new[-1 - end]):
        end += 1
    common = shorter - end
    _update_items(target, old, new, start, common)
    rest = new[common : len(new) - end]
    if len(old) > shorter:
        surplus = len(old) - shorter
        del target[common if surplus == 1 else slice(common, common + surplus)]
    elif rest and common == len(old):
        for value in rest:
            target.append(value)
    elif len(rest) == 1:
        target.insert(common, rest[0])
    elif rest:
        target[common:common] = rest


def _update_items(target: NotifierNode, old: list[Any], new: list[Any], start: int, stop: int) -> None:
    """Change items in place: containers inside, and of other items each run of different ones at once."""
    index = start
    while index < stop:
        if _is_container(old[index], new[index]):
            _update(target, index, old[index], new[index])
            index += 1
            continue
        run = index
        while run < stop and not _is_container(old[run], new[run]) and not same(old[run], new[run]):
            run += 1
        if run - index == 1:
            target[index] = new[index]
        elif run > index:
            target[index:run] = new[index:run]
        index = max(run, index + 1)


def _is_container(old: Any, new: Any) -> bool:
    """Whether the inside of an item can be changed."""
    return type(old) is type(new) and type(old) in (dict, list, np.ndarray)


def _can_be_filled(old: np.ndarray[Any, Any], new: np.ndarray[Any, Any]) -> bool:
    return bool(
        old.dtype == new.dtype and old.shape == new.shape and old.ndim and old.size and old.flags.writeable
    )


def _update_array(target: NotifierNode, old: np.ndarray[Any, Any], new: np.ndarray[Any, Any]) -> None:
    """Set the rows from the first to the last that differ, bit by bit."""
    rows = np.flatnonzero(_bits_of_rows(old) != _bits_of_rows(new))
    first, last = int(rows[0]), int(rows[-1])
    if last > first:
        target[first : last + 1] = new[first : last + 1]
    else:
        target[first] = new[first]


def _bits_of_rows(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """One opaque item for each index of the first axis."""
    flat = np.ascontiguousarray(array).reshape(len(array), -1)
    return flat.view(np.dtype((np.void, flat.dtype.itemsize * flat.shape[1]))).reshape(len(array))
