"""Background tasks of an async context manager."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import trio


@contextlib.asynccontextmanager
async def open_background_tasks() -> AsyncIterator[trio.Nursery]:
    """A nursery for tasks that serve the block, and are cancelled when it ends.

    That there are tasks behind an object is no business of its user: what the block raises leaves as it is,
    not wrapped in an exception group, and so does what a task raises, which cancels the block. Only where
    there is more than one such exception, they come in a group.
    """
    raised: list[BaseException] = []
    by_tasks: list[BaseException] = []
    try:
        async with trio.open_nursery() as nursery:
            try:
                yield nursery
            except BaseException as error:
                raised.append(error)  # Cancelled, too: it goes on below, where it would have gone
            finally:
                nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        by_tasks.extend(group.exceptions)
    if by_tasks:  # a Cancelled of the block is then the consequence, or is among theirs as well
        raised = [error for error in raised if not isinstance(error, trio.Cancelled)]
    failures = raised + by_tasks
    if len(failures) > 1:
        raise BaseExceptionGroup("in the block and its background tasks", failures)
    if failures:  # here, where no context is added to it
        raise failures[0]
