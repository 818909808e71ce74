"""The same seed gives the same run: in this process, in others, and with every version of Python."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from tests.testing.network import busy_lab
from trionet.testing import VirtualNetwork, open_virtual_network

ROOT = Path(__file__).parents[3]
RUN: Any = trio._core._run

# The schedule is Trio's: another version may take other steps, and then these are recorded anew.
RECORDED_WITH = "0.35."
RECORDED = {
    1: "44bddd8d90e0195a1742141f4ae99cd781b5993445904db91dc9926d9288d888",
    2: "66fba2319ef3c40b820ad94b3aaf82bafb1e2e7114ac0b4bbb017d63b81bde04",
    3: "c9d38b7f1a20e7d5e35ce44e3984f49e61fa0727d1367bbae24a4ad9ae464ea8",
}


@pytest.mark.skipif(not trio.__version__.startswith(RECORDED_WITH), reason="recorded with another Trio")
@pytest.mark.parametrize("seed", RECORDED)
def test_every_python_gives_the_recorded_run(seed: int) -> None:
    assert busy_lab.digest(seed) == RECORDED[seed]


@pytest.mark.parametrize("hash_seed", ["0", "1"])
def test_every_process_gives_the_same_run(hash_seed: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.testing.network.busy_lab", "7", "8"],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [busy_lab.digest(7), busy_lab.digest(8)]


def test_seeds_differ() -> None:
    assert len({busy_lab.digest(seed) for seed in range(10)}) == 10


async def order_of_tasks() -> list[int]:
    order = []

    async def task(number: int) -> None:
        for _ in range(3):
            await trio.lowlevel.checkpoint()
            order.append(number)

    async with trio.open_nursery() as nursery:
        for number in range(6):
            nursery.start_soon(task, number)
    return order


def test_the_seed_drives_the_order_of_tasks() -> None:
    async def run(seed: int) -> tuple[int, ...]:
        async with open_virtual_network(seed=seed):
            return tuple(await order_of_tasks())

    orders = [trio.run(run, seed) for seed in (1, 1, 2, 3, 4)]
    assert orders[0] == orders[1]
    assert len({*orders}) == 4


@pytest.mark.parametrize("switch", [True, False])
def test_trio_is_left_as_it_was(switch: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RUN, "_ALLOW_DETERMINISTIC_SCHEDULING", switch)
    before, state = RUN._r, RUN._r.getstate()

    async def run(fail: bool) -> None:
        async with open_virtual_network():
            assert RUN._ALLOW_DETERMINISTIC_SCHEDULING
            assert RUN._r is not before
            await order_of_tasks()
            if fail:
                raise ValueError("out of the block")
        assert RUN._r is before
        assert RUN._ALLOW_DETERMINISTIC_SCHEDULING is switch
        assert RUN._r.getstate() == state

    clock = trio.testing.MockClock(autojump_threshold=0)
    with pytest.raises(ValueError, match="out of the block"):
        trio.run(run, True, clock=clock)
    assert RUN._r is before
    assert RUN._ALLOW_DETERMINISTIC_SCHEDULING is switch


def test_global_random_numbers_are_neither_used_nor_disturbed() -> None:
    random.seed(1)
    state = random.getstate()
    first = busy_lab.digest(5)
    assert random.getstate() == state
    random.seed(2)
    assert busy_lab.digest(5) == first


def test_traffic_elsewhere_does_not_change_what_a_link_does() -> None:
    """Each direction of a link has random numbers of its own."""

    async def losses(others: bool) -> tuple[list[float], list[float]]:
        async with open_virtual_network(seed=3, loss=0.5) as network:
            for name in ("a", "b", "c"):
                network.host(name)

            async def send(target: str) -> None:
                with trio.socket.socket(type=trio.socket.SOCK_DGRAM) as sock:
                    for _ in range(50):
                        await sock.sendto(b"x", (target, 9))
                        await trio.sleep(1)

            network.host("a").start_soon(send, "b")
            if others:
                network.host("a").start_soon(send, "c")
            await trio.sleep(100)
            lost = [entry for entry in network.trace if entry.why == "loss"]
            to_b, to_c = (
                [entry.time for entry in lost if entry.packet and entry.packet.dst.host == name]
                for name in ("b", "c")
            )
            return to_b, to_c

    clocks = [trio.testing.MockClock(autojump_threshold=0) for _ in range(2)]
    alone, together = (trio.run(losses, others, clock=clocks[others]) for others in (False, True))
    assert alone[0] == together[0] != []
    assert together[0] != together[1]


def test_the_test_has_random_numbers_of_the_seed() -> None:
    draws = [VirtualNetwork(seed=seed).random.random() for seed in (1, 1, 2)]
    assert draws[0] == draws[1] != draws[2]
