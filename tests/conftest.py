"""Settings of all tests."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import settings

# No test is timed. In CI the examples are the same in each run; elsewhere new ones are tried.
settings.register_profile("lab", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.register_profile("few", deadline=None, derandomize=True, max_examples=10)  # see .ci/test-others
settings.load_profile("ci" if "CI" in os.environ else "lab")


def pytest_collection_finish() -> None:
    """Have the garbage collector pass over modules and thousands of tests when a test wants it to run."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="session")
def interruptible() -> Iterator[None]:
    """Have signals mean what they do at a terminal, also where the tests run in a shell's background.

    Such a shell ignores SIGINT, nohup ignores SIGHUP, and programs inherit that.
    """
    meanings: dict[int, Any] = {signal.SIGINT: signal.default_int_handler}
    if sys.platform != "win32":
        meanings[signal.SIGHUP] = signal.SIG_DFL
    before = {number: signal.getsignal(number) for number in meanings}
    for number, meaning in meanings.items():
        if before[number] is signal.SIG_IGN:
            signal.signal(number, meaning)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
