"""Callbacks of rigs over loopback: who is called, and what becomes of what they raise."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import trio
import trio.testing

from tests.network.rigs import (
    address_of,
    both_schemes,
    loopback,
    open_listener,
    open_pair,
    open_raw_client,
    open_raw_rig,
)
from trionet import ExpMessage, RigEvent


@both_schemes
async def test_callbacks_are_called_with_the_events_of_their_mask(scheme: str) -> None:
    called: list[Any] = []
    done = {ExpMessage.EXPSTART: trio.Event(), ExpMessage.EXPEND: trio.Event()}

    def plain(event: RigEvent) -> None:
        called.append(("plain", event.event.name, event.data))

    async def asynchronous(event: RigEvent) -> None:
        await trio.lowlevel.checkpoint()
        called.append(("async", event.event.name, event.data))

    def last(event: RigEvent) -> None:
        called.append("last")
        done[event.event].set()

    async with open_pair(scheme) as (client, rig):
        rig.assign_callback(ExpMessage.EXPSTART | ExpMessage.EXPEND, plain)
        rig.assign_callback("EXPSTART", asynchronous)
        rig.assign_callback(ExpMessage.EXPSTART | ExpMessage.EXPEND, last)
        await client.init()
        await client.start("ref")
        await done[ExpMessage.EXPSTART].wait()
        await client.stop()
        await done[ExpMessage.EXPEND].wait()
    assert called == [
        ("plain", "EXPSTART", ["ref", None]),
        ("async", "EXPSTART", ["ref", None]),
        "last",
        ("plain", "EXPEND", [None]),
        "last",
    ]


@both_schemes
async def test_a_callback_may_take_its_time_and_send_messages(scheme: str) -> None:
    stopped = trio.Event()

    async with open_pair(scheme) as (client, rig):

        async def run(event: RigEvent) -> None:
            await rig.info("RUNNING", address=event.address)
            await stopped.wait()
            await rig.respond(event, "done")

        rig.assign_callback("EXPSTART", run)
        rig.assign_callback("EXPEND", lambda event: stopped.set())
        with client.open_events() as events:
            await client.start("ref")
            assert (await events.receive()).event == ExpMessage.EXPINFO
            await client.stop()
            answer = await events.receive()
    assert (answer.event, answer.data) == (ExpMessage.EXPSTART, ["done"])


@both_schemes
@pytest.mark.parametrize("kind", ["plain", "async"])
async def test_a_callback_that_raises_is_reported_to_the_sender(
    scheme: str, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    others: list[RigEvent] = []

    def plain(event: RigEvent) -> None:
        raise ValueError(f"not {event.data}")

    async def asynchronous(event: RigEvent) -> None:
        await trio.lowlevel.checkpoint()
        raise ValueError(f"not {event.data}")

    async with open_pair(scheme) as (client, rig):
        rig.assign_callback("EXPINIT", plain if kind == "plain" else asynchronous)
        rig.assign_callback("EXPINIT", others.append)
        with client.open_events(0) as reports, client.open_events() as events:
            with client.open_events("EXPEND", errors=True) as both:
                await client.init(1)
                report = await reports.receive()
                assert (await both.receive()) == report
            assert (report.event, report.data) == (ExpMessage(0), ["ValueError: not [1]", 1])
            await rig.stop(address=await address_of(client, rig))
        assert others == []
        assert [event.event async for event in events] == [ExpMessage.EXPEND]
    assert any(
        "has failed" in record.getMessage() for record in caplog.records if record.name == "trionet.rig"
    )


@both_schemes
async def test_a_report_goes_out_once_without_a_confirmation(scheme: str) -> None:
    def fail(event: RigEvent) -> None:
        raise KeyError("x")

    async with open_listener(loopback(scheme), echo_timeout=0.02) as rig:
        rig.assign_callback("EXPINIT", fail)
        async with open_raw_client(scheme, rig.port) as peer:
            await peer.send([1, 1])
            await peer.receive_exactly(b"[1, 1]")
            await peer.receive_exactly(b"[0, \"KeyError: 'x'\", 1]")
            await peer.send([8, 1])
            await peer.receive_exactly(b"[8, 1]")


@both_schemes
async def test_a_failing_callback_for_reports_is_not_reported(scheme: str) -> None:
    async with open_raw_rig(scheme) as (client, rig):
        called = trio.Event()

        def fail(event: RigEvent) -> None:
            called.set()
            raise ValueError("about a report")

        client.assign_callback(0, fail)
        await rig.send([0, "ValueError: over here", 1])
        await called.wait()
        await rig.send([1, 1])
        await rig.receive_exactly(b"[1, 1]")


@both_schemes
async def test_callbacks_that_are_cleared_are_not_called(scheme: str) -> None:
    called: list[str] = []

    def first(event: RigEvent) -> None:
        called.append("first")

    def second(event: RigEvent) -> None:
        called.append("second")

    async with open_pair(scheme) as (client, rig):
        for callback in (first, second):
            rig.assign_callback(ExpMessage.EXPINIT | ExpMessage.EXPEND, callback)
        assert rig.clear_callbacks("EXPINIT", first) == 1
        await client.init()
        await client.stop()
        assert called == ["second", "first", "second"]
        assert rig.clear_callbacks() == 2
        await client.init()
        await client.stop()
    assert called == ["second", "first", "second"]


async def test_what_cannot_be_called_is_no_callback() -> None:
    async with open_listener(loopback("udp")) as rig:
        with pytest.raises(TypeError, match="callable"):
            rig.assign_callback("EXPINIT", "print")  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="EXPWHAT"):
            rig.assign_callback("EXPWHAT", print)


@both_schemes
async def test_too_many_callbacks_at_once_are_refused(scheme: str) -> None:
    running = 0
    go_on = trio.Event()

    async def wait(event: RigEvent) -> None:
        nonlocal running
        running += 1
        await go_on.wait()
        running -= 1

    async with open_pair(scheme, max_running_callbacks=2) as (client, rig):
        rig.assign_callback("EXPINIT", wait)
        with client.open_events(0) as reports, rig.open_events() as events:
            for number in range(3):
                await client.init(number)
            report = await reports.receive()
            assert report.data == ["RuntimeError: callbacks of 2 earlier messages are still running", 1]
            assert running == 2
            assert [(await events.receive()).data for _ in range(3)] == [[0], [1], [2]]
            go_on.set()
            await trio.testing.wait_all_tasks_blocked()
            await client.init(3)
            await client.init(4)
    assert running == 0


@both_schemes
async def test_callbacks_are_cancelled_when_the_block_ends(scheme: str) -> None:
    begun = trio.Event()
    ended = False

    async def wait(event: RigEvent) -> None:
        nonlocal ended
        begun.set()
        try:
            await trio.sleep_forever()
        finally:
            ended = True

    async with open_pair(scheme) as (client, rig):
        rig.assign_callback("EXPINIT", wait)
        await client.init()
        await begun.wait()
        assert not ended
    assert ended


@both_schemes
async def test_a_callback_that_is_cleared_while_one_before_it_runs_is_not_called(scheme: str) -> None:
    called: list[RigEvent] = []
    begun = trio.Event()
    go_on = trio.Event()
    ended = trio.Event()

    async def first(event: RigEvent) -> None:
        begun.set()
        await go_on.wait()

    async with open_pair(scheme) as (client, rig):
        rig.assign_callback("EXPINIT", first)
        rig.assign_callback("EXPINIT", called.append)
        rig.assign_callback("EXPINIT", lambda event: ended.set())
        await client.init()
        await begun.wait()
        assert rig.clear_callbacks("EXPINIT", called.append) == 1
        go_on.set()
        await ended.wait()
    assert called == []


class NoText(Exception):
    def __str__(self) -> str:
        raise RuntimeError("there is no text")


@both_schemes
@pytest.mark.parametrize("error", [ValueError("\U0001f600" * 100_000), ValueError("\udc80"), NoText()])
async def test_whatever_a_callback_raises_ends_nothing(
    scheme: str, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "trionet.rig")  # not every program that reads reports takes such text

    def fail(event: RigEvent) -> None:
        raise error

    async with open_pair(scheme) as (client, rig):
        rig.assign_callback("EXPINIT", fail)
        with client.open_events(0) as reports:
            await client.init()
            text, event = (await reports.receive()).data
        assert event == ExpMessage.EXPINIT
        assert text.startswith(type(error).__name__)
        await client.cleanup()


@both_schemes
async def test_failing_callbacks_do_not_flood_the_log(scheme: str, caplog: pytest.LogCaptureFixture) -> None:
    def fail(event: RigEvent) -> None:
        raise ValueError("no")

    async with open_listener(loopback(scheme)) as rig:
        rig.assign_callback("EXPINIT", fail)
        async with open_raw_client(scheme, rig.port) as stranger:
            for number in range(300):
                message = b"[1, %d]" % number
                await stranger.send(message)
                received = b""
                while message not in received:  # among the reports
                    received += await stranger.receive()
    assert len(caplog.records) < 20
