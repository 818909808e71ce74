"""Subscribing, as all of `trionet watch` does it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Final

from trionet import Mod, Subscription, open_subscription
from trionet.cli.connecting import client_context
from trionet.cli.feeds import Source

#: Where the library reports outages.
SYNC_LOGGER: Final = logging.getLogger("trionet.sync_struct")
# Seconds between attempts to connect at most: somebody is waiting.
_MAX_RETRY: Final = 2.0


def subscribe(
    source: Source, name: str, reconnect: bool, on_mod: Callable[[Mod], object] | None = None
) -> AbstractAsyncContextManager[Subscription]:
    """See `open_subscription`.

    Raises:
        CommandError: if the files for TLS cannot be used.
    """
    return open_subscription(
        source.host,
        source.port,
        name,
        on_mod=on_mod,
        reconnect=reconnect,
        max_retry=_MAX_RETRY,
        pyon_version=source.pyon_version,
        ssl_context=client_context(source.tls),
    )


async def wait_lost(subscription: Subscription) -> None:
    """Wait until the subscription has ended; one that connects again never does.

    Raises:
        ConnectionLost: when it has; RemoteProtocolError likewise.
    """
    await subscription.wait_value(lambda _: False)
