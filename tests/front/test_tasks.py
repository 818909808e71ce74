"""Background tasks: what leaves the block, and that nothing stays."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from trionet._tasks import open_background_tasks


async def fail() -> None:
    raise ValueError("background")


async def test_background_tasks_end_with_the_block() -> None:
    ended = []

    async def background() -> None:
        try:
            await trio.sleep_forever()
        finally:
            ended.append(True)

    async with open_background_tasks() as nursery:
        nursery.start_soon(background)
        await trio.testing.wait_all_tasks_blocked()
    assert ended == [True]


async def test_a_task_that_fails_ends_the_block() -> None:
    with pytest.raises(ValueError, match="background"):
        async with open_background_tasks() as nursery:
            nursery.start_soon(fail)
            await trio.sleep_forever()


async def test_a_task_and_the_block_that_both_fail() -> None:
    with pytest.raises(ExceptionGroup) as caught:
        async with open_background_tasks() as nursery:
            nursery.start_soon(fail)
            try:
                await trio.sleep_forever()
            finally:
                raise KeyError("block")
    assert [type(error) for error in caught.value.exceptions] == [KeyError, ValueError]


async def test_two_tasks_that_fail() -> None:
    with pytest.raises(ExceptionGroup) as caught:
        async with open_background_tasks() as nursery:
            nursery.start_soon(fail)
            nursery.start_soon(fail)
            await trio.sleep_forever()
    assert [str(error) for error in caught.value.exceptions] == ["background", "background"]


async def test_cancelled_from_outside(autojump_clock: trio.testing.MockClock) -> None:
    with trio.move_on_after(1) as scope:
        async with open_background_tasks() as nursery:
            nursery.start_soon(trio.sleep_forever)
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert trio.current_time() == 1


async def test_groups_that_the_block_raises_stay_as_they_are() -> None:
    group = ExceptionGroup("from the block", [ValueError(1), KeyError(2)])
    with pytest.raises(ExceptionGroup) as caught:
        async with open_background_tasks() as nursery:
            nursery.start_soon(trio.sleep_forever)
            raise group
    assert caught.value is group


async def test_a_task_that_ends_the_block() -> None:
    async with open_background_tasks() as nursery:
        nursery.start_soon(cancel, nursery.cancel_scope)
        await trio.sleep_forever()
    await trio.lowlevel.checkpoint()


async def cancel(scope: trio.CancelScope) -> None:
    scope.cancel()


async def test_cancelled_from_outside_while_a_task_fails() -> None:
    async def fail_when_cancelled() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError("background")

    with trio.CancelScope() as scope:
        with pytest.raises(ValueError, match="background"):
            async with open_background_tasks() as nursery:
                nursery.start_soon(fail_when_cancelled)
                await trio.testing.wait_all_tasks_blocked()
                scope.cancel()
                await trio.sleep_forever()


async def nurse_forever() -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep_forever)
        nursery.start_soon(trio.sleep_forever)


async def test_a_task_that_ends_a_block_with_a_nursery_in_it() -> None:
    async with open_background_tasks() as nursery:
        nursery.start_soon(cancel, nursery.cancel_scope)
        await nurse_forever()
    await trio.lowlevel.checkpoint()


async def test_a_task_that_fails_while_the_block_has_a_nursery() -> None:
    with pytest.raises(ValueError, match="background"):
        async with open_background_tasks() as nursery:
            nursery.start_soon(fail)
            await nurse_forever()


async def test_cancelled_from_outside_with_a_nursery_in_the_block(
    autojump_clock: trio.testing.MockClock,
) -> None:
    with trio.move_on_after(1) as scope:
        async with open_background_tasks() as nursery:
            nursery.start_soon(trio.sleep_forever)
            await nurse_forever()
    assert scope.cancelled_caught


async def test_an_error_in_a_nursery_of_a_block_that_is_cancelled_comes_without_the_cancellations() -> None:
    async def fail_late() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise KeyError("block")

    with pytest.raises(ExceptionGroup) as caught:
        async with open_background_tasks() as background:
            background.start_soon(cancel, background.cancel_scope)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(fail_late)
                nursery.start_soon(trio.sleep_forever)
    assert [type(error) for error in caught.value.exceptions] == [KeyError]
    await trio.lowlevel.checkpoint()
