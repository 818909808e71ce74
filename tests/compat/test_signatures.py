"""What programs call is there, and takes what they give it, as upstream's reference documentation has it."""

from __future__ import annotations

import importlib
import warnings
from pathlib import Path

import pytest

from tests.signatures import check

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


@pytest.fixture(autouse=True)
def patience() -> None:
    """No more than upstream's: this is about its defaults."""


@pytest.mark.parametrize(("module", "entry"), entries())
def test_it_is_there_and_takes_what_that_of_upstream_takes(module: str, entry: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # former names
        top = importlib.import_module(f"trionet_compat.{module}")
    check(top, entry)
