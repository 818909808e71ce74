"""Servers of objects that lose power, or work for long, and clients that ask them for signs of life."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import pytest
import trio
import trio.testing

import trionet
from tests.front.objects import Thing
from trionet.testing import Lab, VirtualHost

ADDRESS = "tcp://server:5555"


@contextlib.asynccontextmanager
async def serving(lab: Lab) -> AsyncIterator[VirtualHost]:
    """The host of a server; the block runs on another one."""

    async def serve(*, task_status: trio.TaskStatus[trionet.ObjectServer]) -> None:
        await trionet.serve_objects({"thing": Thing()}, "tcp://0.0.0.0:5555", task_status=task_status)

    server = lab.host("server")
    await server.start(serve)
    with lab.host("client").entered():
        yield server


@pytest.mark.parametrize("sent_before", [True, False])
async def test_a_power_failure_is_noticed_after_three_intervals(
    lab: Lab, autojump_clock: trio.testing.MockClock, sent_before: bool
) -> None:
    async with (
        serving(lab) as server,
        trionet.open_object_client(ADDRESS, heartbeat_interval=2.0) as client,
    ):
        thing = await client.get("thing")
        await trio.sleep(1.0)
        call = thing.sleep(100.0).start() if sent_before else None
        await trio.sleep(2.0)
        server.crash()
        crashed = trio.current_time()
        with pytest.raises(trionet.ConnectionLost, match=r"nothing heard for 6\.0 s"):
            await (thing.add(1) if call is None else call)
        assert 4.0 <= trio.current_time() - crashed <= 6.0


async def test_a_server_that_works_for_long_is_alive(
    lab: Lab, autojump_clock: trio.testing.MockClock
) -> None:
    async with serving(lab), trionet.open_object_client(ADDRESS, heartbeat_interval=1.0) as client:
        assert await (await client.get("thing")).sleep(100.0) == 100.0
        await trio.sleep(100.0)
        await client.ping()


async def test_a_stream_that_was_connected_already(lab: Lab, autojump_clock: trio.testing.MockClock) -> None:
    async with serving(lab) as server:
        stream = await trio.open_tcp_stream("server", 5555)
        async with trionet.wrap_object_stream(stream, ADDRESS, heartbeat_interval=2.0) as client:
            server.crash()
            with pytest.raises(trionet.ConnectionLost, match=r"nothing heard for 6\.0 s"):
                await client.ping()


async def test_what_is_no_interval(lab: Lab, autojump_clock: trio.testing.MockClock) -> None:
    async with serving(lab):
        with pytest.raises(ValueError, match="heartbeat_interval"):
            async with trionet.open_object_client(ADDRESS, heartbeat_interval=0.0):
                raise AssertionError
