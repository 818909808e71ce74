"""Shaking hands over ZMTP: with a peer over any transport, with the clients of a server."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final, TypedDict, Unpack

import trio

from trionet._server import Connection
from trionet._tasks import open_background_tasks
from trionet._transport import Transport
from trionet._zmtp_stream import CLOSED_HERE, ZmtpStream, lost, receive_some
from trionet.wire.errors import CallInfo, ConnectionLost, RemoteProtocolError
from trionet.wire.lines import MAX_MESSAGE_SIZE
from trionet.wire.zmtp import MAX_FRAMES, PeerGreeted, PeerReady, SocketType, ZmtpConnection

#: Seconds that a peer may take by default until it has said who it is. Only programs speak ZMTP.
HANDSHAKE_TIMEOUT: Final = 10.0
# Seconds for telling a peer why it is refused.
_FAREWELL: Final = 1.0
_LEFT_EARLY: Final = (
    "closed by the peer in the ZMTP handshake: it may expect another socket type or mechanism, or speak "
    "another protocol"
)


@contextlib.asynccontextmanager
async def open_zmtp(
    transport: Transport,
    socket_type: SocketType,
    *,
    identity: bytes = b"",
    max_message_size: int = MAX_MESSAGE_SIZE,
    max_frames: int = MAX_FRAMES,
    handshake_timeout: float = HANDSHAKE_TIMEOUT,
    heartbeat_interval: float | None = None,
    heartbeat_timeout: float | None = None,
) -> AsyncIterator[ZmtpStream]:
    """Shake hands with a ZeroMQ peer, ours or libzmq's, and exchange messages with it.

    Args:
        transport: A connection, see `open_transport`. It is owned from now on, and closed at the end.
        socket_type: What this side is.
        identity: What this side calls itself, see `ZmtpConnection`. Use a new one for each connection:
            libzmq ignores a peer whose identity is in use, or was a moment ago.
        max_message_size: The longest message accepted, in bytes; a longer one ends the connection.
        max_frames: The most frames of a message, likewise.
        handshake_timeout: Seconds until the peer must have said who it is.
        heartbeat_interval: Seconds between two PINGs. None to send none, which is libzmq's default; it
            answers them since version 4.2.
        heartbeat_timeout: Seconds of silence that mean the connection is lost, while a task waits in
            `ZmtpStream.receive`; by default three intervals. Without heartbeats nothing is expected of the
            peer, unless it promises a time to live in its own PINGs.

    When the block ends, what is unsent is lost: `ZmtpStream.wait_sent` waits for it.

    Raises:
        ConnectionLost: if the peer leaves while they shake hands.
        RemoteProtocolError: if it speaks something else, or is of a type that does not fit.
        TimeoutError: when the seconds are over.
        ValueError: for an identity or a time that is not allowed.
    """
    try:
        patience = heartbeat_timeout or 3 * (heartbeat_interval or 0)
        if heartbeat_interval is not None and not 0 < heartbeat_interval < patience:
            raise ValueError("heartbeat_timeout must be longer than heartbeat_interval, and that than 0")
        wire = ZmtpConnection(
            socket_type, identity=identity, max_message_size=max_message_size, max_frames=max_frames
        )
        peer_ready = await _shake_hands(transport, wire, handshake_timeout)
        async with open_background_tasks() as nursery:
            zmtp = ZmtpStream(transport, wire, peer_ready, nursery)
            if heartbeat_interval is not None:
                nursery.start_soon(zmtp.send_heartbeats, heartbeat_interval, patience)
            try:
                yield zmtp
            finally:
                zmtp.lose(ConnectionLost(CLOSED_HERE, CallInfo(zmtp.peer)))
    finally:
        await transport.aclose()


async def _shake_hands(transport: Transport, wire: ZmtpConnection, seconds: float) -> PeerReady:
    peer = CallInfo(transport.peer)
    try:
        with trio.move_on_after(seconds):
            return await _wait_ready(transport, wire)
    except RemoteProtocolError as error:
        if wire.refusal:
            with contextlib.suppress(trio.BrokenResourceError), trio.move_on_after(_FAREWELL):
                await transport.send(wire.refusal)
        raise RemoteProtocolError(error.message, peer) from None
    except trio.BrokenResourceError as error:
        raise lost(error, transport.peer) from error
    raise TimeoutError(f"no ZMTP handshake with {transport.peer} within {seconds} s")


async def _wait_ready(transport: Transport, wire: ZmtpConnection) -> PeerReady:
    await transport.send(wire.greet())
    while True:
        event = wire.next_event()
        if isinstance(event, PeerReady):
            return event
        if isinstance(event, PeerGreeted):
            await transport.send(wire.ready())
        elif not await receive_some(transport, wire):
            raise ConnectionLost(_LEFT_EARLY, CallInfo(transport.peer))


class ZmtpOptions(TypedDict, total=False):
    """The options of `open_zmtp`."""

    identity: bytes
    max_message_size: int
    max_frames: int
    handshake_timeout: float
    heartbeat_interval: float | None
    heartbeat_timeout: float | None


def zmtp_handler(
    handle_peer: Callable[[Connection, ZmtpStream], Awaitable[None]],
    socket_type: SocketType,
    logger: logging.Logger,
    **options: Unpack[ZmtpOptions],
) -> Callable[[Connection], Awaitable[None]]:
    """A handler for `serve_connections` that shakes hands with each client, then calls `handle_peer`.

    Why a client is refused, or lost, goes to the log in one line. What else `handle_peer` raises is for
    `serve_connections`.
    """

    async def handle(client: Connection) -> None:
        zmtp: ZmtpStream | None = None
        peer = client.transport.peer
        try:
            async with open_zmtp(client.transport, socket_type, **options) as zmtp:
                await handle_peer(client, zmtp)
        except (ConnectionLost, RemoteProtocolError, TimeoutError) as error:
            if zmtp is not None and error is not zmtp.error:
                raise  # of something else that the handler does
            if isinstance(error, ConnectionLost):
                logger.info("%s: %s", peer, error.message)
            else:
                reason = error.message if isinstance(error, RemoteProtocolError) else error
                logger.warning("%s: connection closed: %s", peer, reason)

    return handle
