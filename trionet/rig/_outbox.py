"""Writing to a connection without holding up those who read from it."""

from __future__ import annotations

from collections import deque
from typing import Final

import trio

from trionet._transport import Transport
from trionet.wire.errors import RemoteProtocolError

#: Seconds in which a peer has to read something of what waits for it.
STALL_TIMEOUT: Final = 10.0

_CHUNK: Final = 256 * 1024


class Outbox:
    """What is to be written to a connection: at once if it takes it, else by a task, in order.

    So no message is cut off when its sender gives up, and two peers that send long messages to each other at
    the same time both go on reading.
    """

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self._waiting: deque[memoryview] = deque()
        self._changed = trio.lowlevel.ParkingLot()

    @property
    def buffered(self) -> int:
        """Bytes that wait."""
        return sum(map(len, self._waiting))

    def write(self, data: bytes) -> None:
        """Write all of it, sooner or later. trio.BrokenResourceError if the connection is gone."""
        sent = self.transport.send_nowait(data) if not self._waiting else 0
        if sent < len(data):
            self._waiting.append(memoryview(data)[sent:])
            self._changed.unpark_all()

    async def wait_below(self, limit: int) -> None:
        """Wait until no more than so many bytes wait."""
        while self.buffered > limit:
            await self._changed.park()

    async def run(self) -> None:
        """Write what waits, until cancelled.

        Raises:
            RemoteProtocolError: if the peer does not read.
            trio.BrokenResourceError: if the connection is gone.
        """
        while True:
            while not self._waiting:
                await self._changed.park()
            chunk = self._waiting[0][:_CHUNK]
            with trio.move_on_after(STALL_TIMEOUT) as stalled:
                await self.transport.send_all(chunk)
            if stalled.cancelled_caught:
                raise RemoteProtocolError(f"the peer has read nothing for {STALL_TIMEOUT} s")
            rest = self._waiting[0][len(chunk) :]
            if rest:
                self._waiting[0] = rest
            else:
                self._waiting.popleft()
            self._changed.unpark_all()
