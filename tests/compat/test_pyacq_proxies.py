"""Proxies whose use blocks: calls, attributes, operators, options, references."""

from __future__ import annotations

import concurrent.futures
import copy
import datetime
import gc
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from tests.compat.pyacq_things import Thing, in_thread, lazy_server, running_server
from trionet_compat.pyacq.core.rpc import ObjectProxy, RemoteCallException, RPCClient, RPCServer

pytestmark = pytest.mark.usefixtures("own_portal")


@pytest.fixture
def server() -> Iterator[RPCServer]:
    with running_server(thing=Thing()) as running:
        yield running


@pytest.fixture(params=["msgpack", "json"])
def client(request: pytest.FixtureRequest, server: RPCServer) -> RPCClient:
    return RPCClient(server.address, serializer=request.param)


@pytest.fixture
def thing(client: RPCClient) -> Any:
    return client["thing"]


@pytest.mark.parametrize("value", [None, True, -3, 1 << 60, 1.5, "ä€", [1, [2.0]], {"a": {"b": None}}])
def test_plain_results_are_copies(thing: Any, value: Any) -> None:
    assert thing.echo(value) == value
    assert type(thing.echo(value)) is type(value)


def test_arrays_are_copies(thing: Any) -> None:
    assert np.array_equal(thing.array(), np.arange(6.0).reshape(2, 3))


@pytest.mark.parametrize("value", [b"\0\xff", datetime.datetime(2020, 1, 2), datetime.date(2020, 1, 2)])
def test_other_results_are_proxies_unless_a_copy_is_asked_for(thing: Any, value: Any) -> None:
    assert isinstance(thing.echo(value), ObjectProxy)
    assert thing.echo(value, _return_type="value") == value
    assert thing.echo([value]) == [value]


def test_a_proxy_is_made_of_anything_that_is_asked_for(thing: Any) -> None:
    five = thing.add(2, 3, _return_type="proxy")
    assert isinstance(five, ObjectProxy)
    assert five._get_value() == 5


def test_arguments_have_names(thing: Any) -> None:
    assert thing.add(1, second=2) == 3


def test_attributes_are_local_until_they_are_used(thing: Any) -> None:
    nothing = thing.there.is_no.such_attribute
    assert isinstance(nothing, ObjectProxy)
    with pytest.raises(RemoteCallException) as caught:
        nothing()
    assert caught.value.type_str == "AttributeError"
    assert thing.value._get_value() == 5
    assert thing.value._undefer() == 5
    assert thing._undefer() is thing


def test_attributes_are_looked_up_at_once_where_that_is_wanted(thing: Any) -> None:
    thing._set_proxy_options(defer_getattr=False)
    assert thing.value == 5
    assert type(thing.value) is int


def test_errors_have_a_class_and_a_traceback(thing: Any) -> None:
    with pytest.raises(RemoteCallException) as caught:
        thing.fail()
    assert caught.value.type_str == "ValueError"
    assert isinstance(caught.value.tb_str, list)
    assert str(caught.value).startswith("\n===> Remote exception was:\n")
    assert "in fail\n" in str(caught.value)
    assert str(caught.value).endswith("ValueError: the text\n")


def test_assignments_are_made_without_waiting(thing: Any) -> None:
    thing.value = {"a": 1}
    thing.value["b"] = 2
    assert thing.value._get_value() == {"a": 1, "b": 2}


