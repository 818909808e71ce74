"""Broadcasting: objects for whoever listens on a channel, ours and sipyco's.

A receiver is no subscriber: it gets what is broadcast while it is connected, and of that what it keeps up
with. Where the state at the end matters, publish it: `serve_publisher`.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import random
import threading
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import trio
from trio_util import AsyncBool

from trionet._arguments import check_seconds
from trionet._backoff import FIRST_RETRY, MAX_RETRY, Backoff
from trionet._connect import CONNECT_TIMEOUT, connector
from trionet._feeds import FeedReader, wait_client_left, wait_name
from trionet._server import (
    HANDSHAKE_TIMEOUT,
    AnyListener,
    Connection,
    Hosts,
    ServerHandle,
    open_listeners,
    serve_connections,
)
from trionet._tasks import open_background_tasks
from trionet._tls import TLSConfig
from trionet._transport import Transport, format_address
from trionet.wire.broadcast import BANNER
from trionet.wire.feeds import FeedClient, PyonVersion, check_pyon_version, encode_line, encode_name
from trionet.wire.lines import MAX_MESSAGE_SIZE

logger = logging.getLogger("trionet.broadcast")

#: Objects that may wait for one receiver by default, as upstream.
MAX_BACKLOG: Final = 1024

# Lines are put together up to this many bytes before they are sent.
_CHUNK: Final = 64 * 1024


class _Receiver:
    """A receiver that is connected, as the broadcaster sees it."""

    def __init__(self, peer: str, channel: str, pyon_version: PyonVersion) -> None:
        self.peer = peer
        self.channel = channel
        self.pyon_version = pyon_version
        self.waiting: deque[bytes] = deque()
        self.dropped = 0
        self.dropping = False
        self.changed = trio.lowlevel.ParkingLot()


class Broadcaster:
    """Sends objects to the receivers of a channel. It is served by `serve_broadcaster`.

    A broadcaster without a server, and a channel without receivers, take every object and forget it.

    Args:
        max_backlog: Objects that may wait for a receiver which does not keep up. Then it does not get the
            newest ones: the log of ``trionet.broadcast`` says so when that begins and when it ends, and
            ``statistics()`` of the server has the count.

    Raises:
        ValueError: if not even one object may wait.
    """

    def __init__(self, max_backlog: int = MAX_BACKLOG) -> None:
        if max_backlog < 1:
            raise ValueError(f"at least one object must be able to wait, not {max_backlog}")
        self._max_backlog = max_backlog
        self._channels: dict[str, list[_Receiver]] = {}
        self._joined_lot = trio.lowlevel.ParkingLot()
        # Where it is served, and how often.
        self._thread: int | None = None
        self._servers = 0

    def broadcast(self, channel: str, value: Any) -> None:
        """Send an object to all receivers of a channel. It is encoded once, and not at all without any.

        Raises:
            TypeError: if PYON cannot carry it (ValueError likewise). Nobody gets it then. Also for a channel
                that no receiver could ask for.
            RuntimeError: in another thread than the one it is served in: use ``trio.from_thread.run_sync``.
        """
        if self._thread not in (None, threading.get_ident()):
            raise RuntimeError(
                "this broadcaster is served by a Trio run in another thread: "
                "use it there, with trio.from_thread.run_sync"
            )
        receivers = self._channels.get(channel, ())
        if not receivers:
            encode_name(channel)  # nobody ever will, if it is no name
        lines = {version: encode_line(value, version) for version in {one.pyon_version for one in receivers}}
        for receiver in receivers:
            self._put(receiver, lines[receiver.pyon_version])

    async def wait_receivers(self, channel: str, count: int = 1) -> None:
        """Wait until at least so many receivers listen on a channel: who connects has to say so first."""
        await trio.lowlevel.checkpoint()
        while len(self._channels.get(channel, ())) < count:
            await self._joined_lot.park()

    def _put(self, receiver: _Receiver, line: bytes) -> None:
        if len(receiver.waiting) < self._max_backlog:
            receiver.waiting.append(line)
            receiver.changed.unpark_all()
            return
        receiver.dropped += 1
        if not receiver.dropping:
            receiver.dropping = True
            logger.warning(
                "%s: %d objects behind on channel %r; as long as it is, further ones are left out",
                receiver.peer,
                self._max_backlog,
                receiver.channel,
            )

    def _take(self, receiver: _Receiver) -> bytes:
        """What a receiver is to be sent next; b"" if nothing is."""
        size, lines = 0, []
        while receiver.waiting and size < _CHUNK:
            line = receiver.waiting.popleft()
            lines.append(line)
            size += len(line)
        if receiver.dropping and not receiver.waiting:
            receiver.dropping = False
            logger.warning(
                "%s: has caught up on channel %r, %d objects have been left out so far",
                receiver.peer,
                receiver.channel,
                receiver.dropped,
            )
        return lines[0] if len(lines) == 1 else b"".join(lines)

    @contextlib.contextmanager
    def _joined(self, receiver: _Receiver) -> Iterator[None]:
        receivers = self._channels.setdefault(receiver.channel, [])
        receivers.append(receiver)
        self._joined_lot.unpark_all()
        try:
            yield
        finally:
            receivers.remove(receiver)
            if not receivers:
                del self._channels[receiver.channel]

    @contextlib.contextmanager
    def _served(self) -> Iterator[None]:
        here = threading.get_ident()
        if self._thread not in (None, here):
            raise RuntimeError("this broadcaster is served in another thread already")
        self._thread = here
        self._servers += 1
        try:
            yield
        finally:
            self._servers -= 1
            if not self._servers:
                self._thread = None

    @property
    def _receivers(self) -> list[_Receiver]:
        return [receiver for receivers in self._channels.values() for receiver in receivers]


@dataclass(frozen=True, slots=True)
class ReceiverStatistics:
    """How a receiver keeps up.

    Attributes:
        peer: Its address.
        channel: What it listens to.
        waiting: Objects that wait for it.
        dropped: Objects that it did not get, because too many were waiting.
    """

    peer: str
    channel: str
    waiting: int
    dropped: int


@dataclass(frozen=True, slots=True)
class BroadcastStatistics:
    """What a broadcast server does.

    Attributes:
        connections: Clients connected now.
        accepted: Clients connected so far.
        receivers: Those that listen to a channel of the broadcaster, whichever server they came by.
    """

    connections: int
    accepted: int
    receivers: tuple[ReceiverStatistics, ...]


class BroadcastServer(ServerHandle):
    """Handle of a running broadcast server: see `ServerHandle`."""

    def __init__(self, listeners: list[AnyListener], broadcaster: Broadcaster) -> None:
        super().__init__(listeners)
        self._broadcaster = broadcaster

    def statistics(self) -> BroadcastStatistics:
        """Counters since the start, and how each receiver keeps up."""
        receivers = tuple(
            ReceiverStatistics(one.peer, one.channel, len(one.waiting), one.dropped)
            for one in self._broadcaster._receivers
        )
        return BroadcastStatistics(self.connections, self.accepted, receivers)


async def serve_broadcaster(
    broadcaster: Broadcaster,
    port: int,
    *,
    pyon_version: PyonVersion = 2,
    handshake_timeout: float = HANDSHAKE_TIMEOUT,
    host: Hosts = "127.0.0.1",
    ssl_context: TLSConfig | None = None,
    listeners: list[AnyListener] | None = None,
    task_status: trio.TaskStatus[BroadcastServer] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Let receivers connect to a broadcaster until cancelled.

    Use it with ``server = await nursery.start(serve_broadcaster, broadcaster, 3252)``; the value is a
    `BroadcastServer` with ``addresses``, ``cancel_scope``, ``aclose(grace=...)`` and ``statistics()``.

    Args:
        broadcaster: What they receive from. It can be served on several ports of one Trio run.
        port: TCP port; 0 for a free one, see ``addresses``.
        pyon_version: 1 for receivers of sipyco before 1.10; there is no negotiation.
        handshake_timeout: Seconds a client may take to say what it wants, and before that for TLS.
        host: Address to listen on, several, or None for all interfaces. Loopback by default.
        ssl_context: Speak TLS; see `TLSIdentity`.
        listeners: Serve on these instead of opening some; they are closed at the end.
        task_status: Reports the handle once clients can connect.

    Raises:
        OSError: if an address cannot be listened on.
        ValueError: for a PYON version, a port or a time that there is not.
        RuntimeError: if the broadcaster is served in another thread already.

    Errors: a client that breaks the protocol is disconnected, with one line in the log of
    ``trionet.broadcast``; others do not notice.

    Cancellation: connections are closed; objects that have not been sent are lost.
    """
    check_pyon_version(pyon_version)
    check_seconds("handshake_timeout", handshake_timeout)
    with broadcaster._served():
        handle = BroadcastServer(await open_listeners(host, port, ssl_context, listeners), broadcaster)
        handler = functools.partial(_serve_client, broadcaster, pyon_version, handshake_timeout)
        await serve_connections(handler, handle, handshake_timeout, task_status)


