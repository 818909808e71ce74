"""sync_struct: what a mod is and does, what is refused, and the recorded session, both ways."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from tests.wire.pair import cut
from tests.wire.transcripts import load
from tests.wire.values import identical
from trionet import pyon
from trionet.pyon import v1
from trionet.wire.errors import LocalProtocolError, RemoteProtocolError
from trionet.wire.feeds import PyonVersion, State, encode_line
from trionet.wire.sync_struct import BANNER, KEYS, Mod, SubscriberConnection, apply_mod, cannot_apply

INIT: Mod = {"action": "init", "struct": {"list": [1]}}
MODS: list[Mod] = [
    INIT,
    {"action": "append", "path": ["list"], "x": (2, "\u269b")},
    {"action": "insert", "path": ["list"], "i": 0, "x": np.arange(2)},
    {"action": "pop", "path": ["list"], "i": -1},
    {"action": "setitem", "path": ["list"], "key": slice(0, 1), "value": {3}},
    {"action": "delitem", "path": [], "key": "list"},
]


def subscribed(
    max_message_size: int = 10_000, pyon_version: PyonVersion | None = None
) -> SubscriberConnection:
    """A connection that waits for its first mod."""
    connection = SubscriberConnection(max_message_size, pyon_version)
    connection.subscribe("x")
    return connection


def mods_of(connection: SubscriberConnection) -> Iterator[Mod]:
    while (mod := connection.next_mod()) is not None:
        yield mod


# -- what was recorded -----------------------------------------------------------------------------------

#: What the structure `test` of the recorded session begins with.
START: dict[str, Any] = {"start": [1, (2,), {3: np.array([0, 1])}]}


def _scalars(n: Any) -> None:
    n["scalars"] = [np.int32(1), np.float64(0.5), np.bool_(True)]


def _list_in_two_steps(n: Any) -> None:
    n["list"][:] = [0, 1, 2, 3]
    del n["list"][1:3]


def _text_and_infinity(n: Any) -> None:
    n["unicode"] = "\u269b"
    n["inf"] = float("inf")


def setitem(*path_and_value: Any) -> Callable[[Any], None]:
    """Function that does ``n[path][...] = value``."""
    *path, key, value = path_and_value

    def change(n: Any) -> None:
        for step in path:
            n = n[step]
        n[key] = copy.deepcopy(value)

    return change


def _update(n: Any) -> None:
    for key in ("start", 1.5, (1, "k"), "list", "array", "scalars"):
        del n[key]
    n["inf"] = 1
    n["new"] = 2


#: How the recorded publisher changed it: the notes of the recording, and the same as code.
MUTATIONS: list[tuple[str, Callable[[Any], object]]] = [
    ("n['a'] = 1", setitem("a", 1)),
    ("n[2] = (1, 2)", setitem(2, (1, 2))),
    ("n[1.5] = None", setitem(1.5, None)),
    ("n[(1, 'k')] = {1}", setitem((1, "k"), {1})),
    ("n['list'] = []", setitem("list", [])),
    ("n['list'][:] = [34, 31]", setitem("list", slice(None), [34, 31])),
    ("n['list'].append(42)", lambda n: n["list"].append(42)),
    ("n['list'].insert(1, {'x': []})", lambda n: n["list"].insert(1, {"x": []})),
    ("n['list'][1]['x'].append('deep')", lambda n: n["list"][1]["x"].append("deep")),
    ("n['list'][1]['x'][0] = 'deeper'", setitem("list", 1, "x", 0, "deeper")),
    ("n['list'].pop()", lambda n: n["list"].pop()),
    ("n['list'].pop(0)", lambda n: n["list"].pop(0)),
    ("del n['list'][0]", lambda n: n["list"].__delitem__(0)),
    ("n['list'][:] = range list; del n['list'][1:3]", _list_in_two_steps),
    ("n.pop('a') on a dict", lambda n: n.pop("a")),
    ("del n[2]", lambda n: n.__delitem__(2)),
    ("n['array'] = np.zeros(3)", setitem("array", np.zeros(3))),
    ("n['array'][0] = 10", setitem("array", 0, 10)),
    ("n['array'][1:] = np.array([1.5, 2.5])", setitem("array", slice(1, None), np.array([1.5, 2.5]))),
    ("n['scalars'] = [np.int32(1), np.float64(0.5), np.bool_(True)]", _scalars),
    ("n['unicode'] = '\\u269b'; n['inf'] = inf", _text_and_infinity),
    ("update_from_dict(n, {...}) - deletions first, then changed or new keys", _update),
    ("l.append([1]); n['x'] = 0", setitem("x", 0)),
]
#: What the structure is in the end.
END = {"unicode": "\u269b", "inf": 1, "new": 2, "x": 0}


def recorded_steps() -> Iterator[tuple[str, list[bytes]]]:
    """The lines of the first recorded connection, by the note that they were recorded under."""
    first, second = load("sync_struct_session")
    note, lines = "", list[bytes]()
    for message in first.messages:
        if message.sender != "server" or not message.line:
            continue
        if message.note or message.line == first.lines("server")[-1]:
            yield note, lines
            # The last change was made together with one to the other structure, and noted there.
            note, lines = message.note or second.messages[3].note, []
        lines.append(message.line)
    yield note, lines


def test_every_recorded_step_makes_what_its_note_says() -> None:
    steps = [*recorded_steps()]
    assert [note for note, _ in steps] == ["", *(note for note, _ in MUTATIONS)]
    connection = subscribed()
    connection.receive_data(steps[0][1][0])
    init = connection.next_mod()
    assert init is not None
    mirror = init["struct"]
    assert identical(mirror, START)
    expected = copy.deepcopy(START)
    for (_, lines), (_, mutate) in zip(steps[1:], MUTATIONS, strict=True):
        connection.receive_data(b"".join(lines))
        for mod in mods_of(connection):
            apply_mod(mirror, mod)
        mutate(expected)
        assert identical(mirror, pyon.decode(pyon.encode(expected)))
    assert identical(mirror, END)


@pytest.mark.parametrize("length", [1, 13, 10_000])
def test_recorded_mods_are_encoded_as_recorded(length: int) -> None:
    for recording in load("sync_struct_session"):
        connection = SubscriberConnection(10_000)
        name = recording.lines("client")[1][:-1].decode()
        assert connection.subscribe(name) == b"".join(recording.lines("client"))
        lines = recording.lines("server")
        mods: list[Mod] = []
        for piece in cut(b"".join(lines), length):
            connection.receive_data(piece)
            mods += mods_of(connection)
        ordered = [{key: mod[key] for key in ("action", *KEYS[mod["action"]])} for mod in mods]
        assert [encode_line(mod, 2) for mod in ordered] == lines


def test_recorded_list_that_is_the_root() -> None:
    _, recording = load("sync_struct_session")
    connection = subscribed()
    connection.receive_data(b"".join(recording.lines("server")))
    init, append = mods_of(connection)
    apply_mod(init["struct"], append)
    assert init["struct"] == [[1]]


# -- mods ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [1, 2, None])
def test_mods_in_every_split(version: PyonVersion | None) -> None:
    lines = [encode_line(mod, version or 2) for mod in MODS]
    stream = b"".join(lines)
    ends = [sum(map(len, lines[: number + 1])) for number in range(len(lines))]
    for place in range(len(stream)):
        connection = subscribed(pyon_version=version)
        connection.receive_data(stream[:place])
        before = [*mods_of(connection)]
        assert len(before) == sum(end <= place for end in ends)
        connection.receive_data(stream[place:])
        assert identical([*before, *mods_of(connection)], MODS)


def test_no_mod_before_the_line_feed() -> None:
    lines = [encode_line(mod, 2) for mod in MODS]
    connection = subscribed()
    for line in lines:
        for byte in cut(line[:-1], 1):
            connection.receive_data(byte)
            assert connection.next_mod() is None
        connection.receive_data(line[-1:])
        assert connection.has_line
        assert connection.next_mod() is not None
    assert connection.buffered == 0


def test_version_is_found_out_in_the_middle() -> None:
    connection = subscribed()
    for mod in MODS:
        connection.receive_data(encode_line(mod, 1))
    assert identical([*mods_of(connection)], MODS)


def test_init_can_come_again_and_unknown_keys_are_ignored() -> None:
    mods = [{**mod, "new": 1, "x" * 100: None} for mod in [*MODS, *MODS]]
    connection = subscribed()
    for mod in mods:
        connection.receive_data(encode_line(mod, 2))
    assert identical([*mods_of(connection)], mods)


def assert_refused(connection: SubscriberConnection, data: bytes, match: str) -> None:
    connection.receive_data(data)
    connection.receive_data(encode_line(INIT, 2))
    with pytest.raises(RemoteProtocolError, match=match):
        connection.next_mod()
    assert connection.state is State.CLOSED
    assert connection.next_mod() is None
    assert not connection.has_line
    connection.receive_data(encode_line(INIT, 2))
    assert connection.next_mod() is None


@pytest.mark.parametrize("initialized", [False, True])
@pytest.mark.parametrize(
    ("line", "match"),
    [
        (b"[]", "not list"),
        (b'["action"]', "not list"),
        (b'"init"', "not str"),
        (b"null", "not NoneType"),
        (b'{"__jsonclass__":["set",[["action"]]]}', "not set"),
        (b"{}", "unknown action 'None'"),
        (b'{"action":"remove","path":[]}', "unknown action 'remove'"),
        (b'{"action":"INIT","struct":{}}', "unknown action 'INIT'"),
        (b'{"action":1}', "unknown action '1'"),
        (b'{"action":null}', "unknown action 'None'"),
        (b'{"action":["init"],"struct":{}}', "unknown action"),
        (b'{"action":{"__jsonclass__":["nparray",[[1],"|u1","AA=="]]}}', "unknown action"),
        (b'{"action":"%s"}' % (b"x" * 1000), r"unknown action 'x{40}'$"),
        (b"(", "delimiter|column|line|expected"),
    ],
)
def test_line_that_is_no_mod(line: bytes, match: str, initialized: bool) -> None:
    connection = subscribed()
    if initialized:
        connection.receive_data(encode_line(INIT, 2))
        assert connection.next_mod() == INIT
    assert_refused(connection, line + b"\n", match)


@pytest.mark.parametrize(("action", "missing"), [(action, key) for action in KEYS for key in KEYS[action]])
def test_mod_without_one_of_its_keys(action: str, missing: str) -> None:
    (mod,) = (mod for mod in MODS if mod["action"] == action)
    connection = subscribed()
    connection.receive_data(encode_line(INIT, 2))
    connection.next_mod()
    line = encode_line({key: value for key, value in mod.items() if key != missing}, 2)
    assert_refused(connection, line, f"'{action}', but without '{missing}'")


@pytest.mark.parametrize("mod", MODS[1:], ids=lambda mod: str(mod["action"]))
def test_mod_before_init(mod: Mod) -> None:
    assert_refused(subscribed(), encode_line(mod, 2), f"'{mod['action']}' before 'init'")


@pytest.mark.parametrize("path", [None, "list", 1, {}, ("list",), {"list": 1}, np.array([1])])
@pytest.mark.parametrize("mod", MODS[1:], ids=lambda mod: str(mod["action"]))
def test_path_that_is_no_list(mod: Mod, path: Any) -> None:
    connection = subscribed()
    connection.receive_data(encode_line(INIT, 2))
    connection.next_mod()
    assert_refused(connection, encode_line({**mod, "path": path}, 2), "a path that is no list")


def test_long_line() -> None:
    line = encode_line(INIT, 2)
    connection = subscribed(len(line) - 1)
    connection.receive_data(line)
    assert connection.next_mod() == INIT
    assert_refused(connection, line[:-1] + b" \n", str(len(line) - 1))


def test_subscribe_once_and_with_a_known_version() -> None:
    connection = SubscriberConnection(100)
    assert connection.subscribe("\u269b") == BANNER + b"\n\xe2\x9a\x9b\n"
    with pytest.raises(LocalProtocolError):
        connection.subscribe("x")
    with pytest.raises(ValueError, match="versions 1 and 2"):
        SubscriberConnection(100, 3)  # type: ignore[arg-type]


def test_cannot_apply_says_where() -> None:
    error = cannot_apply(MODS[1], KeyError("list"))
    assert str(error).startswith("'append' cannot be applied at ['list']: KeyError('list')")
    assert "at the root: " in str(cannot_apply(MODS[5], KeyError("list")))
    assert len(str(cannot_apply({**MODS[1], "path": ["x" * 1000]}, KeyError(1)))) < 200


# -- applying --------------------------------------------------------------------------------------------


class Device:
    """Something that is neither a dict nor a list, and has what mods need."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def __getitem__(self, key: Any) -> Any:
        return self if key == "self" else self.calls

    def __setitem__(self, key: Any, value: Any) -> None:
        self.calls.append(("setitem", key, value))

    def __delitem__(self, key: Any) -> None:
        self.calls.append(("delitem", key))

    def append(self, x: Any) -> str:
        self.calls.append(("append", x))
        return "not to be returned"

    def insert(self, i: Any, x: Any) -> None:
        self.calls.append(("insert", i, x))

    def pop(self, i: Any) -> Any:
        self.calls.append(("pop", i))
        return "popped"


