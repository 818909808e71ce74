"""What an installation promises: entry points, typing markers, the second source root."""

from __future__ import annotations

from importlib.metadata import entry_points, version
from importlib.resources import files

import pytest

import trionet
import trionet_compat


def test_version() -> None:
    assert version("trionet") == trionet.__version__


@pytest.mark.parametrize("package", [trionet, trionet_compat])
def test_packages_are_typed(package: object) -> None:
    assert files(package).joinpath("py.typed").is_file()  # type: ignore[arg-type]
    assert package.__doc__


@pytest.mark.parametrize(("group", "name"), [("console_scripts", "trionet"), ("pytest11", "trionet")])
def test_entry_points_load(group: str, name: str) -> None:
    (entry_point,) = [entry for entry in entry_points(group=group, name=name) if "trionet" in entry.value]
    assert entry_point.load() is not None
