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
from trionet._zmtp_stream import ZmtpStream
from trionet.wire.errors import ConnectionLost, RemoteProtocolError
from trionet.wire.lines import MAX_MESSAGE_SIZE
from trionet.wire.zmtp import MAX_FRAMES, SocketType, ZmtpConnection

#: Seconds that a peer may take by default until it has said who it is. Only programs speak ZMTP.
HANDSHAKE_TIMEOUT: Final = 10.0


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
        async with open_background_tasks() as nursery:
            zmtp = ZmtpStream(transport, wire, nursery)
            with trio.move_on_after(handshake_timeout) as handshake:
                await zmtp.shake_hands()
            if handshake.cancelled_caught:
                raise TimeoutError(f"no ZMTP handshake with {zmtp.peer} within {handshake_timeout} s")
            if heartbeat_interval is not None:
                nursery.start_soon(zmtp.send_heartbeats, heartbeat_interval, patience)
            try:
                yield zmtp
            finally:
                zmtp.close()
    finally:
        await transport.aclose()


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
