"""What netstat would show on a host."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import astuple, dataclass, fields

from trionet.testing.network._datagram_socket import DatagramSocket
from trionet.testing.network._packets import ANY_IPV4
from trionet.testing.network._stack import Stack
from trionet.testing.network._stream_socket import StreamSocket
from trionet.testing.network._tcp import Connection
from trionet.testing.network._tcp_states import State


@dataclass(frozen=True)
class SocketInfo:
    """A line of netstat.

    Attributes:
        protocol: "tcp" or "udp".
        recv_q: Bytes that were not read yet; of a listening socket, connections that were not accepted.
        send_q: Bytes that were not acknowledged yet; of a listening socket, the backlog.
        local: Address and port.
        remote: Likewise; "*" if there is none.
        state: Of TCP; "" of UDP.
        drops: Datagrams there was no room for.
    """

    protocol: str
    recv_q: int
    send_q: int
    local: str
    remote: str
    state: str
    drops: int


class Netstat(list[SocketInfo]):
    """The sockets of a host. As text a table, as netstat prints it."""

    def __str__(self) -> str:
        titles = tuple(field.name for field in fields(SocketInfo))
        rows = [titles, *(tuple(map(str, astuple(info))) for info in self)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        )


def netstat(stack: Stack) -> Netstat:
    """The sockets of a stack in order of creation, then the connections that nobody holds any more."""
    return Netstat([*_sockets(stack), *_connections(stack)] if stack.alive else [])


def _sockets(stack: Stack) -> Iterator[SocketInfo]:
    for sock in stack.sockets:
        local = _address(sock.local_address or ANY_IPV4, sock.local_port)
        if isinstance(sock, DatagramSocket):
            remote = "*" if sock.peer is None else _address(sock.peer.address, sock.peer.port)
            yield SocketInfo("udp", sock.receive_queue, 0, local, remote, "", sock.drops)
        elif isinstance(sock, StreamSocket):
            if sock.driver is not None:
                yield _connection(sock.driver.connection)
            elif sock.listening:
                waiting, limit = sock.backlog_length, sock.backlog_limit
                yield SocketInfo("tcp", waiting, limit, local, "*", State.LISTEN.value, sock.drops)
            else:
                yield SocketInfo("tcp", 0, 0, local, "*", State.CLOSED.value, 0)


def _connections(stack: Stack) -> Iterator[SocketInfo]:
    held = {id(sock.driver) for sock in stack.sockets if isinstance(sock, StreamSocket)}
    for driver in stack.drivers.values():
        if id(driver) not in held:
            yield _connection(driver.connection)


def _connection(connection: Connection) -> SocketInfo:
    return SocketInfo(
        "tcp",
        connection.receive_queue,
        connection.send_queue,
        _address(connection.local.address, connection.local.port),
        _address(connection.remote.address, connection.remote.port),
        connection.state.value,
        0,
    )


def _address(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
