"""Calls of blocking code into the portal: results, errors, context, Ctrl-C, and what is open there."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import signal
import sys
import threading
import weakref
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trionet_compat._blocking_call import BlockingCall
from trionet_compat.portal import Portal, PortalClosed, current_portal, open_portal


@pytest.fixture
def portal() -> Iterator[Portal]:
    with open_portal() as opened:
        yield opened


class Block:
    """A block that notes what becomes of it."""

    def __init__(self) -> None:
        self.left = threading.Event()
        self.cancelled = False

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[str]:
        try:
            yield "value"
        except trio.Cancelled:
            self.cancelled = True
            raise
        finally:
            self.left.set()


async def _echo(value: object) -> object:
    await trio.lowlevel.checkpoint()
    return value


async def _fail(error: BaseException) -> None:
    await trio.lowlevel.checkpoint()
    raise error


def test_a_call_returns_what_the_function_returns(portal: Portal) -> None:
    assert [portal.call(_echo, number) for number in range(100)] == list(range(100))


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), SystemExit(3)])
def test_a_call_raises_what_the_function_raises(portal: Portal, error: BaseException) -> None:
    for _ in range(3):
        with pytest.raises(type(error)) as caught:
            portal.call(_fail, error)
        assert caught.value is error
    assert portal.call(_echo, 1) == 1


def test_each_call_has_the_context_of_its_thread(portal: Portal) -> None:
    variable = contextvars.ContextVar[str]("variable")

    async def read() -> list[str]:
        found = [variable.get()]
        await trio.lowlevel.checkpoint()
        variable.set("changed there")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(note, found)
        return found

    async def note(found: list[str]) -> None:
        found.append(variable.get())

    for value in ("one", "other", "one"):
        variable.set(value)
        assert portal.call(read) == [value, "changed there"]
        assert variable.get() == value


def test_threads_call_at_the_same_time(portal: Portal) -> None:
    async def meet(number: int) -> int:
        present.append(number)
        if len(present) == 20:
            complete.set()
        await complete.wait()
        return number

    present: list[int] = []
    complete = trio.Event()
    with ThreadPoolExecutor(20) as threads:
        assert list(threads.map(lambda number: portal.call(meet, number), range(20))) == list(range(20))


def test_a_call_that_others_follow_may_outlast_them(portal: Portal) -> None:
    released = trio.Event()
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(portal.call, released.wait)
        assert [portal.call(_echo, number) for number in range(20)] == list(range(20))
        assert not waiting.done()
        portal.call_sync(released.set)
        waiting.result()


def test_a_call_in_its_own_thread_is_an_error(portal: Portal) -> None:
    def call() -> None:
        portal.call(_echo, 1)

    with pytest.raises(RuntimeError, match="would wait for itself"):
        portal.call_sync(call)
    with pytest.raises(RuntimeError, match="would wait for itself"):
        portal.call_sync(portal.close)
    assert portal.call(_echo, 1) == 1


def test_it_can_be_called_under_trio_and_asyncio(portal: Portal) -> None:
    async def call() -> object:
        return portal.call(_echo, 1)

    assert trio.run(call) == 1
    assert asyncio.run(call()) == 1
    assert portal.call_sync(lambda: ThreadPoolExecutor(1).submit(trio.run, _echo, 2).result()) == 2


def test_time_is_that_of_the_portal(portal: Portal) -> None:
    before = portal.current_time()
    portal.sleep(0)
    assert portal.current_time() >= before


# -- Ctrl-C --------------------------------------------------------------------------------------------------


def _interrupt_main() -> None:
    if sys.platform == "win32":
        signal.raise_signal(signal.SIGINT)
    else:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


@pytest.fixture
def quick_ctrl_c(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is pressed in a call may come just before that waits, and is then seen when it looks up."""
    monkeypatch.setattr("trionet_compat.portal._WAIT", 0.001)


class Interrupted:
    """Functions that have Ctrl-C pressed, and note their end."""

    def __init__(self) -> None:
        self.ended = trio.Event()

    async def wait(self) -> None:
        _interrupt_main()
        try:
            await trio.sleep_forever()
        finally:
            self.ended.set()

    async def ignore(self) -> None:
        _interrupt_main()
        with contextlib.suppress(trio.Cancelled):
            await trio.sleep_forever()
        self.ended.set()

    async def end_slowly(self, goes_on: trio.Event) -> None:
        try:
            await self.wait()
        finally:
            with trio.CancelScope(shield=True):
                await goes_on.wait()


@pytest.mark.usefixtures("quick_ctrl_c")
def test_ctrl_c_cancels_the_function(portal: Portal) -> None:
    for _ in range(3):
        interrupted = Interrupted()
        portal.call(_echo, 1)
        with pytest.raises(KeyboardInterrupt):
            portal.call(interrupted.wait)
        portal.call(interrupted.ended.wait)


@pytest.mark.usefixtures("quick_ctrl_c")
def test_a_function_that_ignores_its_cancellation_does_not_harm_the_next(portal: Portal) -> None:
    interrupted = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        portal.call(interrupted.ignore)
    portal.call(interrupted.ended.wait)
    assert [portal.call(_echo, number) for number in range(5)] == list(range(5))


@pytest.mark.usefixtures("quick_ctrl_c")
def test_ctrl_c_does_not_wait_for_a_function_that_ends_slowly(portal: Portal) -> None:
    interrupted, goes_on = Interrupted(), trio.Event()
    with pytest.raises(KeyboardInterrupt):
        portal.call(interrupted.end_slowly, goes_on)
    portal.call(interrupted.ended.wait)
    assert portal.call(_echo, 1) == 1
    portal.call_sync(goes_on.set)


