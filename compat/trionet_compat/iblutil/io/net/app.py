"""Communicators, and several of them as one. Stands for iblutil.io.net.app."""

from __future__ import annotations

from typing import Any, Final

import trio

from trionet_compat import guest
from trionet_compat.iblutil.io.net import base
from trionet_compat.iblutil.io.net._echo import EchoProtocol
from trionet_compat.iblutil.io.net._services import Services

__all__ = ["EchoProtocol", "Services", "main"]

# Seconds that the example serves for.
_SERVE: Final = 3600.0


async def main(role: str, server_uri: str | base.IPAddress, name: str | None = None, **kwargs: Any) -> None:
    """Serve as a rig for an hour, or tell one once to start: an example.

    Args:
        role: ``"server"`` or ``"client"``.
        server_uri: Where the rig is.
        name: What to call it.
        **kwargs: Of `EchoProtocol.server` or `client`.

    Raises:
        ValueError: for another role.
        OSError: if it cannot listen, or the rig cannot be reached (TimeoutError).
    """
    if role == "server":
        communicator = await EchoProtocol.server(server_uri, name, **kwargs)
    elif role == "client":
        communicator = await EchoProtocol.client(server_uri, name, **kwargs)
    else:
        raise ValueError('role must be either "server" or "client"')
    try:
        if role == "server":
            await guest.run(trio.sleep, _SERVE)
        else:
            await communicator.start("2024-01-01_1_example")
    finally:
        communicator.close()
