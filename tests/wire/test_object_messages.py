"""Requests and replies of object proxies, and the references of a server."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trionet.wire.errors import RemoteError, RemoteProtocolError
from trionet.wire.object_references import ObjectTable
from trionet.wire.object_values import SERIALIZERS, JsonSerializer, MsgpackSerializer
from trionet.wire.objects import (
    Disconnect,
    ObjectReply,
    decode_from_server,
    decode_request,
    encode_disconnect,
    encode_failure,
    encode_request,
    encode_result,
    pack_failure,
    parse_options,
)
from trionet.wire.zmtp_frames import Frame

FOLDER = Path(__file__).parent.parent / "data" / "transcripts"
SESSIONS = ("msgpack_session", "json_session", "close_disconnect")
# A map that upstream reads as nil: it is read so, and never written.
_UPSTREAM_ONLY = b"61"


def messages(scenario: str) -> list[tuple[str, str, list[bytes]]]:
    """Who sent it, in the serializer of which request, and the frames."""
    content: dict[str, Any] = json.loads((FOLDER / f"pyacq_{scenario}.json").read_text())
    latest: dict[int, str] = {}
    found = []
    for message in content["messages"]:
        if message.get("zmtp") != "message":
            continue
        frames = [base64.b64decode(frame["body_b64"]) for frame in message["frames"]]
        connection = message.get("conn", 0)
        if message["from"] == "client":
            latest[connection] = frames[3].decode()
        found.append((message["from"], latest[connection], frames))
    return found


@pytest.mark.parametrize("scenario", SESSIONS)
def test_requests_are_written_as_upstream_wrote_them(scenario: str) -> None:
    written = 0
    for sender, name, frames in messages(scenario):
        if sender == "client" and frames[0] != _UPSTREAM_ONLY:
            request = decode_request(frames)
            serializer = SERIALIZERS[name]()
            options = serializer.revive(parse_options(serializer, request)) if request.options else None
            return_type: Any = request.return_type
            assert encode_request(serializer, request.number, request.action, options, return_type) == frames
            written += 1
    assert written >= 3


@pytest.mark.parametrize("scenario", SESSIONS)
def test_replies_are_written_as_upstream_wrote_them(scenario: str) -> None:
    written = 0
    for sender, name, frames in messages(scenario):
        if sender == "server":
            serializer = SERIALIZERS[name]()
            message = decode_from_server(serializer, frames)
            if isinstance(message, Disconnect):
                assert [encode_disconnect(serializer)] == frames
            elif message.failure is not None:
                assert [encode_failure(serializer, message.number, message.failure)] == frames
            else:
                value = serializer.revive(message.value)
                assert [encode_result(serializer, message.number, value)] == frames
            written += 1
    assert written >= 5


def test_texts_of_upstream_exceptions_are_found() -> None:
    failures = []
    for sender, name, frames in messages("msgpack_session"):
        if sender == "server":
            message = decode_from_server(SERIALIZERS[name](), frames)
            if isinstance(message, ObjectReply) and message.failure is not None:
                failures.append((message.failure.class_name, message.failure.message))
    assert failures[:3] == [
        ("KeyError", "'missing'"),
        ("ValueError", "remote failure ⚛"),
        ("TypeError", "unsupported operand type(s) for +: 'int' and 'str'"),
    ]


@pytest.mark.parametrize(
    "frames",
    [
        [],
        [b"0", b"ping"],
        [b"0", b"ping", b"auto", b"msgpack", b"", b""],
        [b"x", b"ping", b"auto", b"msgpack", b""],
        [b"", b"ping", b"auto", b"msgpack", b""],
        [b"1_0", b"ping", b"auto", b"msgpack", b""],
        [b"9" * 20, b"ping", b"auto", b"msgpack", b""],
        [b" " * 100_000, b"ping", b"auto", b"msgpack", b""],
    ],
    ids=lambda frames: str(frames)[:40],
)
def test_request_that_could_not_be_answered_is_refused(frames: list[bytes]) -> None:
    with pytest.raises(RemoteProtocolError, match="a request"):
        decode_request(frames)


def test_result_that_is_wanted_in_no_known_way_is_refused() -> None:
    with pytest.raises(ValueError, match="return_type must be one of auto, proxy, value, not 'copy'"):
        encode_request(MsgpackSerializer(), 1, "ping", None, "copy")  # type: ignore[arg-type]


def test_number_is_read_as_upstream_reads_it() -> None:
    request = decode_request([b" 8 ", b"ping", b"auto", b"msgpack", b""])
    assert request.number == 8
    assert request.wants_reply
    assert not decode_request([b"-7", b"ping", b"auto", b"msgpack", b""]).wants_reply


@pytest.mark.parametrize("place", [1, 2, 3])
def test_names_that_are_too_long_are_unknown(place: int) -> None:
    """Frames of this size are views."""
    frames: list[Frame] = [b"1", b"ping", b"auto", b"msgpack", b""]
    frames[place] = np.full(100_000, ord("x"), np.uint8).data.toreadonly()
    request = decode_request(frames)
    assert (request.action, request.return_type, request.serializer)[place - 1] == "x" * 256


def test_unknown_serializer_is_answered_in_msgpack() -> None:
    request = decode_request([b"0", b"ping\xff", b"auto", b"pickle", b""])
    assert request.serializer == "pickle"
    assert request.reply_serializer == "msgpack"


@pytest.mark.parametrize("options", [b"\x91\x01", b"\x05", b"\xa1x"])
def test_options_that_are_no_map_are_refused(options: bytes) -> None:
    request = decode_request([b"0", b"ping", b"auto", b"msgpack", options])
    with pytest.raises(TypeError, match="must be a map"):
        parse_options(MsgpackSerializer(), request)


@pytest.mark.parametrize(
    "reply",
    [
        [b""],
        [b"\xc1"],
        [b"\x05"],
        [b"\x80", b"\x80"],
        [MsgpackSerializer().dumps({"action": "dance"})],
        [MsgpackSerializer().dumps({"action": "return", "req_id": "0"})],
    ],
)
def test_what_is_no_reply_is_refused(reply: list[bytes]) -> None:
    with pytest.raises(RemoteProtocolError, match="a reply"):
        decode_from_server(MsgpackSerializer(), reply)


@pytest.mark.parametrize(
    ("error", "read"),
    [
        (["ValueError", ["Traceback:\n", "ValueError: a\nb\n"]], ("ValueError", "a\nb")),
        (["ValueError", ["ValueError: cause\n", "ValueError: effect\n"]], ("ValueError", "effect")),
        (["Odd", ["lab.errors.Odd: text\n", "a note\n"]], ("Odd", "text")),
        (["ValueError", ["ValueError\n"]], ("ValueError", "")),
        (["ValueError", []], ("ValueError", "")),
        (["ValueError", "ValueError: x"], ("ValueError", "x")),
        ("just text", ("str", "")),
        pytest.param(["x" * 999, ["x" * 256 + ": a"]], ("x" * 256, "a"), id="long"),
    ],
)
def test_errors_are_read_liberally(error: Any, read: tuple[str, str]) -> None:
    reply = MsgpackSerializer().dumps({"action": "return", "req_id": 0, "error": error, "more": 1})
    message = decode_from_server(MsgpackSerializer(), [reply])
    assert isinstance(message, ObjectReply)
    assert message.failure is not None
    assert (message.failure.class_name, message.failure.message) == read


def test_exception_travels_with_its_lines() -> None:
    try:
        raise ValueError("no\ud800")
    except ValueError as error:
        packed = pack_failure(error, "peer", 5, hide=("nothing",))
    for serializer in (MsgpackSerializer(), JsonSerializer()):
        message = decode_from_server(serializer, [encode_failure(serializer, 5, packed)])
        assert isinstance(message, ObjectReply)
        assert message.failure is not None
        assert message.failure.message == "no\\ud800"
        lines = message.failure.traceback
        assert lines[0] == "Error while processing request peer [5]: "
        assert "test_exception_travels_with_its_lines" in "".join(lines)


def test_exception_that_was_passed_on_keeps_its_name() -> None:
    assert pack_failure(RemoteError("Odd", "x"), "peer", 5, hide=()).class_name == "Odd"


def test_object_keeps_its_number_and_references_do_not() -> None:
    table = ObjectTable()
    thing, other = object(), object()
    assert [table.add(one, "a") for one in (thing, other, thing)] == [(0, 0), (1, 1), (0, 2)]
    assert table.objects == 2
    assert table.held_by("a") == 3


def test_object_ends_with_its_last_reference() -> None:
    table = ObjectTable()
    thing = object()
    first, second = table.add(thing, "a"), table.add(thing, "b")
    table.release(*first, "a")
    assert table.use(*second, "b") is thing
    with pytest.raises(KeyError, match="released"):
        table.use(*first, "a")
    table.release_all("b")
    assert table.objects == 0
    assert table.add(thing, "a") == (1, 2)


def test_reference_is_held_by_those_who_have_used_it() -> None:
    table = ObjectTable()
    reference = table.add(object(), "a")
    table.use(*reference, "b")
    table.release_all("a")
    table.use(*reference, "b")
    with pytest.raises(KeyError):
        table.release(*reference, "a")
    table.release(*reference, "b")
    assert table.objects == 0


@pytest.mark.parametrize("reference", [(5, 0), (0, 5), (-1, 0)])
def test_unknown_reference_is_no_object(reference: tuple[int, int]) -> None:
    table = ObjectTable()
    table.add(object(), "a")
    with pytest.raises(KeyError):
        table.use(*reference, "a")
    with pytest.raises(KeyError):
        table.release(*reference, "a")
