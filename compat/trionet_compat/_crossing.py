"""A call from elsewhere into a run of Trio: carried out by a task there, waited for where it came from."""

from __future__ import annotations

import contextvars
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any, Final, NoReturn, TypeVar

import trio

T = TypeVar("T")

#: What code of the program may raise in a task of Trio: exceptions, and what is meant to end programs. Others
#: would end the run of Trio, with everything that lives there. Mostly that is `asyncio.CancelledError`, which
#: asking for the result of a task may raise.
PASSING: Final = (Exception, SystemExit, KeyboardInterrupt, trio.Cancelled)


class Crossing:
    """One call. Where it comes from decides how its end is waited for.

    Attributes:
        async_fn: What to call, in Trio.
        args: With what.
        result: What it returned.
        error: What it raised instead.
    """

    __slots__ = ("args", "async_fn", "error", "result")

    def __init__(self, async_fn: Callable[..., Awaitable[Any]], args: tuple[Any, ...]) -> None:
        self.async_fn = async_fn
        self.args = args
        self.result: Any = None
        self.error: BaseException | None = None

    def take_result(self) -> Any:
        """What the function returned; who carries it out may hold on to this for a while, but not to that."""
        result, self.result = self.result, None
        return result

    def raise_error(self) -> NoReturn:
        """Raise what the function raised."""
        error, self.error = self.error, None
        assert error is not None
        try:
            raise error
        finally:
            del error  # its traceback has this frame: no cycle, please


def as_exception(error: BaseException) -> Exception:
    """Something to raise in place of what is not `PASSING`."""
    text = str(error)
    return RuntimeError(f"{type(error).__name__}: {text}" if text else type(error).__name__)


def is_cancelled(error: BaseException) -> bool:
    """Whether an exception is, or is a group with, a cancellation of Trio."""
    if isinstance(error, BaseExceptionGroup):
        return error.subgroup(trio.Cancelled) is not None
    return isinstance(error, trio.Cancelled)


@types.coroutine
def in_context(context: contextvars.Context, coroutine: Coroutine[Any, Any, T]) -> Generator[Any, Any, T]:
    """Await a coroutine with other context variables than those of the task."""
    step: Callable[[Any], Any] = coroutine.send
    argument: Any = None
    while True:
        try:
            message = context.run(step, argument)
        except StopIteration as end:
            result: T = end.value
            return result
        try:
            argument = yield message
            step = coroutine.send
        except BaseException as error:
            argument = error
            step = coroutine.throw
