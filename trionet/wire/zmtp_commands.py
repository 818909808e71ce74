"""The greeting and the commands of ZMTP 3: how they are written and read.

The greeting is 64 bytes: a signature of 10, the version (2), the name of the mechanism (20), and what NULL
has no use for. A command is a frame whose body is the length of a name (1 byte), the name, and data that
depend on it: READY carries properties, ERROR a reason, PING and PONG some bytes to be repeated.

Protocol facts: RFC 37 (ZMTP 3.1), and recorded from libzmq 4.3.5 (tests/data/transcripts).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import Final

from trionet.wire.zmtp_frames import COMMAND, LONG, SHORTEST_LONG, Frame

#: Bytes of a PING that its PONG repeats, at most.
MAX_PING_CONTEXT: Final = 16

# libzmq puts the length of its identity + 1 into the eight bytes; nobody reads it.
_SIGNATURE: Final = bytes.fromhex("ff 00 00 00 00 00 00 00 01 7f")
_MECHANISM: Final = b"NULL".ljust(20, b"\0")
#: What both sides send first: version 3.1, NULL.
GREETING: Final = _SIGNATURE + b"\x03\x01" + _MECHANISM + bytes(32)
# What earlier versions have in place of the major version.
_OLD_REVISIONS: Final = {0: "1.0", 1: "2.0", 2: "2.1"}


def check_greeting(start: bytes) -> None:
    """Look at as much of a greeting as there is.

    Raises:
        ValueError: if it cannot become one of ZMTP 3 with NULL.
    """
    # ZMTP 1.0 begins with the length and the flags of an identity: 1 byte or 0xff and 8 bytes, then 0.
    if start[:1] not in (b"", b"\xff") and len(start) > 1:
        raise ValueError(
            _too_old("1.0") if start[0] and not start[1] else f"not a ZeroMQ peer: {start[:40]!r}"
        )
    if len(start) > 9 and start[9] != _SIGNATURE[9]:
        raise ValueError(_too_old("1.0") if not start[9] else f"not a ZeroMQ peer: {start[:40]!r}")
    if len(start) > 10 and start[10] in _OLD_REVISIONS:
        raise ValueError(_too_old(_OLD_REVISIONS[start[10]]))
    mechanism = start[12:32]
    if len(mechanism) == 20 and mechanism != _MECHANISM:
        name = mechanism.rstrip(b"\0").decode("ascii", "replace")
        raise ValueError(f"the peer asks for the mechanism {name!r}, only NULL is spoken here")


def _too_old(version: str) -> str:
    return f"the peer speaks ZMTP {version}, version 3 is needed (libzmq 4.0 or newer)"


def encode_command(name: bytes, data: bytes) -> bytes:
    """A command, with the header of its frame."""
    body = bytes([len(name)]) + name + data
    if len(body) < SHORTEST_LONG:
        return bytes([COMMAND, len(body)]) + body
    return bytes([COMMAND | LONG]) + len(body).to_bytes(8, "big") + body


def decode_command(body: Frame) -> tuple[bytes, bytes]:
    """The name of a command and its data.

    Raises:
        ValueError: if it is none.
    """
    content = bytes(body)
    if not content or not content[0] or len(content) <= content[0]:
        raise ValueError(f"a command without a whole name: {content[:40]!r}")
    end = 1 + content[0]
    return content[1:end], content[end:]


def encode_properties(properties: Mapping[str, bytes]) -> bytes:
    """The data of READY."""
    return b"".join(_encode_property(name.encode("ascii"), value) for name, value in properties.items())


def _encode_property(name: bytes, value: bytes) -> bytes:
    return bytes([len(name)]) + name + struct.pack(">I", len(value)) + value


def decode_properties(data: bytes) -> dict[str, bytes]:
    """The properties in the data of READY, with the names as they are written there.

    Raises:
        ValueError: if they are not properties, one behind the other.
    """
    return dict(_split_properties(data))


def _split_properties(data: bytes) -> Iterator[tuple[str, bytes]]:
    position = 0
    while position < len(data):
        name_end = position + 1 + data[position]
        value_start = name_end + 4
        value_end = value_start + int.from_bytes(data[name_end:value_start], "big")
        if name_end == position + 1 or value_end > len(data):
            raise ValueError(f"properties that are cut off, or have no name: {data[position:][:40]!r}")
        yield data[position + 1 : name_end].decode("ascii"), data[value_start:value_end]
        position = value_end


def decode_ping(data: bytes) -> tuple[float, bytes]:
    """Seconds to live, and the bytes to be repeated.

    Raises:
        ValueError: if the time is cut off.
    """
    if len(data) < 2:
        raise ValueError(f"a PING that is cut off: {data!r}")
    # libzmq cuts longer contexts, too.
    return int.from_bytes(data[:2], "big") / 10, data[2 : 2 + MAX_PING_CONTEXT]


def decode_reason(data: bytes) -> str:
    """The text of an ERROR, as far as it is one, on one line."""
    text = data[1 : 1 + data[0]].decode("ascii", "replace") if data else ""
    return "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text
    )
