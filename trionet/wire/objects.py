"""The messages of pyacq's object proxies: requests and replies, as frames of ZeroMQ messages.

    request     req_id, action, return_type, serializer, options     five frames
    reply       {"action": "return", "req_id": .., "rval": .., "error": ..}      one frame
    notice      {"action": "disconnect"}                             one frame, when the server ends

A client chooses the serializer with each request, and is answered in it. A request with a negative number
is answered by nothing, not even an error. An error is the name of its class and a list of lines.

Protocol facts: recorded from pyacq (tests/data/transcripts).
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Literal, get_args

from trionet.wire.errors import RemoteError, RemoteProtocolError
from trionet.wire.object_values import SERIALIZERS, Serializer
from trionet.wire.packed_exceptions import PackedException, exception_text
from trionet.wire.zmtp_frames import Frame

#: What a client wants of a result: a copy if its type has one; a proxy; a copy if at all possible.
ReturnType = Literal["auto", "proxy", "value"]
_RETURN_TYPES: Final = get_args(ReturnType)

#: The number of requests that are not answered.
NO_REPLY: Final = -1
_FRAMES_OF_REQUEST: Final = 5

# Upstream takes whatever Python reads as a number. More digits could not be answered in msgpack.
_MOST_DIGITS: Final = 18
_NUMBER: Final = re.compile(rb"\s*([+-]?[0-9]{1,%d})\s*" % _MOST_DIGITS)
_LONGEST_NAME: Final = 256
_ANSWER_WITH: Final = "msgpack"
# What nearly all requests consist of, for a quick look.
_WORDS: Final[dict[Frame, str]] = {
    word.encode(): word
    for word in ("call_obj", "get_obj", "get_item", "delete", "ping", "auto", "proxy", "value", *SERIALIZERS)
}


@dataclass(slots=True)
class ObjectRequest:
    """What a client wants. Not frozen, which would take as long as reading it.

    Attributes:
        number: Its number, by which the reply is known; negative if there is to be none.
        action: Name of what is to be done.
        return_type: A `ReturnType`; any other word means ``"value"``.
        serializer: Name of the serializer of the options, and of the reply.
        options: What the action needs, not decoded yet; empty for nothing.
    """

    number: int
    action: str
    return_type: str
    serializer: str
    options: Frame

    @property
    def wants_reply(self) -> bool:
        """Whether an answer is expected, be it an error."""
        return self.number >= 0

    @property
    def reply_serializer(self) -> str:
        """In what to answer: one that is unknown to us cannot be used."""
        return self.serializer if self.serializer in SERIALIZERS else _ANSWER_WITH


@dataclass(slots=True)
class ObjectReply:
    """The answer to a request. Not frozen, either.

    Attributes:
        number: That of the request.
        value: The result, as `Serializer.parse` gives it: still to be revived.
        failure: The exception it ended with instead.
    """

    number: int
    value: Any
    failure: PackedException | None


@dataclass(frozen=True, slots=True)
class Disconnect:
    """The server ends: it answers nothing any more."""


def encode_request(
    serializer: Serializer,
    number: int,
    action: str,
    options: Mapping[str, Any] | None = None,
    return_type: ReturnType = "auto",
) -> list[bytes]:
    """The frames of a request.

    Raises:
        TypeError: if the options cannot be written (ValueError likewise).
        ValueError: for another `return_type`: servers take it for ``"value"``.
    """
    if return_type not in _RETURN_TYPES:
        raise ValueError(f"return_type must be one of {', '.join(_RETURN_TYPES)}, not {return_type!r}")
    return [
        b"%d" % number,
        action.encode(),
        return_type.encode(),
        serializer.name.encode(),
        b"" if options is None else serializer.dumps_items(options),
    ]


def decode_request(frames: Sequence[Frame]) -> ObjectRequest:
    """Read a request.

    Raises:
        RemoteProtocolError: if it is none that could be answered, if only with an error.
    """
    if len(frames) != _FRAMES_OF_REQUEST:
        raise RemoteProtocolError(
            f"a request of {len(frames)} frames, instead of {_FRAMES_OF_REQUEST}: no client of object proxies"
        )
    number, action, return_type, serializer, options = frames
    return ObjectRequest(_read_number(number), _name(action), _name(return_type), _name(serializer), options)


def _read_number(frame: Frame) -> int:
    if type(frame) is bytes and frame.isdigit() and len(frame) <= _MOST_DIGITS:
        return int(frame)
    number = _NUMBER.fullmatch(frame) if len(frame) < _LONGEST_NAME else None
    if number is None:
        raise RemoteProtocolError(f"a request without a number: {bytes(frame[:40])!r}")
    return int(number[1])


def wants_reply(frames: Sequence[Frame]) -> bool:
    """Whether a request that was not decoded yet is to be answered."""
    return not (frames and bytes(frames[0][:_LONGEST_NAME]).lstrip().startswith(b"-"))


def _name(frame: Frame) -> str:
    word = _WORDS.get(frame) if type(frame) is bytes else None  # a view of much cannot be looked up
    return word or bytes(frame[:_LONGEST_NAME]).decode(errors="replace")


def parse_options(serializer: Serializer, request: ObjectRequest) -> dict[str, Any]:
    """What an action needs, still to be revived.

    Raises:
        ValueError: if it cannot be read. TypeError: if it is no map.
    """
    if not request.options:
        return {}
    options = serializer.parse(request.options)
    if options is None:
        return {}
    if not isinstance(options, dict):
        raise TypeError(f"the options of a request must be a map, not {type(options).__name__}")
    return options


def encode_result(serializer: Serializer, number: int, value: Any) -> bytes:
    """The frame of a reply with a result.

    Raises:
        TypeError: if the value cannot be written (ValueError likewise).
    """
    return _encode_reply(serializer, number, value, None)


def encode_failure(serializer: Serializer, number: int, failure: PackedException) -> bytes:
    """The frame of a reply that says what went wrong. The lines are what upstream's clients show."""
    return _encode_reply(serializer, number, None, [failure.class_name, [*map(_text, failure.traceback)]])


