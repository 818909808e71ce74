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
import atexit
import contextlib
import os
import queue
import sys
import threading
import warnings
import weakref
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, Generic, TypeVar

import outcome
import trio

from trionet_compat._crossing import Crossing, is_cancelled
from trionet_compat._held import Held
from trionet_compat._turns import Turns, leave_run_to_parent

T = TypeVar("T")
R = TypeVar("R")
H = TypeVar("H", bound="_Home")

# Seconds that a run whose loop is gone may do nothing at all while it ends, before it is left as it is.
_FINISH_TIMEOUT: Final = 5.0


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

    def __init__(self, home: _Home, held: Held[T], value: T) -> None:
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


class _Home(ABC):
    """Where objects live: a nursery in a run of Trio, kept open as long as somebody uses it."""

    def __init__(self) -> None:
        self.nursery: trio.Nursery
        self.scope = trio.CancelScope()
        self.users = 0
        self.ending = False

    @abstractmethod
    async def run(self, async_fn: Callable[..., Awaitable[T]], *args: Any) -> T:
        """Run a function there; see the function `run`."""

    @abstractmethod
    async def wait_ready(self) -> None:
        """Wait until it can be used."""

    @abstractmethod
    async def wait_ended(self) -> None:
        """Wait until there is nothing left of it."""

    def release_soon(self) -> None:
        """One user less; the last one ends it."""
        self.users -= 1
        if self.users == 0:
            self.end_soon()

    async def release(self) -> None:
        """The same; the last one waits for the end."""
        self.release_soon()
        if self.ending:
            await self.wait_ended()

    def end_soon(self) -> None:
        """Cancel everything in it."""
        self.ending = True
        self.scope.cancel()


class _TrioHome(_Home):
    """In a run of Trio that is nobody's guest: a system task."""

    def __init__(self) -> None:
        super().__init__()
        self._ready = trio.Event()
        self._ended = trio.Event()
        trio.lowlevel.spawn_system_task(self._main)

    async def run(self, async_fn: Callable[..., Awaitable[T]], *args: Any) -> T:
        return await async_fn(*args)

    async def wait_ready(self) -> None:
        await self._ready.wait()

    async def wait_ended(self) -> None:
        with trio.CancelScope(shield=True):
            await self._ended.wait()

    async def _main(self) -> None:
        try:
            with self.scope:
                async with trio.open_nursery() as self.nursery:
                    self._ready.set()
                    await trio.sleep_forever()
        finally:
            self._ended.set()


class _Guest(_Home):
    """A guest run of Trio in a running loop of asyncio."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._loop = loop
        self._thread = threading.get_ident()
        self._steps: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
        self._ready = loop.create_future()
        self._ended = loop.create_future()
        self._calls: set[_Call] = set()
        self._turns = Turns(loop, self._take)
        loops_hooks = sys.get_asyncgen_hooks()
        trio.lowlevel.start_guest_run(
            self._main,
            run_sync_soon_threadsafe=self._step_soon_threadsafe,
            run_sync_soon_not_threadsafe=self._step_soon,
            instruments=[self._turns],
            done_callback=self._done,
            host_uses_signal_set_wakeup_fd=True,
        )
        # Those that Trio has set; the loop sets its own each time it runs.
        self._asyncgen_hooks = sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(*loops_hooks)
        # What makes `asyncio.run`, and whoever shuts down asynchronous generators, end it.
        self._keeper = self._keep()
        self._closing = False

    async def wait_ready(self) -> None:
        await asyncio.shield(self._ready)

    async def keep(self) -> None:
        with warnings.catch_warnings():
            # A loop whose asynchronous generators have been shut down already does not end it; others do.
            warnings.simplefilter("ignore", ResourceWarning)
            begun = anext(self._keeper)
        await begun

    async def run(self, async_fn: Callable[..., Awaitable[T]], *args: Any) -> T:
        if self.ending:
            raise trio.RunFinishedError("the guest run of Trio has ended, and what was open there is closed")
        call = _Call(async_fn, args, self._loop)
        self._calls.add(call)
        self.nursery.start_soon(self._carry_out, call)
        try:
            await call.ended
        except asyncio.CancelledError:
            if call in self._calls:
                call.ended = self._loop.create_future()
                call.scope.cancel()
                await _settle(call.ended)
            raise
        if call.error is None:
            result: T = call.take_result()
            return result
        if is_cancelled(call.error):
            raise asyncio.CancelledError from None
        call.raise_error()

    async def wait_ended(self) -> None:
        await asyncio.shield(self._ended)

    async def _carry_out(self, call: _Call) -> None:
        try:
            await call.carry_out()
        finally:
            self._end(call)

    def _end(self, call: _Call) -> None:
        self._calls.discard(call)
        if not self._loop.is_closed() and not call.ended.done():  # otherwise nobody waits
            call.ended.set_result(None)

    async def _main(self) -> None:
        with self.scope:
            async with trio.open_nursery() as self.nursery:
                self.nursery.start_soon(self._turns.idle)
                if not self._loop.is_closed():  # otherwise nobody waits
                    self._ready.set_result(None)
                try:
                    await trio.sleep_forever()
                finally:  # now, also if a task has failed: the nursery takes no more tasks from some time on
                    self.ending = True

    async def _keep(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            self._closing = True
            if not self._ended.done():
                self.end_soon()
                await _settle(self._ended)

    def finish(self) -> None:
        """Run it to its end, now that its loop is closed. In another thread than its own, do nothing."""
        if threading.get_ident() == self._thread:
            self.end_soon()
            with contextlib.suppress(queue.Empty):
                while not self._ended.done():
                    self._take(self._turns.pending() or self._steps.get(timeout=_FINISH_TIMEOUT))

    def leave_to_parent(self) -> None:
        """This process is a child now: whatever is open here is the parent's."""
        self.ending = True
        if not self._ended.done():
            self._ended.set_result(None)

    # -- turns of the loop -----------------------------------------------------------------------------------

    def _step_soon(self, step: Callable[[], object]) -> None:
        if self._loop.is_closed():
            self._steps.put(step)
        else:
            self._turns.ask(step)

    def _step_soon_threadsafe(self, step: Callable[[], object]) -> None:
        self._steps.put(step)
        with contextlib.suppress(RuntimeError):  # the loop is closed: `finish` takes it
            self._loop.call_soon_threadsafe(self._step)

    def _step(self) -> None:
        with contextlib.suppress(queue.Empty):  # `finish` has taken it
            self._take(self._steps.get_nowait())

    def _take(self, step: Callable[[], object]) -> None:
        loops_hooks = sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(*self._asyncgen_hooks)
        try:
            step()
        finally:
            sys.set_asyncgen_hooks(*loops_hooks)

    def _done(self, result: outcome.Outcome[None]) -> None:
        self.ending = True
        for call in list(self._calls):  # if Trio itself has failed
            call.error = call.error or RuntimeError("Trio has failed")
            self._end(call)
        if _guests.get(self._loop) is self:
            del _guests[self._loop]
        if not self._ended.done():
            with contextlib.suppress(RuntimeError):  # somebody waits in a loop that is closed
                self._ended.set_result(None)
        if not self._closing:
            with contextlib.suppress(StopIteration, StopAsyncIteration):
                self._keeper.aclose().send(None)
        if isinstance(result, outcome.Error):
            raise _essence(result.error)


