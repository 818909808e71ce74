"""PYON v2: Python values, numpy included, as JSON text; stands for ``sipyco.pyon``.

It is `trionet.pyon` with upstream's names and errors. ``python -m trionet_compat.sipyco.pyon FILE`` converts
a file from PYON v1 to v2, and keeps the old one as ``FILE_v1``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from typing import Any

from trionet import pyon
from trionet.pyon._classes import CLASS_KEY, CLASSES
from trionet.pyon._files import StrPath, decode_file, write_atomically
from trionet_compat.sipyco._pyon_errors import decode_errors, encode_errors

__all__ = ["decode", "deregister", "encode", "load_file", "register", "store_file", "wrap"]


def encode(x: Any, pretty: bool = False, **kw: Any) -> str:
    """Encode a value.

    Args:
        x: The value.
        pretty: Whether to indent it by four spaces.
        **kw: Options of `json.dumps`, such as ``sort_keys``.

    Raises:
        TypeError: for a type that PYON does not carry.
        ValueError: for a dict with the reserved key, where upstream has an assertion; for arrays of times,
            and values that contain themselves.
    """
    with encode_errors():
        if not kw:
            return pyon.encode(x, pretty=pretty)
        plain = json.loads(pyon.encode(x))
    if pretty:
        return json.dumps(plain, **{"indent": 4, **kw})
    return json.dumps(plain, **{"separators": (",", ":"), **kw})


def decode(s: str | bytes, **kw: Any) -> Any:
    """Decode a text; bytes are taken as UTF-8. Nothing is evaluated.

    Args:
        s: The text.
        **kw: Options of `json.loads`, such as ``parse_float``.

    Raises:
        json.JSONDecodeError: if it is no JSON. Programs try PYON v1 then.
        TypeError: if it names a class that is not known.
        ValueError: for everything else that is wrong.
    """
    with decode_errors():
        if not kw:
            return pyon.decode(s)
        return json.loads(s, object_hook=_build, **kw)


def _build(value: dict[str, Any]) -> Any:
    return CLASSES.build(value[CLASS_KEY]) if CLASS_KEY in value else value


def store_file(filename: StrPath, x: Any, **kw: Any) -> None:
    """Write a value to a file, indented, in place of what it held; atomically. Options as for `encode`."""
    write_atomically(filename, encode(x, pretty=True, **kw))


def load_file(filename: StrPath, **kw: Any) -> Any:
    """Read a file. Options and errors as for `decode`; OSError from the file system."""
    with decode_errors():
        return decode_file(filename, lambda content: decode(content, **kw) if kw else pyon.decode(content))


def register(
    types: Iterable[type],
    *,
    name: str,
    encode: Callable[[Any], Iterable[Any]],
    decode: Callable[..., Any],
) -> None:
    """Teach PYON a class, in this process. Both ends of a connection must know it.

    Args:
        types: The types that are written so, matched exactly.
        name: The name of the class.
        encode: Turns a value into a list of arguments.
        decode: Makes the value of these arguments.

    Raises:
        AssertionError: if one of the types or the name is taken. Nothing is registered then.
    """
    try:
        pyon.register(types, name=name, encode=encode, decode=decode)
    except ValueError as error:
        raise AssertionError(str(error)) from error


def deregister(types: Iterable[type], name: str) -> None:
    """Forget a class, given as to `register`. AssertionError if it is not registered like this."""
    try:
        pyon.deregister(types, name)
    except (KeyError, ValueError) as error:
        raise AssertionError(f"class {name!r} is not registered for these types") from error


def wrap(o: Any) -> Any:
    """Mark a value among the arguments of a custom class as one with a PYON form. See `trionet.pyon.wrap`."""
    return pyon.wrap(o)


if __name__ == "__main__":
    from trionet.pyon.__main__ import main

    sys.exit(main())
