"""Servers whose requests are executed by a thread of the program, and calls in both directions."""

from __future__ import annotations

import gc
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.compat.pyacq_things import Thing, in_thread, lazy_server, running_server
from trionet_compat.portal import current_portal
from trionet_compat.pyacq import RPCClient as PyacqClient
from trionet_compat.pyacq.core import RPCServer as CoreServer
from trionet_compat.pyacq.core.rpc import ObjectProxy, RemoteCallException, RPCClient, RPCServer
from trionet_compat.pyacq.core.rpc.serializer import JsonSerializer, MsgpackSerializer, all_serializers
from trionet_compat.pyacq.core.rpc.timer import Timer

pytestmark = pytest.mark.usefixtures("own_portal")


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """No thread keeps a server."""
    yield
    assert not RPCServer.servers_by_thread


def test_requests_are_executed_by_the_thread_that_runs_the_server() -> None:
    with running_server(thing=Thing()) as server:
        remote = RPCClient.get_client(server.address)["thing"]
        assert remote.thread() == server._thread.ident  # type: ignore[union-attr]
        assert server.running()
    assert not server.running()


def test_a_lazy_server_works_while_its_thread_waits() -> None:
    with running_server(thing=Thing()) as server, lazy_server():
        remote = RPCClient.get_client(server.address)["thing"]
        mine = Thing()
        assert remote.call(mine.thread) == threading.get_ident()
        assert remote.call(mine.thread, _sync="async").result() == threading.get_ident()
        with pytest.raises(RemoteCallException) as caught:
            remote.call(mine.fail)
        assert caught.value.type_str == "RemoteCallException"
        assert "ValueError: the text" in str(caught.value)


def test_mutual_recursion() -> None:
    class Counter:
        """Calls another one, until nothing is left."""

        def __init__(self) -> None:
            self.threads: set[int] = set()

        def count(self, other: Any, left: int) -> list[int]:
            self.threads.add(threading.get_ident())
            return [left, *(other.count(self, left - 1) if left else [])]

    with running_server(counter=Counter()) as server, lazy_server():
        remote = RPCClient.get_client(server.address)["counter"]
        mine = Counter()
        assert mine.count(remote, 9) == [*range(9, -1, -1)]
        assert mine.threads == {threading.get_ident()}


def test_two_servers_that_call_each_other() -> None:
    class Node:
        """Asks its peer, which asks it back."""

        peer: Any

        def ask(self, depth: int) -> int:
            return int(self.peer.ask(depth - 1)) + 1 if depth else 0

    one, two = Node(), Node()
    with running_server(node=one) as first, running_server(node=two) as second:
        one.peer = ObjectProxy(**RPCClient.get_client(second.address)["node"]._save())
        two.peer = ObjectProxy(**RPCClient.get_client(first.address)["node"]._save())
        asked = [
            RPCClient.get_client(server.address)["node"].ask(6, _sync="async") for server in (first, second)
        ]
        assert [future.result() for future in asked] == [6, 6]


def test_a_client_that_is_not_reentrant_does_not_serve() -> None:
    with running_server(thing=Thing()) as server, lazy_server():
        remote = RPCClient(server.address, reentrant=False)["thing"]
        mine = Thing()
        with pytest.raises(TimeoutError):
            remote.call(mine.echo, 1, _timeout=0.01)
        assert mine.calls == []
        RPCServer.get_server()._read_and_process_one()  # type: ignore[union-attr]
        assert mine.calls == [1]


def test_the_server_of_a_thread() -> None:
    with lazy_server() as server:
        assert RPCServer.get_server() is server
        assert in_thread(RPCServer.get_server) is None
        other = RPCServer()
        for run in (other.run_lazy, other.run_forever):
            with pytest.raises(KeyError):
                run()
        with pytest.raises(AssertionError):
            in_thread(server.run_forever)
        other.close()
        client = RPCServer.local_client()
        server["name"] = "value"
        assert client["name"] == "value"
        assert client["self"] is server
        assert client.close_server() is True
        assert RPCServer.get_server() is None
        assert not server.running()
    with pytest.raises(RuntimeError):
        RPCServer.local_client()


def test_a_thread_has_nothing_of_a_former_one_with_the_same_number() -> None:
    left: dict[int, RPCServer] = {}

    def leave_behind() -> None:
        server = RPCServer()
        server.run_lazy()
        left[threading.get_ident()] = server

    def run() -> bool:
        """Whether this is such a thread."""
        if threading.get_ident() not in left:
            return False
        assert RPCServer.get_server() is None
        with lazy_server() as server:
            assert RPCServer.get_server() is server
        return True

    in_thread(leave_behind)
    try:
        for _ in range(100):
            if in_thread(run):
                return
        pytest.skip("the system gives all threads numbers of their own")
    finally:
        for server in left.values():
            server.close()


