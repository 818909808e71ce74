"""`Notifier`: changes are made and published, or neither; who follows them has the same structure."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.wire.test_sync_struct import MUTATIONS, START, recorded_steps, setitem
from tests.wire.transcripts import load
from tests.wire.values import identical
from trionet import pyon
from trionet.sync_struct._channel import Channel
from trionet.sync_struct.notifier import Notifier
from trionet.wire.feeds import encode_line
from trionet.wire.sync_struct import Mod, apply_mod

NAN = float("nan")
A = np.arange(6.0)


def carried(value: Any) -> Any:
    """What PYON makes of a value; nothing in it is the original's."""
    return pyon.decode(pyon.encode(value))


class Mirror:
    """A sink that keeps what is published, and what a subscriber makes of it."""

    def __init__(self, notifier: Notifier) -> None:
        self.lines: list[bytes] = []
        self.structure = carried(notifier.raw_view)
        self._notifier = notifier
        notifier.attach(self)

    def prepare(self, mod: Mod) -> bytes:
        return encode_line(mod, 2)

    def publish(self, line: bytes) -> None:
        self.lines.append(line)
        apply_mod(self.structure, pyon.decode(line))

    @property
    def mods(self) -> list[tuple[Any, ...]]:
        """What was published, without the names of the keys."""
        return [tuple(pyon.decode(line).values()) for line in self.lines]

    @property
    def in_step(self) -> bool:
        return identical(carried(self.structure), carried(self._notifier.raw_view))


def mirrored(structure: Any) -> tuple[Notifier, Mirror]:
    notifier = Notifier(structure)
    return notifier, Mirror(notifier)


def structure() -> dict[Any, Any]:
    """One of everything."""
    return {
        "d": {"x": 1, "y": {"z": [1]}, 2: None, (1, 2): "tuple", 1.5: "float"},
        "l": [1, [2, 3], {"k": "v"}, np.arange(3.0)],
        "a": np.arange(6.0),
        "m": np.zeros((2, 3), int),
        "text": "text",
        "empty": [],
        "t": (1, [5], {"in": {}}),
        "np": [np.int32(1), np.float64(0.5)],
    }


# -- what was recorded -----------------------------------------------------------------------------------


def test_changes_are_published_as_recorded() -> None:
    n, mirror = mirrored(copy.deepcopy(START))
    assert encode_line({"action": "init", "struct": n.raw_view}, 2) == next(recorded_steps())[1][0]
    for (note, mutate), (_, lines) in zip(MUTATIONS, [*recorded_steps()][1:], strict=True):
        mirror.lines.clear()
        mutate(n)
        assert (note, mirror.lines) == (note, lines)
        assert mirror.in_step


def test_list_is_published_as_recorded() -> None:
    n, mirror = mirrored([])
    n.append([1])
    assert mirror.lines == load("sync_struct_session")[1].lines("server")[1:]


# -- changes ---------------------------------------------------------------------------------------------

