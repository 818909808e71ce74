"""Trio as a guest of asyncio: calls, cancellation both ways, what is held open, and its end.

Programs run in asyncio's debug mode, and nothing may be complained about to the loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import itertools
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import pytest
import trio
import trio.testing

from trionet_compat import _linger, guest

T = TypeVar("T")

Main = Callable[[], Coroutine[Any, Any, T]]


def _run(main: Main[T]) -> T:
    """Run an asyncio program; an exception that reaches the loop, and a task left over, are failures."""
    complaints: list[dict[str, Any]] = []

    async def watched() -> T:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        return await main()

    try:
        return asyncio.run(watched(), debug=True)
    finally:
        assert complaints == []
        assert not guest._guests


class Block:
    """A block that notes what becomes of it. Leaving it takes some scheduling rounds."""

    def __init__(self) -> None:
        self.entered = False
        self.left = False

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[Block]:
        await trio.lowlevel.checkpoint()
        self.entered = True
        try:
            yield self
        finally:
            with trio.CancelScope(shield=True):
                for _ in range(3):
                    await trio.lowlevel.checkpoint()
            self.left = True


class Waiting:
    """A function that waits, and notes that it was cancelled."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.cancelled = False

    async def __call__(self) -> None:
        self.begun.set()
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            self.cancelled = True
            raise


async def _echo(value: object) -> object:
    await trio.lowlevel.checkpoint()
    return value


async def _fail(error: BaseException) -> None:
    await trio.lowlevel.checkpoint()
    raise error


# -- calls ---------------------------------------------------------------------------------------------------


def test_a_call_returns_what_the_function_returns() -> None:
    async def main() -> None:
        assert [await guest.run(_echo, number) for number in range(3)] == [0, 1, 2]
        assert await asyncio.gather(*(guest.run(_echo, number) for number in range(20))) == list(range(20))
        opened = await guest.open_held(Block().open())
        assert [await opened.run(_echo, number) for number in range(20)] == list(range(20))
        await opened.aclose()

    _run(main)


@pytest.mark.parametrize("error", [ValueError("no"), ExceptionGroup("some", [ValueError("no")])])
def test_a_call_raises_what_the_function_raises(error: Exception) -> None:
    async def main() -> None:
        with pytest.raises(type(error)) as caught:
            await guest.run(_fail, error)
        assert caught.value is error
        assert await guest.run(_echo, 1) == 1

    _run(main)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3)])
def test_what_ends_a_program_ends_it(error: BaseException) -> None:
    block = Block()

    async def main() -> None:
        await guest.open_held(block.open())
        await guest.run(_fail, error)

    with pytest.raises(type(error)):
        _run(main)
    assert block.left


def test_a_call_has_the_context_variables_of_its_task() -> None:
    variable = contextvars.ContextVar[str]("variable")

    async def read() -> str:
        await trio.lowlevel.checkpoint()
        return variable.get()

    async def task(value: str) -> str:
        variable.set(value)
        return await guest.run(read)

    async def main() -> None:
        assert list(await asyncio.gather(task("one"), task("other"))) == ["one", "other"]

    _run(main)


def test_it_is_the_same_thread_so_objects_of_trio_can_be_used() -> None:
    async def main() -> None:
        event = trio.Event()
        waiting = asyncio.create_task(guest.run(event.wait))
        assert await guest.run(_echo, 1) == 1
        event.set()
        await waiting

    _run(main)


# -- cancellation --------------------------------------------------------------------------------------------


def test_cancelling_the_task_cancels_the_function() -> None:
    async def main() -> None:
        waiting = Waiting()
        task = asyncio.create_task(guest.run(waiting))
        await waiting.begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert waiting.cancelled

    _run(main)


def test_timeouts_of_asyncio_apply() -> None:
    async def main() -> None:
        waiting = Waiting()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await guest.run(waiting)
        waiting = Waiting()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(guest.run(waiting), 0.001)
        assert waiting.cancelled == waiting.begun.is_set()
        async with asyncio.timeout(3600):
            assert await guest.run(_echo, 1) == 1
        task = asyncio.current_task()
        assert task is not None
        assert not task.cancelling()

    _run(main)


def test_cancelling_waits_until_the_function_has_ended_even_if_cancelled_again() -> None:
    async def main() -> None:
        async def end_slowly() -> None:
            begun.set()
            try:
                await trio.sleep_forever()
            finally:
                with trio.CancelScope(shield=True):
                    ending.set()
                    await goes_on.wait()
                ended.append(True)

        begun, ending, goes_on = asyncio.Event(), asyncio.Event(), trio.Event()
        ended: list[bool] = []
        task = asyncio.create_task(guest.run(end_slowly))
        await begun.wait()
        task.cancel()
        await ending.wait()
        for _ in range(3):
            task.cancel()
            await asyncio.sleep(0)
        assert not task.done()
        goes_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert ended

    _run(main)


