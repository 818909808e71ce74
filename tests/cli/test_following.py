"""What the commands have in common that follow a feed, or serve: on the mock clock, without sockets."""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
import trio
import trio.testing

from trionet import ConnectionLost, RemoteProtocolError
from trionet.cli.feeds import Source, follow, log_told
from trionet.cli.output import CommandError
from trionet.cli.tasks import run_served, until_first

SOURCE = Source("host", 1, tls=None, timeout=math.inf, wait=False, pyon_version=None)


class Feeds:
    """Opens feeds, each of which takes some time to open, and notes what happens."""

    def __init__(self, seconds: float = 0.0, error: Exception | None = None) -> None:
        self.events: list[Any] = []
        self._seconds = seconds
        self._error = error

    def __call__(self, reconnect: bool) -> AbstractAsyncContextManager[int]:
        return self._open(reconnect)

    @asynccontextmanager
    async def _open(self, reconnect: bool) -> AsyncIterator[int]:
        self.events.append(reconnect)
        await trio.sleep(self._seconds)
        if self._error is not None:
            raise self._error
        # A feed has tasks of its own: a cancel scope must not end between its beginning and its end.
        with trio.CancelScope():
            yield len(self.events)


def taking(*results: Exception | None) -> Callable[[int], Awaitable[None]]:
    """Takes from each feed for a long time, and then raises something or ends."""
    left = list(results)

    async def take(_: int) -> None:
        await trio.sleep(1000)
        error = left.pop(0)
        if error is not None:
            raise error

    return take


async def test_the_time_is_for_the_first_connection(autojump_clock: trio.testing.MockClock) -> None:
    feeds = Feeds(seconds=2)
    with pytest.raises(CommandError, match=r"^no answer within 1 s$"):
        await follow(replace(SOURCE, timeout=1), feeds, taking(None), feeds.events.append)
    assert trio.current_time() == 1
    await follow(replace(SOURCE, timeout=3), feeds, taking(None), feeds.events.append)
    assert trio.current_time() == 1003
    assert feeds.events == [False, False]


@pytest.mark.parametrize("error", [ConnectionLost("gone"), RemoteProtocolError("nonsense")])
async def test_a_lost_connection(autojump_clock: trio.testing.MockClock, error: Exception) -> None:
    feeds = Feeds()
    with pytest.raises(KeyError):
        await follow(SOURCE, feeds, taking(error, KeyError()), feeds.events.append)
    assert feeds.events == [False, f"{error}; trying again", True]


async def test_the_first_connection_may_be_waited_for(autojump_clock: trio.testing.MockClock) -> None:
    feeds = Feeds()
    await follow(replace(SOURCE, wait=True), feeds, taking(None), feeds.events.append)
    assert feeds.events == [True]


@pytest.mark.parametrize("error", [ConnectionRefusedError(111, "refused"), ValueError("a line feed")])
async def test_no_first_connection(error: Exception) -> None:
    with pytest.raises(CommandError):
        await follow(SOURCE, Feeds(error=error), taking(), print)


async def test_what_taking_raises_is_no_failed_connection(autojump_clock: trio.testing.MockClock) -> None:
    with pytest.raises(BrokenPipeError):
        await follow(SOURCE, Feeds(), taking(BrokenPipeError()), print)


# -- tasks ---------------------------------------------------------------------------------------------


async def test_until_first() -> None:
    async def fail() -> None:
        await trio.lowlevel.checkpoint()
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        await until_first(fail, trio.sleep_forever)
    await until_first(trio.lowlevel.checkpoint, trio.sleep_forever)


async def test_serving_until_it_has_been_used() -> None:
    served = trio.Event()

    async def serve(*, task_status: trio.TaskStatus[str]) -> None:
        task_status.started("handle")
        try:
            await trio.sleep_forever()
        finally:
            served.set()

    async def use(handle: str) -> None:
        assert handle == "handle"
        await trio.lowlevel.checkpoint()
        raise LookupError

    with pytest.raises(LookupError):
        await run_served(serve, use)
    assert served.is_set()


async def test_what_cannot_be_served() -> None:
    async def serve(*, task_status: trio.TaskStatus[str]) -> None:
        raise OSError(98, "taken")

    async def use(_: object) -> None:
        raise AssertionError

    with pytest.raises(CommandError, match="taken"):
        await run_served(serve, use)


def test_a_log_is_told_and_left_as_it_was(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("trionet.test_following")
    told: list[str] = []
    with log_told(logger, told.append):
        logger.info("not this")
        logger.warning("a %s", "b")
    logger.warning("c")
    assert told == ["a b"]
    assert caplog.messages == ["c"]
    assert logger.handlers == []
