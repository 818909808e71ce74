"""Where a task waits for a socket."""

from __future__ import annotations

import outcome
import trio


class Waiter:
    """A place for one task, as trio's sockets have one for reading and one for writing.

    That the task is cancelled has no effect but that it is gone: Trio gives no order to cancellations that
    fall on one instant, so anything more could differ from run to run.
    """

    __slots__ = ("task",)

    def __init__(self) -> None:
        self.task: trio.lowlevel.Task | None = None

    async def wait(self) -> None:
        """Wait for `wake`.

        Raises:
            trio.BusyResourceError: if another task waits here.
            trio.ClosedResourceError: if the socket is closed meanwhile.
        """
        if self.task is not None:
            await trio.lowlevel.checkpoint()
            raise trio.BusyResourceError("another task is already reading / writing this socket")
        self.task = trio.lowlevel.current_task()

        def abort(_: object) -> trio.lowlevel.Abort:
            self.task = None
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)

    def wake(self) -> None:
        """Let the task look again, if there is one."""
        task = self.task
        if task is not None:
            self.task = None
            trio.lowlevel.reschedule(task)

    def close(self) -> None:
        """Tell the task, if there is one, that its socket was closed."""
        task = self.task
        if task is not None:
            self.task = None
            closed = trio.ClosedResourceError("another task closed this socket")
            trio.lowlevel.reschedule(task, outcome.Error(closed))
