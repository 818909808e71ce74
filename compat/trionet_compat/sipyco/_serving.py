"""Servers whose work is done by the front ends of trionet."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from typing import Any

import trio

from trionet import ServerHandle
from trionet._tasks import open_background_tasks
from trionet_compat import guest
from trionet_compat.sipyco.tools import AsyncioServer, Host, SimpleSSLConfig


class ListeningSocket:
    """What programs want to know of a socket that listens.

    Attributes:
        family: The address family.
    """

    def __init__(self, address: tuple[str, int]) -> None:
        self.family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self._address = address

    def getsockname(self) -> tuple[Any, ...]:
        """Its address: host and port, and for IPv6 flow information and scope, both 0."""
        return (*self._address, 0, 0) if self.family == socket.AF_INET6 else self._address


class Serving:
    """Stands for the `asyncio.Server` in the attribute ``server``.

    Attributes:
        sockets: Where it listens; only ``getsockname()`` and ``family`` of each.
        handle: The server of trionet.
    """

    def __init__(self, handle: ServerHandle) -> None:
        self.sockets = tuple(ListeningSocket(address) for address in handle.addresses)
        self.handle = handle

    def is_serving(self) -> bool:
        """Whether clients can connect."""
        return not (self.handle.closing or self.handle.cancel_scope.cancel_called)


class FrontEndServer(AsyncioServer):
    """An `AsyncioServer` that runs a ``serve_*`` function of trionet. It works under Trio, too.

    Connections are no business of asyncio here: `_handle_connection_cr` is not called. What goes wrong with
    one is in the log of trionet, such as ``trionet.rpc``.
    """

    async def start(self, host: Host, port: int, ssl_config: SimpleSSLConfig | None = None) -> None:
        """Listen, and serve clients from now on. See `AsyncioServer.start`; port 0 is one for all hosts.

        Raises:
            OSError: if an address cannot be listened on.
            ValueError: if there is none, or for what the server cannot be made of.
        """
        context = None if ssl_config is None else ssl_config.create_server_context()
        self._opened = await guest.open_held(self._open(host, port, context))
        self.server: Serving = self._opened.value

    async def stop(self) -> None:
        """Stop: cancel what is done for clients, wait for that, and close the sockets."""
        opened = self._opened
        del self.server
        await opened.aclose()

    @contextlib.asynccontextmanager
    async def _open(self, host: Host, port: int, context: ssl.SSLContext | None) -> AsyncIterator[Serving]:
        try:
            async with open_background_tasks() as nursery:
                handle = await nursery.start(self._serve_and_report, host, port, context)
                try:
                    yield Serving(handle)
                finally:
                    handle.cancel_scope.cancel()
                    self._end()
        except BaseException:
            self._end()  # again, if it had come to that
            raise

    async def _serve_and_report(
        self,
        host: Host,
        port: int,
        context: ssl.SSLContext | None,
        *,
        task_status: trio.TaskStatus[ServerHandle],
    ) -> None:
        await self._serve(host, port, context, task_status=_Beginning(self._begin, task_status))

    async def _serve(
        self,
        host: Host,
        port: int,
        context: ssl.SSLContext | None,
        *,
        task_status: trio.TaskStatus[Any],
    ) -> None:
        """Run the front end."""
        raise NotImplementedError

    def _begin(self, handle: Any) -> None:
        """Clients can connect now; none has been served."""

    def _end(self) -> None:
        """It has been cancelled, and need not have begun. What is done for clients has to end now."""


class _Beginning(trio.TaskStatus[Any]):
    """Reports the handle here first: nothing that happens after that may be missed."""

    def __init__(self, begin: Callable[[Any], None], task_status: trio.TaskStatus[ServerHandle]) -> None:
        self._begin = begin
        self._task_status = task_status

    def started(self, value: Any = None) -> None:
        self._begin(value)
        self._task_status.started(value)
