"""With which seeds tests run."""

from __future__ import annotations

import pytest

from tests.testing.pytest_runs import run

pytest_plugins = ["pytester"]

SEEDS = """
    async def test_plain(lab):
        print(f"plain {lab.seed}")

    @pytest.mark.lab(seed=5)
    async def test_one(virtual_network):
        print(f"one {virtual_network.seed}")

    @pytest.mark.lab(seeds=3)
    async def test_count(lab):
        print(f"count {lab.seed}")

    @pytest.mark.lab(seeds=range(7, 9))
    async def test_list(lab):
        print(f"list {lab.seed}")

    @pytest.mark.lab
    async def test_bare(lab):
        print(f"bare {lab.seed}")
"""


def seeds_with(pytester: pytest.Pytester, *options: str) -> dict[str, list[int]]:
    """With which seeds the tests above run."""
    result = run(pytester, SEEDS, "-s", "-q", "-rN", *options)
    assert result.ret == pytest.ExitCode.OK
    seeds: dict[str, list[int]] = {}
    for line in result.outlines:
        words = line.lstrip(".").split()
        if len(words) == 2 and words[1].isdigit():
            seeds.setdefault(words[0], []).append(int(words[1]))
    return seeds


def test_the_markers_say_which(pytester: pytest.Pytester) -> None:
    assert seeds_with(pytester) == {
        "plain": [0],
        "one": [5],
        "count": [0, 1, 2],
        "list": [7, 8],
        "bare": [0],
    }


def test_one_seed_for_all(pytester: pytest.Pytester) -> None:
    assert seeds_with(pytester, "--trionet-seed=17") == {
        "plain": [17],
        "one": [17],
        "count": [17],
        "list": [17],
        "bare": [17],
    }


def test_another_count(pytester: pytest.Pytester) -> None:
    """Seeds that were picked stay."""
    assert seeds_with(pytester, "--trionet-seeds=2") == {
        "plain": [0],
        "one": [5],
        "count": [0, 1],
        "list": [7, 8],
        "bare": [0, 1],
    }


def test_each_seed_is_an_item_with_fixtures_of_its_own(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
        @pytest.fixture
        def fresh():
            return []

        @pytest.mark.lab(seeds=2)
        @pytest.mark.parametrize("letter", ["a", "b"])
        async def test_it(lab, fresh, letter):
            fresh.append(lab)
            assert len(fresh) == 1
            assert not lab.hosts
            lab.host("server")
        """,
        "-v",
    )
    result.assert_outcomes(passed=4)
    result.stdout.fnmatch_lines_random([f"test_lab.py::test_it?*seed{seed}*PASSED*" for seed in range(2)])


def test_one_item_can_be_chosen(pytester: pytest.Pytester) -> None:
    result = run(pytester, SEEDS, "-v", "test_lab.py::test_count[seed2]")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["test_lab.py::test_count[[]seed2] PASSED*"])


def test_markers_add_up(pytester: pytest.Pytester) -> None:
    """The closest one decides about seeds; settings come together."""
    result = run(
        pytester,
        """
        pytestmark = pytest.mark.lab(seeds=3, latency=0.5, loss=0.25)

        def settings(network):
            link = network.link(network.host("here"), network.host("there"))
            return link.latency, link.loss

        @pytest.mark.lab(seed=9)
        class TestClass:
            async def test_class(self, lab):
                assert (lab.seed, *settings(lab)) == (9, 0.5, 0.25)

            @pytest.mark.lab(seeds=[1, 2], latency=0.125)
            async def test_function(self, virtual_network):
                assert virtual_network.seed in (1, 2)
                assert settings(virtual_network) == (0.125, 0.25)

        async def test_module(lab):
            assert lab.seed in (0, 1, 2)

        def test_without_a_network():
            pass
        """,
    )
    result.assert_outcomes(passed=1 + 2 + 3 + 1)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ("200", "what is 200? Write seeds=... or seed=..."),
        ("seeds=0", "seeds=0 would run nothing"),
        ("seeds=-1", "seeds is a whole number, 0 or greater, not -1"),
        ("seeds='3'", "seeds is a whole number, 0 or greater, not '3'"),
        ("seeds=True", "seeds is a whole number, 0 or greater, not True"),
        ("seeds=[]", "seeds is empty"),
        ("seeds=[1, 2, 1]", "seeds has one of them twice"),
        ("seeds=[1, None]", "a seed is a whole number, 0 or greater, not None"),
        ("seed=1.5", "seed is a whole number, 0 or greater, not 1.5"),
        ("seed=1, seeds=2", "seed is for one, seeds for several: give one of them"),
        ("latenzy=1", "there is no 'latenzy', only seeds, seed, and of a network latency, jitter,*"),
    ],
)
def test_markers_that_make_no_sense(pytester: pytest.Pytester, arguments: str, complaint: str) -> None:
    result = run(
        pytester,
        f"""
        @pytest.mark.lab({arguments})
        async def test_it(lab): pass
        """,
    )
    result.assert_outcomes(errors=1)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    pattern = complaint.replace("[", "[[]").replace("?", "[?]")
    result.stdout.fnmatch_lines([f"In test_lab.py::test_it: marker lab: {pattern}"])
    result.stdout.no_fnmatch_line("*Traceback*")


def test_many_seeds_for_a_test_that_uses_none(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
        @pytest.mark.lab(seeds=3)
        async def test_it():
            async with open_virtual_network():
                pass
        """,
    )
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        ["*marker lab: the test would do the same with all seeds, as it uses none of *"]
    )


def test_workers_get_the_options(pytester: pytest.Pytester) -> None:
    """Without this one they would collect eight tests."""
    run(pytester, SEEDS, "-n2", "--trionet-seed=17").assert_outcomes(passed=5)
