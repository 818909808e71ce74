"""A guest run of Trio in a loop of asyncio: how it begins, gets its turns, and ends."""

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
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, Final, TypeVar

import outcome
import trio

from trionet_compat._crossing import Crossing, is_cancelled
from trionet_compat._homes import Home
from trionet_compat._turns import Turns, leave_run_to_parent

T = TypeVar("T")

# Seconds that a run whose loop is gone may do nothing at all while it ends, before it is left as it is.
_FINISH_TIMEOUT: Final = 5.0


class Guest(Home):
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
        if guests.get(self._loop) is self:
            del guests[self._loop]
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


#: Those of loops in use, or that nobody has ended yet.
guests: Final[weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Guest]] = weakref.WeakKeyDictionary()


def finish_abandoned() -> None:
    for loop, guest in list(guests.items()):
        if loop.is_closed():
            guest.finish()


atexit.register(finish_abandoned)


def _leave_to_parent() -> None:
    """In the child of a fork: the guests are those of the parent, and so is Trio in this thread."""
    if any(guest._thread == threading.get_ident() for guest in guests.values()):
        leave_run_to_parent()
    for guest in guests.values():
        guest.leave_to_parent()
        _of_parent.append(guest)
    guests.clear()


_of_parent: Final[list[Guest]] = []  # not to be collected, which would end them here
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)


async def _settle(ended: asyncio.Future[None]) -> None:
    """Wait for something that comes soon, also while this is cancelled; the caller raises that."""
    while not ended.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.shield(ended)