def test_a_lazy_server_can_be_run_later() -> None:
    server = RPCServer()
    server.run_lazy()
    done = threading.Thread(target=lambda: RPCClient.get_client(server.address).close_server())
    done.start()
    server.run_forever()
    done.join()
    assert not server.running()
    server.run_forever()  # it has ended


def test_names() -> None:
    with running_server(thing=3) as server:
        assert server["thing"] == 3
        with pytest.raises(KeyError):
            server["nothing"]
        client = RPCClient.get_client(server.address)
        client["other"] = [1]
        assert server["other"] == [1]
        assert client["self"].running() is True
        assert client["self"].address._get_value() == server.address
    assert (PyacqClient, CoreServer) == (RPCClient, RPCServer)


def test_a_server_is_registered_by_hand() -> None:
    server, other = RPCServer(), RPCServer()
    RPCServer.register_server(server)
    assert RPCServer.get_server() is server
    assert RPCServer.servers_by_thread[threading.get_ident()] is server
    with pytest.raises(KeyError):
        RPCServer.register_server(other)
    with pytest.raises(AssertionError):
        in_thread(RPCServer.register_server, server)
    in_thread(RPCServer.unregister_server, server)
    assert RPCServer.get_server() is None
    RPCServer.register_server(other)
    for one in (server, other):
        one.close()


def test_proxies_of_ones_own_objects() -> None:
    with running_server(thing=Thing()) as server:
        thing = Thing()
        proxy = server.get_proxy(thing, timeout=3)
        assert proxy._proxy_options["timeout"] == 3
        assert server.unwrap_proxy(proxy) is thing
        assert server.unwrap_proxy(proxy.value) == 5
        assert server.get_proxy(proxy) == proxy
        foreign = ObjectProxy("tcp://127.0.0.1:1", 0, 0)
        assert server.unwrap_proxy(foreign) == foreign
        assert server.auto_proxy(3, server.no_proxy_types) == 3
        assert isinstance(server.auto_proxy(thing, server.no_proxy_types), ObjectProxy)
        assert proxy.echo(1) == 1
        assert thing.calls == [1]
        RPCClient.get_client(server.address)["thing"].echo(proxy)
        assert server["thing"].calls == [thing]
        proxy._delete(sync="off")


def test_actions_without_a_client() -> None:
    with lazy_server() as server:
        thing = server["thing"] = Thing()
        proxy = server.process_action("get_item", {"name": "thing"}, "auto", b"me")
        assert isinstance(proxy, ObjectProxy)
        assert server.process_action("call_obj", {"obj": proxy.echo, "args": [thing]}, "value", b"") is thing
        assert isinstance(server.process_action("ping", None, "proxy", b""), ObjectProxy)
        with pytest.raises(ValueError, match="unknown action"):
            server.process_action("nonsense", None, "auto", b"")


def test_the_program_closes_a_server_from_anywhere() -> None:
    with running_server(thing=Thing()) as server:
        client = RPCClient.get_client(server.address)
        server.close()
        assert client.disconnected()
        server.close()


def test_a_method_closes_its_server() -> None:
    with running_server() as server:
        server["close"] = server.close
        with pytest.raises(RuntimeError):
            RPCClient.get_client(server.address)["close"]()
        assert not server.running()


def test_a_busy_server_is_closed_after_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trionet_compat.pyacq.core.rpc.server._CLOSE_TIMEOUT", 0.01)
    thing = Thing()
    with running_server(thing=thing) as server:
        future = RPCClient.get_client(server.address)["thing"].wait(_sync="async")
        server.close()
        with pytest.raises(RuntimeError):
            future.result()
        thing.released.set()


def test_what_ends_a_thread_ends_its_server() -> None:
    def leave() -> None:
        raise SystemExit

    def run() -> None:
        with pytest.raises(SystemExit):
            server.run_forever()

    server = RPCServer()
    server["leave"] = leave
    thread = threading.Thread(target=run)
    thread.start()
    client = RPCClient.get_client(server.address)
    with pytest.raises(RemoteCallException) as caught:
        client["leave"]()
    assert caught.value.type_str == "SystemExit"
    thread.join()
    assert not server.running()
    assert client.disconnected()


def test_objects_are_released_when_their_client_has_gone() -> None:
    with running_server(kind=Thing) as server:
        gc.collect()
        before = Thing.alive
        client = RPCClient.get_client(server.address)
        made = client["kind"]()
        assert made.add(1) == 2
        assert Thing.alive == before + 1
        client.close()
        again = RPCClient.get_client(server.address)
        while Thing.alive != before:  # until the server has noticed, and its thread comes to it
            again.ping()
        assert server._host.objects == 0


class Widget:
    """Wants to be deleted where it was made."""

    def __init__(self) -> None:
        self.thread = threading.get_ident()

    def __del__(self) -> None:
        deleted.append(threading.get_ident() == self.thread)


deleted: list[bool] = []


