"""TCP between hosts: what sockets see of connections that are slow, silent, full or gone."""

from __future__ import annotations

import errno
import socket
from functools import partial

import pytest
import trio
import trio.testing

from tests.testing.network.programs import (
    PORT,
    connected_pair,
    echo,
    ignore,
    listener_on,
    raised_by,
    receive_all,
    tcp_socket,
    udp_socket,
)
from trionet import ConnectionLost, open_rpc_client, serve_rpc
from trionet.testing import open_virtual_network


async def test_a_packet_takes_the_latency(autojump_clock: trio.testing.MockClock) -> None:
    async with open_virtual_network(latency=0.25) as network:
        here, there = await connected_pair(network)
        start = trio.current_time()
        await here.send_all(b"x")
        assert await there.receive_some() == b"x"
        assert trio.current_time() - start == pytest.approx(0.25)


async def test_nothing_arrives_while_it_is_sent(autojump_clock: trio.testing.MockClock) -> None:
    async with open_virtual_network() as network:
        here, there = await connected_pair(network)
        sent = trio.current_time()
        await here.socket.send(b"x")
        assert trio.current_time() == sent
        assert await there.receive_some() == b"x"
        assert trio.current_time() == sent


async def test_a_receive_may_get_a_part_and_a_send_may_take_a_part(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_virtual_network() as network:
        here, there = await connected_pair(network)
        data = bytes(range(256)) * 4096
        sent = await here.socket.send(data)
        assert 0 < sent < len(data)
        assert len(await there.receive_some(10)) == 10
        rest = len(await there.receive_some(1_000_000))
        assert 0 < rest <= sent - 10


async def test_a_sender_waits_for_a_receiver_that_does_not_read(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_virtual_network(latency=0.01) as network:
        here, there = await connected_pair(network)
        with trio.move_on_after(100_000) as scope:
            await here.send_all(bytes(1_000_000))
        assert scope.cancelled_caught
        (info,) = [info for info in network.netstat("server") if info.state == "ESTABLISHED"]
        (peer,) = network.netstat("client")
        assert info.recv_q == 128 * 1024
        assert peer.send_q == 128 * 1024
        async with trio.open_nursery() as nursery:
            nursery.start_soon(here.aclose)
            assert len(await receive_all(there)) == 256 * 1024


async def test_small_buffers_hold_little(autojump_clock: trio.testing.MockClock) -> None:
    async with open_virtual_network() as network:
        with network.host("server").entered():
            listener = tcp_socket()
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2000)
            await listener.bind(("0.0.0.0", PORT))
            listener.listen()
        with network.host("client").entered():
            client = tcp_socket()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 3000)
            await client.connect(("server", PORT))
        assert await client.send(bytes(10_000)) == 3000
        await trio.sleep(1)
        assert await client.send(bytes(10_000)) == 2000
        server, _ = await listener.accept()
        assert server.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == 4000
        assert len(await server.recv(10_000)) == 2000


async def test_nobody_answers_a_connection_attempt(autojump_clock: trio.testing.MockClock) -> None:
    async with open_virtual_network() as network:
        network.host("server").firewalled = True
        with network.host("client").entered():
            error = await raised_by(tcp_socket().connect, ("server", PORT))
        assert isinstance(error, TimeoutError)
        assert error.errno == errno.ETIMEDOUT
        assert trio.current_time() == pytest.approx(127)


@pytest.mark.parametrize(
    ("address", "number", "seconds"),
    [
        (("10.0.0.99", PORT), errno.EHOSTUNREACH, 3),
        (("fd00::99", PORT), errno.EHOSTUNREACH, 3),
        (("192.0.2.1", PORT), errno.ENETUNREACH, 0),
        (("255.255.255.255", PORT), errno.ENETUNREACH, 0),
    ],
)
async def test_addresses_of_nobody(
    autojump_clock: trio.testing.MockClock, address: tuple[str, int], number: int, seconds: float
) -> None:
    async with open_virtual_network(latency=0.001) as network:
        with network.host("client").entered():
            sock = tcp_socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
            error = await raised_by(sock.connect, address)
        assert isinstance(error, OSError)
        assert error.errno == number
        assert trio.current_time() == pytest.approx(seconds)


