"""Something an object server does again and again, where it executes its requests."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import trio

logger = logging.getLogger("trionet.objects")

#: Calls a function where the objects of a server are used, and returns what it returned.
CallThere = Callable[[Callable[[], Any]], Awaitable[Any]]


class ObjectTimer:
    """Calls a function at regular times. Made by `ObjectServer.start_timer`.

    Attributes:
        interval: Seconds from the beginning of one call to that of the next. May be changed.
        calls: How many there have been.
    """

    def __init__(self, callback: Callable[[], Any], interval: float, limit: int | None) -> None:
        self.interval = interval
        self.calls = 0
        self._callback = callback
        self._limit = limit
        self._scope = trio.CancelScope()
        self._is_running = True

    @property
    def running(self) -> bool:
        """Whether it will call again."""
        return self._is_running and not self._scope.cancel_called

    def stop(self) -> None:
        """Call no more. A call that waits for something is cancelled; one in a thread comes to its end."""
        self._scope.cancel()

    async def _run(self, call_there: CallThere) -> None:
        """Call until it is stopped, the limit is reached, or a call fails: that is logged."""
        due = trio.current_time()
        try:
            with self._scope:
                while self._limit is None or self.calls < self._limit:
                    # A call that takes longer than the interval delays the next one, and no others.
                    due = max(due + self.interval, trio.current_time())
                    await trio.sleep_until(due)
                    self.calls += 1
                    result = await call_there(self._callback)
                    if inspect.isawaitable(result):
                        await result
        except Exception:
            logger.exception("timer stopped, its function %r failed", self._callback)
        finally:
            self._is_running = False
