"""When exactly services of many rigs get their answers, or give up."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio

import trionet
from tests.lab.rigs import Behaviour, LabRig, answer, ignore, near, payloads, time_of
from trionet import ConnectionLost, EchoTimeout, NotAsked, RigCommunicator, RigEvent, RigServices, RigURI
from trionet.testing import Lab
from trionet.wire.rig_messages import ExpMessage

LATENCY = 0.02

both_schemes = pytest.mark.parametrize("scheme", ["udp", "tcp"])


@contextlib.asynccontextmanager
async def open_lab_services(
    lab: Lab, count: int, scheme: str = "udp", behaviour: Behaviour = answer, **options: Any
) -> AsyncIterator[tuple[RigServices, list[LabRig]]]:
    """Services on the host "client", and their rigs, which are called rig0, rig1, ..."""
    client = lab.host("client")
    rigs = [LabRig(lab.host(f"rig{number}"), scheme, behaviour) for number in range(count)]
    for rig in rigs:
        lab.link(client, rig.host).latency = LATENCY
        await rig.start()
    with client.entered():
        uris: dict[str, str | RigURI] = {rig.host.name: rig.uri for rig in rigs}
        async with trionet.open_rig_services(uris, **options) as services:
            yield services, rigs


def after(seconds: float) -> Behaviour:
    """An answer that takes its time."""

    async def answer_late(event: RigEvent, rig: RigCommunicator) -> None:
        await trio.sleep(seconds)
        await answer(event, rig)

    return answer_late


async def failures(
    seconds: float, services: RigServices, data: Any = None, **options: Any
) -> trionet.ServicesError:
    """What `init` raises, after exactly so many seconds."""
    began = trio.current_time()
    with pytest.raises(trionet.ServicesError) as caught:
        await services.init(data, **options)
    assert trio.current_time() - began == near(seconds)
    return caught.value


def kinds(error: trionet.ServicesError) -> dict[str, type[Exception]]:
    """Who has failed, and with which class of exception."""
    return {name: type(reason) for name, reason in error.failed.items()}


@pytest.mark.parametrize("count", [1, 2, 32])
@pytest.mark.parametrize(
    ("scheme", "first", "later"),
    [
        # There and back, and the gap of 5 ms between the echo and the answer.
        ("udp", 2 * LATENCY + 0.005, 2 * LATENCY + 0.005),
        # To connect as well, and the gap is one of 20 ms.
        ("tcp", 4 * LATENCY + 0.02, 2 * LATENCY + 0.02),
    ],
)
async def test_many_rigs_answer_in_exactly_the_time_of_one(
    lab: Lab, count: int, scheme: str, first: float, later: float
) -> None:
    async with open_lab_services(lab, count, scheme) as (services, rigs):
        assert await time_of(lambda: services.init(1)) == near(first)
        await trio.sleep(1)
        assert await time_of(lambda: services.init(2)) == near(later)
        await trio.sleep(1)
        assert await time_of(lambda: services.stop(concurrent=False)) == near(count * later)
        await services.ready()  # from now on the rigs need not leave gaps
        await trio.sleep(1)
        assert await time_of(lambda: services.init(3)) == near(2 * LATENCY)
    assert all(len(rig.events) == 4 for rig in rigs)


@both_schemes
async def test_an_answer_counts_until_the_response_timeout_and_not_after(lab: Lab, scheme: str) -> None:
    async with open_lab_services(lab, 2, scheme, response_timeout=5) as (services, rigs):
        await services.cleanup()
        await trio.sleep(1)
        rigs[0].behaviour = after(4.999 - 2 * LATENCY)
        rigs[1].behaviour = after(5.001 - 2 * LATENCY)
        error = await failures(5, services, 1)
        assert error.responses == {"rig0": [["rig0", 1]]}
        assert kinds(error) == {"rig1": trionet.ResponseTimeout}
        reason = error.failed["rig1"]
        assert isinstance(reason, trionet.ResponseTimeout)
        assert reason.call.elapsed == 5
        assert (reason.call.rig, reason.call.event) == ("rig1", "EXPINIT")


async def test_the_response_timeout_may_be_changed_and_is_for_each_rig_when_asked_in_turn(lab: Lab) -> None:
    async with open_lab_services(lab, 3, behaviour=ignore) as (services, rigs):
        services.response_timeout = 7
        assert kinds(await failures(7, services)) == dict.fromkeys(services, trionet.ResponseTimeout)
        error = await failures(21, services, concurrent=False)
        assert kinds(error) == dict.fromkeys(services, trionet.ResponseTimeout)
        error = await failures(7, services, concurrent=False, fail_fast=True)
        assert kinds(error) == {
            "rig0": trionet.ResponseTimeout,
            "rig1": NotAsked,
            "rig2": NotAsked,
        }
    assert [len(rig.events) for rig in rigs] == [3, 2, 2]


async def test_attempts_end_with_the_response_timeout(lab: Lab) -> None:
    options: Any = {"echo_timeout": 1, "attempts": 100, "response_timeout": 4.5}
    async with open_lab_services(lab, 1, **options) as (services, _rigs):
        lab.partition("client", "rig0")
        assert kinds(await failures(4.5, services)) == {"rig0": trionet.ResponseTimeout}
        await trio.sleep(10)
        assert len(payloads(lab, "client")) == 5


async def test_a_refused_rig_fails_at_once_while_others_go_on(lab: Lab) -> None:
    async with open_lab_services(lab, 4) as (services, rigs):
        await rigs[1].stop()
        rigs[2].behaviour = after(3)
        lab.partition("client", "rig3")
        error = await failures(3 + 2 * LATENCY, services, 1)
        assert kinds(error) == {"rig1": ConnectionRefusedError, "rig3": EchoTimeout}
        assert error.responses == {"rig0": [["rig0", 1]], "rig2": [["rig2", 1]]}
        lab.link("client", "rig0").latency = LATENCY / 2
        error = await failures(2 * LATENCY, services, 2, fail_fast=True)
        assert kinds(error) == {"rig1": ConnectionRefusedError, "rig2": NotAsked, "rig3": NotAsked}
        lab.link("client", "rig0").latency = 2 * LATENCY
        error = await failures(2 * LATENCY, services, 3, fail_fast=True)
        assert kinds(error) == {**dict.fromkeys(services, NotAsked), "rig1": ConnectionRefusedError}


async def test_a_rig_whose_connection_is_lost_while_it_works_fails_at_once(lab: Lab) -> None:
    async with open_lab_services(lab, 2, "tcp", after(5)) as (services, rigs):
        async with trio.open_nursery() as nursery:
            reasons: list[trionet.ServicesError] = []

            async def ask() -> None:
                reasons.append(await failures(4 * LATENCY + 5, services, 1))

            nursery.start_soon(ask)
            await trio.sleep(2)
            await rigs[0].stop()
        assert kinds(reasons[0]) == {"rig0": ConnectionLost}
        assert reasons[0].responses == {"rig1": [["rig1", 1]]}
        await rigs[0].start()
        assert await services.init(2) == {name: [[name, 2]] for name in services}


@both_schemes
async def test_reports_of_errors_fail_a_rig_a_round_trip_after_the_question(lab: Lab, scheme: str) -> None:
    async def fail(event: RigEvent, rig: RigCommunicator) -> None:
        raise LookupError(f"{rig.name} has no camera")

    async with open_lab_services(lab, 2, scheme) as (services, rigs):
        await services.cleanup()
        await trio.sleep(1)
        rigs[1].behaviour = fail
        gap = 0.02 if scheme == "tcp" else 0.005
        error = await failures(2 * LATENCY + gap, services, 1)
        reason = error.failed["rig1"]
        assert isinstance(reason, trionet.RemoteError)
        assert (reason.class_name, reason.message) == ("LookupError", "rig1 has no camera")
        assert list(error.responses) == ["rig0"]


async def test_a_message_that_cannot_be_sent_to_one_rig_is_sent_to_the_next(lab: Lab) -> None:
    async with open_lab_services(lab, 1) as (services, rigs):
        other = LabRig(lab.host("other"), "tcp")
        await other.start()
        async with trionet.open_rig_communicator(other.uri) as client:
            both = RigServices({"rig0": services["rig0"], "other": client})
            error = await failures(0.02, both, "x" * 70_000)
        assert kinds(error) == {"rig0": trionet.LocalProtocolError}
        assert list(error.responses) == ["other"]
        assert not rigs[0].events


# Waiting for rigs to be there.


@both_schemes
async def test_ready_returns_a_round_trip_after_the_last_rig_is_there(lab: Lab, scheme: str) -> None:
    async with open_lab_services(lab, 3, scheme) as (services, rigs):
        trip = (2 if scheme == "udp" else 4) * LATENCY
        assert await time_of(services.ready) == near(trip)
        await rigs[1].stop()
        await trio.sleep(1)
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(services.ready, 60)
            # Refused after one round trip, then it asks again a quarter of a second later.
            rounds = 10
            await trio.sleep(rounds * (0.25 + 2 * LATENCY) - 0.01)
            await rigs[1].start()
        assert trio.current_time() - began == near(rounds * (0.25 + 2 * LATENCY) + trip)
        assert all(rig.events == [] for rig in rigs)


@both_schemes
async def test_ready_gives_up_in_time_and_tells_why(lab: Lab, scheme: str) -> None:
    async with open_lab_services(lab, 2, scheme) as (services, rigs):
        await rigs[1].stop()
        began = trio.current_time()
        with pytest.raises(trionet.ServicesError, match="rig1: ") as caught:
            await services.ready(1)
        assert trio.current_time() - began == near(1)
        assert kinds(caught.value) == {"rig1": ConnectionRefusedError}


async def test_ready_asks_silent_rigs_again_after_echo_timeout_and_a_quarter(lab: Lab) -> None:
    async with open_lab_services(lab, 2, echo_timeout=2, attempts=5) as (services, _rigs):
        lab.partition("client", "rig1")
        began = trio.current_time()
        with pytest.raises(trionet.ServicesError) as caught:
            await services.ready(10)
        assert trio.current_time() - began == near(10)
        assert kinds(caught.value) == {"rig1": EchoTimeout}
        assert list(caught.value.responses) == ["rig0"]
        pings = [
            entry.time
            for entry in lab.trace
            if entry.what == "dropped" and entry.packet is not None and entry.packet.dst.host == "rig1"
        ]
        assert pings == near([0, 2.25, 4.5, 6.75, 9])


async def test_waiting_for_an_event_of_all_rigs_takes_as_long_as_the_last_of_them(lab: Lab) -> None:
    async with open_lab_services(lab, 3, behaviour=ignore, response_timeout=10) as (services, rigs):
        await services["rig0"].cleanup()
        for name in services:
            await services[name].cleanup("where I am")

        async def tell(rig: LabRig, seconds: float) -> None:
            await trio.sleep(seconds)
            await rig.communicator.init(seconds, address=rig.events[0].address)

        async with trio.open_nursery() as nursery:
            for number, rig in enumerate(rigs):
                nursery.start_soon(tell, rig, number * 1.5)
            began = trio.current_time()
            responses = await services.wait_all(ExpMessage.EXPINIT)
            assert trio.current_time() - began == near(3 + LATENCY)
        assert responses == {"rig0": [0], "rig1": [1.5], "rig2": [3]}
