"""What an object server says about its objects: their types, documentation, and public attributes.

pyacq's servers have no request for that. They let anybody import anything, so they are asked piece by piece,
see `_upstream_descriptions`. No attribute is computed for a description: a property could move a motor.
"""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from trionet.objects._access import Access
from trionet.wire.object_values import is_sent_by_value

#: How something is called whose parameters are not known.
UNKNOWN_SIGNATURE: Final = "(...)"

_CALLED: Final = (
    types.FunctionType,
    types.MethodType,
    types.BuiltinFunctionType,
    types.MethodDescriptorType,
    types.ClassMethodDescriptorType,
    classmethod,
    staticmethod,
    functools.partialmethod,
)


@dataclass(frozen=True, slots=True)
class ObjectDescription:
    """What a server says about an object, or about an attribute of one.

    Attributes:
        type: Name of its type, with the module unless it is a builtin one; ``property`` for an attribute
            that is computed when it is asked for.
        docstring: Its documentation, or None.
        signature: How it is called, as in a `def` line: ``(power, *, ramp=0.5) -> float``; None for what is
            no method or function.
        attributes: Its public attributes by name, without those of their own; none for what can be copied.
    """

    type: str
    docstring: str | None = None
    signature: str | None = None
    attributes: Mapping[str, ObjectDescription] = field(default_factory=dict)


def describe(value: Any, access: Access) -> ObjectDescription:
    """Describe an object with its public attributes, as far as clients may have them."""
    if is_sent_by_value(value):
        return ObjectDescription(type_name(type(value)))
    attributes = {}
    for name in access.public_names(value):
        described = _describe_attribute(value, name)
        if described is not None:
            attributes[name] = described
    return ObjectDescription(type_name(type(value)), _docstring(value), _signature(value), attributes)


def _describe_attribute(owner: Any, name: str) -> ObjectDescription | None:
    """Describe an attribute without its own ones. None if it is not there."""
    try:
        found = inspect.getattr_static(owner, name)
    except AttributeError:  # made when it is asked for
        return ObjectDescription("property")
    if isinstance(found, _CALLED):
        # Only now: this gives a method, and calls nothing.
        return ObjectDescription("method", _docstring(found), _signature(getattr(owner, name)))
    if isinstance(found, types.MemberDescriptorType) and not isinstance(owner, type):  # of __slots__
        try:
            found = getattr(owner, name)
        except AttributeError:
            return None
    elif hasattr(type(found), "__get__"):
        return ObjectDescription("property", _docstring(found))
    return ObjectDescription(type_name(type(found)))


def type_name(kind: type) -> str:
    """The name of a type for people, with its module if that says something."""
    if kind.__module__ in ("builtins", "__main__"):
        return kind.__qualname__
    return f"{kind.__module__}.{kind.__qualname__}"


def _docstring(value: Any) -> str | None:
    try:
        text = inspect.getdoc(value)
    except Exception:  # whatever the object does with being asked: the rest is worth knowing
        return None
    return _sendable(text) if isinstance(text, str) else None


def _signature(value: Any) -> str | None:
    if not callable(value):
        return None
    try:
        signature = inspect.signature(value)
        parameters = [
            parameter.replace(annotation=_unquoted(parameter.annotation))
            for parameter in signature.parameters.values()
        ]
        text = str(
            signature.replace(parameters=parameters, return_annotation=_unquoted(signature.return_annotation))
        )
    except Exception:  # of one in C, or with a default that cannot be printed
        return UNKNOWN_SIGNATURE
    return _sendable(text.replace("__main__.", ""))


class _Text:
    """Text that is printed without quotes: an annotation that was not evaluated, as most are."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def _unquoted(annotation: Any) -> Any:
    return _Text(annotation) if isinstance(annotation, str) else annotation


def _sendable(text: str) -> str:
    return text.encode(errors="backslashreplace").decode()


def pack_description(described: ObjectDescription) -> dict[str, Any]:
    """The plain form, which travels."""
    return {
        "type": described.type,
        "docstring": described.docstring,
        "signature": described.signature,
        "attributes": pack_descriptions(described.attributes),
    }


def pack_descriptions(described: Mapping[str, ObjectDescription]) -> list[Any]:
    """The plain form of several, by name."""
    return [[name, pack_description(item)] for name, item in described.items()]


def read_description(received: Any) -> ObjectDescription:
    """What a plain form stands for.

    Raises:
        ValueError: if it is none.
    """
    match received:
        case {
            "type": str(kind),
            "docstring": (str() | None) as docstring,
            "signature": (str() | None) as signature,
            "attributes": attributes,
        }:
            return ObjectDescription(kind, docstring, signature, read_descriptions(attributes))
    raise ValueError(f"not a description of an object: {str(received)[:80]}")


def read_descriptions(received: Any) -> dict[str, ObjectDescription]:
    """What the plain form of several stands for.

    Raises:
        ValueError: if it is none.
    """
    if not isinstance(received, list):
        raise ValueError(f"not descriptions of objects: {str(received)[:80]}")
    described = {}
    for pair in received:
        match pair:
            case [str(name), item]:
                described[name] = read_description(item)
            case _:
                raise ValueError(f"not a name and a description: {str(pair)[:80]}")
    return described
