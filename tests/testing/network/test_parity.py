"""The same programs over the loopback of the system and over that of a virtual host: the same outcome.

Each scenario notes what its calls return and raise, with type and errno, and the notes of both worlds are
compared. Linux is what the network imitates, so this runs there.
"""

from __future__ import annotations

import socket
import struct
import sys
import warnings
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.testing

from tests.testing.network.programs import tcp_socket, udp_socket
from trionet.testing import open_virtual_network

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux is what is imitated")

LOCAL = "127.0.0.1"
RESET_AT_CLOSE = struct.pack("ii", 1, 0)
Scenario = Callable[["Notes"], Awaitable[None]]
SCENARIOS: dict[str, Scenario] = {}


def scenario(function: Scenario) -> Scenario:
    SCENARIOS[function.__name__] = function
    return function


class Notes(list[Any]):
    """What has happened in a scenario."""

    async def of(self, call: Callable[..., Any], *args: Any) -> None:
        """Note what a call returns or raises."""
        try:
            value = call(*args)
            if isinstance(value, Awaitable):
                value = await value
        except (OSError, OverflowError, ValueError, TypeError, trio.ClosedResourceError) as error:
            self.append((call.__name__, type(error).__name__, getattr(error, "errno", None)))
        else:
            self.append((call.__name__, value))


async def settle() -> None:
    """Let everything arrive. In the kernel, over loopback, it has already."""
    await trio.testing.wait_all_tasks_blocked()


async def listening(backlog: int = 5, address: str = LOCAL) -> tuple[trio.socket.SocketType, Any]:
    sock = tcp_socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    await sock.bind((address, 0))
    sock.listen(backlog)
    return sock, sock.getsockname()


async def pair() -> tuple[trio.socket.SocketType, trio.socket.SocketType]:
    listener, address = await listening()
    client = tcp_socket()
    await client.connect(address)
    server, _ = await listener.accept()
    listener.close()
    return client, server


async def udp_bound() -> tuple[trio.socket.SocketType, Any]:
    sock = udp_socket()
    await sock.bind((LOCAL, 0))
    return sock, sock.getsockname()


@scenario
async def a_new_socket(notes: Notes) -> None:
    for sock in (tcp_socket(), udp_socket()):
        for call in (sock.getsockname, sock.getpeername):
            await notes.of(call)
        for flag in (socket.SHUT_RD, socket.SHUT_WR):
            await notes.of(sock.shutdown, flag)
        await notes.of(sock.send, b"x")
        for number in (socket.SO_ERROR, socket.SO_TYPE, socket.SO_ACCEPTCONN, socket.SO_REUSEADDR):
            await notes.of(sock.getsockopt, socket.SOL_SOCKET, number)
        notes.append((sock.family, sock.type, sock.proto, sock.did_shutdown_SHUT_WR))
    sock = tcp_socket()
    await notes.of(sock.recv, 10)
    await notes.of(sock.accept)
    await notes.of(sock.sendto, b"x", (LOCAL, 9))
    await notes.of(udp_socket().accept)
    await notes.of(udp_socket().listen)


@scenario
async def a_closed_socket(notes: Notes) -> None:
    for sock in (tcp_socket(), udp_socket()):
        sock.close()
        sock.close()
        notes.append(sock.fileno())
        for call in (sock.getsockname, sock.getpeername, sock.listen, sock.accept):
            await notes.of(call)
        await notes.of(sock.recv, 1)
        await notes.of(sock.send, b"x")
        await notes.of(sock.bind, (LOCAL, 0))
        await notes.of(sock.connect, (LOCAL, 9))
        await notes.of(sock.getsockopt, socket.SOL_SOCKET, socket.SO_TYPE)
        await notes.of(sock.setsockopt, socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)


@scenario
async def closing_while_a_task_waits(notes: Notes) -> None:
    client, _server = await pair()
    udp, _ = await udp_bound()
    listener, _ = await listening()
    for sock, call, args in (
        (client, client.recv, (1,)),
        (udp, udp.recv, (1,)),
        (listener, listener.accept, ()),
    ):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(notes.of, call, *args)
            await settle()
            sock.close()


