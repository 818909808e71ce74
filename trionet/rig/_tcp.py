"""Experiment messages in TCP connections."""

from __future__ import annotations

import logging
import math
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import trio

from trionet._server import (
    HANDSHAKE_TIMEOUT,
    Address,
    AnyListener,
    Connection,
    ServerHandle,
    serve_connections,
)
from trionet._tasks import open_background_tasks
from trionet._transport import Transport, format_address
from trionet.rig._endpoint import Endpoint
from trionet.rig._peer import Peer
from trionet.wire.errors import CallInfo, ConnectionLost, LocalProtocolError, RemoteProtocolError
from trionet.wire.rig import Incoming, StreamExchange

logger = logging.getLogger("trionet.rig")

#: Seconds of silence between an echo and a message of our own. Upstream takes one read for one message, so
#: what comes right behind an echo breaks it.
ANSWER_GAP: Final = 0.02

#: Seconds that a peer may take for the next piece of a message that it has begun, and to read an echo.
STALL_TIMEOUT: Final = 10.0


class TcpPeer(Peer):
    """A peer at the other end of a connection.

    Args:
        max_message_size: The longest message, in bytes, either way.
    """

    exchange: StreamExchange

    def __init__(self, address: Address, endpoint: Endpoint, max_message_size: int) -> None:
        super().__init__(address, StreamExchange(max_message_size, endpoint.dedup_window), endpoint.rig)
        self._endpoint = endpoint
        self._max_message_size = max_message_size
        self._writing = trio.Lock()
        self._quiet_until = -math.inf

    def check_size(self, data: bytes) -> None:
        if len(data) > self._max_message_size:
            raise LocalProtocolError(
                f"a message of {len(data)} bytes is too long: {self._max_message_size} at most"
            )

    @property
    def ready(self) -> bool:
        return not self._writing.locked() and trio.current_time() >= self._quiet_until

    @abstractmethod
    async def connected(self) -> Transport:
        """The connection; it is held meanwhile."""

    async def transmit(self, data: bytes) -> None:
        while True:
            await trio.sleep_until(self._quiet_until)
            async with self._writing:
                if trio.current_time() >= self._quiet_until:
                    transport = await self.connected()
                    try:
                        await self._write(transport, data)
                    except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                        raise ConnectionLost(str(error), CallInfo(transport.peer, self._rig)) from error
                    return

    async def _write(self, transport: Transport, data: bytes) -> None:
        """Write all of it. Cancelled in the middle, the connection is over: the rest would be missing."""
        sent = transport.send_nowait(data)
        if sent == len(data):
            return
        try:
            await transport.send_all(memoryview(data)[sent:])
        except BaseException:
            self.disconnected(transport)
            await transport.aclose()
            raise

    def disconnected(self, transport: Transport) -> None:
        """A connection is not to be used any more."""

    async def _write_echo(self, transport: Transport, data: bytes) -> None:
        with trio.move_on_after(STALL_TIMEOUT):
            async with self._writing:  # a message of our own may be half written
                await self._write(transport, data)
                self._quiet_until = trio.current_time() + ANSWER_GAP
                return
        raise RemoteProtocolError(f"an echo was not read within {STALL_TIMEOUT} s")

    async def converse(self, transport: Transport) -> None:
        """Take what comes from a connection until it ends; then the message under way has failed."""
        failure: Exception = trio.ClosedResourceError("the communicator is closed")
        where = CallInfo(transport.peer, self._rig)
        try:
            await self._receive(transport)
            failure = ConnectionLost("the peer has closed the connection", where)
        except trio.BrokenResourceError as error:
            failure = ConnectionLost(str(error), where)
        except trio.ClosedResourceError:
            failure = ConnectionLost("the connection was closed in the middle of a message", where)
        except RemoteProtocolError as error:
            failure = ConnectionLost(str(error), where)
            self._endpoint.limited_log.warning("%s: connection closed: %s", self._rig, failure)
        finally:
            self.disconnected(transport)
            await transport.aclose()
            self.failed(failure)

    async def _receive(self, transport: Transport) -> None:
        while True:
            with trio.move_on_after(STALL_TIMEOUT if self.exchange.incomplete else math.inf) as limit:
                data = await transport.receive()
            if limit.cancelled_caught:
                raise RemoteProtocolError(f"a message was not continued within {STALL_TIMEOUT} s")
            if not data:
                return
            self.exchange.receive_data(data)
            now = trio.current_time()
            while (received := self.exchange.next_received(now)) is not None:
                if received.echo is not None:
                    await self._write_echo(transport, received.echo)
                self._endpoint.take(received, self.address, self)


