"""Hosts: their tasks, and crash, restart, pause and resume."""

from __future__ import annotations

import errno
import socket
from collections.abc import Awaitable, Callable
from functools import partial

import pytest
import trio
import trio.testing

from tests.testing.network.programs import (
    PORT,
    connected_pair,
    echo,
    ignore,
    raised_by,
    tcp_socket,
    udp_echo,
    udp_socket,
)
from trionet.testing import VirtualNetwork, open_virtual_network

Clock = trio.testing.MockClock


async def serve(network: VirtualNetwork, handler: object = echo) -> None:
    async def start(task_status: trio.TaskStatus[object] = trio.TASK_STATUS_IGNORED) -> None:
        await trio.serve_tcp(handler, PORT, host="0.0.0.0", task_status=task_status)  # type: ignore[arg-type]

    await network.host("server").start(start)


async def test_children_of_a_task_live_where_it_does(autojump_clock: Clock) -> None:
    async with open_virtual_network() as network:
        names = []

        async def child() -> None:
            names.append(tcp_socket())
            await names[0].bind(("0.0.0.0", 0))
            await names[0].connect(("server", PORT))

        async def parent() -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(child)

        await serve(network)
        network.host("client").start_soon(parent)
        await trio.sleep(1)
        assert names[0].getsockname()[0] == "10.0.0.2"


async def test_start_returns_what_the_task_says(autojump_clock: Clock) -> None:
    async def task(value: int, *, task_status: trio.TaskStatus[int]) -> None:
        await trio.sleep(5)
        task_status.started(value + 1)
        await trio.sleep_forever()

    async with open_virtual_network() as network:
        assert await network.host("one").start(task, 1, name="a name") == 2
        assert trio.current_time() == 5


async def test_tasks_end_with_the_block(autojump_clock: Clock) -> None:
    ended = []

    async def task() -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(3)
            ended.append(trio.current_time())

    async with open_virtual_network() as network:
        network.host("one").start_soon(task)
        await trio.sleep(1)
    assert ended == [4]


@pytest.mark.parametrize("where", ["task", "block"])
async def test_an_exception_leaves_the_block_as_it_is(autojump_clock: Clock, where: str) -> None:
    async def fail() -> None:
        raise ValueError(where)

    with pytest.raises(ValueError, match=where):
        async with open_virtual_network() as network:
            if where == "task":
                network.host("one").start_soon(fail)
                await trio.sleep_forever()
            else:
                network.host("one").start_soon(trio.sleep_forever)
                await fail()


async def test_two_exceptions_come_in_a_group(autojump_clock: Clock) -> None:
    async def fail() -> None:
        raise ValueError("task")

    with pytest.RaisesGroup(KeyError, ValueError):
        async with open_virtual_network() as network:
            network.host("one").start_soon(fail)
            try:
                await trio.sleep_forever()
            finally:
                raise KeyError("block")


async def test_cancelled_from_outside(autojump_clock: Clock) -> None:
    with trio.move_on_after(5) as scope:
        async with open_virtual_network() as network:
            network.host("one").start_soon(trio.sleep_forever)
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert trio.current_time() == 5


async def test_a_crash_is_silent_and_a_restart_resets(autojump_clock: Clock) -> None:
    async with open_virtual_network(latency=0.01) as network:
        await serve(network)
        with network.host("client").entered():
            stream = await trio.open_tcp_stream("server", PORT)
            network.host("server").crash()
            assert not network.host("server").running
            await stream.send_all(b"anybody there?")
            with trio.move_on_after(100) as silence:
                await stream.receive_some()
            assert silence.cancelled_caught
            network.host("server").restart()
            with pytest.raises(trio.BrokenResourceError) as caught:
                await stream.receive_some()
            assert isinstance(caught.value.__cause__, ConnectionResetError)
            refused = await raised_by(tcp_socket().connect, ("server", PORT))
            assert isinstance(refused, ConnectionRefusedError)
            await serve(network)
            assert isinstance(await trio.open_tcp_stream("server", PORT), trio.SocketStream)


async def test_a_client_that_crashed_connects_from_the_same_port(autojump_clock: Clock) -> None:
    """The server still has the connection from before, and learns by that that it is over."""
    async with open_virtual_network(latency=0.01) as network:
        ended = []

        async def note_end(stream: trio.SocketStream) -> None:
            with pytest.raises(trio.BrokenResourceError):
                await echo(stream)
            ended.append(trio.current_time())

        await serve(network, note_end)
        client = network.host("client")
        with client.entered():
            first = await trio.open_tcp_stream("server", PORT)
            port = first.socket.getsockname()[1]
            await trio.sleep(100)
            client.restart()
            stream = await trio.open_tcp_stream("server", PORT)
            assert stream.socket.getsockname()[1] == port
            await stream.send_all(b"x")
            assert await stream.receive_some() == b"x"
        assert ended == [pytest.approx(100.05)]
        assert trio.current_time() == pytest.approx(101.06)  # the second attempt got through


