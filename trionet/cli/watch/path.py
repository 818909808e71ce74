"""Naming a part of a structure: ``datasets/ndarray/3``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from trionet.cli.arguments import ArgumentError, parse_argument
from trionet.cli.output import printable

# What is quoted or in brackets may have a slash in it.
_COMPONENT: Final = re.compile(
    r"""("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|\((?:[^"'()]|"[^"]*"|'[^']*')*\)|[^/]*)(?:/|$)"""
)
# So many keys are named in an error.
_NAMED_KEYS: Final = 12
_NO_KEY: Final = object()


class NoSuchPart(LookupError):
    """The structure has no such part. The text says where it ends, and what there is."""


@dataclass(frozen=True, slots=True)
class Path:
    """The way to a part of a structure.

    Attributes:
        components: The keys as they were typed, from the root.
    """

    components: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "/".join(self.components)

    def find(self, structure: Any) -> tuple[tuple[Any, ...], Any]:
        """The keys to the part, and the part itself.

        Raises:
            NoSuchPart: if there is none now.
        """
        keys: list[Any] = []
        for number, component in enumerate(self.components):
            key = _key(structure, component, "/".join(self.components[:number]) or "the structure")
            structure = structure[key]
            keys.append(key)
        return tuple(keys), structure


def parse_path(text: str) -> Path:
    """The path that was typed. A slash at either end means nothing."""
    # The command line puts a space before what begins with a minus.
    text = text.removeprefix(" ").strip("/")
    components = []
    position = 0
    while position < len(text):
        found = _COMPONENT.match(text, position)
        if found is None:  # a quote that is part of a key
            end = text.find("/", position)
            end = len(text) if end < 0 else end
            components.append(text[position:end])
            position = end + 1
        else:
            components.append(found[1])
            position = found.end()
    return Path(tuple(components))


def _key(container: Any, component: str, where: str) -> Any:
    """The key of a member: the text itself, or else the value that it stands for."""
    key = _literal(component)
    if isinstance(container, Mapping):
        for candidate in (component, key):
            if candidate is not _NO_KEY and _has_key(container, candidate):
                return candidate
        raise NoSuchPart(f"{where} has no {component!r}, but {_keys_text(container)}")
    if isinstance(container, (list, tuple)) or (isinstance(container, np.ndarray) and container.ndim):
        if type(key) is int and -len(container) <= key < len(container):
            return key
        count = len(container)
        there = f"the indices 0 to {count - 1}" if count else "it is empty"
        raise NoSuchPart(f"{where} has no {component!r}, but {there}")
    raise NoSuchPart(f"{where} has no {component!r}: it is of type {type(container).__name__}")


def _has_key(container: Mapping[Any, Any], key: Any) -> bool:
    try:
        return key in container
    except TypeError:  # not hashable
        return False


def _literal(text: str) -> Any:
    try:
        return parse_argument(text)
    except ArgumentError:
        return _NO_KEY


def _keys_text(container: Mapping[Any, Any]) -> str:
    if not container:
        return "it is empty"
    named = [key_text(key) for _, key in zip(range(_NAMED_KEYS), container, strict=False)]
    more = len(container) - len(named)
    return ", ".join(named) + (f" and {more} more" if more else "")


def key_text(key: Any) -> str:
    """A key as it can be typed in a path."""
    if isinstance(key, str):
        plain = bool(key) and key == key.strip() and "/" not in key and printable(key) == key
        return key if plain and "\n" not in key and "\t" not in key else repr(key)
    try:
        return repr(key)
    except ValueError:  # an integer with thousands of digits
        return f"<{type(key).__name__}>"
