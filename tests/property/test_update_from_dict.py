"""`update_from_dict`: equal in the end, here and at subscribers, with no more changes than that takes."""

from __future__ import annotations

import copy
from collections import OrderedDict, defaultdict
from fractions import Fraction
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from tests.front.test_notifier import Mirror, carried
from tests.wire.values import SAMPLES, identical
from tests.wire.values import keys as any_keys
from tests.wire.values import scalars as any_scalars
from trionet.sync_struct.notifier import Notifier
from trionet.sync_struct.update import own_copy, same, update_from_dict

ROUND = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
NAN = float("nan")


def ordered(value: Any) -> Any:
    """The same with dicts in an order that depends on their keys only."""
    if isinstance(value, dict):
        items = sorted(value.items(), key=lambda item: (type(item[0]).__name__, repr(item[0])))
        return {key: ordered(item) for key, item in items}
    if isinstance(value, (list, tuple)):
        return type(value)(map(ordered, value))
    return value


def alike(left: Any, right: Any) -> bool:
    """Identical but for the order of dicts."""
    return identical(ordered(left), ordered(right))


def updated(old: dict[Any, Any], new: Any, nested: bool = True) -> list[tuple[Any, ...]]:
    """The mods that make `new` of `old`, as tuples of their values. All that must hold is checked."""
    n = Notifier(old)
    mirror = Mirror(n)
    kept = copy.deepcopy(new)
    update_from_dict(n, new, nested=nested)
    assert alike(n.raw_view, dict(new))
    assert alike(mirror.structure, carried(dict(kept)))
    assert alike(dict(kept), dict(new))
    assert not {*mutable_parts(n.raw_view)} & {*mutable_parts(dict(new))}
    mods = mirror.mods
    update_from_dict(n, new, nested=nested)
    assert len(mirror.lines) == len(mods)  # there is nothing left to do
    return mods


def mutable_parts(value: Any) -> list[Any]:
    """What identifies each part of a value that can be changed."""
    if isinstance(value, np.ndarray):
        return [("data", value.__array_interface__["data"][0])]
    own = [id(value)] if isinstance(value, (dict, list, set)) else []
    members: Any = value if isinstance(value, (list, tuple)) else ()
    if isinstance(value, dict):
        members = value.values()
    return own + [part for member in members for part in mutable_parts(member)]


# -- the exact changes -----------------------------------------------------------------------------------


def table(*names: str) -> list[dict[str, Any]]:
    return [{"name": name, "runs": [0]} for name in names]


A = np.arange(5.0)
M = np.arange(6, dtype="i4").reshape(3, 2)


def with_(array: np.ndarray[Any, Any], *items: tuple[Any, Any]) -> np.ndarray[Any, Any]:
    array = array.copy()
    for index, item in items:
        array[index] = item
    return array


