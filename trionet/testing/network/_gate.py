"""Which sockets are virtual, and which are real.

Trio has one place where sockets are made, and one where names are resolved. While a network is open both
come here. A TCP or UDP socket that a task on a host asks for is virtual. All else is real if the network
allows it, and an error otherwise: a test that talks to the real network by mistake should fail.

What does not come here stays as it is: `trio.socket.socketpair`, and what is made from sockets of the
standard library.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any, Final, TypeVar

import trio

from trionet.testing.network._datagram_socket import DatagramSocket
from trionet.testing.network._errors import NotOnHostError
from trionet.testing.network._fabric import Fabric
from trionet.testing.network._residence import RESIDENCE, Residence
from trionet.testing.network._stream_socket import StreamSocket

T = TypeVar("T")

_FAMILIES: Final = (socket.AF_INET, socket.AF_INET6)
# What Linux lets one put beside the kind of a socket.
_NOT_THE_KIND: Final = getattr(socket, "SOCK_NONBLOCK", 0) | getattr(socket, "SOCK_CLOEXEC", 0)
_PROTOCOLS: Final = {
    socket.SOCK_STREAM: (0, socket.IPPROTO_TCP),
    socket.SOCK_DGRAM: (0, socket.IPPROTO_UDP),
}


class Gate(trio.abc.SocketFactory):
    """Makes the sockets while a network is open."""

    def __init__(self, fabric: Fabric, *, allow_real: bool) -> None:
        self._fabric = fabric
        self._allow_real = allow_real

    def residence(self) -> Residence | None:
        """Where the current task lives in this network."""
        residence = RESIDENCE.get()
        if residence is None or self._fabric.hosts.get(residence.host.name) is not residence.host:
            return None  # on no host, or on one of a network that is over
        return residence

    def leads_outside(self, wanted: str) -> bool:
        """Whether the current task is to use the real network.

        Raises:
            NotOnHostError: if it is not on a host, and may not.
        """
        if self.residence() is not None:
            return False
        if self._allow_real:
            return True
        raise NotOnHostError(
            f"a task that lives on no host wants {wanted}, while a virtual network is open. Start it with "
            "host.start_soon() or host.start(), or put the call into `with host.entered():`. If the real "
            "network is meant, open the virtual one with allow_real=True"
        )

    async def resolve_outside(self, function: Callable[..., T], *args: Any) -> T:
        """Let the system resolve something."""
        return await trio.to_thread.run_sync(function, *args, abandon_on_cancel=True)

    def socket(
        self, family: int | None = None, type: int | None = None, proto: int | None = None
    ) -> trio.socket.SocketType:
        """Make a socket for the current task."""
        family = socket.AF_INET if family is None else family
        kind = (socket.SOCK_STREAM if type is None else type) & ~_NOT_THE_KIND
        proto = 0 if proto is None else proto
        if family in _FAMILIES and proto in _PROTOCOLS.get(socket.SocketKind(kind), ()):
            residence = self.residence()
            if residence is not None:
                if kind == socket.SOCK_STREAM:
                    return StreamSocket(residence.stack, family, proto)
                return DatagramSocket(residence.stack, family, proto)
            self.leads_outside("a socket")
        elif not self._allow_real:
            raise NotOnHostError(
                f"a virtual network has TCP and UDP over IPv4 and IPv6, but no sockets of family {family!r}, "
                f"kind {kind!r}, protocol {proto!r}. If a real one is meant, open it with allow_real=True"
            )
        return trio.socket.from_stdlib_socket(socket.socket(family, kind, proto))
