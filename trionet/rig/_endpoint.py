"""What UDP and TCP have in common: taking messages in, keeping count, finding the peer to send to."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace

import trio

from trionet._server import Address
from trionet._transport import format_address
from trionet.rig._limited_log import LimitedLog
from trionet.rig._peer import Peer
from trionet.wire.errors import ConnectionLost
from trionet.wire.rig import Confirmed, Incoming, LateEcho, Malformed, Ping, Received, Repeat


@dataclass(slots=True)
class RigStatistics:
    """What a communicator has seen so far.

    Attributes:
        received: Messages received, reports of errors included.
        pings: Events without data, which are confirmed and nothing else.
        confirmed: Messages sent whose echo came in time.
        late_echoes: Echoes that nobody waited for any more, or that came once more.
        repeats: Messages that came again and were not delivered again.
        malformed: What was received and is no message.
    """

    received: int = 0
    pings: int = 0
    confirmed: int = 0
    late_echoes: int = 0
    repeats: int = 0
    malformed: int = 0


@dataclass(frozen=True, slots=True)
class Owner:
    """The communicator, as its endpoint sees it.

    Attributes:
        name: What it is called in messages.
        logger: Where it logs.
        dedup_window: See `Exchange`.
        deliver: Called with each message and who has sent it, after its echo has been sent.
        connected: Called when the only connection is there, for the first time or again.
        lost: Called when it is gone.
        refused: Called when the system reports that a message of a communicator over UDP has not arrived.
    """

    name: str
    logger: logging.Logger
    dedup_window: float
    deliver: Callable[[Incoming, Address], None]
    connected: Callable[[], None]
    lost: Callable[[ConnectionLost], None]
    refused: Callable[[OSError], None]


class Endpoint(ABC):
    """Where messages come in and go out.

    Attributes:
        owner: Whose it is.
        closed: Whether it has been in use, and is no more.
        limited_log: For what strangers can cause.
    """

    def __init__(self, owner: Owner) -> None:
        self.owner = owner
        self.closed = False
        self.limited_log = LimitedLog(owner.logger, owner.name)
        self._statistics = RigStatistics()

    @property
    @abstractmethod
    def addresses(self) -> tuple[Address, ...]:
        """Hosts and ports of this side."""

    @property
    @abstractmethod
    def connected(self) -> bool:
        """Whether there is somebody to send to, as far as is known."""

    async def run(self, task_status: trio.TaskStatus[None]) -> None:
        """Receive until cancelled; then everything is closed, and who waits for an echo is told."""
        try:
            await self._run(task_status)
        finally:
            self.closed = True
            self.limited_log.flush()

    @abstractmethod
    async def _run(self, task_status: trio.TaskStatus[None]) -> None: ...

    @abstractmethod
    async def find_peer(self, address: Address | None) -> Peer:
        """The peer to send to.

        Raises:
            TypeError: without an address, if there is more than one that it could be.
            ValueError: for an address that it cannot be.
            OSError: if it is not known, or not connected.
        """

    def statistics(self) -> RigStatistics:
        """A copy of what has been counted."""
        return replace(self._statistics)

    def take(self, received: Received, address: Address, peer: Peer | None) -> None:
        """Do what is to be done about what has come, except for sending the echo."""
        count = self._statistics
        match received.meaning:
            case Confirmed():
                count.confirmed += 1
                if peer is not None:
                    peer.confirmed()
            case Incoming() as incoming:
                count.received += 1
                self.owner.deliver(incoming, address)
            case Ping():
                count.pings += 1
            case LateEcho():
                count.late_echoes += 1
            case Repeat():
                count.repeats += 1
            case Malformed(reason):
                count.malformed += 1
                self.limited_log.warning(
                    "%s: what %s has sent is no message: %s", self.owner.name, format_address(address), reason
                )
