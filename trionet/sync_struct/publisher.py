"""Publishing structures: each change is sent to every subscriber, ours and sipyco's."""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import trio

from trionet._arguments import check_named, check_seconds
from trionet._feeds import wait_client_left, wait_name
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
from trionet.sync_struct._channel import Channel, Subscriber
from trionet.sync_struct.notifier import ModSink, Notifier
from trionet.wire.feeds import PyonVersion, check_pyon_version, encode_name
from trionet.wire.sync_struct import BANNER

logger = logging.getLogger("trionet.sync_struct")

#: Bytes of changes that may wait for one subscriber by default: minutes of a lively dataset, and little
#: memory for a server.
MAX_BACKLOG: Final = 16 * 2**20


@dataclass(frozen=True, slots=True)
class SubscriberStatistics:
    """How a subscriber keeps up.

    Attributes:
        peer: Its address.
        name: What it has subscribed to.
        lag: Changes that it has not been sent.
        backlog: Bytes that wait for it, or are being sent.
        resyncs: How often it was too far behind, so that it got, or will get, the whole structure again.
    """

    peer: str
    name: str
    lag: int
    backlog: int
    resyncs: int


@dataclass(frozen=True, slots=True)
class PublisherStatistics:
    """What a publisher does.

    Attributes:
        connections: Clients connected now.
        accepted: Clients connected so far.
        subscribers: Those of them that have subscribed to something.
    """

    connections: int
    accepted: int
    subscribers: tuple[SubscriberStatistics, ...]


class Publisher(ServerHandle):
    """Handle of a running publisher: see `ServerHandle`."""

    def __init__(self, listeners: list[AnyListener], channels: Mapping[str, Channel]) -> None:
        super().__init__(listeners)
        self._channels = channels

    def sink(self, name: str) -> ModSink:
        """Where changes go that are made in a structure, but not through its notifier.

        For each: `prepare`, then the change, then `publish`, without a checkpoint in between.
        """
        return self._channels[name]

    def statistics(self) -> PublisherStatistics:
        """Counters since the start, and how each subscriber keeps up."""
        subscribers = tuple(
            SubscriberStatistics(
                subscriber.peer,
                name,
                channel.lag(subscriber),
                channel.backlog(subscriber),
                subscriber.resyncs,
            )
            for name, channel in self._channels.items()
            for subscriber in channel.subscribers
        )
        return PublisherStatistics(self.connections, self.accepted, subscribers)


async def serve_publisher(
    notifiers: Mapping[str, Notifier],
    port: int,
    *,
    max_backlog: int = MAX_BACKLOG,
    pyon_version: PyonVersion = 2,
    handshake_timeout: float = HANDSHAKE_TIMEOUT,
    host: Hosts = "127.0.0.1",
    ssl_context: TLSConfig | None = None,
    listeners: list[AnyListener] | None = None,
    task_status: trio.TaskStatus[Publisher] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Publish structures until cancelled.

    Use it with ``publisher = await nursery.start(serve_publisher, {"datasets": datasets}, 3250)``; the value
    is a `Publisher` with ``addresses``, ``cancel_scope``, ``aclose(grace=...)`` and ``statistics()``.

    Args:
        notifiers: The structures by name. Each is published by this publisher only, as long as it runs.
        port: TCP port; 0 for a free one, see ``addresses``.
        max_backlog: Bytes of changes that may wait for a subscriber that does not keep up. Then they are
            forgotten, and when it has taken what is on its way it gets the whole structure again, which
            every subscriber, of sipyco too, takes for the present state. So it is with all of them after a
            burst of more than this between two checkpoints. The changes are kept once for all subscribers,
            so this is the limit for all of them together.
        pyon_version: 1 for subscribers of sipyco before 1.10, and of ARTIQ before that. There is no
            negotiation: with the wrong version they misread most of what is not plain JSON.
        handshake_timeout: Seconds a client may take to say what it wants, and before that for TLS.
        host: Address to listen on, several, or None for all interfaces. Loopback by default.
        ssl_context: Speak TLS; see `TLSIdentity`.
        listeners: Serve on these instead of opening some; they are closed at the end.
        task_status: Reports the handle once clients can connect.

    Raises:
        OSError: if an address cannot be listened on.
        RuntimeError: if a notifier is published already.
        TypeError: if `notifiers` is no mapping, or something in it no `Notifier`.
        ValueError: for a name with a line feed, a `max_backlog` or a time below 0, a port that there cannot
            be, or an unknown PYON version.

    Errors: a client that wants what is not published, or breaks the protocol, is disconnected with one line
    in the log of ``trionet.sync_struct``, and so is a subscriber of a structure that PYON cannot carry.
    Others do not notice.

    Cancellation: connections are closed; changes that have not been sent are lost.
    """
    check_pyon_version(pyon_version)
    check_seconds("handshake_timeout", handshake_timeout)
    if max_backlog < 0:
        raise ValueError(f"max_backlog must be at least 0, not {max_backlog}")
    check_named("notifiers", notifiers, "notifiers")
    for name, notifier in notifiers.items():
        encode_name(name)
        if not isinstance(notifier, Notifier):
            raise TypeError(f"{name!r} must be a Notifier, not a {type(notifier).__name__}")
    channels: dict[str, Channel] = {}
    try:
        for name, notifier in notifiers.items():
            channel = Channel(name, notifier, pyon_version, max_backlog)
            notifier.attach(channel)
            channels[name] = channel
        handle = Publisher(await open_listeners(host, port, ssl_context, listeners), channels)
        handler = functools.partial(_serve_client, channels, handshake_timeout)
        await serve_connections(handler, handle, handshake_timeout, task_status)
    finally:
        for name in channels:
            notifiers[name].detach()


@trio.lowlevel.enable_ki_protection  # Ctrl-C is for the program, not for tasks that it does not see
async def _serve_client(
    channels: Mapping[str, Channel], handshake_timeout: float, client: Connection
) -> None:
    transport = client.transport
    name = await wait_name(transport, BANNER, handshake_timeout, logger)
    if name is None:
        return
    channel = channels.get(name)
    if channel is None:
        logger.warning("%s: connection closed: there is no notifier %r", transport.peer, name[:40])
        return
    subscriber = channel.join(transport.peer)
    try:
        async with open_background_tasks() as nursery:
            nursery.start_soon(wait_client_left, transport, nursery.cancel_scope)
            await _feed(client, channel, subscriber)
    finally:
        channel.leave(subscriber)


async def _feed(client: Connection, channel: Channel, subscriber: Subscriber) -> None:
    """Send what there is to send, until the server is drained."""
    client.drain = channel.wake
    while True:
        try:
            chunk = channel.take(subscriber)
        except (TypeError, ValueError) as error:
            logger.error(
                "%s: connection closed: %r holds what PYON cannot carry: %s",
                subscriber.peer,
                channel.name,
                error,
            )
            return
        if chunk is not None:
            await client.transport.send(chunk)
        elif client.draining:
            return
        else:
            await channel.wait_changed()
