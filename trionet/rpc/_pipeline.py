"""The calls under way on one connection of a client.

A call that is alone takes the shortest way: its request is sent before anything else happens. When
several tasks call at once, their requests are collected and leave together, with one system call for all
that became ready in one scheduling round. A task of the connection reads all the time, so a large request
and a large reply cannot block each other, and a connection that is lost is noticed at once.

A caller waits as a task that is rescheduled with its reply: no event or channel is made for each call.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

import trio
from outcome import Value

from trionet._transport import Transport
from trionet.wire.errors import RemoteProtocolError
from trionet.wire.rpc import ClientConnection, Reply

# Requests are put together up to about this many bytes.
_BATCH: Final = 1 << 16

#: Makes a request: its number, and the bytes to send.
Encode = Callable[[], tuple[int, bytes]]


class Pipeline:
    """Sends requests and hands out the replies.

    Attributes:
        lost: Why the connection is of no more use; None while it is.
        lost_cause: The exception behind that, if there is one.
        disconnected: Set when the connection is lost.
    """

    def __init__(self, transport: Transport, wire: ClientConnection, max_pending_calls: int) -> None:
        self.lost: str | None = None
        self.lost_cause: BaseException | None = None
        self.disconnected = trio.Event()
        self._transport = transport
        self._wire = wire
        self._max_pending_calls = max_pending_calls
        # Callers that wait for others to get their replies before they may send.
        self._slot_queue = trio.lowlevel.ParkingLot()
        self._waiting: dict[int, trio.lowlevel.Task] = {}
        self._unsent: deque[tuple[int, bytes]] = deque()
        # Calls some of whose bytes may have been sent, but not all.
        self._in_transit: frozenset[int] = frozenset()
        self._idle_writer: trio.lowlevel.Task | None = None
        self._io_scope = trio.CancelScope()

    @property
    def outstanding(self) -> int:
        """How many replies are still to come, those that nobody wants any more included."""
        return self._wire.calls_in_flight

    async def request(self, encode: Encode) -> Reply | None:
        """Send a request and wait for the reply.

        Returns:
            The reply; None if the connection is lost before it comes.

        Raises:
            Exception: what `encode` raises. Nothing has been sent then.

        Cancellation: see `RpcClient.call`.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        while self.outstanding >= self._max_pending_calls and self.lost is None:
            await self._slot_queue.park()
        if self.lost is not None:
            return None
        try:
            call_id, line = encode()
        except Exception:
            self._offer_slots()
            raise
        self._send(call_id, line)
        return await self._wait_reply(call_id)

    @trio.lowlevel.enable_ki_protection  # Ctrl-C is for the program, not for tasks that it does not see
    async def run(self) -> None:
        """Read and write until the connection is lost, then close it. Nothing is raised for that."""
        try:
            with self._io_scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._read)
                    nursery.start_soon(self._write)
        finally:
            self.lose("connection closed", None)
            await self._transport.aclose()

    def lose(self, reason: str, cause: BaseException | None) -> None:
        """The connection is of no more use: end the calls that wait, and have it closed."""
        if self.lost is not None:
            return
        self.lost, self.lost_cause = reason, cause
        self._wire.close()
        self.disconnected.set()
        self._io_scope.cancel()
        waiting, self._waiting = self._waiting, {}
        self._slot_queue.unpark_all()
        for task in waiting.values():
            trio.lowlevel.reschedule(task, Value(None))

    def _offer_slots(self) -> None:
        """Wake as many callers as may send now."""
        self._slot_queue.unpark(count=max(0, self._max_pending_calls - self.outstanding))

    def _send(self, call_id: int, line: bytes) -> None:
        """Send at once if no other call is under way; else let the writer send it with the next ones."""
        if not self._waiting and not self._unsent and not self._in_transit:
            try:
                sent = self._transport.send_nowait(line)
            except trio.BrokenResourceError as error:
                self.lose(f"connection lost: {error}", error)
                return
            if sent == len(line):
                return
            line = line[sent:]
            if sent:
                self._in_transit = frozenset((call_id,))
        self._unsent.append((call_id, line))
        if self._idle_writer is not None:
            trio.lowlevel.reschedule(self._idle_writer)
            self._idle_writer = None

    async def _wait_reply(self, call_id: int) -> Reply | None:
        if self.lost is not None:
            return None

        def abort(_: object) -> trio.lowlevel.Abort:
            del self._waiting[call_id]
            self._give_up(call_id)
            return trio.lowlevel.Abort.SUCCEEDED

        self._waiting[call_id] = trio.lowlevel.current_task()
        reply: Reply | None = await trio.lowlevel.wait_task_rescheduled(abort)
        return reply

    def _give_up(self, call_id: int) -> None:
        """A caller was cancelled: see `RpcClient.call` for what follows."""
        if call_id in self._in_transit:
            self.lose("connection closed, because a call was cancelled while it was being sent", None)
            return
        for index, (unsent_id, _) in enumerate(self._unsent):
            if unsent_id == call_id:
                del self._unsent[index]
                self._wire.withdraw(call_id)
                self._offer_slots()
                return
        self._wire.abandon(call_id)

    @trio.lowlevel.enable_ki_protection
    async def _read(self) -> None:
        try:
            while data := await self._transport.receive():
                self._wire.receive_data(data)
                while isinstance(reply := self._wire.next_event(), Reply):
                    task = self._waiting.pop(reply.call_id)
                    trio.lowlevel.reschedule(task, Value(reply))
                self._offer_slots()
            self.lose("connection closed by the server", None)
        except RemoteProtocolError as error:
            self.lose(error.message, error)
        except trio.BrokenResourceError as error:
            self.lose(f"connection lost: {error}", error)

    @trio.lowlevel.enable_ki_protection
    async def _write(self) -> None:
        while True:
            if not self._unsent:
                self._in_transit = frozenset()
                await self._wait_unsent()
            size, ids, lines = 0, [], []
            while self._unsent and size < _BATCH:
                call_id, line = self._unsent.popleft()
                ids.append(call_id)
                lines.append(line)
                size += len(line)
            self._in_transit = frozenset(ids)
            try:
                await self._transport.send(b"".join(lines))
            except trio.BrokenResourceError as error:
                self.lose(f"connection lost: {error}", error)
                return

    async def _wait_unsent(self) -> None:
        def abort(_: object) -> trio.lowlevel.Abort:
            self._idle_writer = None
            return trio.lowlevel.Abort.SUCCEEDED

        self._idle_writer = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(abort)