CHANGES: list[tuple[Callable[[Any], Any], tuple[Any, ...]]] = [
    (setitem("d", "x", 2), ("setitem", ["d"], "x", 2)),
    (lambda n: n["d"]["y"]["z"].append(2), ("append", ["d", "y", "z"], 2)),
    (setitem("d", (1, 2), ()), ("setitem", ["d"], (1, 2), ())),
    (setitem("d", True, 0), ("setitem", ["d"], True, 0)),
    (lambda n: n["l"].insert(-1, {}), ("insert", ["l"], -1, {})),
    (lambda n: n["l"].pop(), ("pop", ["l"], -1)),
    (lambda n: n["l"].pop(np.int64(0)), ("pop", ["l"], np.int64(0))),
    (lambda n: n["d"].pop("y"), ("pop", ["d"], "y")),
    (lambda n: n["l"][2].__delitem__("k"), ("delitem", ["l", 2], "k")),
    (lambda n: n["l"].__delitem__(slice(None, None, 2)), ("delitem", ["l"], slice(None, None, 2))),
    (setitem("l", slice(4, 0, -2), "ab"), ("setitem", ["l"], slice(4, 0, -2), ["a", "b"])),
    (setitem("l", slice(1, 1), (7, 8)), ("setitem", ["l"], slice(1, 1), (7, 8))),
    (setitem("l", slice(0, 2), range(3)), ("setitem", ["l"], slice(0, 2), [0, 1, 2])),
    (setitem("l", slice(None), {5: 6, 7: 8}), ("setitem", ["l"], slice(None), [5, 7])),
    (setitem("l", slice(None), b"\x01"), ("setitem", ["l"], slice(None), [1])),
    (setitem("l", slice(9), np.arange(2)), ("setitem", ["l"], slice(9), np.arange(2))),
    (setitem("l", 3, -1, 5), ("setitem", ["l", 3], -1, 5)),
    (setitem("a", slice(None, None, -3), [8, 9]), ("setitem", ["a"], slice(None, None, -3), [8, 9])),
    (setitem("a", [0, 2], 9), ("setitem", ["a"], [0, 2], 9)),
    (lambda n: n["a"].__setitem__(n["a"].raw_view > 4, 0), ("setitem", ["a"], np.arange(6) > 4, 0)),
    (lambda n: n["a"].__setitem__(slice(1, 3), n["a"].raw_view[:2]), ("setitem", ["a"], slice(1, 3), A[:2])),
    (setitem("m", (1, -1), 7), ("setitem", ["m"], (1, -1), 7)),
    (setitem("m", (slice(None), 0), [1, 2]), ("setitem", ["m"], (slice(None), 0), [1, 2])),
    (setitem("m", 1, slice(1, None), 0, 4), ("setitem", ["m", 1, slice(1, None)], 0, 4)),
    (setitem("m", 0, np.float64(2.5)), ("setitem", ["m"], 0, 2.5)),
    (lambda n: n["t"][1].append(6), ("append", ["t", 1], 6)),
    (setitem("t", 2, "in", "a", 1), ("setitem", ["t", 2, "in"], "a", 1)),
]


@pytest.mark.parametrize(("change", "mod"), CHANGES, ids=[f"{mod[0]}-{mod[1:3]}" for _, mod in CHANGES])
def test_change_is_made_as_without_a_notifier_and_published(change: Callable[[Any], Any], mod: Any) -> None:
    plain, unpublished = NotPublished(structure()), Notifier(structure())
    n, mirror = mirrored(structure())
    results = [change(plain), change(unpublished), change(n)]
    assert all(identical(result, results[0]) for result in results)
    assert identical(n.raw_view, plain.raw_view)
    assert identical(unpublished.raw_view, plain.raw_view)
    assert identical(mirror.mods, [mod])
    assert mirror.in_step


class NotPublished:
    """The same expressions with the objects themselves."""

    def __init__(self, value: Any) -> None:
        self.raw_view = value

    def __getitem__(self, key: Any) -> NotPublished:
        return NotPublished(self.raw_view[key])

    def __setitem__(self, key: Any, value: Any) -> None:
        self.raw_view[key] = value

    def __delitem__(self, key: Any) -> None:
        del self.raw_view[key]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.raw_view, name)


def test_set_and_generator_fill_a_slice_in_the_order_that_they_have_here() -> None:
    words = {f"word {number}" for number in range(50)}
    n, mirror = mirrored({"l": [0, 1]})
    n["l"][1:] = words
    n["l"][:1] = (number * number for number in range(3))
    assert n["l"].raw_view == [0, 1, 4, *words]
    assert mirror.mods[0] == ("setitem", ["l"], slice(1, None), [*words])
    assert mirror.structure == n.raw_view


