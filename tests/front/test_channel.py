"""`Channel`: each change encoded once, a bound on what waits, and every subscriber in step in the end."""

from __future__ import annotations

import contextlib
import gc
import logging
import weakref
from typing import Any

import pytest
import trio
import trio.testing

from trionet.sync_struct import _channel
from trionet.sync_struct._channel import Batch, Channel
from trionet.sync_struct.notifier import Notifier
from trionet.wire.feeds import encode_line
from trionet.wire.sync_struct import Mod, SubscriberConnection, apply_mod

NO_BOUND = 1 << 40


def published(structure: Any, max_backlog: int = NO_BOUND, pyon_version: Any = 2) -> tuple[Notifier, Channel]:
    notifier = Notifier(structure)
    channel = Channel("name", notifier, pyon_version, max_backlog)
    notifier.attach(channel)
    return notifier, channel


class Follower:
    """A subscriber that makes of what it takes what it says."""

    def __init__(self, channel: Channel, pyon_version: Any = None) -> None:
        self.subscriber = channel.join("peer")
        self.wire = SubscriberConnection(NO_BOUND, pyon_version)
        self.wire.subscribe("name")
        self.structure: Any = None
        self.mods: list[Mod] = []
        self._channel = channel

    def take(self) -> list[str]:
        """Take once; the actions that came."""
        data = self._channel.take(self.subscriber)
        if data is None:
            return []
        assert data.endswith(b"\n")
        self.wire.receive_data(data)
        actions = []
        while (mod := self.wire.next_mod()) is not None:
            if mod["action"] == "init":
                self.structure = mod["struct"]
            else:
                apply_mod(self.structure, mod)
            actions.append(mod["action"])
        assert self.wire.buffered == 0  # whole lines only
        return actions

    def take_all(self) -> list[str]:
        actions = []
        while taken := self.take():
            actions += taken
        return actions

    @property
    def figures(self) -> tuple[int, int, int]:
        """Lag, backlog and resyncs."""
        subscriber = self.subscriber
        return self._channel.lag(subscriber), self._channel.backlog(subscriber), subscriber.resyncs


def size_of(mod: Mod) -> int:
    return len(encode_line(mod, 2))


