"""The byte streams under the protocols: one interface, a short way for real sockets, any Trio stream.

Why a short way. Between two processes that answer each other at once, most of the time of a round trip is
spent on falling asleep and being woken: a blocking ping-pong of two Python processes over loopback makes
about 20,000 round trips a second, with trio on both ends 17,000, whatever the program does in between. So
a `SocketTransport`

- sends at once what the kernel takes, without a scheduling round: a message that fits in the socket's
  buffer, as nearly all do, costs one system call;
- lingers: before it lets the kernel put it to sleep, it looks again for some 100 µs whether data has come,
  one scheduling round apart. Other tasks run in between, cancellation works as ever, and what a peer on
  the same machine answers is found without going to sleep: three times as many calls a second, for two
  thirds of the processor time per call. It needs a core for each of the two; where there is none, or where
  data comes seldom, lingering is in vain, and is tried again ever more seldom.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Final

import trio

from trionet._linger import Linger

_AF_UNIX: Final = getattr(socket, "AF_UNIX", None)  # Windows has none

# How much one receive asks for: enough for many requests; more when the last one came full.
_SMALL_READ: Final = 64 * 1024
_LARGE_READ: Final = 1024 * 1024

# So many buffers go into one system call; Linux takes 1024, and joining small ones is up to the caller.
_MAX_BUFFERS: Final = 64

# Seconds that closing a TLS connection may take to say so to the peer.
_CLOSE_TIMEOUT: Final = 1.0


class Transport(ABC):
    """A connected byte stream.

    One task may receive while another one sends. Errors are trio's: `trio.BrokenResourceError` when the
    connection is gone, `trio.ClosedResourceError` when this side has closed it.

    Attributes:
        peer: Address of the other side, for messages.
    """

    def __init__(self, stream: trio.abc.Stream, peer: str) -> None:
        self.stream = stream
        self.peer = peer

    @abstractmethod
    async def receive(self) -> bytes:
        """Wait for data and return some; b"" at the end of the stream. Cancelled, it has taken none."""

    @abstractmethod
    async def receive_into(self, buffer: memoryview) -> int:
        """Wait for data and put some into `buffer`. Returns how many bytes; 0 at the end of the stream.

        For data of which there is much: it does not linger. Cancelled, it has taken none.
        """

    @abstractmethod
    def send_nowait(self, data: bytes) -> int:
        """Send as much as can be sent without waiting. Returns how many bytes that is, maybe none."""

    def send_buffers_nowait(self, buffers: Sequence[bytes | memoryview]) -> int:
        """The same for several buffers, one behind the other, without joining them."""
        return 0

    @abstractmethod
    async def send_all(self, data: bytes | memoryview) -> None:
        """Send everything. Cancelled, it may have sent any part."""

    async def send(self, data: bytes) -> None:
        """Send everything, without a checkpoint if it can be done at once."""
        sent = self.send_nowait(data)
        if sent < len(data):
            await self.send_all(memoryview(data)[sent:])

    async def aclose(self) -> None:
        """Close the stream; what was sent is delivered.

        This is for cleaning up, so it cannot be cancelled: `Cancelled` would replace an exception that is
        on its way. It is over at once, but for TLS with a peer that does not read: then after a second.
        That the peer is gone already is no error here.
        """
        with (
            trio.move_on_after(_CLOSE_TIMEOUT, shield=True),
            contextlib.suppress(trio.BrokenResourceError),
        ):
            await self.stream.aclose()


class StreamTransport(Transport):
    """Over any `trio.abc.Stream`: TLS, memory streams, simulated networks."""

    async def receive(self) -> bytes:
        try:
            return bytes(await self.stream.receive_some(_SMALL_READ))
        except trio.BrokenResourceError as error:
            raise _with_reason(error) from error.__cause__

    async def receive_into(self, buffer: memoryview) -> int:
        try:
            data = await self.stream.receive_some(min(len(buffer), _LARGE_READ))
        except trio.BrokenResourceError as error:
            raise _with_reason(error) from error.__cause__
        buffer[: len(data)] = data
        return len(data)

    def send_nowait(self, data: bytes) -> int:
        return 0

    async def send_all(self, data: bytes | memoryview) -> None:
        try:
            await self.stream.send_all(data)
        except trio.BrokenResourceError as error:
            raise _with_reason(error) from error.__cause__


def _with_reason(error: trio.BrokenResourceError) -> trio.BrokenResourceError:
    """The same, with a text: of trio's TLS streams only the cause has one."""
    if str(error):
        return error
    cause = error.__cause__
    if isinstance(cause, ssl.SSLEOFError):
        # A server of TLS 1.3 looks at the certificate when its client talks already, and trio's says nothing.
        return trio.BrokenResourceError(
            "cut off in TLS, as by a peer that has died, or that does not trust our certificate"
        )
    return trio.BrokenResourceError("the stream is broken" if cause is None else str(cause))


