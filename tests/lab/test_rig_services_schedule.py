"""Services on a network that only takes its time: who is asked, who answers or fails, and exactly when."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
import trio

import trionet
from tests.lab.rigs import LabRig, answer, quiet_logs
from tests.lab.servers import same_time
from trionet import (
    ConnectionLost,
    EchoTimeout,
    ExpMessage,
    NotAsked,
    RemoteError,
    ResponseTimeout,
    RigCommunicator,
    RigEvent,
    RigServices,
)
from trionet.rig import _tcp, _udp
from trionet.testing import Lab

SEEDS = 200

FATES = ("answers", "answers", "answers", "too late", "fails", "silent", "refuses", "ends")


@pytest.fixture(autouse=True, scope="module")
def quiet() -> Iterator[None]:
    """Of all those failures nothing need be said."""
    with quiet_logs():
        yield


@dataclass
class Plan:
    """What the seed has decided for all rigs.

    Attributes:
        echo_timeout: Seconds.
        attempts: How often each message is sent.
        response_timeout: Seconds.
        connect_timeout: Seconds.
    """

    echo_timeout: float
    attempts: int
    response_timeout: float
    connect_timeout: float


class PlannedRig(LabRig):
    """A rig that does what is planned.

    Attributes:
        latency: Of its link, in seconds.
        fate: One of `FATES`.
        work: Seconds until it answers, fails or ends.
        gap: Seconds that it leaves between an echo and an answer.
    """

    def __init__(self, lab: Lab, number: int, scheme: str, plan: Plan) -> None:
        random = lab.random
        super().__init__(lab.host(f"rig{number}"), scheme, self._behave, echo_timeout=plan.echo_timeout)
        self.plan = plan
        self.latency = random.uniform(0, 0.1)
        self.fate = random.choice(FATES)
        self.gap = _udp.ANSWER_GAP if scheme == "udp" else _tcp.ANSWER_GAP
        self.work = random.choice([0.0, random.uniform(0, 3)])
        if self.fate == "too late":
            self.work = plan.response_timeout + random.uniform(0, 2)
        lab.link(lab.host("client"), self.host).latency = self.latency

    async def prepare(self) -> None:
        """Be there, or not."""
        if self.fate == "silent":
            self.host.firewalled = True
        elif self.fate != "refuses":
            await self.start()

    async def _behave(self, event: RigEvent, rig: RigCommunicator) -> None:
        await trio.sleep(self.work)
        if self.fate == "ends":
            rig.cancel_scope.cancel()
        if self.fate == "fails":
            raise ValueError("no")
        with contextlib.suppress(EchoTimeout, OSError):
            await answer(event, rig)

    def expect(self) -> tuple[type[Exception] | None, float]:
        """How asking it ends, and after how many seconds."""
        plan = self.plan
        kind, seconds = self._expect_udp() if self.scheme == "udp" else self._expect_tcp()
        if seconds > plan.response_timeout:
            return ResponseTimeout, plan.response_timeout
        return kind, seconds

    def _expect_udp(self) -> tuple[type[Exception] | None, float]:
        plan, trip = self.plan, 2 * self.latency
        match self.fate:
            case "silent":
                return EchoTimeout, plan.echo_timeout * plan.attempts
            case "refuses":
                return ConnectionRefusedError, plan.echo_timeout * (plan.attempts - 1) + trip
            case "fails":
                return RemoteError, trip + max(self.work, self.gap)
            case "ends":
                return ResponseTimeout, math.inf
        return None, trip + max(self.work, self.gap)

    def _expect_tcp(self) -> tuple[type[Exception] | None, float]:
        plan, trip = self.plan, 2 * self.latency
        match self.fate:
            case "silent":
                # The next attempt begins when the one before is given up, and not before it is due.
                interval = max(plan.echo_timeout, plan.connect_timeout)
                return TimeoutError, interval * (plan.attempts - 1) + plan.connect_timeout
            case "refuses":
                return ConnectionRefusedError, plan.echo_timeout * (plan.attempts - 1) + trip
            case "fails":
                return RemoteError, 2 * trip + max(self.work, self.gap)
            case "ends":
                return ConnectionLost, 2 * trip + self.work
        return None, 2 * trip + max(self.work, self.gap)


@dataclass
class Forecast:
    """How all of it should end.

    Attributes:
        seconds: When.
        responses: Who has answered.
        failed: Who has failed, and how; some of them may have one of two classes.
        asked: Who was asked.
    """

    seconds: float
    responses: set[str]
    failed: dict[str, set[type[Exception]]]
    asked: set[str]


def forecast(rigs: list[PlannedRig], *, concurrent: bool, fail_fast: bool) -> Forecast:
    """What the documentation of `RigServices` says about these rigs, in the order of asking."""
    begin, ends = 0.0, {}
    for rig in rigs:
        kind, seconds = rig.expect()
        ends[rig.host.name] = (kind, begin + seconds)
        begin = 0.0 if concurrent else begin + seconds
    failures = [end for kind, end in ends.values() if kind is not None]
    last = max(end for _, end in ends.values())
    if fail_fast and failures:
        last = min(failures)
    result = Forecast(last, set(), {}, set())
    for rig in rigs:
        name = rig.host.name
        kind, end = ends[name]
        if end > last + 1e-9:
            result.failed[name] = {NotAsked}
            # Its message was sent all the same, if there was a connection.
            if concurrent and (rig.scheme == "udp" or 2 * rig.latency <= last):
                result.asked.add(name)
            continue
        result.asked.add(name)
        if kind is None:
            result.responses.add(name)
        else:
            # Of several that fail in the same moment, the first makes the others irrelevant.
            same = sum(same_time(end, other) for other in failures)
            result.failed[name] = {kind, NotAsked} if fail_fast and same > 1 else {kind}
    return result


METHODS: list[tuple[str, tuple[Any, ...], list[Any], bool]] = [
    ("init", (1,), [1], False),
    ("start", ("ref", 2), ["ref", 2], False),
    ("info", ("RUNNING", 3), [20, 3], False),
    ("stop", (4,), [4], True),
    ("cleanup", ([5],), [[5]], True),
]


@pytest.mark.lab(seeds=SEEDS)
async def test_outcomes_and_times_are_those_of_the_plan(lab: Lab) -> None:
    random = lab.random
    plan = Plan(random.uniform(0.3, 2), random.randint(1, 3), random.uniform(2, 8), random.uniform(0.5, 3))
    rigs = []
    for number in range(random.choice([2, 3, 4, 5, 10])):
        rigs.append(PlannedRig(lab, number, random.choice(["udp", "tcp"]), plan))
        await rigs[-1].prepare()
    names = [rig.host.name for rig in rigs]
    concurrent, fail_fast = random.random() < 0.6, random.random() < 0.5
    method, arguments, data, reverse = random.choice(METHODS)
    asked_first = rigs[::-1] if reverse else rigs
    options = {"echo_timeout": plan.echo_timeout, "attempts": plan.attempts}
    uris: dict[str, Any] = {rig.host.name: rig.uri for rig in rigs}
    with lab.host("client").entered():
        async with trionet.open_rig_services(
            uris,
            response_timeout=plan.response_timeout,
            connect_timeout=plan.connect_timeout,
            **options,  # type: ignore[arg-type]
        ) as services:
            for rig in rigs:
                if rig.scheme == "udp" and rig.serving and random.random() < 0.3:
                    await services[rig.host.name].ping()
                    rig.gap = 0.0
            expected = forecast(asked_first, concurrent=concurrent, fail_fast=fail_fast)
            act = partial(getattr(services, method), *arguments, concurrent=concurrent, fail_fast=fail_fast)
            responses, failed, seconds = await run(act)
            assert same_time(seconds, expected.seconds)
            assert list(responses) == [name for name in names if name in expected.responses]
            assert responses == {name: [[name, *data]] for name in expected.responses}
            assert list(failed) == [name for name in names if name in expected.failed]
            for name, reason in failed.items():
                assert type(reason) in expected.failed[name]
            if expected.failed:
                assert any(type(reason) is not NotAsked for reason in failed.values())
            await trio.sleep(1)  # messages arrive that were under way at the end
            there = {rig.host.name for rig in rigs if rig.fate not in ("silent", "refuses")}
            assert {rig.host.name for rig in rigs if rig.events} == expected.asked & there
            assert all(rig.data == [data] for rig in rigs if rig.events)
            await check_all_work(rigs, services)


async def run(act: Any) -> tuple[dict[str, Any], dict[str, Exception], float]:
    """Responses, failures, and how long it took."""
    began = trio.current_time()
    try:
        return await act(), {}, trio.current_time() - began
    except trionet.ServicesError as error:
        return error.responses, error.failed, trio.current_time() - began


async def check_all_work(rigs: list[PlannedRig], services: RigServices) -> None:
    """Set everything right; then everybody answers, once."""
    await trio.sleep(30)
    for rig in rigs:
        rig.host.firewalled = False
        if not rig.serving:
            await rig.start()
        rig.fate, rig.work = "answers", 0.0
        rig.events.clear()
    services.response_timeout = 10.0
    await services.ready(30)
    assert await services.status("STOPPED") == {name: [[name, 30]] for name in services}
    assert all([event.event for event in rig.events] == [ExpMessage.EXPSTATUS] for rig in rigs)
