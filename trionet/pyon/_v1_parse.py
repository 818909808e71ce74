"""A parser for PYON v1: it reads the text that upstream evaluates, and evaluates nothing.

It keeps the brackets that are open on a stack of its own. Most values, with the white space around them,
are one match of one regular expression; whatever that does not know takes a longer way. The base64 of a
large array is decoded where it stands.
"""

from __future__ import annotations

import re
from typing import Any, Final

from trionet.pyon._errors import PyonDecodeError
from trionet.pyon._hashed import make_dict, make_set
from trionet.pyon._v1_calls import CALLS, Base64Span, build_call
from trionet.pyon._v1_scan import (
    COMMON,
    FLOAT,
    INT,
    NAME,
    NAMES,
    at_string,
    error_at,
    scan_number,
    skip_space,
    string_span,
    string_value,
    to_int,
)

# What is nested deeper could not be compared or printed by Python either.
_MOST_LEVELS: Final = 1000
# From here on, the base64 of an array is not copied.
_LONG: Final = 1 << 12

_CLOSERS: Final = {"(": ")", "[": "]", "{": "}"}
_WORD: Final = re.compile(r"[^\W\d]\w*+")

# Instead of a value: there is none yet, a bracket was opened.
_OPENED: Final = object()


class _Bracket:
    """An open bracket and the values in it so far; keys and values of a dict take turns.

    The whole document counts as a bracket that the end of the text closes, and in which no comma may stand.
    """

    __slots__ = ("call", "closer", "is_dict", "is_sequence", "is_set", "items", "position")

    def __init__(self, closer: str, position: int, call: str = "") -> None:
        self.closer = closer
        self.position = position
        self.call = call
        self.items: list[Any] = []
        self.is_sequence = closer in (")", "]")
        # Which of them it is shows at the first colon or comma.
        self.is_dict = self.is_set = False

    def accepts(self, separator: str) -> bool:
        """Whether this may follow the value that was added last, and was not a comma in a sequence."""
        if self.closer != "}":
            return separator == self.closer
        after_key = len(self.items) % 2 == 1
        if separator == ":":
            self.is_dict = not self.is_set
            return self.is_dict and after_key
        self.is_set = not self.is_dict
        return separator in (",", "}") and (self.is_set or not after_key)

    def accepts_closer(self) -> bool:
        """Whether it may be closed where a value could stand: at once, or after a comma."""
        return not (self.is_dict and len(self.items) % 2 == 1)

    def build(self, after_comma: bool) -> Any:
        """The value, once it is closed."""
        items = self.items
        if self.call:
            return build_call(self.call, items)
        if self.closer == "]":
            return items
        if self.closer == ")":
            return items[0] if len(items) == 1 and not after_comma else tuple(items)
        return make_set(items) if self.is_set else make_dict(items[::2], items[1::2])


def parse(text: str) -> Any:
    """The value that PYON v1 text stands for.

    Raises:
        PyonDecodeError: if it is outside the grammar. It says where.
    """
    return _Parser(text).parse()


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.bracket = _Bracket("", 0)
        self.outer: list[_Bracket] = []

    def parse(self) -> Any:
        text, position, match_common = self.text, 0, COMMON.match
        while True:
            match = match_common(text, position)
            if match is None:
                value, position = self._uncommon(skip_space(text, position))
                if value is _OPENED:
                    continue
            else:
                position = match.end()
                kind = match.lastindex
                if kind == INT:
                    value = to_int(match[INT], text, match.start(INT))
                elif kind == FLOAT:
                    value = float(match[FLOAT])
                else:
                    value = NAMES[match[NAME]] if kind == NAME else match[kind or 0]
            # Take what follows the value; closing a bracket makes another value.
            while True:
                bracket = self.bracket
                bracket.items.append(value)
                separator = text[position : position + 1]
                if separator != "," or not bracket.is_sequence:
                    if not bracket.accepts(separator):
                        raise self._unexpected(position)
                    if not separator:
                        return value
                    if separator == bracket.closer:
                        value, position = self._close(position, after_comma=False)
                        continue
                position += 1
                break

    def _uncommon(self, position: int) -> tuple[Any, int]:
        """Read what stands where a value is expected, and the white space behind it."""
        text, bracket = self.text, self.bracket
        if position == len(text):
            raise self._unexpected(position)
        character = text[position]
        if character == bracket.closer and bracket.accepts_closer():
            return self._close(position, after_comma=bool(bracket.items))
        if at_string(text, position):
            return self._string(position)
        number = scan_number(text, position)
        if number is not None:
            return number[0], skip_space(text, number[1])
        if character in _CLOSERS:
            return self._open(_CLOSERS[character], position, position + 1)
        return self._call(position)

    def _string(self, position: int) -> tuple[Any, int]:
        text, bracket = self.text, self.bracket
        span = start, end, escapes = string_span(text, position)
        after = skip_space(text, end + 1)
        if end - start >= _LONG and not escapes and bracket.call == "nparray" and len(bracket.items) == 2:
            return Base64Span(text, start, end), after
        return string_value(text, position, span), after

    def _call(self, position: int) -> tuple[Any, int]:
        word = _WORD.match(self.text, position)
        if word is None:
            raise self._unexpected(position)
        parenthesis = skip_space(self.text, word.end())
        if word[0] not in CALLS or self.text[parenthesis : parenthesis + 1] != "(":
            raise error_at(self.text, position, f"unknown name {word[0][:100]!r}")
        return self._open(")", position, parenthesis + 1, word[0])

    def _open(self, closer: str, position: int, after: int, call: str = "") -> tuple[Any, int]:
        if len(self.outer) == _MOST_LEVELS:
            raise error_at(self.text, position, "nested too deep")
        self.outer.append(self.bracket)
        self.bracket = _Bracket(closer, position, call)
        return _OPENED, after

    def _close(self, position: int, after_comma: bool) -> tuple[Any, int]:
        bracket, self.bracket = self.bracket, self.outer.pop()
        try:
            value = bracket.build(after_comma)
        except PyonDecodeError as error:
            raise error_at(self.text, bracket.position, error.reason) from None
        return value, skip_space(self.text, position + 1)

    def _unexpected(self, position: int) -> PyonDecodeError:
        if position < len(self.text):
            return error_at(self.text, position, f"unexpected {self.text[position]!r}")
        opened = self.bracket.position
        unclosed = f", {self.text[opened]!r} of character {opened} is open" if self.outer else ""
        return error_at(self.text, position, f"unexpected end{unclosed}")
