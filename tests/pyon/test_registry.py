"""Classes of one's own in PYON v2."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from trionet import pyon
from trionet.pyon import PyonDecodeError


@dataclass(frozen=True)
class Point:
    x: Any
    y: Any


class Special(list[int]):
    """A subclass of a JSON type: written as a list until it is registered."""


def encode_point(point: Point) -> list[Any]:
    return [point.x, pyon.wrap(point.y)]


@pytest.fixture
def registered() -> Iterator[None]:
    pyon.register([Point], name="lab.Point", encode=encode_point, decode=Point)
    yield
    pyon.deregister([Point], "lab.Point")


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize("pretty", [False, True])
def test_a_custom_class_travels(pretty: bool) -> None:
    value = [Point(1, (2, b"x")), {Point(0, Point(1, 2)): {"k": Point(None, 1.5)}}]
    assert pyon.decode(pyon.encode(value, pretty=pretty)) == value
    assert pyon.encode(Point(1, (2,))) == (
        '{"__jsonclass__":["lab.Point",[1,{"__jsonclass__":["tuple",[[2]]]}]]}'
    )


@pytest.mark.usefixtures("registered")
def test_arguments_that_do_not_fit() -> None:
    with pytest.raises(PyonDecodeError, match=r"lab\.Point.*TypeError.*\(at \$\[1\]\)") as info:
        pyon.decode('[1,{"__jsonclass__":["lab.Point",[1]]}]')
    assert isinstance(info.value.__cause__, TypeError)


def test_a_decoder_may_refuse_in_its_own_words() -> None:
    def refuse(*_: Any) -> None:
        raise PyonDecodeError("no points today")

    pyon.register([Point], name="lab.Point", encode=encode_point, decode=refuse)
    try:
        with pytest.raises(PyonDecodeError, match=r"^no points today \(at \$\)$"):
            pyon.decode('{"__jsonclass__":["lab.Point",[1,2]]}')
    finally:
        pyon.deregister([Point], "lab.Point")


def test_types_are_matched_exactly() -> None:
    pyon.register([Special], name="Special", encode=lambda items: [list(items)], decode=Special)
    try:
        text = pyon.encode([Special([1]), [1]])
        assert text == '[{"__jsonclass__":["Special",[[1]]]},[1]]'
        assert [type(item) for item in pyon.decode(text)] == [Special, list]
    finally:
        pyon.deregister([Special], "Special")
    assert pyon.encode(Special([1])) == "[1]"


def test_unknown_before_and_after() -> None:
    text = '{"__jsonclass__":["lab.Point",[1,2]]}'
    for _ in range(2):
        with pytest.raises(TypeError, match="Point"):
            pyon.encode(Point(1, 2))
        with pytest.raises(PyonDecodeError, match=r"unknown class 'lab\.Point'"):
            pyon.decode(text)
        pyon.register([Point], name="lab.Point", encode=encode_point, decode=Point)
        assert pyon.decode(text) == Point(1, 2)
        pyon.deregister([Point], "lab.Point")


@pytest.mark.parametrize(
    ("types", "name"),
    [
        ([Point], "lab.Point"),
        ([Special], "lab.Point"),
        ([Special], "tuple"),
        ([Special, Point], "New"),
        ([Special, dict], "New"),
        ([Special, bool], "New"),
        ([Special, np.ndarray], "New"),
    ],
)
@pytest.mark.usefixtures("registered")
def test_what_is_taken_is_refused_whole(types: list[type], name: str) -> None:
    with pytest.raises(ValueError, match=r"already"):
        pyon.register(types, name=name, encode=lambda _: [], decode=Special)
    assert pyon.encode(Special([1])) == "[1]"
    with pytest.raises(PyonDecodeError, match="unknown"):
        pyon.decode('{"__jsonclass__":["New",[]]}')


@pytest.mark.usefixtures("registered")
def test_only_what_is_registered_can_be_deregistered() -> None:
    for types, name in (
        ([Point], "other"),
        ([Special], "lab.Point"),
        ([Point, Special], "lab.Point"),
        ([set], "tuple"),
    ):
        with pytest.raises(KeyError):
            pyon.deregister(types, name)
    with pytest.raises(ValueError, match="part of PYON"):
        pyon.deregister([tuple], "tuple")
    with pytest.raises(ValueError, match="part of PYON"):
        pyon.deregister([], "nparray")
    assert pyon.decode(pyon.encode([Point(1, 2), (3,)])) == [Point(1, 2), (3,)]