def test_operators(thing: Any) -> None:
    ten = thing.add(4, 6, _return_type="proxy")
    assert (ten + 1, ten - 1, ten * 2, ten / 4, ten // 4, ten % 4, ten**2) == (11, 9, 20, 2.5, 2, 2, 100)
    assert (ten << 1, ten >> 1, ten & 2, ten | 5, ten ^ 3) == (20, 5, 2, 15, 9)
    assert (1 + ten, 1 - ten, 2 * ten, 5 / ten, 25 // ten, 12 % ten, 2**ten) == (11, -9, 20, 0.5, 2, 2, 1024)
    assert (1 << ten, 4096 >> ten, 2 & ten, 5 | ten, 3 ^ ten) == (1024, 4, 2, 15, 9)
    assert (ten > 9, ten < 9, ten >= 10, ten <= 9, ten == 10, ten != 10) == (
        *(True, False, True, False),
        *(True, False),
    )
    assert np.float64(2) + thing.add(4.0, 6.0, _return_type="proxy") == 12


def test_in_place_operators_leave_the_proxy(thing: Any) -> None:
    items = thing.echo([1], _return_type="proxy")
    same = items
    items += [2]
    assert items is same
    assert items._get_value() == [1, 2]


def test_containers(thing: Any) -> None:
    items = thing.echo([3, 4], _return_type="proxy")
    assert (len(items), items[1], list(items), 4 in items, 5 in items) == (2, 4, [3, 4], True, False)
    assert (bool(items), bool(thing), bool(thing.echo([], _return_type="proxy"))) == (True, True, False)
    with pytest.raises(RemoteCallException) as caught:
        items[2]
    assert caught.value.type_str == "IndexError"


def test_operators_that_objects_do_not_support(thing: Any) -> None:
    assert (thing == 3) is False
    assert (thing != 3) is True
    with pytest.raises(TypeError):
        thing < 3  # noqa: B015
    with pytest.raises(TypeError):
        thing.value + "text"


def test_proxies_of_the_same_are_equal_without_asking(thing: Any, client: RPCClient) -> None:
    other = client["thing"]
    assert other is not thing
    requests = client.next_request_id
    assert thing == other
    assert hash(thing) == hash(other)
    assert {thing: 1}[other] == 1
    assert [thing].index(other) == 0
    assert hash(thing.value) == hash(other.value) != hash(thing)
    assert client.next_request_id == requests
    assert thing.value != thing.calls


def test_repr_is_local(thing: Any, server: RPCServer) -> None:
    address = server.address.decode()
    kind = "<class 'tests.compat.pyacq_things.Thing'>"
    assert repr(thing.calls) == str(thing.calls) == f"<ObjectProxy for {address}[0] {kind}.calls >"


def test_what_is_saved_makes_the_same_proxy(thing: Any) -> None:
    again = ObjectProxy(**thing.add._save())
    assert again(1) == 2
    assert again == thing.add
    assert thing.add._copy()(2) == 3
    assert copy.copy(thing.add)(3) == 4
    assert ObjectProxy(thing._rpc_addr, thing._obj_id, thing._ref_id).add(1) == 2


def test_options(thing: Any) -> None:
    thing._set_proxy_options(sync="async", return_type="proxy")
    future = thing.add(1)
    assert future.result()._get_value() == 2
    assert thing.add(1, _sync="sync", _return_type="auto") == 2
    assert thing.add._proxy_options["sync"] == "async"
    assert thing._deferred_attr("add", sync="off")(1) is None
    with pytest.raises(KeyError, match="Unrecognized proxy option 'x'"):
        thing._set_proxy_options(x=1)
    with pytest.raises(KeyError, match="Unrecognized proxy option 'y'"):
        ObjectProxy("tcp://127.0.0.1:1", 0, 0, y=1)


def test_a_client_has_options_for_all_that_comes(client: RPCClient) -> None:
    client.default_proxy_options["defer_getattr"] = False
    assert type(client["thing"].value) is int


def test_a_reference_that_was_deleted_is_of_no_more_use(thing: Any, client: RPCClient) -> None:
    other = thing.same()
    other._delete()
    assert thing.add(1) == 2
    for use in (other.same, other._delete):
        with pytest.raises(RemoteCallException) as caught:
            use()
        assert caught.value.type_str == "KeyError"


def test_objects_live_until_their_references_are_deleted(server: RPCServer, client: RPCClient) -> None:
    server["kind"] = Thing
    gc.collect()
    before = Thing.alive
    made = client["kind"]()
    made.echo(1)
    client["kind"]()  # of this one, nobody keeps the proxy
    gc.collect()
    client.ping()
    assert Thing.alive == before + 2
    made._delete()
    assert Thing.alive == before + 1


def test_objects_are_released_with_their_last_proxy_where_that_is_wanted(
    server: RPCServer, client: RPCClient
) -> None:
    server["kind"] = Thing
    gc.collect()
    before = Thing.alive
    for _ in range(20):
        made = client["kind"]()
        made._set_proxy_options(auto_delete=True)
        method, copied = made.add, made._copy()
        assert made.echo(1) == 1  # with a child that is collected
        del made, method
        assert copied.add(1) == 2
        assert Thing.alive == before + 1
        del copied
        assert client["thing"].add(1) == 2
        assert Thing.alive == before


def test_proxies_that_were_passed_on_release_nothing(server: RPCServer, client: RPCClient) -> None:
    with running_server(thing=Thing()) as other:
        kept = client.transfer([1])
        kept._set_proxy_options(auto_delete=True)
        other_thing = RPCClient.get_client(other.address)["thing"]
        other_thing.echo(kept)
        del kept
        assert client.ping() == "pong"
        assert other["thing"].calls.pop()[0] == 1


def _have_the_thread_let_go(server: RPCServer) -> None:
    """The thread of the server keeps what it works on until it comes to the next request."""
    assert RPCClient.get_client(server.address)["thing"].add(1) == 2


def test_threads_that_share_a_proxy_release_it_together(server: RPCServer, client: RPCClient) -> None:
    """Each has a connection of its own, and who uses a reference holds it."""
    server["kind"] = Thing
    gc.collect()
    before = Thing.alive
    with concurrent.futures.ThreadPoolExecutor(1) as other:
        for _ in range(5):
            made = client["kind"]()
            made._set_proxy_options(auto_delete=True)
            assert other.submit(made.add, 1).result() == 2
            del made
            assert client.ping() == "pong"
            other.submit(lambda: _have_the_thread_let_go(server)).result()
            assert Thing.alive == before


@pytest.mark.parametrize("users", ["both", "one"])
def test_any_thread_deletes_references(server: RPCServer, client: RPCClient, users: str) -> None:
    server["kind"] = Thing
    gc.collect()
    before = Thing.alive
    with concurrent.futures.ThreadPoolExecutor(1) as other:
        made = client["kind"]()
        if users == "both":
            assert other.submit(made.add, 1).result() == 2
        other.submit(made._delete).result()
        assert client.ping() == "pong"
        _have_the_thread_let_go(server)
        assert Thing.alive == before
        with pytest.raises(RemoteCallException, match="KeyError"):
            made._delete()


def test_threads_share_proxies(thing: Any) -> None:
    assert in_thread(thing.add, 1) == 2
    assert in_thread(lambda: thing.calls._get_value()) == []


def test_what_cannot_be_copied_needs_a_server_of_this_thread(thing: Any) -> None:
    value = object()
    with pytest.raises(TypeError, match=r"^Cannot make proxy to <object .*> without proxy server\.$"):
        thing.echo(value)
    with lazy_server():
        assert thing.echo(value) is value
    with pytest.raises(TypeError):
        thing.echo(value)
    assert thing.echo(1) == 1