class _ServerPeer(TcpPeer):
    """A peer that has connected to us. When the connection is gone, so is the peer."""

    def __init__(
        self, address: Address, endpoint: Endpoint, max_message_size: int, transport: Transport
    ) -> None:
        super().__init__(address, endpoint, max_message_size)
        self._transport = transport

    async def connected(self) -> Transport:
        if self.gone:
            raise ConnectionLost("the connection is gone", CallInfo(self._transport.peer, self._rig))
        return self._transport


class TcpServerEndpoint(Endpoint):
    """Listeners, and a peer for each connection that they have accepted."""

    def __init__(
        self,
        listeners: Sequence[AnyListener],
        max_message_size: int,
        rig: str,
        dedup_window: float,
        deliver: Callable[[Incoming, Address], None],
    ) -> None:
        super().__init__(rig, dedup_window, deliver)
        self._handle = ServerHandle(listeners)
        self._max_message_size = max_message_size
        self._peers: dict[Address, TcpPeer] = {}
        self._unnamed = 0

    @property
    def addresses(self) -> tuple[Address, ...]:
        return self._handle.addresses

    async def run(self, task_status: trio.TaskStatus[None]) -> None:
        try:
            await serve_connections(self._serve, self._handle, HANDSHAKE_TIMEOUT, task_status)
        finally:
            self.limited_log.flush()

    async def _serve(self, connection: Connection) -> None:
        transport = connection.transport
        address = self._address_of(transport)
        peer = _ServerPeer(address, self, self._max_message_size, transport)
        self._peers[address] = peer
        try:
            await peer.converse(transport)
        finally:
            peer.gone = True
            del self._peers[address]

    def _address_of(self, transport: Transport) -> Address:
        host, _, port = transport.peer.rpartition(":")
        if port.isdecimal():
            return host.strip("[]"), int(port)
        self._unnamed += 1  # a stream without addresses
        return transport.peer, self._unnamed

    async def find_peer(self, address: Address | None) -> Peer:
        if address is None:
            raise TypeError("a listener needs the address to send to")
        peer = self._peers.get((address[0], address[1]))
        if peer is None:
            raise ConnectionLost("there is no such connection", CallInfo(format_address(address), self.rig))
        return peer


class TcpClientEndpoint(Endpoint):
    """A connection to one peer, made anew for the next message when it is lost."""

    def __init__(
        self,
        connect: Callable[[], Awaitable[Transport]],
        remote: Address,
        max_message_size: int,
        rig: str,
        dedup_window: float,
        deliver: Callable[[Incoming, Address], None],
        connect_first: bool = True,
    ) -> None:
        super().__init__(rig, dedup_window, deliver)
        self._connect = connect
        self._connect_first = connect_first
        self._peer = _ClientPeer(remote, self, max_message_size)
        self._nursery: trio.Nursery | None = None

    @property
    def addresses(self) -> tuple[Address, ...]:
        return ()

    async def run(self, task_status: trio.TaskStatus[None]) -> None:
        try:
            async with open_background_tasks() as self._nursery:
                if self._connect_first:
                    await self.open()
                task_status.started()
                await trio.sleep_forever()
        finally:
            self._nursery = None
            self.limited_log.flush()

    async def open(self) -> Transport:
        """Connect, and receive from then on.

        Raises:
            OSError: if it cannot be.
        """
        transport = await self._connect()
        if self._nursery is None:
            await transport.aclose()
            raise trio.ClosedResourceError("the communicator is closed")
        self._peer.transport = transport
        self._nursery.start_soon(self._peer.converse, transport)
        return transport

    async def find_peer(self, address: Address | None) -> Peer:
        if address not in (None, self._peer.address):
            raise ValueError(
                f"{self.rig} talks to {format_address(self._peer.address)} only, not to {address}"
            )
        return self._peer


class _ClientPeer(TcpPeer):
    """The peer that we connect to."""

    def __init__(self, address: Address, endpoint: TcpClientEndpoint, max_message_size: int) -> None:
        super().__init__(address, endpoint, max_message_size)
        self._client = endpoint
        self.transport: Transport | None = None

    @property
    def ready(self) -> bool:
        return self.transport is not None and super().ready

    async def connected(self) -> Transport:
        return self.transport if self.transport is not None else await self._client.open()

    def disconnected(self, transport: Transport) -> None:
        if self.transport is transport:
            self.transport = None
            self.exchange.begin_stream()
