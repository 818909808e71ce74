"""A structure as rows of text: members below each other, long values shortened."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from trionet.cli.output import one_row, printable
from trionet.cli.watch.path import key_text

# Characters that one value may take, and how deep it is shown in one row.
_BRIEF: Final = 120
_BRIEF_DEPTH: Final = 3
# Arrays of so many items are shown as they are.
_FEW: Final = 6
# So many items of a list are looked at to find out whether all of them fit a row.
_LOOKED_AT: Final = 100


@dataclass(frozen=True, slots=True)
class Row:
    """A member of a structure.

    Attributes:
        path: The keys to it.
        depth: How far it is indented.
        value: Its value.
        opened: Whether its members are in rows below.
    """

    path: tuple[Any, ...]
    depth: int
    value: Any
    opened: bool

    @property
    def text(self) -> str:
        """The row, without indentation, in one line."""
        name = f"{key_text(self.path[-1])}:" if self.path else ""
        if self.opened:
            count = len(self.value)
            return one_row(name if isinstance(self.value, Mapping) else f"{name} ({_items(count)})")
        return one_row(f"{name} {brief(self.value)}".strip())


def rows(structure: Any, path: tuple[Any, ...] = ()) -> Iterator[Row]:
    """The rows of a structure: those of its members, or a single one if they need none of their own.

    Args:
        structure: What to show.
        path: The keys to it.
    """
    if not _is_opened(structure):
        yield Row((), 0, structure, False)
        return
    # No recursion: it may be nested deeper than Python likes.
    levels = [_members(structure, path)]
    while levels:
        for member, value in levels[-1]:
            opened = _is_opened(value)
            yield Row(member, len(levels) - 1, value, opened)
            if opened:
                levels.append(_members(value, member))
                break
        else:
            levels.pop()


def _members(container: Any, path: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], Any]]:
    items = container.items() if isinstance(container, Mapping) else enumerate(container)
    return (((*path, key), value) for key, value in items)


def _is_opened(value: Any) -> bool:
    """Whether its members have rows of their own: those of dicts, and of lists of containers."""
    if isinstance(value, Mapping):
        return bool(value)
    return isinstance(value, list) and any(
        isinstance(item, (Mapping, list)) and item for item in itertools.islice(value, _LOOKED_AT)
    )


def _items(count: int) -> str:
    return f"{count} item{'' if count == 1 else 's'}"


def brief(value: Any, depth: int = _BRIEF_DEPTH) -> str:
    """A value in at most a row, or so; it may have line breaks and control characters still."""
    if isinstance(value, np.ndarray):
        return _array_text(value)
    if isinstance(value, (list, tuple, set, frozenset, Mapping)):
        return _container_text(value, depth)
    if isinstance(value, (str, bytes)):
        return _shorten(repr(value[:_BRIEF]), len(value))
    if isinstance(value, np.generic):
        value = value.item()
    try:
        return _shorten(repr(value))
    except ValueError:  # an integer with thousands of digits
        return f"<{type(value).__name__}, too long to be shown>"


def _shorten(text: str, length: int = 0) -> str:
    if len(text) <= _BRIEF and length <= _BRIEF:
        return text
    return f"{text[: _BRIEF - 20]}... ({length} long)" if length else f"{text[: _BRIEF - 3]}..."


def _container_text(value: Any, depth: int) -> str:
    opening, closing = "()" if isinstance(value, tuple) else "[]" if isinstance(value, list) else "{}"
    if isinstance(value, (set, frozenset)) and not value:
        return "set()"
    parts: list[str] = []
    size = 0
    for item in value:
        if depth == 0 or size > _BRIEF:
            return f"{opening}{', '.join([*parts, '...'])}{closing} ({_items(len(value))})"
        text = brief(item, depth - 1)
        if isinstance(value, Mapping):
            text = f"{text}: {brief(value[item], depth - 1)}"
        parts.append(text)
        size += len(text) + 2
    comma = "," if isinstance(value, tuple) and len(value) == 1 else ""
    return f"{opening}{', '.join(parts)}{comma}{closing}"


def _array_text(array: np.ndarray[Any, Any]) -> str:
    """Type and shape, and what is in it: all of few items, else the range of numbers."""
    kind = f"{array.dtype}[{', '.join(map(str, array.shape))}]"
    if array.size == 0:
        return kind
    if array.size > _FEW and array.dtype.kind in "biuf":
        return f"{kind}  {_range_text(array)}"
    first = ", ".join(brief(item) for item in array.flat[:_FEW])
    return f"{kind}  {first}{', ...' if array.size > _FEW else ''}"


def _range_text(array: np.ndarray[Any, Any]) -> str:
    if array.dtype.kind == "b":
        return f"{np.count_nonzero(array)} of {array.size} true"
    missing = int(np.count_nonzero(np.isnan(array))) if array.dtype.kind == "f" else 0
    if missing == array.size:
        return "all nan"
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        if missing:
            array = array[~np.isnan(array)]
        figures = (array.min(), array.mean(dtype=np.float64), array.max())
    least, mean, most = (f"{figure.item():.6g}" for figure in figures)
    return f"min {least}  mean {mean}  max {most}" + (f"  ({missing} nan)" if missing else "")


def array_rows(array: np.ndarray[Any, Any], width: int) -> list[str]:
    """The items of an array, in lines of at most so many columns; of many, the first and last ones."""
    text = np.array2string(array, max_line_width=max(width, 20), threshold=400, separator=" ")
    return printable(text).split("\n")
