"""Portals on a mock clock and a virtual network; and the naps between calls of other portals."""

from __future__ import annotations

import contextvars
import functools
import itertools
import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import trio
from trio.testing import MockClock

import trionet
from trionet.testing import VirtualNetwork
from trionet_compat import _nap
from trionet_compat._crossing import in_context
from trionet_compat._nap import Nap
from trionet_compat.portal import open_portal


async def _echo(value: int) -> int:
    await trio.lowlevel.checkpoint()
    return value


def test_time_passes_in_calls_only() -> None:
    async def count(*, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        while True:
            await trio.sleep(1)
            seconds.append(trio.current_time())

    seconds: list[float] = []
    with open_portal(clock=MockClock(autojump_threshold=0)) as portal:
        began = portal.current_time()
        portal.start(count)
        for number in range(100):
            assert portal.call(_echo, number) == number
        assert portal.current_time() == began
        portal.sleep(3600.5)
        assert portal.current_time() == began + 3600.5
        assert len(seconds) == 3600


def test_a_call_returns_when_all_tasks_wait() -> None:
    async def work(*, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        while True:
            await event.wait()
            for _ in range(50):
                await trio.lowlevel.checkpoint()
                done.append(1)
            await trio.sleep_forever()

    done: list[int] = []
    event = trio.Event()
    with open_portal(clock=MockClock(autojump_threshold=0)) as portal:
        portal.start(work)
        portal.call_sync(event.set)
        assert len(done) == 50


def test_time_passes_while_another_thread_waits() -> None:
    with open_portal(clock=MockClock(autojump_threshold=0)) as portal, ThreadPoolExecutor(5) as threads:
        slept = [threads.submit(portal.sleep, seconds) for seconds in (5, 50, 500, 5000, 3)]
        for future in slept:
            future.result()
        before = portal.current_time()
        portal.call(_echo, 1)
        assert portal.current_time() == before


class Laser:
    def echo(self, value: Any) -> Any:
        return value


def _session() -> str:
    """Calls from one host to another, in a program that blocks: what was on the wire."""
    net = VirtualNetwork(latency=0.01, jitter=0.02, loss=0.2, seed=3)
    server, pc = net.host("server"), net.host("pc")
    with open_portal(clock=MockClock(autojump_threshold=0), network=net) as portal:
        with server.entered():
            portal.start(functools.partial(trionet.serve_rpc, host="server"), {"laser": Laser()}, 3251)
        with pc.entered():
            client = portal.open(trionet.open_rpc_client("server", 3251))
            for number in range(20):
                assert portal.call(client.value.call, "echo", number) == number
                portal.sleep(0.1)
            client.close()
        return net.trace.digest


def test_what_blocking_code_does_is_the_same_each_time() -> None:
    assert len({_session() for _ in range(5)}) == 1


# -- naps ----------------------------------------------------------------------------------------------------


class Inbox:
    """Is looked at before a nap and after it; what comes in between is told by `arrivals`."""

    def __init__(self) -> None:
        self.looks = 0
        self.arrivals: list[int] = []
        self.nap = Nap(self)
        self.was_asleep: list[bool] = []

    def __len__(self) -> int:
        self.looks += 1
        self.was_asleep.append(self.nap.end())
        return self.arrivals.pop(0) if self.arrivals else 0


def test_a_nap_ends_with_a_call() -> None:
    inbox = Inbox()
    inbox.arrivals = [0, 1]
    assert not inbox.nap.end()
    assert inbox.nap.take()
    assert inbox.was_asleep == [True, False]
    assert not inbox.nap.end()


def test_what_is_there_already_is_taken_without_a_nap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_nap, "_LONGEST_NAP", 3600)
    assert Nap([1]).take()


def test_a_nap_is_ended_from_another_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_nap, "_LONGEST_NAP", 3600)
    inbox: deque[int] = deque()
    nap = Nap(inbox)

    def call() -> None:
        while not nap.end():
            pass
        inbox.append(1)  # the other way round in a portal, or it would be in vain, as here
        nap.end()

    thread = threading.Thread(target=call)
    thread.start()
    nap.take()
    thread.join()


def test_naps_in_vain_become_rare() -> None:
    inbox = Inbox()
    naps = []
    for number in range(700):
        before = sum(inbox.was_asleep)
        assert not inbox.nap.take()
        if sum(inbox.was_asleep) > before:
            naps.append(number)
    assert [later - sooner for sooner, later in itertools.pairwise(naps)] == [9, 17, 33, 65, 129, 257]
    inbox.arrivals = [1]
    assert inbox.nap.take()  # paid, though without a nap


def test_a_nap_that_pays_makes_them_frequent_again() -> None:
    inbox = Inbox()
    for _ in range(1 + 8 + 1 + 16):
        inbox.nap.take()
    inbox.arrivals = [0, 1]
    assert inbox.nap.take()
    assert not inbox.nap.take()
    looks = inbox.looks
    for _ in range(8):
        inbox.nap.take()
    assert inbox.looks == looks + 8


def test_calls_that_follow_each_other_share_a_task() -> None:
    async def task() -> trio.lowlevel.Task:
        return trio.lowlevel.current_task()

    with open_portal() as portal:
        portal._nap = patient = _Patient(portal._inbox)
        tasks = {portal.call(task) for _ in range(20)}
        patient.over = True
    assert len(tasks) == 1


class _Patient(Nap):
    """Naps until it is woken."""

    over = False

    def take(self) -> bool:
        self._asleep = True
        while not self._inbox and not self.over:
            self._alarm.acquire(timeout=0.01)
        self._asleep = False
        return bool(self._inbox)


# -- context -------------------------------------------------------------------------------------------------


async def test_a_coroutine_runs_with_other_context_variables() -> None:
    variable = contextvars.ContextVar("variable", default="default")

    async def work() -> str:
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            return variable.get()
        return "not cancelled"

    context = contextvars.copy_context()
    context.run(variable.set, "another")
    with trio.move_on_after(0):
        assert await in_context(context, work()) == "another"
    assert variable.get() == "default"


async def test_exceptions_pass_in_both_directions() -> None:
    async def work() -> None:
        try:
            await trio.lowlevel.checkpoint()
        finally:
            ended.append(True)
        raise ValueError("in there")

    ended: list[bool] = []
    with pytest.raises(ValueError, match="in there"):
        await in_context(contextvars.copy_context(), work())
    stopped = in_context(contextvars.copy_context(), work())
    stopped.send(None)
    stopped.close()
    assert ended == [True, True]
