"""Single literals of PYON v1 text: numbers, names, strings and bytes.

Every function looks at one place of the text and returns the value with the position behind it. Each pass
over the text is bounded by what it consumes, so hostile text costs no more time than its length.
"""

from __future__ import annotations

import contextlib
import re
import unicodedata
from typing import Any, Final

from trionet.pyon._errors import PyonDecodeError

_WHITE: Final = r"[ \t\n\r\f]*+"
_SPACE: Final = re.compile(_WHITE)

NAMES: Final[dict[str, Any]] = {
    "null": None,
    "None": None,
    "true": True,
    "True": True,
    "false": False,
    "False": False,
    "inf": float("inf"),
    "nan": float("nan"),
}

# Longer strings are found with str.find, which is faster, and are not copied where that can be avoided.
_SHORT: Final = 4096

_INT: Final = r"(?:0|[1-9][0-9]*+)"
_EXPONENT: Final = r"[eE][+-]?[0-9]++"
_FLOAT: Final = rf"(?:(?:{_INT}\.[0-9]*+|\.[0-9]++)(?:{_EXPONENT})?|{_INT}{_EXPONENT})"
_REAL: Final = rf"(?:{_FLOAT}|{_INT}|inf|nan)"

#: What most values are, with the white space around it: an int, a float, a plain string or a name.
COMMON: Final = re.compile(
    rf"{_WHITE}(?:(-?{_INT})(?![\w.])|(-?{_FLOAT})(?!\w)"
    rf'|"([^"\\\n\r]{{0,{_SHORT}}}+)"|\'([^\'\\\n\r]{{0,{_SHORT}}}+)\''
    rf"|({'|'.join(NAMES)})(?!\w)){_WHITE}"
)
INT, FLOAT, NAME = 1, 2, 5

_NUMBER: Final = re.compile(
    rf"([+-][+\- \t\n\r\f]*+)?"
    rf"(?:({_REAL})(?:([jJ])(?!\w)|(?!\w))"
    rf"|\({_WHITE}([+-][+\- \t\n\r\f]*+)?({_REAL}){_WHITE}([+-]){_WHITE}({_REAL})[jJ]{_WHITE}\))"
)
_STRING_STOP: Final = {'"': re.compile(r'["\\\n\r]'), "'": re.compile(r"['\\\n\r]")}
_QUOTES: Final = frozenset("\"'")

_HEX2: Final = "[0-9a-fA-F]{2}"
_STR_ESCAPE: Final = re.compile(
    rf"\\(?:u[dD][89abAB]{_HEX2}\\u[dD][c-fC-F]{_HEX2}|u{_HEX2}{_HEX2}|U(?:{_HEX2}){{4}}|x{_HEX2}"
    r"|N\{[^{}]{1,100}\}|[0-7]{1,3}|\r\n|[\s\S])"
)
_BYTES_ESCAPE: Final = re.compile(rf"\\(?:x{_HEX2}|[0-7]{{1,3}}|\r\n|[\s\S])")
# What the C decoder of escapes either does not know, warns of, or reads differently.
_UNUSUAL_ESCAPE: Final = re.compile(r"\\(?:[^abfnrtv\\'\"xuU]|u[dD])")
_UNUSUAL_BYTES_ESCAPE: Final = re.compile(r"\\[^abfnrtv\\'\"x]")
_SIMPLE_ESCAPES: Final = {
    "\\\n": "",
    "\\\r": "",
    "\\\r\n": "",
    "\\\\": "\\",
    "\\'": "'",
    '\\"': '"',
    "\\a": "\a",
    "\\b": "\b",
    "\\f": "\f",
    "\\n": "\n",
    "\\r": "\r",
    "\\t": "\t",
    "\\v": "\v",
}


def error_at(text: str, position: int, reason: str) -> PyonDecodeError:
    """The error to raise for what stands at this character, with its line and column."""
    line_start = text.rfind("\n", 0, position) + 1
    line = text.count("\n", 0, position) + 1
    return PyonDecodeError(reason, f"line {line} column {position - line_start + 1}, character {position}")


def skip_space(text: str, position: int) -> int:
    """The position of the next character that is not white space."""
    return _SPACE.match(text, position).end()  # type: ignore[union-attr]  # matches the empty text, too


def to_int(digits: str, text: str, position: int) -> int:
    """An int of any size that Python is willing to convert."""
    try:
        return int(digits)
    except ValueError as error:  # more digits than that
        raise error_at(text, position, str(error)) from None


