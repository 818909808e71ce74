"""A channel against a model of it: in whatever order things happen, figures and bound are exact."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.front.test_channel import Follower, published
from tests.wire.values import identical
from trionet import pyon
from trionet.pyon import v1
from trionet.sync_struct import _channel
from trionet.sync_struct._channel import Channel
from trionet.sync_struct.notifier import Notifier
from trionet.wire.feeds import encode_line
from trionet.wire.sync_struct import Mod

VALUES: list[Callable[[], Any]] = [
    *(lambda: 1, lambda: "x" * 30, lambda: "y" * 150, lambda: "z" * 300, lambda: [(1, {2: 3.5})]),
    *(lambda: np.arange(4.0), lambda: {"deep": [None]}),
]
#: What happens, to which subscriber or member, and the new value.
EVENTS = st.tuples(
    st.sampled_from(["change"] * 4 + ["take"] * 3 + ["take all", "join", "join", "leave"]),
    st.integers(0, 4),
    st.sampled_from(VALUES),
)
DECODE: dict[int, Callable[[bytes], Any]] = {1: v1.decode, 2: pyon.decode}


def change(n: Notifier, number: int, value: Any) -> None:
    if number == 0:
        n["l"].append(value)
    elif number == 1:
        n["l"].insert(0, value)
    elif number == 2 and n["l"].raw_view:
        n["l"].pop()
    elif number == 3:
        n["l"][:1] = [value]
    else:
        n["d"][number] = value


class Expected:
    """A follower, and what must be true of it."""

    def __init__(self, channel: Channel, pyon_version: Any) -> None:
        self.follower = Follower(channel, pyon_version)
        self.waiting: list[int] | None = None  # sizes of the lines that wait; None if an init is next
        self.lag = channel.version
        self.resyncs = 0
        self.on_its_way = 0

    def published(self, size: int, max_backlog: int) -> None:
        self.lag += 1
        if self.waiting is not None:
            self.waiting.append(size)
            if sum(self.waiting) > max_backlog:
                self.waiting = None
                self.resyncs += 1

    def take(self) -> bool:
        actions = self.follower.take()
        self.on_its_way = self.follower.subscriber.taken
        if self.waiting is None:
            assert actions == ["init"]
            self.waiting, self.lag = [], 0
        else:
            assert "init" not in actions
            assert bool(actions) is bool(self.waiting)
            self.lag -= len(actions)
            assert self.on_its_way == sum(self.waiting[: len(actions)])
            del self.waiting[: len(actions)]
        return bool(actions)

    def check(self, max_backlog: int) -> None:
        waiting = sum(self.waiting or [])
        assert waiting <= max_backlog
        assert self.follower.figures == (self.lag, waiting + self.on_its_way, self.resyncs)


@pytest.mark.parametrize(("batch", "chunk"), [(64 * 1024, 256 * 1024), (100, 250), (1, 1)])
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(EVENTS, min_size=5, max_size=60), st.sampled_from([0, 60, 200, 1000]), st.sampled_from([1, 2])
)
def test_any_order_of_events(
    batch: int, chunk: int, events: list[Any], max_backlog: int, pyon_version: Any
) -> None:
    """The figures are exact, the bound holds, and who takes all has the structure that there is."""
    sizes: list[int] = []

    def measured(mod: Mod, version: Any) -> bytes:
        line = encode_line(mod, version)
        sizes.append(len(line))
        return line

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_channel, "_BATCH", batch)
        patch.setattr(_channel, "_CHUNK", chunk)
        patch.setattr(_channel, "encode_mod", measured)
        n, channel = published({"l": [], "d": {}}, max_backlog, pyon_version)
        all_expected: list[Expected] = []
        for what, number, new_value in events:
            one = all_expected[number] if number < len(all_expected) else None
            if what == "change":
                change(n, number, new_value())
                for expected in all_expected:
                    expected.published(sizes[-1], max_backlog)
            elif what == "join":
                all_expected.append(Expected(channel, pyon_version))
            elif one is None:
                pass
            elif what == "leave":
                channel.leave(one.follower.subscriber)
                all_expected.remove(one)
            else:
                while one.take() and what == "take all":
                    pass
            for expected in all_expected:
                expected.check(max_backlog)
        for expected in all_expected:
            while expected.take():
                pass
            expected.check(max_backlog)
            structure = encode_line(n.raw_view, pyon_version)
            assert identical(expected.follower.structure, DECODE[pyon_version](structure))
