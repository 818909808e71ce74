"""Experiment messages in TCP connections."""

from __future__ import annotations

import functools
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
from trionet.rig._endpoint import Endpoint, Owner
from trionet.rig._outbox import STALL_TIMEOUT, Outbox
from trionet.rig._peer import Peer
from trionet.wire.errors import CallInfo, ConnectionLost, LocalProtocolError, RemoteProtocolError
from trionet.wire.rig import StreamExchange

#: Seconds of silence before a message of our own that follows an echo, or something else that nobody
#: confirms. Upstream takes one read for one message, so what comes right behind another one breaks it.
ANSWER_GAP: Final = 0.02


class TcpPeer(Peer):
    """A peer at the other end of a connection.

    Args:
        max_message_size: The longest message, in bytes, either way.
    """

    exchange: StreamExchange

    def __init__(self, address: Address, endpoint: Endpoint, max_message_size: int) -> None:
        owner = endpoint.owner
        exchange = StreamExchange(max_message_size, owner.dedup_window)
        super().__init__(address, exchange, owner.name, ANSWER_GAP)
        self._endpoint = endpoint
        self._max_message_size = max_message_size
        self._outbox: Outbox | None = None

    @property
    def connected(self) -> bool:
        """Whether there is a connection."""
        return self._outbox is not None

    @property
    def ready(self) -> bool:
        return self.connected and super().ready

    def check_size(self, data: bytes) -> None:
        if len(data) > self._max_message_size:
            raise LocalProtocolError(
                f"a message of {len(data)} bytes is too long: {self._max_message_size} at most"
            )

    async def send(self, data: bytes) -> None:
        await super().send(data)
        self.keep_quiet()

    async def transmit(self, data: bytes) -> None:
        await self.wait_quiet()
        outbox = self._outbox
        if outbox is None:
            raise ConnectionLost("the connection is gone", self._where())
        try:
            await outbox.wait_below(self._max_message_size)
            outbox.write(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise ConnectionLost(str(outbox.failure or error), self._where()) from error

    def connect(self, transport: Transport) -> Outbox:
        """Send over this connection from now on."""
        self._outbox = Outbox(transport)
        return self._outbox

    @trio.lowlevel.enable_ki_protection
    async def converse(self, outbox: Outbox, *, once: bool) -> None:
        """Take what comes from a connection until it ends; then the message under way has failed.

        Args:
            outbox: Of the connection.
            once: Whether there will be no other one.
        """
        failure: Exception = trio.ClosedResourceError("the communicator is closed")
        try:
            async with open_background_tasks() as nursery:
                nursery.start_soon(outbox.run)
                await self._receive(outbox)
                await outbox.wait_below(0)
            failure = ConnectionLost("the peer has closed the connection", self._where())
        except (trio.BrokenResourceError, trio.ClosedResourceError, RemoteProtocolError) as error:
            reason = outbox.failure or error
            failure = ConnectionLost(str(reason), self._where())
            if isinstance(reason, RemoteProtocolError):
                self._endpoint.limited_log.warning("%s: connection closed: %s", self._rig, failure)
        finally:
            # Before anything is awaited: a new connection is none of our business.
            self._outbox = None
            self.gone = once
            self.exchange.begin_stream()
            self.failed(failure)
            if isinstance(failure, ConnectionLost):
                self.lost(failure)
            await outbox.transport.aclose()

    def lost(self, failure: ConnectionLost) -> None:
        """The connection is gone, and not because this side has closed it."""

    async def _receive(self, outbox: Outbox) -> None:
        while True:
            data = await self._receive_piece(outbox.transport)
            if not data:
                return
            self.exchange.receive_data(data)
            while (received := self.exchange.next_received(trio.current_time())) is not None:
                if received.echo is not None:
                    outbox.write(received.echo)
                    self.keep_quiet()
                self._endpoint.take(received, self.address, self)
                await outbox.wait_below(self._max_message_size)
                # There may be thousands, and a round between two lets their callbacks begin in order.
                await trio.lowlevel.checkpoint()

    async def _receive_piece(self, transport: Transport) -> bytes:
        if not self.exchange.incomplete:
            return await transport.receive()
        with trio.move_on_after(STALL_TIMEOUT):
            return await transport.receive()
        raise RemoteProtocolError(f"a message was not continued within {STALL_TIMEOUT} s")

    def _where(self) -> CallInfo:
        return CallInfo(format_address(self.address), rig=self._rig)


class TcpServerEndpoint(Endpoint):
    """Listeners, and a peer for each connection that they have accepted."""

    def __init__(self, listeners: Sequence[AnyListener], max_message_size: int, owner: Owner) -> None:
        super().__init__(owner)
        self._handle = ServerHandle(listeners)
        self._max_message_size = max_message_size
        self._peers: dict[Address, TcpPeer] = {}
        self._unnamed = 0

    @property
    def addresses(self) -> tuple[Address, ...]:
        return self._handle.addresses

    @property
    def connected(self) -> bool:
        return bool(self._peers)

    async def _run(self, task_status: trio.TaskStatus[None]) -> None:
        await serve_connections(self._serve, self._handle, HANDSHAKE_TIMEOUT, task_status)

    @trio.lowlevel.enable_ki_protection
    async def _serve(self, connection: Connection) -> None:
        address = self._address_of(connection.transport)
        peer = TcpPeer(address, self, self._max_message_size)
        self._peers[address] = peer
        try:
            await peer.converse(peer.connect(connection.transport), once=True)
        finally:
            if self._peers.get(address) is peer:
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
            where = CallInfo(format_address(address), rig=self.owner.name)
            raise ConnectionLost("there is no such connection", where)
        return peer


class TcpClientEndpoint(Endpoint):
    """A connection to one peer, made anew for the next message when it is lost."""

    def __init__(
        self,
        connect: Callable[[], Awaitable[Transport]],
        remote: Address,
        max_message_size: int,
        owner: Owner,
        *,
        connect_first: bool,
    ) -> None:
        super().__init__(owner)
        self._connect = connect
        self._connect_first = connect_first
        self._peer = _ClientPeer(remote, self, max_message_size)
        self._nursery: trio.Nursery | None = None

    @property
    def addresses(self) -> tuple[Address, ...]:
        return ()

    @property
    def connected(self) -> bool:
        return self._peer.connected

    async def _run(self, task_status: trio.TaskStatus[None]) -> None:
        async with open_background_tasks() as self._nursery:
            if self._connect_first:
                await self._peer.prepare()
            task_status.started()
            await trio.sleep_forever()

    async def open_connection(self) -> None:
        """Connect, and receive from then on.

        Raises:
            OSError: if it cannot be.
        """
        transport = await self._connect()
        if self._nursery is None or self._nursery.cancel_scope.cancel_called:
            await transport.aclose()
            raise trio.ClosedResourceError("the communicator is closed")
        self.owner.connected()
        outbox = self._peer.connect(transport)
        self._nursery.start_soon(functools.partial(self._peer.converse, outbox, once=False))

    async def find_peer(self, address: Address | None) -> Peer:
        if address not in (None, self._peer.address):
            raise ValueError(
                f"{self.owner.name} talks to {format_address(self._peer.address)} only, not to {address}"
            )
        return self._peer


class _ClientPeer(TcpPeer):
    """The peer that we connect to."""

    def __init__(self, address: Address, endpoint: TcpClientEndpoint, max_message_size: int) -> None:
        super().__init__(address, endpoint, max_message_size)
        self._client = endpoint
        self._connecting = trio.Lock()

    async def prepare(self) -> None:
        if self._outbox is None:
            async with self._connecting:
                if self._outbox is None:  # nobody else has connected meanwhile
                    await self._client.open_connection()

    def lost(self, failure: ConnectionLost) -> None:
        self._client.owner.lost(failure)
