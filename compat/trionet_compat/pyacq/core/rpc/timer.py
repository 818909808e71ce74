"""A function that is called again and again, by a thread."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

import trio

from trionet_compat.portal import PortalClosed, current_portal
from trionet_compat.pyacq.core import rpc

logger = logging.getLogger("pyacq.core.rpc.timer")


class Timer:
    """Calls a function at regular times, in a thread of its own: pyacq's `Timer`.

    Args:
        callback: What to call; for the first time an interval after the start. An `ObjectProxy` is called
            where its object lives. If it fails, that is logged, and the timer stops.
        interval: Seconds from the beginning of one call to that of the next; it may be changed. A call that
            takes longer delays the next one.
        limit: How many calls there are to be. None for no limit.
        start: Whether it starts at once.

    Attributes:
        running: Whether it will call again.
    """

    def __init__(
        self, callback: Callable[[], Any], interval: float, limit: int | None = None, start: bool = False
    ) -> None:
        self.callback = callback
        self.interval = interval
        self.limit = limit
        self.running = False
        self._portal = current_portal()
        self._stopped: trio.Event | None = None
        self.thread: threading.Thread | None = None
        if start:
            self.start()

    def start(self) -> None:
        """Begin. It can be started again after it was stopped, and counts anew."""
        if self.running:
            return
        self.running = True
        self._stopped = stopped = trio.Event()
        self.thread = threading.Thread(target=self._run, args=(stopped,), daemon=True)
        self.thread.start()

    def stop(self) -> None:
        """Call no more. A call that is under way comes to its end."""
        self.running = False
        if self._stopped is not None:
            self._portal.run_soon(self._stopped.set)

    def _run(self, stopped: trio.Event) -> None:
        try:
            due = self._portal.current_time()
            count = 0
            while self.limit is None or count < self.limit:
                due = self._portal.call(_wait, due + self.interval, stopped)
                if stopped.is_set():
                    return
                count += 1
                self.callback()
        except PortalClosed:
            pass  # at the end of the program
        except Exception:
            logger.exception("timer stopped, its function %r failed", self.callback)
        finally:
            rpc.RPCClient._close_all_of_thread()
            if self._stopped is stopped:
                self.running = False


async def _wait(due: float, stopped: trio.Event) -> float:
    """Wait until something is due, or the timer is stopped. Returns when it was due, or the time if later."""
    due = max(due, trio.current_time())
    with trio.move_on_at(due):
        await stopped.wait()
    return due