EXACT: dict[str, tuple[Any, Any, list[tuple[Any, ...]]]] = {
    # what the member "k" is, is to become, and the mods
    "nothing to do": ([1, {"a": (A, {2})}], [1, {"a": (A, {2})}], []),
    "other order of a dict": ({"a": 1, "b": 2}, {"b": 2, "a": 1}, []),
    "deep in dicts": (
        {"a": {"b": {"c": 1}, "d": 2}},
        {"a": {"b": {"c": 3}, "d": 2}},
        [("setitem", ["k", "a", "b"], "c", 3)],
    ),
    "new and missing keys": (
        {"a": 1, "b": 2},
        {"b": 2, "c": [3]},
        [("delitem", ["k"], "a"), ("setitem", ["k"], "c", [3])],
    ),
    "type of a container": ([1], (1,), [("setitem", [], "k", (1,))]),
    "dict for list": ([], {}, [("setitem", [], "k", {})]),
    "tuples as a whole": ((1, [2]), (1, [3]), [("setitem", [], "k", (1, [3]))]),
    "sets as a whole": ({1, 2}, {1, 3}, [("setitem", [], "k", {1, 3})]),
    "append": ([1, 2], [1, 2, 3], [("append", ["k"], 3)]),
    "append several": ([1], [1, {"a": 2}, 3], [("append", ["k"], {"a": 2}), ("append", ["k"], 3)]),
    "append to nothing": ([], [0], [("append", ["k"], 0)]),
    "insert at the beginning": ([1, 2], [0, 1, 2], [("insert", ["k"], 0, 0)]),
    "insert in the middle": ([1, 2], [1, [9], 2], [("insert", ["k"], 1, [9])]),
    "insert several": ([1, 4], [1, 2, 3, 4], [("setitem", ["k"], slice(1, 1), [2, 3])]),
    "insert containers": (
        [1, 4],
        [1, [2], {"a": []}, 4],
        [("setitem", ["k"], slice(1, 1), [[2], {"a": []}])],
    ),
    "delete at the end": ([1, 2], [1], [("delitem", ["k"], 1)]),
    "delete in the middle": ([1, 2, 3], [1, 3], [("delitem", ["k"], 1)]),
    "delete several": ([1, 2, 3, 4], [1, 4], [("delitem", ["k"], slice(1, 3))]),
    "delete all": ([1, 2], [], [("delitem", ["k"], slice(0, 2))]),
    "one of several equal": ([5, 5, 5], [5, 5], [("delitem", ["k"], 2)]),
    "change one": ([1, 2, 3], [1, 9, 3], [("setitem", ["k"], 1, 9)]),
    "change a run": ([1, 2, 3, 4], [1, 8, 9, 4], [("setitem", ["k"], slice(1, 3), [8, 9])]),
    "change a run to containers": ([1, 2], [[8], {9: 9}], [("setitem", ["k"], slice(0, 2), [[8], {9: 9}])]),
    "change two runs": (
        [0, 1, 2, 3, 4],
        [9, 9, 2, 3, 9],
        [("setitem", ["k"], slice(0, 2), [9, 9]), ("setitem", ["k"], 4, 9)],
    ),
    "change and append": ([1, 2], [9, 2, 3], [("setitem", ["k"], 0, 9), ("append", ["k"], 3)]),
    "change and insert": ([1, 2, 3], [1, 8, 9, 3], [("setitem", ["k"], 1, 8), ("insert", ["k"], 2, 9)]),
    "change and delete": ([1, 2, 3, 4], [1, 9, 4], [("setitem", ["k"], 1, 9), ("delitem", ["k"], 2)]),
    "member of one of many dicts": (
        table("a", "b", "c"),
        [*table("a"), {"name": "b", "runs": [0, 7]}, *table("c")],
        [("append", ["k", 1, "runs"], 7)],
    ),
    "dict deleted from many": (table("a", "b", "c"), table("a", "c"), [("delitem", ["k"], 1)]),
    "dict inserted in many": (table("a", "c"), table("a", "b", "c"), [("insert", ["k"], 1, *table("b"))]),
    "lists in lists": ([[1], [2, 3]], [[1], [2, 4]], [("setitem", ["k", 1], 1, 4)]),
    "container between items": (
        [1, [2], 3],
        [8, [9], 7],
        [("setitem", ["k"], 0, 8), ("setitem", ["k", 1], 0, 9), ("setitem", ["k"], 2, 7)],
    ),
    "array element": (A, with_(A, (3, 9)), [("setitem", ["k"], 3, 9.0)]),
    "array elements": (A, with_(A, (1, 8), (3, 9)), [("setitem", ["k"], slice(1, 4), np.array([8.0, 2, 9]))]),
    "all of an array": (A, A + 1, [("setitem", ["k"], slice(0, 5), A + 1)]),
    "array row": (M, with_(M, ((2, 1), 9)), [("setitem", ["k"], 2, np.array([4, 9], "i4"))]),
    "array rows": (
        M,
        with_(M, ((0, 0), 9), ((1, 1), 8)),
        [("setitem", ["k"], slice(0, 2), np.array([[9, 1], [2, 8]], "i4"))],
    ),
    "array in a list": ([0, A], [0, with_(A, (0, 9))], [("setitem", ["k", 1], 0, 9.0)]),
    "array element of another type": (
        np.array([1, 2], "u1"),
        np.array([1, 3], "u1"),
        [("setitem", ["k"], 1, np.uint8(3))],
    ),
    "array of text": (np.array(["a", "bc"]), np.array(["a", "d\0"]), [("setitem", ["k"], 1, "d")]),
    "array, sign of zero": (np.zeros(2), np.array([0.0, -0.0]), [("setitem", ["k"], 1, -0.0)]),
    "array, type": (A, A.astype("f4"), [("setitem", [], "k", A.astype("f4"))]),
    "array of zeros, type": (np.zeros(2, "i4"), np.zeros(2, "f4"), [("setitem", [], "k", np.zeros(2, "f4"))]),
    "array, byte order": (A, A.astype(">f8"), [("setitem", [], "k", A.astype(">f8"))]),
    "array, shape": (M, M.reshape(2, 3), [("setitem", [], "k", M.reshape(2, 3))]),
    "array, length": (A, A[:3], [("setitem", [], "k", A[:3])]),
    "array, strides": (A[::2], with_(A[::2], (1, 9))[::-1][::-1], [("setitem", ["k"], 1, 9.0)]),
    "array, order of axes": (M, np.asfortranarray(M), []),
    "array without axes": (np.array(1), np.array(2), [("setitem", [], "k", np.array(2))]),
    "array with NaN": (np.array([NAN, 1]), np.array([NAN, 2]), [("setitem", ["k"], 1, 2.0)]),
    "NaN": ([NAN, (NAN,), 1j * NAN], [-NAN, (-NAN,), 1j * NAN], []),
    "int, then bool": (1, True, [("setitem", [], "k", True)]),
    "bool, then int": (True, 1, [("setitem", [], "k", 1)]),
    "int, then float": ([0, 1], [0, 1.0], [("setitem", ["k"], 1, 1.0)]),
    "sign of zero": ({"a": 0.0}, {"a": -0.0}, [("setitem", ["k"], "a", -0.0)]),
    "sign of complex zero": (0j, -0j, [("setitem", [], "k", -0j)]),
    "type in a tuple": (("a", (1,)), ("a", (True,)), [("setitem", [], "k", ("a", (True,)))]),
    "type of a number of numpy": (np.int32(1), np.int64(1), [("setitem", [], "k", np.int64(1))]),
    "type of a key": ({1: "a"}, {True: "a"}, [("delitem", ["k"], 1), ("setitem", ["k"], True, "a")]),
    "type in a key": (
        {(1,): "a"},
        {(1.0,): "a"},
        [("delitem", ["k"], (1,)), ("setitem", ["k"], (1.0,), "a")],
    ),
    "type of a key in a tuple": (({0: 1},), ({False: 1},), [("setitem", [], "k", ({False: 1},))]),
    "type of a set's item": ({1}, {True}, [("setitem", [], "k", {True})]),
    "fraction": (Fraction(1, 2), Fraction(1, 3), [("setitem", [], "k", Fraction(1, 3))]),
    "slice": (slice(1), slice(2), [("setitem", [], "k", slice(2))]),
    # What is equal for Python and yet another value for PYON.
    "type in a slice": (slice(1), slice(True), [("setitem", [], "k", slice(True))]),
    "type in a tuple in a set": ({(1,)}, {(True,)}, [("setitem", [], "k", {(True,)})]),
    "sign of zero in a set": ({0.0}, {-0.0}, [("setitem", [], "k", {-0.0})]),
}