@scenario
async def a_refused_connection(notes: Notes) -> None:
    listener, address = await listening()
    listener.close()
    sock = tcp_socket()
    await notes.of(sock.connect, address)
    await notes.of(sock.getpeername)
    await notes.of(sock.getsockopt, socket.SOL_SOCKET, socket.SO_ERROR)
    sock.close()


@scenario
async def a_socket_that_was_refused(notes: Notes) -> None:
    listener, address = await listening()
    gone, nobody = await listening()
    gone.close()
    sock = tcp_socket()
    await notes.of(sock.connect, nobody)
    await notes.of(sock.recv, 1)
    await notes.of(sock.send, b"x")
    await notes.of(sock.listen)
    await notes.of(sock.is_readable)
    for target in (nobody, nobody, address, address, address, address):
        await notes.of(sock.connect, target)
    server, _ = await listener.accept()
    await notes.of(sock.send, b"x")
    await notes.of(server.recv, 1)


@scenario
async def addresses_that_cannot_be_bound(notes: Notes) -> None:
    first, address = await listening()
    for sock in (tcp_socket(), tcp_socket()):
        await notes.of(sock.bind, address)
        await notes.of(sock.bind, ("203.0.113.7", 0))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        await notes.of(sock.bind, address)
    await notes.of(first.bind, (LOCAL, 0))
    await notes.of(tcp_socket().bind, ("0.0.0.0", address[1]))
    await notes.of(tcp_socket(socket.AF_INET6).bind, ("::", address[1]))
    await notes.of(tcp_socket().bind, (LOCAL, 65536))
    await notes.of(tcp_socket().bind, (LOCAL,))
    await notes.of(tcp_socket().bind, ("::1", 0))
    udp, taken = await udp_bound()
    await notes.of(udp_socket().bind, taken)
    await notes.of(udp_socket().bind, ("0.0.0.0", taken[1]))
    udp.close()
    await notes.of(udp_socket().bind, taken)


@scenario
async def ports_that_are_shared(notes: Notes) -> None:
    for kind, option in (
        (socket.SOCK_STREAM, socket.SO_REUSEPORT),
        (socket.SOCK_DGRAM, socket.SO_REUSEPORT),
        (socket.SOCK_STREAM, socket.SO_REUSEADDR),
        (socket.SOCK_DGRAM, socket.SO_REUSEADDR),
    ):
        first, second = (trio.socket.socket(socket.AF_INET, kind) for _ in range(2))
        for sock in (first, second):
            sock.setsockopt(socket.SOL_SOCKET, option, 1)
        await first.bind((LOCAL, 0))
        await notes.of(second.bind, first.getsockname())
        await notes.of(first.listen)
        await notes.of(second.listen)
        first.close()
        second.close()


@scenario
async def a_port_where_somebody_listens(notes: Notes) -> None:
    first, second = tcp_socket(), tcp_socket()
    for sock in (first, second):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    await first.bind((LOCAL, 0))
    first.listen()
    await notes.of(second.bind, first.getsockname())


@scenario
async def a_port_after_its_connections(notes: Notes) -> None:
    for option in (0, 1):
        listener = tcp_socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, option)
        await listener.bind((LOCAL, 0))
        listener.listen()
        address = listener.getsockname()
        client = tcp_socket()
        await client.connect(address)
        server, _ = await listener.accept()
        listener.close()
        again = tcp_socket()
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, option)
        await notes.of(again.bind, address)
        server.close()  # first, so it has to remember the connection
        await settle()
        client.close()
        await settle()
        more = tcp_socket()
        more.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, option)
        await notes.of(more.bind, address)


