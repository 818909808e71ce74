"""Trio as a guest of asyncio: calls, and cancellation both ways.

Programs run in asyncio's debug mode, and nothing may be complained about to the loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars

import pytest
import trio

from tests.compat.guests import Block, Waiting, echo, fail, run_program
from trionet_compat import _guest, guest

# -- calls ---------------------------------------------------------------------------------------------------


def test_a_call_returns_what_the_function_returns() -> None:
    async def main() -> None:
        assert [await guest.run(echo, number) for number in range(3)] == [0, 1, 2]
        assert await asyncio.gather(*(guest.run(echo, number) for number in range(20))) == list(range(20))
        opened = await guest.open_held(Block().open())
        assert [await opened.run(echo, number) for number in range(20)] == list(range(20))
        await opened.aclose()

    run_program(main)


@pytest.mark.parametrize("error", [ValueError("no"), ExceptionGroup("some", [ValueError("no")])])
def test_a_call_raises_what_the_function_raises(error: Exception) -> None:
    async def main() -> None:
        with pytest.raises(type(error)) as caught:
            await guest.run(fail, error)
        assert caught.value is error
        assert await guest.run(echo, 1) == 1

    run_program(main)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3)])
def test_what_ends_a_program_ends_it(error: BaseException) -> None:
    block = Block()

    async def main() -> None:
        await guest.open_held(block.open())
        await guest.run(fail, error)

    with pytest.raises(type(error)):
        run_program(main)
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

    run_program(main)


def test_it_is_the_same_thread_so_objects_of_trio_can_be_used() -> None:
    async def main() -> None:
        event = trio.Event()
        waiting = asyncio.create_task(guest.run(event.wait))
        assert await guest.run(echo, 1) == 1
        event.set()
        await waiting

    run_program(main)


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

    run_program(main)


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
            assert await guest.run(echo, 1) == 1
        task = asyncio.current_task()
        assert task is not None
        assert not task.cancelling()

    run_program(main)


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

    run_program(main)


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
            await opened.run(echo, 1)
        await opened.aclose()
        assert await guest.run(echo, 1) == 1

    run_program(main)


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
            assert not _guest.guests

    run_program(main)


@pytest.mark.parametrize("rounds", range(12))
def test_cancelled_while_a_block_is_entered(rounds: int) -> None:
    async def main() -> None:
        other = await guest.open_held(Block().open())  # the guest does not end with this one
        block = Block()
        task = asyncio.create_task(guest.open_held(block.open()))
        for _ in range(rounds):
            await asyncio.sleep(0)
        if task.cancel():
            with pytest.raises(asyncio.CancelledError):
                await task
        else:
            await (await task).aclose()
        for _ in range(10):
            await other.run(echo, 1)
        assert block.left == block.entered
        await other.aclose()

    run_program(main)


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

    run_program(main)
