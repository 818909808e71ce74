"""Several rigs marched together over loopback."""

from __future__ import annotations

import contextlib
import socket
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
    open_communicator,
    open_listener,
    open_rigs,
    open_services,
    unused_port,
)
from trionet import ExpMessage, ExpStatus, RigCommunicator, RigEvent, RigServices

REQUESTS: list[tuple[str, tuple[Any, ...], list[Any], bool]] = [
    ("init", (), [None], False),
    ("init", ({"a": 1},), [{"a": 1}], False),
    ("start", ("ref", "data"), ["ref", "data"], False),
    ("start", ({"date": "2026-11-20", "sequence": 1, "subject": "m"},), ["2026-11-20_1_m", None], False),
    ("status", ("RUNNING",), [20], False),
    ("info", (ExpStatus.STOPPED, 1), [30, 1], False),
    ("stop", (), [None], True),
    ("stop", ("now", True), ["now"], True),
    ("cleanup", ("all",), ["all"], True),
]


@both_schemes
@pytest.mark.parametrize("concurrent", [True, False])
@pytest.mark.parametrize(("method", "arguments", "data", "reverse"), REQUESTS)
async def test_all_rigs_are_asked_in_order_and_answer(
    scheme: str, concurrent: bool, method: str, arguments: tuple[Any, ...], data: list[Any], reverse: bool
) -> None:
    async with open_rigs(scheme) as (services, rigs):
        responses = await getattr(services, method)(*arguments, concurrent=concurrent)
        assert responses == {name: [name, *data] for name in NAMES}
        assert tuple(responses) == NAMES
        assert rigs.asked == list(reversed(NAMES) if reverse else NAMES)


@both_schemes
async def test_concurrent_requests_do_not_wait_for_the_answers_of_others(scheme: str) -> None:
    async with open_rigs(scheme) as (services, rigs), trio.open_nursery() as nursery:
        rigs.go_on = {name: trio.Event() for name in NAMES}
        nursery.start_soon(services.init)
        while len(rigs.asked) < 3:
            await trio.testing.wait_all_tasks_blocked()
        for event in rigs.go_on.values():
            event.set()


@both_schemes
async def test_not_concurrent_a_rig_is_asked_when_the_one_before_has_answered(scheme: str) -> None:
    async with open_rigs(scheme) as (services, rigs), trio.open_nursery() as nursery:
        rigs.go_on = {name: trio.Event() for name in NAMES}
        nursery.start_soon(lambda: services.init(concurrent=False))
        for count, name in enumerate(NAMES, 1):
            while len(rigs.asked) < count:
                await trio.testing.wait_all_tasks_blocked()
            assert rigs.asked == list(NAMES[:count])
            rigs.go_on[name].set()


@both_schemes
async def test_an_answer_that_comes_before_the_echo_is_not_lost(scheme: str) -> None:
    async with open_rigs(scheme) as (services, rigs):
        # It answers the first rig's question before it is asked itself.
        address = {}
        for name in NAMES:
            with rigs.of[name].open_events() as events:
                await services[name].cleanup()
                address[name] = (await events.receive()).address
        rigs.mute("task")
        rigs.mute("sound")

        async def both(event: RigEvent) -> None:
            await rigs.of["camera"].respond(event, "camera")
            await rigs.of["sound"].init("early", address=address["sound"])
            await rigs.of["task"].init("early", address=address["task"])

        rigs.mute("camera")
        rigs.of["camera"].assign_callback("EXPINIT", both)
        responses = await services.init(concurrent=False)
        assert responses == {"camera": ["camera"], "sound": ["early"], "task": ["early"]}


@both_schemes
async def test_an_answer_with_the_bytes_of_the_question(scheme: str) -> None:
    async with open_listener(loopback(scheme)) as rig:
        rig.assign_callback("EXPINIT", rig.respond)
        async with open_services({"a": loopback(scheme, rig.port)}) as services:
            for _ in range(3):
                assert await services.init() == {"a": [None]}


@both_schemes
async def test_waiting_for_an_event_of_all(scheme: str) -> None:
    async with open_rigs(scheme) as (services, rigs):
        addresses = {}
        for name in NAMES:
            rigs.mute(name)
            with rigs.of[name].open_events() as events:
                await services[name].cleanup()
                addresses[name] = (await events.receive()).address
        async with trio.open_nursery() as nursery:
            done: list[dict[str, list[Any]]] = []

            async def wait() -> None:
                done.append(await services.wait_all("EXPEND"))

            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            for name in reversed(NAMES):
                await rigs.of[name].stop(name, address=addresses[name])
        assert done == [{name: [name] for name in NAMES}]
        services.response_timeout = 0.02
        with pytest.raises(trionet.ServicesError, match="3 of 3 rigs failed"):
            await services.wait_all(ExpMessage.EXPEND)
        with pytest.raises(ValueError, match="not one event"):
            await services.wait_all(ExpMessage.any())


