"""Sending to one peer: one message at a time, each until its echo has come."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Final

import trio

from trionet._server import Address
from trionet._transport import format_address
from trionet.wire.errors import CallInfo, TrionetError
from trionet.wire.rig import Exchange

#: Seconds to wait for an echo by default, as upstream.
ECHO_TIMEOUT: Final = 1.0


# Gaps to wait out, if there is always another one: a peer that sends all the time awaits echoes all the time,
# and if it is upstream's takes our message for a bad one anyway.
_MOST_GAPS: Final = 5


class EchoTimeout(TrionetError, TimeoutError):
    """The echo of a message did not come in time. Whether the rig has got the message is unknown."""


class Peer(ABC):
    """The other side of an exchange, as those see it who send.

    Attributes:
        address: Host and port.
        exchange: What has been said.
        gone: Whether it can never be reached again.

    Args:
        answer_gap: Seconds of silence between an echo and a message of our own, unless the peer is patient.
    """

    def __init__(self, address: Address, exchange: Exchange, rig: str, answer_gap: float) -> None:
        self.address = address
        self.exchange = exchange
        self.gone = False
        self._rig = rig
        self._answer_gap = answer_gap
        self._quiet_until = -math.inf
        self._turn = trio.Lock()
        self._outcome: trio.Event | None = None
        self._failure: Exception | None = None

    @property
    def busy(self) -> bool:
        """Whether a message is under way, or waits for its turn."""
        return self._turn.locked()

    @property
    def ready(self) -> bool:
        """Whether a message can be sent at once."""
        return trio.current_time() >= self._quiet_until

    def keep_quiet(self) -> None:
        """Something was sent behind which the next message is not to follow at once."""
        if not self.exchange.is_patient:
            self._quiet_until = trio.current_time() + self._answer_gap

    async def wait_quiet(self) -> None:
        """Wait until a message may be sent. Not always a checkpoint."""
        for _ in range(_MOST_GAPS):
            if trio.current_time() >= self._quiet_until:
                return
            await trio.sleep_until(self._quiet_until)

    @abstractmethod
    def check_size(self, data: bytes) -> None:
        """Raise LocalProtocolError if a message is too long to be sent."""

    async def prepare(self) -> None:
        """Make sure that a message can be sent. OSError if it cannot."""
        return  # here it can

    @abstractmethod
    async def transmit(self, data: bytes) -> None:
        """Send a message. OSError if it cannot be. Cancelled, nothing was sent."""

    async def send(self, data: bytes) -> None:
        """Send a message without waiting for its echo."""
        self.check_size(data)
        await trio.lowlevel.checkpoint()
        await self.prepare()
        self.exchange.send_unconfirmed(data, trio.current_time())
        await self._transmit_or_withdraw(data)

    async def _transmit_or_withdraw(self, data: bytes) -> None:
        """Send what the exchange takes for sent; if it is not, there is no echo to be known."""
        try:
            await self.transmit(data)
        except BaseException:
            self.exchange.withdraw(data)
            raise

    async def send_confirmed(
        self, data: bytes, echo_timeout: float, attempts: int, begun: trio.Event | None = None
    ) -> None:
        """Send a message and wait for its echo, after those that others are sending to this peer.

        Args:
            data: The message.
            echo_timeout: Seconds to wait for the echo, for each attempt.
            attempts: How often to send it.
            begun: Set when it has been sent, or has to wait for something before.

        Raises:
            EchoTimeout: if no echo has come.
            OSError: if the system says that it cannot have arrived.
        """
        self.check_size(data)
        begun = begun if begun is not None else trio.Event()
        if self.busy or not self.ready:
            begun.set()
        called = trio.current_time()
        await trio.lowlevel.checkpoint_if_cancelled()
        try:
            self._turn.acquire_nowait()  # without a scheduling round, if there is nobody else
        except trio.WouldBlock:
            await self._turn.acquire()
        try:
            for left in reversed(range(attempts)):
                if await self._attempt(data, echo_timeout, left, begun):
                    return
        finally:
            self.exchange.give_up()
            self._outcome = None
            self._turn.release()
        times = f" {attempts} times" if attempts > 1 else ""
        where = CallInfo(format_address(self.address), rig=self._rig, elapsed=trio.current_time() - called)
        raise EchoTimeout(f"sent{times}, but no echo came within {echo_timeout} s", where)

    async def _attempt(self, data: bytes, echo_timeout: float, left: int, begun: trio.Event) -> bool:
        """Send it and wait; whether it was confirmed."""
        started = trio.current_time()
        self._failure = None
        self._outcome = trio.Event()
        try:
            await self.prepare()
            if self.exchange.awaited is None:
                self.exchange.send(data, trio.current_time())
            else:
                self.exchange.send_again(trio.current_time())
            with trio.move_on_after(echo_timeout):
                await self._transmit_or_withdraw(data)
                begun.set()
                await self._outcome.wait()
            if self._failure is not None:
                self.exchange.withdraw(data)
                raise self._failure
        except OSError:
            if not left or self.gone:
                raise
            begun.set()
            await trio.sleep_until(started + echo_timeout)
        return self._outcome.is_set() and self._failure is None

    def confirmed(self) -> None:
        """The echo has come."""
        if self._outcome is not None:
            self._failure = None
            self._outcome.set()

    def failed(self, error: Exception) -> None:
        """The message that is under way has not arrived; others are not concerned."""
        if self._outcome is not None and not self._outcome.is_set():
            self._failure = error
            self._outcome.set()
