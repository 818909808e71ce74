"""What the clients of feeds, `Subscriber` and `Receiver`, have in common."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final, cast

import trio

from trionet._connect import connector
from trionet._transport import Transport
from trionet_compat import guest
from trionet_compat._background import cancel_and_wait, start_task
from trionet_compat.sipyco.tools import SimpleSSLConfig

#: Longest line that is taken, in bytes, as upstream.
MAX_LINE: Final = 100 * 1024 * 1024


class Streams:
    """Stands for the reader and the writer of asyncio, for programs that ask about the connection."""

    def __init__(self, transport: Transport) -> None:
        stream = transport.stream
        while isinstance(stream, trio.SSLStream):
            stream = stream.transport_stream
        self._socket = getattr(stream, "socket", None)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """``"socket"``, ``"peername"`` and ``"sockname"``; `default` for what is not known."""
        if self._socket is None:
            return default
        if name == "socket":
            return self._socket
        ask = {"peername": "getpeername", "sockname": "getsockname"}.get(name)
        if ask is not None:
            with contextlib.suppress(OSError):  # the connection is lost
                return getattr(self._socket, ask)()
        return default


class FeedClient:
    """Connects, and has a task that receives.

    Attributes:
        disconnect_cb: Called when reception has ended, other than by `close`.
        reader: Knows about the connection: see `Streams`. From `connect` to `close`.
        writer: The same.
        receive_task: The `asyncio.Task` that receives; of Trio, with the same methods, where that runs alone.
    """

    disconnect_cb: Callable[[], object] | None
    reader: Streams
    writer: Streams
    receive_task: asyncio.Task[None]
    _opened: guest.Opened[Transport] | None = None

    async def close(self) -> None:
        """End reception and close the connection, and wait for that. `disconnect_cb` is forgotten.

        Raises:
            Exception: what ``receive_task`` has failed with.
        """
        self.disconnect_cb = None
        opened, self._opened = self._opened, None
        if opened is None:
            raise AttributeError("not connected")
        try:
            await cancel_and_wait(self.receive_task)
        finally:
            await opened.aclose()
            del self.reader, self.writer

    async def _connect(
        self,
        host: str,
        port: int,
        ssl_config: SimpleSSLConfig | None,
        before_receive_cb: Callable[[], object] | None = None,
    ) -> None:
        context = None if ssl_config is None else ssl_config.create_client_context()
        connect = connector(host, port, ssl_context=context, connect_timeout=math.inf)
        opened = await guest.open_held(_open_connection(connect))
        try:
            self.reader = self.writer = Streams(opened.value)
            if before_receive_cb is not None:
                before_receive_cb()
            task = start_task(lambda: self._receive_cr(opened))
            self.receive_task = cast("asyncio.Task[None]", task)
        except BaseException:
            await opened.aclose()
            raise
        self._opened = opened

    async def _receive_cr(self, opened: guest.Opened[Transport]) -> None:
        try:
            await opened.run(self._follow, opened.value)
        finally:
            try:
                await opened.aclose()
            finally:
                if self.disconnect_cb is not None:
                    self.disconnect_cb()

    async def _follow(self, transport: Transport) -> None:
        """Receive until the connection ends. In Trio; so are callbacks."""
        raise NotImplementedError


@contextlib.asynccontextmanager
async def _open_connection(connect: Callable[[], Awaitable[Transport]]) -> AsyncIterator[Transport]:
    transport = await connect()
    try:
        yield transport
    finally:
        await transport.aclose()
