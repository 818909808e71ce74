"""Which host a task lives on.

A context variable says so: Trio copies the context of a task to those it starts, so whatever a task on a host
starts is on that host, too.
"""

from __future__ import annotations

import contextvars
from typing import TYPE_CHECKING, Final, NamedTuple

import trio

if TYPE_CHECKING:
    from trionet.testing.network._host import VirtualHost
    from trionet.testing.network._stack import Stack


class Residence(NamedTuple):
    """Where a task lives.

    Attributes:
        host: The host.
        own_stack: Of tasks that a crash ends: the stack they were started on, to which they belong for good.
            None for tasks that only entered the host: they see it come back after a restart.
    """

    host: VirtualHost
    own_stack: Stack | None

    @property
    def stack(self) -> Stack:
        """Where the sockets go that the task makes."""
        return self.own_stack if self.own_stack is not None else self.host.stack


RESIDENCE: Final[contextvars.ContextVar[Residence | None]] = contextvars.ContextVar(
    "trionet virtual host", default=None
)


def may_use(stack: Stack) -> bool:
    """Whether the current task may use sockets of a stack.

    Those of a crashed host are closed to everybody but the tasks that crashed with it. These are being
    cancelled, and what they do about it must not differ from what they would do on a host that lives.
    """
    if stack.alive:
        return True
    residence = RESIDENCE.get()
    return residence is not None and residence.own_stack is stack


def lives_on(task: trio.lowlevel.Task, stack: Stack) -> bool:
    """Whether a task was started on a stack."""
    residence = task.context.get(RESIDENCE)
    return residence is not None and residence.own_stack is stack