def read_only(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    array = array.copy()
    array.flags.writeable = False
    return array


@pytest.mark.parametrize("case", EXACT)
def test_exact_mods(case: str) -> None:
    old, new, mods = EXACT[case]
    found = updated({"k": copy.deepcopy(old), "same": [1]}, {"k": new, "same": [1]})
    assert identical(found, mods)


@pytest.mark.parametrize("case", [case for case, one in EXACT.items() if one[2]])
def test_members_are_replaced_as_a_whole_if_so_asked(case: str) -> None:
    old, new, _ = EXACT[case]
    found = updated({"k": copy.deepcopy(old), "same": [1]}, {"k": new, "same": [1]}, nested=False)
    assert identical(found, [("setitem", [], "k", carried(new))])


def test_read_only_array_is_replaced() -> None:
    found = updated({"k": read_only(A)}, {"k": A + 1})
    assert identical(found, [("setitem", [], "k", A + 1)])


@pytest.mark.parametrize("nested", [True, False])
def test_deletions_come_first(nested: bool) -> None:
    mods = updated({"a": 1, "b": 2, "c": 3}, {"d": 4, "b": 5, "e": 6, "f": None}, nested)
    assert [(mod[0], mod[2]) for mod in mods] == [
        *(("delitem", "a"), ("delitem", "c")),
        *(("setitem", "d"), ("setitem", "b"), ("setitem", "e"), ("setitem", "f")),
    ]


def test_place_in_a_structure_and_a_mapping_that_is_no_dict() -> None:
    n = Notifier({"a": [{"b": {"c": 1, "d": 2}}], "other": 1})
    mirror = Mirror(n)
    update_from_dict(n["a"][0]["b"], MappingProxyType({"d": 3}))
    assert mirror.mods == [("delitem", ["a", 0, "b"], "c"), ("setitem", ["a", 0, "b"], "d", 3)]
    assert n.raw_view == mirror.structure == {"a": [{"b": {"d": 3}}], "other": 1}


@pytest.mark.parametrize("nested", [True, False])
def test_structure_as_its_own_source(nested: bool) -> None:
    n = Notifier({"a": [{}], "b": {"c": np.arange(3)}})
    mirror = Mirror(n)
    update_from_dict(n, n.raw_view, nested=nested)
    assert mirror.lines == []


def test_value_that_cannot_be_carried_ends_the_update() -> None:
    n = Notifier({"gone": 1, "a": 1})
    mirror = Mirror(n)
    with pytest.raises(TypeError):
        update_from_dict(n, {"a": 2, "b": object(), "c": 3})
    assert n.raw_view == mirror.structure == {"a": 2}
    with pytest.raises(ValueError, match="is no key"):
        update_from_dict(n, {NAN: 1})


# -- the source is the caller's --------------------------------------------------------------------------


SOURCES = [[[1]], {"x": [1]}, ([1], {"y": [2]}), {1}, np.zeros(2), [np.zeros((2, 2))]]
#: Both versions of PYON carry these as lists and dicts, but for the OrderedDict in v1.
SUBCLASSES: list[Any] = [OrderedDict(x=[1]), defaultdict(list, x=[1]), type("MyList", (list,), {})([[1]])]


@pytest.mark.parametrize("nested", [True, False])
@pytest.mark.parametrize("value", [*SOURCES, *SUBCLASSES], ids=lambda value: type(value).__name__)
def test_source_can_be_changed_afterwards(value: Any, nested: bool) -> None:
    n = Notifier({})
    update_from_dict(n, {"k": value}, nested=nested)
    assert not {*mutable_parts(n.raw_view)} & {*mutable_parts(value)}
    update_from_dict(n, {"k": [value]}, nested=nested)
    update_from_dict(n, {"k": [value, value]}, nested=nested)
    assert len({*mutable_parts(n.raw_view)}) == len(mutable_parts(n.raw_view))  # each place has its own
    assert not {*mutable_parts(n.raw_view)} & {*mutable_parts(value)}


@pytest.mark.parametrize("nested", [True, False])
def test_source_may_hold_parts_of_the_structure(nested: bool) -> None:
    def parts_of(old: dict[str, Any]) -> dict[str, Any]:
        one, two = old["l"]
        return {"a": old["b"], "b": old["a"], "l": [two, {"id": 9}, one, {"id": 10}]}

    def start() -> dict[str, Any]:
        return {"a": [1], "b": [2], "l": [{"id": 1}, {"id": 2}]}

    n = Notifier(start())
    mirror = Mirror(n)
    update_from_dict(n, parts_of(n.raw_view), nested=nested)
    assert n.raw_view == mirror.structure == parts_of(start())


# -- any structures --------------------------------------------------------------------------------------


def _array(values: list[int], dtype: str, columns: int) -> np.ndarray[Any, Any]:
    array = np.array(values, dtype)
    return array.reshape(-1, columns) if columns and len(values) % columns == 0 else array


#: Few different ones, so that old and new ones have much in common; many that Python takes for equal.
few_scalars = st.sampled_from(
    [None, 0, 1, 2, True, False, 0.0, -0.0, 1.0, NAN, "", "a", b"a", 0j, (1,), (1.0,)]
)
few_keys = st.sampled_from(["a", "b", "c", 0, 1, True, 1.0, None, (1,), (True,), (1.0, "a"), b"a"])
arrays = st.builds(
    _array,
    st.lists(st.integers(0, 2), max_size=6),
    st.sampled_from(["<f8", "<f8", ">f4", "u1", "<c16", "<U1"]),
    st.integers(0, 2),
)
structures = st.recursive(
    few_scalars | arrays | st.sets(st.integers(0, 3), max_size=2) | any_scalars,
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(few_keys | any_keys, inner, max_size=4)
        | st.lists(inner, max_size=2).map(tuple)
    ),
    max_leaves=12,
)
dicts = st.dictionaries(few_keys, structures, max_size=4)


