"""A process that was started to host objects: see `trionet.objects.process` for the other end."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import signal
import sys
import threading
from collections import deque
from functools import partial
from typing import Any, Final

import trio

from trionet.objects.server import ObjectServer, serve_objects
from trionet.pipes.child import ParentPipe, open_parent_pipe
from trionet.wire.errors import ConnectionLost

# Log records that wait for the parent to read them. More are lost: no program should wait for its log.
_MAX_RECORDS: Final = 10_000
_RECORD_KEYS: Final = (
    *("name", "levelno", "levelname", "pathname", "lineno", "funcName", "created", "process"),
    *("thread", "threadName"),
)
# What is different in a record that tells of such.
_WARNING: Final = {
    "name": "trionet.objects.process",
    "levelno": logging.WARNING,
    "levelname": "WARNING",
    "exc_text": None,
}


def main(pipe_address: str) -> None:
    """Serve objects until the parent leaves. Called by the command line that the parent has made."""
    trio.run(_serve, pipe_address)


async def _serve(pipe_address: str) -> None:
    async with open_parent_pipe(pipe_address) as parent:
        options = json.loads(await parent.read_line())
        grace = options.pop("grace")
        threading.Thread(target=_end_without_parent, args=(grace,), daemon=True).start()
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent to handle
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(line_buffering=True)
        folder = options.pop("folder")
        try:
            await _serve_parent(parent, grace, options)
        finally:
            if folder is not None:
                with contextlib.suppress(OSError):
                    os.rmdir(folder)


async def _serve_parent(parent: ParentPipe, grace: float, options: dict[str, Any]) -> None:
    forwarder = _Forwarder(options.pop("log_level"))
    namespace: dict[str, Any] = {}
    async with trio.open_nursery() as nursery:
        nursery.start_soon(forwarder.run, parent)
        server: ObjectServer = await nursery.start(partial(serve_objects, namespace, **options))
        await parent.write_line(json.dumps({"address": server.address}).encode())
        async for _ in parent:
            pass  # there is nothing more to be said, but that it ends
        await server.aclose(grace / 2)
        forwarder.end()


def _end_without_parent(grace: float) -> None:
    """Wait until standard input ends, as it does when the parent ends or is killed.

    It is a thread because the event loop may stand still, in a method that takes long, or for ever.
    """
    with contextlib.suppress(OSError):
        while os.read(0, 1024):
            pass
    threading.Event().wait(grace)  # for the event loop to end the program
    os.kill(os.getpid(), signal.SIGKILL)


class _Forwarder(logging.Handler):
    """Sends log records to the parent."""

    def __init__(self, level: int) -> None:
        super().__init__()
        self._records: deque[dict[str, Any]] = deque(maxlen=_MAX_RECORDS)
        self._lost = 0
        self._token = trio.lowlevel.current_trio_token()
        self._has_more = trio.Event()
        self._is_ending = False
        root = logging.getLogger()
        root.setLevel(level)
        root.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            packed = {key: getattr(record, key) for key in _RECORD_KEYS}
            packed["msg"] = record.getMessage()
            if record.exc_info:
                packed["exc_text"] = logging.Formatter().formatException(record.exc_info)
            self._lost += len(self._records) == _MAX_RECORDS  # a handler handles one record at a time
            self._records.append(packed)
            with contextlib.suppress(trio.RunFinishedError):
                self._token.run_sync_soon(self._wake, idempotent=True)
        except Exception:
            self.handleError(record)

    def _wake(self) -> None:
        self._has_more.set()

    async def run(self, parent: ParentPipe) -> None:
        """Send what comes until the parent reads no more, or all is sent and there will be no more."""
        with contextlib.suppress(ConnectionLost):
            while self._records or not self._is_ending:
                await self._has_more.wait()
                self._has_more = trio.Event()
                while self._records:
                    line = json.dumps({"record": self._next_record()})
                    await parent.write_line(line.encode())

    def _next_record(self) -> dict[str, Any]:
        """The oldest record; or, where some were lost, one that says so, in the place of these."""
        self.acquire()
        try:
            record = self._records.popleft()
            lost, self._lost = self._lost, 0
        finally:
            self.release()
        if not lost:
            return record
        text = f"{lost + 1} log records were lost here: there were more than {_MAX_RECORDS}"
        return {**record, **_WARNING, "msg": text}

    def end(self) -> None:
        """Send what there is, and come to an end."""
        self._is_ending = True
        self._wake()