async def test_messages_that_come_right_behind_the_call_count() -> None:
    """They are there before the tasks have begun that wait for them."""
    with contextlib.ExitStack() as stack:
        rigs = {}
        for name in NAMES:
            rigs[name] = stack.enter_context(socket.socket(type=socket.SOCK_DGRAM))
            rigs[name].bind(("127.0.0.1", 0))
        uris = {name: loopback("udp", rig.getsockname()[1]) for name, rig in rigs.items()}
        async with open_services(uris) as services:
            for name, rig in rigs.items():
                rig.sendto(b'[4, "%s"]' % name.encode(), services[name].addresses[0])
            assert await services.wait_all("EXPEND") == {name: [name] for name in NAMES}


async def test_a_rig_whose_communicator_is_closed_fails_by_name() -> None:
    async with open_rigs("udp") as (services, _rigs):
        async with open_communicator(services["camera"].uri) as closed:
            pass
        both = trionet.RigServices({**services, "closed": closed})
        with pytest.raises(trionet.ServicesError) as caught:
            await both.init()
        assert [*caught.value.failed] == ["closed"]
        both.response_timeout = 0.02
        with pytest.raises(trionet.ServicesError, match="closed: the communicator is closed"):
            await both.wait_all("EXPEND")


async def test_ready_asks_all_rigs_at_the_same_time() -> None:
    async with contextlib.AsyncExitStack() as stack:
        names: dict[str, trio.socket.SocketType] = {}
        for name in "ab":
            names[name] = stack.enter_context(trio.socket.socket(type=trio.socket.SOCK_DGRAM))
            await names[name].bind((LOOPBACK, 0))
        uris = {name: loopback("udp", sock.getsockname()[1]) for name, sock in names.items()}
        async with open_services(uris) as services:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(services.ready, 60)
                for name in ("b", "a"):
                    data, address = await names[name].recvfrom(100)
                    await names[name].sendto(data, address)


async def test_ready_gives_up_before_the_first_echo_is_overdue() -> None:
    with trio.socket.socket(type=trio.socket.SOCK_DGRAM) as silent:
        await silent.bind((LOOPBACK, 0))
        uris = {"silent": loopback("udp", silent.getsockname()[1])}
        async with open_services(uris) as services:
            with pytest.raises(trionet.ServicesError, match="1 of 1 rigs failed: silent: "):
                await services.ready(0.02)


@both_schemes
async def test_status_is_not_answered_by_what_ready_has_asked(scheme: str) -> None:
    async with open_listener(loopback(scheme)) as rig:

        async def answer(event: RigEvent) -> None:
            await rig.respond(event, event.data[0])

        rig.assign_callback("EXPSTATUS", answer)
        async with open_services({"a": loopback(scheme, rig.port)}) as services:
            await services.ready()
            assert await services.status(ExpStatus.RUNNING) == {"a": [20]}


@both_schemes
async def test_ready_waits_until_every_rig_confirms(scheme: str) -> None:
    with contextlib.ExitStack() as stack:
        ports = {name: stack.enter_context(unused_port(scheme)) for name in NAMES}
        uris = {name: loopback(scheme, port) for name, port in ports.items()}

        async def be_a_rig(uri: str) -> None:
            async with open_listener(uri):
                await trio.sleep_forever()

        async with open_services(uris) as services, trio.open_nursery() as rigs:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(services.ready, 60)
                for uri in uris.values():
                    await trio.testing.wait_all_tasks_blocked()
                    assert nursery.child_tasks
                    rigs.start_soon(be_a_rig, uri)
            assert all(rig.statistics().confirmed >= 1 for rig in services.values())
            rigs.cancel_scope.cancel()


@both_schemes
async def test_tokens_of_all_rigs(scheme: str) -> None:
    class Client:
        base_url = "https://alyx.invalid"
        user = "lab"
        _token = "secret"
        is_logged_in = True

    async with open_rigs(scheme) as (services, rigs):
        for name in NAMES:
            rigs.mute(name)
            rig = rigs.of[name]
            assert rig.statistics().received == 0

            async def answer(event: RigEvent, rig: RigCommunicator = rig) -> None:
                if not event.data[1]:
                    await rig.respond(event, None, {rig.name: 1})

            rig.assign_callback("ALYX", answer)
        assert await services.alyx(Client()) == dict.fromkeys(NAMES)
        assert await services.alyx() == {name: trionet.AlyxToken(None, {name: 1}) for name in NAMES}
        for name in NAMES:
            rigs.mute(name)
        services.response_timeout = 0.02
        with pytest.raises(trionet.ServicesError, match="3 of 3 rigs failed: camera: "):
            await services.alyx()


@both_schemes
async def test_callbacks_for_all_rigs(scheme: str) -> None:
    heard: list[str] = []
    async with open_rigs(scheme) as (services, _):
        services.assign_callback("EXPINIT", lambda event: heard.append(event.rig))
        await services.init()
        await services.cleanup()
        assert sorted(heard) == sorted(NAMES)
        assert services.clear_callbacks("EXPINIT") == dict.fromkeys(NAMES, 1)
        await services.init()
    assert len(heard) == 3


async def test_services_are_a_mapping_of_communicators() -> None:
    async with open_rigs("udp") as (services, _):
        assert tuple(services) == NAMES
        assert len(services) == 3
        assert services["sound"].name == "sound"
        with pytest.raises(KeyError):
            services["vision"]
        subset = RigServices({"only": services["task"]}, response_timeout=30)
        assert await subset.init() == {"only": ["task", None]}
    assert await RigServices({}).init() == {}
