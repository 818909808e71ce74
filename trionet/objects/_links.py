"""The connections of one client or server to object servers: opened when a proxy is used first.

A proxy may stand for an object of any server, whoever sent it. Using it makes this process a client there:
that is how callbacks work.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import trio

from trionet._connect import CONNECT_TIMEOUT
from trionet._server import HANDSHAKE_TIMEOUT
from trionet._transport import peer_name
from trionet._zmtp import open_zmtp
from trionet._zmtp_endpoints import address_towards, connect_endpoint, parse_endpoint
from trionet._zmtp_stream import ZmtpStream
from trionet.objects._connection import MAX_BACKLOG, MAX_PENDING_CALLS, ObjectConnection, PendingCall
from trionet.objects._host import ObjectHost
from trionet.objects.proxy import Lease, ObjectProxy
from trionet.wire.errors import CallInfo, ConnectionLost
from trionet.wire.lines import MAX_MESSAGE_SIZE
from trionet.wire.object_values import SERIALIZERS, ProxyReference, refuse_to_refer
from trionet.wire.objects import ReturnType
from trionet.wire.zmtp import MAX_IDENTITY_SIZE, SocketType

# Two connections of one process have different identities: libzmq ignores one that it knows already.
_numbers: Final = itertools.count()


@dataclass(frozen=True, slots=True)
class LinkOptions:
    """The settings of connections, see `open_object_client`."""

    serializer: str = "msgpack"
    connect_timeout: float = CONNECT_TIMEOUT
    handshake_timeout: float = HANDSHAKE_TIMEOUT
    max_message_size: int = MAX_MESSAGE_SIZE
    max_pending_calls: int = MAX_PENDING_CALLS
    max_backlog: int = MAX_BACKLOG
    heartbeat_interval: float | None = None

    def __post_init__(self) -> None:
        if self.serializer not in SERIALIZERS:
            raise ValueError(f"serializer must be one of {', '.join(SERIALIZERS)}, not {self.serializer!r}")


class Links:
    """Connections to object servers, by address.

    Args:
        nursery: For what runs in the background; connections end with it.
        options: Of the connections.
        host: Our own objects, if others may have proxies to them.

    Attributes:
        own_addresses: Where our own objects are served.
    """

    def __init__(self, nursery: trio.Nursery, options: LinkOptions, host: ObjectHost | None) -> None:
        self._nursery = nursery
        self._options = options
        self._host = host
        self.own_addresses: Sequence[str] = ()
        self._connections: dict[str, ObjectConnection] = {}
        self._is_closed = False
        self._opening: dict[str, trio.Lock] = {}
        # Of the servers from which proxies came, references that nothing uses any more.
        self._released: deque[ProxyReference] = deque()
        self._token = trio.lowlevel.current_trio_token()

    @contextlib.asynccontextmanager
    async def open(self, address: str) -> AsyncIterator[ObjectConnection]:
        """Connect to a server, and ask it for a sign of life. Errors are those of `open_object_client`."""
        options = self._options
        transport = await connect_endpoint(parse_endpoint(address), connect_timeout=options.connect_timeout)
        async with (
            open_zmtp(
                transport,
                SocketType.DEALER,
                identity=new_identity(address),
                max_message_size=options.max_message_size,
                handshake_timeout=options.handshake_timeout,
                heartbeat_interval=options.heartbeat_interval,
            ) as zmtp,
            # As the server calls itself, if it is not an address behind others.
            self.open_over(
                zmtp, address, f"tcp://{peer_name(transport.stream)}", stream=transport.stream
            ) as connection,
        ):
            yield connection

    @contextlib.asynccontextmanager
    async def open_over(
        self, zmtp: ZmtpStream, address: str, *aliases: str, stream: trio.abc.Stream | None = None
    ) -> AsyncIterator[ObjectConnection]:
        """The same over a connection that has shaken hands. Aliases are the server's other addresses."""
        options = self._options
        own_address = "" if not self.own_addresses else address_towards(stream, self.own_addresses)
        if self._host is not None and own_address:
            self._host.addresses.add(own_address)
        connection = ObjectConnection(
            zmtp,
            (address, *aliases),
            self,
            self._host,
            own_address=own_address,
            serializer=options.serializer,
            max_pending_calls=options.max_pending_calls,
            max_backlog=options.max_backlog,
        )
        reading = trio.CancelScope()
        try:
            self._nursery.start_soon(_run, connection, reading)
            with trio.move_on_after(options.handshake_timeout) as waiting:
                await connection.request("ping", None, "auto", "ping")
            if waiting.cancelled_caught:
                seconds = options.handshake_timeout
                raise TimeoutError(f"no answer of {address} to a ping within {seconds} s")
            for alias in connection.aliases:
                self._connections.setdefault(alias, connection)
            yield connection
        finally:
            reading.cancel()
            connection.lose("this side has closed the connection", None)

    def live(self, address: str) -> ObjectConnection | None:
        """The connection to an address, if there is one."""
        connection = self._connections.get(address)
        return connection if connection is not None and connection.lost is None else None

    async def connection(self, address: str, name: str) -> ObjectConnection:
        """The connection to an address; a new one if there is none. Errors are those of `open`.

        What was opened explicitly and is lost is not opened again: with the connection, the proxies that came
        through it are of no more use.
        """
        found = self.live(address)
        if found is not None:
            return found
        if self._is_closed or address in self._connections:
            raise self._lost(address, name)
        opening = self._opening.setdefault(address, trio.Lock())
        try:
            async with opening:
                return self.live(address) or await self._nursery.start(self._keep, address)
        finally:
            if not opening.locked():  # nobody is next
                self._opening.pop(address, None)

    @trio.lowlevel.enable_ki_protection  # Ctrl-C is for the program, not for tasks that it does not see
    async def _keep(self, address: str, task_status: trio.TaskStatus[ObjectConnection]) -> None:
        async with self.open(address) as connection:
            task_status.started(connection)
            try:
                await connection.disconnected.wait()
            finally:
                for alias in connection.aliases:
                    if self._connections.get(alias) is connection:
                        del self._connections[alias]

    # -- what proxies need -----------------------------------------------------------------------------

    async def request(
        self, address: str, action: str, options: dict[str, Any], return_type: ReturnType, name: str
    ) -> Any:
        connection = self.live(address)
        if connection is None:
            await trio.lowlevel.checkpoint_if_cancelled()  # it may be lost because all of this is cancelled
            connection = await self.connection(address, name)
        return await connection.request(action, options, return_type, name)

    def start(
        self, address: str, action: str, options: dict[str, Any], return_type: ReturnType, name: str
    ) -> PendingCall:
        return self._need(address, name).start(action, options, return_type, name)

    def notify(self, address: str, action: str, options: dict[str, Any], name: str) -> None:
        self._need(address, name).notify(action, options, name)

    def _need(self, address: str, name: str) -> ObjectConnection:
        found = self.live(address)
        if found is None:
            raise self._lost(address, name)
        return found

    def _lost(self, address: str, name: str) -> ConnectionLost:
        known = self._connections.get(address)
        if known is not None and known.lost is not None:
            reason, cause = known.lost, known.lost_cause
        else:
            reason, cause = "there is no connection to this server", None
        error = ConnectionLost(reason, CallInfo(address, None, name))
        error.__cause__ = cause
        return error

    def close(self) -> None:
        """No more connections are opened."""
        self._is_closed = True

    def proxy(self, reference: ProxyReference, owner: ObjectConnection | None) -> Any:
        """What stands for an object; it is released when nothing uses it, if its owner has sent it."""
        return ObjectProxy(self, reference, None if owner is None else Lease(reference, self.give_back))

    def refuse(self, value: Any) -> ProxyReference:
        """Raise TypeError: there is no server of ours that could own an argument."""
        return refuse_to_refer(value)

    def give_back(self, reference: ProxyReference) -> None:
        """Release a reference. From any thread, at any time: it may be the garbage collector that calls."""
        self._released.append(reference)
        self._token.run_sync_soon(self._send_released, idempotent=True)

    def _send_released(self) -> None:
        while self._released:
            reference = self._released.popleft()
            connection = self.live(reference.address)
            if connection is not None:
                connection.release(reference.object_id, reference.reference_id)


@trio.lowlevel.enable_ki_protection
async def _run(connection: ObjectConnection, scope: trio.CancelScope) -> None:
    with scope:
        await connection.run()


def new_identity(address: str) -> bytes:
    """As pyacq builds it: host, process, thread and address. There is one for each connection."""
    name = f"{socket.gethostname()}.process-{os.getpid()}.connection-{next(_numbers)}:{address}"
    return name.encode()[:MAX_IDENTITY_SIZE]