def mod_of(action: str, path: list[Any], *arguments: Any) -> Mod:
    return {"action": action, "path": path} | dict(zip(KEYS[action][1:], arguments, strict=True))


APPLIED: list[tuple[Any, Mod, Any, Any]] = [
    # before, mod, after, what is returned
    ({}, mod_of("setitem", [], "a", 1), {"a": 1}, None),
    ({"a": 1}, mod_of("setitem", [], "a", [2]), {"a": [2]}, None),
    ({"a": {"b": {}}}, mod_of("setitem", ["a", "b"], (1, 2), None), {"a": {"b": {(1, 2): None}}}, None),
    ([1, 2], mod_of("setitem", [], -1, 3), [1, 3], None),
    ([1, 2], mod_of("setitem", [], slice(0, 0), [3, 4]), [3, 4, 1, 2], None),
    ([1, 2, 3], mod_of("setitem", [], slice(None, None, -2), ["a", "b"]), ["b", 2, "a"], None),
    ([1], mod_of("append", [], [2]), [1, [2]], None),
    ([[0, []]], mod_of("append", [0, 1], 1), [[0, [1]]], None),
    ([1], mod_of("insert", [], 0, 2), [2, 1], None),
    ([1], mod_of("insert", [], 99, 2), [1, 2], None),
    ([1, 2], mod_of("pop", [], -1), [1], 2),
    ([1, 2], mod_of("pop", [], 0), [2], 1),
    ({"a": [None]}, mod_of("pop", [], "a"), {}, [None]),
    ({"a": 1, "b": 2}, mod_of("delitem", [], "a"), {"b": 2}, None),
    ([1, 2, 3], mod_of("delitem", [], 1), [1, 3], None),
    ([1, 2, 3], mod_of("delitem", [], slice(None, 2)), [3], None),
    (np.zeros(2), mod_of("setitem", [], 1, 5), np.array([0.0, 5.0]), None),
    (np.zeros(3), mod_of("setitem", [], slice(1, None), np.array([1, 2])), np.array([0.0, 1.0, 2.0]), None),
    (np.zeros((2, 2)), mod_of("setitem", [1], 0, 5), np.array([[0.0, 0.0], [5.0, 0.0]]), None),
    (np.zeros((2, 2)), mod_of("setitem", [], (0, 1), 5), np.array([[0.0, 5.0], [0.0, 0.0]]), None),
    (np.zeros(2), mod_of("setitem", [], np.array([False, True]), 5), np.array([0.0, 5.0]), None),
    ([Device()], mod_of("setitem", [0, "self"], "k", 1), [("setitem", "k", 1)], None),
    ([Device()], mod_of("append", [0], 1), [("append", 1)], None),
    ([Device()], mod_of("insert", [0], 1, 2), [("insert", 1, 2)], None),
    ([Device()], mod_of("pop", [0], "k"), [("pop", "k")], "popped"),
    ([Device()], mod_of("delitem", [0], "k"), [("delitem", "k")], None),
    ([Device()], mod_of("append", [0, "calls"], 1), [1], None),
]


