"""Reports that a callback has failed, and what is no message, between us and iblutil."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from tests.interop.links import LINKS, open_link
from tests.interop.peer_process import Iblutil
from trionet import RigEvent


@pytest.mark.parametrize("kind", LINKS)
@pytest.mark.parametrize("is_async", [False, True])
async def test_our_failed_callback_is_reported(iblutil: Iblutil, kind: str, is_async: bool) -> None:
    """Over TCP with a gap behind the echo, without which iblutil would not understand either."""

    def fail(event: RigEvent) -> None:
        raise ValueError("the laser is off, für immer")

    async def fail_later(event: RigEvent) -> None:
        await trio.lowlevel.checkpoint()
        fail(event)

    async with open_link(iblutil, kind) as link:
        link.ours.assign_callback("EXPSTART", fail_later if is_async else fail)
        await link.theirs.call("start", "2026-03-01_1_mouse", **link.to_us)
        assert await link.theirs.receive() == [0, "ValueError: the laser is off, für immer", 2]
        assert await link.receive() == [2, "2026-03-01_1_mouse", None]
        await link.settle()


@pytest.mark.parametrize("kind", LINKS)
async def test_their_failed_callback_is_reported(iblutil: Iblutil, kind: str) -> None:
    """Over TCP, it comes right behind the echo: iblutil itself would not understand it."""
    async with open_link(iblutil, kind) as link:
        await link.theirs.do("fail", event=1, text='[no] "camera"')
        for number in range(5):
            await link.ours.init(number, **link.to_them)
            assert await link.theirs.receive() == [1, number]
            assert await link.receive() == [0, 'ValueError: [no] "camera"', 1]


@pytest.mark.parametrize("kind", LINKS)
async def test_reports_are_not_echoed(iblutil: Iblutil, kind: str) -> None:
    """Nor reported about, if a callback for them fails."""
    failed = trio.Event()

    def fail(event: RigEvent) -> None:
        failed.set()
        raise ValueError("in vain")

    async with open_link(iblutil, kind) as link:
        link.ours.assign_callback(0, fail)
        await link.theirs.do("send", message=[0, "ValueError: theirs", 1], **link.to_us)
        assert await link.receive() == [0, "ValueError: theirs", 1]
        await failed.wait()
        await link.ours.send([0, "ValueError: ours", 1], **link.to_them)
        assert await link.theirs.receive() == [0, "ValueError: ours", 1]
        await link.settle()
        assert link.theirs.received_nothing()


@pytest.mark.parametrize("kind", LINKS)
@pytest.mark.parametrize("text", ["no JSON", "[1", '{"event": 1}', "[]", '"[1, null]"', "[1, 2] trailing"])
async def test_what_is_no_message_is_confirmed_by_both(iblutil: Iblutil, kind: str, text: str) -> None:
    """Over TCP, brackets that do not match, or with text around them, show no end: they are not tried."""
    if kind.endswith("tcp") and text not in ("no JSON", '{"event": 1}', "[]"):
        return
    async with open_link(iblutil, kind) as link:
        await link.ours.confirmed_send(text, **link.to_them)
        await link.theirs.call("confirmed_send", text, **link.to_us)
        await link.settle()
        assert link.ours.statistics().malformed == 1


@pytest.mark.parametrize("kind", LINKS)
@pytest.mark.parametrize("event", [3, 256, "EXPEXPLODE"])
async def test_unknown_and_compound_events_of_theirs(iblutil: Iblutil, kind: str, event: Any) -> None:
    """They are confirmed, and nobody is called."""
    async with open_link(iblutil, kind) as link:
        await link.theirs.call("confirmed_send", [event, "data"], **link.to_us)
        await link.settle()
        assert link.ours.statistics().malformed == 1


@pytest.mark.parametrize("kind", LINKS)
async def test_names_of_events(iblutil: Iblutil, kind: str) -> None:
    async with open_link(iblutil, kind) as link:
        await link.theirs.call("confirmed_send", [" expinit ", "data"], **link.to_us)
        assert await link.receive() == [1, "data"]
        await link.ours.confirmed_send([" expinit ", "data"], **link.to_them)
        assert await link.theirs.receive() == [1, "data"]


@pytest.mark.parametrize("kind", LINKS)
async def test_pings(iblutil: Iblutil, kind: str) -> None:
    """An event without data is confirmed, and nothing else is done about it."""
    async with open_link(iblutil, kind) as link:
        await link.ours.ping(**link.to_them)
        await link.theirs.call("confirmed_send", [32], **link.to_us)
        await link.settle()
        assert link.ours.statistics().pings == 1
        assert link.theirs.received_nothing()
