"""Looking again for what a socket may have, for a while, before the kernel puts the program to sleep.

Why: between two processes that answer each other at once, falling asleep and being woken is most of the
time of a round trip. `trionet._transport` has the figures.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

import trio

T = TypeVar("T")

# Scheduling rounds to linger; one takes about 2 µs when nothing else is to be done. Peers that both linger
# find each other's data after 3 rounds. So many are needed to get there: to outlast a peer that must be
# woken once more (50 µs) and then answers.
_ROUNDS: Final = 50
# After a lingering in vain, the number of receives that go without; it doubles each time, up to the second.
_SHORTEST_PAUSE: Final = 8
_LONGEST_PAUSE: Final = 256

#: For how many rounds receivers linger that are made in this run of Trio from now on. It pays to have less of
#: them where a round takes longer.
linger_rounds: Final[trio.lowlevel.RunVar[int]] = trio.lowlevel.RunVar("trionet linger rounds", _ROUNDS)


class Linger:
    """The lingering of one receiver. It pays with a core for each side, so it backs off where it does not."""

    __slots__ = ("_pause", "_receives_until_next", "_rounds")

    def __init__(self) -> None:
        self._rounds = linger_rounds.get()
        self._pause = _SHORTEST_PAUSE
        self._receives_until_next = 0

    async def look(self, receive_nowait: Callable[[], T | None]) -> T | None:
        """What `receive_nowait` finds, or None: then it is time to sleep.

        Not always a checkpoint. Cancelled, it has taken nothing.
        """
        if self._receives_until_next:
            self._receives_until_next -= 1
            return None
        for _ in range(self._rounds):
            await trio.lowlevel.checkpoint()
            found = receive_nowait()
            if found is not None:
                self._pause = _SHORTEST_PAUSE
                return found
        self._receives_until_next = self._pause
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)
        return None
