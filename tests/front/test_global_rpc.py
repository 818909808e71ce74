"""A third server for remote code: `connect_global_rpc` and `GlobalRpc`."""

from __future__ import annotations

import atexit
import contextlib
import inspect
import ssl
import sys
from collections.abc import AsyncIterator
from types import ModuleType
from typing import Any

import pytest
import trio
import trio.testing
import trustme

import trionet
from tests.front.test_remote_exec import Driver, connected, serving
from trionet.rpc.remote_exec import (
    GlobalRpc,
    RemoteExec,
    connect_global_rpc,
    open_remote_exec,
    serve_remote_exec,
)
from trionet.testing import open_memory_rpc_client


class Datasets:
    def __init__(self) -> None:
        self.values = {"key": 1}

    def get(self, key: str) -> int:
        return self.values[key]

    async def slow(self) -> str:
        await trio.testing.wait_all_tasks_blocked()
        return "slow"


USE = """
async def get(key):
    return await dataset_db.get(key)

def identity():
    return id(dataset_db)

def names():
    return set(globals())
"""


@contextlib.asynccontextmanager
async def serving_datasets(port: int = 0) -> AsyncIterator[trionet.RpcServer]:
    async with trio.open_nursery() as nursery:
        serve: Any = trionet.serve_rpc
        server = await nursery.start(serve, {"master_dataset_db": Datasets()}, port)
        yield server
        await server.aclose()


async def test_connect_global_rpc() -> None:
    async with serving_datasets() as third, serving() as connect:
        async with connect() as earlier, connect() as remote:
            await remote.add_code(USE)
            before = await remote.call("names")
            await connect_global_rpc(remote, "127.0.0.1", third.port)
            assert await remote.call("names") - before == {"dataset_db"}
            assert await remote.call("get", "key") == 1
            with pytest.raises(KeyError, match="nope"):
                await remote.call("get", "nope")
            identity = await remote.call("identity")
            # Once for the whole server, and what is there stays, also for those that were there before.
            await earlier.add_code(USE)
            with pytest.raises(NameError):
                await earlier.call("identity")
            await earlier.add_code("dataset_db = None")
            await connect_global_rpc(earlier, "other host", 1, "other_target")
            assert await earlier.call("identity") == identity
        async with connect() as later:
            await later.add_code(USE)
            assert await later.call("identity") == identity
            assert await later.call("get", "key") == 1
            await connect_global_rpc(later, "127.0.0.1", third.port, name="db")
            await later.add_code("async def get_db(key): return await db.get(key)")
            assert await later.call("get_db", "key") == 1


async def test_connect_global_rpc_does_not_replace_the_driver() -> None:
    async with connected() as remote:
        await connect_global_rpc(remote, "host", name="controller_driver")
        await remote.add_code("def f(): return controller_driver.value()")
        assert await remote.call("f") == 42


async def test_this_host_as_the_other_server_sees_it() -> None:
    async with serving_datasets() as third, trio.open_nursery() as nursery:
        server: trionet.RpcServer = await nursery.start(serve_remote_exec, "dev", Driver(), 0)
        async with open_remote_exec("127.0.0.1", server.port, "dev") as remote:
            await connect_global_rpc(remote, port=third.port)
            await remote.add_code(USE + "\ndef text(): return repr(dataset_db)")
            assert await remote.call("get", "key") == 1
            text = f"<GlobalRpc of target 'master_dataset_db' at 127.0.0.1:{third.port}>"
            assert await remote.call("text") == text
        assert remote.client.local_host is None
        await server.aclose()


async def test_this_host_behind_tls() -> None:
    authority = trustme.CA()
    server_context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(server_context)
    client_context = ssl.create_default_context()
    authority.configure_trust(client_context)
    async with trio.open_nursery() as nursery:
        server: trionet.RpcServer = await nursery.start(
            lambda **kw: serve_remote_exec("dev", Driver(), 0, ssl_context=server_context, **kw)
        )
        async with open_remote_exec("localhost", server.port, "dev", ssl_context=client_context) as remote:
            assert remote.client.local_host == "127.0.0.1"
        await server.aclose()


async def test_no_host_of_a_memory_stream() -> None:
    async with connected() as remote:
        with pytest.raises(ValueError, match="name the host"):
            await connect_global_rpc(remote)


