"""The fixtures that need pytest-trio; the plugin loads this module where pytest-trio is loaded.

pytest-trio runs a test and its fixtures in one `trio.run`, from the hook ``pytest_runtest_call``. There it
leaves some things to us. It takes a clock from the arguments of the test alone, not from what its fixtures
use; it does not tell a fixture that the test has failed, only that it is over, after the fixtures that use
this one have cleaned up; and it raises what a test has raised in a group of one, whose report is less clear.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from typing import Any

import pytest
import trio
from pytest_trio import trio_fixture  # type: ignore[import-untyped]
from pytest_trio.plugin import choose_run  # type: ignore[import-untyped]
from trio.testing import MockClock

from trionet.testing._evidence import Evidence
from trionet.testing._failures import EVIDENCE, SEED
from trionet.testing._lab import Lab
from trionet.testing._seeds import read_marks
from trionet.testing.network._network import VirtualNetwork


@trio_fixture  # type: ignore[untyped-decorator]
async def virtual_network(request: pytest.FixtureRequest, lab_seed: int) -> AsyncIterator[VirtualNetwork]:
    """A virtual network with the seed of the test, open around it, on the clock that the test has."""
    marks = read_marks(request.node)
    make = Lab if "lab" in request.fixturenames else VirtualNetwork
    network = make(seed=lab_seed, **({} if marks is None else marks.settings))
    request.node.stash[SEED] = lab_seed  # if somebody has parametrized it, the fixture did not run
    evidence = request.node.stash[EVIDENCE] = Evidence(network)
    async with network:
        with evidence.secured_in_time():
            yield network


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
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Prepare a test that uses a network; goes before pytest-trio, which wraps the test in a run."""
    if isinstance(item, pytest.Function) and "virtual_network" in item.fixturenames:
        if inspect.iscoroutinefunction(item.obj) and not hasattr(item.obj, "hypothesis"):
            item.obj = _securing_evidence(item.obj, item)
        if item.get_closest_marker("trio") is not None:
            item.add_marker(pytest.mark.trio(run=_run_for(item)), append=False)
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


def _run_for(item: pytest.Function) -> Callable[..., object]:
    """The run function that was chosen for a test, but with the clock of its lab if it brings none."""
    chosen = (mark.kwargs.get("run") for mark in item.iter_markers("trio"))
    run = next(filter(None, chosen), None) or choose_run(config=item.config)

    def run_test(*args: Any, clock: trio.abc.Clock | None = None, **options: Any) -> object:
        __tracebackhide__ = True
        if clock is None and "lab" in item.fixturenames:
            autojump_clock = item.funcargs["autojump_clock"]
            assert isinstance(autojump_clock, trio.abc.Clock)
            clock = autojump_clock
        try:
            return run(*args, clock=clock, **options)
        except BaseExceptionGroup as group:
            error = _cause(group)
        raise error  # here, where the group does not become its context

    return run_test


def _cause(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """What was raised, without the group that the nursery of pytest-trio has made of it.

    Nor is it told that this was while the test was being cancelled: that was because of it.
    """
    if group.message != "Exceptions from Trio nursery" or len(group.exceptions) > 1:
        return group
    error = group.exceptions[0]
    if isinstance(error.__context__, trio.Cancelled):
        error.__context__ = None
    return error