@pytest.mark.parametrize(("before", "mod", "after", "returned"), APPLIED)
def test_every_action(before: Any, mod: Mod, after: Any, returned: Any) -> None:
    target, kept = copy.deepcopy(before), copy.deepcopy(mod)
    assert identical(apply_mod(target, mod), returned)
    devices = isinstance(before, list) and before and isinstance(before[0], Device)
    assert identical(target[0].calls if devices else target, after)
    assert identical(mod, kept)


def test_values_become_part_of_the_structure() -> None:
    target: dict[str, Any] = {}
    value: list[int] = []
    apply_mod(target, mod_of("setitem", [], "a", value))
    assert target["a"] is value


@pytest.mark.parametrize("action", ["", "remove", "Append", "extend", 1, None])
def test_unknown_action_cannot_be_applied(action: Any) -> None:
    target = [1]
    with pytest.raises(ValueError, match="unknown action"):
        apply_mod(target, {"action": action, "path": [], "x": 1, "key": 0, "value": 0, "i": 0})
    assert target == [1]


@pytest.mark.parametrize("action", ["append", "insert", "pop", "setitem", "delitem"])
@pytest.mark.parametrize(
    ("path", "error"),
    [(["b"], KeyError), (["a", 2], IndexError), (["a", "b"], TypeError), (["a", 0, 0], TypeError)],
)
def test_path_that_is_not_there(action: str, path: list[Any], error: type[Exception]) -> None:
    target = {"a": [1]}
    with pytest.raises(error):
        apply_mod(target, mod_of(action, path, *([0] * len(KEYS[action][1:]))))
    assert target == {"a": [1]}


