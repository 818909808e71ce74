"""RPC with peers that do not agree on PYON v2, because they are old, or told not to."""

from __future__ import annotations

import logging
from collections import OrderedDict
from typing import Any, Literal

import pytest
import trio

import trionet

VALUE = OrderedDict(a=1)  # only PYON v1 keeps its type


class Echo:
    def echo(self, value: Any) -> Any:
        return value


@pytest.mark.parametrize("server_version", [1, 2])
@pytest.mark.parametrize("client_version", [1, 2])
async def test_both_sides_must_want_v2(
    server_version: Literal[1, 2], client_version: Literal[1, 2], nursery: trio.Nursery
) -> None:
    ours, theirs = trio.testing.memory_stream_pair()

    async def serve() -> None:
        await trionet.handle_rpc_stream(theirs, {"echo": Echo()}, pyon_version=server_version)

    nursery.start_soon(serve)
    async with trionet.wrap_rpc_stream(ours, pyon_version=client_version) as client:
        assert client.pyon_version == min(server_version, client_version)
        echoed = await client.call("echo", VALUE)
        assert type(echoed) is (dict if client.pyon_version == 2 else OrderedDict)


async def test_clients_and_servers_over_the_network(
    nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    async def serve(*, task_status: trio.TaskStatus[trionet.RpcServer]) -> None:
        await trionet.serve_rpc({"echo": Echo()}, 0, pyon_version=1, task_status=task_status)

    server: trionet.RpcServer = await nursery.start(serve)
    port = server.addresses[0][1]
    async with trionet.open_rpc_client("127.0.0.1", port) as client:
        assert client.pyon_version == 1
    v2 = await nursery.start(trionet.serve_rpc, {"echo": Echo()}, 0)
    async with trionet.open_rpc_client("127.0.0.1", v2.addresses[0][1], pyon_version=1) as client:
        assert client.pyon_version == 1
    lab_log = logging.getLogger("lab")
    async with trionet.open_best_effort_rpc_client(
        "127.0.0.1", v2.addresses[0][1], "echo", pyon_version=1, logger=lab_log
    ) as best_effort:
        assert best_effort.methods == frozenset({"echo"})
        assert type(await best_effort.call("echo", VALUE)) is OrderedDict
        await v2.aclose()
        await best_effort.connected.wait_value(False)
        assert best_effort.methods == frozenset({"echo"})
        await trio.testing.wait_all_tasks_blocked()
    assert {record.name for record in caplog.records if record.levelno >= logging.WARNING} == {"lab"}
    nursery.cancel_scope.cancel()


async def test_methods_are_not_known_before_the_first_connection() -> None:
    with trio.socket.socket() as taken:  # nobody listens there
        await taken.bind(("127.0.0.1", 0))
        async with trionet.open_best_effort_rpc_client("127.0.0.1", taken.getsockname()[1], "echo") as client:
            assert client.methods is None


async def test_a_version_that_there_is_not() -> None:
    wrong: Any = 3
    with pytest.raises(ValueError, match="PYON has versions 1 and 2, not 3"):
        await trionet.serve_rpc({}, 0, pyon_version=wrong)
    ours, _ = trio.testing.memory_stream_pair()
    with pytest.raises(ValueError, match="PYON has versions 1 and 2, not 3"):
        async with trionet.wrap_rpc_stream(ours, pyon_version=wrong):
            pass


async def test_the_method_list_as_it_was_sent(nursery: trio.Nursery) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    nursery.start_soon(trionet.handle_rpc_stream, theirs, {"echo": Echo()})
    async with trionet.wrap_rpc_stream(ours) as client:
        listed = await client.list_methods()
    assert listed["docstring"] is None
    assert listed["methods"]["echo"][0]["args"] == ["self", "value"]
