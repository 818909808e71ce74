"""The pytest plugin in projects: its fixtures, its marker and its options, as users see them."""

from __future__ import annotations

import os

import pytest

from tests.testing.pytest_runs import run

pytest_plugins = ["pytester"]

HOUR = """
    async def test_hour(lab):
        stream = await open_echo(lab)
        before = trio.current_time()
        await trio.sleep(3600)
        assert trio.current_time() == before + 3600
        assert lab.clock is trio.lowlevel.current_clock()
        await stream.aclose()
"""


def test_in_trio_mode(pytester: pytest.Pytester) -> None:
    result = run(pytester, HOUR)
    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("*virtual network*")


def test_without_trio_mode_tests_are_marked(pytester: pytest.Pytester) -> None:
    marked = HOUR.replace("async def", "@pytest.mark.trio\n    async def")
    run(pytester, marked, trio_mode=False).assert_outcomes(passed=1)


def test_without_trio_mode_an_unmarked_test_is_told_so(pytester: pytest.Pytester) -> None:
    result = run(pytester, HOUR, trio_mode=False)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["E *Trio fixtures can only be used by Trio tests*"])


def test_with_enable_trio_mode(pytester: pytest.Pytester) -> None:
    pytester.makeconftest("from pytest_trio.enable_trio_mode import *")
    run(pytester, HOUR, trio_mode=False).assert_outcomes(passed=1)


def test_the_run_function_of_a_test_is_kept(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
        def run_loudly(*args, **options):
            print("run by the test's own function")
            return trio.run(*args, **options)

        @pytest.mark.trio(run=run_loudly)
        async def test_hour(lab):
            await trio.sleep(3600)
        """,
        "-s",
    )
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*run by the test's own function*"])


def test_with_the_clock_of_the_lab(pytester: pytest.Pytester) -> None:
    run(
        pytester,
        """
        async def test_clock(lab, autojump_clock):
            assert lab.clock is autojump_clock
            await trio.sleep(3600)
        """,
    ).assert_outcomes(passed=1)


def test_with_another_clock_it_fails(pytester: pytest.Pytester) -> None:
    result = run(pytester, "async def test_clock(lab, mock_clock): pass")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["E *RuntimeError: the fixture lab has the test run on autojump_clock, but *"]
    )


def test_with_a_network_of_somebody_else_it_fails(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
        @pytest.fixture
        async def virtual_network():
            return None

        async def test_it(lab): pass
        """,
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E *RuntimeError: the fixture lab needs trionet's virtual_network*"])


def test_fixtures_on_top_of_a_lab(pytester: pytest.Pytester) -> None:
    run(
        pytester,
        """
        @pytest.fixture
        async def stream(lab):
            async with await open_echo(lab) as stream:
                yield stream

        async def test_it(stream, lab):
            await stream.send_all(b"again")
            await trio.sleep(3600)
            assert await stream.receive_some() == b"again"
        """,
    ).assert_outcomes(passed=1)


def test_a_test_that_runs_trio_itself(pytester: pytest.Pytester) -> None:
    run(
        pytester,
        """
        @pytest.mark.lab(seeds=[3, 4])
        def test_it(lab_seed):
            async def main():
                async with open_lab(seed=lab_seed) as lab:
                    stream = await open_echo(lab)
                    await trio.sleep(3600)
                    await stream.aclose()
                    return lab.seed

            clock = trio.testing.MockClock(autojump_threshold=0)
            assert trio.run(main, clock=clock) == lab_seed in (3, 4)
        """,
    ).assert_outcomes(passed=2)


@pytest.mark.parametrize("fixture", ["lab", "virtual_network"])
def test_without_pytest_trio_fixtures_say_what_is_missing(pytester: pytest.Pytester, fixture: str) -> None:
    source = f"""
        def test_it({fixture}): pass

        def test_with_a_seed(lab_seed):
            assert lab_seed == 0
    """
    result = run(pytester, source, "-p", "no:trio", trio_mode=False)
    result.assert_outcomes(errors=1, passed=1)
    result.stdout.fnmatch_lines(
        [f"the fixture {fixture} needs pytest-trio, which is not loaded: pip install *"]
    )


def test_pytest_trio_is_not_required(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a process in which it cannot be imported."""
    pytester.mkpydir("missing")
    pytester.path.joinpath("missing", "pytest_trio.py").write_text("raise ImportError('it is not there')\n")
    monkeypatch.setenv("PYTHONPATH", str(pytester.path / "missing"), prepend=os.pathsep)
    pytester.makepyfile(
        test_plain="""
        import pytest

        def test_trio_cannot_be_had():
            with pytest.raises(ImportError, match="it is not there"):
                import pytest_trio

        def test_seed(lab_seed):
            assert lab_seed == 3
        """
    )
    result = pytester.runpytest_subprocess("-p", "no:trio", "--trionet-seed", "3")
    result.assert_outcomes(passed=2)


def test_the_options_are_explained(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_inprocess("--help")
    result.stdout.fnmatch_lines(
        ["virtual networks (trionet):", "*--trionet-seed=N *", "*--trionet-seeds=N *"]
    )


def test_the_marker_is_explained(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_inprocess("--markers")
    result.stdout.fnmatch_lines(
        ["@pytest.mark.lab(seeds=N, seed=N, ?*?*settings): run a test of a virtual *"]
    )


def test_the_fixtures_are_explained(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_inprocess("--fixtures")
    for fixture in ("lab", "virtual_network", "lab_seed"):
        result.stdout.fnmatch_lines([f"{fixture} -- *"])


@pytest.mark.parametrize("option", ["--trionet-seed", "--trionet-seeds"])
@pytest.mark.parametrize("value", ["x", "-1", "1.5", ""])
def test_options_that_are_no_numbers(pytester: pytest.Pytester, option: str, value: str) -> None:
    result = pytester.runpytest_inprocess(f"{option}={value}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*error: argument {option}: expected a whole number, * not '{value}'*"])


def test_no_seeds_at_all(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_inprocess("--trionet-seeds=0")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ["*argument --trionet-seeds: expected a whole number, 1 or greater, not '0'*"]
    )


def test_options_that_contradict_each_other(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_inprocess("--trionet-seeds=10", "--trionet-seed=1")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --trionet-seed is for one seed, --trionet-seeds for many: *"])


def test_other_projects_may_have_a_marker_and_a_fixture_of_these_names(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
        @pytest.fixture
        def lab():
            return "room 12"

        @pytest.mark.lab("needs the laser", seed="poppy")
        def test_room(lab):
            assert lab == "room 12"

        @pytest.mark.lab
        async def test_async_room(lab):
            assert lab == "room 12"

        @pytest.fixture
        def virtual_network():
            return "VLAN 7"

        def test_vlan(virtual_network):
            assert virtual_network == "VLAN 7"
        """,
    )
    result.assert_outcomes(passed=3)
