"""What a communicator of rigs can be told, and tells: where it logs, how long it waits, who is there."""

from __future__ import annotations

import logging

import pytest
import trio

from tests.network.rigs import both_schemes, loopback, open_communicator, open_listener, open_pair
from trionet import EchoTimeout, RigEvent, open_rig_communicator


@both_schemes
async def test_it_logs_where_it_is_told_to(scheme: str, caplog: pytest.LogCaptureFixture) -> None:
    def fail(event: RigEvent) -> None:
        raise ValueError("no light")

    mine = logging.getLogger("tests.mine")
    async with open_pair(scheme, logger=mine) as (client, rig):
        rig.assign_callback(1, fail)
        with client.open_events(0) as reports:
            await client.init()
            await reports.receive()
        await client.confirmed_send("no message")
        await client.cleanup()
    assert {record.name for record in caplog.records} == {"tests.mine"}
    assert "no light" in caplog.text
    assert "is no message" in caplog.text


async def test_the_time_for_an_echo_can_be_changed() -> None:
    with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as silent:
        await silent.bind(("127.0.0.1", 0))
        async with open_rig_communicator(loopback("udp", silent.getsockname()[1])) as client:
            assert client.echo_timeout == 1
            client.echo_timeout = 0.01
            with pytest.raises(EchoTimeout, match=r"0\.01 s"):
                await client.init()
            client.echo_timeout = 0
            with pytest.raises(ValueError, match="more than 0 s"):
                await client.init()


async def test_udp_is_connected_until_it_is_closed() -> None:
    async with open_pair("udp") as (client, rig):
        assert client.is_connected
        assert rig.is_connected
    assert not client.is_connected
    assert not rig.is_connected


async def test_tcp_is_connected_while_there_is_a_connection() -> None:
    async with open_listener(loopback("tcp")) as rig:
        assert not rig.is_connected
        uri = loopback("tcp", rig.port)
        async with open_communicator(uri, connect_first=False) as client:
            assert not client.is_connected
            await client.init()
            assert client.is_connected
            assert rig.is_connected
            with client.open_events(errors=True) as events:
                rig.cancel_scope.cancel()
                with pytest.raises(OSError, match="closed"):
                    await events.receive()
            assert not client.is_connected
    assert not rig.is_connected