def test_init_is_not_applied() -> None:
    target = {"a": 1}
    with pytest.raises(KeyError):
        apply_mod(target, {"action": "init", "struct": {}})
    with pytest.raises(ValueError, match="makes a structure"):
        apply_mod(target, {"action": "init", "struct": {}, "path": [], "key": "a"})
    assert target == {"a": 1}


# What PYON v1 may carry, and Python before 3.12 cannot write.
DEEP = b"[" * 990 + b"]" * 990


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        (b"{'action': %b}", r"unknown action '(<list>|\[{40})'"),
        (b"{'action': 'pop', 'path': {1: %b}, 'i': 0}", r"a path that is no list: (<dict>|.{40}$)"),
    ],
)
def test_what_is_nested_too_deep_to_be_shown(sent: bytes, message: str) -> None:
    wire = SubscriberConnection(10_000)
    wire.subscribe("it")
    wire.receive_data(b"{'action': 'init', 'struct': None}\n" + sent % DEEP + b"\n")
    assert wire.next_mod() == {"action": "init", "struct": None}
    with pytest.raises(RemoteProtocolError, match=message):
        wire.next_mod()


def test_why_a_mod_cannot_be_applied_is_short_whatever_it_is() -> None:
    deep = v1.decode(DEEP)
    mod = {"action": "pop", "path": [deep, "k" * 100_000], "i": deep}
    for error in (KeyError(deep), KeyError("k" * 100_000)):
        told = str(cannot_apply(mod, error))
        assert told.startswith("'pop' cannot be applied at [")
        assert "KeyError" in told
        assert len(told) < 400
