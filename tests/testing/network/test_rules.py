"""Rules: the first verdict wins, and TCP connections end at any byte."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from tests.testing.network.programs import PORT, connected_pair, echo, raised_by, tcp_socket, udp_socket
from trionet.testing import (
    DELIVER,
    DROP,
    Delay,
    Duplicate,
    Endpoint,
    Packet,
    Reset,
    Trace,
    Verdict,
    VirtualNetwork,
    open_virtual_network,
    reset_after,
)

Clock = trio.testing.MockClock


async def arrivals(network: VirtualNetwork) -> list[tuple[bytes, float]]:
    """Two datagrams go from "a" to "b"; what arrives, and when."""
    got = []
    with network.host("b").entered(), udp_socket() as receiver:
        await receiver.bind(("0.0.0.0", PORT))
        start = trio.current_time()
        with network.host("a").entered(), udp_socket() as sender:
            for data in (b"1", b"2"):
                await sender.sendto(data, ("b", PORT))
        with trio.move_on_after(100):
            while True:
                got.append((await receiver.recv(10), trio.current_time() - start))
    return got


@pytest.mark.parametrize(
    ("verdict", "expected"),
    [
        (None, [(b"1", 1), (b"2", 1)]),
        (DELIVER, [(b"1", 1), (b"2", 1)]),
        (DROP, [(b"2", 1)]),
        (Reset(), [(b"2", 1)]),
        (Delay(5), [(b"2", 1), (b"1", 6)]),
        (Duplicate(), [(b"1", 1), (b"1", 1), (b"2", 1)]),
        (Duplicate(2), [(b"1", 1), (b"1", 1), (b"1", 1), (b"2", 1)]),
    ],
)
async def test_verdicts(
    autojump_clock: Clock, verdict: Verdict | None, expected: list[tuple[bytes, float]]
) -> None:
    async with open_virtual_network(latency=1) as network:
        with network.rule(lambda packet: verdict if packet.payload == b"1" else None):
            assert await arrivals(network) == expected
        assert len(await arrivals(network)) == 2  # the rule ends with its block


async def test_the_first_verdict_wins(autojump_clock: Clock) -> None:
    asked = []

    def note(packet: Packet) -> None:
        asked.append(packet.payload)

    async with open_virtual_network() as network:
        with network.rule(lambda packet: DELIVER if packet.payload == b"1" else None), network.rule(note):
            with network.rule(lambda packet: DROP):
                assert [data for data, _ in await arrivals(network)] == [b"1"]
    assert asked == [b"2"]


async def test_a_rule_sees_who_sends_what(autojump_clock: Clock) -> None:
    seen = []

    def look(packet: Packet) -> None:
        seen.append((packet.protocol, packet.flags, packet.src.host, packet.dst.port, packet.payload))

    async with open_virtual_network() as network:
        with network.rule(look):
            here, _ = await connected_pair(network)
            await here.send_all(b"x")
            await trio.sleep(1)
    assert seen[0] == ("tcp", "S", "client", PORT, b"")
    assert seen[3] == ("tcp", "P.", "client", PORT, b"x")


@pytest.mark.parametrize("count", [0, 1, 99, 100, 101, 250, 999])
@pytest.mark.parametrize("latency", [0.0, 0.01])
async def test_a_connection_ends_at_any_byte(autojump_clock: Clock, count: int, latency: float) -> None:
    async with open_virtual_network(latency=latency) as network:
        with network.rule(reset_after(count, src="client", port=PORT)):
            here, there = await connected_pair(network)
            data = bytes(number % 251 for number in range(1000))

            async def send() -> None:
                for start in range(0, 1000, 100):
                    await here.send_all(data[start : start + 100])

            with pytest.RaisesGroup(trio.BrokenResourceError, trio.BrokenResourceError):
                async with trio.open_nursery() as nursery:

                    @nursery.start_soon
                    async def receive() -> None:
                        got = b""
                        try:
                            while True:
                                got += await there.receive_some()
                        finally:
                            assert got == data[:count]

                    @nursery.start_soon
                    async def sending() -> None:
                        with trio.CancelScope(shield=True):
                            await send()
                            await here.receive_some()


async def test_a_connection_ends_right_after_the_last_byte(autojump_clock: Clock) -> None:
    async with open_virtual_network(latency=0.01) as network:
        with network.rule(reset_after(4)):
            here, there = await connected_pair(network)
            await here.send_all(b"1234")
            assert await there.receive_some() == b"1234"
            with pytest.raises(trio.BrokenResourceError):
                await there.receive_some()


def test_the_digest_covers_what_packets_carry() -> None:
    digests = []
    for data in (b"one", b"two", b"two"):
        trace = Trace(10)
        trace.record(0, "sent", Packet("udp", Endpoint("a", "", 1), Endpoint("b", "", 2), data))
        digests.append(trace.digest)
    assert digests[0] != digests[1] == digests[2]


def test_a_trace_keeps_little_of_large_packets() -> None:
    trace = Trace(10_000)
    large = Packet("udp", Endpoint("a", "", 1), Endpoint("b", "", 2), bytes(60_000))
    for _ in range(1000):
        trace.record(0, "sent", large)
    assert 200 < len(trace) < 300
    assert trace.count == 1000


async def test_a_refused_connection(autojump_clock: Clock) -> None:
    async with open_virtual_network(latency=0.01) as network:
        with network.rule(lambda packet: Reset() if packet.flags == "S" else None):
            network.host("server").start_soon(trio.serve_tcp, echo, PORT)
            with network.host("client").entered():
                error = await raised_by(tcp_socket().connect, ("server", PORT))
    assert isinstance(error, ConnectionRefusedError)


@pytest.mark.parametrize("crashing", [True, False])
async def test_a_rule_may_crash_a_host(autojump_clock: Clock, crashing: bool) -> None:
    async with open_virtual_network(latency=0.01) as network:
        here, there = await connected_pair(network)

        def rule(packet: Packet) -> Verdict | None:
            if crashing and b"crash" in packet.payload:
                network.host("client").crash()
                return DROP
            return None

        with network.rule(rule):
            await here.send_all(b"crash")
            with trio.move_on_after(10) as scope:
                await there.receive_some()
            assert scope.cancelled_caught == crashing


async def test_what_a_rule_raises_ends_the_network(autojump_clock: Clock) -> None:
    def rule(packet: Packet) -> None:
        raise ValueError("a mistake in a rule")

    with pytest.raises(ValueError, match="a mistake"):
        async with open_virtual_network() as network:
            with network.rule(rule), network.host("a").entered():
                await udp_socket().sendto(b"x", ("10.0.0.1", PORT))
                await trio.sleep_forever()


@pytest.mark.parametrize("seed", range(10))
async def test_what_a_rule_raises_about_the_last_packet_counts_too(autojump_clock: Clock, seed: int) -> None:
    def rule(packet: Packet) -> None:
        if "F" in packet.flags:
            raise AssertionError("it has said goodbye")

    with pytest.raises(AssertionError, match="goodbye"):
        async with open_virtual_network(seed=seed) as network:
            here, _there = await connected_pair(network)
            with network.rule(rule):
                here.socket.close()  # and there is no checkpoint before the network is closed


async def test_what_is_no_verdict_is_an_error(autojump_clock: Clock) -> None:
    with pytest.raises(TypeError, match="no verdict"):
        async with open_virtual_network() as network:
            with network.rule(lambda packet: True), network.host("a").entered():  # type: ignore[arg-type, return-value]
                await udp_socket().sendto(b"x", ("10.0.0.1", PORT))
                await trio.sleep_forever()


async def test_the_trace_tells_what_became_of_packets(autojump_clock: Clock) -> None:
    async with open_virtual_network(latency=0.5, trace_length=3) as network:
        with network.rule(lambda packet: DROP if packet.payload == b"1" else None):
            await arrivals(network)
        assert network.trace.count == 4
        assert str(network.trace).splitlines() == [
            "0.000000 dropped (rule) a/10.0.0.2:49152 > b/10.0.0.1:3251: UDP, length 1",
            "0.000000 sent a/10.0.0.2:49152 > b/10.0.0.1:3251: UDP, length 1",
            "0.500000 delivered a/10.0.0.2:49152 > b/10.0.0.1:3251: UDP, length 1",
        ]
        assert network.trace.last(1) == str([*network.trace][-1])
        network.trace.length = 1
        assert len(network.trace) == 1
