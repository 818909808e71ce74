"""Several rigs marched together, of which some fail: who is reported, and that the others are not hurt."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import trio
import trio.testing

import trionet
from tests.network.rigs import (
    LOOPBACK,
    NAMES,
    both_schemes,
    loopback,
    open_listener,
    open_raw_client,
    open_raw_rig,
    open_rigs,
    open_services,
    unused_port,
)
from trionet import ExpMessage, RigEvent, RigServices


@both_schemes
async def test_rigs_that_fail_are_told_apart_from_those_that_answer(scheme: str) -> None:
    async with open_rigs(scheme) as (services, rigs):
        rigs.mute("task")

        def fail(event: RigEvent) -> None:
            raise KeyError("no such task")

        rigs.of["task"].assign_callback("EXPINIT", fail)
        with pytest.raises(trionet.ServicesError, match="1 of 3 rigs failed: task: 'no such task'") as caught:
            await services.init(1)
        error = caught.value
        assert isinstance(error, ExceptionGroup)
        assert error.responses == {"camera": ["camera", 1], "sound": ["sound", 1]}
        assert error.exceptions == (error.failed["task"],)
        report = error.failed["task"]
        assert isinstance(report, trionet.RemoteError)
        assert (report.class_name, report.message) == ("KeyError", "'no such task'")


@both_schemes
@pytest.mark.parametrize("concurrent", [True, False])
async def test_rigs_that_confirm_and_do_not_answer(scheme: str, concurrent: bool) -> None:
    async with open_rigs(scheme) as (services, rigs):
        assert len(await services.init()) == 3
        for name in NAMES:
            rigs.mute(name)
        services.response_timeout = 0.05
        with pytest.raises(trionet.ServicesError, match="3 of 3 rigs failed") as caught:
            await services.stop(concurrent=concurrent)
        assert caught.value.responses == {}
        assert set(caught.value.failed) == set(NAMES)
        for name, reason in caught.value.failed.items():
            assert isinstance(reason, trionet.ResponseTimeout)
            assert isinstance(reason, TimeoutError)
            assert repr(name) in str(reason)


@both_schemes
async def test_rigs_that_do_not_even_confirm(scheme: str) -> None:
    async with open_raw_rig(scheme, echo_timeout=0.02) as (client, rig):
        services = RigServices({"raw": client}, response_timeout=30)
        with pytest.raises(trionet.ServicesError) as caught:
            await services.init()
        assert isinstance(caught.value.failed["raw"], trionet.EchoTimeout)
        await rig.receive_exactly(b"[1, null]")


@both_schemes
async def test_a_rig_that_is_not_there_is_reported_and_the_others_answer(scheme: str) -> None:
    async with open_rigs(scheme) as (_, rigs):
        with unused_port(scheme) as port:
            uris = {name: loopback(scheme, rig.port) for name, rig in rigs.of.items()}
            uris["sound"] = loopback(scheme, port)
            async with open_services(uris) as services:
                for concurrent in (True, False):
                    with pytest.raises(trionet.ServicesError, match="1 of 3 rigs failed: sound: ") as caught:
                        await services.init(concurrent=concurrent)
                    assert isinstance(caught.value.failed["sound"], ConnectionRefusedError)
                    assert caught.value.responses == {n: [n, None] for n in ("camera", "task")}


@both_schemes
@pytest.mark.parametrize("concurrent", [True, False])
async def test_fail_fast_gives_up_the_others(scheme: str, concurrent: bool) -> None:
    async with open_rigs(scheme) as (services, rigs):
        for name in NAMES:
            rigs.mute(name)

        def fail(event: RigEvent) -> None:
            raise ValueError("sound is off")

        rigs.of["sound"].assign_callback("EXPSTART", fail)
        if not concurrent:
            rigs.of["camera"].assign_callback("EXPSTART", rigs.answer)
        with pytest.raises(trionet.ServicesError) as caught:
            await services.start("ref", concurrent=concurrent, fail_fast=True)
        failed = caught.value.failed
        assert isinstance(failed["sound"], trionet.RemoteError)
        assert isinstance(failed["task"], trionet.NotAsked)
        if concurrent:
            assert isinstance(failed["camera"], trionet.NotAsked)
        else:
            assert caught.value.responses == {"camera": ["camera", "ref", None]}
            assert rigs.of["task"].statistics().received == 0


@both_schemes
async def test_an_error_report_about_another_event_is_not_the_answer(scheme: str) -> None:
    async with open_listener(loopback(scheme)) as rig:

        async def answer(event: RigEvent) -> None:
            await rig.send([0, "ValueError: old", int(ExpMessage.EXPEND)], address=event.address)
            await rig.respond(event, "answer")

        rig.assign_callback("EXPINIT", answer)
        async with open_services({"a": loopback(scheme, rig.port)}) as services:
            assert await services.init() == {"a": ["answer"]}


async def test_a_request_that_cannot_be_sent_is_refused_before_any_is_asked() -> None:
    async with open_rigs("udp") as (services, rigs):
        with pytest.raises(TypeError):
            await services.init(object())
        with pytest.raises(ValueError, match="ASLEEP"):
            await services.status("ASLEEP")
        with pytest.raises(ValueError, match="not one event"):
            await services.ask([3, None])
        assert await services.ask([1, "any"]) == {name: [name, "any"] for name in NAMES}
        assert len(rigs.asked) == 3


@both_schemes
async def test_cancelled_services_can_be_asked_again(scheme: str) -> None:
    async with open_rigs(scheme) as (services, rigs):
        rigs.go_on = {name: trio.Event() for name in NAMES}
        async with trio.open_nursery() as nursery:
            nursery.start_soon(services.init)
            while len(rigs.asked) < 3:
                await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        rigs.go_on.clear()
        assert await services.cleanup() == {name: [name, None] for name in NAMES}


async def test_junk_at_a_rig_does_not_disturb_the_services() -> None:
    async with open_rigs("udp") as (services, rigs):
        async with open_raw_client("udp", rigs.of["sound"].port) as stranger:
            for junk in (b"", b"\xff", b"{}", b"[]", b"[1]", b"[3, 1]", b'[0, "e", 1]'):
                await stranger.send(junk)
            assert await services.init() == {name: [name, None] for name in NAMES}


def test_the_error_can_be_copied_and_sent_to_another_process() -> None:
    error = trionet.ServicesError({"a": trionet.NotAsked("why")}, {"b": [1]})
    for again in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert str(again) == str(error) == "1 of 2 rigs failed: a: why (1 sub-exception)"
        assert (again.responses, list(again.failed)) == ({"b": [1]}, ["a"])


@both_schemes
async def test_an_attempt_that_was_refused_does_not_cost_the_answer(scheme: str) -> None:
    """The answer has the bytes of the question: it is no echo of what never arrived."""
    with unused_port(scheme) as port:
        uris = {"late": loopback(scheme, port)}
        options: dict[str, Any] = {"attempts": 1000, "echo_timeout": 0.05, "response_timeout": 60}
        async with open_services(uris, **options) as services, trio.open_nursery() as nursery:
            answers: list[Any] = []

            async def ask() -> None:
                answers.append(await services.init())
                nursery.cancel_scope.cancel()

            nursery.start_soon(ask)
            await trio.testing.wait_all_tasks_blocked()
            async with open_listener(loopback(scheme, port)) as rig:
                rig.assign_callback("EXPINIT", rig.respond)
                await trio.sleep_forever()
        assert answers == [{"late": [None]}]


async def test_a_rig_that_dies_in_the_middle_is_reported_at_once() -> None:
    """Over TCP, that the connection is gone says that no answer will come."""
    (listener,) = await trio.open_tcp_listeners(0, host=LOOPBACK)
    uris = {"dying": loopback("tcp", listener.socket.getsockname()[1])}
    async with listener, open_services(uris) as services:

        async def ask() -> None:
            with pytest.raises(trionet.ServicesError, match="1 of 1 rigs failed: dying: ") as caught:
                await services.init()
            assert isinstance(caught.value.failed["dying"], trionet.ConnectionLost)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            async with await listener.accept() as stream:
                await stream.send_all(await stream.receive_some())


@both_schemes
async def test_a_rig_that_cannot_give_a_token_is_reported(scheme: str) -> None:
    def fail(event: RigEvent) -> None:
        raise ValueError("not logged in")

    async with open_listener(loopback(scheme)) as rig:
        rig.assign_callback("ALYX", fail)
        uris = {"a": loopback(scheme, rig.port)}
        async with open_services(uris) as services:
            with pytest.raises(trionet.ServicesError, match="a: not logged in") as caught:
                await services.alyx()
            assert isinstance(caught.value.failed["a"], trionet.RemoteError)


async def test_a_token_that_json_cannot_carry() -> None:
    class Client:
        base_url = "https://alyx.invalid"
        user = "lab"
        _token = object()
        is_logged_in = True

    async with open_rigs("udp") as (services, _):
        with pytest.raises(TypeError):
            await services.alyx(Client())


async def test_an_attempt_over_a_new_connection_is_answered() -> None:
    (listener,) = await trio.open_tcp_listeners(0, host=LOOPBACK)
    uris = {"rig": loopback("tcp", listener.socket.getsockname()[1])}
    options: dict[str, Any] = {"attempts": 1000, "echo_timeout": 0.05, "response_timeout": 30}
    async with listener, open_services(uris, **options) as services:

        async def rig() -> None:
            async with await listener.accept() as first:
                await first.receive_some()
            async with await listener.accept() as second:
                await second.send_all(await second.receive_some())
                await second.send_all(b'[1, "answer"]')
                received = b""
                while not received.endswith(b'[1, "answer"]'):  # on a busy machine behind further attempts
                    received += await second.receive_some()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(rig)
            assert await services.init() == {"rig": ["answer"]}
