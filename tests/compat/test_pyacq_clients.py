"""Blocking clients: one for each thread and server, futures, timeouts, the end of servers."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import trio

import trionet
from tests.compat.pyacq_things import Thing, in_thread, lazy_server, running_server
from trionet.testing import VirtualNetwork
from trionet_compat.portal import Portal, open_portal
from trionet_compat.pyacq.core.rpc import Future, RemoteCallException, RPCClient, RPCServer

pytestmark = pytest.mark.usefixtures("own_portal")

GONE = r"^Cannot send request; server has already disconnected\.$"


@pytest.fixture
def server() -> Iterator[RPCServer]:
    with running_server(thing=Thing()) as running:
        yield running


@pytest.fixture
def client(server: RPCServer) -> RPCClient:
    return RPCClient.get_client(server.address)


@pytest.fixture
def thing(server: RPCServer) -> Thing:
    return server["thing"]  # type: ignore[no-any-return]


def test_a_thread_has_one_client_of_a_server(server: RPCServer, client: RPCClient) -> None:
    assert RPCClient.get_client(server.address.decode()) is client
    assert in_thread(RPCClient.get_client, server.address) is not client
    assert (threading.get_ident(), server.address) in RPCClient.clients_by_thread
    assert client.address == server.address
    assert client.name.endswith(b":" + server.address)
    assert client.connect_established
    with pytest.raises(KeyError, match="already exists for this address"):
        RPCClient(server.address)


def test_arguments_of_clients(server: RPCServer) -> None:
    with pytest.raises(AttributeError):
        RPCClient(server.address.decode())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^Unsupported serializer type 'x'$"):
        RPCClient(server.address, serializer="x")
    with pytest.raises(ValueError, match="inproc"):
        RPCClient.get_client("inproc://here")
    assert not RPCClient.clients_by_thread.get((threading.get_ident(), server.address))


def test_no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # `patience`
    network = VirtualNetwork()
    with open_portal(clock=trio.testing.MockClock(autojump_threshold=0), network=network) as portal:
        for _ in range(2):
            before = portal.current_time()
            with (
                network.host("pc").entered(),
                pytest.raises(TimeoutError, match=r"^Could not establish connection with RPC server\.$"),
            ):
                RPCClient.get_client("tcp://127.0.0.1:1")
            assert 0.8 < portal.current_time() - before <= 1


def test_a_server_that_starts_is_waited_for() -> None:
    network = VirtualNetwork()

    async def serve_later(task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        await trio.sleep(0.5)
        await trionet.serve_objects({"name": "value"}, "tcp://server:5000")

    with open_portal(clock=trio.testing.MockClock(autojump_threshold=0), network=network) as portal:
        with network.host("server").entered():
            portal.start(serve_later)
        with network.host("pc").entered():
            assert RPCClient.get_client("tcp://server:5000")["name"] == "value"


def test_requests(client: RPCClient) -> None:
    client["number"] = 3
    assert client["number"] == 3
    with pytest.raises(RemoteCallException) as caught:
        client["nothing"]
    assert caught.value.type_str == "KeyError"
    assert client._import("os.path").join("a", "b") == "a/b"
    copy = client.transfer([1, 2])
    assert client.get_obj(copy) == [1, 2]
    assert client.call_obj(copy.count, [1]) == 1
    assert client.call_obj(copy.append, args=[3], return_type="auto", timeout=None) is None
    assert client.send("get_obj", {"obj": copy}) == [1, 2, 3]
    assert client.delete(copy) is None
    assert client.ping() == "pong"
    client.ensure_connection(timeout=30)
    with pytest.raises(RemoteCallException) as caught:
        client.send("nonsense")
    assert caught.value.type_str == "ValueError"
    with pytest.raises(ValueError, match=r"^Invalid sync value: maybe$"):
        client.ping(sync="maybe")


def test_the_clocks_of_one_machine_are_the_same(client: RPCClient) -> None:
    assert abs(client.measure_clock_diff()) < 0.5


def test_futures_in_any_order(client: RPCClient) -> None:
    thing = client["thing"]
    futures = [thing.add(number, _sync="async") for number in range(100)]
    assert len({future.call_id for future in futures}) == 100
    assert client.futures[futures[7].call_id] is futures[7]
    assert [future.result() for future in reversed(futures)] == [*range(100, 0, -1)]


def test_a_future_is_waited_for_without_its_result() -> None:
    with running_server(thing=Thing()) as server:
        client = RPCClient.get_client(server.address)
        thing = client["thing"]
        for future in (thing.add(1, _sync="async"), thing.fail(_sync="async")):
            client.process_until_future(future)  # which does not raise what the call does
            assert future.done()
            client.process_until_future(future, timeout=0)
        late = thing.wait(_sync="async")
        with pytest.raises(TimeoutError, match="Timeout waiting for Future result"):
            client.process_until_future(late, timeout=0.01)
        server["thing"].released.set()
        client.process_until_future(late, timeout=30)
        assert late.result() == "waited"


def test_futures_are_done_by_themselves(client: RPCClient) -> None:
    done = threading.Event()
    future = client["thing"].add(1, _sync="async")
    future.add_done_callback(lambda _: done.set())
    done.wait()
    assert future.done()
    assert future.result(timeout=0) == 2
    assert not future.cancel()


def test_futures_of_errors(client: RPCClient) -> None:
    future = client["thing"].fail(_sync="async")
    error = future.exception()
    assert isinstance(error, RemoteCallException)
    assert error.type_str == "ValueError"
    with pytest.raises(RemoteCallException):
        future.result()


def test_nobody_waits_for_what_is_off(
    client: RPCClient, thing: Thing, caplog: pytest.LogCaptureFixture
) -> None:
    remote = client["thing"]
    assert remote.wait(_sync="off") is None
    assert remote.fail(_sync="off") is None
    thing.released.set()
    assert remote.add(1) == 2
    client.disconnected()
    assert "request 'call_obj' without reply failed" in caplog.text


def test_a_timeout_damages_nothing(client: RPCClient, thing: Thing) -> None:
    remote = client["thing"]
    with pytest.raises(TimeoutError, match=r"^Timeout waiting for Future result\.$"):
        remote.wait(_timeout=0.01)
    future = remote.add(2, _sync="async")
    with pytest.raises(TimeoutError, match=r"^Timeout waiting for Future result\.$"):
        future.result(timeout=0.01)
    thing.released.set()
    assert remote.add(1) == 2
    assert future.result() == 3


def test_timeouts_while_this_thread_serves(client: RPCClient, thing: Thing) -> None:
    remote = client["thing"]
    with lazy_server():
        with pytest.raises(TimeoutError, match=r"^Timeout waiting for Future result\.$"):
            remote.wait(_timeout=0.01)
        thing.released.set()
        assert remote.add(1) == 2


def test_a_client_that_was_closed_is_replaced(server: RPCServer, client: RPCClient) -> None:
    future = client["thing"].wait(_sync="async")
    client.close()
    client.close()
    assert client.disconnected()
    for use in (future.result, client.ping):
        with pytest.raises(RuntimeError, match=GONE):
            use()
    server["thing"].released.set()
    again = RPCClient.get_client(server.address)
    assert again is not client
    assert again.ping() == "pong"


def test_the_end_of_a_server(server: RPCServer, client: RPCClient) -> None:
    ended = in_thread(lambda: RPCClient.get_client(server.address).close_server())
    assert ended is True
    assert not server.running()
    assert client.disconnected()
    assert client.close_server() is True
    with pytest.raises(RuntimeError, match=GONE) as caught:
        client.ping()
    assert not isinstance(caught.value, TimeoutError)
    assert RPCClient.get_client(server.address) is client


def test_clients_of_no_more_use_are_forgotten(server: RPCServer, client: RPCClient) -> None:
    in_thread(RPCClient.get_client, server.address)
    assert client.close_server() is True
    assert sum(address == server.address for _, address in RPCClient.clients_by_thread) == 2
    # Servers that nobody runs, because their threads could have the numbers of former ones.
    other = RPCServer()
    RPCClient.get_client(other.address)
    assert [key for key in RPCClient.clients_by_thread if key[1] == server.address] == [client._key]
    other.close()
    with open_portal():
        other = RPCServer()
        inner = RPCClient.get_client(other.address)
        other.close()
    assert not inner._is_of_use()
    other = RPCServer()
    RPCClient.get_client(other.address)
    assert inner._key not in RPCClient.clients_by_thread
    other.close()


def test_what_was_asked_for_before_the_end_is_done(server: RPCServer, client: RPCClient) -> None:
    remote = client["thing"]
    for number in range(20):
        remote.echo(number, _sync="off")
    future = remote.add(1, _sync="async")
    assert client.close_server() is True
    assert future.result() == 2
    assert server["thing"].calls == [*range(20)]
    with pytest.raises(RuntimeError, match=GONE) as caught:
        remote.add(1)
    assert not isinstance(caught.value, TimeoutError)


@pytest.mark.parametrize("sync", ["async", "off"])
def test_the_end_of_a_server_without_waiting(server: RPCServer, client: RPCClient, sync: str) -> None:
    pending = client["thing"].wait(_sync="async")
    future = client.close_server(sync=sync)
    assert in_thread(lambda: RPCClient.get_client(server.address).ping()) == "pong"
    server["thing"].released.set()
    assert pending.result() == "waited"
    if isinstance(future, Future):
        assert future.result() is True


def test_pending_calls_end_with_the_server(own_portal: Portal) -> None:
    server = RPCServer()  # that nobody runs
    server["thing"] = Thing()
    client = RPCClient.get_client(server.address)
    future = client.send("get_item", {"name": "thing"}, sync="async")
    server.close()
    with pytest.raises(RuntimeError, match=GONE) as caught:
        future.result()
    assert not isinstance(caught.value, TimeoutError)


def test_pending_calls_end_with_the_portal() -> None:
    with running_server(thing=Thing()) as server:
        with open_portal():
            future = RPCClient.get_client(server.address)["thing"].wait(_sync="async")
        assert future.done()
        with pytest.raises(RuntimeError):
            future.result()
        server["thing"].released.set()


def test_servers_of_trionet_refuse_what_they_do_not_allow(own_portal: Portal) -> None:
    handle = own_portal.start(trionet.serve_objects, {"thing": Thing()})
    client = RPCClient.get_client(handle.address)
    assert client["thing"].add(1) == 2
    private = client["thing"]._deferred_attr("_private")
    for refused in (partial(client._import, "os"), client.close_server, private._get_value):
        with pytest.raises(RemoteCallException) as caught:
            refused()
        assert caught.value.type_str == "PermissionError"
    assert client.ping() == "pong"


def test_clients_of_trionet_use_servers_of_threads(own_portal: Portal, server: RPCServer) -> None:
    async def use() -> Any:
        async with trionet.open_object_client(server.address.decode()) as client:
            thing = await client.get("thing")
            return await thing.thread(), await client.import_module("os.path")

    thread, module = own_portal.call(use)
    assert thread == server._thread.ident  # type: ignore[union-attr]
    assert isinstance(module, trionet.ObjectProxy)
