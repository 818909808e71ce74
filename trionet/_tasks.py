"""Background tasks of an async context manager."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import trio


@contextlib.asynccontextmanager
async def open_background_tasks() -> AsyncIterator[trio.Nursery]:
    """A nursery for tasks that serve the block, and are cancelled when it ends.

    What the block raises leaves as it is, not wrapped in an exception group: that there are tasks behind
    an object is no business of its user. What a task raises does come in a group, and cancels the block.
    """
    raised: BaseException | None = None
    async with trio.open_nursery() as nursery:
        try:
            yield nursery
        except BaseException as error:
            raised = error  # Cancelled, too: it goes on below, where it would have gone
        finally:
            nursery.cancel_scope.cancel()
    if raised is not None:
        raise raised
