"""How a process that was started tells the one that has started it where it serves, as pyacq does it.

The parent listens, as a PAIR. The child connects, as a PAIR, and sends one JSON map again and again, until
anything comes back.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

import trio

from trionet._server import Connection, ServerHandle, serve_connections
from trionet._tasks import open_background_tasks
from trionet._zmtp import open_zmtp, zmtp_handler
from trionet._zmtp_endpoints import (
    connect_endpoint,
    listening_endpoints,
    open_endpoint_listeners,
    parse_endpoint,
)
from trionet._zmtp_stream import ZmtpStream
from trionet.wire.errors import RemoteProtocolError
from trionet.wire.zmtp import SocketType

logger = logging.getLogger("trionet.objects.process")

#: Seconds for a child to say something, and for its parent to answer.
BOOTSTRAP_TIMEOUT: Final = 10.0
_REPEAT_INTERVAL: Final = 0.01
_ANSWER: Final = b"OK"
# A status with a long traceback is some KB.
_LONGEST_STATUS: Final = 1 << 20


class StatusListener:
    """Waits for the status of a child. Made by `open_status_listener`.

    Attributes:
        address: Where the child is to connect.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self._send, self._receive = trio.open_memory_channel[Mapping[str, Any]](1)

    async def receive(self) -> Mapping[str, Any]:
        """The status: a map with ``address`` or ``error``. The child is told that it has come."""
        return await self._receive.receive()

    async def _take(self, client: Connection, zmtp: ZmtpStream) -> None:
        frames = await zmtp.receive()
        try:
            status = json.loads(bytes(frames[0]))
        except ValueError as error:
            raise zmtp.lose(RemoteProtocolError(f"no status of a process: {error}")) from error
        if not isinstance(status, dict):
            raise zmtp.lose(RemoteProtocolError("no status of a process"))
        with contextlib.suppress(trio.WouldBlock):  # there is one already
            self._send.send_nowait(status)
        await zmtp.send([_ANSWER])
        async for _ in zmtp:
            pass  # until the child has read it, and leaves


@contextlib.asynccontextmanager
async def open_status_listener(address: str = "tcp://127.0.0.1:*") -> AsyncIterator[StatusListener]:
    """Listen for the status of a child.

    Raises:
        OSError: if that is not possible.
    """
    listeners = await open_endpoint_listeners(parse_endpoint(address))
    listener = StatusListener(listening_endpoints(listeners)[0])
    handler = zmtp_handler(listener._take, SocketType.PAIR, logger, max_message_size=_LONGEST_STATUS)
    async with open_background_tasks() as nursery:
        await nursery.start(_serve, handler, ServerHandle(listeners))
        yield listener


async def _serve(handler: Any, handle: ServerHandle, task_status: trio.TaskStatus[ServerHandle]) -> None:
    await serve_connections(handler, handle, BOOTSTRAP_TIMEOUT, task_status)


async def report_status(address: str, status: Mapping[str, Any]) -> None:
    """Tell the parent, which listens at an address, what has become of its child.

    Args:
        address: Of the parent.
        status: ``{"address": where we serve}``, or ``{"error": lines of a traceback}``.

    Raises:
        OSError: if the parent cannot be connected to.
        ConnectionLost: if it leaves before it has answered.
        TimeoutError: if it does not answer within `BOOTSTRAP_TIMEOUT` seconds.
    """
    data = json.dumps(status).encode()
    with trio.move_on_after(BOOTSTRAP_TIMEOUT):
        transport = await connect_endpoint(parse_endpoint(address))
        async with open_zmtp(transport, SocketType.PAIR) as zmtp, open_background_tasks() as nursery:
            nursery.start_soon(_repeat, zmtp, data)
            await zmtp.receive()
            return
    raise TimeoutError(f"the parent at {address} does not answer within {BOOTSTRAP_TIMEOUT} s")


async def _repeat(zmtp: ZmtpStream, data: bytes) -> None:
    while True:
        await zmtp.send([data])
        await trio.sleep(_REPEAT_INTERVAL)
