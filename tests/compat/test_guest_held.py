"""What a guest holds open, asyncio called by Trio, Ctrl-C; and the same names under Trio itself."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator, Awaitable
from typing import TypeVar

import pytest
import trio

from tests.compat.guests import Block, echo, fail, run_program
from trionet_compat import _guest, _homes, guest

T = TypeVar("T")


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

    run_program(main)


def test_opening_raises_what_entering_raises() -> None:
    @contextlib.asynccontextmanager
    async def refuse() -> AsyncIterator[None]:
        await trio.lowlevel.checkpoint()
        raise ConnectionRefusedError("nobody there")
        yield

    async def main() -> None:
        with pytest.raises(ConnectionRefusedError, match="nobody there"):
            await guest.open_held(refuse())
        assert not _guest.guests

    run_program(main)


def test_closing_raises_what_leaving_raises() -> None:
    @contextlib.asynccontextmanager
    async def fail_at_end() -> AsyncIterator[None]:
        yield
        raise OSError("flushing failed")

    async def main() -> None:
        opened = await guest.open_held(fail_at_end())
        with pytest.raises(OSError, match="flushing failed"):
            await opened.aclose()
        assert not _guest.guests

    run_program(main)


def test_what_is_abandoned_is_left_soon() -> None:
    async def main() -> None:
        blocks = [Block(), Block()]
        for block in blocks:
            (await guest.open_held(block.open())).abandon()
        await _guest.guests[asyncio.get_running_loop()].wait_ended()
        assert all(block.left for block in blocks)

    run_program(main)


def test_the_guest_lives_as_long_as_somebody_uses_it() -> None:
    async def main() -> None:
        async def token() -> object:
            return trio.lowlevel.current_trio_token()

        first, second = await guest.open_held(Block().open()), await guest.open_held(Block().open())
        tokens = {await first.run(token), await second.run(token), await guest.run(token)}
        await first.aclose()
        assert {await second.run(token)} == tokens
        await second.aclose()
        assert not _guest.guests
        assert await guest.run(token) not in tokens

    run_program(main)


def test_what_is_open_can_be_closed_when_something_has_ended_the_guest() -> None:
    class End(BaseException):
        pass

    @contextlib.asynccontextmanager
    async def end() -> AsyncIterator[None]:
        try:
            yield
        finally:
            raise End

    async def main() -> None:
        complaints: list[object] = []
        asyncio.get_running_loop().set_exception_handler(
            lambda _, context: complaints.append(context["exception"])
        )
        opened, ending = await guest.open_held(Block().open()), await guest.open_held(end())
        waiting = asyncio.create_task(opened.run(trio.sleep_forever))
        await asyncio.sleep(0)
        ending.abandon()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        with pytest.raises(trio.RunFinishedError):
            await opened.run(echo, 1)
        await opened.aclose()
        assert [type(error) for error in complaints] == [End]
        assert await guest.run(echo, 2) == 2

    run_program(main)


# -- asyncio called by Trio ----------------------------------------------------------------------------------


def test_trio_calls_asyncio_which_calls_trio() -> None:
    async def inner() -> str:
        await asyncio.sleep(0)
        return f"{await guest.run(echo, 'trio')} in asyncio"

    async def outer() -> str:
        return f"{await guest.run_asyncio(inner)} in trio"

    async def main() -> None:
        assert await guest.run(outer) == "trio in asyncio in trio"

    run_program(main)


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

    run_program(main)


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
    run_program(main)
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
        run_program(main)
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
    assert not _guest.guests
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


# -- under Trio ----------------------------------------------------------------------------------------------


async def test_under_trio_functions_are_called_as_they_are() -> None:
    assert await guest.run(echo, 1) == 1
    assert await guest.run_asyncio(lambda: _as_coroutine(echo(2))) == 2
    with pytest.raises(ValueError, match="no"):
        await guest.run(fail, ValueError("no"))


async def _as_coroutine(awaitable: Awaitable[T]) -> T:
    return await awaitable


async def test_under_trio_a_task_keeps_open_what_is_opened() -> None:
    blocks = Block(), Block()
    opened = [await guest.open_held(block.open()) for block in blocks]
    await opened[0].aclose()
    assert blocks[0].left
    assert not blocks[1].left
    assert await opened[1].run(echo, 1) == 1
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
    home = _homes._trio_home.get()
    assert home is not None
    await home.wait_ended()
