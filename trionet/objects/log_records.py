"""Log records between processes, as pyacq sends them: one JSON map for each, from PUSH to PULL.

There are no answers: whether somebody listens, nobody knows.
"""

from __future__ import annotations

import logging
import traceback
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final

import trio

from trionet._server import HANDSHAKE_TIMEOUT, AnyListener, Connection, ServerHandle, serve_connections
from trionet._tasks import open_background_tasks
from trionet._zmtp import open_zmtp, zmtp_handler
from trionet._zmtp_endpoints import (
    connect_endpoint,
    listening_endpoints,
    open_endpoint_listeners,
    parse_endpoint,
)
from trionet._zmtp_stream import ZmtpStream
from trionet.wire.errors import TrionetError
from trionet.wire.object_values import JsonSerializer, ProxyReference
from trionet.wire.zmtp import SocketType
from trionet.wire.zmtp_frames import Frame

logger = logging.getLogger("trionet.objects.log_records")

#: Records that may wait by default for somebody to take them. More are lost: no program waits for its log.
MAX_BACKLOG: Final = 10_000
# Seconds between attempts to connect, as libzmq does it.
_RETRY_INTERVAL: Final = 0.1


def encode_record(record: logging.LogRecord, **names: str) -> bytes:
    """A log record as bytes.

    Args:
        record: The record. Its arguments, and the exception that belongs to it, become text.
        **names: Attributes to add: ``process_name``, ``thread_name``, ``host_name``.
    """
    attributes = {**vars(record), "msg": _message(record), **names}
    del attributes["args"]
    if record.exc_info:
        attributes["exc_text"] = record.exc_text or "".join(traceback.format_exception(*record.exc_info))[:-1]
        attributes["exc_info"] = None
    try:
        return JsonSerializer().dumps(attributes)
    except (TypeError, ValueError):  # what a program has added
        return JsonSerializer().dumps({key: _plain(value) for key, value in attributes.items()})


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception as error:
        return f"{record.msg!r} % {record.args!r}: {error!r}"


def _plain(value: Any) -> Any:
    try:
        JsonSerializer().dumps(value)
    except (TypeError, ValueError):
        return repr(value)
    return value


def decode_record(data: Frame) -> logging.LogRecord:
    """Read a log record.

    Raises:
        ValueError: if it is none.
    """
    attributes = JsonSerializer(resolve=_name_of).loads(data)
    if not isinstance(attributes, Mapping):
        raise ValueError(f"a log record must be a map, not {type(attributes).__name__}")
    if not isinstance(attributes.get("name"), str) or type(attributes.get("levelno")) is not int:
        raise ValueError("a log record without name or level")
    return logging.makeLogRecord({**attributes, "args": ()})


def _name_of(reference: ProxyReference) -> str:
    return f"<proxy of {reference.type_text} at {reference.address}>"


class RecordSender:
    """Sends log records to whoever takes them at an address, connecting as long as it takes.

    Make it in Trio. `post` may be called in any thread, and waits for nobody.

    Args:
        address: ``tcp://HOST:PORT`` or ``ipc://PATH``.
        max_backlog: Records that may wait; of more, the oldest are lost.

    Raises:
        ValueError: for an address that is none.
    """

    def __init__(self, address: str, max_backlog: int = MAX_BACKLOG) -> None:
        self._endpoint = parse_endpoint(address)
        self._records: deque[bytes] = deque(maxlen=max_backlog)
        self._token = trio.lowlevel.current_trio_token()
        self._has_more = trio.Event()
        self._sent = trio.lowlevel.ParkingLot()
        self._in_hand: bytes | None = None

    def post(self, record: bytes) -> None:
        """Send an encoded record, soon. When Trio has ended, it is lost."""
        self._records.append(record)
        try:
            self._token.run_sync_soon(self._wake, idempotent=True)
        except trio.RunFinishedError:
            self._records.clear()

    def _wake(self) -> None:
        self._has_more.set()

    async def run(self) -> None:
        """Send what is posted, until it is cancelled."""
        while True:
            try:
                transport = await connect_endpoint(self._endpoint)
                async with open_zmtp(transport, SocketType.PUSH) as zmtp, open_background_tasks() as nursery:
                    nursery.start_soon(_notice_end, zmtp, nursery.cancel_scope)
                    await self._send(zmtp)
            except (OSError, TrionetError) as error:
                logger.debug("%s: %s", self._endpoint, error)
            await trio.sleep(_RETRY_INTERVAL)

    async def _send(self, zmtp: ZmtpStream) -> None:
        if self._in_hand is not None:  # it was lost with the connection before, or cut
            await zmtp.send([self._in_hand])
            self._in_hand = None
        while True:
            while self._records:
                self._in_hand = self._records.popleft()
                await zmtp.send([self._in_hand])
                self._in_hand = None
            self._sent.unpark_all()
            await self._has_more.wait()
            self._has_more = trio.Event()

    async def wait_sent(self) -> None:
        """Wait until all that was posted has been handed to the system."""
        await trio.lowlevel.checkpoint_if_cancelled()
        while self._records or self._in_hand is not None:
            await self._sent.park()


async def _notice_end(zmtp: ZmtpStream, scope: trio.CancelScope) -> None:
    """Who takes records sends nothing, but leaves at some time."""
    try:
        async for _ in zmtp:
            pass
    except TrionetError as error:
        logger.debug("%s", error)
    scope.cancel()


class RecordServer(ServerHandle):
    """A running server, as `serve_log_records` reports it.

    Attributes:
        endpoints: The addresses where it listens: ``tcp://127.0.0.1:46221``.
    """

    def __init__(self, listeners: list[AnyListener]) -> None:
        super().__init__(listeners)
        self.endpoints = listening_endpoints(listeners)


async def serve_log_records(
    take: Callable[[logging.LogRecord], object],
    address: str = "tcp://127.0.0.1:*",
    *,
    handshake_timeout: float = HANDSHAKE_TIMEOUT,
    task_status: trio.TaskStatus[RecordServer] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Take log records, until it is cancelled.

    Args:
        take: Called with each of them. It must not raise anything.
        address: Where to listen: ``tcp://HOST:PORT``, with ``*`` for any host or port, or ``ipc://PATH``.
        handshake_timeout: Seconds that a client may take to say who it is.
        task_status: Reports the `RecordServer`.

    What is no log record is left out, with a line in the log.

    Raises:
        ValueError: for an address that is none.
        OSError: if it cannot listen there.
    """
    handle = RecordServer(await open_endpoint_listeners(parse_endpoint(address)))

    async def receive(client: Connection, zmtp: ZmtpStream) -> None:
        async for frames in zmtp:
            for frame in frames:
                try:
                    record = decode_record(frame)
                except ValueError as error:
                    logger.warning("%s: no log record: %s", zmtp.peer, error)
                else:
                    take(record)

    handler = zmtp_handler(receive, SocketType.PULL, logger, handshake_timeout=handshake_timeout)
    await serve_connections(handler, handle, handshake_timeout, task_status)
