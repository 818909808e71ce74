"""Arguments that make no sense are refused where they are given, by all front ends in the same words."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any


def check_port(port: int) -> None:
    """Have a number that is no port refused: the system takes the last 16 bits of it, in silence.

    Raises:
        TypeError: if it is no integer.
        ValueError: if it is not from 0 to 65535.
    """
    try:
        number = operator.index(port)
    except TypeError:
        raise TypeError(f"a port must be an integer, not {port!r}") from None
    if not 0 <= number < 1 << 16:
        raise ValueError(f"a port must be from 0 to 65535, not {port!r}")


def check_seconds(what: str, seconds: float) -> None:
    """Have a time refused that there cannot be, where it is given: it would raise only where it is needed.

    Args:
        what: The name of the argument.
        seconds: Its value.

    Raises:
        ValueError: if it is below 0, or NaN.
    """
    if not seconds >= 0:
        raise ValueError(f"{what} must be at least 0 s, not {seconds}")


def check_named(what: str, given: Mapping[Any, Any], things: str) -> None:
    """Have things refused that were given without names, where they go by their names.

    Args:
        what: The name of the argument.
        given: Its value.
        things: What it has to be, in the plural.

    Raises:
        TypeError: if it is no mapping, or one of the names no text.
    """
    if not isinstance(given, Mapping):
        raise TypeError(f"{what} must be {things} by their names, not a {type(given).__name__}")
    for name in given:
        if not isinstance(name, str):
            raise TypeError(f"{what} must be {things} by their names: {name!r} is no text")
