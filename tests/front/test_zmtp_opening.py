"""ZMTP's handshake and heartbeats in exact times, and what a server logs of its clients."""

from __future__ import annotations

import logging
from functools import partial

import pytest
import trio
import trio.testing

from tests.front.zmtp_pairs import RawPeer, lockstep_streams, open_pair, open_raw
from tests.wire.zmtp_bytes import DEALER_READY, GREETING, ROUTER_READY, command, ready_of, short
from trionet._server import Connection, ServerHandle, serve_connections
from trionet._transport import open_transport
from trionet._zmtp import ZmtpOptions, open_zmtp, zmtp_handler
from trionet._zmtp_stream import ZmtpStream
from trionet.wire.errors import ConnectionLost, RemoteProtocolError
from trionet.wire.zmtp import SocketType

logger = logging.getLogger("trionet.test")


async def refused(
    said: bytes, kind: type[Exception], match: str, *, leave: bool = False, **options: float
) -> bytes:
    """Open a connection to a peer that says something; the block is not reached. Returns what it was told."""
    first, second = trio.testing.memory_stream_pair()
    await second.send_all(said)
    if leave:
        await second.send_eof()
    with pytest.raises(kind, match=match):
        async with open_zmtp(open_transport(first), SocketType.ROUTER, **options):  # type: ignore[arg-type]
            pytest.fail("reached")
    return await RawPeer(second).receive(1000)  # to the end: it has been closed


@pytest.mark.parametrize("said", [b"", GREETING[:10], GREETING, GREETING + DEALER_READY[:-1]])
async def test_a_peer_that_does_not_finish_the_handshake(
    said: bytes, autojump_clock: trio.testing.MockClock
) -> None:
    told = await refused(said, TimeoutError, "no ZMTP handshake with .* within 2.5 s", handshake_timeout=2.5)
    assert trio.current_time() == 2.5
    assert told == GREETING + (ROUTER_READY if len(said) >= len(GREETING) else b"")


@pytest.mark.parametrize("said", [b"", GREETING[:10], GREETING, GREETING + DEALER_READY[:-1]])
async def test_a_peer_that_leaves_in_the_handshake(said: bytes) -> None:
    await refused(said, ConnectionLost, "in the ZMTP handshake: it may expect another", leave=True)


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "not a ZeroMQ peer"),
        (b"\x01\x00", "ZMTP 1.0"),
        (GREETING[:10] + b"\x01", "ZMTP 2.0"),
        (GREETING.replace(b"NULL\0", b"PLAIN"), "'PLAIN'"),
        (GREETING + short(b"too early"), "before READY"),
        (GREETING + command(b"ERROR", b"\x02no"), "refused by the peer: no"),
    ],
)
async def test_peers_that_are_refused(said: bytes, reason: str) -> None:
    told = await refused(said, RemoteProtocolError, f"{reason}.*peer StapledStream")
    assert (GREETING + ROUTER_READY).startswith(told)


async def test_a_peer_of_the_wrong_type_is_told_so() -> None:
    told = await refused(GREETING + ready_of(b"SUB"), RemoteProtocolError, "DEALER or ROUTER, not to 'SUB'")
    text = b"ROUTER talks to DEALER or ROUTER, not to 'SUB'"
    assert told == GREETING + ROUTER_READY + command(b"ERROR", bytes([len(text)]) + text)


async def test_a_refused_peer_that_does_not_read_holds_nobody_up(
    autojump_clock: trio.testing.MockClock,
) -> None:
    first, second = trio.testing.lockstep_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(second.send_all, GREETING + ready_of(b"SUB"))
        with pytest.raises(RemoteProtocolError, match="SUB"):
            async with open_zmtp(open_transport(first), SocketType.ROUTER):
                pass
    assert trio.current_time() == 1.0


async def test_cancelled_in_the_handshake_the_stream_is_closed() -> None:
    first, second = trio.testing.memory_stream_pair()
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def cancel() -> None:
                await trio.testing.wait_all_tasks_blocked()
                scope.cancel()

            async with open_zmtp(open_transport(first), SocketType.ROUTER):
                pass
    assert scope.cancelled_caught
    assert await RawPeer(second).receive(1000) == GREETING


@pytest.mark.parametrize(
    "options",
    [
        ZmtpOptions(identity=b"\0"),
        ZmtpOptions(heartbeat_interval=0.0),
        ZmtpOptions(heartbeat_interval=-1.0, heartbeat_timeout=1.0),
        ZmtpOptions(heartbeat_interval=1.0, heartbeat_timeout=1.0),
    ],
)
async def test_options_that_are_not_allowed(options: ZmtpOptions) -> None:
    first, second = trio.testing.memory_stream_pair()
    with pytest.raises(ValueError, match=r"identity|heartbeat"):
        async with open_zmtp(open_transport(first), SocketType.ROUTER, **options):
            pass
    assert await RawPeer(second).receive(1) == b""


# -- heartbeats --------------------------------------------------------------------------------------------


async def test_a_silent_peer_is_lost(autojump_clock: trio.testing.MockClock) -> None:
    async with open_raw(heartbeat_interval=2.0, heartbeat_timeout=5.0) as (zmtp, raw):
        await raw.stream.send_all(short(b"last"))
        assert await zmtp.receive() == [b"last"]
        begun = trio.current_time()
        with pytest.raises(ConnectionLost, match=r"nothing heard for 5.0 s"):
            await zmtp.receive()
        assert trio.current_time() - begun == 5.0
        pings = command(b"PING", b"\0\0") * 3  # at once, after 2 and 4 seconds
        assert await raw.receive(100) == pings


async def test_three_intervals_of_silence_by_default(autojump_clock: trio.testing.MockClock) -> None:
    async with open_raw(heartbeat_interval=2.0) as (zmtp, _):
        with pytest.raises(ConnectionLost, match=r"nothing heard for 6.0 s"):
            await zmtp.receive()


