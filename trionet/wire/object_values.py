"""Values as pyacq's object proxies carry them: msgpack or JSON, and maps for the types that these lack.

A map with the key `___type_name___` stands for an array, a date, or a proxy; in JSON for bytes, too. What
has no form at all is replaced by a proxy, by the function that a serializer was given for that. Both
serializers write a value in two steps: `_Writer.plain` finds what needs such a map, and a library in C does
the rest; and they read it in two: `parse` gives the plain value, `revive` makes objects of the maps.
"""

from __future__ import annotations

import binascii
import datetime
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import numpy as np
import pybase64

from trionet.wire.object_arrays import array_bytes, can_carry, printed_dtype, read_array
from trionet.wire.object_large_arrays import LARGE_ARRAY, InPlace, LargeArrays
from trionet.wire.zmtp_frames import Frame

#: The key that marks a map which stands for something else.
TYPE_KEY: Final = "___type_name___"

# What msgpack and JSON have of their own, but for integers: msgpack has them up to 64 bits only.
_ATOMS: Final = frozenset({type(None), bool, float, str})
_ATOMS_AND_INT: Final = _ATOMS | {int}
_TIME_FORM: Final = "%Y-%m-%dT%H:%M:%S.%f"

# Upstream writes these as numbers of Python, and no others of numpy.
_NUMPY_NUMBERS: Final = (np.float64, np.float32, np.int64, np.int32)


@dataclass(frozen=True, slots=True)
class ProxyReference:
    """A proxy on its way: what it stands for, and where that is.

    Attributes:
        address: Of the server that owns the object.
        object_id: Number of the object at that server.
        reference_id: Number of this reference to it.
        type_text: The printed type, for display.
        attributes: Names of attributes to be looked up first.
    """

    address: str
    object_id: int
    reference_id: int
    type_text: str = ""
    attributes: tuple[str, ...] = ()


#: Makes a reference to an object that has no form of its own, or raises TypeError.
Refer = Callable[[Any], ProxyReference]
#: Makes what a program gets to see of a reference that came.
Resolve = Callable[[ProxyReference], Any]


def refuse_to_refer(value: object) -> ProxyReference:
    """For those who have no server that could own the object."""
    raise TypeError(
        f"a value of type {type(value).__name__} cannot be copied, and there is no server of this side that"
        " could offer a proxy to it"
    )


def is_sent_by_value(value: object) -> bool:
    """Whether a result is copied if the caller leaves it to the server. Upstream's choice of types."""
    return value is None or isinstance(
        value, (str, int, float, tuple, list, dict, np.ndarray, ProxyReference)
    )


