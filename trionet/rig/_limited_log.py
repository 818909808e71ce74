"""Log records about what strangers can cause as often as they like."""

from __future__ import annotations

import logging
import math
from typing import Final

import trio

# Records in full before they are counted only, and seconds between the counts.
_IN_FULL: Final = 5
_INTERVAL: Final = 60.0


class LimitedLog:
    """Logs the first few records, then how many more there were, at most once a minute.

    Args:
        logger: Where to.
        subject: Whom the records are about, for the counts.
    """

    def __init__(self, logger: logging.Logger, subject: str) -> None:
        self._logger = logger
        self._subject = subject
        self._begun = -math.inf
        self._in_full = 0
        self._left_out = 0

    def warning(self, message: str, *args: object) -> None:
        """Log a warning or count it."""
        self._log(logging.WARNING, message, args, None)

    def error(self, message: str, *args: object, exc_info: BaseException) -> None:
        """Log an error with its traceback, or count it."""
        self._log(logging.ERROR, message, args, exc_info)

    def _log(
        self, level: int, message: str, args: tuple[object, ...], exc_info: BaseException | None
    ) -> None:
        now = trio.current_time()
        if now - self._begun >= _INTERVAL:
            self.flush()
            self._begun = now
            self._in_full = 0
        if self._in_full < _IN_FULL:
            self._in_full += 1
            self._logger.log(level, message, *args, exc_info=exc_info)
        else:
            self._left_out += 1

    def flush(self) -> None:
        """Log how many were left out, if any were."""
        if self._left_out:
            self._logger.warning("%s: %d more messages like these", self._subject, self._left_out)
            self._left_out = 0