class SocketTransport(Transport):
    """Over a TCP socket of the operating system, see the module's docstring."""

    def __init__(self, stream: trio.SocketStream, peer: str) -> None:
        super().__init__(stream, peer)
        sock = stream.socket
        # The same descriptor once more, as a socket of the standard library: trio's own makes a
        # scheduling round of each operation. Trio still closes it.
        self._socket = socket.socket(sock.family, sock.type, sock.proto, fileno=sock.fileno())
        self._socket.setblocking(False)  # it is; but not to Python if socket.setdefaulttimeout() was called
        self._read_size = _SMALL_READ
        self._linger = Linger()

    async def receive(self) -> bytes:
        data = await self._linger.look(self._receive_nowait)
        while data is None:
            await trio.lowlevel.wait_readable(self._socket)
            data = self._receive_nowait()
        self._read_size = _LARGE_READ if len(data) == self._read_size else _SMALL_READ
        return data

    def _receive_nowait(self) -> bytes | None:
        try:
            return self._open_socket().recv(self._read_size)
        except BlockingIOError:
            return None
        except OSError as error:
            raise trio.BrokenResourceError(str(error)) from error

    async def receive_into(self, buffer: memoryview) -> int:
        await trio.lowlevel.checkpoint()
        while True:
            try:
                return self._open_socket().recv_into(buffer)
            except BlockingIOError:
                await trio.lowlevel.wait_readable(self._socket)
            except OSError as error:
                raise trio.BrokenResourceError(str(error)) from error

    def send_nowait(self, data: bytes | memoryview) -> int:
        try:
            return self._open_socket().send(data)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise trio.BrokenResourceError(str(error)) from error

    def send_buffers_nowait(self, buffers: Sequence[bytes | memoryview]) -> int:
        if len(buffers) == 1 or sys.platform == "win32":  # which has no sendmsg
            return self.send_nowait(buffers[0])
        try:
            return self._open_socket().sendmsg(buffers[:_MAX_BUFFERS])
        except BlockingIOError:
            return 0
        except OSError as error:
            raise trio.BrokenResourceError(str(error)) from error

    async def send_all(self, data: bytes | memoryview) -> None:
        rest = memoryview(data)
        await trio.lowlevel.checkpoint()
        while rest:
            rest = rest[self.send_nowait(rest) :]
            if rest:
                await trio.lowlevel.wait_writable(self._socket)

    def _open_socket(self) -> socket.socket:
        if self._socket.fileno() < 0:
            raise trio.ClosedResourceError("this side has closed the connection")
        return self._socket

    async def aclose(self) -> None:
        self._socket.detach()  # trio closes the descriptor, and wakes the tasks that wait for it
        await super().aclose()


def open_transport(stream: trio.abc.Stream, peer: str | None = None) -> Transport:
    """The transport for a stream, which it owns from now on."""
    name = peer if peer is not None else peer_name(stream)
    if isinstance(stream, trio.SocketStream) and stream.socket.fileno() >= 0:
        return SocketTransport(stream, name)
    return StreamTransport(stream, name)


def peer_name(stream: trio.abc.Stream) -> str:
    """How to call the other side of a stream in messages: ``host:port`` where there is one."""
    inner = _without_tls(stream)
    if isinstance(inner, trio.SocketStream):
        try:
            # A client of a Unix socket has no address: then the server's stands for it.
            return format_address(inner.socket.getpeername() or inner.socket.getsockname())
        except OSError:  # gone already
            return "disconnected peer"
    return type(inner).__name__


def local_host(stream: trio.abc.Stream) -> str | None:
    """Our own address, as the other side of a stream can reach it; None for streams without such."""
    inner = _without_tls(stream)
    if isinstance(inner, trio.SocketStream) and inner.socket.family != _AF_UNIX:
        with contextlib.suppress(OSError):  # closed already
            return str(inner.socket.getsockname()[0])
    return None


def _without_tls(stream: trio.abc.Stream) -> trio.abc.Stream:
    while isinstance(stream, trio.SSLStream):
        stream = stream.transport_stream
    return stream


def format_address(address: object) -> str:
    """``host:port`` of a socket address, with brackets around IPv6."""
    if isinstance(address, tuple) and len(address) >= 2:
        host, port = address[:2]
        return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"
    return str(address)
