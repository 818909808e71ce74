"""What programs call is there, and takes what they give it, as upstream's reference documentation has it.

A call that upstream takes must mean the same here. So a parameter may have a default where upstream's has
none, and more may follow that have one.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import re
import warnings
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

TABLE = Path(__file__).parents[1] / "data" / "upstream_signatures.txt"


def entries() -> list[tuple[str, str]]:
    """Modules, and what is in them."""
    found: list[tuple[str, str]] = []
    modules: list[str] = []
    for line in TABLE.read_text(encoding="utf-8").splitlines():
        if line.startswith(" "):
            found += [(module, line.strip()) for module in modules]
        elif line and not line.startswith("#"):
            modules = line.split()
    return found


def find(module: str, name: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # former names
        top = importlib.import_module(f"trionet_compat.{module}")
    return functools.reduce(getattr, name.split("."), top)


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


@pytest.mark.parametrize(("module", "entry"), entries())
def test_it_is_there_and_takes_what_that_of_upstream_takes(module: str, entry: str) -> None:
    matched = re.fullmatch(r"(async )?([\w.]+)(\(.*\))?(?: = (.*))?", entry)
    assert matched is not None
    is_async, name, signature, value = matched.groups()
    found = find(module, name)
    assert value is None or repr(found) == value
    if signature is None:
        return
    assert inspect.iscoroutinefunction(found) == bool(is_async)
    names: dict[str, Any] = {"AutoTarget": type("AutoTarget", (), {})}
    exec(f"def upstream{signature}: pass", names)
    expected, ours = parameters(names["upstream"]), parameters(found)
    positional = [one for one in expected if one[0] == inspect.Parameter.POSITIONAL_OR_KEYWORD]
    assert [one[:2] for one in ours][: len(positional)] == [one[:2] for one in positional]
    defaults = {one[:2]: one[2] for one in ours}
    for kind, parameter, default in expected:
        assert default in (None, "Ellipsis", defaults.pop((kind, parameter)))
    assert None not in [default for (_, parameter), default in defaults.items() if parameter]
