"""Signatures as text; stands for ``sipyco.arguments``."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

_NOTHING: Mapping[str, Any] = MappingProxyType({})


def formatargspec(
    args: Sequence[str],
    varargs: str | None = None,
    varkw: str | None = None,
    defaults: Sequence[Any] | None = None,
    kwonlyargs: Sequence[str] = (),
    kwonlydefaults: Mapping[str, Any] | None = _NOTHING,
    annotations: Mapping[str, Any] = _NOTHING,
) -> str:
    """What `inspect.getfullargspec` gave, as in a ``def`` line: ``(a, b=1, *, c: int = 2) -> str``.

    Annotations that are text, as in method lists, stand in quotes.
    """
    required = len(args) - len(defaults or ())
    parts = [
        _parameter(name, annotations, () if index < required else (defaults or ())[index - required :])
        for index, name in enumerate(args)
    ]
    if varargs is not None:
        parts.append("*" + _parameter(varargs, annotations))
    elif kwonlyargs:
        parts.append("*")
    values = kwonlydefaults or _NOTHING
    parts += [_parameter(name, annotations, (values[name],) if name in values else ()) for name in kwonlyargs]
    if varkw is not None:
        parts.append("**" + _parameter(varkw, annotations))
    result = f" -> {inspect.formatannotation(annotations['return'])}" if "return" in annotations else ""
    return f"({', '.join(parts)}){result}"


def _parameter(name: str, annotations: Mapping[str, Any], default: Sequence[Any] = ()) -> str:
    """A parameter; its default is the first of `default`, if there is any."""
    if name not in annotations:
        return f"{name}={default[0]!r}" if default else name
    annotated = f"{name}: {inspect.formatannotation(annotations[name])}"
    return f"{annotated} = {default[0]!r}" if default else annotated
