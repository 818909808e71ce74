"""What is reported of tests of networks that fail."""

from __future__ import annotations

import re

import pytest

from tests.testing.pytest_runs import again, run

pytest_plugins = ["pytester"]

SECTION = "*- virtual network -*"


def test_a_test_that_passes_has_no_report(pytester: pytest.Pytester) -> None:
    result = run(pytester, "async def test_it(lab): await (await open_echo(lab)).aclose()", "-rA")
    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("*virtual network*")


def test_a_failure_shows_seed_packets_and_sockets(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
        @pytest.mark.lab(latency=0.05)
        async def test_it(lab):
            lab.host("idle")
            async with await open_echo(lab):
                assert False, "the shutter is stuck"
        """,
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            '> *assert False, "the shutter is stuck"',
            "E *AssertionError: the shutter is stuck",
            SECTION,
            "seed 0, again with: pytest test_lab.py::test_it --trionet-seed 0",
            "packet log, the last 11 of 11 entries:",
            "  0.000000 sent client/10.0.0.3:* > server/10.0.0.2:7: Flags [[]S], *",
            "  0.200000 delivered server/10.0.0.2:7 > client/10.0.0.3:*: Flags [[]P.], *, length 4",
            "  0.200000 sent client/* > server/*: Flags [[]F.]*",
            "netstat of server:",
            "  protocol  recv_q  send_q  local *",
            "  tcp * 0.0.0.0:7 * LISTEN *",
            "  tcp * 10.0.0.2:7 * 10.0.0.3:* ESTABLISHED *",
            "netstat of client:",
            "  tcp * 10.0.0.3:* 10.0.0.2:7 * FIN_WAIT1 *",
            "no sockets on: idle",
        ]
    )
    # As the test has raised it, not in the group that a nursery makes of it.
    result.stdout.no_fnmatch_line("*Exception Group*")


def test_of_a_long_log_the_end_is_shown(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
        async def test_it(lab):
            async with await open_echo(lab) as stream:
                for _ in range(100):
                    await stream.send_all(b"ping")
                    await stream.receive_some()
                assert lab.trace.count == 0
        """,
    )
    (line,) = (line for line in result.outlines if line.startswith("packet log"))
    assert re.fullmatch(r"packet log, the last 30 of [4-9]\d\d entries:", line)
    begin = result.outlines.index(line) + 1
    assert result.outlines[begin + 30] == "netstat of server:"


def test_of_many_hosts_some_are_shown(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
        async def test_it(lab):
            for number in range(100):
                host = lab.host(f"rig{number}")
                if number < 50:
                    await host.start(trio.serve_tcp, echo, 7)
            lab.host("rig1").crash()
            assert False
        """,
    )
    assert sum(line.startswith("netstat of rig") for line in result.outlines) == 30
    result.stdout.fnmatch_lines(
        ["and 19 more hosts with sockets", "no sockets on: rig1 (crashed), rig50, *, rig78 and 21 more"]
    )


def test_a_failure_of_a_task_on_a_host(pytester: pytest.Pytester) -> None:
    """The others' sockets are shown as they were before all tasks were cancelled."""
    result = run(
        pytester,
        """
        async def fail():
            await trio.sleep(5)
            raise OSError("the laser has tripped")

        async def test_it(lab):
            await lab.host("server").start(trio.serve_tcp, echo, 7)
            lab.host("laser").start_soon(fail)
            await trio.sleep_forever()
        """,
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "E *OSError: the laser has tripped",
            SECTION,
            "seed 0, again with: *",
            "netstat of server:",
            "  tcp * 0.0.0.0:7 * LISTEN *",
            "no sockets on: laser",
        ]
    )
    result.stdout.no_fnmatch_line("*Cancelled: *")  # that the test was cancelled is no news


def test_sockets_are_shown_as_the_test_leaves_them(pytester: pytest.Pytester) -> None:
    """Before the fixtures clean up."""
    result = run(
        pytester,
        """
        @pytest.fixture
        async def stream(lab):
            async with await open_echo(lab) as stream:
                yield stream

        async def test_it(stream):
            assert False
        """,
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([SECTION, "netstat of client:", "  tcp * ESTABLISHED *"])
    result.stdout.no_fnmatch_line("* Flags [[]F.]*")


@pytest.mark.parametrize("phase", ["setup", "teardown"])
def test_a_failure_of_another_fixture(pytester: pytest.Pytester, phase: str) -> None:
    result = run(
        pytester,
        f"""
        @pytest.fixture
        async def rig(lab):
            await lab.host("server").start(trio.serve_tcp, echo, 7)
            if "{phase}" == "setup":
                raise ValueError("rig")
            yield
            raise ValueError("rig")

        async def test_it(rig):
            pass
        """,
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E *ValueError: rig", SECTION, "netstat of server:", "* LISTEN *"])


def test_failures_in_several_places_stay_a_group(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
        @pytest.fixture
        async def rig(lab):
            yield
            raise ValueError("rig")

        async def test_it(rig):
            raise KeyError("test")
        """,
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*errors in async test and trio fixtures*", SECTION])


def test_failures_of_several_tasks_stay_a_group(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
        async def fail(what):
            raise ValueError(what)

        async def test_it(lab, nursery):
            nursery.start_soon(fail, "red laser")
            nursery.start_soon(fail, "blue laser")
            await trio.sleep_forever()
        """,
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines_random(["*ValueError: red laser", "*ValueError: blue laser"])


def test_groups_that_are_not_of_pytest_trio_stay(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
        from functools import partial

        @pytest.mark.filterwarnings("ignore::trio.TrioDeprecationWarning")
        @pytest.mark.trio(run=partial(trio.run, strict_exception_groups=False))
        async def test_it(lab):
            raise ExceptionGroup("one laser", [ValueError("red")])
        """,
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*ExceptionGroup: one laser (1 sub-exception)", SECTION])


def test_groups_that_a_test_raises_stay_groups(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
        async def test_it(lab):
            raise ExceptionGroup("two lasers", [ValueError("red"), ValueError("blue")])
        """,
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*ExceptionGroup: two lasers (2 sub-exceptions)", SECTION])
    result.stdout.no_fnmatch_line("*Exceptions from Trio nursery*")


def test_a_sync_test_with_a_seed(pytester: pytest.Pytester) -> None:
    """It has opened its networks itself: the seed is all that is known."""
    result = run(pytester, "def test_it(lab_seed): assert lab_seed")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([SECTION, "seed 0, again with: pytest test_lab.py::test_it --trionet-seed 0"])
    result.stdout.no_fnmatch_line("packet log*")


def test_an_expected_failure_is_not_reported(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(
        """
        def pytest_runtest_logreport(report):
            print(f"{report.when} {report.outcome} {report.sections}")
        """
    )
    result = run(pytester, "@pytest.mark.xfail\nasync def test_it(lab): assert False", "-s")
    result.assert_outcomes(xfailed=1)
    result.stdout.fnmatch_lines(["*call skipped [[]]"])


def test_commands_are_for_the_directory_of_the_user(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(pytester, "async def test_it(lab): assert False")
    subdirectory = pytester.mkdir("results")
    monkeypatch.chdir(subdirectory)
    result = again(pytester, "..")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["seed 0, again with: pytest ../test_lab.py::test_it --trionet-seed 0"])
