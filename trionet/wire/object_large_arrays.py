"""Large arrays in msgpack messages: copied once on their way out, and not at all on their way in.

A library for msgpack copies the items of an array into the message, and out of it again, each time into
memory that the system has to provide and to clear, which takes longer than the copying. So messages with
large arrays are put together here, and in those that come the items stay where they are: the array is a view
of what was received.

Items have to begin at a multiple of 8 for that, like everything that numpy makes. So the text in front of
them is written with longer headers than it needs, which every reader of msgpack takes. Items that come
elsewhere, from others, are copied.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
import numpy as np

#: From so many bytes on, an array is large.
LARGE_ARRAY: Final = 1 << 18

_ALIGNMENT: Final = 8
# How many bytes more than necessary the headers of three texts take, for each number of bytes to be filled.
_FILLINGS: Final = ((0, 0, 0), (1, 0, 0), (2, 0, 0), (1, 2, 0), (4, 0, 0), (1, 4, 0), (2, 4, 0), (1, 2, 4))
_BIN32: Final = 0xC6
_BIN32_HEADER: Final = 5
# Maps and lists of at most 15 items, which messages and arrays are. In others, arrays are copied.
_SHORT_MAP: Final = 0x80
_SHORT_LIST: Final = 0x90
# A result is 2 deep, an argument 3.
_MAX_DEPTH: Final = 5
_MARKER_SIZE: Final = 16


class LargeArrays:
    """The large arrays of one message that is being written.

    Args:
        type_key: The key of the map that stands for an array.
    """

    def __init__(self, type_key: str) -> None:
        self._type_key = type_key.encode()
        self._places: list[tuple[bytes, memoryview, bytes]] = []

    def put(self, items: memoryview, dtype: str, shape: Sequence[int]) -> msgspec.Raw:
        """What stands for an array in the value to be written, until `fill_in`; in the order of writing."""
        marker = secrets.token_bytes(_MARKER_SIZE)
        rest = b"".join(map(msgspec.msgpack.encode, ("dtype", dtype, "shape", list(shape))))
        self._places.append((marker, items, rest))
        return msgspec.Raw(marker)

    def fill_in(self, packed: bytes) -> bytes:
        """The message, with the arrays where they belong.

        Raises:
            OverflowError: if an array is longer than msgpack can say.
        """
        parts: list[bytes | memoryview] = []
        start = size = 0
        for marker, items, rest in self._places:
            end = packed.index(marker, start)
            head = self._head(size + end - start, len(items))
            parts += (packed[start:end], head, items, rest)
            size += end - start + len(head) + len(items) + len(rest)
            start = end + len(marker)
        parts.append(packed[start:])
        return b"".join(parts)

    def _head(self, start: int, length: int) -> bytes:
        """All of an array that stands before its items, which will be aligned if this is at `start`."""
        texts = (self._type_key, b"ndarray", b"data")
        header = bytes([_BIN32]) + length.to_bytes(_BIN32_HEADER - 1, "big")
        shortest = 1 + sum(1 + len(text) for text in texts) + len(header)
        filling = _FILLINGS[-(start + shortest) % _ALIGNMENT]
        return b"".join((bytes([_SHORT_MAP + 4]), *map(_text, texts, filling), header))


def _text(text: bytes, more: int) -> bytes:
    """A text with a header that is so many bytes longer than the shortest."""
    if not more:
        return bytes([0xA0 + len(text)]) + text
    return {1: b"\xd9", 2: b"\xda", 4: b"\xdb"}[more] + len(text).to_bytes(more, "big") + text


class InPlace:
    """Reads messages, with the items of large arrays as views of them.

    Args:
        type_key: The key of the map that stands for an array.
        refuse: Called for extensions of msgpack; it raises.
        decode: Reads everything else.
    """

    def __init__(
        self, type_key: str, refuse: Callable[[int, memoryview], Any], decode: Callable[[Any], Any]
    ) -> None:
        self._type_key = type_key
        self._decode = decode
        self._decode_map = msgspec.msgpack.Decoder(dict[Any, msgspec.Raw], ext_hook=refuse).decode
        self._decode_list = msgspec.msgpack.Decoder(list[msgspec.Raw], ext_hook=refuse).decode

    def parse(self, data: memoryview) -> Any:
        """The plain value. Raises as `decode` does."""
        return self._parse(data, _MAX_DEPTH, len(data))

    def _parse(self, data: Any, depth: int, size: int) -> Any:
        data = memoryview(data)
        kind = data[0] & 0xF0 if depth and len(data) >= LARGE_ARRAY else 0
        if kind == _SHORT_LIST:
            return [self._parse(item, depth - 1, size) for item in self._decode_list(data)]
        if kind != _SHORT_MAP:
            return self._decode(data)
        items = self._decode_map(data)
        if self._type_key not in items or self._decode(items[self._type_key]) != "ndarray":
            return {key: self._parse(item, depth - 1, size) for key, item in items.items()}
        return {
            key: self._items(memoryview(item), size) if key == "data" else self._decode(item)
            for key, item in items.items()
        }

    def _items(self, data: memoryview, size: int) -> Any:
        """A view, if that keeps little else in memory, and is where numpy wants it."""
        view = data[_BIN32_HEADER:]
        if data[0] == _BIN32 and 2 * len(view) >= size and _address(view) % _ALIGNMENT == 0:
            return view
        return self._decode(data)


def _address(view: memoryview) -> int:
    address: int = np.frombuffer(view, np.uint8).__array_interface__["data"][0]
    return address
