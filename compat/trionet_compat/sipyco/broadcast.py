"""Objects for whoever listens on a channel; stands for ``sipyco.broadcast``."""

from __future__ import annotations

import math
import ssl
import sys
from collections.abc import Callable
from typing import Any

import trio

import trionet
from trionet._transport import Transport
from trionet.wire.feeds import PyonVersion
from trionet_compat.sipyco._feed_client import MAX_LINE, FeedClient
from trionet_compat.sipyco._serving import FrontEndServer
from trionet_compat.sipyco.tools import AsyncioServer, Host, SimpleSSLConfig

__all__ = ["Broadcaster", "Receiver"]


class Broadcaster(FrontEndServer):
    """Sends objects to receivers; stands for sipyco's class of that name. See `trionet.Broadcaster`.

    What is different: that a receiver does not keep up is told to the log of ``trionet.broadcast``.

    Args:
        queue_limit: Objects that may wait for a receiver; then the newest are left out. 0 for any number.
    """

    _pyon_version: PyonVersion = 2

    def __init__(self, queue_limit: int = 1024) -> None:
        AsyncioServer.__init__(self)
        self._broadcaster = trionet.Broadcaster(queue_limit if queue_limit > 0 else sys.maxsize)

    def broadcast(self, name: str, obj: Any) -> None:
        """Send an object to all receivers of a channel. In the loop's thread.

        Raises:
            TypeError: if there is a receiver, and PYON cannot carry the object (ValueError likewise).
        """
        self._broadcaster.broadcast(name, obj)

    async def _serve(
        self,
        host: Host,
        port: int,
        context: ssl.SSLContext | None,
        *,
        task_status: trio.TaskStatus[trionet.BroadcastServer],
    ) -> None:
        await trionet.serve_broadcaster(
            self._broadcaster,
            port,
            pyon_version=self._pyon_version,
            handshake_timeout=math.inf,
            host=host,
            ssl_context=context,
            task_status=task_status,
        )


class Receiver(FeedClient):
    """Calls functions with what is broadcast on a channel; stands for sipyco's class of that name.

    What is different: a connection that is lost ends ``receive_task`` normally, as one that the server
    closes does.

    Args:
        name: Name of the channel.
        notify_cb: Called with each object; a function or a list of them.
        disconnect_cb: Called when reception has ended, other than by `close`.

    Attributes:
        name: As given.
        notify_cbs: The functions; the very list that was given. What one raises ends reception.
    """

    _pyon_version: PyonVersion | None = None

    def __init__(
        self,
        name: str,
        notify_cb: Callable[[Any], object] | list[Callable[[Any], object]],
        disconnect_cb: Callable[[], object] | None = None,
    ) -> None:
        self.name = name
        self.notify_cbs = notify_cb if isinstance(notify_cb, list) else [notify_cb]
        self.disconnect_cb = disconnect_cb

    async def connect(self, host: str, port: int, ssl_config: SimpleSSLConfig | None = None) -> None:
        """Connect, and begin to receive.

        Raises:
            OSError: if the server cannot be reached.
        """
        await self._connect(host, port, ssl_config)

    async def _follow(self, transport: Transport) -> None:
        async def connect() -> Transport:
            return transport

        receiver = trionet.BroadcastReceiver(
            connect,
            peer=transport.peer,
            channel=self.name,
            backoff=None,
            pyon_version=self._pyon_version,
            max_message_size=MAX_LINE,
        )
        async with receiver.running():
            while True:
                try:
                    value = await anext(receiver)
                except trionet.ConnectionLost:
                    return
                for callback in list(self.notify_cbs):
                    callback(value)
