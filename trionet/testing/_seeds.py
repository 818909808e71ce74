"""Which seeds a test runs with: the marker `lab` and the options say so."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn

import pytest

#: The fixture that has the seed of a test; whoever uses the seed uses this fixture.
SEED_FIXTURE: Final = "lab_seed"
SEED_OPTION: Final = "--trionet-seed"
COUNT_OPTION: Final = "--trionet-seeds"

MARKER: Final = (
    "lab(seeds=N, seed=N, **settings): run a test of a virtual network with the seeds 0 to N-1, or with "
    "those of a list or range, or with one; settings are those of the network, as latency=0.001."
)


def seed_option(text: str) -> int:
    """The value of an option that is a seed.

    Raises:
        argparse.ArgumentTypeError: if it is none.
    """
    return _natural(text, 0)


def count_option(text: str) -> int:
    """The value of an option that is a number of seeds.

    Raises:
        argparse.ArgumentTypeError: if it is none.
    """
    return _natural(text, 1)


def _natural(text: str, least: int) -> int:
    try:
        number = int(text)
    except ValueError:
        number = -1
    if number < least:
        raise argparse.ArgumentTypeError(f"expected a whole number, {least} or greater, not {text!r}")
    return number


def check_options(config: pytest.Config) -> None:
    """Refuse options that contradict each other.

    Raises:
        pytest.UsageError: if they do.
    """
    if config.getoption(SEED_OPTION) is not None and config.getoption(COUNT_OPTION) is not None:
        raise pytest.UsageError(f"{SEED_OPTION} is for one seed, {COUNT_OPTION} for many: give one of them")


@dataclass
class LabMarks:
    """What the markers `lab` of a test say together.

    Attributes:
        seed: The only seed.
        count: How many seeds, from 0.
        seeds: The seeds, if they are listed.
        settings: Of the network.
    """

    seed: int | None = None
    count: int | None = None
    seeds: tuple[int, ...] | None = None
    settings: dict[str, Any] = field(default_factory=dict)


def read_marks(function: pytest.Function) -> LabMarks | None:
    """Read the markers of a test, its class and its module; what is closer to the test wins.

    Fails, without a traceback, if one of them makes no sense.

    Returns:
        None if there are none.
    """
    found = list(function.iter_markers("lab"))
    if not found:
        return None
    marks = LabMarks()
    for mark in reversed(found):
        _read(function, mark, marks)
    return marks


def _read(function: pytest.Function, mark: pytest.Mark, marks: LabMarks) -> None:
    settings = dict(mark.kwargs)
    if mark.args:
        _complain(function, f"what is {mark.args[0]!r}? Write seeds=... or seed=...")
    if "seed" in settings and "seeds" in settings:
        _complain(function, "seed is for one, seeds for several: give one of them")
    if "seed" in settings or "seeds" in settings:
        marks.seed = marks.count = marks.seeds = None
    if "seed" in settings:
        marks.seed = _checked(function, "seed", settings.pop("seed"))
    elif "seeds" in settings:
        seeds = settings.pop("seeds")
        if isinstance(seeds, Iterable) and not isinstance(seeds, str | bytes):
            marks.seeds = tuple(_checked(function, "a seed", seed) for seed in seeds)
            if not marks.seeds:
                _complain(function, "seeds is empty")
            if len({*marks.seeds}) < len(marks.seeds):
                _complain(function, "seeds has one of them twice")
        else:
            marks.count = _checked(function, "seeds", seeds)
            if not marks.count:
                _complain(function, "seeds=0 would run nothing")
    for name in settings:
        if name not in _names_of_settings():
            known = ", ".join(_names_of_settings())
            _complain(function, f"there is no {name!r}, only seeds, seed, and of a network {known}")
    marks.settings |= settings


def _names_of_settings() -> Iterable[str]:
    from trionet.testing._lab import NetworkSettings  # not needed where nobody uses the marker

    return NetworkSettings.__annotations__


def _checked(function: pytest.Function, what: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        _complain(function, f"{what} is a whole number, 0 or greater, not {value!r}")
    return value


def _complain(function: pytest.Function, text: str) -> NoReturn:
    pytest.fail(f"In {function.nodeid}: marker lab: {text}", pytrace=False)


def parametrize(metafunc: pytest.Metafunc) -> None:
    """Make a test that is marked one item for each seed.

    A marker of this name that is about something else, on a test without a network, is left alone.
    """
    function = metafunc.definition
    if SEED_FIXTURE not in metafunc.fixturenames:
        if any("seeds" in mark.kwargs for mark in function.own_markers if mark.name == "lab"):
            _complain(
                function,
                "the test would do the same with all seeds, as it uses none of the fixtures lab, "
                f"virtual_network and {SEED_FIXTURE}",
            )
        return
    marks = read_marks(function)
    seeds = None if marks is None else _seeds(marks, metafunc.config)
    if seeds is not None:
        ids = [f"seed{seed}" for seed in seeds]
        metafunc.parametrize(SEED_FIXTURE, seeds, ids=ids, indirect=True)


def _seeds(marks: LabMarks, config: pytest.Config) -> Iterable[int] | None:
    """The seeds to run with, or None if it is one and needs no name."""
    if marks.seed is not None:
        return None
    only: int | None = config.getoption(SEED_OPTION)
    count: int | None = config.getoption(COUNT_OPTION)
    if only is not None:
        return None if marks.count is None and marks.seeds is None else (only,)
    if marks.seeds is not None:
        return marks.seeds
    if count is None:
        count = marks.count
    return None if count is None else range(count)


def seed_of(request: pytest.FixtureRequest) -> int:
    """The seed of a test, for its fixture."""
    if hasattr(request, "param"):
        return int(request.param)
    only: int | None = request.config.getoption(SEED_OPTION)
    if only is not None:
        return only
    marks = read_marks(request.node)
    return marks.seed if marks is not None and marks.seed is not None else 0


def parametrized_seed(item: pytest.Item) -> int | None:
    """The seed of an item that is one of several, made by `parametrize`."""
    callspec = getattr(item, "callspec", None)
    if callspec is None:
        return None
    seed = callspec.params.get(SEED_FIXTURE)
    if not isinstance(seed, int) or f"seed{seed}" not in callspec.id.split("-"):
        return None  # somebody else may have parametrized the fixture
    return seed


def without_seed(item: pytest.Item, seed: int) -> str:
    """The name that the items of all seeds of a test have in common."""
    # Not by looking for the brackets: parameters may have any character in their names, as in "::1".
    parameters = getattr(item, "callspec").id  # noqa: B009
    test, _, _ = item.nodeid.rpartition(f"[{parameters}]")
    parts = parameters.split("-")
    parts.remove(f"seed{seed}")
    return f"{test}[{'-'.join(parts)}]" if parts else test
