"""PYON v2: Python values, numpy included, as JSON text.

What JSON cannot carry is an object with the single key ``__jsonclass__``. The wire form is that of
sipyco 1.10; `trionet.pyon.v1` is the form before it, and ``python -m trionet.pyon FILE`` converts a file
from one to the other. Nothing that is decoded is ever evaluated, and nothing is allocated that the size of
the input does not justify.

Fidelity: v2 keeps every type but these: ``numpy.float64`` and ``numpy.str_`` come back as ``float`` and
``str``, dict and list subclasses as ``dict`` and ``list``, a structured array as one of plain bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from trionet.pyon._classes import CLASSES, PyonClass
from trionet.pyon._decode import decode
from trionet.pyon._encode import encode, encode_bytes, wrap
from trionet.pyon._errors import PyonDecodeError
from trionet.pyon._files import StrPath, decode_file, write_atomically

__all__ = [
    "PyonDecodeError",
    "decode",
    "deregister",
    "encode",
    "encode_bytes",
    "load_file",
    "register",
    "store_file",
    "wrap",
]


def register(
    types: Iterable[type],
    *,
    name: str,
    encode: Callable[[Any], Iterable[Any]],
    decode: Callable[..., Any],
) -> None:
    """Teach PYON v2 a class of your own, in this process. Both ends of a connection must know it.

    Args:
        types: The types written with this class, matched exactly.
        name: Its name on the wire.
        encode: Turns a value into the list of its arguments, each of which PYON must be able to encode.
        decode: Builds the value from these arguments. Whatever it raises ends as a `PyonDecodeError`.

    Raises:
        ValueError: if one of the types or the name is taken. Nothing is registered then.
    """
    CLASSES.register(types, PyonClass(name, encode, decode))


def deregister(types: Iterable[type], name: str) -> None:
    """Forget a class, given as to `register`.

    Raises:
        KeyError: if it is not registered like this.
        ValueError: if it is one of PYON's own.
    """
    CLASSES.deregister(types, name)


def store_file(filename: StrPath, value: Any) -> None:
    """Write `value` to a file, indented, in place of what it held. Atomic: see `write_atomically`.

    Raises:
        TypeError: if `value` cannot be encoded; ValueError likewise (see `encode`). The file is untouched.
        OSError: from the file system.
    """
    write_atomically(filename, encode(value, pretty=True))


def load_file(filename: StrPath) -> Any:
    """Read a file that `store_file` or sipyco wrote.

    Raises:
        PyonDecodeError: with the name of the file, if it holds no PYON v2.
        OSError: from the file system.
    """
    return decode_file(filename, decode)