def carries(value: Any) -> bool:
    """Whether PYON carries it without loss: some numbers of numpy come back as Python's."""
    return identical(carried(value), value)


@ROUND
@given(dicts, dicts, st.booleans())
def test_any_dict_becomes_any_other(old: dict[Any, Any], new: dict[Any, Any], nested: bool) -> None:
    assume(carries(old) and carries(new))
    updated(old, new, nested)


@ROUND
@given(dicts, st.booleans())
def test_nothing_is_published_for_what_is_equal(old: dict[Any, Any], nested: bool) -> None:
    assume(carries(old))
    for new in (copy.deepcopy(old), dict(reversed(copy.deepcopy(old).items()))):
        assert updated(old, new, nested) == []


@ROUND
@given(structures, st.data())
def test_one_change_in_a_list_of_dicts_costs_no_more_than_it_says(value: Any, data: st.DataObject) -> None:
    """A change of one member, somewhere, is never published as more than that."""
    assume(carries(value))
    rows: list[dict[str, Any]] = [{"id": number, "v": None} for number in range(data.draw(st.integers(1, 6)))]
    new = copy.deepcopy(rows)
    place = data.draw(st.integers(0, len(rows) - 1))
    action = data.draw(st.sampled_from(["set", "delete", "insert"]))
    if action == "set":
        new[place]["v"] = [value]
        expected: tuple[Any, ...] = ("setitem", ["rows", place], "v", [value])
    elif action == "delete":
        del new[place]
        expected = ("delitem", ["rows"], place)
    else:
        new.insert(place, {"id": -1, "v": [value]})
        expected = ("insert", ["rows"], place, {"id": -1, "v": [value]})
    assert identical(updated({"rows": rows}, {"rows": new}), [expected])


# -- same and own_copy -----------------------------------------------------------------------------------


def test_same_tells_all_samples_apart() -> None:
    for number, one in enumerate(SAMPLES):
        for other_number, other in enumerate(SAMPLES):
            assert same(copy.deepcopy(one), copy.deepcopy(other)) is (number == other_number)


@ROUND
@given(structures, structures)
def test_same_is_what_pyon_tells_apart(left: Any, right: Any) -> None:
    assume(carries(left) and carries(right))
    assert same(left, right) is alike(left, right)
    assert same(left, carried(left))


@ROUND
@given(structures)
def test_own_copy_shares_nothing_that_can_be_changed(value: Any) -> None:
    copied = own_copy(value)
    assert identical(copied, value)
    assert not {*mutable_parts(copied)} & {*mutable_parts(value)}


@pytest.mark.parametrize("holder", [[0, 1], np.zeros(2), "text", None])
def test_what_is_no_dict_stays_as_it_is(holder: Any) -> None:
    notifier = Notifier({"here": holder})
    before = repr(notifier.raw_view)
    with pytest.raises(TypeError, match="holds no dict"):
        update_from_dict(notifier["here"], {"a": 1})
    assert repr(notifier.raw_view) == before
