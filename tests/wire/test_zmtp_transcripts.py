"""What libzmq and pyacq said to each other, replayed: both sides are read, and written again byte by byte."""

from __future__ import annotations

import base64
import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.wire.pair import cut
from tests.wire.zmtp_bytes import events_of
from trionet.wire.zmtp import Message, PeerGreeted, PeerReady, SocketType, ZmtpConnection

FOLDER = Path(__file__).parent.parent / "data" / "transcripts"
FILES = sorted(path.name for path in FOLDER.glob("pyacq_*.json"))
OTHER = {"client": "server", "server": "client"}


@cache
def transcript(file: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((FOLDER / file).read_text())
    return content


def units(file: str, stream: str, kind: str) -> list[dict[str, Any]]:
    """The greeting, commands or messages of ``CONN.SIDE``."""
    number, side = stream.split(".")
    messages: list[dict[str, Any]] = transcript(file)["messages"]
    return [
        message
        for message in messages
        if message.get("conn", 0) == int(number) and message["from"] == side and message.get("zmtp") == kind
    ]


def connection_of(file: str, stream: str) -> ZmtpConnection:
    """A connection with the type and identity that this side has."""
    (ready,) = units(file, stream, "command")
    properties = ready["properties"]
    return ZmtpConnection(
        SocketType(properties["Socket-Type"]), identity=properties.get("Identity", "").encode()
    )


STREAMS = [(file, stream) for file in FILES for stream in transcript(file)["raw_streams"]]


def test_all_files_are_there() -> None:
    assert len(FILES) == 9
    assert len(STREAMS) == 26


@pytest.mark.parametrize(("file", "stream"), STREAMS)
@pytest.mark.parametrize("length", [13, 1 << 20])
def test_a_side_is_read_and_written_as_it_was(file: str, stream: str, length: int) -> None:
    raw = base64.b64decode(transcript(file)["raw_streams"][stream])
    number, side = stream.split(".")
    reader = connection_of(file, f"{number}.{OTHER[side]}")
    reader.greet()
    greeted, *events = events_of(reader, raw[:64])
    reader.ready()
    for piece in cut(raw[64:], length):
        events += events_of(reader, piece)
    ready, *messages = events
    assert isinstance(greeted, PeerGreeted)
    assert isinstance(ready, PeerReady)
    recorded = [
        Message([base64.b64decode(frame["body_b64"]) for frame in unit["frames"]])
        for unit in units(file, stream, "message")
    ]
    assert messages == recorded
    assert reader.is_between_messages

    writer = connection_of(file, stream)
    # libzmq's signature holds the length of its identity.
    written = raw[:10] + writer.greet()[10:]
    other = base64.b64decode(transcript(file)["raw_streams"][f"{number}.{OTHER[side]}"])
    assert isinstance(events_of(writer, other[:64])[0], PeerGreeted)
    written += writer.ready()
    writer.receive_data(other[64:])
    assert isinstance(writer.next_event(), PeerReady)
    for message in recorded:
        written += b"".join(writer.send_message(message.frames))
    assert written == raw