def setitem(key: Any, value: Any) -> Mod:
    return {"action": "setitem", "path": [], "key": key, "value": value}


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The actions that were encoded, as it happens."""
    actions: list[str] = []

    def counting(mod: Mod, pyon_version: Any) -> bytes:
        actions.append(mod["action"])
        return encode_line(mod, pyon_version)

    monkeypatch.setattr(_channel, "encode_mod", counting)
    return actions


def batches() -> int:
    """How many there are in the process."""
    gc.collect()
    return sum(type(one) is Batch for one in gc.get_objects())


# -- encoding --------------------------------------------------------------------------------------------


def test_nothing_is_encoded_without_subscribers(encoded: list[str]) -> None:
    n, channel = published({})
    n["a"] = 1
    n["b"] = object()
    n.pop("b")
    assert encoded == []
    assert channel.version == 3
    follower = Follower(channel)
    channel.leave(follower.subscriber)
    n["c"] = 1
    assert encoded == []


def test_each_change_and_the_snapshot_are_encoded_once_for_all(encoded: list[str]) -> None:
    n, channel = published({"l": []})
    followers = [Follower(channel) for _ in range(5)]
    assert [one.take_all() for one in followers] == [["init"]] * 5
    for number in range(10):
        n["l"].append(number)
    assert [one.take_all() for one in followers] == [["append"] * 10] * 5
    assert encoded == ["init"] * encoded.count("init") + ["append"] * 10
    assert all(one.structure == {"l": [*range(10)]} for one in followers)
    # A snapshot is shared by those who are sent it at the same time.
    encoded.clear()
    joined = [Follower(channel) for _ in range(5)]
    assert [one.take() for one in joined] == [["init"]] * 5
    assert encoded == ["init"]


def test_snapshot_is_taken_anew_after_a_change_and_freed_when_sent(encoded: list[str]) -> None:
    n, channel = published({})
    first, second, third = (Follower(channel) for _ in range(3))
    first.take()
    snapshot = first.subscriber.snapshot
    assert snapshot is not None
    second.take()
    assert second.subscriber.snapshot is snapshot
    n["a"] = 1
    third.take()
    assert third.subscriber.snapshot is not snapshot
    assert encoded == ["init", "setitem", "init"]
    assert third.structure == {"a": 1}
    freed = weakref.ref(snapshot)
    del snapshot
    first.take()
    assert freed() is not None
    second.take()
    assert freed() is None
    last = third.subscriber.snapshot
    assert last is not None
    freed = weakref.ref(last)
    del last
    third.take()
    assert freed() is None


def test_snapshot_and_batch_are_the_same_bytes_for_all() -> None:
    n, channel = published({})
    subscribers = [channel.join("peer") for _ in range(3)]
    taken = [channel.take(subscriber) for subscriber in subscribers]
    assert taken[0] is taken[1] is taken[2]
    n["a"] = 1
    n["b"] = 2
    taken = [channel.take(subscriber) for subscriber in subscribers]
    assert taken[0] == encode_line(setitem("a", 1), 2) + encode_line(setitem("b", 2), 2)
    assert taken[0] is taken[1] is taken[2]


def test_pyon_version_is_the_publishers() -> None:
    n, channel = published({"t": (1,)}, pyon_version=1)
    subscriber = channel.join("peer")
    assert channel.take(subscriber) == b'{"action": "init", "struct": {"t": (1, )}}\n'
    n["u"] = slice(1)
    assert channel.take(subscriber) == encode_line(setitem("u", slice(1)), 1)


def test_structure_that_cannot_be_carried_is_noticed_when_it_is_taken() -> None:
    n, channel = published({})
    n["a"] = object()
    follower = Follower(channel)
    for _ in range(2):
        with pytest.raises(TypeError, match="object"):
            follower.take()
    with pytest.raises(TypeError):
        n["b"] = object()
    n["a"] = 1
    assert follower.take_all() == ["init"]
    assert follower.structure == {"a": 1}


def test_structure_can_always_be_carried_if_all_its_changes_could() -> None:
    """A dict with this key, and with text for keys only, has no form in PYON v2."""
    n, channel = published({})
    Follower(channel).take()
    with contextlib.suppress(ValueError):
        n["__jsonclass__"] = 1
    follower = Follower(channel)
    assert follower.take_all() == ["init"]
    assert follower.structure == n.raw_view


def test_large_backlog_is_taken_in_chunks() -> None:
    n, channel = published([])
    subscriber = channel.join("peer")
    channel.take(subscriber)
    line = encode_line({"action": "append", "path": [], "x": "x" * 50_000}, 2)
    for _ in range(20):
        n.append("x" * 50_000)
    taken: list[bytes] = []
    while data := channel.take(subscriber):
        assert channel.backlog(subscriber) == 20 * len(line) - sum(len(one) for one in taken)
        taken.append(data)
    assert b"".join(taken) == line * 20
    assert 1 < len(taken) < 10
    assert max(map(len, taken)) < 1 << 20


def test_complete_and_open_batches_leave_together() -> None:
    n, channel = published([])
    one = Follower(channel)
    one.take_all()
    n.append("x" * 100_000)
    n.append(1)
    assert one.take() == ["append", "append"]


# -- figures and the bound -------------------------------------------------------------------------------


def test_figures_of_a_subscriber() -> None:
    n, channel = published({})
    one = Follower(channel)
    assert one.figures == (0, 0, 0)
    channel.take(one.subscriber)
    init = size_of({"action": "init", "struct": {}})
    assert one.figures == (0, init, 0)  # on its way
    a, b = size_of(setitem("a", 1)), size_of(setitem("b", "two"))
    n["a"] = 1
    assert one.figures == (1, init + a, 0)
    n["b"] = "two"
    assert one.figures == (2, init + a + b, 0)
    assert len(channel.take(one.subscriber) or b"") == a + b
    assert one.figures == (0, a + b, 0)
    n["a"] = 1
    assert one.figures == (1, a + b + a, 0)
    channel.take(one.subscriber)
    assert channel.take(one.subscriber) is None
    assert one.figures == (0, 0, 0)


def test_lag_counts_from_what_was_taken_last_even_if_nobody_listened_before() -> None:
    n, channel = published({})
    for number in range(5):
        n["a"] = number
    one = Follower(channel)
    assert one.take_all() == ["init"]
    assert one.figures == (0, 0, 0)
    n["a"] = 5
    assert one.figures[0] == 1
    assert one.take_all() == ["setitem"]
    assert one.figures == (0, 0, 0)


def test_backlog_may_reach_the_bound_and_not_exceed_it() -> None:
    a = size_of(setitem("a", 1))
    for surplus in (0, 1):
        n, channel = published({}, max_backlog=3 * a - surplus)
        one = Follower(channel)
        one.take_all()
        for number in range(3):
            n["a"] = number
        if not surplus:
            assert one.figures == (3, 3 * a, 0)
            assert one.take_all() == ["setitem"] * 3
        else:
            assert one.figures == (3, 0, 1)
            assert one.take_all() == ["init"]
        assert one.structure == {"a": 2}


@pytest.mark.parametrize("all_but_one_byte", [False, True])
def test_bound_is_exact_for_each_of_several_and_after_resyncs(all_but_one_byte: bool) -> None:
    a = size_of(setitem("a", 1))
    n, channel = published({}, max_backlog=3 * a - 1 if all_but_one_byte else 2 * a)
    early, late = Follower(channel), Follower(channel)
    early.take_all()
    n["a"] = 0
    late.take_all()
    n["a"] = 1
    n["a"] = 2
    assert (early.figures, late.figures) == ((3, 0, 1), (2, 2 * a, 0))
    for resyncs in (0, 1, 2):
        assert early.take_all() == ["init"]
        late.take_all()
        n["a"] = 0
        n["a"] = 1
        assert (early.figures, late.figures) == ((2, 2 * a, resyncs + 1), (2, 2 * a, resyncs))
        n["a"] = 2
        assert (early.figures, late.figures) == ((3, 0, resyncs + 2), (3, 0, resyncs + 1))


def test_who_is_too_far_behind_gets_one_fresh_init_when_it_takes_again() -> None:
    n, channel = published({}, max_backlog=100)
    slow, fast = Follower(channel), Follower(channel)
    slow.take_all()
    fast.take_all()
    for number in range(50):
        n["a"] = number
        assert fast.take_all() == ["setitem"]
        assert slow.figures[0] == number + 1
    assert slow.figures == (50, 0, 1)
    assert slow.take_all() == ["init"]
    assert slow.structure == {"a": 49}
    assert slow.figures == (0, 0, 1)
    n["b"] = "x" * 200
    assert (slow.figures, fast.figures) == ((1, 0, 2), (1, 0, 1))
    assert slow.take_all() == fast.take_all() == ["init"]
    n["c"] = 1
    assert slow.take_all() == fast.take_all() == ["setitem"]
    assert slow.structure == fast.structure == n.raw_view


def test_what_is_on_its_way_does_not_count_for_the_bound() -> None:
    n, channel = published({"big": "x" * 1000}, max_backlog=100)
    one = Follower(channel)
    one.take()
    n["a"] = 1
    assert one.subscriber.resyncs == 0
    assert one.figures[1] > 1000
    assert one.take_all() == ["setitem"]


def test_who_has_not_taken_anything_is_not_behind() -> None:
    n, channel = published({}, max_backlog=10)
    one = Follower(channel)
    for number in range(5):
        n["a"] = number
    assert one.figures == (5, 0, 0)
    assert one.take_all() == ["init"]


def test_first_resync_of_a_subscriber_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    n, channel = published({}, max_backlog=10)
    one = Follower(channel)
    with caplog.at_level(logging.WARNING, "trionet.sync_struct"):
        for number in range(3):
            one.take_all()
            n["a"] = number
    assert one.subscriber.resyncs == 3
    (record,) = caplog.records
    assert "peer: more than 10 bytes behind on 'name'" in record.getMessage()


# -- memory ----------------------------------------------------------------------------------------------


def test_what_all_have_been_sent_is_freed() -> None:
    before = batches()
    n, channel = published([])
    slow, fast = channel.join("slow"), channel.join("fast")
    for subscriber in (slow, fast):
        channel.take(subscriber)
        assert channel.take(subscriber) is None
    for number in range(100):
        n.append(number)
        channel.take(fast)
    assert batches() - before == 101
    while channel.take(slow):
        pass
    assert batches() - before == 1


@pytest.mark.parametrize("end", ["leave", "too far behind"])
def test_what_a_slow_subscriber_held_is_freed(end: str) -> None:
    before = batches()
    n, channel = published([], max_backlog=10_000)
    slow, fast = channel.join("slow"), channel.join("fast")
    for subscriber in (slow, fast):
        channel.take(subscriber)
    for number in range(100):
        n.append(number)
        channel.take(fast)
    assert batches() - before == 101
    if end == "leave":
        channel.leave(slow)
        del slow, subscriber
    else:
        n.append("x" * 10_000)
        channel.take(fast)
    assert batches() - before <= 2


def test_long_chain_is_freed_without_recursion() -> None:
    before = batches()
    n, channel = published({})
    slow, fast = channel.join("slow"), channel.join("fast")
    channel.take(slow)
    channel.take(fast)
    for number in range(20_000):
        n["a"] = number
        channel.take(fast)
    assert batches() - before > 20_000
    channel.leave(slow)
    del slow
    assert batches() - before == 1


def test_without_subscribers_little_is_kept() -> None:
    before = batches()
    n, channel = published([])
    one = channel.join("peer")
    channel.take(one)
    for _ in range(100):
        n.append("x" * 10_000)
    channel.leave(one)
    del one
    n.append("y")
    assert batches() - before == 1
    assert sum(map(len, channel._lines)) < 100_000


# -- waiting ---------------------------------------------------------------------------------------------


async def test_a_change_wakes_all_who_wait() -> None:
    n, channel = published({})
    woken: list[str] = []

    async def wait(name: str) -> None:
        await channel.wait_changed()
        woken.append(name)

    async with trio.open_nursery() as nursery:
        channel.join("peer")
        nursery.start_soon(wait, "a")
        nursery.start_soon(wait, "b")
        await trio.testing.wait_all_tasks_blocked()
        assert woken == []
        n["a"] = 1
        await trio.testing.wait_all_tasks_blocked()
        assert sorted(woken) == ["a", "b"]
