"""When a guest run of Trio gets its turns from a loop of asyncio.

Left to itself, Trio waits for its sockets in a thread while it has nothing to do, and the thread wakes the
loop. That takes longer than most calls, and much longer where other programs want the processors. So the loop
watches for Trio instead: what Trio waits with, epoll or kqueue, is a file that is ready when a socket is.

Trio need not know. One task that always wants to run keeps it from using the thread; while that is the only
one, the turn that Trio asks for is put off until there is a reason for it: a socket, a deadline, or a task
that something in the loop has woken. Where this is not possible, such as on Windows, Trio does it in its own
way. What is private about Trio is in the functions at the end.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any, Final

import outcome
import trio

from trionet._linger import linger_rounds

# A round is a turn of the loop here, about 10 µs. So many outlast an answer that comes at once.
_LINGER_ROUNDS: Final = 12
#: A turn: what Trio asks to have called.
Turn = Callable[[], object]


class Turns(trio.abc.Instrument):
    """The turns of one guest run, in the thread of its loop.
    Args:
        loop: The loop.
        take: Called with each turn, to call it.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, take: Callable[[Turn], object]) -> None:
        self._loop = loop
        self._take = take
        self._turn: Turn | None = None  # that was asked for
        self._put_off = False
        self._alarm: asyncio.TimerHandle | None = None
        self._idler: trio.lowlevel.Task | None = None

    def ask(self, turn: Turn) -> None:
        """Trio asks for a turn."""
        self._turn = turn
        if self._idler is None or not _can_wait(turn, self._idler):
            self._call_soon()
            return
        self._put_off = True
        seconds = trio.lowlevel.current_statistics().seconds_to_next_deadline
        if seconds < math.inf:
            self._alarm = self._loop.call_later(max(0.0, seconds), self._wake)

    def pending(self) -> Turn | None:
        """The turn that was asked for, to be taken by the caller."""
        if self._put_off:
            self._resume()
        turn, self._turn = self._turn, None
        return turn

    def task_scheduled(self, task: trio.lowlevel.Task) -> None:
        """A task can go on. While the turn is put off, something in the loop has woken it."""
        if self._put_off:
            self._resume()
            self._call_soon()

    async def idle(self) -> None:
        """Be the task that always wants to run, if Trio's sockets can be watched; do nothing otherwise."""
        with self._watching() as possible:
            if not possible:
                return
            linger_rounds.set(_LINGER_ROUNDS)
            self._idler = trio.lowlevel.current_task()
            try:
                while True:
                    await trio.lowlevel.checkpoint()
            finally:
                self._idler = None

    @contextlib.contextmanager
    def _watching(self) -> Iterator[bool]:
        # A loop may have been closed before this begins; then its guest is only run to its end.
        descriptor = None if self._loop.is_closed() else _wait_descriptor()
        if descriptor is not None:
            try:
                self._loop.add_reader(descriptor, self._wake)
            except NotImplementedError:  # a loop of Windows
                descriptor = None
        try:
            yield descriptor is not None
        finally:
            if descriptor is not None and not self._loop.is_closed():
                self._loop.remove_reader(descriptor)

    def _call_soon(self) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon(self._take_pending)

    def _take_pending(self) -> None:
        if (turn := self.pending()) is not None:
            self._take(turn)

    def _wake(self) -> None:
        if self._put_off:
            self._take_pending()

    def _resume(self) -> None:
        self._put_off = False
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        assert self._turn is not None
        _look_at_sockets(self._turn)


# What follows knows Trio from inside (0.30 to 0.35): the class GuestState, whose method is the turn.

_PRIVATE: Final = {
    "GuestState": ("runner", "unrolled_run_next_send"),
    "Runner": ("guest_tick_scheduled", "io_manager", "runq", "waiting_for_idle"),
    "Task": ("_cancel_status",),
}


def _wait_descriptor() -> int | None:
    """The file that is ready when one of the sockets is that the current run of Trio waits for.

    None if there is no such file, or if Trio is not as it was.
    """
    from trio._core import _run

    try:
        for name, attributes in _PRIVATE.items():
            for attribute in attributes:
                getattr(getattr(_run, name), attribute)
        poll: Any = _run.GLOBAL_RUN_CONTEXT.runner.io_manager
        waiting = poll._epoll if hasattr(poll, "_epoll") else poll._kqueue
    except AttributeError:
        return None
    descriptor: int = waiting.fileno()
    return descriptor


def _can_wait(turn: Turn, idler: trio.lowlevel.Task) -> bool:
    """Whether Trio would do nothing in a turn: only the idler can run, to idle, and no socket is ready."""
    state: Any = turn.__self__  # type: ignore[attr-defined]
    found = state.unrolled_run_next_send
    runner = state.runner
    if len(runner.runq) > 1 or idler._cancel_status.effectively_cancelled or runner.waiting_for_idle:
        return False
    if isinstance(found, outcome.Error) or found.value:
        return False
    runner.guest_tick_scheduled = False  # so that Trio makes its file ready when a deadline is changed
    return True


def _look_at_sockets(turn: Turn) -> None:
    """Have a turn that was put off begin with what has become ready meanwhile."""
    state: Any = turn.__self__  # type: ignore[attr-defined]
    state.runner.guest_tick_scheduled = True
    state.unrolled_run_next_send = outcome.capture(state.runner.io_manager.get_events, 0)


def leave_run_to_parent() -> None:
    """In the child of a fork, have this thread be in no run of Trio, as far as others can see."""
    from trio._core import _run

    vars(_run.GLOBAL_RUN_CONTEXT).clear()
