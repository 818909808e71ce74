"""The nursery of a network: of the fabric, and of the tasks that live on hosts."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import trio


@contextlib.asynccontextmanager
async def open_task_nursery(
    service: Callable[[], Awaitable[None]], stop: Callable[[], None]
) -> AsyncIterator[trio.Nursery]:
    """A nursery for tasks that end with the block, and a service in the background that outlives them.

    What the block raises leaves as it is, and so does what a task raises, which cancels the block. Only where
    there is more than one such exception, they come in a group.

    Args:
        service: Runs until `stop`; what it raises counts as a task's exception.
        stop: Called when the block and all tasks are done.
    """
    failures: list[BaseException] = []
    try:
        async with trio.open_nursery() as service_nursery:
            service_nursery.start_soon(service)
            try:
                async with trio.open_nursery() as nursery:
                    try:
                        yield nursery
                    except BaseException as error:
                        if not _is_failure(error):
                            raise  # the scopes know whose it is
                        failures.append(error)
                    finally:
                        nursery.cancel_scope.cancel()
            finally:
                stop()
    except BaseException as error:
        failures += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    real = [error for error in failures if _is_failure(error)]
    if len(real) > 1:
        raise BaseExceptionGroup("in the block and the tasks of hosts", real)
    for failure in real or failures:  # raised here, where no context is added to it
        raise failure


def _is_failure(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return error.split(trio.Cancelled)[1] is not None
    return not isinstance(error, trio.Cancelled)


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    """The exceptions in the two nurseries' groups, not those in groups of the tasks' own."""
    found: list[BaseException] = []
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            found += error.exceptions
        else:
            found.append(error)
    return found
