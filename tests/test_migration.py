"""The migration guide names what there is, all of it, and nothing else."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import warnings
from pathlib import Path
from typing import Any

import pytest

import trionet_compat

GUIDE = Path(__file__).parents[1] / "docs" / "migration.md"
ROWS = [row.split("|") for row in GUIDE.read_text(encoding="utf-8").splitlines() if row.startswith("| `")]
NAMES = [name for row in ROWS for name in re.findall(r"`([\w.]+)`", row[1]) if "." in name]
NEW = sorted({name for row in ROWS for name in re.findall(r"`(trionet\.[\w.]+)", "|".join(row[2:]))})
UPSTREAM = ("sipyco", "artiq", "iblutil", "iblrig", "pyacq")


def find(name: str) -> Any:
    """What a dotted name stands for."""
    module, _, attribute = name.rpartition(".")
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        return getattr(find(module), attribute)


@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_there(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # former names
        assert find(f"trionet_compat.{name}") is not None


@pytest.mark.parametrize("name", NEW)
def test_what_to_use_in_new_code_is_there(name: str) -> None:
    assert find(name) is not None


def public_classes_and_functions() -> list[str]:
    found: list[str] = []
    for package in UPSTREAM:
        top = importlib.import_module(f"trionet_compat.{package}")
        for module in pkgutil.walk_packages(top.__path__, f"{top.__name__}."):
            name = module.name.removeprefix("trionet_compat.")
            if name in NAMES or any(part.startswith("_") for part in name.split(".")):
                continue  # modules that are there as a whole, and private ones
            members = vars(importlib.import_module(module.name))
            found += [
                f"{name}.{member}"
                for member in members.get("__all__", members)
                if (inspect.isclass(members[member]) or inspect.isfunction(members[member]))
                and members[member].__module__ == module.name
                and not member.startswith("_")
            ]
    return found


@pytest.mark.parametrize("name", public_classes_and_functions())
def test_every_class_and_function_is_in_the_guide(name: str) -> None:
    """By this name, or by that of a package which has it from there."""
    thing = find(f"trionet_compat.{name}")
    last = name.rpartition(".")[2]
    assert any(find(f"trionet_compat.{other}") is thing for other in NAMES if other.endswith(f".{last}"))


def test_short_names() -> None:
    sentence = re.search(r"from trionet_compat import ([^`]*)`", GUIDE.read_text(encoding="utf-8"))
    assert sentence is not None
    assert sorted(re.findall(r"\w+", sentence[1])) == sorted(trionet_compat.__all__)
