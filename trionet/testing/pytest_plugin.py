"""trionet's pytest plugin, loaded wherever trionet is installed.

It has the fixtures ``lab``, ``virtual_network`` and ``lab_seed``, the marker ``lab`` and the options
``--trionet-seed`` and ``--trionet-seeds``. Tests that use none of them are none of its business.
"""

from __future__ import annotations

import sys
from collections.abc import Generator
from typing import TYPE_CHECKING

import pytest

from trionet.testing import _failures, _seeds

if TYPE_CHECKING:
    from typing import NoReturn


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("trionet", "virtual networks (trionet)")
    group.addoption(
        _seeds.SEED_OPTION,
        type=_seeds.seed_option,
        metavar="N",
        help="run all tests of virtual networks with this seed, those marked to run with many included",
    )
    group.addoption(
        _seeds.COUNT_OPTION,
        type=_seeds.count_option,
        metavar="N",
        help="run tests marked with `lab` with N seeds, unless the marker lists them",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Add the marker, and the fixtures that fit."""
    _seeds.check_options(config)
    config.addinivalue_line("markers", _seeds.MARKER)
    config.pluginmanager.register(_failures.SeedSummary(), "trionet-seed-summary")
    pytest_trio = sys.modules.get("pytest_trio.plugin")
    if pytest_trio is not None and config.pluginmanager.is_registered(pytest_trio):
        from trionet.testing import _trio_fixtures

        config.pluginmanager.register(_trio_fixtures, "trionet-fixtures")
    else:
        config.pluginmanager.register(_WithoutPytestTrio(), "trionet-fixtures")


class _WithoutPytestTrio:
    """Says what is missing."""

    @pytest.fixture
    def virtual_network(self, lab_seed: int) -> NoReturn:
        """A virtual network; needs pytest-trio."""
        self._complain("virtual_network")

    @pytest.fixture
    def lab(self, lab_seed: int) -> NoReturn:
        """A virtual network on a mock clock; needs pytest-trio."""
        self._complain("lab")

    def _complain(self, fixture: str) -> NoReturn:
        pytest.fail(
            f"the fixture {fixture} needs pytest-trio, which is not loaded: pip install 'trionet[testing]'",
            pytrace=False,
        )


@pytest.fixture
def lab_seed(request: pytest.FixtureRequest) -> int:
    """The seed of the test, for tests that open their networks themselves."""
    seed = _seeds.seed_of(request)
    request.node.stash[_failures.SEED] = seed
    return seed


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Repeat marked tests with their seeds."""
    _seeds.parametrize(metafunc)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add seeds and networks to reports."""
    report = yield
    _failures.complete(report, item)
    return report
