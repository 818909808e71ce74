"""What asyncio programs are built with; stands for ``sipyco.tools``."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import logging
import signal
import socket
import ssl
import sys
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from types import FrameType
from typing import Any, Final, cast

from trionet import TLSIdentity
from trionet_compat._background import cancel_and_wait, start_task
from trionet_compat.sipyco import keepalive

logger = logging.getLogger("sipyco.tools")

HAS_SIGHUP: Final = hasattr(signal, "SIGHUP")

#: What servers listen on: a name or address, several, or None for all interfaces.
Host = str | Sequence[str] | None

# Longest line that the readers of a server take.
_MAX_LINE: Final = 4 * 1024 * 1024
# Seconds that the end of a connection may take: a client that has vanished, or does not read, is cut off.
_CLOSE_TIMEOUT: Final = 1.0


class SimpleSSLConfig:
    """Mutual TLS with pinned certificates; stands for sipyco's class of that name. See `trionet.TLSIdentity`.

    Attributes:
        local_cert: PEM file with the certificate of this side.
        local_key: PEM file with its private key.
        peer_cert: PEM file with the certificate, or several, of the peers that are trusted.
    """

    def __init__(self, local_cert: str, local_key: str, peer_cert: str) -> None:
        self.local_cert = local_cert
        self.local_key = local_key
        self.peer_cert = peer_cert

    def create_client_context(self) -> ssl.SSLContext:
        """For connecting; OSError or ssl.SSLError if a file cannot be used."""
        return self._identity().client_context()

    def create_server_context(self) -> ssl.SSLContext:
        """For serving; OSError or ssl.SSLError if a file cannot be used."""
        return self._identity().server_context()

    def _identity(self) -> TLSIdentity:
        return TLSIdentity(self.local_cert, self.local_key, self.peer_cert)


class AsyncioServer:
    """A TCP server of asyncio; stands for sipyco's class of that name.

    Subclasses override `_handle_connection_cr`, and use the streams of asyncio there.

    Attributes:
        server: The `asyncio.Server`, between `start` and `stop`. Its ``sockets`` tell the port.
    """

    server: Any

    def __init__(self) -> None:
        self._client_tasks: set[asyncio.Task[None]] = set()

    async def start(self, host: Host, port: int, ssl_config: SimpleSSLConfig | None = None) -> None:
        """Listen, and serve clients from now on.

        Args:
            host: A name or address, several, or None for all interfaces.
            port: The port; 0 for a free one.
            ssl_config: Speak TLS.

        Raises:
            OSError: if an address cannot be listened on.
        """
        self._client_tasks = set()  # a subclass may have its own idea of __init__
        self._stopping = False
        context = None if ssl_config is None else ssl_config.create_server_context()
        self.server = await asyncio.start_server(
            self._handle_connection, host, port, ssl=context, limit=_MAX_LINE
        )

    async def stop(self) -> None:
        """Stop: cancel what is done for clients, wait for that, and close the sockets."""
        self.server.close()
        self._stopping = True
        try:
            tasks = list(self._client_tasks)
            for task in tasks:
                task.cancel()
            if tasks:
                await asyncio.wait(tasks)
        finally:
            del self.server

    async def _handle_connection_cr(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a client. Its connection is closed when this returns; what it raises is logged."""
        raise NotImplementedError

    def _handle_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._stopping:  # accepted just before
            writer.transport.abort()
            return
        task = asyncio.get_running_loop().create_task(self._serve_and_close(reader, writer))
        self._client_tasks.add(task)
        task.add_done_callback(self._client_tasks.discard)

    async def _serve_and_close(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(OSError):  # gone already
                keepalive.set_keepalive(writer.get_extra_info("socket"))
            await self._handle_connection_cr(reader, writer)
        except Exception:
            logger.error("Client connection closed with error", exc_info=True)
        finally:
            await _close(writer)


async def _close(writer: asyncio.StreamWriter) -> None:
    """Close a connection; what was written is delivered, unless that takes too long."""
    writer.close()
    closed = asyncio.ensure_future(writer.wait_closed())
    try:
        await asyncio.wait([closed], timeout=_CLOSE_TIMEOUT)
    finally:
        if not closed.done():
            writer.transport.abort()
        closed.add_done_callback(_ignore_failure)


def _ignore_failure(future: asyncio.Future[None]) -> None:
    """It is known that the connection is gone."""
    if not future.cancelled():
        future.exception()


class TaskObject:
    """An object with a task of its own; stands for sipyco's class of that name. It needs no ``__init__``.

    Subclasses override `_do`. Under Trio without asyncio it is a task of Trio, with the same methods.

    Attributes:
        task: The `asyncio.Task`, from `start` to `stop`.
    """

    task: asyncio.Task[None]

    def start(self, *, loop: asyncio.AbstractEventLoop | None = None) -> None:
        """Start the task, in the loop given or the current one, which need not be running."""
        self.task = cast("asyncio.Task[None]", start_task(self._do_and_log, loop))

    async def stop(self) -> None:
        """Cancel the task and wait for its end; raises what it has failed with."""
        await cancel_and_wait(self.task)
        del self.task

    async def _do(self) -> None:
        """What the task does."""
        raise NotImplementedError

    async def _do_and_log(self) -> None:
        try:
            await self._do()
        except Exception:
            logger.error("Unhandled exception in TaskObject task body", exc_info=True)
            raise


class BackgroundTaskPool:
    """Tasks that nobody waits for; stands for sipyco's class of that name.

    Attributes:
        loop: Where they run.
        tasks: Those that have not ended.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.tasks: set[asyncio.Task[Any]] = set()

    def create(self, coro: Coroutine[Any, Any, Any]) -> None:
        """Start a task, and keep it from being collected as garbage."""
        task = self.loop.create_task(coro)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)


class Condition:
    """Wakes all who wait; stands for sipyco's class of that name. There is no lock to it."""

    def __init__(self, *, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self._waiting: set[asyncio.Future[None]] = set()

    async def wait(self) -> None:
        """Wait for the next `notify`."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.add(future)
        try:
            await future
        finally:
            self._waiting.discard(future)

    def notify(self) -> None:
        """Wake all who wait now. In the loop's thread."""
        for future in self._waiting:
            if not future.done():
                future.set_result(None)


def atexit_register_coroutine(
    coroutine: Callable[[], Coroutine[Any, Any, object]], *, loop: asyncio.AbstractEventLoop | None = None
) -> None:
    """Have an async function run when the interpreter ends, in the loop given or the current one.

    Args:
        coroutine: The function, without arguments.
        loop: A loop that does not run then, and is not closed.
    """
    at_exit = asyncio.get_event_loop() if loop is None else loop
    atexit.register(lambda: at_exit.run_until_complete(coroutine()))


class SignalHandler:
    """Turns the signals that ask a program to end into something to wait for; stands for sipyco's class.

    It sees SIGINT, SIGTERM and SIGHUP from `setup` to `teardown`, both in the main thread, whatever loop
    runs meanwhile, if any.
    """

    _NAMES: Final = {"SIGINT": "Ctrl-C", "SIGTERM": "SIGTERM", "SIGHUP": "SIGHUP"}

    def setup(self) -> None:
        """Handle the signals from now on."""
        self._caught: deque[int] = deque()
        self._rsock, self._wsock = socket.socketpair()
        self._rsock.setblocking(False)
        self._wsock.setblocking(False)
        self._wakes = _take_wakeup_fd(self._wsock.fileno())
        self._previous = {
            number: signal.signal(number, self._note)
            for number in (getattr(signal, name) for name in self._NAMES if hasattr(signal, name))
        }

    def teardown(self) -> None:
        """Put the former handlers back."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        if self._wakes:
            signal.set_wakeup_fd(-1)
        self._rsock.close()
        self._wsock.close()

    async def wait_terminate(self) -> None:
        """Wait for one of the signals, and say on standard output which."""
        while not self._caught:
            await asyncio.get_running_loop().sock_recv(self._rsock, 64)
        name = self._NAMES[signal.Signals(self._caught.popleft()).name]
        sys.stdout.write(f"\nCaught {name}, terminating...\n")
        sys.stdout.flush()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._caught.append(number)
        with contextlib.suppress(BlockingIOError):  # so many wait already
            self._wsock.send(b"\0")


def _take_wakeup_fd(fd: int) -> bool:
    """Have signals wake the loop also where the system gives them to another thread.

    Not if a loop does so already. Returns whether it was done.
    """
    previous = signal.set_wakeup_fd(fd, warn_on_full_buffer=False)
    if previous != -1:
        signal.set_wakeup_fd(previous)
    return previous == -1