@scenario
async def connecting_twice(notes: Notes) -> None:
    client, server = await pair()
    for _ in range(3):
        await notes.of(client.connect, server.getsockname())
        await notes.of(server.connect, client.getsockname())
    await notes.of(client.listen)
    await notes.of(client.bind, (LOCAL, 0))
    await notes.of(client.accept)
    listener, address = await listening()
    await notes.of(listener.connect, address)


@scenario
async def a_listener_is_shut_down(notes: Notes) -> None:
    listener, address = await listening()
    await notes.of(listener.shutdown, socket.SHUT_WR)
    notes.append(listener.did_shutdown_SHUT_WR)
    client = tcp_socket()
    await notes.of(client.connect, address)
    notes.append((await listener.accept())[1] == client.getsockname())
    await notes.of(listener.shutdown, socket.SHUT_RD)
    await notes.of(tcp_socket().connect, address)


@scenario
async def half_close(notes: Notes) -> None:
    client, server = await pair()
    await client.send(b"last words")
    await notes.of(client.shutdown, socket.SHUT_WR)
    notes.append(client.did_shutdown_SHUT_WR)
    await notes.of(server.recv, 4)
    await notes.of(server.recv, 100)
    await notes.of(server.recv, 100)
    await notes.of(server.recv, 100)
    await notes.of(client.send, b"x")
    await notes.of(server.send, b"an answer")
    await notes.of(client.recv, 100)
    await notes.of(client.shutdown, socket.SHUT_WR)
    server.close()
    await notes.of(client.recv, 100)
    await notes.of(client.getpeername)
    await notes.of(client.shutdown, socket.SHUT_WR)


@scenario
async def no_more_reading(notes: Notes) -> None:
    client, server = await pair()
    await server.send(b"before")
    await settle()
    client.shutdown(socket.SHUT_RD)
    await notes.of(client.recv, 100)
    await notes.of(client.recv, 100)
    await notes.of(client.send, b"still")
    await notes.of(server.recv, 100)


@scenario
async def both_directions_are_shut_down(notes: Notes) -> None:
    """What comes afterwards is answered with a reset."""
    for order in ([socket.SHUT_RDWR], [socket.SHUT_RD, socket.SHUT_WR], [socket.SHUT_WR, socket.SHUT_RD]):
        client, server = await pair()
        for flag in order:
            await notes.of(client.shutdown, flag)
        await notes.of(server.recv, 100)
        await notes.of(server.send, b"to nobody")
        await settle()
        await notes.of(client.recv, 100)
        await notes.of(client.recv, 100)
        await notes.of(server.send, b"to nobody")
        await notes.of(server.recv, 100)


@scenario
async def a_reset(notes: Notes) -> None:
    for before in (b"", b"some data"):
        client, server = await pair()
        server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_AT_CLOSE)
        if before:
            await server.send(before)
            await settle()
        server.close()
        await settle()
        await notes.of(client.is_readable)
        await notes.of(client.getpeername)
        for _ in range(3):
            await notes.of(client.recv, 100)
        await notes.of(client.send, b"x")
        await notes.of(client.shutdown, socket.SHUT_WR)


@scenario
async def a_reset_seen_while_sending(notes: Notes) -> None:
    client, server = await pair()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_AT_CLOSE)
    server.close()
    await settle()
    for _ in range(3):
        await notes.of(client.send, b"x")
    await notes.of(client.recv, 100)


@scenario
async def closing_with_unread_data(notes: Notes) -> None:
    client, server = await pair()
    await client.send(b"never read")
    await settle()
    server.close()
    await settle()
    await notes.of(client.recv, 100)
    await notes.of(client.recv, 100)


@scenario
async def sending_to_one_who_has_closed(notes: Notes) -> None:
    client, server = await pair()
    server.close()
    await settle()
    await notes.of(client.send, b"first")
    await settle()
    await notes.of(client.send, b"second")
    await notes.of(client.send, b"third")
    await notes.of(client.recv, 100)


@scenario
async def a_listener_that_goes_away(notes: Notes) -> None:
    listener, address = await listening()
    client = tcp_socket()
    await client.connect(address)
    listener.close()
    await settle()
    await notes.of(client.recv, 100)