async def test_a_peer_that_answers_is_kept(autojump_clock: trio.testing.MockClock) -> None:
    async with open_pair(heartbeat_interval=1.0) as (one, other), trio.open_nursery() as nursery:
        for end in (one, other):
            nursery.start_soon(end.receive)
        await trio.sleep(100)
        assert one.error is other.error is None
        nursery.cancel_scope.cancel()


async def test_a_peer_that_sends_slowly_is_kept(autojump_clock: trio.testing.MockClock) -> None:
    async with open_raw(heartbeat_interval=1.0) as (zmtp, raw), trio.open_nursery() as nursery:

        @nursery.start_soon
        async def trickle() -> None:
            for byte in short(b"0123456789"):
                await trio.sleep(2.9)
                await raw.stream.send_all(bytes([byte]))

        assert await zmtp.receive() == [b"0123456789"]


async def test_silence_counts_only_while_somebody_listens(autojump_clock: trio.testing.MockClock) -> None:
    async with open_raw(heartbeat_interval=1.0) as (zmtp, raw):
        await raw.stream.send_all(short(b"first"))
        await trio.sleep(100)
        assert await zmtp.receive() == [b"first"]
        await trio.sleep(100)
        begun = trio.current_time()
        with pytest.raises(ConnectionLost, match="nothing heard"):
            await zmtp.receive()
        assert trio.current_time() - begun == 3.0


async def test_pings_do_not_pile_up_for_a_peer_that_does_not_read(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_raw(lockstep_streams, heartbeat_interval=1.0) as (zmtp, raw):
        ping = command(b"PING", b"\0\0")
        assert await raw.receive(len(ping)) == ping
        for _ in range(2):
            await trio.sleep(100)
            assert zmtp.unsent == len(ping)
            assert await raw.receive(len(ping)) == ping


async def test_a_peer_keeps_its_promise_to_send_more(autojump_clock: trio.testing.MockClock) -> None:
    async with open_raw() as (zmtp, raw):
        await raw.stream.send_all(command(b"PING", b"\0\x50") + command(b"PING", b"\0\x1e") + short(b"x"))
        await zmtp.receive()
        begun = trio.current_time()
        with pytest.raises(ConnectionLost, match=r"nothing heard for 3.0 s"):
            await zmtp.receive()
        assert trio.current_time() - begun == 3.0


async def test_without_heartbeats_silence_is_fine(autojump_clock: trio.testing.MockClock) -> None:
    async with open_raw() as (zmtp, _):
        with trio.move_on_after(1e6) as scope:
            await zmtp.receive()
        assert scope.cancelled_caught


# -- servers -----------------------------------------------------------------------------------------------


class Server:
    """A server that tells what it has received, and what was logged."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self.caplog = caplog
        self.served: list[bytes] = []
        self.failure: Exception | None = None
        caplog.set_level(logging.INFO)

    async def handle(self, client: Connection, zmtp: ZmtpStream) -> None:
        assert client.transport.peer == zmtp.peer
        while True:
            (frame,) = await zmtp.receive()
            self.served.append(bytes(frame))
            if self.failure is not None:
                raise self.failure

    async def meet(self, said: bytes) -> list[tuple[str, str]]:
        """Have a client say something, and leave when it is cut off. Returns what was logged."""
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        handle = ServerHandle([listener])
        handler = zmtp_handler(self.handle, SocketType.ROUTER, logger, max_message_size=10)
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(serve_connections, handler, handle, 10.0))
            async with await trio.open_tcp_stream(*handle.addresses[0]) as client:
                await client.send_all(said)
                await client.send_eof()
                await RawPeer(client).receive(1000)
            await handle.aclose()
        records = [record for record in self.caplog.records if record.name.startswith("trionet")]
        return [(record.levelname, record.getMessage().partition(": ")[2]) for record in records]


READY = GREETING + DEALER_READY


@pytest.mark.parametrize(
    ("said", "level", "logged"),
    [
        (READY + short(b"hello"), "INFO", "closed by the peer"),
        (READY + b"\0\x05cut", "INFO", "closed by the peer in the middle of a message"),
        (READY + short(b"x" * 11), "WARNING", "connection closed: a frame of 11 bytes where 10 are allowed"),
        (GREETING + ready_of(b"PUSH"), "WARNING", "connection closed: ROUTER talks to"),
        (b"", "INFO", "closed by the peer in the ZMTP handshake"),
    ],
)
async def test_why_a_client_is_gone_is_logged_in_one_line(
    said: bytes, level: str, logged: str, caplog: pytest.LogCaptureFixture
) -> None:
    server = Server(caplog)
    ((found_level, message),) = await server.meet(said)
    assert found_level == level
    assert message.startswith(logged)
    assert server.served == ([b"hello"] if b"hello" in said else [])


async def test_a_client_that_says_nothing_is_logged(
    caplog: pytest.LogCaptureFixture, autojump_clock: trio.testing.MockClock
) -> None:
    first, _ = trio.testing.memory_stream_pair()
    await zmtp_handler(Server(caplog).handle, SocketType.ROUTER, logger)(Connection(open_transport(first)))
    (record,) = caplog.records
    assert record.getMessage() == (
        "StapledStream: connection closed: no ZMTP handshake with StapledStream within 10.0 s"
    )


@pytest.mark.parametrize("failure", [ConnectionLost("to another server"), TimeoutError(), ValueError()])
async def test_failures_of_the_handler_are_its_own(
    failure: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    server = Server(caplog)
    server.failure = failure
    assert await server.meet(READY + short(b"hello")) == [
        ("ERROR", "connection closed, its handler failed"),
    ]
