"""What is reported of tests of networks that fail."""

from __future__ import annotations

import re

import pytest

from tests.testing.pytest_runs import again, run

pytest_plugins = ["pytester"]

SECTION = "*- virtual network -*"
# Two things are wrong with this one; 17 is the first seed that shows one of them.
MANY = """
    @pytest.mark.lab(seeds=30)
    async def test_many(lab):
        stream = await open_echo(lab)
        if lab.seed == 20:
            raise ConnectionError("lost")
        assert lab.seed < 17 or lab.seed in (21, 22)
        await stream.aclose()
"""


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
    source = "@pytest.mark.xfail\n    async def test_it(lab): assert False"
    result = run(pytester, "    " + source, "--xfail-tb")
    result.assert_outcomes(xfailed=1)
    result.stdout.no_fnmatch_line(SECTION)


@pytest.mark.parametrize("workers", [(), ("-n2",)], ids=["one process", "workers"])
def test_the_smallest_seed_is_reported_in_full(pytester: pytest.Pytester, workers: tuple[str, ...]) -> None:
    result = run(pytester, MANY, *workers)
    result.assert_outcomes(passed=19, failed=11)
    output = result.stdout.str()
    assert re.findall(r"^_+ (\S+) _+$", output, re.MULTILINE) == ["test_many[seed17]"]
    assert output.count("- virtual network -") == 1
    assert output.count("\nFAILED ") == 1
    result.stdout.fnmatch_lines(
        [
            "seed 17, again with: pytest 'test_lab.py::test_many[[]seed17]' --trionet-seed 17",
            "FAILED test_lab.py::test_many[[]seed17] - *",
            "=* virtual network: seeds that fail =*",
            "test_lab.py::test_many: 11 of 30 seeds fail, the smallest is 17",
            "    17-19, 23-29: assert *(test_lab.py:*)",
            "    20: ConnectionError: lost (test_lab.py:*)",
            "  pytest 'test_lab.py::test_many[[]seed17]' --trionet-seed 17",
            "=* 11 failed, 19 passed in *",
        ],
        consecutive=False,
    )


def test_the_command_replays(pytester: pytest.Pytester) -> None:
    """Also where the seed is not one of those that the marker names."""
    run(pytester, MANY, "--trionet-seeds=18").assert_outcomes(passed=17, failed=1)
    result = again(pytester, "test_lab.py::test_many[seed17]", "--trionet-seed", "17")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["seed 17, again with: *"])
    result.stdout.no_fnmatch_line("*seeds that fail*")
    again(pytester, "test_lab.py::test_many[seed1000]", "--trionet-seed=1000").assert_outcomes(failed=1)


def test_each_test_has_a_smallest_seed(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
        @pytest.mark.lab(seeds=4)
        @pytest.mark.parametrize("least", [1, 2, 9])
        async def test_many(lab, least):
            assert lab.seed < least

        @pytest.mark.lab(seeds=4)
        def test_setup(lab_seed, request):
            assert lab_seed != 2
        """,
    )
    result.assert_outcomes(failed=3 + 2 + 1, passed=10)
    summary = [line for line in result.outlines if "seeds fail, " in line]
    assert sorted(summary) == [
        "test_lab.py::test_many[1]: 3 of 4 seeds fail, the smallest is 1",
        "test_lab.py::test_many[2]: 2 of 4 seeds fail, the smallest is 2",
        "test_lab.py::test_setup: 1 of 4 seeds fail, the smallest is 2",
    ]


def test_errors_of_fixtures_count(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
        @pytest.fixture
        def rig(lab_seed):
            if lab_seed == 1:
                raise ValueError("setup")
            yield
            if lab_seed == 2:
                raise ValueError("teardown")

        @pytest.mark.lab(seeds=4)
        def test_it(rig, lab_seed):
            assert lab_seed != 3
        """,
    )
    result.assert_outcomes(failed=1, errors=2, passed=2)
    output = result.stdout.str()
    assert re.findall(r"^_+ (.+) _+$", output, re.MULTILINE) == ["ERROR at setup of test_it[seed1]"]
    result.stdout.fnmatch_lines(
        [
            "test_lab.py::test_it: 3 of 4 seeds fail, the smallest is 1",
            "    1: ValueError: setup (test_lab.py:*)",
            "    2: ValueError: teardown (test_lab.py:*)",
            "    3: assert 3 != 3 (test_lab.py:*)",
        ]
    )


def test_seeds_are_compared_by_number(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
        @pytest.mark.lab(seeds=[9, 10, 3])
        def test_it(lab_seed):
            if lab_seed == 3:
                raise ValueError("three")
            assert lab_seed < 9
        """,
    )
    assert re.findall(r"^_+ (\S+) _+$", result.stdout.str(), re.MULTILINE) == ["test_it[seed3]"]
    result.stdout.fnmatch_lines(
        [
            "test_lab.py::test_it: 3 of 3 seeds fail, the smallest is 3",
            "    3: ValueError: three (test_lab.py:*)",
            "    9-10: assert 9 < 9 (test_lab.py:*)",
        ],
        consecutive=True,
    )


def test_a_failure_before_the_seed_was_asked_for(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
        @pytest.fixture(autouse=True)
        def rig():
            raise ValueError("rig")

        @pytest.mark.lab(seeds=[4, 5])
        async def test_it(lab):
            pass
        """,
    )
    result.assert_outcomes(errors=2)
    result.stdout.fnmatch_lines(
        [SECTION, "seed 4, again with: *", "test_lab.py::test_it: 2 of 2 seeds fail, the smallest is 4"]
    )


def test_seeds_that_did_not_run_do_not_count(pytester: pytest.Pytester) -> None:
    result = run(pytester, MANY, "-x")
    result.assert_outcomes(passed=17, failed=1)
    result.stdout.fnmatch_lines(["test_lab.py::test_many: 1 of 18 seeds fail, the smallest is 17"])


def test_commands_are_for_the_directory_of_the_user(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(pytester, "async def test_it(lab): assert False")
    subdirectory = pytester.mkdir("results")
    monkeypatch.chdir(subdirectory)
    result = again(pytester, "..")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["seed 0, again with: pytest ../test_lab.py::test_it --trionet-seed 0"])
