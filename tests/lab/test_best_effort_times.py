"""Best-effort clients try again at exactly the times that upstream's do, whatever the outage."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from functools import partial
from itertools import pairwise

import pytest
import trio
import trio.testing

import trionet
from tests.lab.best_effort_model import CallTime, Happening, Model, Phase
from tests.lab.servers import EVERYWHERE, PORT, Server, same_time
from trionet.testing import Lab, Packet

SEEDS = 200
SECONDS = 199.5

#: What has happened to the clients of all seeds.
seen: Counter[str] = Counter()


class Target:
    def answer(self) -> str:
        return "answer"

    async def last(self) -> None:
        await trio.sleep_forever()


class Observer:
    """Notes what a client does."""

    def __init__(self) -> None:
        self.happenings: list[Happening] = []
        self.began = trio.current_time()
        self._ports: set[int] = set()

    def note(self, what: str) -> None:
        self.happenings.append(Happening(trio.current_time() - self.began, what))

    def note_attempt(self, packet: Packet) -> None:
        """A rule: the first SYN from a port is an attempt, others from there repeat it."""
        if packet.flags == "S" and packet.src.port not in self._ports:
            self._ports.add(packet.src.port)
            self.note("attempt")

    async def watch(self, client: trionet.BestEffortRpcClient) -> None:
        while True:
            await client.connected.wait_value(True)
            self.note("connected")
            await client.connected.wait_value(False)
            self.note("lost")

    async def call(self, client: trionet.BestEffortRpcClient, call: CallTime) -> None:
        await trio.sleep_until(self.began + call.time)
        result = await client.call("last" if call.lasting else "answer")
        assert result in (None, "answer")
        self.note("no answer" if result is None else "answer")


async def follow(lab: Lab, server: Server, phases: list[Phase]) -> None:
    """Have the outages happen."""
    began = trio.current_time()
    for before, phase in zip([None, *phases[:-1]], phases, strict=True):
        await trio.sleep_until(began + phase.start)
        if before is not None and before.state == "silent":
            lab.repair()
            continue
        match phase.state:
            case "serving":
                await server.start()
            case "refusing" if not server.host.running:
                server.host.restart()
            case "refusing" if server.serving.value:
                server.stop(0)
            case "down":
                server.crash(0)
                server.host.crash()
            case "silent":
                lab.partition("server", "client")


@pytest.fixture(autouse=True, scope="module")
def quiet() -> Iterator[None]:
    """Of all those outages nothing need be said."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.lab(seeds=SEEDS)
async def test_it_tries_again_at_the_times_of_upstream(lab: Lab) -> None:
    host, client_host = lab.host("server"), lab.host("client")
    program = partial(trionet.serve_rpc, {"target": Target()}, PORT, host=EVERYWHERE)
    model = Model.make(lab.random, SECONDS)
    expected = [happening for happening in model.foretell() if happening.time < SECONDS]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(follow, lab, Server(host, program), model.phases)
        await trio.testing.wait_all_tasks_blocked()
        observer = Observer()
        with client_host.entered(), lab.rule(observer.note_attempt):
            async with trionet.open_best_effort_rpc_client(host.ipv4, PORT, "target") as client:
                assert same_time(trio.current_time() - observer.began, model.opened)
                async with trio.open_nursery() as using:
                    using.start_soon(observer.watch, client)
                    for call in model.calls_made:
                        using.start_soon(observer.call, client, call)
                    await trio.sleep_until(observer.began + SECONDS)
                    using.cancel_scope.cancel()
        nursery.cancel_scope.cancel()
    assert rounded(observer.happenings) == rounded(expected)
    count(expected, model.phases)


def rounded(happenings: list[Happening]) -> list[Happening]:
    """In order, with times that can be compared; floats are a little different for each way to add them."""
    return sorted(Happening(round(time, 6), what) for time, what in happenings)


def count(happenings: list[Happening], phases: list[Phase]) -> None:
    seen["seeds"] += 1
    seen.update(what for _, what in happenings)
    seen.update(phase.state for phase in phases)
    losses = {time for time, what in happenings if what == "lost"}
    for one, other in pairwise(time for time, what in happenings if what == "attempt"):
        if other in losses:
            seen["again at once"] += 1
        else:
            seen[f"again after {round(other - one, 6):g} s"] += 1


def test_the_seeds_have_met_everything() -> None:
    """Or the test above says little."""
    if seen["seeds"] < SEEDS:
        pytest.skip("in the company of all seeds only")
    for what in ("serving", "refusing", "down", "silent", "connected", "lost", "answer", "no answer"):
        assert seen[what] >= 100, what
    for what in ("again at once", "again after 5 s", "again after 10 s"):
        assert seen[what] >= 100, what
    assert seen["again after 7 s"] >= 5  # refused when TCP asked for the fourth time
