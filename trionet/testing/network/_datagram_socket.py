"""UDP sockets."""

from __future__ import annotations

import errno
import operator
import socket
from collections import deque
from typing import TYPE_CHECKING, Any, Final

import trio

from trionet.testing.network._packets import BROADCAST, Endpoint, Packet, is_wildcard, sockaddr
from trionet.testing.network._ports import covers
from trionet.testing.network._socket import PEEK, VirtualSocket, os_error
from trionet.testing.network._waiting import Waiter

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from trionet.testing.network._stack import Stack

#: The largest payload of a datagram.
LARGEST_IPV4: Final = 65507
LARGEST_IPV6: Final = 65527
# What a datagram takes of the receive buffer besides its payload.
_OVERHEAD: Final = 256


class DatagramSocket(VirtualSocket):
    """A UDP socket. Sending never waits; what the receiver has no room for is dropped, and counted."""

    def __init__(self, stack: Stack, family: int, proto: int) -> None:
        super().__init__(stack, family, socket.SOCK_DGRAM, proto, stack.udp_ports)
        self._peer: Endpoint | None = None
        self._queue: deque[tuple[bytes, Endpoint]] = deque()
        self._queued = 0
        self._error = 0
        self._receiving_shut = False
        self._reading = Waiter()

    @property
    def peer(self) -> Endpoint | None:
        """What it is connected to."""
        return self._peer

    @property
    def receive_queue(self) -> int:
        """Bytes that were not read yet."""
        return sum(len(payload) for payload, _ in self._queue)

    def _bind(self, address: str, port: int) -> None:
        super()._bind(address, port)
        self._stack.add_datagram_socket(self, self.local_port)

    async def connect(self, address: Any) -> None:
        """Send to one peer, and receive from no other. May be done again."""
        host, port = await self._resolve(address, local=False)
        await trio.lowlevel.checkpoint()
        self._check_open()
        destination = self._destination(host)
        self._check_broadcast(destination)
        source = self._stack.source_for(destination, self.local_address)
        if not self.local_port:
            self._bind(self.local_address, 0)
        self.local_address = source
        self._peer = self._stack.endpoint(destination, port)

    # Out.

    async def _send_to(self, data: Buffer, flags: int, address: Any) -> int:
        to = None if address is None else await self._resolve(address, local=False)

        def send() -> int:
            self._check_flags(flags)
            return self._send_now(bytes(data), to)

        return await self._perform(self._reading_place, send)

    def _send_now(self, payload: bytes, to: tuple[str, int] | None) -> int:
        if not self.local_port:
            self._bind(self.local_address, 0)  # even if it goes wrong, as in Linux
        if to is not None:
            if not to[1]:
                raise os_error(errno.EINVAL)
            peer = self._stack.endpoint(self._destination(to[0]), to[1])
        elif self._peer is not None:
            peer = self._peer
        else:
            raise os_error(errno.EDESTADDRREQ)
        if len(payload) > (LARGEST_IPV6 if ":" in peer.address else LARGEST_IPV4):
            raise os_error(errno.EMSGSIZE)
        if self._sending_shut:
            raise os_error(errno.EPIPE)
        self._check_broadcast(peer.address)
        self._raise_pending()
        source = self._stack.source_for(peer.address, self.local_address)
        src = self._stack.endpoint(source, self.local_port)
        if peer.address in BROADCAST:
            for name in self._stack.fabric.hosts:
                self._stack.send(Packet("udp", src, peer._replace(host=name), payload))
        else:
            self._stack.send(Packet("udp", src, peer, payload))
        return len(payload)

    def _check_broadcast(self, address: str) -> None:
        if address in BROADCAST and not self.options["SO_BROADCAST"]:
            raise os_error(errno.EACCES)

    async def wait_writable(self) -> None:
        """It always is."""
        await trio.lowlevel.checkpoint()
        self._check_open()

    # In.

    def score(self, src: Endpoint, dst: Endpoint) -> int:
        """How well this socket fits a packet between these two; 0 if it does not."""
        if self.local_address == dst.address:
            score = 2
        elif covers(self.local_address, self.dual, dst.address) and is_wildcard(self.local_address):
            score = 1
        else:
            return 0
        if self._peer is None:
            return score
        return score + 4 if (self._peer.address, self._peer.port) == (src.address, src.port) else 0

    def has_room(self, packet: Packet) -> bool:
        """Whether a datagram can be kept."""
        return self._queued + len(packet.payload) + _OVERHEAD <= self.options["SO_RCVBUF"] // 2

    def take_in(self, packet: Packet) -> None:
        """Keep a datagram until it is read."""
        self._queue.append((packet.payload, packet.src))
        self._queued += len(packet.payload) + _OVERHEAD
        self._reading.wake()

    def be_told_unreachable(self, peer: Endpoint, number: int) -> None:
        """What was sent to a peer did not get there.

        Only a connected socket is told so, as in Linux. On a host that imitates Windows an unconnected one
        has its next receive fail.
        """
        windows = self._stack.host.windows_udp_errors
        if self._peer is not None:
            if (self._peer.address, self._peer.port) != (peer.address, peer.port):
                return
        elif not windows:
            return
        self._error = errno.ECONNRESET if windows and number == errno.ECONNREFUSED else number
        self._reading.wake()

    async def recvfrom(self, bufsize: int, flags: int = 0, /) -> tuple[bytes, Any]:
        """A datagram, cut off at `bufsize`, and where it comes from."""
        count = operator.index(bufsize)
        if count < 0:
            raise ValueError("negative buffersize in recvfrom")

        payload, address = await self._receive(flags)
        return payload[:count], address

    async def _receive_message(self, count: int, flags: int) -> tuple[bytes, int, Any]:
        if count < 0:
            raise ValueError("negative buffer size in recvmsg()")
        payload, address = await self._receive(flags)
        return payload[:count], int(socket.MSG_TRUNC) if len(payload) > count else 0, address

    async def _receive(self, flags: int) -> tuple[bytes, Any]:
        """A whole datagram."""

        def receive() -> tuple[bytes, Any] | None:
            self._check_flags(flags, PEEK)
            self._raise_pending()
            if not self._queue:
                return (b"", None) if self._receiving_shut else None
            payload, src = self._queue[0]
            if not flags & PEEK:
                self._queue.popleft()
                self._queued -= len(payload) + _OVERHEAD
            return payload, sockaddr(self._family, src.address, src.port)

        return await self._perform(self._reading_place, receive)

    def _reading_place(self) -> Waiter:
        return self._reading

    def is_readable(self) -> bool:
        """Whether receiving would not wait."""
        self._check_open()
        return bool(self._queue or self._error or self._receiving_shut)

    # Options, and the end.

    def _raise_pending(self) -> None:
        if self._error:
            raise os_error(self._take_error_number())

    def _take_error_number(self) -> int:
        number, self._error = self._error, 0
        return number

    def shutdown(self, flag: int) -> None:
        """End one direction of a connected socket, or both."""
        self._check_open()
        if flag not in (socket.SHUT_RD, socket.SHUT_WR, socket.SHUT_RDWR):
            raise os_error(errno.EINVAL)
        if self._peer is None:
            raise os_error(errno.ENOTCONN)
        if flag != socket.SHUT_WR:
            self._receiving_shut = True
            self._reading.wake()
        if flag != socket.SHUT_RD:
            self._sending_shut = True

    def listen(self, backlog: int = 128) -> None:
        """Not of UDP."""
        self._check_open()
        raise os_error(errno.EOPNOTSUPP)

    async def accept(self) -> tuple[trio.socket.SocketType, Any]:
        """Not of UDP."""
        await trio.lowlevel.checkpoint()
        self._check_open()
        raise os_error(errno.EOPNOTSUPP)

    def waiters(self) -> tuple[Waiter, ...]:
        """All places where tasks wait for this socket."""
        return (self._reading,)

    def _close(self) -> None:
        if self.local_port:
            self._stack.remove_datagram_socket(self, self.local_port)