def scan_number(text: str, position: int) -> tuple[Any, int] | None:
    """A number in any of its forms; None if none begins here.

    A complex number is one token, parentheses included: its sign in the middle is no operator.
    """
    match = _NUMBER.match(text, position)
    if match is None:
        return None
    signs, real, imaginary_mark, real_signs, complex_real, operator, imaginary = match.groups()
    negative = _negative(signs)
    if complex_real is not None:
        number = complex(_float(complex_real, _negative(real_signs)), _float(imaginary, operator == "-"))
        return (-number if negative else number), match.end()
    if imaginary_mark:  # the real part is plus zero, whatever the sign
        return complex(0.0, _float(real, negative)), match.end()
    if real.isdigit():
        whole = to_int(real, text, position)
        return (-whole if negative else whole), match.end()
    return _float(real, negative), match.end()


def _negative(signs: str | None) -> bool:
    return signs is not None and signs.count("-") % 2 == 1


def _float(digits: str, negative: bool) -> float:
    return -float(digits) if negative else float(digits)


def at_string(text: str, position: int) -> bool:
    """Whether a string or bytes literal begins here."""
    return text[position] in _QUOTES or (
        text[position] == "b" and text[position + 1 : position + 2] in _QUOTES
    )


def string_span(text: str, position: int) -> tuple[int, int, bool]:
    """Where the characters of the string or bytes literal here begin and end, and if they have escapes."""
    start = position + (2 if text[position] == "b" else 1)
    quote = text[start - 1]
    end = text.find(quote, start)
    if end < 0:
        raise error_at(text, position, "unterminated string")
    escapes = text.find("\\", start, end) >= 0
    if escapes:
        end = _end_among_escapes(text, start, quote)
    elif text.find("\n", start, end) >= 0 or text.find("\r", start, end) >= 0:
        end = -1
    if end < 0:
        raise error_at(text, position, "unterminated string: a line or the text ends inside")
    return start, end, escapes


def _end_among_escapes(text: str, start: int, quote: str) -> int:
    """The position of the closing quote, or -1."""
    find_stop = _STRING_STOP[quote].search
    while (stop := find_stop(text, start)) is not None and stop[0] == "\\":
        start = stop.end() + (2 if text.startswith("\r\n", stop.end()) else 1)
    return stop.start() if stop is not None and stop[0] == quote else -1


def string_value(text: str, position: int, span: tuple[int, int, bool]) -> str | bytes:
    """The value of the string or bytes literal here, whose `string_span` is given."""
    start, end, escapes = span
    in_bytes = text[position] == "b"
    body = _unescaped(text, start, end, in_bytes) if escapes else text[start:end]
    if not in_bytes:
        return body
    # Escapes give characters up to 255, each one byte; in the text itself they must be ASCII.
    if not text[start:end].isascii():
        raise error_at(text, position, "bytes literals hold ASCII only")
    return body.encode("latin-1")


def _unescaped(text: str, start: int, end: int, in_bytes: bool) -> str:
    body = text[start:end]
    unusual = _UNUSUAL_BYTES_ESCAPE if in_bytes else _UNUSUAL_ESCAPE
    if body.isascii() and unusual.search(body.replace("\\\\", "")) is None:
        with contextlib.suppress(UnicodeDecodeError):  # said below, with the place
            return body.encode().decode("unicode_escape")

    def character(match: re.Match[str]) -> str:
        escape = match[0]
        simple = _SIMPLE_ESCAPES.get(escape)
        if simple is not None:
            return simple
        try:
            return _character(escape, in_bytes)
        except (ValueError, OverflowError, KeyError, TypeError):
            raise error_at(text, start + match.start(), f"invalid escape {escape!r}") from None

    return (_BYTES_ESCAPE if in_bytes else _STR_ESCAPE).sub(character, body)


def _character(escape: str, in_bytes: bool) -> str:
    """What an escape stands for; as in Python, one that means nothing stands for itself.

    Raises:
        ValueError: if there is no such character; also OverflowError, and for names KeyError or TypeError.
    """
    kind = escape[1]
    if kind in "01234567":
        code = int(escape[1:], 8)
        if in_bytes and code > 0xFF:
            raise ValueError(escape)
        return chr(code)
    if kind == "x" or (kind in "uU" and not in_bytes):
        if len(escape) == 12:  # two surrogates: one character
            high, low = int(escape[2:6], 16), int(escape[8:], 16)
            return chr(0x10000 + ((high & 0x3FF) << 10 | low & 0x3FF))
        return chr(int(escape[2:], 16))
    if kind == "N" and not in_bytes:
        return chr(ord(unicodedata.lookup(escape[3:-1])))
    return escape
