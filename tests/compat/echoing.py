"""Communicators under upstream's names for the tests: over loopback, on ports that were free a moment ago."""

from __future__ import annotations

import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from types import SimpleNamespace
from typing import Any, Final

from trionet_compat.iblutil.io.net.app import EchoProtocol

#: Where the communicators of tests log; without one they write all to the standard output.
LOGGER: Final = logging.getLogger("tests.rigs")

#: What upstream means by schemes: datagrams or not.
SCHEMES: Final = ("udp", "tcp")


def free_uri(scheme: str) -> str:
    """Where nobody listens: 0 is no port to upstream."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM if scheme == "udp" else socket.SOCK_STREAM) as sock:
        sock.bind(("127.0.0.1", 0))
        return f"{scheme}://127.0.0.1:{sock.getsockname()[1]}"


@contextlib.contextmanager
def open_silent_socket(scheme: str) -> Iterator[str]:
    """Where somebody listens, and never answers; the URI."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM if scheme == "udp" else socket.SOCK_STREAM) as sock:
        sock.bind(("127.0.0.1", 0))
        if scheme != "udp":
            sock.listen()
        yield f"{scheme}://127.0.0.1:{sock.getsockname()[1]}"


async def serve(scheme: str, open_server: Callable[..., Any] = EchoProtocol.server, name: str = "rig") -> Any:
    """A rig, ours unless told otherwise."""
    while True:
        try:
            return await open_server(free_uri(scheme), name, LOGGER)
        except OSError:  # another program was faster
            continue


@contextlib.asynccontextmanager
async def open_pair(scheme: str) -> AsyncIterator[tuple[EchoProtocol, EchoProtocol]]:
    """A rig, and a client of it."""
    rig = await serve(scheme)
    client = await EchoProtocol.client(rig.server_uri, "client", LOGGER)
    try:
        yield rig, client
    finally:
        client.close()
        rig.close()


def alyx_client(token: dict[str, str] | None) -> SimpleNamespace:
    """What is used of a client of Alyx."""
    return SimpleNamespace(base_url="https://alyx", user="me", _token=token, is_logged_in=token is not None)
