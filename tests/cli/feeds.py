"""The publisher and the port that nobody serves, for the tests of the command line."""

from __future__ import annotations

import functools
import socket
from typing import Any

import trio

from trionet import Notifier, Publisher, TLSIdentity, serve_publisher

HOST = "127.0.0.1"


async def publish(
    nursery: trio.Nursery,
    structure: Any,
    *,
    port: int = 0,
    tls: TLSIdentity | None = None,
    max_backlog: int = 2**24,
) -> tuple[Publisher, Notifier]:
    """Publish a structure as "datasets" on loopback."""
    notifier = Notifier(structure)
    serve = functools.partial(
        serve_publisher, {"datasets": notifier}, port, ssl_context=tls, max_backlog=max_backlog
    )
    publisher: Publisher = await nursery.start(serve)
    return publisher, notifier


def closed_port() -> socket.socket:
    """A socket that has a port, on which nobody listens."""
    holder = socket.socket()
    holder.bind((HOST, 0))
    return holder
