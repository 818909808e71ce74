"""TCP keepalive, and connections that have it; stands for ``sipyco.keepalive``.

The clients and servers of this package do not use it: those of trionet keep their connections alive by
themselves. It is for protocols of your own.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from typing import Any

logger = logging.getLogger("sipyco.keepalive")


def set_keepalive(
    sock: socket.socket,
    after_idle: int | None = None,
    interval: int | None = None,
    max_fails: int | None = None,
) -> None:
    """Switch on keepalive.

    Args:
        sock: A TCP socket.
        after_idle: Seconds of silence before the first probe; None for the system's default.
        interval: Seconds between probes; likewise.
        max_fails: Probes without an answer until the connection counts as lost; likewise. Windows has a fixed
            number, which this does not change.

    Raises:
        ValueError: on Windows, if only one of `after_idle` and `interval` is given.
        OSError: from the system.
    """
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if sys.platform == "win32":
        if (after_idle is None) != (interval is None):
            raise ValueError("Windows sets after_idle and interval together: give both or none")
        if after_idle is not None and interval is not None:
            sock.ioctl(socket.SIO_KEEPALIVE_VALS, (1, after_idle * 1000, interval * 1000))
        return
    for names, value in (
        (("TCP_KEEPIDLE", "TCP_KEEPALIVE"), after_idle),  # the second is macOS's name for it
        (("TCP_KEEPINTVL",), interval),
        (("TCP_KEEPCNT",), max_fails),
    ):
        if value is not None:
            _set_option(sock, names, value)


def _set_option(sock: socket.socket, names: tuple[str, ...], value: int) -> None:
    for name in names:
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
            return
    logger.warning("this system has no %s: keepalive has its default times", names[0])


async def async_open_connection(
    host: str,
    port: int,
    *args: Any,
    after_idle: int | None = None,
    interval: int | None = None,
    max_fails: int | None = None,
    **kwargs: Any,
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """`asyncio.open_connection`, which gets the other arguments, with `set_keepalive`."""
    reader, writer = await asyncio.open_connection(host, port, *args, **kwargs)
    try:
        set_keepalive(writer.get_extra_info("socket"), after_idle, interval, max_fails)
    except BaseException:
        writer.close()
        raise
    return reader, writer


def create_connection(
    host: str,
    port: int,
    *args: Any,
    after_idle: int | None = None,
    interval: int | None = None,
    max_fails: int | None = None,
    **kwargs: Any,
) -> socket.socket:
    """`socket.create_connection`, which gets the other arguments, with `set_keepalive`."""
    sock = socket.create_connection((host, port), *args, **kwargs)
    try:
        set_keepalive(sock, after_idle, interval, max_fails)
    except BaseException:
        sock.close()
        raise
    return sock
