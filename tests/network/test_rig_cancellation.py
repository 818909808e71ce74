"""Rigs cancelled at every single await, over UDP and TCP: sending, asking, waiting, opening and closing.

See `tests.front.test_cancellation` for how. After each, the communicator works, the next message and its
echo are told apart from those of the cancelled one, and no socket or task is left: warnings are errors.
"""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.testing

import trionet
from tests.front.test_cancellation import cancel_at
from tests.network.certificates import Certificates
from tests.network.rigs import (
    answer,
    both_schemes,
    loopback,
    open_communicator,
    open_listener,
    open_pair,
)
from trionet import ExpMessage, RigCommunicator, RigEvent

CALLS: dict[str, Callable[[RigCommunicator], Awaitable[object]]] = {
    "init": lambda client: client.init("cancelled"),
    "long": lambda client: client.init("cancelled" + "x" * 60_000),
    "attempts": lambda client: client.init("cancelled", attempts=3, echo_timeout=30),
    "unconfirmed": lambda client: client.send([1, "cancelled"]),
    "token": lambda client: client.alyx(),
    "event": lambda client: client.wait_event(ExpMessage.EXPEND),
}


def answering(rig: RigCommunicator) -> Callable[[RigEvent], Awaitable[None]]:
    async def respond(event: RigEvent) -> None:
        await answer(event, rig)

    return respond


def handing_out_tokens(rig: RigCommunicator) -> Callable[[RigEvent], Awaitable[None]]:
    return lambda event: rig.respond(event, None, {})


def stopping(rig: RigCommunicator) -> Callable[[RigEvent], Awaitable[None]]:
    return lambda event: rig.stop(address=event.address)


@both_schemes
@pytest.mark.parametrize("name", CALLS)
async def test_a_call_cancelled_everywhere(scheme: str, name: str) -> None:
    positions = 0
    for step in range(1000):
        async with open_pair(scheme) as (client, rig):
            if name == "token":
                rig.assign_callback("ALYX", handing_out_tokens(rig))
            if name == "event":
                rig.assign_callback("EXPINIT", stopping(rig))
                await client.init()
            with rig.open_events(ExpMessage.EXPINIT) as events:
                cancelled, reached = await cancel_at(step, lambda: CALLS[name](client))  # awaited here
                positions += cancelled
                await client.init("next")
                received = [(await events.receive()).data[0]]
                if received != ["next"]:
                    received.append((await events.receive()).data[0])
                assert received[-1] == "next"
                assert len(received) == 1 or received[0].startswith("cancelled")
                await trio.testing.wait_all_tasks_blocked()
                assert rig.statistics().malformed == client.statistics().malformed == 0
        if not reached:
            break
    assert not reached
    assert positions >= 1


@both_schemes
async def test_one_of_several_senders_cancelled_everywhere(scheme: str) -> None:
    """The others are confirmed, in their order."""
    for step in range(1000):
        async with open_pair(scheme) as (client, rig):
            with rig.open_events() as events:
                async with trio.open_nursery() as nursery:
                    for name in "ab":
                        nursery.start_soon(client.init, name)
                    await trio.lowlevel.checkpoint()
                    _, reached = await cancel_at(step, lambda: client.init("cancelled"))
                    nursery.start_soon(client.init, "c")
                received = [(await events.receive()).data[0] for _ in range(3)]
                if "cancelled" in received:
                    received.append((await events.receive()).data[0])
                    received.remove("cancelled")
                assert sorted(received[:2]) == ["a", "b"]
                assert received[2] == "c"
        if not reached:
            break
    assert not reached


@both_schemes
@pytest.mark.parametrize("concurrent", [True, False])
async def test_services_cancelled_everywhere(scheme: str, concurrent: bool) -> None:
    for step in range(0, 2000, 3):
        async with open_pair(scheme) as (first, rig), open_pair(scheme) as (second, other):
            rig.assign_callback(ExpMessage.any(), answering(rig))
            other.assign_callback(ExpMessage.any(), answering(other))
            services = trionet.RigServices({"a": first, "b": second}, response_timeout=30)
            _, reached = await cancel_at(step, lambda: services.init(concurrent=concurrent))  # noqa: B023
            # Another event: an answer to a question that was cancelled may still come.
            assert await services.stop("next") == {"a": [["rig", "next"]], "b": [["rig", "next"]]}
        if not reached:
            break
    assert not reached


async def _open_and_use(uri: str, **options: Any) -> None:
    async with open_communicator(uri, echo_timeout=30, **options) as client:
        await client.init()


@both_schemes
async def test_a_communicator_cancelled_everywhere(scheme: str) -> None:
    """Opening, sending and closing."""
    async with open_listener(loopback(scheme)) as rig:
        for step in range(1000):
            _, reached = await cancel_at(step, lambda: _open_and_use(loopback(scheme, rig.port)))
            if not reached:
                break
        assert not reached
        await _open_and_use(loopback(scheme, rig.port))
    gc.collect()


async def test_a_communicator_with_tls_cancelled_everywhere(certificates: Certificates) -> None:
    server = certificates.identity("server", "client")
    client = certificates.identity("client", "server")
    async with open_listener(loopback("wss"), ssl_context=server) as rig:
        uri = loopback("wss", rig.port)
        for step in range(1000):
            _, reached = await cancel_at(step, lambda: _open_and_use(uri, ssl_context=client))
            if not reached:
                break
        assert not reached
    gc.collect()


@both_schemes
async def test_a_listener_cancelled_everywhere(scheme: str) -> None:
    async def be_a_rig() -> None:
        async with open_listener(loopback(scheme)) as rig:
            rig.assign_callback("EXPINIT", answering(rig))
            await _open_and_use(loopback(scheme, rig.port))

    for step in range(1000):
        _, reached = await cancel_at(step, be_a_rig)
        if not reached:
            break
    assert not reached
    gc.collect()


@both_schemes
async def test_closed_at_every_step_of_a_message(scheme: str) -> None:
    """Whoever is sending meanwhile, or begins to, is told that it is closed, or is confirmed."""
    for step in range(1000):
        outcomes: list[str] = []

        async def send(client: RigCommunicator, outcomes: list[str] = outcomes) -> None:
            for number in range(3):
                try:
                    await client.init(number)
                    outcomes.append("confirmed")
                except trio.ClosedResourceError:
                    outcomes.append("closed")

        async with open_listener(loopback(scheme)) as rig, trio.open_nursery() as nursery:
            uri = loopback(scheme, rig.port)
            async with open_communicator(uri, connect_first=False) as client:
                nursery.start_soon(send, client)

                async def finish(nursery: trio.Nursery = nursery) -> None:
                    while nursery.child_tasks:
                        await trio.lowlevel.checkpoint()

                _, reached = await cancel_at(step, finish)
        assert len(outcomes) == 3
        assert outcomes == sorted(outcomes, reverse=True)
        if not reached:
            break
    assert not reached
    assert outcomes == ["confirmed"] * 3
