"""Ctrl-C while rigs work behind the program: it is raised where the program waits."""

from __future__ import annotations

import logging
import signal
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

import trionet
from tests.front.interrupting import InterruptingHandler
from trionet import RigEvent

both_schemes = pytest.mark.parametrize("scheme", ["udp", "tcp"])


@pytest.fixture
def interrupting_logger() -> logging.Logger:
    logger = logging.Logger("interrupting")
    logger.addHandler(InterruptingHandler())
    return logger


#: For what has to succeed, however slow the machine.
PATIENT: Any = {"echo_timeout": 30}


async def wait_and_tell(program: Awaitable[Any]) -> None:
    """What Ctrl-C becomes if it arrives here."""
    try:
        await program
        await trio.sleep_forever()
    except KeyboardInterrupt:
        raise KeyboardInterrupt("here") from None


@both_schemes
@pytest.mark.parametrize("side", ["rig", "client"])
def test_while_messages_are_received(side: str, scheme: str, interrupting_logger: logging.Logger) -> None:
    options: dict[str, Any] = {"logger": interrupting_logger, "echo_timeout": 30}

    async def program() -> None:
        async with trionet.open_rig_listener(
            f"{scheme}://127.0.0.1:0", **(options if side == "rig" else PATIENT)
        ) as rig:
            uri = f"{scheme}://127.0.0.1:{rig.port}"
            async with trionet.open_rig_communicator(
                uri, **(options if side == "client" else PATIENT)
            ) as client:
                with rig.open_events() as events:
                    await client.init()
                    address = (await events.receive()).address
                junk = client.send("junk") if side == "rig" else rig.send("junk", address=address)
                await wait_and_tell(junk)

    with pytest.raises(KeyboardInterrupt, match="here"):
        trio.run(program)


@both_schemes
def test_while_a_report_is_sent(scheme: str, interrupting_logger: logging.Logger) -> None:
    def fail(event: RigEvent) -> None:
        raise ValueError("no")

    async def program() -> None:
        uri = f"{scheme}://127.0.0.1:0"
        async with trionet.open_rig_listener(uri, logger=interrupting_logger) as rig:
            rig.assign_callback("EXPINIT", fail)
            async with trionet.open_rig_communicator(f"{scheme}://127.0.0.1:{rig.port}", **PATIENT) as client:
                await wait_and_tell(client.init())

    with pytest.raises(KeyboardInterrupt, match="here"):
        trio.run(program)


def interrupted_callback(seen: list[str]) -> Callable[[RigEvent], None]:
    def callback(event: RigEvent) -> None:
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            seen.append("in the callback")
            raise

    return callback


def interrupted_async_callback(seen: list[str]) -> Callable[[RigEvent], Awaitable[None]]:
    async def callback(event: RigEvent) -> None:
        interrupted_callback(seen)(event)

    return callback


@both_schemes
@pytest.mark.parametrize("make", [interrupted_callback, interrupted_async_callback])
def test_a_callback_that_goes_on_for_ever_can_be_interrupted(make: Callable[..., Any], scheme: str) -> None:
    seen: list[str] = []

    async def program() -> None:
        async with trionet.open_rig_listener(f"{scheme}://127.0.0.1:0") as rig:
            rig.assign_callback("EXPINIT", make(seen))
            async with trionet.open_rig_communicator(f"{scheme}://127.0.0.1:{rig.port}") as client:
                await client.send([1, None])
                await trio.sleep_forever()

    # Over TCP in a group: of the tasks that serve connections.
    with pytest.raises(BaseException) as caught:  # noqa: PT011
        trio.run(program)
    error = caught.value
    assert isinstance(error, KeyboardInterrupt) or (
        isinstance(error, BaseExceptionGroup) and error.subgroup(KeyboardInterrupt) is not None
    )
    assert seen == ["in the callback"]


@both_schemes
@pytest.mark.parametrize("concurrent", [True, False])
def test_who_waits_for_all_rigs_is_interrupted_in_no_group(scheme: str, concurrent: bool) -> None:
    @trio.lowlevel.enable_ki_protection
    async def interrupt_once(event: RigEvent) -> None:
        rig_asked.append(event)
        if len(rig_asked) == 1:
            signal.raise_signal(signal.SIGINT)

    rig_asked: list[RigEvent] = []

    async def program() -> None:
        async with trionet.open_rig_listener(f"{scheme}://127.0.0.1:0") as rig:
            rig.assign_callback("EXPINIT", interrupt_once)
            uri = f"{scheme}://127.0.0.1:{rig.port}"
            async with trionet.open_rig_services({"one": uri, "other": uri}, **PATIENT) as services:
                await wait_and_tell(services.init(concurrent=concurrent))

    with pytest.raises(KeyboardInterrupt, match="here"):
        trio.run(program)
