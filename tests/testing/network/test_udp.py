"""UDP between hosts."""

from __future__ import annotations

import errno
import socket

import pytest
import trio
import trio.testing

from tests.testing.network.programs import PORT, raised_by, udp_echo, udp_socket
from trionet.testing import VirtualHost, open_virtual_network


async def bound(host: VirtualHost, address: str = "0.0.0.0", port: int = PORT) -> trio.socket.SocketType:
    with host.entered():
        sock = udp_socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        await sock.bind((address, port))
        return sock


async def test_a_datagram_and_its_echo(autojump_clock: trio.testing.MockClock) -> None:
    async with open_virtual_network(latency=0.25) as network:
        network.host("server").start_soon(udp_echo)
        with network.host("client").entered():
            sock = udp_socket()
            assert await sock.sendto(b"ping", ("server", PORT)) == 4
            assert await sock.recvfrom(100) == (b"ping", ("10.0.0.1", PORT))
            assert sock.getsockname() == ("0.0.0.0", 49152)
        assert trio.current_time() == pytest.approx(0.5)


async def test_over_ipv6_and_dual(autojump_clock: trio.testing.MockClock) -> None:
    async with open_virtual_network() as network:
        one, two = network.host("one"), network.host("two")
        receiver = await bound(two, "::")
        with one.entered():
            await udp_socket(socket.AF_INET6).sendto(b"six", ("two", PORT))
            await udp_socket().sendto(b"four", ("two", PORT))
        assert (await receiver.recvfrom(10))[1][0] == "fd00::1"
        assert (await receiver.recvfrom(10))[1][0] == "::ffff:10.0.0.1"
        await receiver.sendto(b"back", ("one", 49152))  # to its IPv6 address


async def test_a_full_queue_drops_and_counts(autojump_clock: trio.testing.MockClock) -> None:
    async with open_virtual_network() as network:
        receiver = await bound(network.host("receiver"))
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 5000)
        with network.host("sender").entered():
            sender = udp_socket()
            for number in range(10):
                await sender.sendto(bytes([number]) * 1000, ("receiver", PORT))
        await trio.sleep(1)
        (info,) = network.netstat("receiver")
        assert (info.recv_q, info.drops) == (3000, 7)
        assert [(await receiver.recv(1))[0] for _ in range(3)] == [0, 1, 2]
        assert [entry.why for entry in network.trace if entry.why] == ["receive queue full"] * 7


@pytest.mark.parametrize(("firewalled", "windows"), [(False, False), (True, False), (False, True)])
async def test_closed_ports(autojump_clock: trio.testing.MockClock, firewalled: bool, windows: bool) -> None:
    async with open_virtual_network() as network:
        here, there = network.host("here"), network.host("there")
        there.firewalled, here.windows_udp_errors = firewalled, windows
        with here.entered():
            connected, other = udp_socket(), udp_socket()
            await connected.connect(("there", PORT))
            await connected.send(b"x")
            await other.sendto(b"x", ("there", PORT))
            await trio.sleep(1)
            assert connected.is_readable() == (not firewalled)
            assert other.is_readable() == windows
            if windows:
                assert isinstance(await raised_by(other.recvfrom, 1), ConnectionResetError)
            elif not firewalled:
                assert isinstance(await raised_by(connected.recv, 1), ConnectionRefusedError)
            with trio.move_on_after(1) as scope:
                await other.recvfrom(1)
            assert scope.cancelled_caught


async def test_a_datagram_to_an_address_of_nobody(autojump_clock: trio.testing.MockClock) -> None:
    async with open_virtual_network() as network:
        with network.host("here").entered():
            sock = udp_socket()
            await sock.connect(("10.0.0.77", PORT))
            await sock.send(b"x")
            error = await raised_by(sock.recv, 1)
        assert isinstance(error, OSError)
        assert (error.errno, trio.current_time()) == (errno.EHOSTUNREACH, 3)


@pytest.mark.parametrize("address", ["255.255.255.255", "10.255.255.255", "<broadcast>"])
async def test_a_broadcast_reaches_all_hosts(autojump_clock: trio.testing.MockClock, address: str) -> None:
    async with open_virtual_network(latency=0.01) as network:
        sockets = [await bound(network.host(name)) for name in ("one", "two", "three")]
        only_own = await bound(network.host("four"), "10.0.0.4")
        with network.host("one").entered():
            sender = udp_socket()
            assert isinstance(await raised_by(sender.sendto, b"x", (address, PORT)), PermissionError)
            sender.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            await sender.sendto(b"to all", (address, PORT))
        await trio.sleep(1)
        assert [await sock.recv(10) for sock in sockets] == [b"to all"] * 3
        assert not only_own.is_readable()


async def test_of_sockets_that_share_a_port_the_best_match_receives(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_virtual_network() as network:
        host, peer = network.host("host"), network.host("peer")
        sockets = []
        with host.entered():
            for address in ("0.0.0.0", "10.0.0.1", "10.0.0.1", "10.0.0.1"):
                sock = udp_socket()
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                await sock.bind((address, PORT))
                sockets.append(sock)
        await sockets[1].connect(("10.0.0.2", 7))
        for port in (7, 8):
            sender = await bound(peer, port=port)
            await sender.sendto(bytes([port]), ("host", PORT))
            with host.entered():
                await udp_socket().sendto(b"loop", ("localhost", PORT))
        await trio.sleep(1)
        assert not sockets[2].is_readable()  # of equal ones the last gets all
        assert [await sockets[index].recv(9) for index in (0, 1, 3)] == [b"loop", b"\x07", b"\x08"]


async def test_a_cancelled_receive_has_taken_nothing(autojump_clock: trio.testing.MockClock) -> None:
    async with open_virtual_network(latency=1) as network:
        receiver = await bound(network.host("receiver"))
        with network.host("sender").entered():
            await udp_socket().sendto(b"x", ("receiver", PORT))
        got = []
        with trio.move_on_after(1):
            got.append(await receiver.recv(1))
        with trio.move_on_after(1):
            got.append(await receiver.recv(1))
        assert got == [b"x"]


async def test_two_tasks_cannot_wait_for_one_socket(autojump_clock: trio.testing.MockClock) -> None:
    async with open_virtual_network() as network:
        receiver = await bound(network.host("receiver"))
        with pytest.RaisesGroup(trio.BusyResourceError):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(receiver.recv, 1)
                nursery.start_soon(receiver.recv, 1)
