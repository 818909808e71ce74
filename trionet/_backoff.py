"""How long to wait before the next attempt to connect."""

from __future__ import annotations

import random
from typing import Final

#: Seconds before the first attempt after a connection was lost, by default.
FIRST_RETRY: Final = 0.1
#: Seconds between attempts at most, by default.
MAX_RETRY: Final = 10.0

# The part of a delay that is left to chance, so that clients of a server that comes back do not all come at
# once.
_JITTER: Final = 0.5


class Backoff:
    """Delays that double with each failure, up to a limit, each shortened by up to a half at random.

    Args:
        first: Seconds, the longest first delay.
        most: Seconds, the longest of all delays. A connection that has lasted as long ends the series: the
            next delay is a first one. One that is lost sooner does not, or a server that accepts and closes
            would be stormed.
        rng: Source of the randomness; one of its own by default.

    Raises:
        ValueError: unless 0 < first <= most.
    """

    def __init__(
        self, first: float = FIRST_RETRY, most: float = MAX_RETRY, rng: random.Random | None = None
    ) -> None:
        if not 0 < first <= most:
            raise ValueError(f"the first delay must be > 0 and at most the longest, not {first} and {most} s")
        self._first = first
        self._most = most
        self._rng = rng if rng is not None else random.Random()
        self._next = first

    def next_delay(self, lasted: float = 0.0) -> float:
        """Seconds to wait now.

        Args:
            lasted: Seconds that the connection which was lost has lasted; 0 if there was none.
        """
        if lasted >= self._most:
            self._next = self._first
        longest = self._next
        self._next = min(2 * self._next, self._most)
        return longest * (1 - _JITTER * self._rng.random())
