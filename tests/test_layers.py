"""The import rules: layers import downwards only, and the protocol cores and PYON do no I/O."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FORBIDDEN = {"trio", "trio_util", "asyncio", "socket", "ssl", "threading", "time", "select"}
MODULES = sorted([*(ROOT / "trionet" / "wire").rglob("*.py"), *(ROOT / "trionet" / "pyon").rglob("*.py")])


def imported(source: str) -> Iterator[str]:
    """Names of all modules that a source imports, at any depth, in any form."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports are not used"
            yield node.module or ""
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("__import__", "import_module")):
            raise AssertionError(f"line {node.lineno} hides what it imports")


def test_contracts_of_the_project_are_kept() -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "from importlinter.cli import lint_imports_command; lint_imports_command()",
            "--no-cache",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_cores_do_no_io(path: Path) -> None:
    names = {name.partition(".")[0] for name in imported(path.read_text(encoding="utf-8"))}
    assert not names & FORBIDDEN


@pytest.mark.parametrize(
    "source",
    ["import socket", "def f():\n    from trio import abc", "import os, time as t", "from ssl import *"],
)
def test_the_check_finds_what_is_forbidden(source: str) -> None:
    assert {name.partition(".")[0] for name in imported(source)} & FORBIDDEN


@pytest.mark.parametrize(
    "source", ["import importlib\nimportlib.import_module('trio')", "__import__('trio')"]
)
def test_the_check_finds_what_is_hidden(source: str) -> None:
    with pytest.raises(AssertionError, match="hides"):
        list(imported(source))
