"""What is reported of tests that fail with some of their seeds."""

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


def test_parameters_may_have_any_name(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
        @pytest.mark.parametrize("address", ["127.0.0.1", "::1", "seed1", "a]-[b", ""])
        @pytest.mark.lab(seeds=2)
        async def test_address(lab, address):
            assert lab.seed == 0

        @pytest.mark.lab(seeds=2)
        @pytest.mark.parametrize("port", [1, 2])
        @pytest.mark.xdist_group("ports")
        async def test_port(lab, port):
            assert lab.seed == 0
        """,
        "-n2",
        "--dist=loadgroup",
    )
    result.assert_outcomes(passed=7, failed=7)
    names = ["127.0.0.1", "::1", "seed1", "a]-[[]b", ""]
    result.stdout.fnmatch_lines_random(
        [f"test_lab.py::test_address[[]{name}]: 1 of 2 seeds fail, the smallest is 1" for name in names]
        + [f"test_lab.py::test_port[[]{port}]: 1 of 2 seeds fail, the smallest is 1" for port in (1, 2)]
    )


@pytest.mark.parametrize("indirect", [True, False])
def test_who_parametrizes_the_seed_is_left_alone(pytester: pytest.Pytester, indirect: bool) -> None:
    result = run(
        pytester,
        f"""
        @pytest.mark.parametrize("lab_seed", [3, 4], indirect={indirect})
        async def test_it(lab):
            assert lab.seed == 3
        """,
    )
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines([SECTION, "seed 4, again with: pytest 'test_lab.py::test_it[[]4]' *"])
    result.stdout.no_fnmatch_line("*seeds that fail*")


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


def test_failures_without_a_place_are_told_apart_by_their_text(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(
        """
        import pytest

        @pytest.hookimpl(wrapper=True)
        def pytest_runtest_makereport(item):
            report = yield
            if report.failed:
                report.longrepr = f"{item.funcargs['lab_seed'] % 2} {'x' * 200}\\nand so on"
            return report
        """
    )
    result = run(pytester, "@pytest.mark.lab(seeds=4)\ndef test_it(lab_seed): assert False")
    result.stdout.fnmatch_lines(
        [f"    0, 2: 0 {'x' * 95}...", f"    1, 3: 1 {'x' * 95}..."], consecutive=True
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
