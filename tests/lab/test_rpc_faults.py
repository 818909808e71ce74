"""RPC when connections are lost at any byte: each call gets its own reply or raises, and is executed once."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import trio

import trionet
from tests.lab.rpc_calls import MAX_SIZE, Caller, Ledger, make_calls, serve_ledger
from tests.lab.servers import PORT, Server, set_weather
from trionet.testing import DROP, Delay, Lab, Packet, Reset, Verdict

SEEDS = 200

#: What happens to connections, how often, and to calls.
seen: Counter[str] = Counter()


@dataclass
class Cut:
    """What happens to a connection.

    Attributes:
        kind: "reset": both ends see it reset; "silence": nothing gets through any more; "one way": not in
            this direction; "crash": of the server's host; "stop": of the server; "delay": of one packet.
        upward: Whether this is at a byte of what the client sends.
        byte: At which it happens.
        seconds: How long the outage or delay is.
        done: Whether it has happened.
    """

    kind: str
    upward: bool
    byte: int
    seconds: float
    done: bool = False


class Cuts:
    """A rule that has something happen to each of the first connections."""

    def __init__(self, lab: Lab, server: Server) -> None:
        self.server = server
        random = lab.random
        kinds = ["reset", "reset", "silence", "one way", "crash", "stop", "delay"]
        # The handshake takes some 100 bytes, and calls have up to 1 MB.
        self.cuts = [
            Cut(
                random.choice(kinds),
                random.random() < 0.5,
                random.choice([random.randrange(200), int((2 * MAX_SIZE) ** random.random())]),
                random.uniform(0, 60),
            )
            for _ in range(random.randrange(1, 5))
        ]
        self._left = iter(self.cuts)
        self._of_port: dict[int, Cut | None] = {}

    def __call__(self, packet: Packet) -> Verdict | None:
        upward = packet.dst.port == PORT
        port = packet.src.port if upward else packet.dst.port
        if port not in self._of_port:
            self._of_port[port] = next(self._left, None)
        cut = self._of_port[port]
        if cut is None:
            return None
        if cut.done:
            silent = cut.kind == "silence" or (cut.kind == "one way" and upward == cut.upward)
            return DROP if silent else None
        place = cut.byte - packet.offset
        if upward == cut.upward and packet.payload and place < len(packet.payload):
            cut.done = True
            seen[cut.kind] += 1
            seen["in the handshake" if cut.byte < 100 else "in calls"] += 1
            seen["of requests" if upward else "of replies"] += 1
            return self._verdict(cut, max(0, place))
        return None

    def _verdict(self, cut: Cut, place: int) -> Verdict | None:
        match cut.kind:
            case "reset":
                return Reset(place)
            case "crash":
                self.server.crash(cut.seconds)
            case "stop":
                self.server.stop(cut.seconds)
                return None
            case "delay":
                return Delay(cut.seconds)
        return DROP


@pytest.fixture(autouse=True, scope="module")
def quiet() -> Iterator[None]:
    """Of all those losses nothing need be said."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.lab(seeds=SEEDS)
async def test_each_call_gets_its_own_reply_or_raises_and_none_is_executed_twice(lab: Lab) -> None:
    host, client = lab.host("server"), lab.host("client")
    set_weather(lab, host, client)
    ledger = Ledger()
    server = Server(host, serve_ledger(lab, ledger))
    await server.start()
    calls = make_calls(lab.random, lab.random.randrange(1, 16))
    share = lab.random.choice([0, 0, len(calls) // 2])
    callers = [Caller(calls[share:], ledger, lab.random), Caller(calls[:share], ledger, lab.random)]
    with lab.rule(Cuts(lab, server)):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.keep_serving)
            async with trio.open_nursery() as using:
                for caller in callers:
                    with client.entered():
                        using.start_soon(caller.run)
            nursery.cancel_scope.cancel()

    outcomes = callers[0].outcomes | callers[1].outcomes
    assert outcomes.keys() == set(range(len(calls)))
    assert set(ledger.executed.values()) <= {1}
    assert ledger.executed.keys() <= outcomes.keys()
    for number, outcome in outcomes.items():
        executed = number in ledger.executed
        assert executed or outcome in ("lost", "too late")
        seen[f"{outcome}, {'' if executed else 'not '}executed"] += 1
    seen["no connection"] += sum(len(caller.refusals) for caller in callers)
    seen["seeds"] += 1


@pytest.mark.lab(seeds=SEEDS)
async def test_calls_on_a_server_that_falls_silent_are_lost_within_40_s(lab: Lab) -> None:
    host, client_host = lab.host("server"), lab.host("client")
    random = lab.random
    link = lab.link(host, client_host)
    link.latency = random.choice([0.0, 0.01, 0.2])
    await Server(host, serve_ledger(lab, Ledger())).start()
    lost: list[float] = []

    async def wait(client: trionet.RpcClient, number: int) -> None:
        with pytest.raises(trionet.ConnectionLost):
            await client.call("work", number, 1e6, "", 1)
        lost.append(trio.current_time())

    with client_host.entered(), trio.fail_after(1000):
        async with trionet.open_rpc_client("server", PORT) as client, trio.open_nursery() as nursery:
            for number in range(random.randrange(3)):
                await client.call("compute", number, 0, "x", 1)
                await trio.sleep(random.uniform(0, 30))
            waiting = range(100, 100 + random.randrange(1, 4))
            for number in waiting:
                nursery.start_soon(wait, client, number)
            await trio.sleep(random.uniform(1, 100))  # acknowledged after 1 s
            began = trio.current_time()
            kind = random.choice(["crash", "partition", "partition", "loss"])
            if kind == "crash":
                host.crash()
            elif kind == "partition":
                sides = random.sample([host, client_host], 2)
                lab.partition(*sides, one_way=random.random() < 0.5)
            else:
                link.toward(random.choice([host, client_host])).loss = 1.0
    assert lost == [lost[0]] * len(waiting)
    # 10 s of silence, and three questions 10 s apart. What was on its way when it began may have been heard,
    # or the first question may not.
    assert 30 - 2 * link.latency < lost[0] - began + 1e-6
    assert lost[0] - began - 1e-6 < 40 + 3 * link.latency
    assert trio.current_time() == lost[0]


def test_the_seeds_have_met_everything() -> None:
    """Or the tests above say little."""
    if seen["seeds"] < SEEDS:
        pytest.skip("in the company of all seeds only")
    for what in ("reset", "silence", "one way", "crash", "stop", "delay"):
        assert seen[what] >= 10, what
    for what in ("in the handshake", "in calls", "of requests", "of replies", "no connection"):
        assert seen[what] >= 30, what
    for outcome in ("answered", "failed", "lost", "too late"):
        assert seen[f"{outcome}, executed"] >= 30, outcome
    for outcome in ("lost", "too late"):
        assert seen[f"{outcome}, not executed"] >= 30, outcome
