"""The streams of the virtual network pass Trio's own tests of streams, and run its high-level functions."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing

from tests.network.certificates import Certificates
from tests.testing.network.programs import PORT, connected_pair, echo
from trionet import open_rpc_client, serve_rpc
from trionet.testing import VirtualNetwork, open_virtual_network

Pair = tuple[trio.SocketStream, trio.SocketStream]


async def clogged_pair(network: VirtualNetwork) -> Pair:
    """Two ends between which nothing more fits."""
    here, there = await connected_pair(network)
    # Again, because a sender that waits is woken only when a third of its buffer is free.
    for stream in (here, there, here, there):
        with trio.move_on_after(60):
            while True:
                await stream.send_all(bytes(16 * 1024))
    return here, there


@pytest.mark.parametrize("latency", [0.0, 0.01])
async def test_streams_are_what_trio_says_streams_are(
    autojump_clock: trio.testing.MockClock, latency: float
) -> None:
    async with open_virtual_network(latency=latency) as network:
        await trio.testing.check_half_closeable_stream(
            partial(connected_pair, network), partial(clogged_pair, network)
        )


async def test_they_are_over_a_bad_link_too(autojump_clock: trio.testing.MockClock) -> None:
    async with open_virtual_network(
        latency=0.01, jitter=0.01, loss=0.05, duplicate=0.05, reorder=0.05
    ) as network:
        await trio.testing.check_half_closeable_stream(
            partial(connected_pair, network), partial(clogged_pair, network)
        )


@pytest.mark.parametrize("address", ["server", "SERVER", "10.0.0.1", "fd00::1"])
async def test_trio_serves_and_connects(autojump_clock: trio.testing.MockClock, address: str) -> None:
    async with open_virtual_network(latency=0.01) as network:
        server, client = network.host("server"), network.host("client")
        await server.start(trio.serve_tcp, echo, PORT)
        with client.entered():
            async with await trio.open_tcp_stream(address, PORT) as stream:
                await stream.send_all(b"hello")
                assert await stream.receive_some() == b"hello"
                assert stream.socket.getpeername()[:2] in [("10.0.0.1", PORT), ("fd00::1", PORT)]
                assert stream.socket.getsockname()[0] in ("10.0.0.2", "fd00::2")


async def test_each_host_has_a_loopback_of_its_own(autojump_clock: trio.testing.MockClock) -> None:
    async def name(own: str, stream: trio.SocketStream) -> None:
        await stream.send_all(own.encode())

    async with open_virtual_network() as network:
        for own in ("one", "two"):
            await network.host(own).start(partial(trio.serve_tcp, partial(name, own), PORT, host="localhost"))
        for own in ("one", "two"):
            with network.host(own).entered():
                async with await trio.open_tcp_stream("localhost", PORT) as stream:
                    assert await stream.receive_some() == own.encode()
        with network.host("one").entered():
            with pytest.raises(OSError, match="all attempts"):
                await trio.open_tcp_stream("two", PORT)


async def test_tls_runs_over_it(autojump_clock: trio.testing.MockClock, tmp_path: Path) -> None:
    certificates = Certificates(tmp_path)

    class Target:
        def add(self, a: int, b: int) -> int:
            return a + b

    async with open_virtual_network(latency=0.01) as network:
        await network.host("server.lab").start(
            partial(
                serve_rpc,
                {"target": Target()},
                PORT,
                host="0.0.0.0",
                ssl_context=certificates.identity("server", "client"),
            )
        )
        with network.host("client.lab").entered():
            async with open_rpc_client(
                "server.lab", PORT, ssl_context=certificates.identity("client", "server")
            ) as client:
                assert await client.call("add", 1, 2) == 3