@scenario
async def peeking_and_reading_into_buffers(notes: Notes) -> None:
    client, server = await pair()
    await client.send(b"0123456789")
    await settle()
    await notes.of(server.recv, 4, socket.MSG_PEEK)
    await notes.of(server.recv, 0)
    await notes.of(server.recvfrom, 3)
    buffer = bytearray(8)
    await notes.of(server.recv_into, buffer, 2)
    await notes.of(server.recv_into, buffer)
    notes.append(bytes(buffer))
    await notes.of(client.sendmsg, [b"ab", b"cd"])
    await settle()
    await notes.of(server.recvmsg, 100)
    await notes.of(server.recv, -1)
    await notes.of(client.send, b"")


@scenario
async def datagrams(notes: Notes) -> None:
    receiver, address = await udp_bound()
    sender, _ = await udp_bound()
    for size in (0, 1, 65507, 65508):
        await notes.of(sender.sendto, bytes(size), address)
    await settle()
    for _ in range(3):
        data, source = await receiver.recvfrom(70_000)
        notes.append((len(data), source == sender.getsockname()))
    await sender.sendto(b"0123456789", address)
    await settle()
    notes.append((await receiver.recvfrom(4, socket.MSG_PEEK))[0])
    notes.append((await receiver.recvfrom(4))[0])
    for count in (4, 10, 11):
        await sender.sendto(b"0123456789", address)
        await settle()
        notes.append((await receiver.recvmsg(count, 0, socket.MSG_PEEK))[:3])
        notes.append((await receiver.recvmsg_into([bytearray(2), bytearray(count - 2)]))[:3])
    await notes.of(receiver.recvmsg, -1)
    await notes.of(receiver.is_readable)  # the rest of a datagram is lost
    await notes.of(sender.sendto, b"x", (LOCAL, 0))
    await notes.of(sender.sendto, b"x", (LOCAL, 70_000))
    await notes.of(sender.send, b"x")
    await notes.of(sender.sendto, b"x", ("255.255.255.255", 9))
    await notes.of(sender.connect, ("255.255.255.255", 9))


@scenario
async def a_datagram_that_cannot_be_sent(notes: Notes) -> None:
    sock = udp_socket()
    await notes.of(sock.send, b"x")
    notes.append(sock.getsockname()[1] != 0)
    await notes.of(sock.bind, (LOCAL, 0))


@scenario
async def connected_datagram_sockets(notes: Notes) -> None:
    here, address = await udp_bound()
    there, other = await udp_bound()
    stranger, _ = await udp_bound()
    await here.connect(other)
    notes.append(here.getpeername() == other)
    await stranger.sendto(b"not for you", address)
    await there.sendto(b"for you", address)
    await settle()
    await notes.of(here.recv, 100)
    await notes.of(here.is_readable)
    await notes.of(here.send, b"reply")
    await notes.of(there.recv, 100)
    there.close()
    await here.send(b"to nobody")
    await settle()
    await notes.of(here.is_readable)
    await notes.of(here.recv, 100)
    await here.send(b"to nobody")
    await settle()
    await notes.of(here.send, b"to nobody")
    await notes.of(here.send, b"to nobody")
    await settle()
    await notes.of(here.getsockopt, socket.SOL_SOCKET, socket.SO_ERROR)
    await notes.of(here.getsockopt, socket.SOL_SOCKET, socket.SO_ERROR)
    await notes.of(here.shutdown, socket.SHUT_WR)
    await notes.of(here.send, b"x")
    await stranger.sendto(b"to nobody, not connected", other)
    await settle()
    await notes.of(stranger.is_readable)