class Serializer(ABC):
    """Writes and reads values.

    One must not write in two threads at the same time.

    Args:
        refer: Called for what has no form, to make a proxy of it. By default that is a TypeError.
        resolve: Called for each proxy that came. By default it stays a `ProxyReference`.
    """

    #: As requests name it.
    name: str

    def __init__(self, refer: Refer = refuse_to_refer, resolve: Resolve | None = None) -> None:
        self._refer = refer
        self._resolve = resolve or _keep
        self._large: LargeArrays | None = None  # of the message that is being written

    def dumps(self, value: Any) -> bytes:
        """Write a value.

        Raises:
            TypeError: if there is something in it that has no form, and no proxy can be made of it.
            ValueError: if it contains itself, a time with a time zone, text that is not Unicode, or the
                reserved key in a map: reading it would give something else.
        """
        return self._dumps(self._plain, value)

    def dumps_items(self, items: Mapping[str, Any]) -> bytes:
        """Write a map whose keys are ours, and need not be looked at. Raises as `dumps` does."""
        return self._dumps(self._plain_items, items)

    def _dumps(self, make_plain: Callable[[Any], Any], value: Any) -> bytes:
        try:
            return self._write(make_plain(value))
        except RecursionError:
            raise ValueError("the value contains itself, or is nested too deeply") from None
        except OverflowError as error:
            raise ValueError(str(error)) from error
        finally:
            self._large = None

    def loads(self, data: Frame) -> Any:
        """Read a value: `revive` what `parse` finds. Raises as these do."""
        return self.revive(self.parse(data))

    def parse(self, data: Frame) -> Any:
        """Read the plain value: maps that stand for something else are left as they are.

        Raises:
            ValueError: if that is not possible.
        """
        try:
            return self._parse(data)
        except (RecursionError, UnicodeDecodeError) as error:
            raise ValueError(f"not {self.name}: {error}") from None
        except ValueError as error:
            raise ValueError(f"not {self.name}: {error}") from error

    def revive(self, value: Any) -> Any:
        """Make objects of the maps that stand for them, in place where that is possible.

        Raises:
            ValueError: if a map is not what it says.
            Exception: what `resolve` raises.
        """
        try:
            return self._revive(value)
        except RecursionError:
            raise ValueError("nested too deeply") from None

    @abstractmethod
    def _write(self, plain: Any) -> bytes: ...

    @abstractmethod
    def _parse(self, data: Frame) -> Any: ...

    @abstractmethod
    def _fits(self, number: int) -> bool:
        """Whether an integer can be written."""

    @abstractmethod
    def _binary(self, data: bytes | memoryview) -> Any:
        """The items of an array."""

    @abstractmethod
    def _bytes(self, data: bytes | bytearray | memoryview) -> Any:
        """Bytes of the program."""

    def _plain(self, value: Any) -> Any:
        """The value with maps for all that msgpack or JSON lacks."""
        kind = type(value)
        if kind in _ATOMS:
            return value
        if kind is int:
            return value if self._fits(value) else self._reference(self._refer(value))
        if kind is dict:
            return self._plain_map(value)
        if kind is list or kind is tuple:
            return self._plain_list(value)
        return self._plain_object(value)

    def _plain_list(self, items: list[Any] | tuple[Any, ...]) -> Any:
        kinds = {*map(type, items)}
        # A long list of numbers is looked at by a few calls into C only.
        if kinds <= _ATOMS or (kinds == {int} and self._fits(min(items)) and self._fits(max(items))):
            return items
        return [self._plain(item) for item in items]

    def _plain_map(self, items: dict[Any, Any]) -> dict[Any, Any]:
        if TYPE_KEY in items:
            raise ValueError(f"the key {TYPE_KEY!r} is reserved: the other side would not get this map")
        return {self._plain_key(key): self._plain(value) for key, value in items.items()}

    def _plain_items(self, items: Mapping[str, Any]) -> dict[str, Any]:
        return {key: value if type(value) in _ATOMS else self._plain(value) for key, value in items.items()}

    def _plain_key(self, key: Any) -> Any:
        if type(key) in _ATOMS_AND_INT:
            return key
        if isinstance(key, str):
            return str.__str__(key)
        raise TypeError(f"a map with a key of type {type(key).__name__} cannot be sent")

    def _plain_object(self, value: Any) -> Any:
        """Of anything but the plain types themselves."""
        if isinstance(value, ProxyReference):
            return self._reference(value)
        if isinstance(value, np.ndarray):
            return self._plain_array(value) if can_carry(value) else self._reference(self._refer(value))
        if isinstance(value, _NUMPY_NUMBERS):
            return value.item()
        if isinstance(value, (bytes, bytearray, memoryview)):
            return self._bytes(value)
        if isinstance(value, datetime.datetime):
            return {TYPE_KEY: "datetime", "data": _time_text(value)}
        if isinstance(value, datetime.date):
            return {TYPE_KEY: "date", "data": value.isoformat()}
        # Types derived from plain ones are written as these.
        if isinstance(value, dict):
            return self._plain_map(value)
        if isinstance(value, (list, tuple)):
            return self._plain_list(list(value))
        if isinstance(value, str):
            return str.__str__(value)
        if isinstance(value, int):
            return self._plain(int.__int__(value))
        if isinstance(value, float):
            return float.__float__(value)
        return self._reference(self._refer(value))

    def _plain_array(self, array: np.ndarray[Any, Any]) -> Any:
        return {
            TYPE_KEY: "ndarray",
            "data": self._binary(array_bytes(array)),
            "dtype": printed_dtype(array.dtype),
            "shape": list(array.shape),
        }

    def _reference(self, reference: ProxyReference) -> dict[str, Any]:
        return {
            TYPE_KEY: "proxy",
            "rpc_addr": reference.address,
            "obj_id": reference.object_id,
            "ref_id": reference.reference_id,
            "type_str": reference.type_text,
            "attributes": list(reference.attributes),
        }

    def _revive(self, value: Any) -> Any:
        if type(value) is list:
            kinds = {*map(type, value)}
            if dict in kinds or list in kinds:
                value[:] = map(self._revive, value)
        elif type(value) is dict:
            if TYPE_KEY in value:
                return self._revive_typed(value)
            for key, item in value.items():
                if type(item) is dict or type(item) is list:
                    value[key] = self._revive(item)
        return value

    def _revive_typed(self, value: dict[Any, Any]) -> Any:
        match value[TYPE_KEY]:
            case "ndarray":
                data = value.get("data")
                items = data if isinstance(data, memoryview) else _expect_bytes(data)
                return read_array(items, value.get("dtype"), value.get("shape"))
            case "proxy":
                return self._resolve(_checked_reference(value))
            case "bytes":
                return _expect_bytes(value.get("data"))
            case "datetime":
                return datetime.datetime.strptime(_expect_text(value.get("data")), _TIME_FORM)
            case "date":
                return datetime.date.fromisoformat(_expect_text(value.get("data")))
            case "none":
                return None
        return {key: self._revive(item) for key, item in value.items() if key != TYPE_KEY}


