"""Following what a server sends by itself: the first connection must succeed, later ones heal."""

from __future__ import annotations

import argparse
import contextlib
import logging
import math
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Final, Literal, TypeVar

import trio

from trionet import ConnectionLost, RemoteProtocolError, TLSIdentity
from trionet.cli.connecting import add_server, add_tls, positive_seconds, tls_identity
from trionet.cli.output import EXPECTED_ERRORS, CommandError, error_text

#: The options that `add_feed` adds, and how many words follow each of them.
FEED_OPTIONS: Final = {"--tls": 3, "--timeout": 1, "--pyon": 1, "--wait": 0}

Feed = TypeVar("Feed")


@dataclass(frozen=True, slots=True)
class Source:
    """Where a feed comes from, as the command line says.

    Attributes:
        host: Name or address of the server.
        port: Its port.
        tls: Who we are and whom we trust, for TLS.
        timeout: Seconds, or infinite.
        wait: Whether to wait for a server that is not there yet.
        pyon_version: What it speaks; None to find out.
    """

    host: str
    port: int
    tls: TLSIdentity | None
    timeout: float
    wait: bool
    pyon_version: Literal[1, 2] | None


def add_feed(parser: argparse.ArgumentParser, timeout_help: str) -> None:
    """Add HOST and PORT, and the options of `Source`."""
    add_server(parser)
    add_tls(parser, "server")
    parser.add_argument("--timeout", type=positive_seconds, metavar="SECONDS", help=timeout_help)
    parser.add_argument(
        "--wait", action="store_true", help="wait for a server that is not there yet, instead of failing"
    )
    parser.add_argument(
        "--pyon",
        type=int,
        choices=(1, 2),
        help="the version of PYON that the server speaks: 1 before sipyco 1.10; by default it is found out",
    )


def source_of(options: argparse.Namespace) -> Source:
    """Where the command line says to connect to."""
    timeout = math.inf if options.timeout is None else options.timeout
    return Source(options.host, options.port, tls_identity(options), timeout, options.wait, options.pyon)


async def follow(
    source: Source,
    open_feed: Callable[[bool], AbstractAsyncContextManager[Feed]],
    take: Callable[[Feed], Awaitable[None]],
    on_loss: Callable[[str], object],
) -> None:
    """Connect, and take what comes; if the connection is lost, do so again and again.

    Args:
        source: How long to wait for the first connection, and whether to try that again, too.
        open_feed: Connects; again whenever the connection is lost if it is called with True.
        take: Takes what comes. What it raises leaves, except for a lost connection.
        on_loss: Called when the first connection is lost, with the reason.

    Raises:
        CommandError: if there is no first connection.
    """
    opened = False
    try:
        with trio.CancelScope(deadline=trio.current_time() + source.timeout) as limit:
            async with open_feed(source.wait) as feed:
                opened = True
                limit.deadline = math.inf
                await take(feed)
                return
        raise CommandError(f"no answer within {source.timeout:g} s")
    except EXPECTED_ERRORS as error:
        if not opened:
            raise CommandError(error_text(error)) from error
        if not isinstance(error, (ConnectionLost, RemoteProtocolError)):
            raise
        on_loss(f"{error_text(error)}; trying again")
    async with open_feed(True) as feed:
        await take(feed)


@contextlib.contextmanager
def log_told(
    logger: logging.Logger, say: Callable[[str], object], level: int = logging.WARNING
) -> Iterator[None]:
    """Have the warnings of a logger told to the user, or what is less than that, and nowhere else."""

    class _Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            say(record.getMessage())

    handler, propagated, previous = _Handler(level), logger.propagate, logger.level
    logger.addHandler(handler)
    logger.propagate = False
    if not logger.isEnabledFor(level):
        logger.setLevel(level)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagated
        logger.setLevel(previous)
