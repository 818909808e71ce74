"""PYON v2 text to values.

Four ways, each with the same result as the last for what it takes on:

- text without any class goes to msgspec (see `_plain`);
- text with classes goes to the standard library's JSON scanner, which calls `_build` for each object;
- from a long text the base64 of large arrays is cut out first, so that the scanner does not walk over it,
  and is decoded where it stands: cutting it out as a string would cost more than decoding it;
- what fails is read once more, object by object, only to say where.
"""

from __future__ import annotations

import json
import math
import re
import secrets
from collections.abc import Callable
from itertools import chain
from typing import Any, Final

from trionet.pyon import _arrays
from trionet.pyon._classes import CLASS_KEY, CLASSES
from trionet.pyon._collector import paused_collector
from trionet.pyon._errors import PyonDecodeError
from trionet.pyon._plain import decode_plain

# Shorter texts are not worth a search for arrays, nor a pause of the garbage collector.
_LONG: Final = 1 << 16

_CLASS_KEY_BYTES: Final = CLASS_KEY.encode()

# Escapes with which letters of the class key could be written.
_ESCAPED_LETTER: Final = re.compile(r"\\u00[567]")
_ESCAPED_LETTER_BYTES: Final = re.compile(rb"\\u00[567]")

# The beginning of an array up to its base64. `{"` cannot stand inside a JSON string (its quote would be
# escaped), so in valid JSON this is always an array, and in invalid JSON what remains stays invalid.
_ARRAY_HEAD: Final = r'\{"__jsonclass__":\["nparray",\[\[[\d,]*\],"[^"\\]{1,64}",(?=")'
_ARRAY: Final = re.compile(_ARRAY_HEAD)
_ARRAY_BYTES: Final = re.compile(_ARRAY_HEAD.encode())

# What stands for base64 that is cut out; see `_decode_around`.
_MARK: Final = f"{secrets.token_hex(16)} "

_BRACKET_OR_STRING: Final = re.compile(r'[\[\]{}]|"(?:[^"\\]++|\\.)*+"')

_PLAIN_JSON: Final = json.JSONDecoder()


def decode(text: str | bytes) -> Any:
    """Decode PYON v2 text; bytes are taken as UTF-8.

    Arrays come back writable, C-contiguous and owners of their memory.

    Raises:
        PyonDecodeError: whatever is wrong with the text. It says where.
    """
    try:
        if len(text) < _LONG:
            return _decode(text)
        with paused_collector():
            return _decode(text)
    except RecursionError:
        raise PyonDecodeError("nested too deep", f"character {_deepest(as_str(text))}") from None


def _decode(text: str | bytes) -> Any:
    if not _may_hold_classes(text):
        try:
            return decode_plain(text)
        except (ValueError, RecursionError):
            return _decode_json(as_str(text), _PLAIN_JSON)
    if len(text) >= _LONG:
        spans = _array_spans(text)
        if spans:
            return _decode_around(text, spans)
    return _decode_thoroughly(as_str(text))


def _deepest(text: str) -> int:
    """The position of the bracket that opens the deepest level."""
    level = most = position = 0
    for token in _BRACKET_OR_STRING.finditer(text):
        bracket = text[token.start()]
        if bracket in "[{":
            level += 1
            if level > most:
                most, position = level, token.start()
        elif bracket in "]}":
            level -= 1
    return position


def _may_hold_classes(text: str | bytes) -> bool:
    if isinstance(text, bytes):  # find(), because `in` takes twice as long for bytes
        if text.find(_CLASS_KEY_BYTES) >= 0:
            return True
        return text.find(b"\\") >= 0 and _ESCAPED_LETTER_BYTES.search(text) is not None
    return CLASS_KEY in text or _ESCAPED_LETTER.search(text) is not None


def as_str(text: str | bytes) -> str:
    """The text; PyonDecodeError if it is bytes that are not UTF-8."""
    if isinstance(text, str):
        return text
    try:
        return str(text, "utf-8")
    except UnicodeDecodeError as error:
        raise PyonDecodeError(f"not UTF-8: {error.reason}", f"byte {error.start}") from None