def _encode_reply(serializer: Serializer, number: int, value: Any, error: Any) -> bytes:
    return serializer.dumps_items({"action": "return", "req_id": number, "rval": value, "error": error})


def _text(line: str) -> str:
    """Text that UTF-8 can carry: of an exception, what cannot be is better than nothing."""
    return line.encode(errors="backslashreplace").decode()


def encode_disconnect(serializer: Serializer) -> bytes:
    """The frame that says that the server ends."""
    return serializer.dumps({"action": "disconnect"})


def decode_from_server(serializer: Serializer, frames: Sequence[Frame]) -> ObjectReply | Disconnect:
    """Read what a server sent. Keys that are unknown are ignored.

    Raises:
        RemoteProtocolError: if it is neither a reply nor a notice.
    """
    if len(frames) != 1:
        raise RemoteProtocolError(f"a reply of {len(frames)} frames: no server of object proxies")
    try:
        reply = serializer.parse(frames[0])
    except ValueError as error:
        raise RemoteProtocolError(f"expected a reply: {error}") from error
    if isinstance(reply, dict):
        action, number = reply.get("action"), reply.get("req_id")
        if action == "return" and isinstance(number, int):
            return ObjectReply(number, reply.get("rval"), _read_failure(reply.get("error")))
        if action == "disconnect":
            return Disconnect()
    raise RemoteProtocolError(f"expected a reply, not {str(reply)[:80]}")


def pack_failure(error: BaseException, caller: str, number: int, *, hide: tuple[str, ...]) -> PackedException:
    """Turn an exception into what is sent.

    Args:
        error: The exception.
        caller: Who made the request.
        number: Its number.
        hide: Beginnings of names of modules whose frames are left out at the outer end of the traceback.
    """
    frames: TracebackType | None = error.__traceback__
    while frames is not None and str(frames.tb_frame.f_globals.get("__name__")).startswith(hide):
        frames = frames.tb_next
    name = error.class_name if isinstance(error, RemoteError) else type(error).__name__
    shown = printable(error)
    lines = (
        f"Error while processing request {caller} [{number}]: ",
        " < exception caught here >\n",
        *traceback.format_exception(type(shown), shown, frames),
    )
    return PackedException(name, "", lines)


def printable(error: BaseException) -> BaseException:
    """The exception itself; or, where Python cannot print that, one of the same name and text."""
    try:
        traceback.format_exception(error)
    except Exception as problem:  # of a SyntaxError without numbers, or whatever a class of its own does
        stand_in: type[Exception] = type(type(error).__name__, (Exception,), {"__module__": "builtins"})
        return stand_in(f"{exception_text(error)} (not printed as usual: {problem!r})")
    return error


def _read_failure(error: Any) -> PackedException | None:
    """Read what a server says of an exception. Parts that are missing or of a wrong type are made up for."""
    if error is None:
        return None
    pair = error if isinstance(error, list) and len(error) == 2 else [type(error).__name__, [str(error)]]
    name, lines = str(pair[0])[:_LONGEST_NAME], pair[1]
    texts = tuple(map(str, lines)) if isinstance(lines, list) else (str(lines),)
    return PackedException(name, _message(name, texts), texts)


def _message(name: str, lines: Sequence[str]) -> str:
    """The text of an exception: behind its name, in the last line of the traceback that begins with that.

    Behind that line there may be notes; before the name, its module.
    """
    start = re.compile(rf"(?:[\w.]+\.)?{re.escape(name)}(?:: |\s*\Z)")
    for line in reversed(lines):
        if (found := start.match(line)) is not None:
            return line[found.end() :].rstrip("\n")
    return ""
