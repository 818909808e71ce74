"""Whether a program may call something as a signature says.

A call that the signature takes must mean the same. So a parameter may have a default where it has none there,
and more may follow that have one.
"""

from __future__ import annotations

import functools
import inspect
import re
from types import MappingProxyType
from typing import Any


def check(top: Any, entry: str) -> None:
    """Check what a module has.

    Args:
        top: The module, or whatever has the name.
        entry: ``async name(parameters)`` for a coroutine function, without ``async`` for others; ``name`` for
            what is not called; or ``name = value``. ``...`` is any default.
    """
    matched = re.fullmatch(r"(async )?([\w.]+)(\(.*\))?(?: = (.*))?", entry)
    assert matched is not None
    is_async, name, signature, value = matched.groups()
    found = functools.reduce(getattr, name.split("."), top)
    assert value is None or repr(found) == value
    if signature is None:
        return
    assert inspect.iscoroutinefunction(found) == bool(is_async)
    names: dict[str, Any] = {"AutoTarget": type("AutoTarget", (), {})}
    exec(f"def wanted{signature}: pass", names)
    expected, ours = parameters(names["wanted"]), parameters(found)
    positional = [one for one in expected if one[0] == inspect.Parameter.POSITIONAL_OR_KEYWORD]
    assert [one[:2] for one in ours][: len(positional)] == [one[:2] for one in positional]
    defaults = {one[:2]: one[2] for one in ours}
    for kind, parameter, default in expected:
        assert default in (None, "Ellipsis", defaults.pop((kind, parameter)))
    assert None not in [default for (_, parameter), default in defaults.items() if parameter]


def parameters(function: Any) -> list[tuple[Any, str, Any]]:
    """Kind, name and default of what a program gives."""
    return [
        # What takes the rest may have any name.
        (one.kind, "" if one.kind in (one.VAR_POSITIONAL, one.VAR_KEYWORD) else one.name, shown(one.default))
        for one in inspect.signature(function).parameters.values()
        if one.name != "self"
    ]


def shown(default: Any) -> Any:
    """A default as it is written; None if there is none."""
    if default is inspect.Parameter.empty:
        return None
    if isinstance(default, type):
        return default.__name__
    return repr(dict(default) if isinstance(default, MappingProxyType) else default)
