"""How long a receiver looks again before it sleeps."""

from __future__ import annotations

import trio

from trionet import _linger
from trionet._linger import Linger


class Source:
    """Has something to receive after it was asked so many times."""

    def __init__(self, after: float) -> None:
        self.asked = 0
        self.after = after

    def receive_nowait(self) -> bytes | None:
        self.asked += 1
        return b"found" if self.asked > self.after else None


async def test_what_comes_while_lingering_is_found() -> None:
    source = Source(after=3)
    assert await Linger().look(source.receive_nowait) == b"found"
    assert source.asked == 4


async def test_lingering_is_given_up_when_in_vain_and_tried_again() -> None:
    linger = Linger()
    silent = Source(after=float("inf"))
    for pause in (_linger._SHORTEST_PAUSE, 2 * _linger._SHORTEST_PAUSE):
        silent.asked = 0
        assert await linger.look(silent.receive_nowait) is None
        assert silent.asked == _linger._ROUNDS
        for _ in range(pause):
            assert await linger.look(silent.receive_nowait) is None
        assert silent.asked == _linger._ROUNDS
    assert await linger.look(Source(after=0).receive_nowait) == b"found"
    assert await linger.look(silent.receive_nowait) is None
    for _ in range(_linger._SHORTEST_PAUSE):
        await linger.look(silent.receive_nowait)
    silent.asked = 0
    await linger.look(silent.receive_nowait)
    assert silent.asked == _linger._ROUNDS


async def test_the_pauses_have_a_limit() -> None:
    linger = Linger()
    silent = Source(after=float("inf"))
    for _ in range(20):
        while silent.asked == 0:
            await linger.look(silent.receive_nowait)
        silent.asked = 0
    for _ in range(_linger._LONGEST_PAUSE):
        await linger.look(silent.receive_nowait)
    assert silent.asked == 0
    await linger.look(silent.receive_nowait)
    assert silent.asked == _linger._ROUNDS


async def test_other_tasks_run_meanwhile_and_can_cancel_it() -> None:
    silent = Source(after=float("inf"))
    with trio.CancelScope() as scope:
        scope.cancel()
        await Linger().look(silent.receive_nowait)
    assert scope.cancelled_caught
    assert silent.asked == 0


async def test_a_run_may_have_fewer_rounds_or_none() -> None:
    for rounds in (3, 0):
        _linger.linger_rounds.set(rounds)
        silent = Source(after=float("inf"))
        assert await Linger().look(silent.receive_nowait) is None
        assert silent.asked == rounds
