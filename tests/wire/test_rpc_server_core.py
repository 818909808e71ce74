"""`ServerConnection`: its states, what ends it, what gets an answer, and when lines wait."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.wire.pair import cut, feed, server_in
from trionet.wire.errors import LocalProtocolError, RemoteProtocolError
from trionet.wire.packed_exceptions import PackedException
from trionet.wire.rpc import ClientArrived, ServerConnection, State, TargetSelected
from trionet.wire.rpc_messages import BadRequest, Call, ListMethods

STATES = [
    *(State.WAIT_BANNER, State.SEND_GREETING, State.WAIT_TARGET, State.SEND_METHODS),
    *(State.WAIT_REQUEST, State.SEND_REPLY, State.CLOSED),
]
REQUEST = b'{"action":"call","name":"echo","args":[1],"kwargs":{}}\n'

# What this side may do: method, the state it belongs to, the state it leads to.
STEPS: list[tuple[str, Callable[[ServerConnection], bytes], State, State]] = [
    ("greet", ServerConnection.greet, State.SEND_GREETING, State.WAIT_TARGET),
    ("methods", lambda server: server.send_methods(["f"]), State.SEND_METHODS, State.WAIT_REQUEST),
    ("result", lambda server: server.send_result(1), State.SEND_REPLY, State.WAIT_REQUEST),
    (
        "failure",
        lambda server: server.send_failure(PackedException("ValueError", "no", ())),
        State.SEND_REPLY,
        State.WAIT_REQUEST,
    ),
]


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("step", STEPS, ids=lambda step: str(step[0]))
def test_every_method_in_every_state(step: Any, state: State) -> None:
    _, method, allowed, next_state = step
    server = server_in(state)
    if state is allowed:
        line = method(server)
        assert line.endswith(b"\n")
        assert line.count(b"\n") == 1
        assert server.state is next_state
    else:
        with pytest.raises(LocalProtocolError, match=state.name):
            method(server)
        assert server.state is state  # nothing has happened


@pytest.mark.parametrize("state", STATES)
def test_close_in_every_state(state: State) -> None:
    server = server_in(state)
    server.close()
    assert server.state is State.CLOSED
    server.receive_data(b"ARTIQ pc_rpc\n")
    assert server.next_event() is None
    assert server.buffered == 0


@pytest.mark.parametrize("state", STATES)
def test_nothing_received_is_no_event(state: State) -> None:
    server = server_in(state)
    assert server.next_event() is None
    server.receive_data(b"")
    assert server.next_event() is None
    assert server.state is state


@pytest.mark.parametrize("state", [State.SEND_GREETING, State.SEND_METHODS, State.SEND_REPLY])
def test_lines_wait_while_it_is_this_sides_turn(state: State) -> None:
    server = server_in(state)
    server.receive_data(b"not anything\n" * 3)
    assert server.next_event() is None
    assert server.state is state
    assert server.buffered >= len(b"not anything" * 3)


@pytest.mark.parametrize(
    ("state", "line"),
    [(State.WAIT_BANNER, b"ARTIQ pc_rpc"), (State.WAIT_TARGET, b"echo"), (State.WAIT_REQUEST, REQUEST[:-1])],
)
def test_line_without_its_end_is_no_line(state: State, line: bytes) -> None:
    """Upstream takes it for one at the end of the stream, and cuts the last byte of some."""
    server = server_in(state)
    server.receive_data(line)
    server.close()
    assert server.next_event() is None


def test_everything_pipelined_behind_the_banner() -> None:
    server = ServerConnection(["echo"])
    server.receive_data(
        b"ARTIQ pc_rpc\necho pyon_v2\n" + REQUEST + b'{"action":"get_rpc_method_list"}\n' + REQUEST
    )
    assert server.next_event() == ClientArrived()
    assert server.next_event() is None
    server.greet()
    assert server.next_event() == TargetSelected("echo")
    assert server.next_event() is None
    server.send_methods(["echo"])
    for event in (Call("echo", [1], {}), ListMethods(), Call("echo", [1], {})):
        assert server.next_event() == event
        assert server.next_event() is None
        server.send_result(None)
    assert server.next_event() is None
    assert server.buffered == 0


@pytest.mark.parametrize(
    "line",
    [
        *(
            b"ARTIQ other",
            b"ARTIQ pc_rpc\r",
            b"ARTIQ pc_rpc ",
            b" ARTIQ pc_rpc",
            b"artiq pc_rpc",
            b"ARTIQ pc_rp",
        ),
        *(b"", b"\xff", b"GET / HTTP/1.1\r", b"ARTIQ sync_struct"),
    ],
)
def test_wrong_banner(line: bytes) -> None:
    server = ServerConnection(["echo"])
    server.receive_data(line + b"\n")
    with pytest.raises(RemoteProtocolError, match="banner"):
        server.next_event()
    assert server.state is State.CLOSED
    assert server.next_event() is None


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"nope pyon_v2", "unknown target 'nope'"),
        (b"nope", "unknown target 'nope'"),
        (b"", "unknown target ''"),
        (b"Echo", "unknown target"),
        (b"echo\r", "unknown target"),
        (b"echo pyon_v2\r", "unknown feature"),
        (b"echo pyon_v2 future", "unknown feature 'future'"),
        (b"echo future", "unknown feature 'future'"),
        (b"nope future", "unknown feature 'future'"),
        (b"echo ", "unknown feature ''"),
        (b"echo  pyon_v2", "unknown feature ''"),
        (b" echo", "unknown feature 'echo'"),
        (b"echo\tpyon_v2", "unknown target"),
        (b"\xff pyon_v2", "not UTF-8"),
        (b"echo \xff", "not UTF-8"),
    ],
)
def test_wrong_target_line(line: bytes, reason: str) -> None:
    server = server_in(State.WAIT_TARGET)
    server.receive_data(line + b"\n")
    with pytest.raises(RemoteProtocolError, match=reason):
        server.next_event()
    assert server.state is State.CLOSED


@pytest.mark.parametrize(
    ("line", "version"), [(b"echo", 1), (b"echo pyon_v2", 2), (b"echo pyon_v2 pyon_v2", 2)]
)
def test_encoding_is_what_the_client_chose(line: bytes, version: int) -> None:
    expected = b'{"__jsonclass__":["set",[["echo"]]]}\n' if version == 2 else b'{"echo"}\n'
    server = server_in(State.WAIT_TARGET)
    assert server.pyon_version == 1
    assert feed(server, line + b"\n") == TargetSelected("echo")
    assert server.pyon_version == version
    assert server.send_methods(["echo"]) == expected


@pytest.mark.parametrize(
    ("targets", "description", "line"),
    [
        (["echo"], None, b'{"targets":["echo"],"description":null,"features":["pyon_v2"]}\n'),
        (["b", "a"], "two", b'{"targets":["a","b"],"description":"two","features":["pyon_v2"]}\n'),
        ([], "\u269b\n", b'{"targets":[],"description":"\\u269b\\n","features":["pyon_v2"]}\n'),
    ],
)
def test_greeting(targets: list[str], description: str | None, line: bytes) -> None:
    server = ServerConnection(targets, description)
    feed(server, b"ARTIQ pc_rpc\n")
    assert server.greet() == line


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(
    "line",
    [
        b"",
        b" ",
        b"not pyon",
        b'{"action"',
        b'"\xff"',
        b'[{"__jsonclass__":["foo",[]]}]x',
        b"\x00",
        b"[" * 5000,
    ],
)
def test_request_that_is_not_pyon(line: bytes, version: int) -> None:
    server = server_in(State.WAIT_REQUEST, version)
    server.receive_data(line + b"\n")
    with pytest.raises(RemoteProtocolError, match="not PYON"):
        server.next_event()
    assert server.state is State.CLOSED


@pytest.mark.parametrize(
    ("version", "line"),
    [
        (2, b'{"action": "call", "name": "echo", "args": (1, ), "kwargs": {}}'),
        (2, b'{"action":"call","name":"echo","args":[{"__jsonclass__":["foo",[]]}],"kwargs":{}}'),
        (1, b'{"action": "call", "name": "echo", "args": foo(1), "kwargs": {}}'),
        (1, b'{"action": "call", "name": "echo", "args": (2**99, ), "kwargs": {}}'),
    ],
)
def test_request_of_the_other_encoding_or_of_none(version: int, line: bytes) -> None:
    server = server_in(State.WAIT_REQUEST, version)
    server.receive_data(line + b"\n")
    with pytest.raises(RemoteProtocolError, match="not PYON"):
        server.next_event()


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(
    ("line", "cls", "message"),
    [
        (b'{"action":"dance"}', ValueError, "Unknown action: dance"),
        (b'{"action":null}', ValueError, "Unknown action: None"),
        (b"{}", KeyError, "'action'"),
        (b'{"action":"call"}', KeyError, "'name'"),
        (b'{"action":"call","name":"f"}', KeyError, "'args'"),
        (b'{"action":"call","name":"f","args":[]}', KeyError, "'kwargs'"),
        (b"[]", TypeError, "list"),
        (b'"call"', TypeError, "str"),
        (b"null", TypeError, "NoneType"),
        (b'{"action":"call","name":5,"args":[],"kwargs":{}}', TypeError, "name"),
        (b'{"action":"call","name":"f","args":"text","kwargs":{}}', TypeError, "args"),
        (b'{"action":"call","name":"f","args":null,"kwargs":{}}', TypeError, "args"),
        (b'{"action":"call","name":"f","args":[],"kwargs":[]}', TypeError, "kwargs"),
        (b'{"action":"call","name":"f","args":[],"kwargs":null}', TypeError, "kwargs"),
    ],
)
def test_request_that_gets_a_failure(line: bytes, cls: type[Exception], message: str, version: int) -> None:
    server = server_in(State.WAIT_REQUEST, version)
    event = feed(server, line + b"\n")
    assert isinstance(event, BadRequest)
    assert type(event.error) is cls
    assert message in str(event.error)
    server.send_failure(PackedException(cls.__name__, str(event.error), ()))
    assert feed(server, REQUEST) == Call("echo", [1], {})


@pytest.mark.parametrize(
    ("version", "line"),
    [
        (2, b'{"action":"call","name":"f","args":[],"kwargs":{"__jsonclass__":["dict",[[[1,2]]]]}}'),
        (1, b'{"action": "call", "name": "f", "args": (), "kwargs": {1: 2}}'),
    ],
)
def test_keywords_that_are_no_strings(version: int, line: bytes) -> None:
    event = feed(server_in(State.WAIT_REQUEST, version), line + b"\n")
    assert isinstance(event, BadRequest)
    assert type(event.error) is TypeError


@pytest.mark.parametrize("value", [np.array([1, 2], "i1"), np.array([], "i1"), np.array(7)])
def test_action_that_is_an_array(value: Any) -> None:
    """Comparing an array with a string gives an array, which may be neither true nor false."""
    server = server_in(State.WAIT_REQUEST)
    encoded = f'{{"action":{server._codec.encode_result(value)[21:-2].decode()}}}\n'.encode()
    event = feed(server, encoded)
    assert isinstance(event, BadRequest)
    assert type(event.error) is ValueError
    assert "Unknown action" in str(event.error)


@pytest.mark.parametrize("version", [1, 2])
def test_unencodable_result_leaves_the_request_open(version: int) -> None:
    server = server_in(State.SEND_REPLY, version)
    for value, error in ((object(), TypeError), ([{1, 2}, (frozenset(),)], TypeError)):
        with pytest.raises(error):
            server.send_result(value)
        assert server.state is State.SEND_REPLY
    assert b"failed" in server.send_failure(PackedException("TypeError", "no", ()))
    assert server.state is State.WAIT_REQUEST


def test_result_that_contains_itself() -> None:
    endless: list[Any] = []
    endless.append(endless)
    server = server_in(State.SEND_REPLY)
    with pytest.raises(ValueError, match="contains itself"):
        server.send_result(endless)
    assert server.state is State.SEND_REPLY


@pytest.mark.parametrize("state", [State.WAIT_BANNER, State.WAIT_TARGET, State.WAIT_REQUEST])
@pytest.mark.parametrize("length", [1, 60, 200])
@pytest.mark.parametrize("end", [b"", b"\n"])
def test_line_too_long(state: State, length: int, end: bytes) -> None:
    server = server_in(state, max_message_size=100)
    for piece in cut(b"x" * 101 + end, length):
        server.receive_data(piece)
    with pytest.raises(RemoteProtocolError, match="100"):
        server.next_event()
    assert server.state is State.CLOSED


def test_longest_line() -> None:
    server = server_in(State.WAIT_REQUEST, max_message_size=100)
    assert feed(server, REQUEST[:-1].ljust(100) + b"\n") == Call("echo", [1], {})


def test_too_long_line_waits_for_its_turn() -> None:
    server = server_in(State.SEND_REPLY, max_message_size=100)
    server.receive_data(REQUEST + b"x" * 101)
    assert server.next_event() is None
    server.send_result(1)
    assert server.next_event() == Call("echo", [1], {})
    server.send_result(2)
    with pytest.raises(RemoteProtocolError):
        server.next_event()
