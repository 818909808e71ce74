"""PYON v1: Python values, numpy included, as text that looks like Python; stands for ``sipyco.pyon_v1``.

Upstream evaluates the text. Here it is parsed, so code in it is refused.
"""

from __future__ import annotations

from typing import Any, Final

from trionet.pyon import v1
from trionet.pyon._files import StrPath, decode_file, write_atomically
from trionet_compat.sipyco._pyon_errors import PyonSyntaxError, encode_errors

__all__ = ["decode", "encode", "load_file", "store_file"]

_NOT_ENCODABLE: Final = "`{value}` (<class '{type}'>) is not PYON serializable"


def encode(x: Any, pretty: bool = False) -> str:
    """Encode a value; `pretty` breaks up dicts of two and more items.

    Raises:
        TypeError: for a type that PYON v1 does not carry.
        ValueError: for arrays of times, and for values that contain themselves.
    """
    with encode_errors(_NOT_ENCODABLE):
        return v1.encode(x, pretty=pretty)


def decode(s: str) -> Any:
    """Decode a text.

    Raises:
        SyntaxError: whatever is wrong with the text. It is a ValueError, too. Upstream raises NameError, and
            whatever evaluating the text raises, as well.
    """
    return _decode(s)


def _decode(text: str | bytes) -> Any:
    try:
        return v1.decode(text)
    except v1.PyonDecodeError as error:
        raise PyonSyntaxError(error.reason, error.where) from error.__cause__


def store_file(filename: StrPath, x: Any) -> None:
    """Write a value to a file, in the pretty form, in place of what it held; atomically."""
    write_atomically(filename, encode(x, pretty=True) + "\n")


def load_file(filename: StrPath) -> Any:
    """Read a file. Errors as of `decode`; OSError from the file system."""
    try:
        return decode_file(filename, v1.decode)
    except v1.PyonDecodeError as error:
        raise PyonSyntaxError(error.reason, error.where) from error.__cause__
