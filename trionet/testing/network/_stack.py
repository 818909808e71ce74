"""The network stack of a host: who gets a packet that arrives, and what is answered if nobody does.

A host that is restarted gets a new stack; the old one stays dead, so nothing that holds one of its sockets
can reach the network again.
"""

from __future__ import annotations

import errno
import os
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import trio

from trionet.testing.network._packets import (
    ANY_IPV4,
    ANY_IPV6,
    BROADCAST,
    LOOPBACK_IPV4,
    LOOPBACK_IPV6,
    Endpoint,
    Packet,
    is_loopback,
)
from trionet.testing.network._ports import PortTable, covers
from trionet.testing.network._tcp_driver import TcpDriver
from trionet.testing.network._tcp_states import State

if TYPE_CHECKING:
    from trionet.testing.network._datagram_socket import DatagramSocket
    from trionet.testing.network._fabric import Fabric
    from trionet.testing.network._host import VirtualHost
    from trionet.testing.network._socket import VirtualSocket
    from trionet.testing.network._stream_socket import StreamSocket

_S = TypeVar("_S")


class Stack:
    """The network stack of a host, from its start to its crash.

    Attributes:
        host: Whose it is.
        fabric: What connects the hosts.
        alive: Whether anything gets in or out.
        sockets: Those that are open, in order of creation.
        drivers: The TCP connections by their four numbers.
        tcp_ports: Who has which port.
        udp_ports: Likewise.
    """

    def __init__(self, host: VirtualHost, fabric: Fabric) -> None:
        self.host = host
        self.fabric = fabric
        self.alive = True
        self.sockets: dict[VirtualSocket, None] = {}
        self.drivers: dict[tuple[str, int, str, int], TcpDriver] = {}
        self.tcp_ports = PortTable()
        self.udp_ports = PortTable()
        self._listening: dict[int, list[StreamSocket]] = {}
        self._datagram: dict[int, list[DatagramSocket]] = {}

    # Addresses.

    def endpoint(self, address: str, port: int) -> Endpoint:
        """An endpoint, as this host understands the address."""
        if is_loopback(address):
            return Endpoint(self.host.name, address, port)
        host = self.fabric.by_address.get(address)
        return Endpoint("" if host is None else host.name, address, port)

    def is_own(self, address: str) -> bool:
        """Whether this host is meant."""
        return address in (self.host.ipv4, self.host.ipv6) or is_loopback(address)

    def check_bindable(self, address: str) -> None:
        """See whether a socket may have this address.

        Raises:
            OSError: EADDRNOTAVAIL.
        """
        if not self.is_own(address) and address not in (ANY_IPV4, ANY_IPV6, *BROADCAST):
            raise OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))

    def source_for(self, destination: str, bound: str) -> str:
        """The address that packets to a destination come from.

        Args:
            destination: The address.
            bound: What the socket is bound to, maybe a wildcard.

        Raises:
            OSError: ENETUNREACH if no way leads there: only the hosts' own networks can be reached.
        """
        if self.is_own(destination):
            source = destination
            if is_loopback(destination):
                source = LOOPBACK_IPV6 if ":" in destination else LOOPBACK_IPV4
        elif destination.startswith("10.") or destination in BROADCAST:
            source = self.host.ipv4
        elif destination.startswith("fd00:"):
            source = self.host.ipv6
        else:
            raise OSError(errno.ENETUNREACH, os.strerror(errno.ENETUNREACH))
        if bound in (ANY_IPV4, ANY_IPV6):
            return source
        if is_loopback(bound) and not self.is_own(destination):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return bound

    # Out.

    def send(self, packet: Packet) -> None:
        """Send a packet, if the host lives."""
        if not self.alive:
            return
        if self.host.paused:
            self.host.put_off(self.send, packet)
        else:
            self.fabric.send(packet)

    def call_at(self, due: float, function: Callable[[], None]) -> None:
        """Have a function called at a time, or later if the host is paused then.

        Also after a crash: shielded tasks may still wait there, and are to give up as they would on a host
        that lives and gets no answers.
        """
        self.fabric.call_at(due, self._call, function)

    def _call(self, function: Callable[[], None]) -> None:
        if self.alive and self.host.paused:
            self.host.put_off(self._call, function)
        else:
            function()

    # In.

    def deliver(self, packet: Packet) -> None:
        """Take in a packet."""
        now = trio.current_time()
        if packet.protocol == "tcp":
            self._deliver_tcp(packet, now)
        elif packet.protocol == "udp":
            self._deliver_udp(packet, now)
        else:
            self.fabric.trace.record(now, "delivered", packet)
            for sock in self._datagram.get(packet.dst.port, ()):
                sock.be_told_unreachable(packet.src, errno.ECONNREFUSED)

    def report_unreachable(self, packet: Packet, number: int) -> None:
        """A packet of this host could not be delivered: tell who has sent it."""
        src, dst = packet.src, packet.dst
        if packet.protocol == "tcp":
            driver = self.drivers.get((src.address, src.port, dst.address, dst.port))
            if driver is not None and driver.opening:
                driver.connection.fail(number)
                driver.pump()
        else:
            for sock in self._datagram.get(src.port, ()):
                sock.be_told_unreachable(dst, number)

    def _deliver_tcp(self, packet: Packet, now: float) -> None:
        src, dst = packet.src, packet.dst
        record = self.fabric.trace.record
        driver = self.drivers.get((dst.address, dst.port, src.address, src.port))
        is_new = packet.flags == "S"
        if driver is not None and is_new and driver.connection.state is State.TIME_WAIT:
            driver.connection.abort()  # the old connection is over for its other end, too
            driver.pump()
            driver = None
        if driver is not None:
            record(now, "delivered", packet)
            driver.handle(packet)
            return
        listener = self._listener_for(src, dst) if is_new else None
        if listener is not None:
            if listener.backlog_full:
                self.fabric.drop(packet, now, "backlog full")
            else:
                record(now, "delivered", packet)
                listener.answer(packet, now)
        elif self.host.firewalled:
            self.fabric.drop(packet, now, "firewall")
        else:
            record(now, "delivered", packet)
            self._refuse(packet)

    def _refuse(self, packet: Packet) -> None:
        flags = packet.flags
        if "R" in flags:
            return
        if "." in flags:
            self.send(Packet("tcp", packet.dst, packet.src, b"", "R", packet.ack))
        else:
            end = packet.seq + len(packet.payload) + ("S" in flags) + ("F" in flags)
            self.send(Packet("tcp", packet.dst, packet.src, b"", "R.", 0, end))

    def _listener_for(self, src: Endpoint, dst: Endpoint) -> StreamSocket | None:
        listeners = self._listening.get(dst.port)
        if not listeners:
            return None
        found = [one for one in listeners if one.local_address == dst.address]
        found = found or [one for one in listeners if covers(one.local_address, False, dst.address)]
        found = found or [one for one in listeners if covers(one.local_address, one.dual, dst.address)]
        if not found:
            return None
        # Those that share a port share the connections, too.
        return found[zlib.crc32(str(src).encode()) % len(found)] if len(found) > 1 else found[0]

    def _deliver_udp(self, packet: Packet, now: float) -> None:
        receivers = self._receivers(packet)
        if not receivers and packet.dst.address not in BROADCAST:
            if self.host.firewalled:
                self.fabric.drop(packet, now, "firewall")
                return
            self.fabric.trace.record(now, "delivered", packet)
            self.send(Packet("icmp", packet.dst, packet.src))
            return
        for sock in receivers:
            if sock.has_room(packet):
                self.fabric.trace.record(now, "delivered", packet)
                sock.take_in(packet)
            else:
                sock.drops += 1
                self.fabric.drop(packet, now, "receive queue full")

    def _receivers(self, packet: Packet) -> list[DatagramSocket]:
        sockets = self._datagram.get(packet.dst.port, ())
        if packet.dst.address in BROADCAST:
            return [sock for sock in sockets if sock.score(packet.src, packet.dst) > 0]
        best, best_score = None, 0
        for sock in sockets:
            score = sock.score(packet.src, packet.dst)
            if score > 0 and score >= best_score:  # of equal ones the last that was bound
                best, best_score = sock, score
        return [best] if best is not None else []

    # Who is there.

    def add_driver(self, driver: TcpDriver) -> None:
        """Let a connection have its packets.

        Raises:
            OSError: EADDRNOTAVAIL if there is one between the same ports.
        """
        local, remote = driver.connection.local, driver.connection.remote
        key = (local.address, local.port, remote.address, remote.port)
        if key in self.drivers:
            raise OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))
        self.drivers[key] = driver
        self.tcp_ports.add(driver, local.port)

    def forget(self, driver: TcpDriver) -> None:
        """A connection is closed."""
        local, remote = driver.connection.local, driver.connection.remote
        key = (local.address, local.port, remote.address, remote.port)
        if self.drivers.get(key) is driver:
            del self.drivers[key]
            self.tcp_ports.remove(driver, local.port)

    def add_listener(self, sock: StreamSocket, port: int) -> None:
        """Let a socket have the connections to a port."""
        self._listening.setdefault(port, []).append(sock)

    def remove_listener(self, sock: StreamSocket, port: int) -> None:
        """A socket listens no more."""
        _remove(self._listening, sock, port)

    def add_datagram_socket(self, sock: DatagramSocket, port: int) -> None:
        """Let a socket have the datagrams to a port."""
        self._datagram.setdefault(port, []).append(sock)

    def remove_datagram_socket(self, sock: DatagramSocket, port: int) -> None:
        """A socket was closed."""
        _remove(self._datagram, sock, port)


def _remove(table: dict[int, list[_S]], sock: _S, port: int) -> None:
    table[port].remove(sock)
    if not table[port]:
        del table[port]
