"""Links: latency, jitter, loss, duplicates, order, bandwidth, partitions, and traffic that is held."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable

import pytest
import trio
import trio.testing

from tests.testing.network.programs import PORT, udp_socket
from trionet.testing import VirtualNetwork, open_virtual_network

Clock = trio.testing.MockClock


class Course:
    """Datagrams from host "a" to host "b": when each arrives."""

    def __init__(self, network: VirtualNetwork) -> None:
        self.network = network
        self.arrived: list[tuple[int, float]] = []

    async def receive(self, *, task_status: trio.TaskStatus[None]) -> None:
        with udp_socket() as sock:
            await sock.bind(("0.0.0.0", PORT))
            task_status.started()
            while True:
                data = await sock.recv(70_000)
                self.arrived.append((int.from_bytes(data[:4]), trio.current_time()))

    async def send(self, count: int, *, size: int = 4, interval: float = 0.0, since: int = 0) -> None:
        with self.network.host("a").entered(), udp_socket() as sock:
            for number in range(since, since + count):
                await sock.sendto(number.to_bytes(4).ljust(size), ("b", PORT))
                await trio.sleep(interval)

    @property
    def numbers(self) -> list[int]:
        return [number for number, _ in self.arrived]


@contextlib.asynccontextmanager
async def open_course(**settings: float) -> AsyncIterator[Course]:
    async with open_virtual_network(seed=5, **settings) as network:  # type: ignore[arg-type]
        course = Course(network)
        network.host("a")
        await network.host("b").start(course.receive)
        yield course


async def test_latency_may_change_and_differ_by_direction(autojump_clock: Clock) -> None:
    async with open_course(latency=1) as course:
        link = course.network.link("a", "b")
        assert link.latency == 1
        await course.send(1)
        link.latency = 3
        await course.send(1, since=1)
        link.toward("b").latency = 0.5
        await course.send(1, since=2)
        await trio.sleep(10)
        assert course.arrived == [(2, 0.5), (0, 1), (1, 3)]
        assert link.toward("a").latency == 3
        with pytest.raises(ValueError, match="differ"):
            _ = link.latency


async def test_settings_of_one_link_are_no_others(autojump_clock: Clock) -> None:
    async with open_course(latency=1) as course:
        course.network.host("c")
        course.network.link("a", "c").latency = 9
        await course.send(1)
        await trio.sleep(10)
        assert course.arrived == [(0, 1)]


async def test_jitter_keeps_the_order(autojump_clock: Clock) -> None:
    async with open_course(latency=1, jitter=1) as course:
        await course.send(100, interval=0.01)
        await trio.sleep(10)
        delays = [time - number * 0.01 for number, time in course.arrived]
        assert course.numbers == list(range(100))
        assert min(delays) >= 1
        assert max(delays) <= 2.000001
        assert len({round(delay, 6) for delay in delays}) > 10


async def test_after_a_change_nothing_waits_for_what_was_sent_before(autojump_clock: Clock) -> None:
    async with open_course(latency=10, jitter=0.1) as course:
        await course.send(1)
        course.network.link("a", "b").latency = 0
        await course.send(1, since=1)
        await trio.sleep(20)
        assert course.numbers == [1, 0]


async def test_loss(autojump_clock: Clock) -> None:
    async with open_course(loss=0.3) as course:
        await course.send(300)
        await trio.sleep(1)
        assert 150 < len(course.arrived) < 270
        course.network.link("a", "b").loss = 1
        before = len(course.arrived)
        await course.send(10)
        course.network.link("a", "b").loss = 0
        await course.send(10)
        await trio.sleep(1)
        assert len(course.arrived) == before + 10


async def test_duplicates(autojump_clock: Clock) -> None:
    async with open_course(duplicate=0.5) as course:
        await course.send(100)
        await trio.sleep(1)
        assert {*course.numbers} == {*range(100)}
        assert 120 < len(course.arrived) < 180
        assert max(map(course.numbers.count, range(100))) == 2


async def test_reordering(autojump_clock: Clock) -> None:
    async with open_course(latency=1, reorder=0.2) as course:
        await course.send(100, interval=0.01)
        await trio.sleep(10)
        assert sorted(course.numbers) == list(range(100))
        assert course.numbers != list(range(100))


async def test_bandwidth(autojump_clock: Clock) -> None:
    async with open_course(latency=1) as course:
        course.network.link("a", "b").bandwidth = 8 * 1028  # a packet per second, headers included
        await course.send(3, size=1000)
        await trio.sleep(10)
        assert [time for _, time in course.arrived] == pytest.approx([2, 3, 4])


@pytest.mark.parametrize(("bandwidth", "arrival"), [(8 * 1028, 101), (80 * 1028, 10.1), (4 * 1028, 202)])
async def test_as_many_bytes_wait_after_the_bandwidth_was_changed(
    autojump_clock: Clock, bandwidth: float, arrival: float
) -> None:
    async with open_course() as course:
        link = course.network.link("a", "b")
        link.bandwidth = 8 * 1028  # a packet per second, headers included
        await course.send(100, size=1000)
        link.bandwidth = bandwidth
        await course.send(1, size=1000, since=100)
        await trio.sleep(1000)
        assert dict(course.arrived)[100] == pytest.approx(arrival)


async def test_a_link_that_is_made_faster_drops_nothing(autojump_clock: Clock) -> None:
    async with open_course(bandwidth=8000) as course:
        await course.send(100, size=1000)
        course.network.link("a", "b").bandwidth = 1e9
        await course.send(1, since=100)
        await trio.sleep(1)
        assert course.numbers == [100]
        await trio.sleep(1000)
        assert sorted(course.numbers) == list(range(101))


async def test_a_full_link_drops(autojump_clock: Clock) -> None:
    async with open_course() as course:
        course.network.link("a", "b").bandwidth = 1_000_000
        await course.send(20, size=65_000)
        await trio.sleep(100)
        assert course.numbers == list(range(9))
        assert {entry.why for entry in course.network.trace} == {"", "queue of the link full"}


@pytest.mark.parametrize(
    ("cut", "arrives"),
    [
        (lambda network: network.partition("a", "b"), False),
        (lambda network: network.partition("b", "a"), False),
        (lambda network: network.partition("a", "b", one_way=True), False),
        (lambda network: network.partition("b", "a", one_way=True), True),
        (lambda network: network.partition(["a", "c"], [network.host("b")]), False),
        (lambda network: network.partition("c", ["a", "b"]), True),
    ],
)
async def test_partitions(
    autojump_clock: Clock, cut: Callable[[VirtualNetwork], None], arrives: bool
) -> None:
    async with open_course() as course:
        course.network.host("c")
        cut(course.network)
        await course.send(1)
        await trio.sleep(1)
        assert bool(course.arrived) == arrives
        course.network.repair()
        await course.send(1, since=1)
        await trio.sleep(1)
        assert 1 in course.numbers


async def test_a_repair_repairs_only_what_it_says(autojump_clock: Clock) -> None:
    async with open_course() as course:
        course.network.host("c")
        course.network.partition("a", ["b", "c"])
        course.network.repair("a", "c")
        await course.send(1)
        course.network.repair("a", "b", one_way=True)
        await course.send(1, since=1)
        await trio.sleep(1)
        assert course.numbers == [1]


async def test_what_is_under_way_survives_a_partition(autojump_clock: Clock) -> None:
    async with open_course(latency=1) as course:
        await course.send(1)
        course.network.partition("a", "b")
        await trio.sleep(2)
        assert course.numbers == [0]


async def test_held_packets_wait_for_their_release(autojump_clock: Clock) -> None:
    async with open_course(latency=1) as course:
        course.network.hold("a", "b")
        await course.send(3, interval=1)
        await trio.sleep(10)
        assert course.arrived == []
        course.network.release()
        await course.send(1, since=3)
        await trio.sleep(10)
        assert course.arrived == [(0, 14), (1, 14), (2, 14), (3, 14)]


async def test_the_way_back_is_not_held_one_way(autojump_clock: Clock) -> None:
    async with open_course() as course:
        course.network.hold("b", "a", one_way=True)
        await course.send(1)
        await trio.sleep(1)
        assert course.numbers == [0]
        course.network.hold("a", "b")
        await course.send(1, since=1)
        course.network.release("a", "b", one_way=True)
        await trio.sleep(1)
        assert course.numbers == [0, 1]


@pytest.mark.parametrize(
    ("name", "value"),
    [("latency", -1), ("jitter", float("inf")), ("loss", 1.5), ("duplicate", float("nan")), ("bandwidth", 0)],
)
async def test_settings_that_make_no_sense(autojump_clock: Clock, name: str, value: float) -> None:
    async with open_course() as course:
        link = course.network.link("a", "b")
        for target in (link, link.toward("a")):
            with pytest.raises(ValueError, match=name):
                setattr(target, name, value)
    with pytest.raises(ValueError, match=name):
        VirtualNetwork(**{name: value})  # type: ignore[arg-type]
