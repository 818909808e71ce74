"""Servers whose requests are executed by the event loop of Qt.

Skipped where there is no PySide6, the extra `qt`: without Qt there is nothing to test.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.compat.pyacq_things import Thing, running_server
from trionet_compat.pyacq.core.rpc import ProcessSpawner, QtRPCServer, RPCClient, RPCServer

QtCore: Any = pytest.importorskip("PySide6.QtCore", reason="the extra qt is not installed")

pytestmark = pytest.mark.usefixtures("own_portal")


@pytest.fixture(scope="module")
def application() -> Any:
    """The one that a process may have."""
    return QtCore.QCoreApplication.instance() or QtCore.QCoreApplication([])


@pytest.fixture
def server(application: Any) -> Iterator[QtRPCServer]:
    running = QtRPCServer()
    running["thing"] = Thing()
    running.run_forever()
    yield running
    running.close()
    assert not RPCServer.servers_by_thread


def _run(application: Any, function: Callable[[], Any]) -> list[Any]:
    """Run the event loop until the function, in another thread, has ended the server."""
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(function()))
    thread.start()
    application.exec()
    thread.join()
    return results


def test_requests_are_executed_by_the_event_loop(application: Any, server: QtRPCServer) -> None:
    def use() -> Any:
        client = RPCClient.get_client(server.address)
        thing = client["thing"]
        found = thing.thread(), [thing.add(number, _sync="async") for number in range(50)][-1].result()
        assert client.close_server() is True
        return found

    assert RPCServer.get_server() is server
    assert _run(application, use) == [(threading.get_ident(), 50)]
    assert not server.running()


def test_objects_are_deleted_in_the_thread_of_the_event_loop(application: Any, server: QtRPCServer) -> None:
    deleted: list[int] = []

    class Widget:
        def __del__(self) -> None:
            deleted.append(threading.get_ident())

    def use() -> None:
        client = RPCClient.get_client(server.address)
        client["kind"]()
        client.close()
        again = RPCClient.get_client(server.address)
        while not deleted:
            again.ping()
        again.close_server()

    server["kind"] = Widget
    _run(application, use)
    assert deleted == [threading.get_ident()]


def test_the_event_loop_goes_on_while_its_thread_waits(application: Any, server: QtRPCServer) -> None:
    mine, theirs = Thing(), Thing()
    timer = QtCore.QTimer()
    timer.timeout.connect(theirs.released.set)
    with running_server(thing=theirs) as other:
        remote = RPCClient.get_client(other.address)["thing"]
        assert remote.call(mine.thread) == threading.get_ident()
        with pytest.raises(TimeoutError):
            remote.wait(_timeout=0.05)
        timer.start(1)
        assert remote.wait() == "waited"
        timer.stop()


def test_calls_within_calls(application: Any, server: QtRPCServer) -> None:
    class Counter:
        """Calls another one, until nothing is left."""

        def count(self, other: Any, left: int) -> list[int]:
            return [left, *(other.count(self, left - 1) if left else [])]

    with running_server(counter=Counter()) as other:
        remote = RPCClient.get_client(other.address)["counter"]
        assert Counter().count(remote, 6) == [6, 5, 4, 3, 2, 1, 0]


def test_a_call_ends_although_another_one_began_later(application: Any, server: QtRPCServer) -> None:
    first, second = Thing(), Thing()
    with running_server(thing=first) as one, running_server(thing=second) as other:
        outer = RPCClient.get_client(one.address)["thing"].wait(_sync="async")
        remote = RPCClient.get_client(other.address)["thing"]
        results = []

        def wait_within() -> None:
            outer.add_done_callback(lambda _: second.released.set())
            first.released.set()
            results.append(remote.wait())

        QtCore.QTimer.singleShot(0, wait_within)
        results.append(outer.result())
        assert results == ["waited", "waited"]


def test_the_end_of_the_server_need_not_end_the_program(application: Any) -> None:
    server = QtRPCServer(quit_on_close=False)
    server.run_forever()
    late: list[bool] = []

    def use() -> None:
        RPCClient.get_client(server.address).close_server()
        late.append(True)
        application.quit()

    _run(application, use)
    assert late
    assert not server.running()


def test_requests_one_by_one(application: Any, server: QtRPCServer) -> None:
    client = RPCClient(server.address, reentrant=False)
    future = client.send("get_item", {"name": "thing"}, sync="async")
    server._read_and_process_one()
    assert future.result() is server["thing"]


def test_a_process_with_an_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QT_QPA_PLATFORM", "offscreen")
    process = ProcessSpawner(qt=True)
    core = process.client._import("PySide6.QtCore")
    assert core.QCoreApplication.instance().eventDispatcher() is not None
    kind = process.client["self"].__getattr__("__class__").__name__._get_value()
    assert kind == "QtRPCServer"
    process.stop()
    assert process.poll() == 0
