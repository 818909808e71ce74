"""Keeping a guest run of Trio awake for what asyncio may want next."""

from __future__ import annotations

from typing import Final, NoReturn

import trio

_ROUNDS: Final = 40
# After that in vain, the number of beginnings and ends of calls that go without; it doubles each time, up to
# the second.
_SHORTEST_PAUSE: Final = 8
_LONGEST_PAUSE: Final = 256


class Linger:
    """Scheduling rounds that Trio goes on with before it sleeps, waiting for what asyncio wants next.

    Asleep it would have to be woken, in a thread, which takes longer than most calls. Where it waits in vain,
    it does so ever more seldom.
    """

    def __init__(self) -> None:
        self._began = trio.Event()
        self._rounds = 0
        self._pause = _SHORTEST_PAUSE
        self._until_next = 0

    def begin(self) -> None:
        """A call begins or ends."""
        if self._rounds:
            self._pause = _SHORTEST_PAUSE
        elif self._until_next:
            self._until_next -= 1
            return
        self._rounds = _ROUNDS
        self._began.set()

    async def run(self) -> NoReturn:
        """The task that lingers, as long as it is told to."""
        while True:
            await self._began.wait()
            self._began = trio.Event()
            while self._rounds:
                self._rounds -= 1
                await trio.lowlevel.checkpoint()
            self._until_next = self._pause
            self._pause = min(2 * self._pause, _LONGEST_PAUSE)
