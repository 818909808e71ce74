"""The garbage collector while a large value is built: paused, and never left that way."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from trionet import pyon

LARGE = "[" + ",".join(['{"a":[1,2]}'] * 20_000) + "]"
BROKEN = LARGE[:-1] + ",]"


@contextmanager
def counted_collections() -> Iterator[list[int]]:
    """The generations of the collections that are begun in the block."""
    begun: list[int] = []

    def count(phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            begun.append(info["generation"])

    gc.collect()
    gc.callbacks.append(count)
    try:
        yield begun
    finally:
        gc.callbacks.remove(count)


@pytest.mark.parametrize("text", [LARGE, LARGE.encode(), f'[{LARGE},{{"__jsonclass__":["tuple",[[]]]}}]'])
def test_nothing_is_collected_while_a_large_value_is_built(text: str | bytes) -> None:
    with counted_collections() as begun:
        value = pyon.decode(text)
        during = len(begun)
    assert len(value) > 1
    assert during <= 1  # the one that the pause has put off
    assert gc.isenabled()


def test_it_is_switched_on_again_whatever_happens() -> None:
    with pytest.raises(pyon.PyonDecodeError):
        pyon.decode(BROKEN)
    assert gc.isenabled()


def test_a_collector_that_is_off_stays_off() -> None:
    gc.disable()
    try:
        pyon.decode(LARGE)
        assert not gc.isenabled()
    finally:
        gc.enable()