async def test_loopback_leads_nowhere_else(autojump_clock: trio.testing.MockClock) -> None:
    async with open_virtual_network() as network:
        network.host("server")
        with network.host("client").entered():
            for sock in (tcp_socket(), udp_socket()):
                await sock.bind(("127.0.0.1", 0))
                error = await raised_by(sock.connect, ("server", PORT))
                assert isinstance(error, OSError)
                assert error.errno == errno.EINVAL


async def test_a_socket_may_try_again_after_it_was_refused(autojump_clock: trio.testing.MockClock) -> None:
    async with open_virtual_network() as network:
        server, client = network.host("server"), network.host("client")
        with client.entered():
            sock = tcp_socket()
            for error in (ConnectionRefusedError, ConnectionAbortedError) * 2:  # as in Linux
                assert isinstance(await raised_by(sock.connect, ("server", PORT)), error)
                assert sock.getsockname() == ("0.0.0.0", 0)
            await server.start(partial(trio.serve_tcp, echo, PORT, host="0.0.0.0"))
            await sock.connect(("server", PORT))
            await sock.send(b"x")
            assert await sock.recv(1) == b"x"


async def test_a_cancelled_connect_leaves_nothing(autojump_clock: trio.testing.MockClock) -> None:
    async with open_virtual_network(latency=1) as network:
        async with listener_on(network.host("server")):
            with network.host("client").entered():
                sock = tcp_socket()
                with trio.move_on_after(1.5):
                    await sock.connect(("server", PORT))
                assert sock.fileno() == -1
            await trio.sleep(10)
            assert len(network.netstat("client")) == 0
            assert [info.state for info in network.netstat("server")] == ["LISTEN"]


async def test_a_cancelled_receive_has_taken_nothing(autojump_clock: trio.testing.MockClock) -> None:
    async with open_virtual_network(latency=1) as network:
        here, there = await connected_pair(network)
        await here.send_all(b"data")
        with trio.move_on_after(1):  # it comes at the very instant
            assert await there.receive_some() == b"data"
            return
        assert await there.receive_some() == b"data"


async def test_a_full_backlog_lets_connections_try_again(autojump_clock: trio.testing.MockClock) -> None:
    async with open_virtual_network(latency=0.01) as network:
        async with listener_on(network.host("server"), backlog=1) as listener:
            with network.host("client").entered():
                connected = []

                async def connect() -> None:
                    connected.append((await trio.open_tcp_stream("10.0.0.1", PORT), trio.current_time()))

                async with trio.open_nursery() as nursery:
                    for _ in range(3):
                        nursery.start_soon(connect)
                    await trio.sleep(0.5)
                    assert len(connected) == 2  # as Linux: one more than the backlog
                    await listener.accept()
                assert connected[2][1] == pytest.approx(1.02)
        assert [entry.why for entry in network.trace if entry.what == "dropped"] == ["backlog full"]


async def test_closing_a_listener_resets_who_was_not_accepted(autojump_clock: trio.testing.MockClock) -> None:
    async with open_virtual_network() as network:
        async with listener_on(network.host("server")):
            with network.host("client").entered():
                stream = await trio.open_tcp_stream("10.0.0.1", PORT)
        with pytest.raises(trio.BrokenResourceError):
            await stream.receive_some()


async def test_data_that_nobody_acknowledges(autojump_clock: trio.testing.MockClock) -> None:
    async with open_virtual_network() as network:
        here, _there = await connected_pair(network)
        network.partition("client", "server")
        start = trio.current_time()
        await here.send_all(b"x")
        with pytest.raises(trio.BrokenResourceError) as caught:
            await here.receive_some()
        assert isinstance(caught.value.__cause__, TimeoutError)
        assert trio.current_time() - start == pytest.approx(924.6)


