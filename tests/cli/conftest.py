"""Fixtures for the tests of the command line."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from tests.cli.commands import Commands


@pytest.fixture
def commands(capsys: pytest.CaptureFixture[str]) -> Commands:
    """Runs commands."""
    return Commands(capsys)


@pytest.fixture(autouse=True)
def interruptible() -> Iterator[None]:
    """Have Ctrl-C mean what it does at a terminal, also where the tests run in a shell's background.

    Such a shell ignores SIGINT, and programs inherit that.
    """
    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
