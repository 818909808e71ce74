"""The lab: the fixture in tests of a project, and `open_lab` in runs of one's own."""

from __future__ import annotations

import inspect
import random
import traceback
from functools import partial

import pytest
import trio
from trio.testing import MockClock

from trionet.testing import Lab, VirtualNetwork, open_lab, open_virtual_network
from trionet.testing._evidence import _Witness
from trionet.testing._lab import NetworkSettings


async def test_the_clock_jumps(lab: Lab) -> None:
    """An hour is longer than a test may take."""
    before = trio.current_time()
    await trio.sleep(3600)
    assert trio.current_time() == before + 3600


async def test_the_clock_can_be_moved_by_hand(lab: Lab) -> None:
    before = trio.current_time()
    lab.clock.jump(60)
    assert trio.current_time() == before + 60


async def test_the_clock_is_that_of_the_fixture(lab: Lab, autojump_clock: MockClock) -> None:
    assert lab.clock is autojump_clock


async def test_the_network_is_that_of_the_fixture(lab: Lab, virtual_network: VirtualNetwork) -> None:
    assert virtual_network is lab


async def test_without_a_lab_the_clock_is_real(virtual_network: VirtualNetwork) -> None:
    assert not isinstance(trio.lowlevel.current_clock(), MockClock)
    assert not isinstance(virtual_network, Lab)


async def test_a_network_on_another_clock(virtual_network: VirtualNetwork, mock_clock: MockClock) -> None:
    assert trio.lowlevel.current_clock() is mock_clock
    assert virtual_network.seed == 0


async def test_the_seed_drives_the_random_numbers(lab: Lab, lab_seed: int) -> None:
    assert lab.seed == lab_seed == 0
    assert lab.random.random() == random.Random("0/test").random()


@pytest.mark.lab(seed=5)
class TestMarkedClass:
    async def test_takes_the_seed(self, lab: Lab) -> None:
        assert lab.seed == 5

    @pytest.mark.lab(seed=6)
    async def test_prefers_its_own(self, lab: Lab) -> None:
        assert lab.seed == 6


@pytest.mark.lab(latency=0.25)
async def test_settings_of_the_network(lab: Lab) -> None:
    assert lab.link(lab.host("here"), lab.host("there")).latency == 0.25


def test_all_settings_of_a_network_can_be_set() -> None:
    parameters = inspect.signature(VirtualNetwork).parameters
    assert {*parameters} - {"seed"} == {*NetworkSettings.__annotations__}


def run_in_lab(seed: int) -> str:
    """Some traffic with loss; the digest of its log."""

    async def main() -> str:
        async with open_lab(seed=seed, latency=0.01, loss=0.2) as lab:
            here, there = lab.host("here"), lab.host("there")
            with there.entered():
                sock = trio.socket.socket(type=trio.socket.SOCK_DGRAM)
                await sock.bind((there.ipv4, 7))
            with here.entered(), trio.socket.socket(type=trio.socket.SOCK_DGRAM) as sender:
                for _ in range(30):
                    await sender.sendto(b"ping", (there.ipv4, 7))
            await trio.sleep(1)
            sock.close()
            return lab.trace.digest

    return trio.run(main, clock=MockClock(autojump_threshold=0))


def test_same_seed_same_run() -> None:
    assert run_in_lab(1) == run_in_lab(1)
    assert run_in_lab(1) != run_in_lab(2)


async def test_a_lab_needs_a_mock_clock() -> None:
    with pytest.raises(
        RuntimeError, match=r"a lab needs a mock clock, .*; on the real clock, open a virtual"
    ):
        async with open_lab():
            pass


def failure_in_lab(*, in_host: bool) -> Exception:
    """What leaves a lab, with a socket open, in which the block or a host's task fails."""

    async def fail() -> None:
        await trio.sleep(1)
        raise ValueError("no more samples")

    async def main() -> None:
        async with open_lab(seed=17) as lab:
            server = lab.host("server")
            lab.host("client")
            await server.start(partial(trio.serve_tcp, trio.aclose_forcefully, 3251))
            lab.partition("server", "client")
            if in_host:
                lab.host("client").start_soon(fail)
                await trio.sleep_forever()
            else:
                await fail()

    with pytest.raises(ValueError, match="no more samples") as caught:
        trio.run(main, clock=MockClock(autojump_threshold=0))
    return caught.value


@pytest.mark.parametrize("in_host", [False, True], ids=["in the block", "on a host"])
def test_a_failure_is_told_what_went_on(in_host: bool) -> None:
    (note,) = failure_in_lab(in_host=in_host).__notes__
    lines = note.splitlines()
    assert lines[0] == "virtual network with seed 17"
    assert lines[1] == "packet log, the last 1 of 1 entries:"
    assert lines[2] == "  0.000000 partition of server>client, client>server"
    assert lines[3] == "netstat of server:"
    assert "0.0.0.0:3251" in note
    assert "LISTEN" in note
    assert lines[-1] == "no sockets on: client"


def test_tracebacks_show_what_went_on() -> None:
    shown = "".join(traceback.format_exception(failure_in_lab(in_host=False)))
    assert shown.rstrip().endswith("no sockets on: client")


def test_a_lab_that_cannot_be_opened_adds_nothing() -> None:
    async def main() -> None:
        async with open_virtual_network():
            async with open_lab():
                pass

    with pytest.raises(RuntimeError, match="another virtual network is open") as caught:
        trio.run(main, clock=MockClock(autojump_threshold=0))
    assert not hasattr(caught.value, "__notes__")


async def test_a_cancellation_is_no_failure(autojump_clock: MockClock) -> None:
    with trio.move_on_after(5) as scope:
        with pytest.raises(trio.Cancelled) as caught:
            async with open_lab():
                await trio.sleep_forever()
        assert not hasattr(caught.value, "__notes__")
        raise caught.value
    assert scope.cancelled_caught


def test_who_interrupts_it_is_told_what_went_on() -> None:
    async def main() -> None:
        async with open_lab():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        trio.run(main, clock=MockClock(autojump_threshold=0))
    assert caught.value.__notes__ == ["virtual network with seed 0\npacket log: empty"]


async def test_nobody_looks_for_failures_afterwards(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    monkeypatch.setattr(_Witness, "task_exited", lambda _, task: seen.append(task.name))
    async with open_lab() as lab:
        lab.host("server").start_soon(trio.sleep, 1, name="inside")
        await trio.sleep(2)
    seen_inside = [*seen]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep, 1, name="outside")
    assert seen_inside == ["server: inside"]
    assert "outside" not in seen