async def test_a_partition_that_is_repaired_in_time_loses_nothing(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_virtual_network() as network:
        here, there = await connected_pair(network)
        network.partition("client", "server")
        await here.send_all(b"through")
        await trio.sleep(300)
        network.repair()
        assert await there.receive_some() == b"through"


class Target:
    async def sleep(self, seconds: float) -> None:
        await trio.sleep(seconds)


async def test_keepalive_of_a_client_notices_a_silent_server(autojump_clock: trio.testing.MockClock) -> None:
    async with open_virtual_network(latency=0.01) as network:
        server, client = network.host("server"), network.host("client")
        await server.start(partial(serve_rpc, {"target": Target()}, PORT, host="0.0.0.0"))
        with client.entered():
            async with open_rpc_client("server", PORT) as rpc:
                async with trio.open_nursery() as nursery:

                    @nursery.start_soon
                    async def crash() -> None:
                        await trio.sleep(100)
                        server.crash()

                    with pytest.raises(ConnectionLost):
                        await rpc.call("sleep", 1000)
        assert 130 <= trio.current_time() <= 141


async def test_a_server_forgets_a_client_that_vanished(autojump_clock: trio.testing.MockClock) -> None:
    async with open_virtual_network() as network:
        server, client = network.host("server"), network.host("client")
        handle = await server.start(partial(serve_rpc, {"target": Target()}, PORT, host="0.0.0.0"))

        async def connect() -> None:
            async with open_rpc_client("server", PORT):
                await trio.sleep_forever()

        client.start_soon(connect)
        await trio.sleep(5)
        client.crash()
        assert "ESTABLISHED" in str(network.netstat(server))
        await trio.sleep(41)
        assert "ESTABLISHED" not in str(network.netstat(server))
        assert handle is not None


async def test_timers_do_not_pile_up(autojump_clock: trio.testing.MockClock) -> None:
    """A connection that is busy for long has as much on the agenda as one that is new."""
    async with open_virtual_network(latency=0.001) as network:
        here, there = await connected_pair(network)
        for stream in (here, there):
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 10)
        for _ in range(1000):
            await here.send_all(b"x")
            await there.receive_some()
            await trio.sleep(0.3)
        assert network._fabric.agenda_length < 10


async def test_ports_of_clients_differ(autojump_clock: trio.testing.MockClock) -> None:
    async with open_virtual_network() as network:
        await network.host("server").start(partial(trio.serve_tcp, ignore, PORT, host="0.0.0.0"))
        with network.host("client").entered():
            streams = [await trio.open_tcp_stream("10.0.0.1", PORT) for _ in range(20)]
        assert len({stream.socket.getsockname() for stream in streams}) == 20


async def test_a_socket_that_has_no_business_with_descriptors_says_so(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_virtual_network() as network:
        with network.host("one").entered():
            sock = tcp_socket()
        assert sock.fileno() < -1
        for call in (sock.detach, sock.dup):
            with pytest.raises(NotImplementedError):
                call()
        with sock:
            assert "TCP socket of one" in repr(sock)
        assert "closed" in repr(sock)
        assert sock.fileno() == -1


async def test_closed_connection_asks_no_more_for_life(autojump_clock: trio.testing.MockClock) -> None:
    async def serve(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.aclose()

    async with open_virtual_network() as network:
        await network.host("server").start(trio.serve_tcp, serve, 7)
        with network.host("client").entered():
            stream = await trio.open_tcp_stream("server", 7)
            stream.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_KEEPALIVE, 1)
            stream.setsockopt(trio.socket.IPPROTO_TCP, trio.socket.TCP_KEEPIDLE, 10)
            await stream.aclose()
        await trio.sleep(1)
        assert "TIME_WAIT" in str(network.netstat("client"))
        count = network.trace.count
        await trio.sleep(30)
        assert network.trace.count == count
