"""What the tests of `trionet_compat.guest` have in common."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, TypeVar

import trio

from trionet_compat import _guest

T = TypeVar("T")

Main = Callable[[], Coroutine[Any, Any, T]]


def run_program(main: Main[T]) -> T:
    """Run an asyncio program; an exception that reaches the loop, and a task left over, are failures."""
    complaints: list[dict[str, Any]] = []

    async def watched() -> T:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        return await main()

    try:
        return asyncio.run(watched(), debug=True)
    finally:
        assert complaints == []
        assert not _guest.guests


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


async def echo(value: object) -> object:
    await trio.lowlevel.checkpoint()
    return value


async def fail(error: BaseException) -> None:
    await trio.lowlevel.checkpoint()
    raise error
