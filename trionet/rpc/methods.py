"""What of an object can be called from outside, and how it is described.

Public means: an attribute that `dir()` lists, whose name does not begin with an underscore, and that is
callable. Properties, cached ones too, are not looked at: reading one may talk to the instrument.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from trionet import pyon
from trionet.pyon import v1
from trionet.wire.feeds import PyonVersion

Method = Callable[..., Any]
Encode = Callable[[Any], str]

#: How `terminate` is listed; sipyco's description has the same fields, in this order.
_TERMINATE: Final = (
    {
        "args": ["self"],
        "defaults": None,
        "varargs": None,
        "varkw": None,
        "kwonlyargs": [],
        "kwonlydefaults": [],
    },
    "Terminate the server.",
)


def public_methods(target: object) -> dict[str, Method]:
    """The methods of `target` that clients may call, by name, sorted."""
    methods = {}
    for name in sorted(dir(target)):
        if name.startswith("_") or is_computed(target, name):
            continue
        try:
            method = getattr(target, name)
        except Exception:  # an attribute that cannot be read now is none that can be called
            continue
        if callable(method):
            methods[name] = method
    return methods


def is_computed(target: object, name: str) -> bool:
    """Whether reading an attribute runs code of the class, as with a property; that of a slot does not."""
    for cls in type(target).__mro__:
        if name in cls.__dict__:
            found = cls.__dict__[name]
            if isinstance(found, functools.cached_property):
                return True
            return inspect.isdatadescriptor(found) and not inspect.ismemberdescriptor(found)
    return False


def describe(
    target: object, methods: Mapping[str, Method], allow_terminate: bool, pyon_version: PyonVersion = 2
) -> dict[str, Any]:
    """The documentation of a target, as `get_rpc_method_list` returns it.

    Upstream fails as a whole on one odd annotation or default; here, what has no PYON form is described by
    its text, and a method without a signature by ``(*args, **kwargs)``.

    Args:
        target: The object.
        methods: Those of its methods that are described.
        allow_terminate: Whether there is a `terminate`, too.
        pyon_version: The form in which the description can be sent: a default that version 1 does not carry
            may be one that version 2 does.
    """
    encode = v1.encode if pyon_version == 1 else pyon.encode
    described: dict[str, Any] = {name: _describe_method(method, encode) for name, method in methods.items()}
    if allow_terminate:
        described["terminate"] = _TERMINATE
    return {"docstring": inspect.getdoc(target), "methods": described}


def _describe_method(method: Method, encode: Encode) -> tuple[dict[str, Any], str | None]:
    doc = inspect.getdoc(method)
    try:
        spec = inspect.getfullargspec(method)
    except TypeError:
        spec = inspect.FullArgSpec([], "args", "kwargs", None, [], None, {})
    return {
        "args": spec.args,
        "varargs": spec.varargs,
        "varkw": spec.varkw,
        "defaults": None
        if spec.defaults is None
        else tuple(_presentable(value, encode) for value in spec.defaults),
        "kwonlyargs": spec.kwonlyargs,
        "kwonlydefaults": spec.kwonlydefaults
        and {name: _presentable(value, encode) for name, value in spec.kwonlydefaults.items()},
        "annotations": {name: _annotation_name(value) for name, value in spec.annotations.items()},
    }, doc


def _presentable(default: Any, encode: Encode) -> Any:
    try:
        encode(default)
    except (TypeError, ValueError):
        return _text(repr, default)
    return default


def _annotation_name(annotation: Any) -> str:
    if isinstance(annotation, type) and not hasattr(annotation, "__args__"):
        return annotation.__name__
    return _text(str, annotation).removeprefix("typing.")


def _text(function: Callable[[Any], str], value: Any) -> str:
    """What `str` or `repr` says of a value, if they do."""
    try:
        return f"{function(value)}"
    except Exception:
        return f"<{type(value).__name__}>"


@dataclass(frozen=True, slots=True)
class MethodDescription:
    """One method of a remote target.

    Attributes:
        signature: As in a `def` line: ``(power, *, ramp=0.5) -> float``, without `self` or `cls`.
        docstring: Its documentation, or None.
    """

    signature: str
    docstring: str | None


@dataclass(frozen=True, slots=True)
class TargetDescription:
    """A remote target: its documentation, or None, and its methods by name."""

    docstring: str | None
    methods: dict[str, MethodDescription]


def read_description(received: Any) -> TargetDescription:
    """Make sense of what `get_rpc_method_list` returned.

    Raises:
        ValueError: if it is no such thing.
    """
    try:
        methods = {
            str(name): MethodDescription(format_signature(spec), doc)
            for name, (spec, doc) in received["methods"].items()
        }
        return TargetDescription(received["docstring"], methods)
    except (TypeError, KeyError, AttributeError, ValueError) as error:
        raise ValueError(f"not a description of methods: {type(error).__name__}: {error}") from error


def format_signature(spec: Mapping[str, Any]) -> str:
    """The signature that a method list describes, as in a `def` line, without `self` or `cls`."""
    found = spec.get("annotations")
    # Before sipyco 1.8 all annotations were one string.
    annotations: Mapping[str, Any] = found if isinstance(found, dict) else {}

    def parameter(name: str, default: str | None = None) -> str:
        note = f": {annotations[name]}" if name in annotations else ""
        if default is None:
            return name + note
        return f"{name}{note} = {default}" if note else f"{name}={default}"

    args, defaults = list(spec["args"]), list(spec.get("defaults") or ())
    without = len(args) - len(defaults)
    parts = [
        parameter(name, None if index < without else repr(defaults[index - without]))
        for index, name in enumerate(args)
    ]
    if args[:1] in (["self"], ["cls"]):
        parts.pop(0)
    keyword_only = list(spec.get("kwonlyargs") or ())
    if spec.get("varargs"):
        parts.append("*" + parameter(spec["varargs"]))
    elif keyword_only:
        parts.append("*")
    keyword_defaults = spec.get("kwonlydefaults") or {}
    parts += [
        parameter(name, repr(keyword_defaults[name]) if name in keyword_defaults else None)
        for name in keyword_only
    ]
    if spec.get("varkw"):
        parts.append("**" + parameter(spec["varkw"]))
    result = f" -> {annotations['return']}" if "return" in annotations else ""
    return f"({', '.join(parts)}){result}"
