"""Bad peers over loopback: each hurts itself, and nobody else."""

from __future__ import annotations

import functools
import json
import logging
import socket
from typing import Any

import pytest
import trio
import trio.testing

import trionet
from tests.network.rigs import (
    address_of,
    both_schemes,
    loopback,
    open_communicator,
    open_listener,
    open_pair,
    open_raw_client,
    open_raw_rig,
    unused_port,
)
from trionet import ExpMessage, RigEvent
from trionet.rig._udp import DatagramSocket

#: What is no message, whether it is sent back (its second character is not "0"), and what the log says.
NO_MESSAGES: list[tuple[bytes, bool, str]] = [
    (b"not JSON", True, "no JSON"),
    (b"[1, x]", True, "no JSON"),
    (b'{"a": 1}', True, "no list, but dict"),
    (b'"text"', True, "no list, but str"),
    (b"12", True, "no list, but int"),
    (b"10", False, "no list, but int"),
    (b"[]", True, "an empty list"),
    (b"[256, null]", True, "256 is not one event"),
    (b"[-1, null]", True, "-1 is not one event"),
    (b"[3, null]", True, "3 is not one event"),
    (b"[255, null]", True, "255 is not one event"),
    (b'["EXPWHAT", null]', True, "no event is called 'EXPWHAT'"),
    (b"[1.5, null]", True, "not float"),
    (b"[0, 1]", False, "1 items instead of 2"),
    (b"[null, 1]", True, "1 items instead of 2"),
    (b"[1, \xff]", False, "no UTF-8"),
    (b"[" * 30_000 + b"]" * 30_000, True, "no JSON"),
    (b"[1, " + b"9" * 10_000 + b"]", True, "no JSON"),
]


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


