"""Experiment messages in datagrams."""

from __future__ import annotations

import errno
import logging
import socket
from collections import OrderedDict
from typing import Any, Final

import trio

from trionet._linger import Linger
from trionet._server import Address
from trionet._transport import format_address
from trionet.rig._endpoint import Endpoint, Owner
from trionet.rig._peer import Peer
from trionet.rig.uri import resolve
from trionet.wire.errors import LocalProtocolError
from trionet.wire.rig import MAX_DATAGRAM, Exchange
from trionet.wire.rig_uri import RigURI, is_ip

logger = logging.getLogger("trionet.rig")

#: Seconds of silence between an echo and a message of our own. Upstream's Services that ask one rig after the
#: other begin to wait for the answer only after the echo: one that comes within 2 ms is often lost, and later
#: ones where the computer is busy. More would hold up controllers that go on as soon as they are answered.
ANSWER_GAP: Final = 0.005

# What one receive takes at most: more than any datagram has.
_RECEIVE_SIZE: Final = 65_536

# Peers that a socket keeps in mind, of those that were sent messages and of the others.
_MOST_PEERS: Final = 1024

# Errors of receiving in a row after which a pause is made: something is wrong with the network here.
_MANY_ERRORS: Final = 10
_PAUSE: Final = 0.1


class DatagramSocket:
    """A UDP socket, with a short way past trio's scheduling if it is one of the operating system's."""

    def __init__(self, sock: trio.socket.SocketType) -> None:
        self._trio_socket = sock
        self._socket: socket.socket | None = None
        if sock.fileno() >= 0:
            self._socket = socket.socket(sock.family, sock.type, sock.proto, fileno=sock.fileno())
            self._socket.setblocking(False)
        self._linger = Linger()
        self._waiting = trio.Lock()  # for room to send; trio lets one task wait at a time

    async def receive(self) -> tuple[bytes, Any]:
        """Wait for a datagram; it, and where it is from. OSError if the system reports one."""
        if self._socket is None:
            return await self._trio_socket.recvfrom(_RECEIVE_SIZE)
        received = await self._linger.look(self._receive_nowait)
        while received is None:
            await trio.lowlevel.wait_readable(self._socket)
            received = self._receive_nowait()
        return received

    def _receive_nowait(self) -> tuple[bytes, Any] | None:
        try:
            return self._open_socket().recvfrom(_RECEIVE_SIZE)
        except BlockingIOError:
            return None

    async def send(self, data: bytes, destination: Any = None) -> None:
        """Send a datagram, to an address or to where the socket is connected. Not always a checkpoint."""
        if self._socket is None:
            if destination is None:
                await self._trio_socket.send(data)
            else:
                await self._trio_socket.sendto(data, destination)
            return
        if not self._sent_nowait(data, destination):
            async with self._waiting:
                while not self._sent_nowait(data, destination):
                    await trio.lowlevel.wait_writable(self._socket)

    def _sent_nowait(self, data: bytes, destination: Any) -> bool:
        sock = self._open_socket()
        try:
            if destination is None:
                sock.send(data)
            else:
                sock.sendto(data, destination)
        except BlockingIOError:
            return False
        return True

    def _open_socket(self) -> socket.socket:
        if self._socket is None or self._socket.fileno() < 0:
            raise trio.ClosedResourceError("the communicator is closed")
        return self._socket

    def getsockname(self) -> Address:
        """Host and port of this side."""
        name = self._trio_socket.getsockname()
        return str(name[0]), int(name[1])

    def close(self) -> None:
        """Close it, and wake who waits for it."""
        if self._socket is not None:
            self._socket.detach()
        self._trio_socket.close()


class UdpPeer(Peer):
    """A peer that datagrams are sent to."""

    def __init__(
        self, socket: DatagramSocket, address: Address, exchange: Exchange, rig: str, connected: bool
    ) -> None:
        super().__init__(address, exchange, rig, ANSWER_GAP)
        self._socket = socket
        self._destination = None if connected else address

    def check_size(self, data: bytes) -> None:
        if len(data) > MAX_DATAGRAM:
            raise LocalProtocolError(
                f"a message of {len(data)} bytes does not fit into a datagram: {MAX_DATAGRAM} at most"
            )

    async def transmit(self, data: bytes) -> None:
        await self.wait_quiet()
        try:
            await self._socket.send(data, self._destination)
        except ConnectionError:
            # The system reports here that an earlier one was refused, and has not sent this one.
            await self._socket.send(data, self._destination)