def test_root_that_is_a_list_or_an_array() -> None:
    n, mirror = mirrored([1, 2, 3])
    n[1:] = []
    n.append(4)
    n.insert(0, 0)
    assert n.pop(1) == 1
    assert n.raw_view == mirror.structure == [0, 4]
    array, mirror = mirrored(np.zeros(2))
    array[0] = 1
    assert mirror.structure.tolist() == array.raw_view.tolist() == [1.0, 0.0]


def test_changes_of_elements_are_made_in_place() -> None:
    value: list[int] = []
    n = Notifier({"l": value})
    n["l"].append(1)
    assert n["l"].raw_view is value
    assert n.raw_view["l"] is value == [1]


def test_node_stands_for_its_path() -> None:
    n, mirror = mirrored({"l": [{"a": 1}, {"b": 2}]})
    node = n["l"][0]
    del n["l"][0]
    assert node.raw_view == {"b": 2}
    node["c"] = 3
    assert n.raw_view == mirror.structure == {"l": [{"b": 2, "c": 3}]}
    n["l"].pop()
    with pytest.raises(IndexError):
        _ = node.raw_view
    with pytest.raises(IndexError):
        node["d"] = 4
    assert len(mirror.lines) == 3
    assert mirror.in_step


def test_repr_says_the_path() -> None:
    n = Notifier({"a": [{}]})
    assert (repr(n), repr(n["a"][0])) == ("<Notifier>", "<Notifier['a'][0]>")


# -- changes that fail -----------------------------------------------------------------------------------

FAILING: list[tuple[str, Callable[[Any], Any], type[Exception]]] = [
    ("object", setitem("x", object()), TypeError),
    ("frozenset", lambda n: n["l"].append([{"deep": frozenset()}]), TypeError),
    ("object array", setitem("x", np.array([None])), TypeError),
    ("reserved key inside", lambda n: n["l"].insert(0, {"__jsonclass__": 1}), ValueError),
    ("unencodable key", setitem("d", frozenset(), 1), TypeError),
    ("ellipsis", setitem("a", ..., 1), TypeError),
    ("unencodable in slice", lambda n: n["l"].__setitem__(slice(1), iter([object()])), TypeError),
    (
        "generator that raises",
        lambda n: n["l"].__setitem__(slice(0), (1 / x for x in (1, 0))),
        ZeroDivisionError,
    ),
    ("generator into an array", lambda n: n["a"].__setitem__(slice(2), (x for x in (1, 0))), TypeError),
    ("one item for a slice", setitem("l", slice(1), 5), TypeError),
    ("index", setitem("l", 4, 0), IndexError),
    ("array index", setitem("a", 6, 0), IndexError),
    ("array value", setitem("a", 0, "x"), ValueError),
    ("array shape", setitem("m", slice(None), np.arange(4)), ValueError),
    ("mask size", setitem("a", np.array([True]), 0), IndexError),
    ("stepped slice", setitem("l", slice(None, None, 2), [1]), ValueError),
    ("array slice", setitem("a", slice(2), [1, 2, 3]), ValueError),
    ("0-d array in a slice", setitem("l", slice(1), np.array(1)), TypeError),
    ("text index", setitem("l", "0", 1), TypeError),
    ("unhashable", setitem("d", [1], 1), TypeError),
    ("pop key", lambda n: n["d"].pop("no"), KeyError),
    ("pop of a dict without a key", lambda n: n["d"].pop(), KeyError),
    ("pop index", lambda n: n["l"].pop(4), IndexError),
    ("pop of an empty list", lambda n: n["empty"].pop(), IndexError),
    ("pop of an array", lambda n: n["a"].pop(), AttributeError),
    ("delete key", lambda n: n["d"].__delitem__("no"), KeyError),
    ("delete index", lambda n: n["l"].__delitem__(-5), IndexError),
    ("delete in an array", lambda n: n["a"].__delitem__(0), ValueError),
    ("append to a dict", lambda n: n["d"].append(1), AttributeError),
    ("append to an array", lambda n: n["a"].append(1), AttributeError),
    ("insert into a dict", lambda n: n["d"].insert(0, 1), AttributeError),
    ("insert at text", lambda n: n["l"].insert("0", 1), TypeError),
    ("item of text", setitem("text", 0, "x"), TypeError),
    ("item of a tuple", setitem("t", 0, 1), TypeError),
    ("path key", lambda n: n["no"].append(1), KeyError),
    ("path index", lambda n: n["l"][9].append(1), IndexError),
    ("path into a number", lambda n: n["d"]["x"]["y"], TypeError),
    ("NaN", setitem("d", NAN, 1), ValueError),
    ("NaN of numpy", setitem("d", np.float32("nan"), 1), ValueError),
    ("complex NaN", setitem("d", complex(0, NAN), 1), ValueError),
    ("complex NaN of numpy", setitem("d", np.complex64(complex(0, NAN)), 1), ValueError),
    ("NaN in tuples", setitem("d", (1, (NAN,)), 1), ValueError),
    ("pop NaN", lambda n: n["d"].pop(NAN), ValueError),
    ("delete NaN", lambda n: n["d"].__delitem__((NAN,)), ValueError),
    ("NaN in a path", lambda n: n["d"][NAN], ValueError),
    ("not a time", setitem("d", np.datetime64("NaT", "s"), 1), ValueError),
    ("array, second of two items", setitem("a", slice(2), [9, "x"]), ValueError),
    ("array, last item", setitem("a", slice(3), (9, 9, 10**400)), OverflowError),
    ("array, second row", setitem("m", slice(2), [[1, 2, 3], [4, 5, "x"]]), ValueError),
    ("array, no int", setitem("m", slice(1), np.array([[1.0, NAN, 2.0]])), RuntimeWarning),
]


