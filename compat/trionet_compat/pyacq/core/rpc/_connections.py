"""The connections behind blocking clients, and what the front end makes of the proxies that come."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final

import trio

from trionet._tasks import open_background_tasks
from trionet.objects._connection import ObjectConnection
from trionet.objects._host import ObjectHost
from trionet.objects._links import LinkOptions, Links
from trionet.wire.errors import RemoteProtocolError
from trionet.wire.object_values import ProxyReference
from trionet_compat.pyacq.core.rpc.proxy import proxy_of
from trionet_compat.pyacq.core.rpc.serializer import refuse_to_proxy

#: Seconds to find a server.
CONNECT_TIMEOUT: Final = 1.0
_RETRY_INTERVAL: Final = 0.1


class BlockingLinks(Links):
    """Makes proxies whose use blocks. These look for connections themselves, so there is no other one.

    Args:
        nursery: For what runs in the background.
        options: Of the connection.
        proxy_options: Of the proxies.
    """

    def __init__(
        self,
        nursery: trio.Nursery,
        options: LinkOptions,
        host: ObjectHost | None,
        proxy_options: dict[str, Any],
    ) -> None:
        super().__init__(nursery, options, host)
        self._proxy_options = proxy_options

    def proxy(self, reference: ProxyReference, owner: ObjectConnection | None) -> Any:
        return proxy_of(reference, self._proxy_options, None if owner is None else self.give_back)

    def send_released(self) -> None:
        """Release what was collected, in whatever thread, before anything else is sent."""
        self._send_released()

    def refuse(self, value: Any) -> ProxyReference:
        return refuse_to_proxy(value)


@dataclass(frozen=True, slots=True)
class Link:
    """What is behind a client.

    Attributes:
        connection: The connection.
        links: Makes the proxies that come through it.
        nursery: For tasks that wait for replies.
    """

    connection: ObjectConnection
    links: BlockingLinks
    nursery: trio.Nursery


@contextlib.asynccontextmanager
async def open_link(address: str, serializer: str, proxy_options: dict[str, Any]) -> AsyncIterator[Link]:
    """Connect to a server, which may be about to start.

    Raises:
        TimeoutError: if it is not there, or does not answer, in time.
        ValueError: for an address that is none.
    """
    options = LinkOptions(
        serializer,
        connect_timeout=CONNECT_TIMEOUT,
        handshake_timeout=CONNECT_TIMEOUT,
        max_pending_calls=sys.maxsize,
    )
    async with open_background_tasks() as nursery, contextlib.AsyncExitStack() as stack:
        links = BlockingLinks(nursery, options, None, proxy_options)
        stack.callback(links.close)
        deadline = trio.current_time() + CONNECT_TIMEOUT
        while True:
            try:
                connection = await stack.enter_async_context(links.open(address))
                break
            except (OSError, RemoteProtocolError) as error:
                if trio.current_time() + _RETRY_INTERVAL >= deadline:
                    raise TimeoutError("Could not establish connection with RPC server.") from error
            await trio.sleep(_RETRY_INTERVAL)
        yield Link(connection, links, nursery)