async def test_a_connection_that_was_over_is_in_nobodys_way(autojump_clock: Clock) -> None:
    async with open_virtual_network(latency=0.01) as network:
        await serve(network, trio.aclose_forcefully)  # closes first, so it has to remember the connection
        client = network.host("client")
        for start in (0, 10):
            with client.entered():
                stream = await trio.open_tcp_stream("server", PORT)
                assert stream.socket.getsockname()[1] == 49152
                assert trio.current_time() == pytest.approx(start + 0.02)
                assert await stream.receive_some() == b""
                await stream.aclose()
                await trio.sleep(1)
                assert "TIME_WAIT" in str(network.netstat("server"))
            client.restart()
            await trio.sleep_until(10)


async def test_last_words_of_a_crash_are_not_heard(autojump_clock: Clock) -> None:
    tried = []

    async def last_words(stream: trio.SocketStream) -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.move_on_after(10, shield=True):
                await stream.send_all(b"goodbye")
                with udp_socket() as sock:
                    await sock.sendto(b"goodbye", ("client", PORT))
                tried.append(True)
                await stream.aclose()

    async with open_virtual_network(latency=0.01) as network:
        await serve(network, last_words)
        with network.host("client").entered():
            udp = udp_socket()
            await udp.bind(("0.0.0.0", PORT))
            stream = await trio.open_tcp_stream("server", PORT)
            await trio.sleep(1)
            network.host("server").crash()
            network.host("server").restart()  # before the tasks have even noticed
            with trio.move_on_after(100):
                await stream.receive_some()
            assert tried == [True]
            assert not udp.is_readable()
        heard = [entry.packet for entry in network.trace if entry.time > 1 and entry.packet]
        assert heard == []


async def test_a_shielded_task_of_a_crashed_host_waits_for_a_silent_network(autojump_clock: Clock) -> None:
    ended = []

    async def task() -> None:
        with udp_socket() as sock:
            await sock.bind(("0.0.0.0", PORT))
            with trio.move_on_after(10, shield=True):
                await sock.recv(1)
            ended.append(trio.current_time())
            await trio.sleep_forever()

    async with open_virtual_network() as network:
        network.host("one").start_soon(task)
        await trio.sleep(1)
        network.host("one").crash()
        await trio.sleep(100)
    assert ended == [10]


async def test_a_shielded_task_of_a_crashed_host_gives_up_in_time(autojump_clock: Clock) -> None:
    """As it would if the network were silent; else it would wait for ever, and so would the test."""
    ended: list[tuple[int | None, float]] = []

    async def note_failure(operation: Callable[[], Awaitable[object]]) -> None:
        with trio.CancelScope(shield=True):
            error = await raised_by(operation)
        ended.append((getattr(error, "errno", None), trio.current_time()))

    async def connect() -> None:
        await note_failure(lambda: tcp_socket().connect(("10.0.0.1", PORT)))

    async def wait_for_answer() -> None:
        with tcp_socket() as sock:
            await sock.connect(("10.0.0.1", PORT + 1))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 10)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
            await note_failure(lambda: sock.recv(1))

    async with open_virtual_network() as network:
        server, client = network.host("server"), network.host("client")
        server.firewalled = True
        await server.start(partial(trio.serve_tcp, ignore, PORT + 1, host="0.0.0.0"))
        client.start_soon(connect)
        client.start_soon(wait_for_answer)
        await trio.sleep(1)
        client.restart()
        client.pause()  # which is of no concern to those of before
    assert ended == [(errno.ETIMEDOUT, 40), (errno.ETIMEDOUT, 127)]


async def test_a_task_that_had_not_begun_when_its_host_crashed(autojump_clock: Clock) -> None:
    made = []

    async def task() -> None:
        made.append(udp_socket())
        await trio.sleep_forever()

    async with open_virtual_network() as network:
        network.host("one").start_soon(task)
        network.host("one").restart()
        await trio.sleep(1)
        assert len(made) == 1
        assert len(network.netstat("one")) == 0


async def test_a_task_may_crash_its_own_host(autojump_clock: Clock) -> None:
    async with open_virtual_network() as network:
        host = network.host("one")

        async def task() -> None:
            host.crash()
            await trio.sleep_forever()

        host.start_soon(task)
        await trio.sleep(1)
        assert not host.running
        with pytest.raises(RuntimeError, match="restart"):
            host.start_soon(trio.sleep_forever)
        host.restart()
        host.start_soon(trio.sleep_forever)


async def test_who_only_entered_a_host_survives_its_crash(autojump_clock: Clock) -> None:
    async with open_virtual_network() as network:
        with network.host("server").entered():
            sock = udp_socket()
            await sock.bind(("0.0.0.0", PORT))

            async def crash() -> None:
                await trio.sleep(1)
                network.host("server").crash()

            async with trio.open_nursery() as nursery:
                nursery.start_soon(crash)
                with pytest.raises(trio.ClosedResourceError):
                    await sock.recv(1)
            with pytest.raises(OSError, match="Bad file descriptor"):
                await sock.recv(1)
            sock.close()
            network.host("server").restart()
            with udp_socket() as again:
                await again.bind(("0.0.0.0", PORT))


