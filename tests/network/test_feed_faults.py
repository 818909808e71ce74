"""Publishers and broadcasters over real loopback: sockets that do not read, lines without end, TLS."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import random
import socket
import tracemalloc
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import trio

import trionet
from tests.network.test_rpc_faults import listen, receive_all, reset, send_ignoring_errors
from tests.wire.values import identical
from trionet import Broadcaster, ConnectionLost, Notifier, RemoteProtocolError, pyon
from trionet.wire.lines import MAX_MESSAGE_SIZE

SUBSCRIBE = b"ARTIQ sync_struct\nit\n"
LISTEN = b"ARTIQ broadcast\nit\n"
INIT = b'{"action":"init","struct":{"a":0}}\n'


@contextlib.asynccontextmanager
async def publishing(
    notifiers: dict[str, Notifier], port: int = 0, **options: Any
) -> AsyncIterator[trionet.Publisher]:
    async with trio.open_nursery() as nursery:
        publisher = await nursery.start(
            lambda **kw: trionet.serve_publisher(notifiers, port, **options, **kw)
        )
        with trio.fail_after(60):
            yield publisher
            await publisher.aclose()


@contextlib.asynccontextmanager
async def broadcasting(
    broadcaster: Broadcaster, port: int = 0, **options: Any
) -> AsyncIterator[trionet.BroadcastServer]:
    async with trio.open_nursery() as nursery:
        server = await nursery.start(
            lambda **kw: trionet.serve_broadcaster(broadcaster, port, **options, **kw)
        )
        with trio.fail_after(60):
            yield server
            await server.aclose()


async def until(condition: Callable[[], object]) -> None:
    while not condition():
        await trio.lowlevel.checkpoint()


def reached(key: str, number: int) -> Callable[[Any], bool]:
    return lambda value: bool(value[key] == number)


async def connect_small(port: int, hello: bytes) -> trio.SocketStream:
    """A client for which little can be on its way."""
    sock = trio.socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    await sock.connect(("127.0.0.1", port))
    stream = trio.SocketStream(sock)
    await stream.send_all(hello)
    return stream


async def read_until(stream: trio.SocketStream, end: bytes) -> bytes:
    """Read up to a line that ends so."""
    received = bytearray()
    while not received.endswith(end):
        data = await stream.receive_some()
        assert data
        received += data
    return bytes(received)


def replay(data: bytes) -> tuple[list[str], Any]:
    """What a subscriber makes of these lines: the actions, and the structure in the end."""
    actions: list[str] = []
    structure: Any = None
    assert data.endswith(b"\n")
    for line in data.splitlines():
        mod = pyon.decode(line)
        actions.append(mod["action"])
        if mod["action"] == "init":
            structure = mod["struct"]
        else:
            assert structure is not None
            trionet.apply_mod(structure, mod)
    return actions, structure


# -- subscribers that do not read -----------------------------------------------------------------------


async def test_a_subscriber_that_does_not_read() -> None:
    """It gets what was on its way, one structure for all that was left out, and what follows."""
    notifier = Notifier({"steps": 0, "data": []})
    limit = 100_000
    async with publishing({"it": notifier}, max_backlog=limit) as publisher:
        async with await connect_small(publisher.port, SUBSCRIBE) as stuck:
            await until(lambda: len(publisher.statistics().subscribers) == 1)
            async with trionet.open_subscription("127.0.0.1", publisher.port, "it") as other:

                def of_stuck() -> trionet.SubscriberStatistics:
                    return publisher.statistics().subscribers[0]

                inits = 0

                def count(mod: trionet.Mod) -> None:
                    nonlocal inits
                    inits += mod["action"] == "init"

                async with trionet.open_subscription(
                    "127.0.0.1", publisher.port, "it", on_mod=count
                ) as third:
                    step = 0
                    largest = 0
                    while step < 2000 or of_stuck().resyncs == 0:
                        step += 1
                        notifier["steps"] = step
                        notifier["data"].append((step, "x" * 20_000))
                        if len(notifier["data"].raw_view) > 10:
                            notifier["data"].pop(0)
                        largest = max(largest, of_stuck().backlog)
                        await other.wait_value(reached("steps", step))
                    await third.wait_value(reached("steps", step))
                    # At most the limit waits; on its way is what one send takes, 256 kB and a batch.
                    assert largest <= limit + 320 * 1024
                    assert of_stuck().resyncs == 1
                    assert of_stuck().lag > 100
                    assert [one.resyncs for one in publisher.statistics().subscribers[1:]] == [0, 0]
                    assert inits == 1
                    async with trio.open_nursery() as nursery:

                        async def go_on() -> None:
                            await until(lambda: of_stuck().lag == 0)
                            notifier["data"].append("end")

                        nursery.start_soon(go_on)
                        received = await read_until(stuck, b'"x":"end"}\n')
                    actions, structure = replay(received)
                    assert identical(structure, notifier.raw_view)
                    assert actions[0] == "init"
                    assert actions.count("init") == 2
                    assert actions[-2:] == ["init", "append"]
                    assert len(received) < 20_000_000
                    await other.wait_value(lambda value: value["data"][-1] == "end")
                    assert identical(other.value, notifier.raw_view)


async def test_memory_is_bounded_with_subscribers_that_do_not_read() -> None:
    notifier = Notifier([""])
    async with publishing({"it": notifier}, max_backlog=1_000_000) as publisher:
        streams = [await connect_small(publisher.port, SUBSCRIBE) for _ in range(5)]
        await until(lambda: len(publisher.statistics().subscribers) == 5)
        await until(lambda: all(one.backlog == 0 for one in publisher.statistics().subscribers))
        tracemalloc.start()
        try:
            for number in range(2000):
                notifier[0] = f"{number} " + "x" * 50_000
                await trio.lowlevel.checkpoint()
            gc.collect()
            held, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert all(one.resyncs for one in publisher.statistics().subscribers)
        assert held < 5_000_000
        assert peak < 6_000_000
        for stream in streams:
            await stream.aclose()


async def test_a_subscription_that_stops_asking_over_sockets() -> None:
    """The publisher resyncs it, blocks nobody for it, and it is right when it asks again."""
    notifier = Notifier({"step": 0})
    async with publishing({"it": notifier}, max_backlog=50_000) as publisher:
        port = publisher.port
        async with (
            trionet.open_subscription("127.0.0.1", port, "it") as lazy,
            trionet.open_subscription("127.0.0.1", port, "it") as busy,
        ):
            mods = aiter(lazy)
            step = 0
            while publisher.statistics().subscribers[0].resyncs == 0:
                step += 1
                notifier["step"] = step
                notifier[step % 3] = (step, "x" * 20_000)
                await busy.wait_value(reached("step", step))
            assert lazy.value == {"step": 0}
            notifier["end"] = True
            actions = []
            with trio.fail_after(60):
                while "end" not in lazy.value:
                    actions.append((await anext(mods))["action"])
            assert actions.count("init") == 1
            assert identical(lazy.value, notifier.raw_view)
            assert publisher.statistics().subscribers[1].resyncs == 0


async def test_a_receiver_that_does_not_read(caplog: pytest.LogCaptureFixture) -> None:
    broadcaster = Broadcaster(max_backlog=20)
    async with broadcasting(broadcaster) as server:
        async with await connect_small(server.port, LISTEN) as stuck:
            async with trionet.open_broadcast_receiver("127.0.0.1", server.port, "it") as other:
                await until(lambda: len(server.statistics().receivers) == 2)
                count = 0
                while server.statistics().receivers[0].dropped < 10:
                    broadcaster.broadcast("it", (count, "x" * 50_000))
                    assert (await anext(other))[0] == count
                    count += 1
                assert server.statistics().receivers[1].dropped == 0
                assert server.statistics().receivers[0].waiting == 20
                async with trio.open_nursery() as nursery:

                    async def go_on() -> None:
                        await until(lambda: server.statistics().receivers[0].waiting == 0)
                        broadcaster.broadcast("it", "end")

                    nursery.start_soon(go_on)
                    received = await read_until(stuck, b'"end"\n')
                *numbers, end = [pyon.decode(line) for line in received.splitlines()]
                assert end == "end"
                assert [number for number, _ in numbers] == [*range(count - 10)]
    warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warnings) == 2


# -- clients that leave, and servers --------------------------------------------------------------------


@pytest.mark.parametrize("how", ["half-close", "close", "reset"])
async def test_subscribers_that_leave_in_the_middle_of_the_structure(
    how: str, caplog: pytest.LogCaptureFixture
) -> None:
    notifier = Notifier(["x" * 20_000_000])
    async with publishing({"it": notifier}) as publisher:
        async with await connect_small(publisher.port, SUBSCRIBE) as stream:
            assert await stream.receive_some(1000)
            assert publisher.statistics().subscribers[0].backlog > 20_000_000
            if how == "half-close":
                await stream.send_eof()
            elif how == "reset":
                reset(stream)
            else:
                await stream.aclose()
            await until(lambda: publisher.connections == 0)
            assert publisher.statistics().subscribers == ()
            notifier.append(1)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_a_publisher_that_is_killed_and_comes_back_with_other_content() -> None:
    first, second = Notifier({"a": 1}), Notifier([2])
    async with trio.open_nursery() as nursery:
        publisher = await nursery.start(trionet.serve_publisher, {"it": first}, 0)
        port = publisher.port
        async with trionet.open_subscription(
            "127.0.0.1", port, "it", first_retry=0.01, max_retry=0.02, rng=random.Random(1)
        ) as subscription:
            with trio.fail_after(60):
                publisher.cancel_scope.cancel()
                await subscription.connected.wait_value(False)
                assert subscription.stale
                assert subscription.value == {"a": 1}
                async with publishing({"it": second}, port):
                    assert await subscription.wait_value(lambda value: value == [2]) == [2]
                    second.append((3,))
                    await subscription.wait_value(lambda value: identical(value, [2, (3,)]))


async def test_without_reconnect_the_end_is_an_error() -> None:
    notifier = Notifier([0])
    async with trio.open_nursery() as nursery:
        publisher = await nursery.start(trionet.serve_publisher, {"it": notifier}, 0)
        port = publisher.port
        with trio.fail_after(60):
            with pytest.raises(ConnectionLost, match="it has nothing of this name") as caught:
                async with trionet.open_subscription("127.0.0.1", port, "other", reconnect=False):
                    pass
            assert caught.value.call == trionet.CallInfo(f"127.0.0.1:{port}", "other")
            async with trionet.open_subscription("127.0.0.1", port, "it", reconnect=False) as subscription:
                mods = aiter(subscription)
                for number in range(1, 100):
                    notifier.append(number)
                nursery.start_soon(publisher.aclose, 30)
                for number in range(1, 100):
                    assert (await anext(mods))["x"] == number
                with pytest.raises(ConnectionLost):
                    await anext(mods)
            with pytest.raises(ConnectionRefusedError):
                async with trionet.open_subscription("127.0.0.1", port, "it", reconnect=False):
                    pass
            with pytest.raises(ConnectionRefusedError):
                async with trionet.open_broadcast_receiver("127.0.0.1", port, "it", reconnect=False):
                    pass


async def test_nothing_stays_open() -> None:
    """No descriptor, after everything that can happen to a subscription."""

    def descriptors() -> int:
        try:
            return len(os.listdir("/proc/self/fd"))
        except FileNotFoundError:
            pytest.skip("no list of descriptors on this system")

    notifier = Notifier([0])
    async with publishing({"it": notifier}) as publisher, broadcasting(Broadcaster()) as server:
        gc.collect()  # what other tests have left open is not closed in this one
        before = descriptors()
        for _ in range(3):
            async with trionet.open_subscription("127.0.0.1", publisher.port, "it"):
                pass
            with pytest.raises(ZeroDivisionError):
                async with trionet.open_subscription(
                    "127.0.0.1", publisher.port, "it", build=lambda _: 1 / 0
                ):
                    pass
            with pytest.raises(ConnectionLost):
                async with trionet.open_subscription("127.0.0.1", server.port, "it", reconnect=False):
                    pass
            async with trionet.open_broadcast_receiver("127.0.0.1", server.port, "it"):
                pass
        await until(lambda: publisher.connections == server.connections == 0)
        assert descriptors() == before


# -- lines without end ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("limit", "size"), [(2**20, 64_000_000), (None, 200_000_000)])
@pytest.mark.parametrize("first", [b"", INIT])
async def test_a_line_without_end(first: bytes, limit: int | None, size: int) -> None:
    """Sent by something that is no publisher, or has gone wrong: not more than the limit is kept of it."""
    sent = 0

    async def send(stream: trio.SocketStream) -> None:
        nonlocal sent
        piece = b"x" * 2**20
        with contextlib.suppress(trio.BrokenResourceError):
            await stream.send_all(first)
            while sent < size:
                await stream.send_all(piece)
                sent += len(piece)
            await receive_all(stream)

    async with trio.open_nursery() as nursery:
        port = await listen(nursery, send)
        options: dict[str, Any] = {} if limit is None else {"max_message_size": limit}
        bound = limit or MAX_MESSAGE_SIZE
        tracemalloc.start()
        try:
            with trio.fail_after(60), pytest.raises(RemoteProtocolError, match=f"more than {bound} bytes"):
                async with trionet.open_subscription(
                    "127.0.0.1", port, "it", reconnect=False, **options
                ) as subscription:
                    assert first
                    await subscription.wait_value(lambda value: value["a"] == 1)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        nursery.cancel_scope.cancel()
    assert peak < bound + 8_000_000
    assert bound - 8_000_000 < sent < size


async def test_a_client_that_says_too_much() -> None:
    """What follows the name is ignored, and not kept."""
    notifier = Notifier([0])
    async with publishing({"it": notifier}) as publisher:
        stream = await trio.open_tcp_stream("127.0.0.1", publisher.port)
        async with stream:
            await stream.send_all(SUBSCRIBE)
            tracemalloc.start()
            try:
                for _ in range(50):
                    await send_ignoring_errors(stream, b"x" * 1_000_000)
                peak = tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()
            notifier.append(1)
            received = await read_until(stream, b'"x":1}\n')
            assert replay(received) == (["init", "append"], [0, 1])
        assert peak < 8_000_000
