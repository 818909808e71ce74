"""The errors of PYON as programs for sipyco expect them."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from typing import Final

from trionet.pyon import PyonDecodeError

#: What upstream says of a value that PYON v2 does not carry.
NOT_ENCODABLE: Final = "`{value}`: Object of type `{type}` is not PYON encodable"

_NO_FORM: Final = re.compile(r"(.*): objects of type (.*) have no PYON (?:v1 )?form", re.DOTALL)
_UNKNOWN_CLASS: Final = re.compile(r"unknown class (.*)", re.DOTALL)


class PyonSyntaxError(PyonDecodeError, SyntaxError):
    """Text that is no PYON v1. It is a SyntaxError, as upstream's, and a ValueError."""

    def __init__(self, reason: str, where: str = "") -> None:
        super().__init__(reason, where)
        self.msg = PyonDecodeError.__str__(self)


def not_encodable(error: TypeError, text: str = NOT_ENCODABLE) -> TypeError | None:
    """What upstream would raise in place of an error: `text` with ``{value}`` and ``{type}``.

    None if the error is about something else than a type without a form.
    """
    match = _NO_FORM.fullmatch(str(error))
    return None if match is None else TypeError(text.format(value=match[1], type=match[2]))


@contextlib.contextmanager
def encode_errors(text: str = NOT_ENCODABLE) -> Iterator[None]:
    """Say in upstream's words what cannot be encoded: see `not_encodable`."""
    try:
        yield
    except TypeError as error:
        translated = not_encodable(error, text)
        if translated is None:
            raise
        raise translated from error


@contextlib.contextmanager
def decode_errors() -> Iterator[None]:
    """Raise upstream's errors for what is no PYON v2: `json.JSONDecodeError` for what is no JSON."""
    try:
        yield
    except PyonDecodeError as error:
        if isinstance(error.__cause__, json.JSONDecodeError):
            raise error.__cause__ from None
        match = _UNKNOWN_CLASS.fullmatch(error.reason)
        if match is None:
            raise
        name = match[1].strip("'\"")
        raise TypeError(f"Object of type `{name}` is not PYON decodable") from error
