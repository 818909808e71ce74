"""`trionet_compat.sipyco.remote_exec`: both ends ours, and our client with a server of trionet."""

from __future__ import annotations

import asyncio
import atexit
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import trionet
from tests.compat.served import Instrument, port_of, serve, serving
from trionet_compat.sipyco import remote_exec
from trionet_compat.sipyco.pc_rpc import Client, GenericRemoteException, Server
from trionet_compat.sipyco.remote_exec import RemoteExecServer, connect_global_rpc, rexec_targets

HOST = "127.0.0.1"


class Driver:
    def value(self) -> int:
        return 40


@pytest.fixture
def at_exit(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Callable[[], object]]]:
    """What remote code leaves for the end of the interpreter; it is done at the end of the test."""
    left: list[Callable[[], object]] = []
    monkeypatch.setattr(atexit, "register", left.append)
    yield left
    for function in left:
        function()


def _with_server(use: Callable[[int], None]) -> None:
    """Use a server of ours from another thread."""

    async def main() -> None:
        server = Server(rexec_targets("driver", Driver()))
        await server.start(HOST, 0)
        try:
            await asyncio.to_thread(use, server.server.sockets[0].getsockname()[1])
        finally:
            await server.stop()

    asyncio.run(main())


def test_code_runs_beside_the_driver() -> None:
    def use(port: int) -> None:
        client = Client(HOST, port, "driver_rexec")
        client.add_code("def f(x, *, y=0): return controller_driver.value() + x + y")
        assert client.call("f", 1) == 41
        assert client.call("f", 1, y=1) == 42
        with pytest.raises(KeyError):
            client.call("g")
        client.add_code("class Refused(Exception): pass\ndef g(): raise Refused('no')")
        with pytest.raises(GenericRemoteException, match=r"^sipyco\.remote_exec\.Refused: no"):
            client.call("g")
        other = Client(HOST, port, "driver_rexec")
        with pytest.raises(KeyError):
            other.call("f", 1)
        client.add_code("controller_initial_namespace['shared'] = [5]")
        late = Client(HOST, port, "driver_rexec")
        late.add_code("def f(): return shared")
        assert late.call("f") == [5]
        for one in (client, other, late):
            one.close_rpc()

    _with_server(use)


def test_code_has_a_third_server(at_exit: list[Callable[[], object]]) -> None:
    def use(port: int) -> None:
        client = Client(HOST, port, "driver_rexec")
        connect_global_rpc(client, port=port_of(third), target="datasets")
        client.add_code("def f(x): return dataset_db.echo(x)")
        assert client.call("f", "through") == "through"
        late = Client(HOST, port, "driver_rexec")
        connect_global_rpc(late, port=port_of(third), target="datasets")
        assert third.statistics().accepted == 1
        client.close_rpc()
        late.close_rpc()

    with serving({"datasets": Instrument()}) as (_, third):
        _with_server(use)
        assert len(at_exit) == 1
        at_exit.pop()()


def test_a_server_of_trionet_has_a_third_server() -> None:
    with serving({"datasets": Instrument()}) as (portal, third):
        server = serve(portal, trionet.remote_exec_targets("driver", Driver()))
        client = Client(HOST, port_of(server), "driver_rexec")
        connect_global_rpc(client, HOST, port_of(third), "datasets", "db")
        client.add_code("async def f(x): return await db.echo(x)")
        assert client.call("f", "through") == "through"
        client.close_rpc()


def test_names_that_cannot_be_sent() -> None:
    mistakes: list[dict[str, Any]] = [{"name": "a b"}, {"name": "class"}, {"target": "a b"}]
    for options in mistakes:
        with pytest.raises(ValueError, match="'"):
            connect_global_rpc(None, HOST, **options)


UPSTREAM_CODE = """
import math
import sipyco.pyon as pyon
import sipyco.pc_rpc
from sipyco.pc_rpc import Client
from sipyco import pyon_v1
client_class = Client
top = sipyco
"""


@pytest.fixture
def no_upstream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sipyco", None)
    monkeypatch.delitem(sys.modules, "sipyco", raising=False)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if "sipyco" not in path])


@pytest.mark.usefixtures("no_upstream")
def test_code_for_upstream_gets_the_modules_here() -> None:
    server = RemoteExecServer({})
    server.add_code(UPSTREAM_CODE)
    assert server.namespace["client_class"] is Client
    assert server.namespace["top"].__name__ == "trionet_compat.sipyco"
    assert server.namespace["top"].pc_rpc.Client is Client
    assert server.namespace["math"].pi > 3
    for missing in ("import sipyco.nothing", "import no_such_module"):
        with pytest.raises(ModuleNotFoundError):
            server.add_code(missing)


def test_upstream_itself_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    upstream: Any = types.ModuleType("sipyco")
    monkeypatch.setitem(sys.modules, "sipyco", upstream)
    server = RemoteExecServer({"given": 1})
    server.add_code("import sipyco\nfound = sipyco, given")
    assert server.namespace["found"] == (upstream, 1)
    with pytest.raises(ModuleNotFoundError):
        server.add_code("import sipyco.pc_rpc")  # this one has none


def test_the_loop_serves_both_targets(monkeypatch: pytest.MonkeyPatch) -> None:
    served: list[Any] = []
    monkeypatch.setattr(remote_exec, "simple_server_loop", lambda *args: served.append(args))
    driver = Driver()
    remote_exec.simple_rexec_server_loop("driver", driver, HOST, 0, "text")
    ((targets, *rest),) = served
    assert rest == [HOST, 0, "text"]
    assert targets["driver"] is driver
    first, second = targets["driver_rexec"](), targets["driver_rexec"]()
    assert first.namespace is not second.namespace
    assert first.namespace["controller_driver"] is driver
