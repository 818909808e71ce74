"""What is there while an EchoProtocol is open: a communicator of Trio, and the way to it for plain code."""

from __future__ import annotations

import contextlib
import logging
import math
import ssl
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any, TypeAlias

import trio

from trionet import (
    ConnectionLost,
    EventsLost,
    RigCommunicator,
    RigURI,
    TrionetError,
    open_rig_communicator,
    open_rig_listener,
)
from trionet import validate_uri as look_up
from trionet._tasks import open_background_tasks
from trionet_compat.iblutil.io.net._callbacks import Address

#: An option `ssl` of the factories: as for asyncio, True is the system's authorities.
TLS: TypeAlias = ssl.SSLContext | bool | None


class Line:
    """A communicator of Trio that is open. Plain methods may be called in any thread.

    Args:
        rig: The communicator.
        logger: Where it logs.

    Attributes:
        rig: The communicator.
        on_lost: Called when the connection of a client over TCP is lost.
        on_error: Called with errors of the system when something could not be sent.
    """

    def __init__(self, rig: RigCommunicator, logger: logging.Logger) -> None:
        self.rig = rig
        self.on_lost: Callable[[], object] = lambda: None
        self.on_error: Callable[[OSError], object] = lambda error: None
        self._logger = logger
        self._outgoing, self._waiting = trio.open_memory_channel[tuple[bytes, Address | None]](math.inf)
        self._unsent = 0
        self._abandon: Callable[[], object] | None = None
        self._token = trio.lowlevel.current_trio_token()
        self._thread = threading.get_ident()

    def send(self, message: bytes, addr: Address | None) -> None:
        """Send a message soon, behind those before."""
        self._call(self._enqueue, message, addr)

    def close(self, abandon: Callable[[], object]) -> None:
        """Call a function when everything has been sent: at once, if it has."""
        self._call(self._end, abandon)

    def _call(self, fn: Callable[..., object], *args: Any) -> None:
        if threading.get_ident() == self._thread:
            fn(*args)
        else:
            with contextlib.suppress(trio.RunFinishedError):
                self._token.run_sync_soon(fn, *args)

    def _enqueue(self, message: bytes, addr: Address | None) -> None:
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            self._outgoing.send_nowait((message, addr))
            self._unsent += 1

    def _end(self, abandon: Callable[[], object]) -> None:
        if self._unsent:
            self._abandon = abandon
            self._outgoing.close()
        else:
            abandon()

    async def send_waiting(self) -> None:
        """Send what waits, until this is closed."""
        async for message, addr in self._waiting:
            try:
                await self.rig.send(message, address=addr)
            except (TrionetError, OSError, ValueError) as error:
                self._logger.warning("Not sent: %s", error)
                if isinstance(error, OSError):
                    self.on_error(error)
            finally:
                self._unsent -= 1
        if self._abandon is not None:
            self._abandon()

    async def watch(self) -> None:
        """Notice the losses of the connection, until the communicator is closed."""
        with self.rig.open_events(0, errors=True) as events:
            while True:
                try:
                    await events.receive()
                except ConnectionLost:
                    self.on_lost()
                except EventsLost:
                    continue  # reports of errors, which are not of interest here
                except trio.ClosedResourceError:
                    return


async def find_place(uri: RigURI, tls: TLS) -> RigURI:
    """Where a URI leads to, in the schemes of trionet: upstream means TCP by all schemes but one.

    Raises:
        ValueError: if the host is not known.
    """
    scheme = "udp" if uri.scheme == "udp" else "wss" if tls else "tcp"
    try:
        return await look_up(str(replace(uri, scheme=scheme)))
    except OSError as error:
        raise ValueError(f'Failed to resolve IP for hostname "{uri.host}"') from error


@contextlib.asynccontextmanager
async def open_line(
    role: str, place: RigURI, tls: TLS, name: str, logger: logging.Logger
) -> AsyncIterator[Line]:
    """Listen at a place, or connect to it. OSError if that is not possible."""
    open_rig = open_rig_listener if role == "server" else open_rig_communicator
    context = None if isinstance(tls, bool) else tls
    async with (
        open_rig(place, name=name, logger=logger, ssl_context=context) as rig,
        open_background_tasks() as nursery,
    ):
        line = Line(rig, logger)
        nursery.start_soon(line.send_waiting)
        if role == "client" and place.is_stream:
            nursery.start_soon(line.watch)
        yield line
