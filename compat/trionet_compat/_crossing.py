"""A call from elsewhere into a run of Trio: carried out as a task there, waited for where it came from."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, NoReturn

import trio


class Crossing:
    """One call. Where it comes from decides how its end is waited for.

    Attributes:
        scope: Cancels the call, if that happens in Trio.
        result: What the function returned.
        error: What it raised instead.
    """

    __slots__ = ("_args", "_async_fn", "error", "result", "scope")

    def __init__(self, async_fn: Callable[..., Awaitable[Any]], args: tuple[Any, ...]) -> None:
        self._async_fn = async_fn
        self._args = args
        self.scope = trio.CancelScope()
        self.result: Any = None
        self.error: BaseException | None = None

    async def carry_out(self) -> None:
        """Call the function, in the task that this runs in.

        Only cancellations that come from outside of `scope` are raised; then the call has come to nothing.
        """
        try:
            with self.scope:
                self.result = await self._async_fn(*self._args)
        except BaseException as error:
            self.error = error
            if is_cancelled(error):
                raise

    def raise_error(self) -> NoReturn:
        """Raise what the function raised."""
        error, self.error = self.error, None
        assert error is not None
        try:
            raise error
        finally:
            del error  # its traceback has this frame: no cycle, please


def is_cancelled(error: BaseException) -> bool:
    """Whether an exception is, or is a group with, a cancellation of Trio."""
    if isinstance(error, BaseExceptionGroup):
        return error.subgroup(trio.Cancelled) is not None
    return isinstance(error, trio.Cancelled)
