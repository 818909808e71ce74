"""`trionet_compat` itself: the names that can be imported from there."""

from __future__ import annotations

import importlib

import pytest

import trionet_compat


@pytest.mark.parametrize("name", trionet_compat.__all__)
def test_a_short_name_is_the_long_one(name: str) -> None:
    module = importlib.import_module(f"trionet_compat.{trionet_compat._MODULES[name]}")
    assert getattr(trionet_compat, name) is getattr(module, name)


def test_all_names_are_listed() -> None:
    assert {*trionet_compat.__all__} == trionet_compat._MODULES.keys()
    assert {*trionet_compat.__all__} <= {*dir(trionet_compat)}


def test_other_names_are_none() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = trionet_compat.Nothing
