"""What of ``trionet_compat.sipyco.sync_struct`` needs no loop: notifiers, mods, updates."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from trionet_compat.sipyco.sync_struct import ModAction, Notifier, process_mod, update_from_dict


def noting(structure: Any) -> tuple[Notifier, list[Any]]:
    notifier = Notifier(structure)
    mods: list[Any] = []
    notifier.publish = mods.append
    return notifier, mods


def test_the_actions_are_strings() -> None:
    assert [action.value for action in ModAction] == [
        *("init", "append", "insert", "pop", "setitem", "delitem")
    ]


def test_a_function_of_the_program_is_told_each_change_after_it_was_made() -> None:
    notifier = Notifier({"list": [1]})
    seen: list[Any] = []
    notifier.publish = lambda mod: seen.append((mod, list(notifier.raw_view["list"])))
    notifier["list"].append(2)
    notifier["list"][0] = 3
    assert seen == [
        ({"action": "append", "path": ["list"], "x": 2}, [1, 2]),
        ({"action": "setitem", "path": ["list"], "key": 0, "value": 3}, [3, 2]),
    ]


def test_without_anybody_to_be_told_it_is_just_changed() -> None:
    notifier = Notifier([])
    assert notifier.publish is None
    notifier.append(object())
    assert len(notifier.raw_view) == 1


def test_only_the_root_publishes() -> None:
    notifier = Notifier({"a": {"b": 1}})
    child = notifier["a"]
    assert isinstance(child, Notifier)
    assert child.root is notifier
    assert notifier.root is notifier
    assert not hasattr(child, "publish")
    assert child["b"].raw_view == 1
    assert child.raw_view is notifier.raw_view["a"]


def test_a_child_may_be_made_by_hand() -> None:
    notifier, mods = noting({"a": {"b": {}}})
    child = Notifier(notifier.raw_view["a"]["b"], notifier, ["a", "b"])
    child["c"] = 1
    assert mods == [{"action": "setitem", "path": ["a", "b"], "key": "c", "value": 1}]


def test_a_mod_belongs_to_who_is_told_it() -> None:
    notifier, mods = noting({"a": []})
    child = notifier["a"]
    child.append(1)
    mods[0]["path"].insert(0, "elsewhere")
    child.append(2)
    assert mods[1]["path"] == ["a"]


def test_keys_of_any_kind() -> None:
    notifier, mods = noting({(1, 2): [0, 0, 0], "array": np.zeros(3)})
    notifier[1, 2][:] = [1]
    notifier["array"][np.int64(1)] = 5
    assert notifier.raw_view[1, 2] == [1]
    assert list(notifier["array"].raw_view) == [0, 5, 0]
    assert mods[0]["key"] == slice(None)


def test_a_change_that_is_not_possible_is_not_told() -> None:
    notifier, mods = noting({"a": []})
    with pytest.raises(KeyError):
        notifier["b"]
    with pytest.raises(KeyError):
        del notifier["b"]
    with pytest.raises(IndexError):
        notifier["a"].pop()
    with pytest.raises(TypeError):
        iter(notifier)
    assert mods == []


class Model:
    """Something with the methods that are needed."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def __getitem__(self, key: Any) -> Model:
        self.calls.append(("[]", key))
        return self

    def __setitem__(self, key: Any, value: Any) -> None:
        self.calls.append(("[]=", key, value))

    def __delitem__(self, key: Any) -> None:
        self.calls.append(("del", key))

    def append(self, x: Any) -> None:
        self.calls.append(("append", x))

    def insert(self, i: int, x: Any) -> None:
        self.calls.append(("insert", i, x))

    def pop(self, i: int) -> str:
        self.calls.append(("pop", i))
        return "taken out"


MODS = (
    ({"action": "append", "path": ["p"], "x": 1}, [("[]", "p"), ("append", 1)]),
    ({"action": "insert", "path": [], "i": 2, "x": 1}, [("insert", 2, 1)]),
    ({"action": "pop", "path": [], "i": 3}, [("pop", 3)]),
    ({"action": "setitem", "path": [], "key": "k", "value": 4}, [("[]=", "k", 4)]),
    ({"action": "delitem", "path": ["p", 0], "key": "k"}, [("[]", "p"), ("[]", 0), ("del", "k")]),
)


@pytest.mark.parametrize(("mod", "calls"), MODS, ids=lambda value: str(value)[:24])
def test_a_mod_changes_a_model(mod: Any, calls: Any) -> None:
    model = Model()
    process_mod(model, mod)
    assert model.calls == calls
    process_mod(model, {**mod, "action": ModAction(mod["action"])})
    assert model.calls == [*calls, *calls]


def test_a_mod_for_a_notifier_is_published_again() -> None:
    notifier, mods = noting({"a": [1]})
    mod = {"action": "append", "path": ["a"], "x": 2}
    process_mod(notifier, mod)
    assert mods == [mod]
    assert notifier.raw_view == {"a": [1, 2]}


def test_values_of_mods_are_not_copied() -> None:
    target: list[Any] = []
    value: list[Any] = []
    process_mod(target, {"action": "append", "path": [], "x": value})
    assert target[0] is value


def test_mods_that_make_no_sense() -> None:
    with pytest.raises(ValueError, match="dance"):
        process_mod({}, {"action": "dance", "path": []})
    with pytest.raises(KeyError):
        process_mod({}, {"action": "init", "struct": {}})


def test_a_dict_is_updated_member_by_member() -> None:
    notifier, mods = noting({"gone": 1, "same": [1], "changed": {"a": 1, "b": 1}})
    update_from_dict(notifier, {"same": [1], "changed": {"a": 1, "b": 2}, "new": 3})
    assert [(mod["action"], mod["path"], mod["key"]) for mod in mods] == [
        ("delitem", [], "gone"),
        ("setitem", [], "changed"),
        ("setitem", [], "new"),
    ]
    assert notifier.raw_view == {"same": [1], "changed": {"a": 1, "b": 2}, "new": 3}


def test_a_subclass_may_have_an_idea_of_its_own() -> None:
    class Named(Notifier):
        def __init__(self, name: str) -> None:
            Notifier.__init__(self, {"key": {}})
            self.name = name

    notifier = Named("n")
    notifier["key"]["inner"] = 1
    assert notifier.raw_view == {"key": {"inner": 1}}
