"""`trionet_compat.sipyco.pc_rpc.Client` over loopback."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import trionet
from tests.compat.served import Instrument, port_of, serve, serving
from trionet_compat.portal import Portal
from trionet_compat.sipyco.pc_rpc import AutoTarget, Client, GenericRemoteException, IncompatibleServer

HOST = "127.0.0.1"
CLOSED = "Connection closed before a full line was received."


@pytest.fixture
def instrument() -> Instrument:
    return Instrument()


@pytest.fixture
def lab(instrument: Instrument) -> Iterator[tuple[Portal, trionet.RpcServer]]:
    with serving({"laser": instrument}, description="of room 3", allow_parallel=True) as lab:
        yield lab


@pytest.fixture
def server(lab: tuple[Portal, trionet.RpcServer]) -> trionet.RpcServer:
    return lab[1]


@pytest.fixture
def client(server: trionet.RpcServer) -> Iterator[Client]:
    client = Client(HOST, port_of(server))
    yield client
    client.close_rpc()


def test_calls(client: Client) -> None:
    assert client.add(1) == 6
    assert client.add(1, 1, c=1) == 3
    assert client.echo((1, b"2", {3: None})) == (1, b"2", {3: None})
    np.testing.assert_array_equal(client.echo(np.arange(3)), np.arange(3))


def test_who_the_server_is(client: Client, server: trionet.RpcServer) -> None:
    assert client.get_rpc_id() == (["laser"], "of room 3")
    assert client.get_selected_target() == "laser"
    assert client.get_local_host() == HOST
    assert repr(client) == f"<Client connected to 127.0.0.1:{port_of(server)}>"


def test_the_method_list(client: Client) -> None:
    listed = client.get_rpc_method_list()
    assert listed["docstring"] == "An instrument."
    spec, docstring = listed["methods"]["add"]
    assert spec == {
        "args": ["self", "a", "b"],
        "varargs": None,
        "varkw": None,
        "defaults": (2,),
        "kwonlyargs": ["c"],
        "kwonlydefaults": {"c": 3},
        "annotations": {"a": "int", "b": "int", "c": "int", "return": "int"},
    }
    assert docstring is None
    assert listed["methods"]["echo"][1] == "Returns its argument."


def test_what_is_no_method_is_no_attribute(client: Client) -> None:
    assert hasattr(client, "echo")
    assert not hasattr(client, "notify_run_end")
    with pytest.raises(AttributeError) as info:
        _ = client.ecko
    assert info.value.name == "ecko"


def test_a_target_that_is_selected_later(server: trionet.RpcServer) -> None:
    client = Client(HOST, port_of(server), None)
    assert client.get_selected_target() is None
    assert not hasattr(client, "echo")
    client.select_rpc_target(client.get_rpc_id()[0][0])
    assert client.get_selected_target() == "laser"
    assert client.echo(1) == 1
    client.close_rpc()


@pytest.mark.parametrize(
    ("targets", "wanted", "error", "text"),
    [
        (["a", "b"], "c", IncompatibleServer, "valid target name(s): a b"),
        (["b", "a"], AutoTarget, ValueError, "Server has multiple targets: a b"),
        ([], AutoTarget, IndexError, "Server has no targets"),
    ],
)
def test_a_target_that_cannot_be_selected(
    targets: list[str], wanted: Any, error: type[Exception], text: str
) -> None:
    with serving(dict.fromkeys(targets, Instrument())) as (portal, server):
        with pytest.raises(error) as info:
            Client(HOST, port_of(server), wanted)
        assert str(info.value) == text
        portal.call(server.aclose)  # waits for its connections: there are none left
        assert server.accepted == 1


def test_a_server_that_is_not_there(lab: tuple[Portal, trionet.RpcServer]) -> None:
    portal, server = lab
    portal.call(server.aclose)
    with pytest.raises(ConnectionRefusedError):
        Client(HOST, port_of(server))


def test_a_builtin_exception_of_a_method(client: Client) -> None:
    with pytest.raises(ValueError, match="no power") as info:
        client.fail("no power")
    assert str(info.value) == "no power"
    assert "served.py" in info.value.parent_traceback[-1]  # type: ignore[attr-defined]


def test_another_exception_of_a_method(client: Client) -> None:
    with pytest.raises(GenericRemoteException) as info:
        client.fail_oddly()
    assert str(info.value) == "tests.compat.served.Refused: not now"
    assert "fail_oddly" in info.value.parent_traceback[-1]
    assert any("Remote traceback" in note for note in info.value.__notes__)


def test_a_relayed_exception_keeps_its_name(lab: tuple[Portal, trionet.RpcServer], client: Client) -> None:
    class Relay:
        async def fail_oddly(self) -> None:
            async with trionet.open_rpc_client(HOST, port_of(lab[1])) as inner:
                try:
                    await inner.call("fail_oddly")
                except trionet.RemoteError as error:
                    raise GenericRemoteException(error.message, error.call) from error

    relay = Client(HOST, port_of(serve(lab[0], {"relay": Relay()})))
    with pytest.raises(GenericRemoteException) as info:
        relay.fail_oddly()
    assert str(info.value) == "tests.compat.served.Refused: not now"
    relay.close_rpc()


def test_what_cannot_be_sent_does_no_harm(client: Client) -> None:
    with pytest.raises(TypeError, match="Object of type `object` is not PYON encodable"):
        client.echo(object())
    assert client.echo(1) == 1


@pytest.mark.parametrize("kind", [EOFError, ConnectionResetError, BrokenPipeError, trionet.ConnectionLost])
def test_a_lost_connection_is_all_that_programs_expect(
    lab: tuple[Portal, trionet.RpcServer], client: Client, kind: type[Exception]
) -> None:
    portal, server = lab
    portal.call(server.aclose)
    for _ in range(2):
        with pytest.raises(kind) as info:
            client.echo(1)
        assert str(info.value) == CLOSED
    with pytest.raises(OSError, match="is lost"):
        client.get_local_host()


def test_a_server_that_is_none(lab: tuple[Portal, trionet.RpcServer]) -> None:
    publisher = lab[0].start(trionet.serve_publisher, {"x": trionet.Notifier({})}, 0)
    with pytest.raises(EOFError):
        Client(HOST, port_of(publisher))


def test_after_closing(client: Client) -> None:
    client.close_rpc()
    client.close_rpc()
    for use in (lambda: client.echo(1), client.get_local_host, client.get_rpc_method_list):
        with pytest.raises(OSError, match="has been closed") as info:
            use()
        assert info.value.errno == errno.EBADF
    assert client.get_rpc_id() == (["laser"], "of room 3")


def test_a_timeout_that_is_none(server: trionet.RpcServer) -> None:
    with pytest.raises(ValueError, match="Timeout value out of range"):
        Client(HOST, port_of(server), timeout=-1)