class UdpEndpoint(Endpoint):
    """One UDP socket, connected to one peer or open to all."""

    def __init__(self, sock: trio.socket.SocketType, remote: Address | None, owner: Owner) -> None:
        super().__init__(owner)
        self._socket = DatagramSocket(sock)
        self._family = sock.family
        # Those that were sent messages are apart: no number of strangers makes them forgotten.
        self._peers: OrderedDict[Address, UdpPeer] = OrderedDict()
        self._strangers: OrderedDict[Address, UdpPeer] = OrderedDict()
        self._remote = self._make_peer(remote, connected=True) if remote is not None else None
        self._address = self._socket.getsockname()

    @property
    def addresses(self) -> tuple[Address, ...]:
        return (self._address,)

    @property
    def connected(self) -> bool:
        return not self.closed

    async def _run(self, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        errors = 0
        try:
            while True:
                try:
                    data, source = await self._socket.receive()
                except OSError as error:
                    self._not_arrived(error)
                    errors += not isinstance(error, ConnectionError)
                    if errors >= _MANY_ERRORS:
                        self.limited_log.warning("%s: cannot receive: %s", self.owner.name, error)
                        await trio.sleep(_PAUSE)
                else:
                    errors = 0
                    await self._receive(data, source)
        finally:
            self._socket.close()
            for peer in (self._remote, *self._peers.values()):
                if peer is not None:
                    peer.failed(trio.ClosedResourceError("the communicator is closed"))

    async def _receive(self, data: bytes, source: tuple[Any, ...]) -> None:
        address = (str(source[0]), int(source[1]))
        peer = self._remote or self._peers.get(address) or self._get_stranger(address)
        received = peer.exchange.receive(data, trio.current_time())
        if received.echo is not None:
            try:
                await self._socket.send(received.echo, None if peer is self._remote else source)
                peer.keep_quiet()
            except OSError as error:
                name = format_address(address)
                self.limited_log.warning("%s: no echo to %s: %s", self.owner.name, name, error)
        # As the peer is known here: the answer goes there, though 0.0.0.0 answers as 127.0.0.1.
        self.take(received, peer.address, peer)

    def _not_arrived(self, error: OSError) -> None:
        """The system reports that something which was sent has not arrived; a listener cannot know what."""
        if self._remote is not None:
            name = format_address(self._remote.address)
            shown = type(error)(error.errno, f"{error.strerror} ({name})")
            self._remote.failed(shown)
            self.owner.refused(shown)

    async def find_peer(self, address: Address | None) -> Peer:
        if self._remote is not None:
            if address not in (None, self._remote.address):
                only = format_address(self._remote.address)
                raise ValueError(f"{self.owner.name} talks to {only} only, not to {address}")
            return self._remote
        if address is None:
            raise TypeError("a listener needs the address to send to")
        host, port = address[:2]
        if (host, port) not in self._peers and (":" in host or not is_ip(host)):
            # An IPv6 address, too: it has many spellings, and the system's is one.
            host = await resolve(host, self._family)
        address = (host, port)
        peer = self._strangers.pop(address, None) or self._peers.get(address) or self._make_peer(address)
        _remember(self._peers, peer)
        return peer

    def _get_stranger(self, address: Address) -> UdpPeer:
        peer = self._strangers.get(address) or self._make_peer(address)
        _remember(self._strangers, peer)
        return peer

    def _make_peer(self, address: Address, connected: bool = False) -> UdpPeer:
        exchange = Exchange(self.owner.dedup_window)
        return UdpPeer(self._socket, address, exchange, self.owner.name, connected)


def _remember(peers: OrderedDict[Address, UdpPeer], peer: UdpPeer) -> None:
    """Keep a peer in mind, and forget the one that has not been in use for longest, if there are too many."""
    peers[peer.address] = peer
    peers.move_to_end(peer.address)
    if len(peers) > _MOST_PEERS:
        idle = (known for known in peers.values() if not known.busy and known is not peer)
        if (forgotten := next(idle, None)) is not None:
            del peers[forgotten.address]


async def open_udp_socket(uri: RigURI, *, listen: bool) -> trio.socket.SocketType:
    """A UDP socket, bound to an address or connected to one.

    Raises:
        OSError: if it cannot be; the message names host and port.
    """
    family = trio.socket.AF_INET6 if ":" in uri.host else trio.socket.AF_INET
    sock = trio.socket.socket(family, trio.socket.SOCK_DGRAM)
    try:
        if listen:
            await sock.bind((uri.host, uri.port))
        else:
            await sock.connect((uri.host, uri.port))
    except OSError as error:
        sock.close()
        what = "listen on" if listen else "send to"
        reason = "another program listens there" if error.errno == errno.EADDRINUSE else error.strerror
        raise type(error)(
            error.errno, f"cannot {what} {format_address((uri.host, uri.port))}: {reason}"
        ) from error
    except BaseException:
        sock.close()
        raise
    return sock
