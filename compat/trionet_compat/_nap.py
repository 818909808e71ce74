"""Waiting for the next call in the portal's thread, for a moment, before that turns to its sockets again."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Sized
from typing import Final

# How long a nap may be, in seconds. On Windows, where the shortest of such waits are as long as many calls,
# there is none.
_LONGEST_NAP: Final = 0.0 if sys.platform == "win32" else 0.0002
# After a nap in vain, the number of calls that go without; it doubles each time, up to the second.
_SHORTEST_PAUSE: Final = 8
_LONGEST_PAUSE: Final = 256


class Nap:
    """Naps of one thread, after each call, that end with the next one.

    A program that calls again and again does so within microseconds. To be woken from a nap takes much less
    than to be woken from the wait for sockets, with its system calls and scheduling rounds. And a nap leaves
    the interpreter's lock to the calling thread, which looking again and again would not.

    Everything else in the thread waits as well. So there are no naps where they turn out to be in vain.

    Args:
        inbox: Where calls are put.
    """

    def __init__(self, inbox: Sized) -> None:
        self._inbox = inbox
        self._alarm = threading.Lock()
        self._alarm.acquire()
        self._asleep = False
        self._pause = _SHORTEST_PAUSE
        self._calls_until_next = 0

    def end(self) -> bool:
        """Wake the thread if it naps. From any thread, after putting something into the inbox.

        Returns:
            Whether the thread looks into the inbox. Otherwise it has to be told.
        """
        if not self._asleep:
            return False
        with contextlib.suppress(RuntimeError):  # another thread was faster
            self._alarm.release()
        return True

    def take(self) -> bool:
        """Nap. Returns whether there is something in the inbox."""
        if self._calls_until_next:
            self._calls_until_next -= 1
            return bool(self._inbox)
        self._asleep = True
        if not self._inbox:
            self._alarm.acquire(timeout=_LONGEST_NAP)
        # Who saw it asleep has put something into the inbox before, so that is seen here. The alarm may come
        # later; then the next nap ends at once.
        self._asleep = False
        if self._inbox:
            self._pause = _SHORTEST_PAUSE
            return True
        self._calls_until_next = self._pause
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)
        return False
