"""Publishers and broadcasters over real loopback: addresses, TLS, and closing gracefully."""

from __future__ import annotations

import pytest
import trio

import trionet
from tests.network.certificates import Certificates
from tests.network.test_endpoints import needs_ipv6
from tests.network.test_feed_faults import (
    SUBSCRIBE,
    broadcasting,
    connect_small,
    publishing,
    read_until,
    until,
)
from tests.network.test_rpc_faults import receive_all
from tests.wire.values import identical
from trionet import Broadcaster, ConnectionLost, Notifier
from trionet.wire.feeds import encode_line


@needs_ipv6
async def test_several_addresses_share_a_port() -> None:
    notifier = Notifier([0])
    async with publishing({"it": notifier}, host=["127.0.0.1", "::1"]) as publisher:
        assert publisher.addresses == (("127.0.0.1", publisher.port), ("::1", publisher.port))
        async with (
            trionet.open_subscription("127.0.0.1", publisher.port, "it") as first,
            trionet.open_subscription("::1", publisher.port, "it") as second,
        ):
            assert second.peer == f"[::1]:{publisher.port}"
            notifier.append((1,))
            for subscription in (first, second):
                await subscription.wait_value(lambda value: identical(value, [0, (1,)]))
        assert publisher.statistics().accepted == 2
    broadcaster = Broadcaster()
    async with broadcasting(broadcaster, host=["127.0.0.1", "::1"]) as server:
        async with (
            trionet.open_broadcast_receiver("127.0.0.1", server.port, "it") as one,
            trionet.open_broadcast_receiver("::1", server.port, "it") as other,
        ):
            await until(lambda: len(server.statistics().receivers) == 2)
            broadcaster.broadcast("it", (1,))
            assert identical([await anext(one), await anext(other)], [(1,), (1,)])


async def test_tls(certificates: Certificates, caplog: pytest.LogCaptureFixture) -> None:
    ours, theirs = certificates.identity("server", "client"), certificates.identity("client", "server")
    stranger = certificates.identity("stranger", "server")
    notifier = Notifier({"a": "x" * 1_000_000})
    async with publishing({"it": notifier}, ssl_context=ours) as publisher:
        port = publisher.port
        async with trionet.open_subscription("127.0.0.1", port, "it", ssl_context=theirs) as subscription:
            notifier["b"] = (1, "y" * 1_000_000)
            await subscription.wait_value(lambda value: "b" in value)
            assert identical(subscription.value, notifier.raw_view)
        with pytest.raises((ConnectionLost, OSError)):
            async with trionet.open_subscription(
                "127.0.0.1", port, "it", ssl_context=stranger, reconnect=False
            ):
                pass
        with pytest.raises(ConnectionLost):
            async with trionet.open_subscription("127.0.0.1", port, "it", reconnect=False):
                pass
    broadcaster = Broadcaster()
    async with broadcasting(broadcaster, ssl_context=ours) as server:
        async with trionet.open_broadcast_receiver(
            "127.0.0.1", server.port, "it", ssl_context=theirs
        ) as receiver:
            await until(lambda: server.statistics().receivers)
            broadcaster.broadcast("it", (1,))
            assert identical(await anext(receiver), (1,))
    assert "no TLS connection" in caplog.text


@pytest.mark.parametrize("attempt", range(20))
async def test_a_graceful_close_over_tls_delivers_what_was_published(
    attempt: int, certificates: Certificates
) -> None:
    """Sending over TLS takes several steps; which task is first is left to chance, so several attempts."""
    notifier = Notifier([])
    ours, theirs = certificates.identity("server", "client"), certificates.identity("client", "server")
    async with publishing({"it": notifier}, ssl_context=ours) as publisher:
        async with trionet.open_subscription(
            "127.0.0.1", publisher.port, "it", ssl_context=theirs, reconnect=False
        ) as subscription:
            mods = aiter(subscription)
            await until(lambda: not any(client.busy for client in publisher._clients))
            notifier.append(attempt)
            await publisher.aclose(30)
            assert (await anext(mods))["x"] == attempt
            with pytest.raises(ConnectionLost):
                await anext(mods)


@pytest.mark.parametrize("attempt", range(5))
async def test_a_graceful_close_delivers_what_is_larger_than_the_buffers(attempt: int) -> None:
    notifier = Notifier([])
    async with publishing({"it": notifier}) as publisher, trio.open_nursery() as nursery:
        async with await connect_small(publisher.port, SUBSCRIBE) as stream:
            assert await read_until(stream, b"\n") == encode_line({"action": "init", "struct": []}, 2)
            await until(lambda: not any(client.busy for client in publisher._clients))
            lines: list[int] = []

            async def read() -> None:
                received = await receive_all(stream)
                assert received.endswith(b"\n")
                lines.append(received.count(b"\n"))

            nursery.start_soon(read)
            for number in range(10):
                notifier.append((number, "x" * 300_000))
            await publisher.aclose(30)
            await until(lambda: lines)
            assert lines == [10]
