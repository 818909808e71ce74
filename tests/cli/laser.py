"""The controller that the tests of the command line talk to."""

from __future__ import annotations

import functools
from typing import Any

import trio

from trionet import RpcServer, TLSIdentity, serve_rpc


class InterlockOpen(Exception):
    """An exception that is no builtin."""


class Laser:
    """A laser.

    In a test.
    """

    def __init__(self) -> None:
        self.called = trio.Event()

    def echo(self, *args: Any, **kwargs: Any) -> Any:
        return [args, kwargs]

    def identity(self, value: Any) -> Any:
        return value

    def set_power(self, power: float, *, ramp: float = 0.5) -> float:
        """Set the power.

        In mW.
        """
        if power < 0:
            raise ValueError("power must\nnot be negative")
        return power * ramp

    def fire(self) -> None:
        raise InterlockOpen("close the \x1b[31m interlock")

    def bare(self) -> None:
        raise RuntimeError

    async def wait(self) -> None:
        self.called.set()
        await trio.sleep_forever()


async def start_server(
    nursery: trio.Nursery,
    *targets: str,
    port: int = 0,
    description: str | None = "test server",
    tls: TLSIdentity | None = None,
) -> tuple[RpcServer, Laser]:
    """Serve a laser on loopback, under one name or several."""
    laser = Laser()
    serve = functools.partial(
        serve_rpc,
        dict.fromkeys(targets or ("laser",), laser),
        port,
        description=description,
        allow_parallel=True,
        ssl_context=tls,
    )
    server: RpcServer = await nursery.start(serve)
    return server, laser
