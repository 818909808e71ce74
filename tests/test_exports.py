"""The public names: listed, documented, and nothing else."""

from __future__ import annotations

import inspect
import types

import pytest

import trionet

PUBLIC = [name for name in trionet.__all__ if not name.startswith("__")]


def test_all_has_each_name_once() -> None:
    """Its order is for ruff to check."""
    assert len(trionet.__all__) == len({*trionet.__all__})


@pytest.mark.parametrize("name", trionet.__all__)
def test_name_exists(name: str) -> None:
    assert hasattr(trionet, name)


@pytest.mark.parametrize("name", PUBLIC)
def test_name_is_documented(name: str) -> None:
    value = getattr(trionet, name)
    if isinstance(value, type) or inspect.isroutine(value):
        doc = value.__dict__.get("__doc__") if isinstance(value, type) else value.__doc__
        assert doc
        # A dataclass without a docstring gets its signature instead.
        assert not doc.startswith(f"{name}(")


@pytest.mark.parametrize("name", [name for name in PUBLIC if isinstance(getattr(trionet, name), type)])
def test_public_methods_are_documented(name: str) -> None:
    cls = getattr(trionet, name)
    for attribute, value in vars(cls).items():
        if not attribute.startswith("_") and (inspect.isfunction(value) or isinstance(value, property)):
            assert inspect.getdoc(getattr(cls, attribute)), f"{name}.{attribute}"


def test_no_public_name_is_missing() -> None:
    found = {
        name
        for name, value in vars(trionet).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }
    assert found == {*PUBLIC}
