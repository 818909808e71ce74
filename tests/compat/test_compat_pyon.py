"""`trionet_compat.sipyco.pyon`, `pyon_v1` and `packed_exceptions`: upstream's names and errors."""

from __future__ import annotations

import json
import runpy
import sys
from collections import OrderedDict
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trionet_compat.sipyco import pyon, pyon_v1
from trionet_compat.sipyco.packed_exceptions import (
    GenericRemoteException,
    builtin_exceptions,
    current_exc_packed,
    raise_packed_exc,
)

VALUE = {"b": (1, {2, 3}, b"x"), "a": {1: 0.5, "k": None}}


class Refused(Exception):
    pass


class Vector:
    def __init__(self, x: float, y: float) -> None:
        self.xy = x, y


def test_values_go_and_come() -> None:
    assert pyon.decode(pyon.encode(VALUE)) == VALUE
    assert pyon.decode(pyon.encode(VALUE, True).encode()) == VALUE
    assert pyon_v1.decode(pyon_v1.encode(VALUE)) == VALUE
    assert pyon_v1.decode(pyon_v1.encode(VALUE, True)) == VALUE
    assert pyon.encode([1, {"a": 2}], pretty=True) == json.dumps([1, {"a": 2}], indent=4)


def test_options_of_json() -> None:
    assert pyon.encode({"b": (1,), "a": 2}, sort_keys=True) == (
        '{"a":2,"b":{"__jsonclass__":["tuple",[[1]]]}}'
    )
    assert pyon.encode({"b": 1, "a": 2}, pretty=True, sort_keys=True) == '{\n    "a": 2,\n    "b": 1\n}'
    text = pyon.encode([(1.5,), np.arange(2)])
    decoded = pyon.decode(text, parse_float=Decimal)
    assert decoded[0] == (Decimal("1.5"),)
    np.testing.assert_array_equal(decoded[1], np.arange(2))


@pytest.mark.parametrize("options", [{}, {"parse_float": float}])
def test_what_is_no_pyon_v2(options: dict[str, Any]) -> None:
    for text in ("[1", "(1, )", "", '{1: "v1"}'):
        with pytest.raises(json.JSONDecodeError):  # on which programs try v1
            pyon.decode(text, **options)
    with pytest.raises(TypeError, match=r"^Object of type `foo` is not PYON decodable$"):
        pyon.decode('{"__jsonclass__":["foo",[]]}', **options)
    with pytest.raises(ValueError, match="argument"):
        pyon.decode('{"__jsonclass__":["tuple",[]]}', **options)


@pytest.mark.parametrize("text", ["[1", "os.system('true')", "nparray()", '"\\x'])
def test_what_is_no_pyon_v1(text: str) -> None:
    with pytest.raises(SyntaxError) as info:
        pyon_v1.decode(text)
    assert isinstance(info.value, ValueError)
    assert str(info.value) == info.value.msg


def test_what_has_no_form() -> None:
    with pytest.raises(TypeError, match=r"^`range\(0, 3\)`: Object of type `range` is not PYON encodable$"):
        pyon.encode({"a": [range(3)]})
    with pytest.raises(TypeError, match="is not PYON encodable"):
        pyon.encode({"a": [range(3)]}, sort_keys=True)
    with pytest.raises(TypeError, match=r"^`range\(0, 3\)` \(<class 'range'>\) is not PYON serializable$"):
        pyon_v1.encode([range(3)])
    with pytest.raises(TypeError, match="object dtype"):
        pyon.encode(np.array([None]))


def test_classes_of_ones_own() -> None:
    pyon.register((Vector,), name="vector", encode=lambda v: list(v.xy), decode=Vector)
    try:
        assert pyon.decode(pyon.encode([Vector(1, 2)]))[0].xy == (1, 2)
        assert pyon.decode(pyon.encode([Vector(1, 2)]), parse_int=str)[0].xy == ("1", "2")
        for types, name in (((Vector,), "other"), ((dict,), "other"), ((), "vector"), ((), "tuple")):
            with pytest.raises(AssertionError):
                pyon.register(types, name=name, encode=list, decode=Vector)
        with pytest.raises(AssertionError):
            pyon.deregister((Vector,), "tuple")
    finally:
        pyon.deregister((Vector,), "vector")
    with pytest.raises(AssertionError):
        pyon.deregister((Vector,), "vector")


def test_files(tmp_path: Path) -> None:
    pyon.store_file(tmp_path / "v2", VALUE)
    pyon_v1.store_file(tmp_path / "v1", VALUE)
    assert pyon.load_file(tmp_path / "v2") == VALUE
    assert pyon_v1.load_file(tmp_path / "v1") == VALUE
    assert (tmp_path / "v1").read_text().endswith("}\n")
    with pytest.raises(json.JSONDecodeError):
        pyon.load_file(tmp_path / "v1")
    with pytest.raises(json.JSONDecodeError):
        pyon.load_file(tmp_path / "v1", parse_float=float)
    (tmp_path / "v1").write_text("f()")
    with pytest.raises(SyntaxError, match="v1: "):
        pyon_v1.load_file(tmp_path / "v1")
    pyon.store_file(tmp_path / "v2", {"b": 1, "a": 1}, sort_keys=True)
    assert list(pyon.load_file(tmp_path / "v2", object_pairs_hook=None)) == ["a", "b"]


def test_converting_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "datasets.pyon"
    pyon_v1.store_file(file, OrderedDict(VALUE))
    monkeypatch.setattr(sys, "argv", ["pyon", str(file)])
    with pytest.raises(SystemExit) as info:
        runpy.run_path(pyon.__file__, run_name="__main__")
    assert info.value.code == 0
    assert pyon.load_file(file) == VALUE
    assert pyon_v1.load_file(tmp_path / "datasets.pyon_v1") == VALUE


def _packed(error: BaseException) -> dict[str, Any]:
    try:
        raise error
    except BaseException:
        return current_exc_packed()


def test_builtin_exceptions_travel_by_name() -> None:
    pack = _packed(ValueError("text"))
    assert (pack["class"], pack["message"]) == ("ValueError", "text")
    with pytest.raises(ValueError, match="text") as info:
        raise_packed_exc(pack)
    assert info.value.parent_traceback == pack["traceback"]  # type: ignore[attr-defined]
    assert "in _packed" in pack["traceback"][0]
    assert builtin_exceptions[ValueError] == "ValueError"


def test_other_exceptions_travel_as_text() -> None:
    pack = _packed(Refused("text"))
    assert pack["class"] == "GenericRemoteException"
    with pytest.raises(GenericRemoteException) as info:
        raise_packed_exc(pack)
    assert str(info.value) == "tests.compat.test_compat_pyon.Refused: text"
    assert info.value.parent_traceback == pack["traceback"]


@pytest.mark.parametrize("name", ["eval", "SystemExit", "KeyboardInterrupt", "UnicodeDecodeError"])
def test_names_that_are_not_called(name: str) -> None:
    with pytest.raises(GenericRemoteException) as info:
        raise_packed_exc({"class": name, "message": "1 / 0", "traceback": []})
    assert str(info.value) == f"{name}: 1 / 0"


def test_there_must_be_an_exception_to_pack() -> None:
    with pytest.raises(RuntimeError, match="no exception"):
        current_exc_packed()


def test_a_generic_exception_of_ones_own() -> None:
    error = GenericRemoteException("lab.Refused: no")
    assert error.parent_traceback == []
    assert repr(error) == "GenericRemoteException('lab.Refused: no')"
