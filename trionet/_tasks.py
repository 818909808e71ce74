"""Background tasks of an async context manager, and code of the program that they call."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from typing import TypeVar

import trio

Argument = TypeVar("Argument")
Result = TypeVar("Result")


@contextlib.asynccontextmanager
async def open_background_tasks() -> AsyncIterator[trio.Nursery]:
    """A nursery for tasks that serve the block, and are cancelled when it ends.

    That there are tasks behind an object is no business of its user: what the block raises leaves as it is,
    not wrapped in an exception group, and so does what a task raises, which cancels the block. Only where
    there is more than one such exception, they come in a group. A task may cancel the nursery's scope: that
    ends the block.
    """
    by_block: list[BaseException] = []
    by_tasks: list[BaseException] = []
    try:
        async with trio.open_nursery() as nursery:
            try:
                yield nursery
            except BaseException as error:
                if _without_cancelled(error) is None:
                    raise  # the nursery's scope knows whether it is its own
                by_block.append(error)
            finally:
                nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        by_tasks.extend(group.exceptions)
    failures = [error for error in map(_without_cancelled, by_block + by_tasks) if error is not None]
    if len(failures) > 1:
        raise BaseExceptionGroup("in the block and its background tasks", failures)
    for failure in failures or by_tasks:  # raised here, where no context is added to it
        raise failure


@trio.lowlevel.disable_ki_protection
def call_of_program(function: Callable[[Argument], Result], argument: Argument) -> Result:
    """Call code of the program: Ctrl-C can end it even if it goes on for ever, whichever task it runs in."""
    return function(argument)


def contains(error: BaseException, *kinds: type[BaseException]) -> bool:
    """Whether an exception is of one of these kinds, or is a group with one of them."""
    if isinstance(error, BaseExceptionGroup):
        return error.subgroup(kinds) is not None
    return isinstance(error, kinds)


def _without_cancelled(error: BaseException) -> BaseException | None:
    """What is left of an exception if cancellations are left out; nurseries put them into groups."""
    if isinstance(error, BaseExceptionGroup) and error.subgroup(trio.Cancelled) is not None:
        return error.split(trio.Cancelled)[1]
    return None if isinstance(error, trio.Cancelled) else error
