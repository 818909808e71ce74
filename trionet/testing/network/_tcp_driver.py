"""What drives a TCP connection: sends what it emits, calls it at its deadline, wakes the tasks that wait.

A driver belongs to its host's stack and outlives the socket: after `close` it sends what is left, and FIN.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import trio

from trionet.testing.network._packets import Packet
from trionet.testing.network._tcp import Connection
from trionet.testing.network._tcp_states import OPENING, State
from trionet.testing.network._waiting import Waiter

if TYPE_CHECKING:
    from trionet.testing.network._stack import Stack


class TcpDriver:
    """One end of a connection, at work on a host.

    Attributes:
        connection: The state machine.
        reading: Where a task waits that reads.
        writing: Where a task waits that writes, or connects.
        reuse_address: SO_REUSEADDR, of which closed connections remind those who bind.
        reuse_port: SO_REUSEPORT.
    """

    __slots__ = (
        "_alarms",
        "_on_open",
        "_stack",
        "connection",
        "reading",
        "reuse_address",
        "reuse_port",
        "writing",
    )

    def __init__(
        self,
        stack: Stack,
        connection: Connection,
        on_open: Callable[[TcpDriver], None] | None = None,
        *,
        reuse_address: bool = False,
        reuse_port: bool = False,
    ) -> None:
        self._stack = stack
        self.connection = connection
        self._on_open = on_open  # tells a listening socket that the connection is made, or has failed
        self.reuse_address = reuse_address
        self.reuse_port = reuse_port
        self.reading = Waiter()
        self.writing = Waiter()
        # When the fabric will call, latest first. A call that is not needed any more is not taken back but
        # used for what is due later; so there are only ever a few, each earlier than those asked for before.
        self._alarms: list[float] = []

    def handle(self, packet: Packet) -> None:
        """A packet has come."""
        self.connection.handle(packet, trio.current_time())
        self.pump()

    def pump(self) -> None:
        """Look at what has become of the connection; to be called after whatever was done with it."""
        connection = self.connection
        if connection.outgoing:
            packets, connection.outgoing = connection.outgoing, []
            for packet in packets:
                self._stack.send(packet)
        deadline = connection.deadline
        if deadline < (self._alarms[-1] if self._alarms else math.inf):
            self._alarms.append(deadline)
            self._stack.call_at(deadline, self._be_on_time)
        if self._on_open is not None and connection.state is not State.SYN_RECEIVED:
            on_open, self._on_open = self._on_open, None
            on_open(self)
        if self.reading.task is not None and connection.readable:
            self.reading.wake()
        if self.writing.task is not None and connection.writable:
            self.writing.wake()
        if connection.state is State.CLOSED:
            self._stack.forget(self)

    def _be_on_time(self) -> None:
        self._alarms.pop()
        now = trio.current_time()
        if self.connection.deadline <= now:
            self.connection.timeout(now)
        self.pump()

    # What those who bind to a port ask, as `_ports.Owner`.

    @property
    def local_address(self) -> str:
        """The address of this end."""
        return self.connection.local.address

    @property
    def dual(self) -> bool:
        """Whether both families are meant: never."""
        return False

    @property
    def listening(self) -> bool:
        """Whether it listens: never."""
        return False

    @property
    def opening(self) -> bool:
        """Whether the connection is not made yet."""
        return self.connection.state in OPENING
