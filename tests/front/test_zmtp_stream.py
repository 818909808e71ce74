"""Messages over ZMTP streams: whole ones, from many tasks, without reading ever waiting for writing."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from tests.front.zmtp_pairs import (
    OpenStreams,
    lockstep_streams,
    memory_streams,
    open_pair,
    open_raw,
    tcp_streams,
)
from tests.wire.zmtp_bytes import command, long, short
from trionet._zmtp_stream import _PIECE, ZmtpStream
from trionet.wire.errors import ConnectionLost, LocalProtocolError, RemoteProtocolError
from trionet.wire.zmtp import PeerReady, SocketType

all_streams = pytest.mark.parametrize("open_streams", [memory_streams, lockstep_streams, tcp_streams])


@all_streams
async def test_messages_go_both_ways(open_streams: OpenStreams) -> None:
    async with open_pair(open_streams, identity=b"me") as (one, other):
        assert one.peer_ready == PeerReady(SocketType.ROUTER, b"me", {})
        assert other.peer_ready == PeerReady(SocketType.DEALER, b"me", {})
        for size in (0, 1, 255, 256, 70_000, 300_000):
            one.post([b"question", bytes(size)])
            assert await other.receive() == [b"question", bytes(size)]
            other.post([bytes(size), b"answer"])
            assert await one.receive() == [bytes(size), b"answer"]
        for end in (one, other):
            await end.wait_sent()
            assert end.unsent == 0


@all_streams
async def test_messages_of_many_tasks_arrive_whole_and_those_of_a_task_in_order(
    open_streams: OpenStreams,
) -> None:
    async def send(number: int) -> None:
        for turn in range(5):
            filler = bytes([number]) * (number * 10_000)
            await one.send([b"%d" % number, b"%d" % turn, filler])

    async with open_pair(open_streams) as (one, other), trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(send, number)
        turns = [0] * 20
        for _ in range(100):
            name, turn, filler = await other.receive()
            number = int(bytes(name))
            assert int(bytes(turn)) == turns[number]
            assert filler == bytes([number]) * (number * 10_000)
            turns[number] += 1


@all_streams
async def test_two_large_messages_that_cross_do_not_block_each_other(open_streams: OpenStreams) -> None:
    large = bytes(20_000_000)

    async def exchange(end: ZmtpStream) -> None:
        await end.send([large])
        assert len((await end.receive())[0]) == len(large)

    async def read_while_sending(end: ZmtpStream) -> None:
        end.post([large])
        assert len((await end.receive())[0]) == len(large)
        await end.wait_sent()

    async with open_pair(open_streams) as (one, other), trio.open_nursery() as nursery:
        nursery.start_soon(exchange, one)
        nursery.start_soon(read_while_sending, other)


async def test_a_ping_is_answered_between_two_messages_and_nobody_waits_for_it() -> None:
    async with open_raw(lockstep_streams) as (zmtp, raw), trio.open_nursery() as nursery:
        zmtp.post([b"before"])
        zmtp.post([b"after"])
        await trio.testing.wait_all_tasks_blocked()  # "before" is being sent
        pings = command(b"PING", b"\0\0old") + command(b"PING", b"\0\0new")
        nursery.start_soon(raw.stream.send_all, pings + short(b"hello"))
        assert await zmtp.receive() == [b"hello"]
        expected = short(b"before") + short(b"after") + command(b"PONG", b"new")
        assert zmtp.unsent == len(expected)
        assert await raw.receive(len(expected)) == expected


async def test_pings_of_a_peer_that_does_not_read_do_not_pile_up() -> None:
    async with open_raw(lockstep_streams) as (zmtp, raw):
        zmtp.post([b"unread"])
        await trio.testing.wait_all_tasks_blocked()
        for number in range(200):
            context = b"%d" % number
            async with trio.open_nursery() as sending:
                ping = command(b"PING", b"\0\0" + context)
                sending.start_soon(raw.stream.send_all, ping + short(b"x"))
                await zmtp.receive()
            assert zmtp.unsent == len(short(b"unread") + command(b"PONG", context))


@all_streams
async def test_a_ping_on_an_idle_connection_is_answered(open_streams: OpenStreams) -> None:
    async with open_raw(open_streams) as (zmtp, raw), trio.open_nursery() as nursery:
        nursery.start_soon(raw.stream.send_all, command(b"PING", b"\0\0a") + short(b"x"))
        assert await zmtp.receive() == [b"x"]
        assert await raw.receive(8) == command(b"PONG", b"a")


class Recorder(trio.abc.SendStream):
    """Keeps what one call of `send_all` gets."""

    def __init__(self, stream: trio.abc.SendStream) -> None:
        self.stream = stream
        self.calls: list[bytes] = []

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        self.calls.append(bytes(data))
        await self.stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self.stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self.stream.aclose()


async def test_small_messages_of_one_round_leave_together_and_large_ones_in_pieces() -> None:
    async with open_raw() as (zmtp, raw):
        stream = zmtp._transport.stream
        assert isinstance(stream, trio.StapledStream)
        recorder = Recorder(stream.send_stream)
        stream.send_stream = recorder
        large = bytes(2 * _PIECE + 5)
        for frames in ([b"a"], [b"b"], [large], [b"c"]):
            zmtp.post(frames, at_once=False)
        await zmtp.wait_sent()
        head = short(b"a") + short(b"b") + long(b"", length=len(large))
        assert recorder.calls == [head, large[:_PIECE], large[:_PIECE], large[:5], short(b"c")]
        assert await raw.receive(len(head)) == head


async def test_posting_at_once_takes_no_scheduling_round_with_a_socket() -> None:
    async with open_pair(tcp_streams) as (one, other):
        one.post([b"now"])
        assert one.unsent == 0
        one.post([b"later"], at_once=False)
        assert one.unsent == 7
        one.post([b"behind"])  # in its order
        assert one.unsent == 15
        assert [await other.receive() for _ in range(3)] == [[b"now"], [b"later"], [b"behind"]]


async def test_nothing_is_sent_in_the_middle_of_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_raw(lockstep_streams) as (zmtp, raw):
        zmtp.post([b"first"])
        await trio.testing.wait_all_tasks_blocked()  # "first" is being sent
        monkeypatch.setattr(zmtp._transport, "send_buffers_nowait", lambda _: pytest.fail("sent at once"))
        zmtp.post([b"second"])
        monkeypatch.undo()
        expected = short(b"first") + short(b"second")
        assert await raw.receive(len(expected)) == expected


async def test_what_has_come_already_can_be_had_without_waiting() -> None:
    async with open_raw() as (zmtp, raw):
        assert zmtp.receive_nowait() is None
        await raw.stream.send_all(short(b"a") + short(b"b"))
        assert zmtp.receive_nowait() is None  # nobody has read it
        assert await zmtp.receive() == [b"a"]
        assert zmtp.receive_nowait() == [b"b"]
        assert zmtp.receive_nowait() is None


async def test_other_tasks_have_their_turn_while_messages_are_there() -> None:
    rounds = 0

    async def count() -> None:
        nonlocal rounds
        while True:
            await trio.lowlevel.checkpoint()
            rounds += 1

    async with open_raw() as (zmtp, raw), trio.open_nursery() as nursery:
        await raw.stream.send_all(short(b"") * 10_000)
        nursery.start_soon(count)
        for _ in range(10_000):
            await zmtp.receive()
        assert rounds > 100
        nursery.cancel_scope.cancel()


async def test_a_cancelled_send_is_withdrawn_if_nothing_of_it_was_sent() -> None:
    async with open_raw(lockstep_streams) as (zmtp, raw), trio.open_nursery() as nursery:
        for frame in (b"first", b"same"):
            nursery.start_soon(zmtp.send, [frame])
            await trio.testing.wait_all_tasks_blocked()
        with trio.CancelScope() as scope:
            nursery.start_soon(_cancel_when_blocked, scope)
            await zmtp.send([b"same"])
        assert scope.cancelled_caught
        nursery.start_soon(zmtp.send, [b"last"])
        await trio.testing.wait_all_tasks_blocked()
        expected = short(b"first") + short(b"same") + short(b"last")
        assert zmtp.unsent == len(expected)
        assert await raw.receive(len(expected)) == expected
        await zmtp.wait_sent()


async def test_a_cancelled_send_is_not_withdrawn_if_a_byte_was_sent_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with open_raw(lockstep_streams) as (zmtp, raw):
        for _ in range(20):  # the cancelled task and the writer run in any order
            with trio.CancelScope() as scope:

                def send_one_byte(_: object, scope: trio.CancelScope = scope) -> int:
                    scope.cancel()
                    monkeypatch.undo()
                    return 1

                monkeypatch.setattr(zmtp._transport, "send_buffers_nowait", send_one_byte)
                await zmtp.send([b"begun"])
            assert scope.cancelled_caught
            rest = short(b"begun")[1:]
            assert zmtp.unsent == len(rest)
            assert await raw.receive(len(rest)) == rest
            await zmtp.wait_sent()
            await trio.testing.wait_all_tasks_blocked()  # the writer is idle again


async def test_a_send_that_is_cancelled_before_sends_nothing() -> None:
    async with open_pair(tcp_streams) as (one, other):
        with trio.CancelScope() as scope:
            scope.cancel()
            await one.send([b"never"])
        await one.send([b"next"])
        assert await other.receive() == [b"next"]


async def _cancel_when_blocked(scope: trio.CancelScope) -> None:
    await trio.testing.wait_all_tasks_blocked()
    scope.cancel()


@pytest.mark.parametrize("open_streams", [lockstep_streams, tcp_streams])
async def test_a_cancelled_send_that_has_begun_goes_on_in_the_background(open_streams: OpenStreams) -> None:
    large = bytes(range(256)) * 80_000
    async with open_pair(open_streams) as (one, other):
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_cancel_when_blocked, scope)
                await one.send([large])
        assert scope.cancelled_caught
        assert one.unsent > 0
        one.post([b"next"])
        assert await other.receive() == [large]
        assert await other.receive() == [b"next"]


async def test_waiting_until_little_is_unsent() -> None:
    async with open_raw(lockstep_streams) as (zmtp, raw), trio.open_nursery() as nursery:
        zmtp.post([bytes(10 * _PIECE)])
        reached: list[int] = []

        async def wait(limit: int) -> None:
            await zmtp.wait_sent(limit)
            reached.append(limit)

        for limit in (0, 3 * _PIECE, 6 * _PIECE):
            nursery.start_soon(wait, limit)
        await trio.testing.wait_all_tasks_blocked()
        assert reached == []
        for received, expected in ((4 * _PIECE + 9, [6]), (3 * _PIECE, [6, 3]), (3 * _PIECE, [6, 3, 0])):
            await raw.receive(received)
            await trio.testing.wait_all_tasks_blocked()
            assert reached == [limit * _PIECE for limit in expected]


@all_streams
async def test_the_messages_end_when_the_peer_leaves(open_streams: OpenStreams) -> None:
    async with open_raw(open_streams) as (zmtp, raw), trio.open_nursery() as nursery:

        async def say_something_and_leave() -> None:
            await raw.stream.send_all(short(b"a") + short(b"b"))
            await raw.stream.aclose()

        nursery.start_soon(say_something_and_leave)
        assert [frames async for frames in zmtp] == [[b"a"], [b"b"]]
        with pytest.raises(ConnectionLost, match="closed by the peer") as raised:
            await zmtp.receive()
        assert raised.value is zmtp.error
        assert raised.value.call.peer == zmtp.peer
        for action in (lambda: zmtp.post([b"x"]), zmtp.receive_nowait):
            with pytest.raises(ConnectionLost, match="closed by the peer"):
                action()
        for waiting in (zmtp.send([b"x"]), zmtp.wait_sent()):
            with pytest.raises(ConnectionLost, match="closed by the peer"):
                await waiting


@pytest.mark.parametrize("part", [short(b"cut")[:-1], short(b"more", flags=1), long(b"x", length=100_000)])
async def test_a_peer_that_leaves_in_a_message_is_an_error(part: bytes) -> None:
    async with open_raw() as (zmtp, raw):
        await raw.stream.send_all(short(b"whole") + part)
        await raw.stream.aclose()
        messages = []
        with pytest.raises(ConnectionLost, match="in the middle of a message"):
            async for frames in zmtp:
                messages.append(frames)  # noqa: PERF401
        assert messages == [[b"whole"]]


@all_streams
async def test_a_bad_peer_is_cut_off(open_streams: OpenStreams) -> None:
    async with open_raw(open_streams, max_message_size=10) as (zmtp, raw), trio.open_nursery() as nursery:
        nursery.start_soon(raw.stream.send_all, short(b"good") + short(b"x" * 11))
        assert await zmtp.receive() == [b"good"]
        with pytest.raises(RemoteProtocolError, match="a frame of 11 bytes where 10 are allowed"):
            await zmtp.receive()
        with pytest.raises(RemoteProtocolError, match="11 bytes"):
            zmtp.post([b"x"])
        assert await raw.receive(1) == b""


async def test_senders_that_wait_are_told_that_the_connection_is_lost() -> None:
    async with open_raw(lockstep_streams) as (zmtp, raw), trio.open_nursery() as nursery:

        async def send() -> None:
            with pytest.raises(ConnectionLost, match="connection lost"):
                await zmtp.send([b"x"])

        async def wait() -> None:
            with pytest.raises(ConnectionLost, match="connection lost"):
                await zmtp.wait_sent()

        for task in (send, send, wait):
            nursery.start_soon(task)
            await trio.testing.wait_all_tasks_blocked()
        await raw.stream.aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert zmtp.unsent == 0
        with pytest.raises(ConnectionLost):  # a lost connection is noticed by reading, too
            await zmtp.receive()


async def test_posting_on_a_broken_socket_loses_the_connection() -> None:
    async with open_raw(tcp_streams) as (zmtp, raw):
        await raw.stream.aclose()
        with pytest.raises(ConnectionLost, match="connection lost"):  # the system resets, sooner or later
            while True:
                zmtp.post([b"x"])
                await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(ConnectionLost, match="connection lost"):
            zmtp.receive_nowait()


@all_streams
async def test_who_receives_or_sends_when_this_side_closes_is_told(open_streams: OpenStreams) -> None:
    async with open_raw(open_streams) as (zmtp, _), trio.open_nursery() as nursery:

        @nursery.start_soon
        async def receive() -> None:
            with pytest.raises(ConnectionLost, match="this side has closed"):
                await zmtp.receive()

        zmtp.post([bytes(20_000_000)], at_once=False)
        await trio.testing.wait_all_tasks_blocked()
        zmtp.close()
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(ConnectionLost, match="this side has closed"):
            await zmtp.wait_sent()


async def test_after_the_block_the_stream_is_closed() -> None:
    async with open_pair() as (one, other):
        pass
    for end in (one, other):
        with pytest.raises(ConnectionLost, match="this side has closed"):
            end.post([b"x"])
        with pytest.raises(trio.ClosedResourceError):
            await end._transport.stream.receive_some()


async def test_what_the_block_raises_is_not_wrapped() -> None:
    with pytest.RaisesGroup(ZeroDivisionError):  # by the nursery of this test only
        async with open_raw() as (zmtp, _):
            zmtp.post([b"x"])
            raise ZeroDivisionError


async def test_messages_that_cannot_be_sent_change_nothing() -> None:
    async with open_pair(socket_types=(SocketType.PULL, SocketType.PUSH)) as (pull, push):
        with pytest.raises(LocalProtocolError):
            pull.post([b"x"])
        with pytest.raises(ValueError, match="one frame"):
            push.post([])
        push.post([b"x"])
        assert await pull.receive() == [b"x"]
