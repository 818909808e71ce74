"""Servers for the tests of blocking code: in a portal of their own, over loopback."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import trio

import trionet
from trionet_compat.portal import Portal, open_portal


class Instrument:
    """An instrument."""

    def __init__(self) -> None:
        self.released = trio.Event()
        self.waiting = 0

    def echo(self, value: Any) -> Any:
        """Returns its argument."""
        return value

    def add(self, a: int, b: int = 2, *, c: int = 3) -> int:
        return a + b + c

    def fail(self, text: str) -> None:
        raise ValueError(text)

    def fail_oddly(self) -> None:
        raise Refused("not now")

    async def wait(self) -> str:
        """Returns when it has been released."""
        self.waiting += 1
        await self.released.wait()
        return "released"

    async def sleep(self, seconds: float) -> float:
        await trio.sleep(seconds)
        return seconds


class Refused(Exception):
    """A class that no client knows."""


async def until_alone(server: trionet.ServerHandle) -> None:
    """Wait until the last client has left."""
    while server.connections:
        await trio.lowlevel.checkpoint()


@contextlib.contextmanager
def serving(targets: dict[str, Any], **options: Any) -> Iterator[tuple[Portal, trionet.RpcServer]]:
    """Serve targets in a portal, which clients in the block share."""
    with open_portal() as portal:
        yield portal, serve(portal, targets, **options)


def serve(portal: Portal, targets: dict[str, Any], **options: Any) -> trionet.RpcServer:
    """Serve targets at a free port until the portal is closed."""
    server: trionet.RpcServer = portal.start(functools.partial(trionet.serve_rpc, **options), targets, 0)
    return server


def port_of(server: trionet.ServerHandle) -> int:
    """Where it serves."""
    return server.addresses[0][1]