@scenario
async def both_families_on_one_socket(notes: Notes) -> None:
    dual = tcp_socket(socket.AF_INET6)
    await dual.bind(("::", 0))
    dual.listen()
    port = dual.getsockname()[1]
    for family, address in (
        (socket.AF_INET, LOCAL),
        (socket.AF_INET6, "::1"),
        (socket.AF_INET6, "::ffff:127.0.0.1"),
    ):
        client = tcp_socket(family)
        await notes.of(client.connect, (address, port))
        server, peer = await dual.accept()
        notes.append((peer[0], peer[2:], server.getsockname()[0], client.getpeername()[0]))
    only = tcp_socket(socket.AF_INET6)
    only.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    await notes.of(only.connect, ("::ffff:127.0.0.1", port))
    await notes.of(tcp_socket().connect, ("::1", port))


@scenario
async def a_socket_bound_to_an_ipv6_address(notes: Notes) -> None:
    """It speaks IPv6 only from then on."""
    level, only = socket.IPPROTO_IPV6, socket.IPV6_V6ONLY
    for make in (tcp_socket, udp_socket):
        for address in ("::", "::1", "::ffff:127.0.0.1"):
            sock = make(socket.AF_INET6)
            await notes.of(sock.setsockopt, level, only, 0)
            await sock.bind((address, 0))
            await notes.of(sock.getsockopt, level, only)
            await notes.of(sock.setsockopt, level, only, 0)
    for make in (tcp_socket, udp_socket):
        sock = make()
        await sock.bind((LOCAL, 0))
        await notes.of(sock.setsockopt, level, only, 0)
    _, ipv4 = await udp_bound()
    sock = udp_socket(socket.AF_INET6)
    await sock.bind(("::1", 0))
    await notes.of(sock.sendto, b"x", (f"::ffff:{LOCAL}", ipv4[1]))
    await notes.of(sock.sendto, b"x", (LOCAL, ipv4[1]))
    await notes.of(sock.bind, ("::ffff:127.0.0.1", 0))


@scenario
async def options(notes: Notes) -> None:
    tcp, udp = tcp_socket(), udp_socket()
    level = socket.SOL_SOCKET
    for sock in (tcp, udp):
        for number in (socket.SO_REUSEADDR, socket.SO_KEEPALIVE, socket.SO_BROADCAST):
            await notes.of(sock.getsockopt, level, number)
            sock.setsockopt(level, number, 7)
            await notes.of(sock.getsockopt, level, number)
            await notes.of(sock.getsockopt, level, number, 4)
        await notes.of(sock.setsockopt, level, socket.SO_RCVBUF, 10_000)
        await notes.of(sock.getsockopt, level, socket.SO_RCVBUF)
        await notes.of(sock.setsockopt, level, socket.SO_LINGER, 1)
        await notes.of(sock.setsockopt, level, socket.SO_LINGER, struct.pack("ii", 1, 5))
        await notes.of(sock.getsockopt, level, socket.SO_LINGER, 8)
        await notes.of(sock.setsockopt, level, 9999, 1)
        await notes.of(sock.getsockopt, level, 9999)
    for number in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT, socket.TCP_NODELAY):
        await notes.of(tcp.getsockopt, socket.IPPROTO_TCP, number)
        await notes.of(tcp.setsockopt, socket.IPPROTO_TCP, number, 3)
        await notes.of(tcp.getsockopt, socket.IPPROTO_TCP, number)
        await notes.of(udp.setsockopt, socket.IPPROTO_TCP, number, 3)
    await notes.of(tcp.setsockopt, socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 0)


async def in_virtual_network(body: Scenario, notes: Notes) -> None:
    async with open_virtual_network() as network:
        with network.host("one").entered():
            await body(notes)


@pytest.mark.parametrize("body", SCENARIOS.values(), ids=SCENARIOS.keys())
def test_outcome_is_the_systems(body: Scenario) -> None:
    real, virtual = Notes(), Notes()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # scenarios leave their sockets to the collector
        trio.run(body, real)
    clock = trio.testing.MockClock(autojump_threshold=0)
    trio.run(in_virtual_network, body, virtual, clock=clock)
    assert real
    assert virtual == real
