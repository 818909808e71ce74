"""A call from a thread of the program into the portal."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import trio

from trionet_compat._crossing import Crossing


class BlockingCall(Crossing):
    """A call that a thread waits for.

    Attributes:
        context: The context variables of that thread.
        done: Released at the end.
        scope: Cancels the task that carries it out, while it does.
        cancelled: Nobody waits any more.
    """

    __slots__ = ("cancelled", "context", "done", "scope")

    def __init__(self, async_fn: Callable[..., Awaitable[Any]], args: tuple[Any, ...]) -> None:
        super().__init__(async_fn, args)
        self.context = contextvars.copy_context()
        self.done = threading.Lock()
        self.done.acquire()
        self.scope: trio.CancelScope | None = None
        self.cancelled = False

    def cancel(self) -> None:
        """Stop it, in the portal's thread; it may have ended, or not have begun."""
        self.cancelled = True
        if self.scope is not None:
            self.scope.cancel()

    def end(self, error: BaseException) -> None:
        """Have it end with an error."""
        self.error = error
        self.done.release()
