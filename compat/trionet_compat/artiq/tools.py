"""What asyncio programs and commands are built with; stands for ``artiq.tools``.

Only what has to do with networking is here.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, TypeVar

from trionet_compat.sipyco import common_args, tools
from trionet_compat.sipyco.common_args import (
    Ports,
    bind_address_from_args,
    init_logger_from_args,
    verbosity_args,
)
from trionet_compat.sipyco.logs import MultilineFormatter, multiline_log_config
from trionet_compat.sipyco.tools import Condition, TaskObject

__all__ = [
    "Condition",
    "MultilineFormatter",
    "TaskObject",
    "asyncio_wait_or_cancel",
    "atexit_register_coroutine",
    "bind_address_from_args",
    "exc_to_warning",
    "init_logger",
    "multiline_log_config",
    "simple_network_args",
    "verbosity_args",
]

logger = logging.getLogger("artiq.tools")

F = TypeVar("F", bound="asyncio.Future[Any]")


def init_logger(args: argparse.Namespace) -> None:
    """Log to standard error, from warnings on, or as much more or less as ``-v`` and ``-q`` say."""
    init_logger_from_args(args)


def simple_network_args(parser: argparse.ArgumentParser, default_port: Ports) -> None:
    """Add the options of a server; see `trionet_compat.sipyco.common_args.simple_network_args`."""
    common_args.simple_network_args(parser, default_port)


def atexit_register_coroutine(
    coroutine: Callable[[], Coroutine[Any, Any, object]], loop: asyncio.AbstractEventLoop | None = None
) -> None:
    """Have an async function run when the interpreter ends, in the loop given or the current one."""
    tools.atexit_register_coroutine(coroutine, loop=loop)


async def exc_to_warning(coro: Awaitable[Any]) -> None:
    """Await something; what it raises becomes a warning in the log."""
    try:
        await coro
    except Exception:
        logger.warning("asyncio coroutine terminated with exception", exc_info=True)


async def asyncio_wait_or_cancel(fs: Iterable[F], **kwargs: Any) -> tuple[set[F], set[F]]:
    """`asyncio.wait`, which gets the other arguments.

    Cancelled, it cancels what it waits for, and waits for the end of that.
    """
    waiting = list(fs)
    try:
        return await asyncio.wait(waiting, **kwargs)
    except asyncio.CancelledError:
        for future in waiting:
            future.cancel()
        await asyncio.wait(waiting)
        raise