async def test_a_paused_host_stands_still(autojump_clock: Clock) -> None:
    async with open_virtual_network(latency=0.01) as network:
        server = network.host("server")
        server.start_soon(udp_echo)
        await serve(network)
        with network.host("client").entered():
            stream = await trio.open_tcp_stream("server", PORT)
            udp = udp_socket()
            server.pause()
            assert server.paused
            await udp.sendto(b"x", ("server", PORT))
            await stream.send_all(b"hello")
            with trio.move_on_after(100) as scope:
                await stream.receive_some()
            assert scope.cancelled_caught
            assert not udp.is_readable()
            server.resume()
            assert await stream.receive_some() == b"hello"
            assert await udp.recv(1) == b"x"


async def test_nothing_gets_into_a_paused_host(autojump_clock: Clock) -> None:
    async with open_virtual_network(latency=1) as network:
        here, there = await connected_pair(network)
        with network.host("server").entered():
            udp = udp_socket()
            await udp.bind(("0.0.0.0", PORT))
        await here.send_all(b"under way")
        network.host("server").pause()
        with network.host("client").entered():
            await udp_socket().sendto(b"x", ("server", PORT))
        await trio.sleep(10)
        assert not udp.is_readable()
        assert not there.socket.is_readable()
        network.host("server").resume()
        await trio.testing.wait_all_tasks_blocked()
        assert udp.is_readable()
        assert there.socket.is_readable()


async def test_timers_of_a_paused_host_stand_still(autojump_clock: Clock) -> None:
    async with open_virtual_network(latency=0.01) as network:
        here, there = await connected_pair(network)
        network.partition("client", "server")
        await here.send_all(b"x")
        network.host("client").pause()
        await trio.sleep(1000)
        assert not here.socket.is_readable()  # it would have given up
        network.repair()
        network.host("client").resume()
        with pytest.raises(trio.BrokenResourceError):
            await here.receive_some()  # as soon as it is awake it sees how late it is
        assert trio.current_time() == pytest.approx(1000.03)
        await there.aclose()


async def test_what_a_paused_host_sends_goes_out_later(autojump_clock: Clock) -> None:
    async with open_virtual_network() as network:
        here, there = await connected_pair(network)
        network.host("client").pause()
        await here.send_all(b"later")
        await trio.sleep(0.1)
        with trio.move_on_after(100) as scope:
            await there.receive_some()
        assert scope.cancelled_caught
        network.host("client").resume()
        assert await there.receive_some() == b"later"


async def test_what_is_sent_after_a_pause_comes_after_what_was_sent_in_it(autojump_clock: Clock) -> None:
    async with open_virtual_network() as network:
        with network.host("b").entered():
            receiver = udp_socket()
            await receiver.bind(("0.0.0.0", PORT))
        sender = network.host("a")
        with sender.entered(), udp_socket() as sock:
            await sock.connect(("b", PORT))
            sender.pause()
            await sock.send(b"1")
            await sock.send(b"2")
            sender.resume()
            await sock.send(b"3")  # at the same instant
        assert [await receiver.recv(1) for _ in range(3)] == [b"1", b"2", b"3"]


async def test_a_paused_host_may_crash(autojump_clock: Clock) -> None:
    async with open_virtual_network() as network:
        here, there = await connected_pair(network)
        network.host("client").pause()
        await here.send_all(b"never")
        await there.send_all(b"never")
        await trio.sleep(1)
        network.host("client").crash()
        network.host("client").restart()
        network.host("client").pause()
        before = network.trace.count
        network.host("client").resume()
        await trio.testing.wait_all_tasks_blocked()
        assert network.trace.count == before + 1  # that it was resumed
        with pytest.raises(trio.BrokenResourceError):
            await there.receive_some()


async def test_netstat_is_a_table(autojump_clock: Clock) -> None:
    async with open_virtual_network() as network:
        await serve(network, ignore)
        network.host("server").start_soon(udp_echo)
        with network.host("client").entered():
            stream = await trio.open_tcp_stream("server", PORT)
            await stream.send_all(b"12345")
            await trio.sleep(1)
            lines = str(network.netstat("server")).splitlines()
            assert [line.split() for line in lines] == [
                ["protocol", "recv_q", "send_q", "local", "remote", "state", "drops"],
                ["tcp", "0", "65535", "0.0.0.0:3251", "*", "LISTEN", "0"],
                ["udp", "0", "0", "0.0.0.0:3251", "*", "0"],
                ["tcp", "5", "0", "10.0.0.1:3251", "10.0.0.2:49152", "ESTABLISHED", "0"],
            ]
            await stream.aclose()
            assert "FIN_WAIT" in str(network.netstat("client"))  # held by nobody
        network.host("server").crash()
        assert len(network.netstat("server")) == 0