def test_a_function_that_trio_cancels_is_cancelled_for_asyncio() -> None:
    async def main() -> None:
        opened = await guest.open_held(Block().open())
        waiting = Waiting()
        task = asyncio.create_task(opened.run(waiting))
        await waiting.begun.wait()
        await asyncio.get_running_loop().shutdown_asyncgens()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(trio.RunFinishedError):
            await opened.run(_echo, 1)
        await opened.aclose()
        assert await guest.run(_echo, 1) == 1

    _run(main)


def test_cancelled_while_the_guest_starts() -> None:
    async def main() -> None:
        for rounds in range(8):
            waiting = Waiting()
            task = asyncio.create_task(guest.run(waiting))
            for _ in range(rounds):
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert not guest._guests

    _run(main)


@pytest.mark.parametrize("rounds", range(12))
def test_cancelled_while_a_block_is_entered(rounds: int) -> None:
    async def main() -> None:
        block = Block()
        task = asyncio.create_task(guest.open_held(block.open()))
        for _ in range(rounds):
            await asyncio.sleep(0)
        if task.cancel():
            with pytest.raises(asyncio.CancelledError):
                await task
        else:
            await (await task).aclose()
        assert block.left == block.entered
        assert not guest._guests

    _run(main)


@pytest.mark.parametrize("rounds", range(8))
def test_cancelled_while_a_block_is_left(rounds: int) -> None:
    async def main() -> None:
        block = Block()
        opened = await guest.open_held(block.open())
        task = asyncio.create_task(opened.aclose())
        for _ in range(rounds):
            await asyncio.sleep(0)
        cancelled = task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        assert block.left or (cancelled and rounds == 0)  # a task that has not begun has done nothing
        await opened.aclose()
        assert block.left

    _run(main)


# -- what is held open ---------------------------------------------------------------------------------------


def test_what_is_open_stays_open_until_it_is_closed() -> None:
    async def main() -> None:
        block = Block()
        opened = await guest.open_held(block.open())
        assert opened.value is block
        assert not block.left
        await opened.aclose()
        assert block.left
        await opened.aclose()

    _run(main)


def test_opening_raises_what_entering_raises() -> None:
    @contextlib.asynccontextmanager
    async def refuse() -> AsyncIterator[None]:
        await trio.lowlevel.checkpoint()
        raise ConnectionRefusedError("nobody there")
        yield

    async def main() -> None:
        with pytest.raises(ConnectionRefusedError, match="nobody there"):
            await guest.open_held(refuse())
        assert not guest._guests

    _run(main)


def test_closing_raises_what_leaving_raises() -> None:
    @contextlib.asynccontextmanager
    async def fail_at_end() -> AsyncIterator[None]:
        yield
        raise OSError("flushing failed")

    async def main() -> None:
        opened = await guest.open_held(fail_at_end())
        with pytest.raises(OSError, match="flushing failed"):
            await opened.aclose()
        assert not guest._guests

    _run(main)


def test_what_is_abandoned_is_left_soon() -> None:
    async def main() -> None:
        blocks = [Block(), Block()]
        for block in blocks:
            (await guest.open_held(block.open())).abandon()
        await guest._guests[asyncio.get_running_loop()].wait_ended()
        assert all(block.left for block in blocks)

    _run(main)


def test_the_guest_lives_as_long_as_somebody_uses_it() -> None:
    async def main() -> None:
        async def token() -> object:
            return trio.lowlevel.current_trio_token()

        first, second = await guest.open_held(Block().open()), await guest.open_held(Block().open())
        tokens = {await first.run(token), await second.run(token), await guest.run(token)}
        await first.aclose()
        assert {await second.run(token)} == tokens
        await second.aclose()
        assert not guest._guests
        assert await guest.run(token) not in tokens

    _run(main)


# -- asyncio called by Trio ----------------------------------------------------------------------------------


def test_trio_calls_asyncio_which_calls_trio() -> None:
    async def inner() -> str:
        await asyncio.sleep(0)
        return f"{await guest.run(_echo, 'trio')} in asyncio"

    async def outer() -> str:
        return f"{await guest.run_asyncio(inner)} in trio"

    async def main() -> None:
        assert await guest.run(outer) == "trio in asyncio in trio"

    _run(main)


def test_what_asyncio_raises_is_raised_in_trio() -> None:
    async def fail() -> None:
        await asyncio.sleep(0)
        raise ValueError("in asyncio")

    async def cancel_itself() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(3600)

    async def main() -> None:
        with pytest.raises(ValueError, match="in asyncio"):
            await guest.run(guest.run_asyncio, fail)
        with pytest.raises(RuntimeError, match="was cancelled"):
            await guest.run(guest.run_asyncio, cancel_itself)

    _run(main)


