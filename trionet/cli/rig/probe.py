"""What comes back from a place, seen without a communicator: when it has not understood what came."""

from __future__ import annotations

import contextlib
import errno
import ssl
import sys
from dataclasses import dataclass
from typing import Final

import trio

#: What is sent: a ping, as communicators send it.
QUESTION: Final = b"[ 32 ]"

# Bytes and datagrams that are looked at.
_MOST: Final = 65_536
_MANY: Final = 100


@dataclass(frozen=True, slots=True)
class Heard:
    """Something that has come back.

    Attributes:
        data: The bytes.
        source: Host and port.
    """

    data: bytes
    source: tuple[str, int]


async def is_here(address: str, port: int) -> bool:
    """Whether an IP address is one of this machine's."""
    with _udp_socket(address) as sock, contextlib.suppress(OSError):
        await sock.bind((address, 0))
        await sock.connect((address, port))  # the address of a whole network can be bound, too
        return True
    return False


async def is_taken(address: str, port: int) -> bool | None:
    """Whether a program on this machine has a UDP port; None if the system does not let us know."""
    try:
        with _udp_socket(address) as sock:
            await sock.bind((address, port))
    except OSError as error:
        # Windows: a program that wants the port for itself alone
        taken = (errno.EADDRINUSE, errno.EACCES) if sys.platform == "win32" else (errno.EADDRINUSE,)
        return True if error.errno in taken else None
    return False


def _udp_socket(address: str) -> trio.socket.SocketType:
    family = trio.socket.AF_INET6 if ":" in address else trio.socket.AF_INET
    return trio.socket.socket(family, trio.socket.SOCK_DGRAM)


async def ask_udp(address: str, port: int, seconds: float) -> list[Heard]:
    """Send the question from a socket that hears everyone, and take what comes until the echo has."""
    heard: list[Heard] = []
    with _udp_socket(address) as sock, trio.move_on_after(seconds), contextlib.suppress(OSError):
        await sock.sendto(QUESTION, (address, port))
        while len(heard) < _MANY and (not heard or heard[-1].data != QUESTION):
            data, source = await sock.recvfrom(_MOST)
            heard.append(Heard(data, (str(source[0]), int(source[1]))))
    return heard


async def ask_tcp(host: str, port: int, context: ssl.SSLContext | None, seconds: float) -> bytes:
    """Connect, send the question, and take what comes until the connection ends or time is up."""
    received = b""
    with trio.move_on_after(seconds), contextlib.suppress(OSError, trio.BrokenResourceError):
        async with await trio.open_tcp_stream(host, port) as tcp:
            stream: trio.abc.Stream = tcp
            if context is not None:
                stream = trio.SSLStream(tcp, context, server_hostname=host)
            await stream.send_all(QUESTION)
            while len(received) < _MOST and (data := await stream.receive_some(_MOST)):
                received += data
    return received


async def accepts(host: str, port: int, seconds: float) -> bool:
    """Whether TCP connections are accepted, TLS or not."""
    with trio.move_on_after(seconds), contextlib.suppress(OSError):
        async with await trio.open_tcp_stream(host, port):
            return True
    return False
