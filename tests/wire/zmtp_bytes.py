"""ZMTP written by hand, and connections that have shaken hands."""

from __future__ import annotations

from trionet.wire.zmtp import Event, SocketType, ZmtpConnection

GREETING = bytes.fromhex("ff 00 00 00 00 00 00 00 01 7f 03 01") + b"NULL" + bytes(16 + 32)
DEALER_READY = b"\x04\x29\x05READY\x0bSocket-Type\0\0\0\x06DEALER\x08Identity\0\0\0\0"
ROUTER_READY = b"\x04\x29\x05READY\x0bSocket-Type\0\0\0\x06ROUTER\x08Identity\0\0\0\0"
PING = b"\x04\x09\x04PING\x00\x0ahi"
PONG = b"\x04\x07\x04PONGhi"


def ready_of(socket_type: bytes) -> bytes:
    """READY of a type without identity."""
    length = len(socket_type)
    return bytes([4, 22 + length]) + b"\x05READY\x0bSocket-Type\0\0\0" + bytes([length]) + socket_type


def command(name: bytes, data: bytes = b"") -> bytes:
    """A short command."""
    return bytes([4, 1 + len(name) + len(data), len(name)]) + name + data


def short(body: bytes, flags: int = 0) -> bytes:
    """A short frame."""
    return bytes([flags, len(body)]) + body


def long(body: bytes, flags: int = 0, length: int | None = None) -> bytes:
    """A frame with a long header, which may announce another length."""
    announced = len(body) if length is None else length
    return bytes([flags | 2]) + announced.to_bytes(8, "big") + body


def events_of(connection: ZmtpConnection, data: bytes = b"") -> list[Event]:
    """The events that some data make."""
    connection.receive_data(data)
    events: list[Event] = []
    while (event := connection.next_event()) is not None:
        events.append(event)
    return events


def ready_connection(
    socket_type: SocketType = SocketType.ROUTER,
    *,
    partner: bytes = b"DEALER",
    max_message_size: int = 10_000_000,
    max_frames: int = 1024,
) -> ZmtpConnection:
    """A connection in which both sides have said READY."""
    connection = ZmtpConnection(socket_type, max_message_size=max_message_size, max_frames=max_frames)
    connection.greet()
    events_of(connection, GREETING)
    connection.ready()
    events_of(connection, ready_of(partner))
    return connection