@pytest.mark.parametrize("ending", ["returns", "raises", "is cancelled"])
def test_cancelling_trio_cancels_the_asyncio_task(ending: str) -> None:
    async def work() -> str:
        begun.set()
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            ended.append(ending)
            await asyncio.sleep(0)
            if ending == "raises":
                raise ValueError("at the end") from None
            if ending == "is cancelled":
                raise
        return ending

    async def main() -> None:
        begun.clear()
        task = asyncio.create_task(guest.run(guest.run_asyncio, work))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    begun = asyncio.Event()
    ended: list[str] = []
    _run(main)
    assert ended == [ending]


# -- Ctrl-C --------------------------------------------------------------------------------------------------

posix = pytest.mark.skipif(sys.platform == "win32", reason="signals reach a sleeping loop late")


async def _press_ctrl_c_and_wait() -> None:
    signal.raise_signal(signal.SIGINT)
    await trio.sleep_forever()


@posix
@pytest.mark.parametrize("of", ["asyncio", "trio"])
def test_ctrl_c_ends_asyncio_run(of: str) -> None:
    block = Block()

    async def main() -> None:
        await guest.open_held(block.open())
        if of == "trio":
            await guest.run(_press_ctrl_c_and_wait)
        signal.raise_signal(signal.SIGINT)
        await asyncio.sleep(3600)

    with pytest.raises(KeyboardInterrupt):
        _run(main)
    assert block.left
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@posix
@pytest.mark.parametrize("of", ["asyncio", "trio"])
def test_ctrl_c_ends_run_until_complete(of: str) -> None:
    block = Block()

    async def main() -> None:
        await guest.open_held(block.open())
        if of == "trio":
            await guest.run(_press_ctrl_c_and_wait)
        asyncio.get_running_loop().call_soon(signal.raise_signal, signal.SIGINT)
        await asyncio.sleep(3600)

    loop = asyncio.new_event_loop()
    task = loop.create_task(main())
    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(task)
    if task.cancel():
        with contextlib.suppress(asyncio.CancelledError):
            loop.run_until_complete(task)
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()
    assert block.left
    assert not guest._guests
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


# -- lingering -----------------------------------------------------------------------------------------------


async def test_lingering_in_vain_becomes_rare() -> None:
    linger = _linger.Linger()
    lingered = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(linger.run)
        await trio.testing.wait_all_tasks_blocked()
        for number in range(700):
            linger.begin()
            if linger._rounds:
                lingered.append(number)
            await trio.testing.wait_all_tasks_blocked()
        linger._until_next = 0
        linger.begin()
        linger.begin()  # that was not in vain
        await trio.testing.wait_all_tasks_blocked()
        assert linger._until_next == 8
        nursery.cancel_scope.cancel()
    assert [b - a for a, b in itertools.pairwise(lingered)] == [9, 17, 33, 65, 129, 257]


# -- under Trio ----------------------------------------------------------------------------------------------


async def test_under_trio_functions_are_called_as_they_are() -> None:
    assert await guest.run(_echo, 1) == 1
    assert await guest.run_asyncio(lambda: _as_coroutine(_echo(2))) == 2
    with pytest.raises(ValueError, match="no"):
        await guest.run(_fail, ValueError("no"))


async def _as_coroutine(awaitable: Awaitable[T]) -> T:
    return await awaitable


async def test_under_trio_a_task_keeps_open_what_is_opened() -> None:
    blocks = Block(), Block()
    opened = [await guest.open_held(block.open()) for block in blocks]
    await opened[0].aclose()
    assert blocks[0].left
    assert not blocks[1].left
    assert await opened[1].run(_echo, 1) == 1
    opened[1].abandon()
    home = opened[1]._home
    await home.wait_ended()
    assert blocks[1].left
    again = Block()
    reopened = await guest.open_held(again.open())
    assert reopened._home is not home
    await reopened.aclose()
    await reopened.aclose()
    assert again.left


def test_what_is_open_at_the_end_of_trio_is_left() -> None:
    async def main() -> None:
        await guest.open_held(block.open())

    block = Block()
    trio.run(main)
    assert block.left


async def test_under_trio_cancelled_while_a_block_is_entered_or_left() -> None:
    for entered in (False, True):
        block = Block()
        opened = await guest.open_held(block.open()) if entered else None
        with trio.CancelScope() as scope:
            scope.cancel()
            if opened is not None:
                await opened.aclose()
            else:
                await guest.open_held(block.open())
        assert scope.cancelled_caught
        assert block.left == entered
    home = guest._trio_home.get()
    assert home is not None
    await home.wait_ended()