class MsgpackSerializer(Serializer):
    """Values in msgpack. Integers beyond 64 bits have no form."""

    name = "msgpack"

    def _write(self, plain: Any) -> bytes:
        packed = _to_msgpack(plain)
        return packed if self._large is None else self._large.fill_in(packed)

    def _parse(self, data: Frame) -> Any:
        return _from_msgpack(data) if type(data) is bytes else _in_place.parse(memoryview(data))

    def _plain_array(self, array: np.ndarray[Any, Any]) -> Any:
        if array.nbytes < LARGE_ARRAY:
            return super()._plain_array(array)
        if self._large is None:
            self._large = LargeArrays(TYPE_KEY)
        return self._large.put(array_bytes(array), printed_dtype(array.dtype), array.shape)

    def _fits(self, number: int) -> bool:
        return -(1 << 63) <= number < 1 << 64

    def _binary(self, data: bytes | memoryview) -> Any:
        return data

    def _bytes(self, data: bytes | bytearray | memoryview) -> Any:
        return data if type(data) is bytes else bytes(data)


class JsonSerializer(Serializer):
    """Values in JSON, with the blanks and escapes of Python's own. Keys of maps become text."""

    name = "json"

    def _write(self, plain: Any) -> bytes:
        return json.dumps(plain).encode()

    def _parse(self, data: Frame) -> Any:
        return json.loads(bytes(data))

    def _fits(self, number: int) -> bool:
        return True

    def _binary(self, data: bytes | memoryview) -> Any:
        return pybase64.b64encode_as_string(data)

    def _bytes(self, data: bytes | bytearray | memoryview) -> Any:
        return {TYPE_KEY: "bytes", "data": pybase64.b64encode_as_string(bytes(data))}


#: The serializers that there are, by the names in requests.
SERIALIZERS: Final[dict[str, type[Serializer]]] = {"msgpack": MsgpackSerializer, "json": JsonSerializer}


def _refuse_extension(code: int, data: memoryview) -> Any:
    raise ValueError(f"an extension of msgpack, number {code}")


_to_msgpack = msgspec.msgpack.Encoder().encode
_from_msgpack = msgspec.msgpack.Decoder(ext_hook=_refuse_extension).decode
_in_place: Final = InPlace(TYPE_KEY, _refuse_extension, _from_msgpack)


def _keep(reference: ProxyReference) -> ProxyReference:
    return reference


def _time_text(value: datetime.datetime) -> str:
    if value.tzinfo is not None:
        raise ValueError(f"{value} has a time zone, which is nothing that can be sent: convert it first")
    return value.isoformat(timespec="microseconds")


def _expect_bytes(data: object) -> bytes:
    if isinstance(data, bytes):
        return data
    try:
        return pybase64.b64decode(_expect_text(data), validate=True)
    except binascii.Error as error:
        raise ValueError(f"invalid base64: {error}") from None


def _expect_text(data: object) -> str:
    if not isinstance(data, str):
        raise ValueError(f"expected text, not {type(data).__name__}")
    return data


def read_reference(plain: Any) -> ProxyReference | None:
    """What a value is that was parsed, if it is a proxy; None if it is anything else.

    Raises:
        ValueError: if it says that it is one, and is not.
    """
    if type(plain) is not dict or plain.get(TYPE_KEY) != "proxy":
        return None
    return _checked_reference(plain)


def _checked_reference(value: dict[Any, Any]) -> ProxyReference:
    address, object_id, reference_id = value.get("rpc_addr"), value.get("obj_id"), value.get("ref_id")
    type_text, names = value.get("type_str", ""), value.get("attributes", [])
    if (
        not isinstance(address, str)
        or not isinstance(type_text, str)
        or not isinstance(names, list)
        or not all(isinstance(name, str) for name in names)
        or type(object_id) is not int
        or type(reference_id) is not int
    ):
        raise ValueError("a proxy that lacks its address, its numbers or its attributes")
    return ProxyReference(address, object_id, reference_id, type_text, tuple(names))