@both_schemes
@pytest.mark.parametrize(("sent", "echoed", "reason"), NO_MESSAGES)
async def test_what_is_no_message_is_sent_back_as_the_rule_says_and_goes_nowhere(
    scheme: str, sent: bytes, echoed: bool, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    called: list[RigEvent] = []
    async with open_listener(loopback(scheme)) as rig:
        rig.assign_callback(ExpMessage.any(), called.append)
        rig.assign_callback(0, called.append)
        async with open_raw_client(scheme, rig.port) as peer:
            await peer.send(sent)
            if echoed:
                await peer.receive_exactly(sent)
            await peer.send([1, "next"])
            await peer.receive_exactly(b'[1, "next"]')
        assert [event.data for event in called] == [["next"]]
        assert rig.statistics() == trionet.RigStatistics(received=1, malformed=1)
    (warning,) = warnings_of(caplog)
    assert reason in warning
    assert "127.0.0.1:" in warning


@both_schemes
async def test_an_event_without_data_is_echoed_and_not_delivered(
    scheme: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_listener(loopback(scheme)) as rig:
        called: list[RigEvent] = []
        rig.assign_callback(ExpMessage.any(), called.append)
        async with open_raw_client(scheme, rig.port) as peer, open_raw_client(scheme, rig.port) as other:
            for _ in range(3):
                for one in (peer, other):
                    await one.send(b"[32]")
                    await one.receive_exactly(b"[32]")
        assert called == []
        assert rig.statistics() == trionet.RigStatistics(pings=6)
    assert warnings_of(caplog) == []


async def test_a_datagram_that_stops_in_the_middle_of_a_message() -> None:
    """Over TCP, the rest may still come: see `tests.front.test_rig_streams`."""
    async with open_listener(loopback("udp")) as rig:
        async with open_raw_client("udp", rig.port) as peer:
            await peer.send(b"[1, 1")
            await peer.receive_exactly(b"[1, 1")
            await peer.send(b"]")
            await peer.send(b"[1, 1]")
            await peer.receive_exactly(b"[1, 1]")
        assert rig.statistics() == trionet.RigStatistics(received=1, malformed=2)


async def test_an_empty_datagram() -> None:
    async with open_listener(loopback("udp")) as rig:
        async with open_raw_client("udp", rig.port) as peer:
            await peer.send(b"")
            await peer.send(b"[1, 1]")
            await peer.receive_exactly(b"[1, 1]")
        assert rig.statistics() == trionet.RigStatistics(received=1, malformed=1)


async def test_the_longest_datagram_and_one_byte_more() -> None:
    text = "x" * (65_507 - len('[1, ""]'))
    async with open_pair("udp") as (client, rig):
        with rig.open_events() as events:
            await client.init(text)
            assert (await events.receive()).data == [text]
        address = await address_of(client, rig)
        await rig.init(text, address=address)
        with pytest.raises(trionet.LocalProtocolError, match="65508 bytes does not fit into a datagram"):
            await client.init(text + "x")
        with pytest.raises(trionet.LocalProtocolError, match="65507 at most"):
            await client.send([1, text + "x"])
        with pytest.raises(trionet.LocalProtocolError, match="65507 at most"):
            await rig.init(text + "x", address=address)
        await client.init("next")
        assert rig.statistics().malformed == 0
        assert rig.statistics().received == 3


async def test_one_byte_too_long_for_tcp_is_not_sent() -> None:
    async with open_pair("tcp", max_message_size=1000) as (client, rig):
        text = "x" * (1000 - len('[1, ""]'))
        await client.init(text)
        with pytest.raises(trionet.LocalProtocolError, match="1001 bytes is too long: 1000 at most"):
            await client.init(text + "x")
        await client.init()
        assert rig.statistics().received == 2


@both_schemes
async def test_a_truncated_echo_confirms_nothing(scheme: str) -> None:
    async with open_raw_rig(scheme, echo_timeout=0.02) as (client, rig), trio.open_nursery() as nursery:

        async def echo() -> None:
            message = await rig.receive()
            await rig.send(message[:-1])

        nursery.start_soon(echo)
        with pytest.raises(trionet.EchoTimeout):
            await client.init("long enough")
        assert client.statistics().confirmed == 0
    assert client.statistics().received == 0


@both_schemes
async def test_an_echo_from_another_address_confirms_nothing(scheme: str) -> None:
    """It is a message of that one."""
    async with open_listener(loopback(scheme)) as rig:
        async with open_raw_client(scheme, rig.port) as peer, open_raw_client(scheme, rig.port) as stranger:
            with rig.open_events() as events:
                for one in (stranger, peer):
                    await one.send([8, 1])
                    await one.receive_exactly(b"[8, 1]")
                    address = (await events.receive()).address
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(lambda: rig.init("for you", address=address))
                    message = await peer.receive()
                    await stranger.send(message)
                    await stranger.receive_exactly(message)
                    event = await events.receive()
                    assert (event.data, event.address) == (["for you"], stranger.address)
                    assert rig.statistics().confirmed == 0
                    await peer.send(message)
        assert rig.statistics().confirmed == 1


async def test_a_communicator_hears_its_rig_only() -> None:
    async with open_raw_rig("udp") as (client, rig), trio.open_nursery() as nursery:
        nursery.start_soon(client.init, 1)
        message = await rig.receive()
        with trio.socket.socket(type=trio.socket.SOCK_DGRAM) as stranger:
            await stranger.bind(("127.0.0.1", 0))
            await stranger.sendto(message, client.addresses[0])
            await stranger.sendto(b"[1, 2]", client.addresses[0])
        await trio.testing.wait_all_tasks_blocked()
        assert client.statistics() == trionet.RigStatistics()
        await rig.send(message)


@both_schemes
async def test_a_peer_that_echoes_everything_twice(scheme: str) -> None:
    """With a window it is noticed; without, the second one is a message, as it is to upstream."""
    for window, received in ((1000.0, 0), (0.0, 2)):
        async with open_raw_rig(scheme, dedup_window=window) as (client, rig):
            for number in range(2):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(client.init, number)
                    message = await rig.receive()
                    assert message == b"[1, %d]" % number
                    await rig.send(message + message if rig.stream else message)
                    if not rig.stream:
                        await rig.send(message)
                if not window:
                    # A message, so it is sent back. What if that is echoed, too: `tests.lab.test_rig_storms`.
                    await rig.receive_exactly(message)
                else:
                    await rig.send([2, number, 0])
                    await rig.receive_exactly(b"[2, %d, 0]" % number)
            await trio.testing.wait_all_tasks_blocked()
            statistics = client.statistics()
            assert statistics.confirmed == 2
            assert statistics.received - (2 if window else 0) == received


async def test_a_flood_of_junk_from_a_stranger(caplog: pytest.LogCaptureFixture) -> None:
    """10,000 datagrams while a session runs: it completes, and the log does not grow with them."""
    junk = [b"x", b"\xff\xfe", b"[]", b"{", b"[3, 1]", b"", b"[1.5, 2]", json.dumps("y" * 500).encode()]
    async with open_pair("udp") as (client, rig):

        async def answer(event: RigEvent) -> None:
            await rig.respond(event, "ok")

        rig.assign_callback(ExpMessage.any(), answer)
        services = trionet.RigServices({"rig": client}, response_timeout=30)
        async with open_raw_client("udp", rig.port) as stranger:
            for number in range(100):
                # As many as the buffers of the sockets hold: what is more, the system drops, ours included.
                for one in range(100):
                    await stranger.send(junk[one % len(junk)])
                assert await services.info("RUNNING", number) == {"rig": ["ok"]}
        statistics = rig.statistics()
        assert statistics.malformed == 10_000
        assert (statistics.received, statistics.confirmed) == (100, 100)
    assert len(warnings_of(caplog)) < 20
    assert any("9995 more" in warning for warning in warnings_of(caplog))


async def test_a_flood_of_junk_over_tcp(caplog: pytest.LogCaptureFixture) -> None:
    async with open_pair("tcp") as (client, rig):
        async with open_raw_client("tcp", rig.port) as stranger, trio.open_nursery() as nursery:

            async def read_echoes() -> None:
                expected = 1000 * len(b"[3, 1]")
                while expected:
                    expected -= len(await stranger.receive())

            nursery.start_soon(read_echoes)
            for number in range(100):
                await stranger.send(b"[]" * 10 + b"[3, 1]" * 10)
                await client.info("RUNNING", number)
            nursery.cancel_scope.cancel()
        assert rig.statistics().received == 100
    assert len(warnings_of(caplog)) < 20


async def test_a_peer_that_is_gone_does_not_disturb_a_listener() -> None:
    """What is refused by one address counts for nobody else."""
    async with open_pair("udp") as (client, rig):
        address = await address_of(client, rig)
        async with open_raw_client("udp", rig.port) as peer:
            gone = peer.address
        for _ in range(20):
            await rig.send([4, "to nobody"], address=gone)
            await client.init()
            await rig.status("RUNNING", address=address)
        with pytest.raises(trionet.EchoTimeout):
            await rig.stop(address=gone, echo_timeout=0.02)
        await client.init()


@both_schemes
async def test_a_report_with_odd_contents(scheme: str) -> None:
    """Nothing about what comes is taken for granted."""
    reports: list[list[Any]] = [[0, None, None], [0, {"a": 1}, [2]], [0, "", -5], [None, "x", "EXPINIT"]]
    async with open_raw_rig(scheme) as (client, rig), trio.open_nursery() as nursery:
        services = trionet.RigServices({"rig": client}, response_timeout=30)
        with client.open_events(0) as events:
            nursery.start_soon(services.init)
            message = await rig.receive()
            await rig.send(message)
            for report in reports:
                await rig.send(report)
                assert (await events.receive()).data == report[1:]
            await rig.send([1, "answer"])


@both_schemes
async def test_answers_with_odd_contents(scheme: str) -> None:
    async with open_raw_rig(scheme) as (client, rig):
        services = trionet.RigServices({"rig": client}, response_timeout=30)
        with client.open_events() as events:
            for answer in ([32, 99], [32, None, 1, 2], ["expstatus", [1]], [" ExpStatus ", {}]):
                async with trio.open_nursery() as nursery:
                    received: list[Any] = []

                    async def ask(received: list[Any] = received) -> None:
                        received.append(await services.status("RUNNING"))

                    nursery.start_soon(ask)
                    message = await rig.receive()
                    assert message == b"[32, 20]"
                    await rig.send(message)
                    await rig.send(answer)
                    await rig.receive_exactly(json.dumps(answer).encode())
                assert received == [{"rig": answer[1:]}]
                assert (await events.receive()).event == ExpMessage.EXPSTATUS


class Full:
    """A socket that is full for a while."""

    def __init__(self, sock: Any, refusals: int) -> None:
        self._sock = sock
        self._refusals = refusals

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def sendto(self, data: bytes, address: Any) -> int:
        if self._refusals:
            self._refusals -= 1
            raise BlockingIOError
        sent: int = self._sock.sendto(data, address)
        return sent


async def test_several_that_wait_for_a_full_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    """Senders, and the echoes of what comes meanwhile."""
    open_socket = DatagramSocket._open_socket
    full: dict[DatagramSocket, Full] = {}

    def open_full_socket(self: DatagramSocket) -> Any:
        return full.setdefault(self, Full(open_socket(self), 10))

    monkeypatch.setattr(DatagramSocket, "_open_socket", open_full_socket)
    async with open_listener(loopback("udp")) as rig:
        async with open_raw_client("udp", rig.port) as peer, trio.open_nursery() as nursery:
            await peer.send([8, 1])
            for number in range(2):
                nursery.start_soon(functools.partial(rig.send, [4, number], address=peer.address))
            assert {await peer.receive() for _ in range(3)} == {b"[8, 1]", b"[4, 0]", b"[4, 1]"}


async def test_a_refusal_is_told_to_who_wants_to_know() -> None:
    """Also of what is not confirmed; the communicator goes on."""
    refused, refusals = trio.Event(), []

    def note(error: OSError) -> None:
        refusals.append(error)
        refused.set()

    with unused_port("udp") as port:
        async with open_communicator(loopback("udp", port)) as client:
            client.on_refused = note
            await client.send([1, "nobody is there"])
            with trio.fail_after(30):
                await refused.wait()
            with pytest.raises(ConnectionRefusedError):
                await client.init(echo_timeout=30)
    assert {type(error) for error in refusals} == {ConnectionRefusedError}
    assert f":{port}" in str(refusals[0])


async def test_a_message_is_sent_although_the_one_before_was_refused() -> None:
    """The system tells about the first one when the second one is to be sent, and does not send that."""
    with unused_port("udp") as port:
        async with open_communicator(loopback("udp", port)) as client:
            await client.send([1, "nobody is there"])
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as rig:
                rig.bind(("127.0.0.1", port))
                rig.setblocking(False)
                with trio.move_on_after(0.02):
                    await client.init("at once")
                assert rig.recv(100) == b'[1, "at once"]'
