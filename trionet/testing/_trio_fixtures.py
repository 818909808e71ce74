"""The fixtures that need pytest-trio; the plugin loads this module where pytest-trio is loaded.

pytest-trio runs a test and its fixtures in one `trio.run`, from the hook ``pytest_runtest_call``. Two things
it leaves to us there. It takes a clock from the arguments of the test alone, not from what its fixtures use;
and a fixture is not told that the test has failed, only, after other fixtures have cleaned up, that it is over.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest
import trio
from pytest_trio import trio_fixture  # type: ignore[import-untyped]
from pytest_trio.plugin import choose_run  # type: ignore[import-untyped]
from trio.testing import MockClock

from trionet.testing._evidence import Evidence
from trionet.testing._failures import EVIDENCE
from trionet.testing._lab import Lab
from trionet.testing._seeds import read_marks
from trionet.testing.network._network import VirtualNetwork


@trio_fixture  # type: ignore[untyped-decorator]
async def virtual_network(request: pytest.FixtureRequest, lab_seed: int) -> AsyncIterator[VirtualNetwork]:
    """A virtual network with the seed of the test, open around it, on the clock that the test has."""
    marks = read_marks(request.node)
    make = Lab if "lab" in request.fixturenames else VirtualNetwork
    network = make(seed=lab_seed, **({} if marks is None else marks.settings))
    evidence = request.node.stash[EVIDENCE] = Evidence(network)
    async with network:
        try:
            yield network
        finally:
            evidence.secure()  # before the sockets are closed


@trio_fixture  # type: ignore[untyped-decorator]
async def lab(virtual_network: VirtualNetwork, autojump_clock: MockClock) -> Lab:
    """A virtual network with the seed of the test, and a clock that jumps when everybody waits."""
    if not isinstance(virtual_network, Lab):
        raise RuntimeError("the fixture lab needs trionet's virtual_network, another one has its name here")
    if trio.lowlevel.current_clock() is not autojump_clock:
        raise RuntimeError(
            "the fixture lab has the test run on autojump_clock, but it runs on another clock: use the "
            "fixture virtual_network for other clocks, and open_lab() in tests that Hypothesis repeats"
        )
    return virtual_network


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Prepare a test that uses a network; goes before pytest-trio, which wraps the test in a run."""
    if isinstance(item, pytest.Function) and "virtual_network" in item.fixturenames:
        if inspect.iscoroutinefunction(item.obj) and not hasattr(item.obj, "hypothesis"):
            item.obj = _securing_evidence(item.obj, item)
        if "lab" in item.fixturenames and item.get_closest_marker("trio") is not None:
            item.add_marker(pytest.mark.trio(run=_on_autojump_clock(item)), append=False)
    return (yield)


def _securing_evidence(
    test: Callable[..., Awaitable[object]], item: pytest.Function
) -> Callable[..., Awaitable[object]]:
    @functools.wraps(test)
    async def run_test(*args: Any, **kwargs: Any) -> object:
        __tracebackhide__ = True
        try:
            return await test(*args, **kwargs)
        except BaseException:
            evidence = item.stash.get(EVIDENCE, None)
            if evidence is not None:
                evidence.secure()
            raise

    return run_test


def _on_autojump_clock(item: pytest.Function) -> Callable[..., object]:
    """The run function that was chosen for a test, with the clock of the fixture if the test brings none."""
    chosen = (mark.kwargs.get("run") for mark in item.iter_markers("trio"))
    run = next(filter(None, chosen), None) or choose_run(config=item.config)

    def run_on_clock(*args: Any, clock: trio.abc.Clock | None = None, **options: Any) -> object:
        return run(*args, clock=clock or item.funcargs["autojump_clock"], **options)

    return run_on_clock