@pytest.mark.usefixtures("quick_ctrl_c")
def test_ctrl_c_before_the_task_of_the_call_has_begun(portal: Portal) -> None:
    call = BlockingCall(trio.sleep_forever, ())

    def interrupt() -> None:
        portal._inbox.append(call)
        portal._begin_all()
        call.cancel()

    portal.call_sync(interrupt)
    portal.call(wait_all_tasks_blocked)
    assert call.done.acquire(blocking=False)


def test_ctrl_c_while_a_block_is_entered_leaves_it(portal: Portal) -> None:
    @contextlib.asynccontextmanager
    async def slow(*, enters: bool) -> AsyncIterator[None]:
        try:
            _interrupt_main()
            with trio.CancelScope(shield=enters):
                await goes_on.wait()
            yield
        finally:
            left.set()

    for enters in (False, True):
        goes_on, left = trio.Event(), trio.Event()
        with pytest.raises(KeyboardInterrupt):
            portal.open(slow(enters=enters))
        if enters:
            portal.call_sync(goes_on.set)
        portal.call(left.wait)


def test_ctrl_c_just_after_a_block_was_entered_leaves_it(
    portal: Portal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def call(*args: Any) -> None:
        original(*args)
        raise KeyboardInterrupt

    block, original = Block(), portal.call
    monkeypatch.setattr(portal, "call", call)
    with pytest.raises(KeyboardInterrupt):
        portal.open(block.open())
    assert block.left.wait(60)


# -- what is open --------------------------------------------------------------------------------------------


def test_what_is_opened_stays_open_until_it_is_closed(portal: Portal) -> None:
    block = Block()
    opened = portal.open(block.open())
    assert opened.value == "value"
    assert opened.call(_echo, 1) == 1
    assert not block.left.is_set()
    opened.close()
    assert block.left.is_set()
    assert not block.cancelled
    opened.close()


def test_opening_raises_what_entering_raises(portal: Portal) -> None:
    @contextlib.asynccontextmanager
    async def refuse() -> AsyncIterator[None]:
        await trio.lowlevel.checkpoint()
        raise ConnectionRefusedError("nobody there")
        yield

    with pytest.raises(ConnectionRefusedError, match="nobody there"):
        portal.open(refuse())
    assert portal.call(_echo, 1) == 1


def test_closing_raises_what_leaving_raises_once(portal: Portal) -> None:
    @contextlib.asynccontextmanager
    async def fail_at_end() -> AsyncIterator[None]:
        yield
        raise OSError("flushing failed")

    opened = portal.open(fail_at_end())
    with pytest.raises(OSError, match="flushing failed"):
        opened.close()
    opened.close()
    assert portal.call(_echo, 1) == 1


def test_what_is_abandoned_is_left_soon(portal: Portal) -> None:
    block = Block()
    portal.open(block.open()).abandon()
    assert block.left.wait(60)
    assert block.cancelled


def test_in_the_portals_own_thread_closing_does_not_wait(portal: Portal) -> None:
    # Garbage is collected in any thread.
    block = Block()
    opened = portal.open(block.open())
    portal.call_sync(opened.close)
    assert block.left.wait(60)
    opened.close()


def test_what_is_open_is_left_with_the_portal() -> None:
    block = Block()
    with open_portal() as portal:
        opened = portal.open(block.open())
    assert block.left.is_set()
    opened.close()
    opened.abandon()


# -- the end of a portal -------------------------------------------------------------------------------------


def test_closing_ends_the_calls_that_wait() -> None:
    portal = Portal()
    begun = threading.Event()

    async def wait() -> None:
        begun.set()
        await trio.sleep_forever()

    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(portal.call, wait)
        begun.wait()
        portal.close()
        with pytest.raises(PortalClosed, match="closed during the call"):
            waiting.result()
    with pytest.raises(PortalClosed, match="has been closed"):
        portal.call(_echo, 1)
    portal.close()
    portal.run_soon(lambda: None)


def test_a_task_that_fails_ends_the_portal() -> None:
    fails = threading.Event()

    async def task(*, task_status: trio.TaskStatus[str]) -> None:
        task_status.started("begun")
        await trio.to_thread.run_sync(fails.wait)
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"), open_portal() as portal:
        assert portal.start(task) == "begun"
        with ThreadPoolExecutor(1) as threads:
            waiting = threads.submit(portal.call, trio.sleep_forever)
            fails.set()
            with pytest.raises(PortalClosed):
                waiting.result()
        with pytest.raises(PortalClosed, match=r"closed|broken"):
            portal.call(_echo, 1)


def test_a_network_that_cannot_be_opened_is_told() -> None:
    @contextlib.asynccontextmanager
    async def refuse() -> AsyncIterator[None]:
        raise ValueError("no network")
        yield

    with pytest.raises(ValueError, match="no network"), open_portal(network=refuse()):
        pass
    assert current_portal().call(_echo, 1) == 1


def test_the_innermost_portal_is_in_use() -> None:
    shared = current_portal()
    assert shared is current_portal()
    with open_portal() as outer:
        assert current_portal() is outer
        with open_portal() as inner:
            with ThreadPoolExecutor(1) as threads:
                assert threads.submit(current_portal).result() is inner
        assert current_portal() is outer
    assert current_portal() is shared


def test_results_are_not_kept() -> None:
    class Large:
        pass

    async def measure() -> Large:
        return Large()

    async def wait() -> None:
        await trio.lowlevel.checkpoint()

    with open_portal() as portal:
        kept = weakref.ref(portal.call(measure))
        portal.call(wait)  # carried out by the same task, if it comes soon enough
        assert kept() is None