@pytest.mark.parametrize("how", ["delete", "collect", "leave", "close", "close in a method"])
def test_objects_are_deleted_in_the_thread_of_the_server(how: str) -> None:
    deleted.clear()
    with running_server(kind=Widget) as server:
        server["close"] = server.close
        client = RPCClient.get_client(server.address)
        widgets = [client["kind"]() for _ in range(3)]
        match how:
            case "delete":
                for widget in widgets:
                    widget._delete()
                assert len(deleted) == 3
            case "collect":
                for widget in widgets:
                    widget._set_proxy_options(auto_delete=True)
                del widget, widgets
                gc.collect()
            case "leave":
                client.close()
            case "close":
                client.close_server()
            case _:
                with pytest.raises(RuntimeError):
                    client["close"]()
        if how in ("collect", "leave"):
            while len(deleted) < 3:
                RPCClient.get_client(server.address).ping()
    assert deleted == [True] * 3


def test_what_an_object_does_at_its_end_may_block() -> None:
    """As a motor that is at the controller of another process, and switches itself off."""
    switched_off = threading.Event()

    class Motor:
        def __del__(self) -> None:
            RPCClient.get_client(controller.address)["off"]()
            switched_off.set()

    with running_server(off=lambda: None) as controller, running_server(kind=Motor) as server:
        client = RPCClient.get_client(server.address)
        client["kind"]()
        client.close()
        assert switched_off.wait(60)


def test_objects_are_released_when_the_server_that_has_them_has_gone() -> None:
    with lazy_server() as mine, running_server(thing=Thing()) as server:
        client = RPCClient.get_client(server.address)
        client["thing"].echo(Thing())
        client["thing"].echo(Thing())
        assert mine._host.objects == 2
        client.close_server()
        assert client.disconnected()
        while mine._host.objects:  # until the portal has noticed
            current_portal().sleep(0)


def test_a_timer_calls_in_the_thread_of_the_server() -> None:
    with running_server() as server:
        threads: list[int] = []
        done = threading.Event()

        def call() -> None:
            threads.append(threading.get_ident())
            if len(threads) == 3:
                done.set()

        timer = server.start_timer(call, 0.001, limit=3)
        done.wait()
        timer.thread.join()  # type: ignore[union-attr]
        assert threads == [server._thread.ident] * 3  # type: ignore[union-attr]
        assert not timer.running
        assert not RPCClient.clients_by_thread.keys() & {(timer.thread.ident, server.address)}  # type: ignore[union-attr]


def test_a_timer_that_is_stopped_and_started_again() -> None:
    called = threading.Event()
    timer = Timer(called.set, 0.001, start=True)
    for _ in range(2):
        called.wait()
        assert timer.running
        timer.stop()
        timer.thread.join()  # type: ignore[union-attr]
        assert not timer.running
        called.clear()
        timer.start()
        timer.start()
    timer.stop()


def test_a_timer_whose_function_fails_stops(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise ValueError("the text")

    timer = Timer(fail, 0.001)
    assert not timer.running
    timer.start()
    timer.thread.join()  # type: ignore[union-attr]
    assert not timer.running
    assert "ValueError: the text" in caplog.text
    assert caplog.record_tuples[0][:2] == ("pyacq.core.rpc.timer", logging.ERROR)


@pytest.mark.parametrize("name", ["json", "msgpack"])
def test_serializers_by_themselves(name: str) -> None:
    serializer = all_serializers[name]()
    value = {"a": [1, 2.5, "ä", None, b"\0\xff"]}
    assert serializer.loads(serializer.dumps(value)) == value
    assert serializer.decode(serializer.encode(value)) == value
    array = np.arange(6).reshape(2, 3)
    assert np.array_equal(serializer.loads(serializer.dumps(array)), array)
    proxy = ObjectProxy("tcp://127.0.0.1:1", 3, 4, "kind", ("name",))
    assert serializer.loads(serializer.dumps(proxy)) == proxy
    with pytest.raises(TypeError, match=r"^Cannot make proxy to .* without proxy server\.$"):
        serializer.dumps(object())
    assert (serializer.type, serializer.server) == (name, None)


def test_serializers_with_a_server() -> None:
    with lazy_server() as server:
        thing = Thing()
        assert MsgpackSerializer(server).loads(JsonSerializer(server).encode(5).__repr__().encode()) == 53
        data = MsgpackSerializer(server).dumps([thing])
        assert MsgpackSerializer(server).loads(data)[0] is thing
        assert isinstance(MsgpackSerializer().loads(data)[0], ObjectProxy)


def test_a_server_that_was_not_closed_is_closed_at_the_end_of_the_program() -> None:
    program = """
import logging, threading
logging.basicConfig(format="%(name)s %(message)s")
from trionet_compat.pyacq.core.rpc import RPCServer
server = RPCServer()
threading.Thread(target=server.run_forever, daemon=True).start()
while server._thread is None: pass
"""
    ended = subprocess.run(
        [sys.executable, "-c", program],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.stderr == "pyacq.core.rpc.server RPCServer exiting without close()!\n"
    assert ended.returncode == 0