@pytest.mark.parametrize(("change", "error"), [one[1:] for one in FAILING], ids=[one[0] for one in FAILING])
def test_change_that_raises_is_neither_made_nor_published(
    change: Callable[[Any], Any], error: type[Exception]
) -> None:
    n, mirror = mirrored(structure())
    with pytest.raises(error):
        change(n)
    assert identical(n.raw_view, structure())
    assert mirror.lines == []


def test_what_a_sink_raises_keeps_the_change_from_being_made() -> None:
    class Refusing(Mirror):
        def prepare(self, mod: Mod) -> bytes:
            raise BrokenPipeError

    n = Notifier({"l": [1]})
    mirror = Refusing(n)
    for change in (n["l"].pop, lambda: n["l"].append(2), lambda: n.__setitem__("a", 1)):
        with pytest.raises(BrokenPipeError):
            change()
    assert n.raw_view == {"l": [1]}
    assert mirror.lines == []


def test_unencodable_values_are_the_users_business_without_a_sink() -> None:
    n, value = Notifier({}), object()
    n["x"] = value
    assert n["x"].raw_view is value


@pytest.mark.parametrize("place", [lambda n: n, lambda n: n["d"], lambda n: n["l"]])
def test_no_iteration_and_no_membership(place: Callable[[Notifier], Any]) -> None:
    node = place(Notifier(structure()))
    for action in (iter, list, lambda node: 1 in node, lambda node: [*node]):
        with pytest.raises(TypeError):
            action(node)


# -- publishers ------------------------------------------------------------------------------------------


def test_one_publisher_at_a_time() -> None:
    n, mirror = mirrored({})
    with pytest.raises(RuntimeError, match="published already"):
        n.attach(mirror)
    n["a"] = 1
    n.detach()
    n["b"] = 2
    assert mirror.structure == {"a": 1}
    n.attach(mirror)
    n["c"] = 3
    assert mirror.structure == {"a": 1, "c": 3}
    n.detach()
    n.detach()