def _essence(error: BaseException) -> BaseException:
    """What ends programs, out of the groups that nurseries put it into: loops look for that."""
    while isinstance(error, BaseExceptionGroup):
        error = (error.subgroup((KeyboardInterrupt, SystemExit)) or error).exceptions[0]
    return error


class _Call(Crossing):
    """A call that an asyncio task waits for.

    Attributes:
        scope: Cancels the call.
        ended: Done at the end.
    """

    __slots__ = ("ended", "scope")

    def __init__(
        self, async_fn: Callable[..., Awaitable[Any]], args: tuple[Any, ...], loop: asyncio.AbstractEventLoop
    ) -> None:
        super().__init__(async_fn, args)
        self.scope = trio.CancelScope()
        self.ended: asyncio.Future[None] = loop.create_future()

    async def carry_out(self) -> None:
        """Call the function, in the task that this runs in.

        Only cancellations that come from outside of `scope` are raised; then the call has come to nothing.
        """
        try:
            with self.scope:
                self.result = await self.async_fn(*self.args)
        except BaseException as error:
            self.error = error
            if is_cancelled(error):
                raise


_guests: Final[weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Guest]] = weakref.WeakKeyDictionary()
_trio_home: Final[trio.lowlevel.RunVar[_TrioHome | None]] = trio.lowlevel.RunVar("trionet_compat home", None)


async def _find_home() -> _Home:
    """The home of the caller's loop or run, with one user more."""
    if trio.lowlevel.in_trio_task():
        return await _find_trio_home()
    loop = asyncio.get_running_loop()
    guest = _guests.get(loop)
    while guest is not None and guest.ending:
        await guest.wait_ended()
        guest = _guests.get(loop)
    if guest is None:
        _finish_abandoned()
        if trio.lowlevel.in_trio_run():
            raise RuntimeError(
                "Trio runs already in this thread, for another event loop: close what is open there before, "
                "or use that loop"
            )
        guest = _guests[loop] = _Guest(loop)
        guest.users += 1
        await guest.keep()  # at once: it does not wait
    else:
        guest.users += 1
    return await _when_ready(guest)


async def _when_ready(home: H) -> H:
    try:
        await home.wait_ready()
    except BaseException:
        await home.release()
        raise
    return home


def _finish_abandoned() -> None:
    for loop, guest in list(_guests.items()):
        if loop.is_closed():
            guest.finish()


atexit.register(_finish_abandoned)


def _leave_to_parent() -> None:
    """In the child of a fork: the guests are those of the parent, and so is Trio in this thread."""
    if any(guest._thread == threading.get_ident() for guest in _guests.values()):
        leave_run_to_parent()
    for guest in _guests.values():
        guest.leave_to_parent()
        _of_parent.append(guest)
    _guests.clear()


_of_parent: Final[list[_Guest]] = []  # not to be collected, which would end them here
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)


async def _find_trio_home() -> _TrioHome:
    home = _trio_home.get()
    if home is None or home.ending:
        home = _TrioHome()
        _trio_home.set(home)
    home.users += 1
    return await _when_ready(home)


async def _settle(ended: asyncio.Future[None]) -> None:
    """Wait for something that comes soon, also while this is cancelled; the caller raises that."""
    while not ended.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.shield(ended)
