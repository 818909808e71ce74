"""PYON v1: Python values, numpy included, as text that looks like Python.

It is what sipyco used for everything up to 1.9, and for old peers and files still does. There it is
evaluated; here it is parsed, by a grammar of literals and five calls, and nothing is ever evaluated.

Measured with CPython 3.11 against `eval` of the same text:

- Most v1 text is JSON, and then means the same; msgspec reads it 40 times faster than `eval`, and gives up
  at the first other token. So that is always tried first.
- The parser takes half of `eval`'s time for long rows of numbers, nine tenths for nested data, and a
  twentieth for large arrays. Only text full of escapes is slower, 4 to 12 times: an escape costs a search.
"""

from __future__ import annotations

from typing import Any

from trionet.pyon._decode import as_str
from trionet.pyon._errors import PyonDecodeError
from trionet.pyon._files import StrPath, decode_file, write_atomically
from trionet.pyon._plain import decode_plain
from trionet.pyon._v1_encode import encode
from trionet.pyon._v1_parse import parse

__all__ = ["PyonDecodeError", "decode", "encode", "load_file", "store_file"]


def decode(text: str | bytes) -> Any:
    """Decode PYON v1 text; bytes are taken as UTF-8.

    The text of every release of sipyco is read, and what `repr` writes for the same values. Arrays come
    back writable, C-contiguous and owners of their memory. An empty set comes back as an empty dict.

    Raises:
        PyonDecodeError: whatever is wrong with the text. It says where.
    """
    try:
        value = decode_plain(text)
    except (ValueError, RecursionError):
        return parse(as_str(text))
    # JSON means the same as PYON v1, but for this escape: there a slash, here also the backslash before it.
    escaped_slash: Any = "\\/" if isinstance(text, str) else b"\\/"
    return parse(as_str(text)) if escaped_slash in text else value


def store_file(filename: StrPath, value: Any) -> None:
    """Write `value` to a file, in the pretty form, in place of what it held. Atomic: see `write_atomically`.

    Raises:
        TypeError: if `value` cannot be encoded; ValueError likewise (see `encode`). The file is untouched.
        OSError: from the file system.
    """
    write_atomically(filename, encode(value, pretty=True) + "\n")


def load_file(filename: StrPath) -> Any:
    """Read a file that `store_file` or sipyco wrote.

    Raises:
        PyonDecodeError: with the name of the file, if it holds no PYON v1.
        OSError: from the file system.
    """
    return decode_file(filename, decode)
