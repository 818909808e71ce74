"""Services of rigs in any weather, each of which may fail in its own way: who answers, and who does not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest
import trio

import trionet
from tests.lab.rig_schedule import RESPONSE_TIMEOUT, TCP_FATES, UDP_FATES, ScheduledRig, open_services
from tests.lab.rigs import quiet_logs
from tests.lab.servers import same_time
from trionet import ExpMessage, RemoteError, RigServices, ServicesError
from trionet.testing import Lab, Packet, Verdict
from trionet.wire.rig_messages import encode_message

SEEDS = 200

#: Which fates have led to what.
seen: Counter[str] = Counter()


@pytest.fixture(autouse=True, scope="module")
def quiet() -> Iterator[None]:
    """Of all those failures nothing need be said."""
    with quiet_logs():
        yield


def make_rigs(lab: Lab) -> list[ScheduledRig]:
    """Two to ten of them, over UDP, TCP or both."""
    random = lab.random
    schemes = random.choice([["udp"], ["tcp"], ["udp", "tcp"]])
    lab.host("client")
    count = random.choice([2, 2, 3, 3, 4, 5, 10])
    return [ScheduledRig(lab, number, random.choice(schemes)) for number in range(count)]


async def ask(services: RigServices, message: list[object]) -> ServicesError:
    """The answers, or what was raised; an error without failures stands for none."""
    try:
        responses = await services.ask(message, reverse=message[0] == ExpMessage.EXPEND)
    except ServicesError as error:
        return error
    everybody = ServicesError({"nobody": Exception()}, responses)
    everybody.failed = {}
    return everybody


@pytest.mark.lab(seeds=SEEDS)
async def test_responses_and_failures_are_as_scheduled_and_everything_works_afterwards(lab: Lab) -> None:
    rigs = make_rigs(lab)
    for rig in rigs:
        await rig.prepare()
    event = lab.random.choice([ExpMessage.EXPINIT, ExpMessage.EXPEND, ExpMessage.EXPCLEANUP])
    message = [event, {"step": 0, "text": "x" * lab.random.choice([0, 100, 300])}]
    by_name = {rig.host.name: rig for rig in rigs}
    for rig in rigs:
        rig.message_length = len(encode_message(message))

    def rule(packet: Packet) -> Verdict | None:
        return by_name[(packet.src if packet.dst.host == "client" else packet.dst).host].rule(packet)

    with lab.rule(rule), lab.host("client").entered():
        async with open_services(rigs) as services:
            began = trio.current_time()
            outcome = await ask(services, message)
            check(rigs, outcome, message, began)

            # Late answers are nobody's, and then all of them are there again. What TCP has not delivered so
            # far comes now, so this is about another event.
            await trio.sleep(RESPONSE_TIMEOUT)
            for rig in rigs:
                await rig.recover()
            await services.ready(300)
            for step in (1, 2):
                assert await services.ask([ExpMessage.EXPINTERRUPT, step]) == {
                    rig.host.name: [[rig.host.name, step]] for rig in rigs
                }
    assert all(count == 1 for rig in rigs for count in rig.calls.values())
    seen["seeds"] += 1


def check(rigs: list[ScheduledRig], outcome: ServicesError, message: list[object], began: float) -> None:
    """Compare what has happened with what was scheduled."""
    seconds = trio.current_time() - began
    expected = {rig.host.name: rig.expect(began) for rig in rigs}
    assert {name: type(reason) for name, reason in outcome.failed.items()} == {
        name: one.failure for name, one in expected.items() if one.failure is not None
    }
    assert outcome.responses == {
        name: [[name, message[1]]] for name, one in expected.items() if one.failure is None
    }
    if any(one.seconds == RESPONSE_TIMEOUT for one in expected.values()):
        assert same_time(seconds, RESPONSE_TIMEOUT)
    else:
        assert max(one.seconds or 0 for one in expected.values()) - 1e-6 <= seconds < RESPONSE_TIMEOUT
    for rig in rigs:
        one = expected[rig.host.name]
        assert rig.data == ([[message[1]]] if one.asked else [])
        reason = outcome.failed.get(rig.host.name)
        if isinstance(reason, trionet.EchoTimeout) and one.seconds is not None:
            assert same_time(reason.call.elapsed or 0, one.seconds)
        if isinstance(reason, RemoteError):
            assert (reason.class_name, reason.message) == (
                "LookupError",
                f"{rig.host.name} has no camera for [{message[1]!r}]",
            )
        failure = one.failure.__name__ if one.failure else "an answer"
        seen[f"{rig.scheme}: {rig.fate}, so {failure}"] += 1


def test_the_seeds_have_met_every_fate() -> None:
    if seen["seeds"] < SEEDS:
        pytest.skip("only some of the seeds have run in this process")
    for scheme, fates in (("udp", UDP_FATES), ("tcp", TCP_FATES)):
        for fate in fates:
            assert any(key.startswith(f"{scheme}: {fate}, so ") for key in seen)
    assert seen["udp: is not started, so EchoTimeout"]
    assert seen["udp: reports an error, so ResponseTimeout"]
