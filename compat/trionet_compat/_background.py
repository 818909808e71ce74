"""Tasks in the background: of asyncio where an asyncio loop runs, of Trio under Trio alone."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Generic, TypeVar

import trio
from outcome import Error, Outcome, Value

T = TypeVar("T")


class TrioTask(Generic[T]):
    """A task of Trio with the methods of an `asyncio.Task` that programs use.

    It belongs to the run of Trio, which cancels it at its end. It can be awaited in Trio, by any number of
    tasks; as in asyncio, that raises `asyncio.CancelledError` if it was cancelled, but cancelling who waits
    does not cancel it.
    """

    def __init__(self, async_fn: Callable[[], Coroutine[Any, Any, T]]) -> None:
        self._scope = trio.CancelScope()
        self._ended = trio.Event()
        self._outcome: Outcome[T] | None = None
        self._callbacks: list[Callable[[TrioTask[T]], object]] = []
        trio.lowlevel.spawn_system_task(self._run, async_fn, context=contextvars.copy_context())

    def cancel(self, msg: object = None) -> bool:
        """Cancel it. Returns whether it was still running."""
        self._scope.cancel()
        return not self.done()

    def done(self) -> bool:
        """Whether it has ended, in whatever way."""
        return self._ended.is_set()

    def cancelled(self) -> bool:
        """Whether it has ended by being cancelled."""
        return self.done() and self._outcome is None

    def result(self) -> T:
        """What it returned; raises what it raised.

        Raises:
            asyncio.CancelledError: if it was cancelled.
            asyncio.InvalidStateError: if it has not ended.
        """
        if not self.done():
            raise asyncio.InvalidStateError("Result is not set.")
        if self._outcome is None:
            raise asyncio.CancelledError
        # Not `unwrap`, which is for one call only.
        if isinstance(self._outcome, Error):
            raise self._outcome.error
        assert isinstance(self._outcome, Value)
        value: T = self._outcome.value
        return value

    def exception(self) -> BaseException | None:
        """What it raised, or None. Raises as `result` does if it was cancelled or has not ended."""
        if isinstance(self._outcome, Error):
            return self._outcome.error
        self.result()
        return None

    def add_done_callback(self, callback: Callable[[TrioTask[T]], object]) -> None:
        """Have a function called with it when it has ended; at once, if it has."""
        if self.done():
            callback(self)
        else:
            self._callbacks.append(callback)

    def __await__(self) -> Generator[Any, Any, T]:
        return self._wait().__await__()

    async def wait_ended(self) -> None:
        """Wait until it has ended, in whatever way."""
        await self._ended.wait()

    async def _wait(self) -> T:
        await self._ended.wait()
        return self.result()

    async def _run(self, async_fn: Callable[[], Coroutine[Any, Any, T]]) -> None:
        try:
            with self._scope:
                self._outcome = Value(await async_fn())
        except Exception as error:
            self._outcome = Error(error)
        finally:
            self._ended.set()
            for callback in self._callbacks:
                callback(self)


#: What `start_task` returns.
Task = asyncio.Task[T] | TrioTask[T]


def start_task(
    async_fn: Callable[[], Coroutine[Any, Any, T]], loop: asyncio.AbstractEventLoop | None = None
) -> Task[T]:
    """Start a task: of asyncio if there is a loop, which need not be running; of Trio if that runs alone.

    Args:
        async_fn: What it does.
        loop: The loop; None for the one that runs, or that is set to be the current one.

    Raises:
        RuntimeError: if there is neither.
    """
    if loop is None:
        try:
            loop = asyncio.get_running_loop()  # that of a guest run, too
        except RuntimeError:
            if trio.lowlevel.in_trio_run():
                return TrioTask(async_fn)
            loop = asyncio.get_event_loop()
    return loop.create_task(async_fn())


async def cancel_and_wait(task: Task[Any]) -> None:
    """Cancel a task and wait for its end. Raises what it has failed with, but not that it was cancelled."""
    task.cancel()
    await wait_ended(task)
    if not task.cancelled():
        task.result()


async def wait_ended(task: Task[Any]) -> None:
    """Wait for the end of a task, however it ends. Cancelled, it leaves the task alone."""
    if isinstance(task, TrioTask):
        await task.wait_ended()
    elif not task.done():  # its loop may be closed
        await asyncio.wait([task])
