"""Ctrl-C at a place that does not vary, for tests of where it is raised."""

from __future__ import annotations

import logging
import signal


class InterruptingHandler(logging.Handler):
    """Ctrl-C comes when something is logged for the first time."""

    interrupted = False

    def emit(self, record: logging.LogRecord) -> None:
        if not self.interrupted:
            self.interrupted = True
            signal.raise_signal(signal.SIGINT)
