"""When a portal's mock clock may jump: while calls wait there, and no thread of the program computes."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from contextvars import Context, ContextVar
from typing import Final

from trio.testing import MockClock

# Which of the threads that a portal has started a call comes from.
_thread: Final[ContextVar[object]] = ContextVar("trionet portal thread", default=None)


class Pause:
    """Stops a mock clock. All of it in the portal's thread.

    Args:
        clock: The clock. How it jumps is what it was made with.
    """

    def __init__(self, clock: MockClock) -> None:
        self._clock = clock
        self._threshold = clock.autojump_threshold
        self._calls = 0
        self._threads: set[object] = set()
        self._computing: set[object] = set()
        self._update()

    def begin_call(self, context: Context) -> None:
        """A thread waits for a call; its context variables are these."""
        self._calls += 1
        self._computing.discard(context.get(_thread))
        self._update()

    def end_call(self, context: Context) -> None:
        """It goes on."""
        self._calls -= 1
        thread = context.get(_thread)
        if thread in self._threads:
            self._computing.add(thread)
        self._update()

    @contextlib.contextmanager
    def thread(self) -> Iterator[None]:
        """What is started in the block with the context variables of the block is a thread, and computes."""
        thread = object()
        self._threads.add(thread)
        self._computing.add(thread)
        self._update()
        token = _thread.set(thread)
        try:
            yield
        finally:
            _thread.reset(token)
            self._threads.discard(thread)
            self._computing.discard(thread)
            self._update()

    def _update(self) -> None:
        may_jump = self._calls and not self._computing
        self._clock.autojump_threshold = self._threshold if may_jump else math.inf
