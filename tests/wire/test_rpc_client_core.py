"""`ClientConnection`: its states, the handshakes of both eras, and replies that must find their calls."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.wire.pair import client_in, cut, feed
from trionet.wire.errors import IncompatibleServer, LocalProtocolError, RemoteProtocolError
from trionet.wire.packed_exceptions import PackedException
from trionet.wire.rpc import AUTO, ClientConnection, MethodsReceived, Reply, State
from trionet.wire.rpc_messages import Greeting

STATES = [
    *(State.SEND_BANNER, State.WAIT_GREETING, State.SEND_TARGET, State.WAIT_METHODS),
    *(State.READY, State.CLOSED),
]
OK = b'{"status":"ok","ret":1}\n'

# What this side may do: method, the state it belongs to, the state it leads to.
STEPS: list[tuple[str, Callable[[ClientConnection], Any], State, State]] = [
    ("greet", ClientConnection.greet, State.SEND_BANNER, State.WAIT_GREETING),
    ("select", lambda client: client.select_target("echo"), State.SEND_TARGET, State.WAIT_METHODS),
    ("auto", lambda client: client.select_target(AUTO), State.SEND_TARGET, State.WAIT_METHODS),
    ("call", lambda client: client.call("f", (), {})[1], State.READY, State.READY),
    ("list", lambda client: client.list_methods()[1], State.READY, State.READY),
]


def greeted(**greeting: Any) -> ClientConnection:
    """A client that has to choose a target."""
    client = client_in(State.WAIT_GREETING)
    feed(client, json.dumps(greeting).encode() + b"\n")
    return client


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("step", STEPS, ids=lambda step: str(step[0]))
def test_every_method_in_every_state(step: Any, state: State) -> None:
    _, method, allowed, next_state = step
    client = client_in(state)
    if state is allowed:
        line = method(client)
        assert line.endswith(b"\n")
        assert line.count(b"\n") == 1
        assert client.state is next_state
    else:
        with pytest.raises(LocalProtocolError, match=state.name):
            method(client)
        assert client.state is state  # nothing has happened
        assert client.calls_in_flight == 0


@pytest.mark.parametrize("state", STATES)
def test_close_in_every_state(state: State) -> None:
    client = client_in(state)
    client.close()
    assert client.state is State.CLOSED
    client.receive_data(OK)
    assert client.next_event() is None
    assert client.buffered == 0


@pytest.mark.parametrize("state", STATES)
def test_nothing_received_is_no_event(state: State) -> None:
    client = client_in(state)
    assert client.next_event() is None
    client.receive_data(b"")
    assert client.next_event() is None
    assert client.state is state


@pytest.mark.parametrize("state", [State.SEND_BANNER, State.SEND_TARGET])
def test_lines_wait_while_it_is_this_sides_turn(state: State) -> None:
    client = client_in(state)
    client.receive_data(b"not anything\n")
    assert client.next_event() is None
    assert client.state is state


@pytest.mark.parametrize(
    ("line", "greeting"),
    [
        (
            b'{"targets":["echo"],"description":null,"features":["pyon_v2"]}',
            Greeting(("echo",), None, ("pyon_v2",)),
        ),
        (b'{"targets": ["a", "b"], "description": "old"}', Greeting(("a", "b"), "old", ())),
        (b'{"features":[],"targets":[]}', Greeting((), None, ())),
        (b'{"targets":["e"],"features":["x","pyon_v2"],"new":[1]}', Greeting(("e",), None, ("x", "pyon_v2"))),
        (b' {"targets" : ["\xc3\xa9"], "description": "\\u269b"} \r', Greeting(("\xe9",), "\u269b", ())),
    ],
)
def test_greetings_of_all_eras(line: bytes, greeting: Greeting) -> None:
    client = client_in(State.WAIT_GREETING)
    assert feed(client, line + b"\n") == greeting
    assert client.state is State.SEND_TARGET


@pytest.mark.parametrize(
    "line",
    [
        *(b"", b"not json", b"[]", b"null", b"5", b"{}", b'{"targets":null}', b'{"targets":"echo"}'),
        *(b'{"targets":[1]}', b'{"targets":["a"],"description":5}', b'{"targets":["a"],"features":null}'),
        *(
            b'{"targets":["a"],"features":"pyon_v2"}',
            b'{"targets":["a"],"features":[["x"]]}',
            b"\xff",
            b"[" * 5000,
        ),
    ],
)
def test_wrong_greeting(line: bytes) -> None:
    client = client_in(State.WAIT_GREETING)
    client.receive_data(line + b"\n")
    with pytest.raises(RemoteProtocolError, match="expected the greeting"):
        client.next_event()
    assert client.state is State.CLOSED
    assert client.next_event() is None


@pytest.mark.parametrize("name", ["a b", "a\nb", "\ud800"])
def test_offered_name_that_no_target_line_can_carry(name: str) -> None:
    """Choosing it must not send something else, nor leave a line half chosen."""
    with pytest.raises((RemoteProtocolError, IncompatibleServer)):
        greeted(targets=[name], features=["pyon_v2"]).select_target(AUTO)


@pytest.mark.parametrize(
    ("features", "target", "line"),
    [
        (["pyon_v2"], "a", b"a pyon_v2\n"),
        (["future", "pyon_v2"], "b", b"b pyon_v2\n"),
        (["future"], "a", b"a\n"),
        ([], "a", b"a\n"),
    ],
)
def test_features_known_to_both_are_chosen(features: list[str], target: str, line: bytes) -> None:
    client = greeted(targets=["a", "b"], features=features)
    assert client.select_target(target) == line
    assert client.pyon_version == (2 if "pyon_v2" in features else 1)


def test_server_without_features_gets_v1() -> None:
    client = greeted(targets=["only"], description=None)
    assert client.select_target(AUTO) == b"only\n"
    assert client.pyon_version == 1
    assert feed(client, b'{"f", "g"}\n') == MethodsReceived(frozenset({"f", "g"}))
    assert client.call("f", (1,), {}) == (
        1,
        b'{"action": "call", "name": "f", "args": (1, ), "kwargs": {}}\n',
    )
    assert feed(client, b'{"status": "ok", "ret": (inf, )}\n') == Reply(1, (float("inf"),), None)


@pytest.mark.parametrize("targets", [[], ["b", "a"]])
def test_automatic_choice_needs_exactly_one_target(targets: list[str]) -> None:
    client = greeted(targets=targets, features=["pyon_v2"])
    with pytest.raises(ValueError, match=f"{len(targets)} targets.*{' '.join(sorted(targets))}$"):
        client.select_target(AUTO)
    assert client.state is State.SEND_TARGET


def test_another_target_can_be_chosen_after_a_wrong_one() -> None:
    client = greeted(targets=["b", "a"], features=["pyon_v2"])
    with pytest.raises(IncompatibleServer, match="no target 'c', but: a b"):
        client.select_target("c")
    assert client.pyon_version == 1
    assert client.select_target("b") == b"b pyon_v2\n"
    with pytest.raises(LocalProtocolError, match="WAIT_METHODS"):
        client.select_target("a")


@pytest.mark.parametrize(
    "line",
    [b'{"__jsonclass__":["set",[["f","_g"]]]}', b'["f","_g"]', b'{"__jsonclass__":["tuple",[["_g","f"]]]}'],
)
def test_method_names_in_any_collection(line: bytes) -> None:
    assert feed(client_in(State.WAIT_METHODS), line + b"\n") == MethodsReceived(frozenset({"f", "_g"}))


def test_empty_set_of_methods_in_v1() -> None:
    """It is written like an empty dict there, and comes back as one."""
    assert feed(client_in(State.WAIT_METHODS, 1), b"{}\n") == MethodsReceived(frozenset())


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(
    "line", [b"", b"null", b'"f"', b"[1]", b"5", b"no pyon", b"\xff", b'{"status":"ok"', b"[" * 5000]
)
def test_wrong_method_names(line: bytes, version: int) -> None:
    client = client_in(State.WAIT_METHODS, version)
    client.receive_data(line + b"\n")
    with pytest.raises(RemoteProtocolError, match="expected a set of method names"):
        client.next_event()
    assert client.state is State.CLOSED


@pytest.mark.parametrize(
    "line",
    [
        *(
            b"",
            b"not pyon",
            b"[]",
            b"null",
            b"{}",
            b'{"status":"ok"}',
            b'{"status":"later","ret":1}',
            b'{"ret":1}',
        ),
        *(b'{"status":"failed"}', b'{"status":"failed","exception":"ValueError"}', b"\xff", b"[" * 5000),
        *(
            b'{"status":"ok","ret":{"__jsonclass__":["foo",[]]}}',
            b'{"status": "ok", "ret": (1, )}',
            b'{"status":1}',
        ),
        b'{"status":{"__jsonclass__":["nparray",[[2],"|i1","AQI="]]},"ret":1}',
    ],
)
def test_wrong_reply(line: bytes) -> None:
    client = client_in(State.READY)
    client.call("f", (), {})
    client.receive_data(line + b"\n" + OK)
    with pytest.raises(RemoteProtocolError, match="expected a reply"):
        client.next_event()
    assert client.state is State.CLOSED
    assert client.next_event() is None


def test_reply_to_no_request() -> None:
    client = client_in(State.READY)
    call_id, _ = client.call("f", (), {})
    assert feed(client, OK) == Reply(call_id, 1, None)
    client.receive_data(OK)
    with pytest.raises(RemoteProtocolError, match="reply to no request"):
        client.next_event()
    assert client.state is State.CLOSED


def test_replies_find_their_calls_in_order() -> None:
    client = client_in(State.READY)
    ids = [client.call("f", (), {})[0], client.list_methods()[0], client.call("g", (1,), {"k": 2})[0]]
    assert len({*ids}) == client.calls_in_flight == 3
    failed = b'{"status":"failed","exception":{"class":"ValueError","message":"no","traceback":["a"]}}\n'
    client.receive_data(OK + failed + b'{"status":"ok","ret":null,"id":7}\r\n')
    assert client.next_event() == Reply(ids[0], 1, None)
    assert client.next_event() == Reply(ids[1], None, PackedException("ValueError", "no", ("a",)))
    assert client.next_event() == Reply(ids[2], None, None)
    assert client.next_event() is None
    assert client.calls_in_flight == 0


@pytest.mark.parametrize("abandoned", [{0}, {1}, {2}, {0, 1}, {0, 2}, {1, 2}, {0, 1, 2}])
def test_abandoned_replies_are_skipped(abandoned: set[int]) -> None:
    client = client_in(State.READY)
    ids = [client.call("f", (), {})[0] for _ in range(3)]
    for index in abandoned:
        client.abandon(ids[index])
    assert client.calls_in_flight == 3
    for number in range(3):
        client.receive_data(b'{"status":"ok","ret":%d}\n' % number)
    for number in sorted({0, 1, 2} - abandoned):
        assert client.next_event() == Reply(ids[number], number, None)
    assert client.next_event() is None
    assert client.calls_in_flight == 0


def test_abandoned_reply_is_not_decoded() -> None:
    client = client_in(State.READY)
    client.abandon(client.call("f", (), {})[0])
    call_id, _ = client.call("f", (), {})
    client.receive_data(b"whatever\n" + OK)
    assert client.next_event() == Reply(call_id, 1, None)


@pytest.mark.parametrize("withdrawn", [0, 1, 2])
def test_withdrawn_call_gets_no_reply(withdrawn: int) -> None:
    client = client_in(State.READY)
    ids = [client.call("f", (), {})[0] for _ in range(3)]
    client.withdraw(ids.pop(withdrawn))
    assert client.calls_in_flight == 2
    client.receive_data(OK * 2)
    assert [client.next_event(), client.next_event()] == [Reply(call_id, 1, None) for call_id in ids]
    assert client.next_event() is None


@pytest.mark.parametrize("version", [1, 2])
def test_unencodable_arguments_change_nothing(version: int) -> None:
    client = client_in(State.READY, version)
    for args, kwargs in (((object(),), {}), ((), {"k": object()})):
        with pytest.raises(TypeError):
            client.call("f", args, kwargs)
    assert client.calls_in_flight == 0
    client.receive_data(OK)
    with pytest.raises(RemoteProtocolError, match="no request"):
        client.next_event()


def test_abandoning_after_the_reply_leaves_nothing_behind() -> None:
    """A caller may be cancelled in the very moment in which its reply arrives."""
    client = client_in(State.READY)
    for _ in range(3):
        call_id, _line = client.call("f", (), {})
        assert feed(client, OK) == Reply(call_id, 1, None)
        client.abandon(call_id)
        assert client.calls_in_flight == 0


@pytest.mark.parametrize("state", [State.WAIT_GREETING, State.WAIT_METHODS, State.READY])
@pytest.mark.parametrize("length", [1, 60, 200])
@pytest.mark.parametrize("end", [b"", b"\n"])
def test_line_too_long(state: State, length: int, end: bytes) -> None:
    client = client_in(state, max_message_size=100)
    for piece in cut(b"x" * 101 + end, length):
        client.receive_data(piece)
    with pytest.raises(RemoteProtocolError, match="100"):
        client.next_event()
    assert client.state is State.CLOSED


def test_replies_before_a_long_line_are_delivered() -> None:
    client = client_in(State.READY, max_message_size=100)
    call_id, _ = client.call("f", (), {})
    client.call("f", (), {})
    client.receive_data(OK + b"x" * 101)
    assert client.next_event() == Reply(call_id, 1, None)
    with pytest.raises(RemoteProtocolError):
        client.next_event()


def test_auto_shows_its_name() -> None:
    assert repr(AUTO) == "AUTO"