@pytest.mark.parametrize("name", ["", "two words", "1st", "a.b", "class", "x=1", "dataset_db\n"])
async def test_names_that_are_none(name: str) -> None:
    async with connected() as remote:
        with pytest.raises(ValueError, match="cannot be a name"):
            await connect_global_rpc(remote, "host", name=name)
        with pytest.raises(ValueError, match="one word"):
            await connect_global_rpc(remote, "host", target="two words")


class Client:
    """Stands in for the class of that name in sipyco."""

    made: list[Any]

    def __init__(self, *args: Any) -> None:
        if args[0] == "unreachable":
            raise ConnectionRefusedError("refused")
        self.made.append(args)

    def close_rpc(self) -> None: ...


@pytest.fixture
def at_exit(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """As if sipyco could be imported. Returns what is registered for the end of the process."""
    modules = ModuleType("sipyco"), ModuleType("sipyco.pc_rpc")
    modules[1].Client = Client  # type: ignore[attr-defined]
    for module in modules:
        monkeypatch.setitem(sys.modules, module.__name__, module)
    Client.made = []
    registered: list[Any] = []
    monkeypatch.setattr(atexit, "register", registered.append)
    return registered


class Upstream:
    """A target that executes code as upstream does, without what only our servers define."""

    def __init__(self, shared: dict[str, Any]) -> None:
        self.namespace = dict(shared)

    def add_code(self, code: str) -> None:
        exec(code, self.namespace)


async def test_the_code_on_a_server_of_upstream(at_exit: list[Any]) -> None:
    shared: dict[str, Any] = {}
    shared["controller_initial_namespace"] = shared
    made = [Upstream(shared), Upstream(shared)]
    arguments = "it's {\"a\"}\\\n'''", 1, "\"'{target}\\", "db"
    for number, target in enumerate(made):
        async with open_memory_rpc_client({"dev_rexec": target}) as client:
            remote = RemoteExec(client)
            if number == 0:
                with pytest.raises(ConnectionRefusedError):
                    await connect_global_rpc(remote, "unreachable", name="db")
            await connect_global_rpc(remote, *arguments)
    assert Client.made == [arguments[:3]]
    assert at_exit == [shared["db"].close_rpc]
    assert shared.keys() == {"controller_initial_namespace", "db"}
    for target in made:
        assert target.namespace.keys() == {"__builtins__", "controller_initial_namespace", "db"}
        assert target.namespace["db"] is shared["db"]


async def test_our_server_does_not_use_sipyco_even_if_it_is_there(at_exit: list[Any]) -> None:
    async with connected() as remote:
        await connect_global_rpc(remote, "unreachable")
    assert Client.made == at_exit == []


async def test_global_rpc() -> None:
    async with serving_datasets() as third:
        port = third.port
        db = GlobalRpc("127.0.0.1", port, "master_dataset_db")
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(db.get, "key")
        assert await db.slow() == "slow"
        assert third.statistics().accepted == 4
        assert inspect.iscoroutinefunction(db.get)
        assert db.get.__name__ == "get"
        with pytest.raises(KeyError, match="nope"):
            await db.get("nope")
        with pytest.raises(AttributeError, match="no method 'nope'"):
            await db.nope()
        for name in ("_private", "__wrapped__"):
            assert not hasattr(db, name)
    with pytest.raises(ConnectionRefusedError):
        await db.get("key")
    async with serving_datasets(port):
        assert await db.get("key") == 1


async def test_a_global_rpc_with_tls_in_the_namespace() -> None:
    authority = trustme.CA()
    server_context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(server_context)
    client_context = ssl.create_default_context()
    authority.configure_trust(client_context)
    async with trio.open_nursery() as nursery:
        third: trionet.RpcServer = await nursery.start(
            lambda **kw: trionet.serve_rpc({"it": Datasets()}, 0, ssl_context=server_context, **kw)
        )
        db = GlobalRpc("localhost", third.port, "it", ssl_context=client_context)
        async with connected(namespace={"dataset_db": db}) as remote:
            await connect_global_rpc(remote, "other host")
            await remote.add_code(USE)
            assert await remote.call("get", "key") == 1
        await third.aclose()
