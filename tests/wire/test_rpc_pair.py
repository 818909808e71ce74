"""A client and a server core linked: values there and back, and every message in pieces and cut short."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.wire.pair import GREETING, METHODS, OLD_GREETING, RpcPair, feed
from tests.wire.values import SAMPLES, identical, pyon_values
from trionet.wire.packed_exceptions import PackedException
from trionet.wire.rpc import ClientConnection, MethodsReceived, Reply, ServerConnection
from trionet.wire.rpc_messages import BadRequest, Call, ListMethods

ROUND = settings(max_examples=100, deadline=None)

versions = pytest.mark.parametrize("version", [1, 2])
names = st.text(max_size=5)


def exchange(pair: RpcPair, method: str, args: Any, kwargs: Any, result: Any) -> None:
    """One call and its result, compared on both sides."""
    call_id, line = pair.client.call(method, args, kwargs)
    request = pair.to_server(line)
    assert isinstance(request, Call)
    assert request.method == method
    assert identical([*request.args], [*args])
    assert identical(request.kwargs, kwargs)
    reply = pair.to_client(pair.server.send_result(result))
    assert isinstance(reply, Reply)
    assert (reply.call_id, reply.failure) == (call_id, None)
    assert identical(reply.result, result)


@versions
@ROUND
@given(names, st.lists(pyon_values, max_size=3), st.dictionaries(names, pyon_values, max_size=2), pyon_values)
def test_any_call_arrives(version: int, method: str, args: Any, kwargs: Any, result: Any) -> None:
    if "__jsonclass__" not in kwargs:
        exchange(RpcPair(version), method, args, kwargs, result)


@versions
@pytest.mark.parametrize("value", SAMPLES, ids=repr)
@pytest.mark.parametrize("piece", [1, 7])
def test_samples_in_pieces(version: int, value: Any, piece: int) -> None:
    exchange(RpcPair(version, piece), "echo", (value,), {"k": value}, value)


@versions
@ROUND
@given(st.text(max_size=9), st.text(max_size=9), st.lists(st.text(max_size=9), max_size=2))
def test_any_failure_arrives(version: int, class_name: str, message: str, traceback: list[str]) -> None:
    pair = RpcPair(version)
    call_id, line = pair.client.list_methods()
    assert pair.to_server(line) == ListMethods()
    packed = PackedException(class_name, message, tuple(traceback))
    assert pair.to_client(pair.server.send_failure(packed)) == Reply(call_id, None, packed)


@versions
@ROUND
@given(st.lists(st.sampled_from(["call", "list", "fail", "abandon", "withdraw"]), max_size=12), st.data())
def test_replies_find_their_calls(version: int, actions: list[str], data: st.DataObject) -> None:
    """Many requests under way, cut and glued at random."""
    pair = RpcPair(version)
    stream, expected = b"", []
    for number, action in enumerate(actions):
        call_id, line = (
            pair.client.list_methods() if action == "list" else pair.client.call(action, (number,), {})
        )
        if action == "withdraw":
            pair.client.withdraw(call_id)
            continue
        stream += line
        if action == "abandon":
            pair.client.abandon(call_id)
        else:
            expected.append((call_id, action, number))
    answers = b""
    while stream:
        length = data.draw(st.integers(1, len(stream)))
        pair.server.receive_data(stream[:length])
        stream = stream[length:]
        while (request := pair.server.next_event()) is not None:
            if isinstance(request, Call) and request.method == "fail":
                answers += pair.server.send_failure(PackedException("ValueError", str(request.args[0]), ()))
            else:
                answers += pair.server.send_result(
                    request.args[0] if isinstance(request, Call) else "methods"
                )
    replies = []
    while answers:
        length = data.draw(st.integers(1, len(answers)))
        pair.client.receive_data(answers[:length])
        answers = answers[length:]
        while isinstance(reply := pair.client.next_event(), Reply):
            replies.append(reply)
    assert [reply.call_id for reply in replies] == [call_id for call_id, _, _ in expected]
    for reply, (_, action, number) in zip(replies, expected, strict=True):
        if action == "fail":
            assert reply.failure == PackedException("ValueError", str(number), ())
        else:
            assert reply.result == (number if action == "call" else "methods")
    assert pair.client.calls_in_flight == 0


# -- every message in two pieces, and cut short ----------------------------------------------------------


def request_lines(version: int) -> list[bytes]:
    """What a client sends in a whole session."""
    client = ClientConnection()
    lines = [client.greet()]
    feed(client, GREETING if version == 2 else OLD_GREETING)
    lines.append(client.select_target("echo"))
    feed(client, server_lines(version)[1])
    lines += [client.call("echo", (value,), {"k": value})[1] for value in SAMPLES[::3]]
    return [*lines, client.list_methods()[1], b'{"action":"dance"}\n']


def server_session(version: int, count: int) -> ServerConnection:
    """A server that has answered the first `count` lines of a session."""
    server = ServerConnection(["echo"])
    for line in request_lines(version)[:count]:
        feed(server, line)
        answer(server)
    return server


def answer(server: ServerConnection) -> bytes:
    """Send what the state of the server asks for."""
    match server.state.name:
        case "SEND_GREETING":
            return server.greet()
        case "SEND_METHODS":
            return server.send_methods(METHODS)
    return server.send_result((1, {"a": b"b"}))


def server_lines(version: int) -> list[bytes]:
    """What a server sends in a whole session."""
    server = ServerConnection(["echo"])
    feed(server, b"ARTIQ pc_rpc\n")
    greeting = server.greet()
    feed(server, b"echo pyon_v2\n" if version == 2 else b"echo\n")
    lines = [greeting if version == 2 else OLD_GREETING, server.send_methods(METHODS)]
    for value in SAMPLES[1::3]:
        feed(server, b'{"action":"get_rpc_method_list"}\n')
        lines.append(server.send_result([value]))
    feed(server, b'{"action":"get_rpc_method_list"}\n')
    return [*lines, server.send_failure(PackedException("ValueError", "no \u269b", ("  File\n",)))]


def client_session(version: int, count: int) -> ClientConnection:
    """A client that has received the first `count` lines of a session and waits for the next."""
    client = ClientConnection()
    client.greet()
    for number, line in enumerate(server_lines(version)[: count + 1]):
        if number == 1:
            client.select_target("echo")
        elif number > 1:
            client.call("echo", (), {})
        if number < count:
            feed(client, line)
    return client


def check_all_cuts(make: Callable[[], Any], line: bytes) -> None:
    """No event before the whole line is there, then the same one wherever the line was cut."""
    whole = feed(make(), line)
    for cut in range(len(line)):
        core = make()
        core.receive_data(line[:cut])
        state = core.state
        assert core.next_event() is None
        assert core.state is state
        assert core.buffered == cut
        assert same_event(feed(core, line[cut:]), whole)
    core = make()
    for index in range(len(line) - 1):
        core.receive_data(line[index : index + 1])
        assert core.next_event() is None
    assert same_event(feed(core, line[-1:]), whole)


def same_event(left: Any, right: Any) -> bool:
    if isinstance(left, BadRequest):
        return type(left) is type(right) and repr(left.error) == repr(right.error)
    if isinstance(left, Reply):
        return (
            identical((left.call_id, left.result), (right.call_id, right.result))
            and left.failure == right.failure
        )
    if isinstance(left, Call):
        return identical((left.method, left.args, left.kwargs), (right.method, right.args, right.kwargs))
    return bool(left == right)


@versions
def test_every_line_of_a_client_in_two_pieces(version: int) -> None:
    for number, line in enumerate(request_lines(version)):
        check_all_cuts(partial(server_session, version, number), line)


@versions
def test_every_line_of_a_server_in_two_pieces(version: int) -> None:
    for number, line in enumerate(server_lines(version)):
        check_all_cuts(partial(client_session, version, number), line)


@versions
def test_handshake(version: int) -> None:
    client, server = client_session(version, 1), server_session(version, 2)
    assert client.pyon_version == server.pyon_version == version
    assert feed(client, server_lines(version)[1]) == MethodsReceived(frozenset(METHODS))
