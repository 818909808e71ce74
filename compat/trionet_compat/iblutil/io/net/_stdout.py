"""Loggers that write to the standard output in colour: those of communicators that are given none."""

from __future__ import annotations

import logging
import sys
from typing import Final

_COLOURS: Final = (
    (logging.CRITICAL, "\033[31;1m"),
    (logging.ERROR, "\033[31m"),
    (logging.WARNING, "\033[33m"),
    (logging.INFO, "\033[36m"),
    (logging.NOTSET, "\033[32m"),
)
_RESET: Final = "\033[0m"


class _ColouredFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        colour = next(colour for level, colour in _COLOURS if record.levelno >= level)
        return f"{colour}{super().format(record)}{_RESET}"


def open_stdout_logger(name: str) -> logging.Logger:
    """The logger of a name, at level DEBUG, with a handler for the standard output instead of its own."""
    logger = logging.getLogger(name)
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        _ColouredFormatter("%(asctime)s [%(name)s] %(levelname)-8s %(message)s", "%Y-%m-%d %H:%M:%S")
    )
    logger.handlers[:] = [handler]
    logger.setLevel(logging.DEBUG)
    return logger