def _decode_json(text: str, decoder: json.JSONDecoder) -> Any:
    try:
        return decoder.decode(text)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno} column {error.colno}, character {error.pos}"
        raise PyonDecodeError(error.msg, where) from error
    except PyonDecodeError:
        raise
    except ValueError as error:  # an integer of more digits than Python converts
        raise PyonDecodeError(str(error)) from error


def _build(value: dict[str, Any]) -> Any:
    return CLASSES.build(value[CLASS_KEY]) if CLASS_KEY in value else value


_BUILDING: Final = json.JSONDecoder(object_hook=_build)


def _decode_thoroughly(text: str) -> Any:
    try:
        return _decode_json(text, _BUILDING)
    except PyonDecodeError as error:
        if not error.where:
            _build_at(_decode_json(text, _PLAIN_JSON), [])
        raise


def _build_at(value: Any, path: list[str | int]) -> Any:
    """Build the classes of plain JSON again, to raise the error of `_decode_thoroughly` with its path."""
    if type(value) is list:
        return [_build_below(item, path, index) for index, item in enumerate(value)]
    if type(value) is not dict:
        return value
    built = {key: _build_below(item, path, key) for key, item in value.items()}
    try:
        return _build(built)
    except PyonDecodeError as error:
        steps = "".join(f"[{json.dumps(step)}]" for step in path)
        raise PyonDecodeError(error.reason, f"${steps}") from error.__cause__


def _build_below(value: Any, path: list[str | int], step: str | int) -> Any:
    # One list for all, not a text for each: joining a long key to every item below it takes forever.
    path.append(step)
    built = _build_at(value, path)
    path.pop()
    return built


def _build_classes(value: Any, build: Callable[[dict[str, Any]], Any], most: float) -> Any:
    """Put what `build` makes of them in the place of all dicts that have the class key, inner ones first.

    Level by level: few containers hold such dicts, and only the items of these are looked at one by one.
    There are at most `most` of them; once so many have been found, what is deeper need not be looked at.
    """
    root = [value]
    level: list[Any] = [root]
    holders: list[list[Any]] = []
    found = 0
    while level and found < most:
        values = [*chain.from_iterable(item.values() if type(item) is dict else item for item in level)]
        dicts = [item for item in values if type(item) is dict]
        if count := sum(CLASS_KEY in item for item in dicts):
            holders.append(level)
            found += count
        level = dicts + [item for item in values if type(item) is list]
    for level in reversed(holders):
        for holder in level:
            for key, item in [*holder.items()] if type(holder) is dict else enumerate(holder):
                if type(item) is dict and CLASS_KEY in item:
                    holder[key] = build(item)
    return root[0]


def _array_spans(text: str | bytes) -> list[tuple[int, int]]:
    """Where the base64 of arrays stands, quotes not included."""
    spans: list[tuple[int, int]] = []
    search: Callable[..., re.Match[Any] | None] = (_ARRAY_BYTES if isinstance(text, bytes) else _ARRAY).search
    quote: Any = b'"' if isinstance(text, bytes) else '"'
    position = 0
    while (head := search(text, position)) is not None:
        start = head.end() + 1
        end = text.find(quote, start)
        if end < 0:
            break
        if end - start >= _LONG // 16:
            spans.append((start, end))
        position = end
    return spans


def _decode_around(text: str | bytes, spans: list[tuple[int, int]]) -> Any:
    """Decode a text from which the base64 in `spans` is replaced by a mark with its number.

    A mark has a part that no sender can know, so only those set here are taken for one. Each stands in the
    arguments of an array; if these are odd in any way, the whole text is read instead.
    """

    def build(value: dict[str, Any]) -> Any:
        match value.get(CLASS_KEY):
            case ["nparray", [shape, dtype, str(mark)]] if mark.startswith(_MARK):
                return _arrays.decode_array(shape, dtype, text, *spans[int(mark[len(_MARK) :])])
        return _build(value)

    rest: list[str] = []
    position = 0
    try:
        for number, (start, end) in enumerate(spans):
            rest += (as_str(text[position:start]), f"{_MARK}{number}")
            position = end
        rest.append(as_str(text[position:]))
        cut = "".join(rest)
        most = math.inf if _ESCAPED_LETTER.search(cut) else cut.count(f'"{CLASS_KEY}"')
        return _build_classes(decode_plain(cut), build, most)
    except (ValueError, RecursionError):
        return _decode_thoroughly(as_str(text))
