"""Async context managers that a task keeps open, for code that opens and closes by separate calls."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Generic, TypeVar

import trio

T = TypeVar("T")


class Held(Generic[T]):
    """An async context manager, kept open by a task of its own until it is closed. All of it in Trio.

    Attributes:
        ended: Set when the block has been left, whatever the reason.
        failure: What the block raised, other than to `open`; None if it raised nothing, or still runs.
    """

    def __init__(self, manager: AbstractAsyncContextManager[T]) -> None:
        self.ended = trio.Event()
        self.failure: Exception | None = None
        self._manager = manager
        self._scope = trio.CancelScope()
        self._closing = trio.Event()

    async def open(self, nursery: trio.Nursery) -> T:
        """Enter the block, in a task of the nursery. Raises what entering raises."""
        value: T = await nursery.start(self._keep_open)
        return value

    async def close(self) -> None:
        """Leave the block, and wait until that is done. May be called again; raises what leaving raises."""
        self._closing.set()
        await self.ended.wait()
        if self.failure is not None:
            failure, self.failure = self.failure, None
            raise failure

    def cancel(self) -> None:
        """Have the block left without waiting for anything in it."""
        self._scope.cancel()

    async def _keep_open(self, *, task_status: trio.TaskStatus[T]) -> None:
        entered = False
        try:
            with self._scope:
                async with self._manager as value:
                    entered = True
                    task_status.started(value)
                    await self._closing.wait()
        except Exception as error:
            if not entered:
                raise
            self.failure = error
        finally:
            self.ended.set()
