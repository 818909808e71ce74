"""How failures of tests with seeds are reported.

A test with many seeds is many items, which may run in different processes. Their reports carry test and seed,
and come together in the process that the user sees.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

from trionet.testing._evidence import Evidence
from trionet.testing._seeds import SEED_OPTION, parametrized_seed, without_seed

SEED: Final = pytest.StashKey[int]()
EVIDENCE: Final = pytest.StashKey[Evidence]()

# Attributes of reports; they travel from the workers of pytest-xdist.
_SEED_ATTRIBUTE: Final = "trionet_seed"
_TEST_ATTRIBUTE: Final = "trionet_test"
_WIDTH: Final = 100


def complete(report: pytest.TestReport, item: pytest.Item) -> None:
    """Add to the report of an item what is known about its network and its seed."""
    one_of_several = parametrized_seed(item)
    if one_of_several is not None:
        setattr(report, _SEED_ATTRIBUTE, one_of_several)
        setattr(report, _TEST_ATTRIBUTE, without_seed(item, one_of_several))
    seed = item.stash.get(SEED, one_of_several)
    if report.failed and seed is not None:
        text = f"seed {seed}, again with: {replay_command(item.config, item.nodeid, seed)}"
        evidence = item.stash.get(EVIDENCE, None)
        if evidence is not None:
            evidence.secure()  # if even the fixture could not, as when Trio itself was interrupted
            text += f"\n{evidence}"
        report.sections.append(("virtual network", text))


def replay_command(config: pytest.Config, nodeid: str, seed: int) -> str:
    """What to type to run an item again."""
    path, colons, rest = nodeid.partition("::")
    if config.invocation_params.dir != config.rootpath:
        path = os.path.relpath(config.rootpath / path, config.invocation_params.dir)
    name = f"{path}{colons}{rest}"
    return f"pytest {_quoted(name)} {SEED_OPTION} {seed}"


def _quoted(text: str) -> str:
    return f'"{text}"' if sys.platform == "win32" else shlex.quote(text)


@dataclass
class _Test:
    """A test that has several seeds: how many of them ran, and what failed."""

    ran: set[int] = field(default_factory=set)
    failed: dict[int, list[pytest.TestReport]] = field(default_factory=dict)

    @property
    def smallest(self) -> int:
        return min(self.failed)


class SeedSummary:
    """For each test of which seeds have failed, reports the smallest in full and all of them in brief."""

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_terminal_summary(
        self, terminalreporter: pytest.TerminalReporter, config: pytest.Config
    ) -> Generator[None, object, object]:
        stats: dict[str, list[Any]] = terminalreporter.stats
        tests = {name: test for name, test in _tests(stats).items() if test.failed}
        hidden = {
            id(report)
            for test in tests.values()
            for seed, reports in test.failed.items()
            if seed != test.smallest
            for report in reports
        }
        # What is hidden is so for the summaries only. It was counted, and will be.
        whole: dict[str, list[Any]] = {
            category: stats[category] for category in ("failed", "error") if category in stats
        }
        for category, reports in whole.items():
            stats[category] = [report for report in reports if id(report) not in hidden]
        try:
            result = yield
        finally:
            stats.update(whole)
        several = {name: test for name, test in tests.items() if len(test.ran) > 1}
        if several:
            terminalreporter.write_sep("=", "virtual network: seeds that fail")
            for name, test in several.items():
                for line in _lines(config, name, test):
                    terminalreporter.write_line(line)
        return result


def _tests(stats: dict[str, list[Any]]) -> dict[str, _Test]:
    tests: dict[str, _Test] = {}
    for category, reports in stats.items():
        for report in reports:
            seed = getattr(report, _SEED_ATTRIBUTE, None)
            if seed is not None:
                test = tests.setdefault(getattr(report, _TEST_ATTRIBUTE), _Test())
                if category in ("failed", "error"):
                    test.failed.setdefault(seed, []).append(report)
                if category in ("failed", "error", "passed"):
                    test.ran.add(seed)
    return tests


def _lines(config: pytest.Config, name: str, test: _Test) -> Iterator[str]:
    smallest = test.smallest
    yield f"{name}: {len(test.failed)} of {len(test.ran)} seeds fail, the smallest is {smallest}"
    # By place, in the order of the smallest seeds: there may be more than one thing that is wrong.
    causes: dict[str, tuple[str, list[int]]] = {}
    for seed in sorted(test.failed):
        place, message = _crash(config, test.failed[seed][0])
        text = message if len(message) <= _WIDTH else f"{message[: _WIDTH - 3]}..."
        if place:
            text += f" ({place})"
        causes.setdefault(place or text, (text, []))[1].append(seed)
    for text, seeds in causes.values():
        yield f"    {_ranges(seeds)}: {text}"
    nodeid = test.failed[smallest][0].nodeid
    yield f"  {replay_command(config, nodeid, smallest)}"


def _crash(config: pytest.Config, report: pytest.TestReport) -> tuple[str, str]:
    """Where something was raised, if that is known, and the first line of what it was."""
    crash = getattr(report.longrepr, "reprcrash", None)
    if crash is None:
        return "", str(report.longrepr).strip().partition("\n")[0]
    path = Path(crash.path)
    if path.is_relative_to(config.rootpath):
        path = path.relative_to(config.rootpath)
    return f"{path}:{crash.lineno}", str(crash.message).partition("\n")[0]


def _ranges(numbers: Iterable[int]) -> str:
    """Numbers as text: 3, 7-9, 12."""
    ranges: list[tuple[int, int]] = []
    for number in sorted(numbers):
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1] = ranges[-1][0], number
        else:
            ranges.append((number, number))
    return ", ".join(str(low) if low == high else f"{low}-{high}" for low, high in ranges)
