"""Fixtures for the tests of the command line."""

from __future__ import annotations

import pytest

from tests.cli.commands import Commands


@pytest.fixture
def commands(capsys: pytest.CaptureFixture[str]) -> Commands:
    """Runs commands."""
    return Commands(capsys)
