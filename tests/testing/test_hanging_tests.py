"""Tests of networks that hang: pytest-timeout ends them, and their reports show why they hang."""

from __future__ import annotations

import sys

import pytest

from tests.testing.pytest_runs import STRICT, write

pytest_plugins = ["pytester"]

BLOCKED = """
    import threading

    async def test_blocked(lab):
        await lab.host("server").start(trio.serve_tcp, echo, 7)
        threading.Event().wait()

    async def test_next(lab):
        await (await open_echo(lab)).aclose()
"""
WAITING = """
    async def test_waiting(lab):
        await lab.host("server").start(trio.serve_tcp, echo, 7)
        await trio.sleep_forever()
"""


def run_with_timeout(pytester: pytest.Pytester, source: str, method: str) -> pytest.RunResult:
    write(pytester, source)
    return pytester.runpytest_subprocess(*STRICT, "--timeout=1", f"--timeout-method={method}")


without_signals = pytest.mark.skipif(sys.platform == "win32", reason="needs SIGALRM")


@without_signals
def test_blocked_by_a_call(pytester: pytest.Pytester) -> None:
    result = run_with_timeout(pytester, BLOCKED, "signal")
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(
        [
            "E *Timeout (>1.0s) from pytest-timeout.",
            "*- virtual network -*",
            "netstat of server:",
            "* LISTEN *",
        ]
    )


@without_signals
def test_waiting_for_something_that_does_not_happen(pytester: pytest.Pytester) -> None:
    """The signal comes while Trio waits, which ends the run without cleaning up."""
    result = run_with_timeout(pytester, WAITING, "signal")
    result.stdout.fnmatch_lines(
        [
            "E *Timeout (>1.0s) from pytest-timeout.",
            "*- virtual network -*",
            "netstat of server:",
            "* LISTEN *",
        ]
    )


def test_the_process_is_ended(pytester: pytest.Pytester) -> None:
    result = run_with_timeout(pytester, WAITING, "thread")
    assert result.ret == 1
    result.stdout.no_fnmatch_line("*passed*")
    assert "Timeout" in result.stdout.str() + result.stderr.str()
