"""Writing to a connection without holding up those who read from it."""

from __future__ import annotations

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

    Attributes:
        transport: The connection. It is closed when nothing more can be written to it.
        failure: Why, or None.
    """

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.failure: Exception | None = None
        self._ended = False
        self._waiting = bytearray()
        self._changed = trio.lowlevel.ParkingLot()

    def write(self, data: bytes) -> None:
        """Write all of it, sooner or later, as long as there is a connection.

        Raises:
            trio.BrokenResourceError: if it is gone.
            trio.ClosedResourceError: if it was closed, see `failure`.
        """
        if self._ended:
            return  # the connection is about to be lost, and whoever awaits an echo to be told why
        if not self._waiting:
            sent = self.transport.send_nowait(data)
            if sent == len(data):
                return
            data = data[sent:]
        self._waiting += data
        self._changed.unpark_all()

    async def wait_below(self, limit: int) -> None:
        """Wait until no more than so many bytes wait; they do not when nothing more can be written."""
        while len(self._waiting) > limit:
            await self._changed.park()

    @trio.lowlevel.enable_ki_protection
    async def run(self) -> None:
        """Write what waits, until cancelled or until nothing more can be written."""
        try:
            while True:
                while not self._waiting:
                    await self._changed.park()
                chunk = bytes(self._waiting[:_CHUNK])
                with trio.move_on_after(STALL_TIMEOUT) as stalled:
                    await self.transport.send_all(chunk)
                if stalled.cancelled_caught:
                    raise RemoteProtocolError(f"the peer has read nothing for {STALL_TIMEOUT} s")
                del self._waiting[: len(chunk)]
                self._changed.unpark_all()
        except (trio.BrokenResourceError, trio.ClosedResourceError, RemoteProtocolError) as error:
            # Not raised: reading fails in the same moment, and two exceptions would come in a group.
            self.failure = error
            await self.transport.aclose()
        finally:
            self._ended = True
            self._waiting.clear()
            self._changed.unpark_all()
