"""The lines of pc_rpc, to and from Python.

The envelope of a v2 message has few forms, so it is written and read around its values: the result of a
call is decoded where it stands instead of together with a dict that would only be taken apart again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import msgspec

from trionet import pyon
from trionet.pyon import PyonDecodeError, v1
from trionet.wire.errors import excerpt
from trionet.wire.packed_exceptions import PackedException, unpack

BANNER: Final = b"ARTIQ pc_rpc"
#: The feature that stands for PYON v2; without it both sides speak v1.
PYON_V2: Final = "pyon_v2"

# Longer lines go to the PYON decoder whole: it looks for big arrays in them.
_SHORT: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class Greeting:
    """What a server says of itself."""

    targets: tuple[str, ...]
    description: str | None
    features: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Call:
    """A request to call a method."""

    method: str
    args: Sequence[Any]
    kwargs: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ListMethods:
    """A request for the documentation of the target."""


@dataclass(frozen=True, slots=True)
class BadRequest:
    """A request that could be read but makes no sense: to be answered with this exception."""

    error: Exception


Request = Call | ListMethods | BadRequest


def encode_greeting(greeting: Greeting) -> bytes:
    """Line 2 of the handshake: plain JSON in every era."""
    content = {
        "targets": sorted(greeting.targets),
        "description": greeting.description,
        "features": list(greeting.features),
    }
    return json.dumps(content, separators=(",", ":")).encode() + b"\n"


def decode_greeting(line: bytes) -> Greeting:
    """Read line 2. Keys and features that are not known are left out; before sipyco 1.10 there are none.

    Raises:
        ValueError: if it is no greeting.
    """
    content = json.loads(line)
    if not isinstance(content, dict):
        raise ValueError(f"expected an object, not {type(content).__name__}")
    targets, features = content.get("targets", ()), content.get("features", [])
    description = content.get("description")
    if not _all_str(targets) or not _all_str(features) or not isinstance(description, str | None):
        raise ValueError("targets, description or features are of a wrong type")
    if any(not name.isprintable() or " " in name for name in targets):
        raise ValueError("a name of a target that cannot be sent back")
    return Greeting(tuple(targets), description, tuple(features))


def _all_str(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


class Codec(Protocol):
    """The messages behind the handshake, in one of the two encodings."""

    def encode_methods(self, names: Sequence[str]) -> bytes: ...
    def decode_methods(self, line: bytes) -> frozenset[str]: ...
    def encode_call(self, method: str, args: Sequence[Any], kwargs: dict[str, Any]) -> bytes: ...
    def encode_list_methods(self) -> bytes: ...
    def decode_request(self, line: bytes) -> Request: ...
    def encode_result(self, value: Any) -> bytes: ...
    def encode_failure(self, packed: PackedException) -> bytes: ...
    def decode_reply(self, line: bytes) -> tuple[Any, PackedException | None]: ...


class GenericCodec:
    """Messages as whole values of any PYON version."""

    def __init__(self, encode: Callable[[Any], str], decode: Callable[[bytes], Any]) -> None:
        self._encode = encode
        self._decode = decode

    def _line(self, value: Any) -> bytes:
        return self._encode(value).encode() + b"\n"

    def encode_methods(self, names: Sequence[str]) -> bytes:
        """Line 4 of the handshake. Upstream asks only whether a name is in it; a v1 set must not be empty."""
        return self._line(set(names) if names else [])

    def decode_methods(self, line: bytes) -> frozenset[str]:
        """Read line 4, a set or a list.

        Raises:
            ValueError: if it is neither, or holds anything but names.
        """
        names = self._decode(line)
        if not isinstance(names, (set, list, tuple, dict)) or not all(
            isinstance(name, str) for name in names
        ):
            raise ValueError("expected a set of method names")
        return frozenset(names)

    def encode_call(self, method: str, args: Sequence[Any], kwargs: dict[str, Any]) -> bytes:
        """A request; TypeError or ValueError for arguments that PYON does not carry."""
        return self._line({"action": "call", "name": method, "args": tuple(args), "kwargs": kwargs})

    def encode_list_methods(self) -> bytes:
        """The other request."""
        return self._line({"action": "get_rpc_method_list"})

    def decode_request(self, line: bytes) -> Request:
        """Read a request.

        Raises:
            PyonDecodeError: if the line is not PYON. Anything else that is wrong is a `BadRequest`.
        """
        return read_request(self._decode(line))

    def encode_result(self, value: Any) -> bytes:
        """A reply; TypeError or ValueError for a result that PYON does not carry."""
        return self._line({"status": "ok", "ret": value})

    def encode_failure(self, packed: PackedException) -> bytes:
        """The other reply."""
        return self._line({"status": "failed", "exception": packed.as_dict()})

    def decode_reply(self, line: bytes) -> tuple[Any, PackedException | None]:
        """Read a reply: the result, and the exception if there was one.

        Raises:
            ValueError: if it is none.
        """
        return read_reply(self._decode(line))


def read_request(request: Any) -> Request:
    """Make sense of a decoded request, with the complaints that upstream would answer."""
    if not isinstance(request, dict):
        return BadRequest(TypeError(f"a request must be a dict, not {type(request).__name__}"))
    try:
        action = request["action"]
        if not isinstance(action, str) or action not in ("call", "get_rpc_method_list"):
            return BadRequest(ValueError(f"Unknown action: {excerpt(action, 100)}"))
        if action == "get_rpc_method_list":
            return ListMethods()
        method, args, kwargs = request["name"], request["args"], request["kwargs"]
    except KeyError as error:
        return BadRequest(error)
    if not isinstance(method, str):
        return BadRequest(TypeError(f"a method name must be a string, not {type(method).__name__}"))
    if not isinstance(args, (tuple, list)):
        return BadRequest(TypeError(f"args must be a sequence, not {type(args).__name__}"))
    if not isinstance(kwargs, dict) or not all(isinstance(key, str) for key in kwargs):
        return BadRequest(TypeError("kwargs must be a dict with keys that are strings"))
    return Call(method, args, kwargs)


def read_reply(reply: Any) -> tuple[Any, PackedException | None]:
    """Make sense of a decoded reply; ValueError if there is none in it."""
    if isinstance(reply, dict):
        status = reply.get("status")
        if status == "ok" and "ret" in reply:
            return reply["ret"], None
        if status == "failed" and isinstance(reply.get("exception"), dict):
            return None, unpack(reply["exception"])
    raise ValueError("neither a result nor an exception")


class _RequestEnvelope(msgspec.Struct, forbid_unknown_fields=True):
    action: str
    name: str
    args: msgspec.Raw
    kwargs: msgspec.Raw


class _ReplyEnvelope(msgspec.Struct, forbid_unknown_fields=True):
    status: str
    ret: msgspec.Raw


_read_request_envelope = msgspec.json.Decoder(_RequestEnvelope).decode
_read_reply_envelope = msgspec.json.Decoder(_ReplyEnvelope).decode

_TUPLE_HEAD: Final = b'{"__jsonclass__":["tuple",['
_TUPLE_TAIL: Final = b"]]}"


class V2Codec(GenericCodec):
    """PYON v2, with shorter ways for the calls and results that make up the traffic."""

    def __init__(self) -> None:
        super().__init__(pyon.encode, pyon.decode)

    def encode_call(self, method: str, args: Sequence[Any], kwargs: dict[str, Any]) -> bytes:
        tail = b']]},"kwargs":' + (pyon.encode_bytes(kwargs) if kwargs else b"{}") + b"}\n"
        head = f'{{"action":"call","name":{json.dumps(method)},"args":{{"__jsonclass__":["tuple",['
        return pyon.encode_bytes(list(args), head.encode(), tail)

    def decode_request(self, line: bytes) -> Request:
        if len(line) <= _SHORT:
            try:
                envelope = _read_request_envelope(line)
                if envelope.action == "call":
                    args = _decode_args(bytes(envelope.args))
                    kwargs = pyon.decode(bytes(envelope.kwargs))
                    if type(kwargs) is dict and all(type(key) is str for key in kwargs):
                        return Call(envelope.name, args, kwargs)
            except (msgspec.MsgspecError, ValueError, RecursionError):
                pass  # the whole line shows what is wrong, or that it only has an unusual form
        return super().decode_request(line)

    def encode_result(self, value: Any) -> bytes:
        return pyon.encode_bytes(value, b'{"status":"ok","ret":', b"}\n")

    def decode_reply(self, line: bytes) -> tuple[Any, PackedException | None]:
        if len(line) <= _SHORT:
            try:
                envelope = _read_reply_envelope(line)
                if envelope.status == "ok":
                    return pyon.decode(bytes(envelope.ret)), None
            except (msgspec.MsgspecError, ValueError, RecursionError):
                pass  # as above
        return super().decode_reply(line)


def _decode_args(text: bytes) -> list[Any] | tuple[Any, ...]:
    if text.startswith(_TUPLE_HEAD) and text.endswith(_TUPLE_TAIL):
        args = pyon.decode(text[len(_TUPLE_HEAD) : -len(_TUPLE_TAIL)])
        if type(args) is not list:
            raise PyonDecodeError("the argument of a tuple must be a list")
        return args
    args = pyon.decode(text)
    if not isinstance(args, (list, tuple)):
        raise PyonDecodeError("args must be a sequence")
    return args


V2: Final[Codec] = V2Codec()
V1: Final[Codec] = GenericCodec(v1.encode, v1.decode)
