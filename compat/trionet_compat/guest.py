"""Trio as the guest of an asyncio loop, for asyncio code.

The run of Trio lives in the loop's own thread and gets its turns from the loop, so callbacks, notifiers and
servers' methods need no locks. It begins with the first object that needs it and ends with the last one; each
loop has at most one. Under Trio itself the same coroutines run as they are: there is no guest then, and what
must be kept open is kept by a task of that run.

What ends a guest whose user forgot to: ``asyncio.run`` does, since a guest is an asynchronous generator to
it; and a loop that is thrown away, or the interpreter's exit, have the rest of the guest run at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from typing import Any, Generic, TypeVar

import trio

from trionet_compat._guest import Guest, finish_abandoned, guests
from trionet_compat._held import Held
from trionet_compat._homes import Home, find_trio_home, when_ready

T = TypeVar("T")
R = TypeVar("R")


async def run(async_fn: Callable[..., Awaitable[T]], *args: Any) -> T:
    """Run an async function of Trio: as it is under Trio, in the loop's guest under asyncio.

    Raises:
        asyncio.CancelledError: if the asyncio task is cancelled; then the function has been cancelled, too,
            and has ended. Likewise if Trio cancels the function.
        Exception: what the function raises.
    """
    if trio.lowlevel.in_trio_task():
        return await async_fn(*args)
    home = await _find_home()
    try:
        return await home.run(async_fn, *args)
    finally:
        await home.release()


async def run_asyncio(async_fn: Callable[..., Coroutine[Any, Any, T]], *args: Any) -> T:
    """Run an async function of asyncio from a task of Trio, in the loop whose guest that is.

    Without such a loop the function is awaited as it is: then it had better be one of Trio.

    Raises:
        RuntimeError: if the asyncio task is cancelled, but not from here.
        Exception: what the function raises.

    Cancelled, it cancels the asyncio task, and waits for the end of that.
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return await async_fn(*args)
    task = loop.create_task(async_fn(*args))
    ended = trio.Event()
    task.add_done_callback(lambda _: ended.set())
    try:
        await ended.wait()
    except trio.Cancelled:
        task.cancel()
        if not loop.is_closed():
            with trio.CancelScope(shield=True):
                await ended.wait()
            if not task.cancelled():
                task.exception()  # that is known now
        raise
    if task.cancelled():
        raise RuntimeError(f"the asyncio task of {async_fn!r} was cancelled")
    return task.result()


async def open_held(manager: AbstractAsyncContextManager[T]) -> Opened[T]:
    """Enter an async context manager of Trio, and keep it open. Raises what entering it raises."""
    home = await _find_home()
    held = Held(manager)
    try:
        return Opened(home, held, await home.run(held.open, home.nursery))
    except BaseException:
        held.cancel()  # it may have been opened by the time this was cancelled
        await home.release()
        raise


class Opened(Generic[T]):
    """An async context manager that is kept open by Trio. Made by `open_held`.

    Attributes:
        value: What entering it gave.
    """

    def __init__(self, home: Home, held: Held[T], value: T) -> None:
        self.value = value
        self._home = home
        self._held: Held[T] | None = held

    async def run(self, async_fn: Callable[..., Awaitable[R]], *args: Any) -> R:
        """As the function `run`, but faster: what is open here keeps the guest there.

        Raises:
            trio.RunFinishedError: if it was ended all the same, as by the loop's ``shutdown_asyncgens``. What
                was open has been left then.
        """
        return await self._home.run(async_fn, *args)

    async def aclose(self) -> None:
        """Leave the block, and wait for that; raises what leaving raises. May be called again.

        If this is cancelled, the block is left all the same.
        """
        held, self._held = self._held, None
        if held is not None:
            try:
                if not self._home.ending:
                    await self._home.run(held.close)
            finally:
                await self._home.release()

    def abandon(self) -> None:
        """Have the block left soon, without waiting for that. In the loop's thread."""
        held, self._held = self._held, None
        if held is not None:
            held.cancel()
            self._home.release_soon()


async def _find_home() -> Home:
    """The home of the caller's loop or run, with one user more."""
    if trio.lowlevel.in_trio_task():
        return await find_trio_home()
    loop = asyncio.get_running_loop()
    guest = guests.get(loop)
    while guest is not None and guest.ending:
        await guest.wait_ended()
        guest = guests.get(loop)
    if guest is None:
        finish_abandoned()
        if trio.lowlevel.in_trio_run():
            raise RuntimeError(
                "Trio runs already in this thread, for another event loop: close what is open there before, "
                "or use that loop"
            )
        guest = guests[loop] = Guest(loop)
        guest.users += 1
        await guest.keep()  # at once: it does not wait
    else:
        guest.users += 1
    return await when_ready(guest)