def test_change_in_another_thread_is_refused_while_it_is_published() -> None:
    n = Notifier({"l": []})
    errors: list[BaseException] = []

    def change() -> None:
        try:
            n["l"].append(1)
        except BaseException as error:
            errors.append(error)

    def change_elsewhere() -> None:
        thread = threading.Thread(target=change)
        thread.start()
        thread.join()

    n.attach(Channel("datasets", n, 2, 1000))
    change_elsewhere()
    assert [type(error) for error in errors] == [RuntimeError]
    assert "'datasets'" in str(errors[0])
    assert "from_thread" in str(errors[0])
    change()
    assert n.raw_view == {"l": [1]}
    n.detach()
    change_elsewhere()
    assert n.raw_view == {"l": [1, 1]}
    assert len(errors) == 1


# -- any changes -----------------------------------------------------------------------------------------

#: New ones for each use: what is in two places of a structure changes in both, but not at subscribers.
NEW_VALUES: list[Callable[[], Any]] = [
    *(lambda: 1, lambda: True, lambda: -0.0, lambda: None, lambda: "ab", lambda: b"\x01", lambda: 2**80),
    *(list, dict, lambda: [1], lambda: [7, 8], lambda: (9, [0]), lambda: {"a": {"b": [{"x": []}]}}),
    *(lambda: {3, 4}, lambda: range(2), lambda: iter([5, 6]), lambda: [[1, 2, 3], [4, 5, 6]]),
    *(lambda: np.float32(1.5), lambda: np.arange(2.0), lambda: np.zeros((2, 2), "u1"), lambda: np.array(3)),
    *(object, frozenset, lambda: [object()], lambda: np.array([None]), lambda: {NAN: 1}, lambda: "text"),
]
SOME_KEYS: list[Any] = [
    *(0, 1, -1, 2, 99, -99, "a", "x", "d", "l", True, None, 1.5, NAN, (1, 2), (0, 1), (NAN,), np.int64(0)),
    *(np.float32("nan"), [0], [0, 1], np.array([True, False, True]), object(), b"", np.str_("x"), 2.5),
    *(slice(0, 2), slice(None), slice(None, None, -2), slice(-1, None), slice(3, 1), (slice(None), 0)),
]


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of all containers."""
    if isinstance(value, (dict, list, tuple, np.ndarray, str)):
        yield path
    members: Any = ()
    if isinstance(value, dict):
        members = value.items()
    elif isinstance(value, (list, tuple)) or (isinstance(value, np.ndarray) and value.ndim > 1):
        members = enumerate(value)
    for key, member in members:
        yield from places(member, (*path, key))


def change_something(n: Any, draw: Callable[[st.SearchStrategy[Any]], Any]) -> None:
    """One change, which may be impossible."""
    for key in draw(st.sampled_from([*places(n.raw_view)])):
        n = n[key]
    some_key = st.sampled_from(SOME_KEYS)
    if draw(st.integers(0, 9)) == 9:
        n = n[draw(some_key)]
    if isinstance(n.raw_view, dict) and n.raw_view:
        some_key |= st.sampled_from([*n.raw_view])
    new_value = st.sampled_from(NEW_VALUES).map(lambda new: new())
    action = draw(st.sampled_from(["setitem", "setitem", "append", "insert", "pop", "delitem"]))
    if action == "setitem":
        n[draw(some_key)] = draw(new_value)
    elif action == "append":
        n.append(draw(new_value))
    elif action == "insert":
        n.insert(draw(some_key), draw(new_value))
    elif action == "pop":
        n.pop(draw(some_key))
    else:
        del n[draw(some_key)]


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_any_changes_are_made_and_followed_or_neither(data: st.DataObject) -> None:
    n, mirror = mirrored(structure())
    for _ in range(data.draw(st.integers(1, 20))):
        before, published = copy.deepcopy(n.raw_view), len(mirror.lines)
        try:
            change_something(n, data.draw)
        except (LookupError, TypeError, ValueError, AttributeError, OverflowError):
            assert identical(n.raw_view, before)
            assert len(mirror.lines) == published
        else:
            assert len(mirror.lines) == published + 1
        assert mirror.in_step