@trio.lowlevel.enable_ki_protection  # Ctrl-C is for the program, not for tasks that it does not see
async def _serve_client(
    broadcaster: Broadcaster, pyon_version: PyonVersion, handshake_timeout: float, client: Connection
) -> None:
    transport = client.transport
    channel = await wait_name(transport, BANNER, handshake_timeout, logger)
    if channel is None:
        return
    receiver = _Receiver(transport.peer, channel, pyon_version)
    with broadcaster._joined(receiver):
        async with open_background_tasks() as nursery:
            nursery.start_soon(wait_client_left, transport, nursery.cancel_scope)
            client.drain = receiver.changed.unpark_all
            while not client.draining or receiver.waiting:
                if chunk := broadcaster._take(receiver):
                    await transport.send(chunk)
                else:
                    await receiver.changed.park()


class BroadcastReceiver:
    """What is broadcast on a channel: ``async for value in receiver``. Made by `open_broadcast_receiver`.

    Attributes:
        connected: Whether there is a connection. Read it, do not set it.
        peer: The server's address.
        channel: The name of the channel.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[Transport]],
        *,
        peer: str,
        channel: str,
        backoff: Backoff | None,
        pyon_version: PyonVersion | None,
        max_message_size: int,
    ) -> None:
        self.peer = peer
        self.channel = channel
        self._reader = FeedReader[tuple[Any]](
            connect,
            lambda: FeedClient(BANNER, max_message_size, pyon_version),
            _take_value,
            name=channel,
            peer=peer,
            backoff=backoff,
            answer_timeout=None,
            logger=logger,
        )
        self._reader.take_over()
        self.connected: AsyncBool = self._reader.connected

    def running(self) -> contextlib.AbstractAsyncContextManager[None]:
        """The block that `open_broadcast_receiver` gives, for those who bring their own connection."""
        return self._reader.running()

    def __aiter__(self) -> BroadcastReceiver:
        return self

    async def __anext__(self) -> Any:
        """Wait for the next object. Cancelled, it has taken none.

        Raises:
            ConnectionLost: without ``reconnect``, when the connection is lost and all that came before has
                been taken. RemoteProtocolError likewise.
        """
        return (await self._reader.next_item())[0]


def _take_value(wire: FeedClient) -> tuple[Any] | None:
    came, value = wire.next_value()
    return (value,) if came else None


@contextlib.asynccontextmanager
async def open_broadcast_receiver(
    host: str,
    port: int,
    channel: str,
    *,
    reconnect: bool = True,
    first_retry: float = FIRST_RETRY,
    max_retry: float = MAX_RETRY,
    rng: random.Random | None = None,
    pyon_version: PyonVersion | None = None,
    ssl_context: TLSConfig | None = None,
    connect_timeout: float = CONNECT_TIMEOUT,
    max_message_size: int = MAX_MESSAGE_SIZE,
) -> AsyncIterator[BroadcastReceiver]:
    """Listen to a channel: ``async with open_broadcast_receiver("master", 1067, "log") as log:``.

    The block begins when the connection is there. Objects that come are kept for the loop that takes them:
    some 256 kB, and what the system's buffers hold; then the server has to leave some out.

    Args:
        host: Name or address of the server.
        port: Its port.
        channel: Name of the channel. The server does not say whether anybody uses it.
        reconnect: Connect again whenever the connection is lost, and if there is none at first; the reasons
            go to the log of ``trionet.broadcast``, once per outage. What is broadcast meanwhile is lost.
        first_retry: Seconds before the first attempt to connect again, see `max_retry`.
        max_retry: The delay doubles with each attempt, up to these seconds, and is shortened by up to a half
            at random.
        rng: The source of that randomness; by default one of its own.
        pyon_version: What the server speaks: 2 since sipyco 1.10, 1 before; None to find out.
        ssl_context: Speak TLS; see `TLSIdentity`.
        connect_timeout: Seconds for the connection, all addresses of the name and TLS included.
        max_message_size: Longest line accepted, in bytes; a longer one ends the connection.

    Raises:
        ValueError: for a `channel` that no line can carry, a port that there cannot be, or delays that make
            no sense.
        OSError: without `reconnect`, if the server cannot be reached: ConnectionRefusedError, ...
    """
    receiver = BroadcastReceiver(
        connector(host, port, ssl_context=ssl_context, connect_timeout=connect_timeout),
        peer=format_address((host, port)),
        channel=channel,
        backoff=Backoff(first_retry, max_retry, rng) if reconnect else None,
        pyon_version=pyon_version,
        max_message_size=max_message_size,
    )
    async with receiver.running():
        yield receiver
