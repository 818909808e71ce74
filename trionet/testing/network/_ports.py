"""Who has which port of a host: the rules of bind, for TCP and UDP alike."""

from __future__ import annotations

import errno
import os
from typing import Final, Protocol

from trionet.testing.network._packets import ANY_IPV4, ANY_IPV6

# Ports that are given to sockets that did not ask for one, in turn.
_FIRST: Final = 49152
_LAST: Final = 65535


class Owner(Protocol):
    """Who has a port."""

    @property
    def local_address(self) -> str:
        """The address, or a wildcard."""

    @property
    def dual(self) -> bool:
        """Whether the IPv6 wildcard stands for IPv4, too."""

    @property
    def listening(self) -> bool:
        """Whether it accepts connections."""

    @property
    def reuse_address(self) -> bool:
        """SO_REUSEADDR."""

    @property
    def reuse_port(self) -> bool:
        """SO_REUSEPORT."""


class PortTable:
    """The ports of one protocol on a host."""

    def __init__(self) -> None:
        self._owners: dict[int, dict[Owner, None]] = {}
        self._next = _FIRST

    def check(self, owner: Owner, address: str, port: int) -> None:
        """See whether a port may be taken.

        Raises:
            OSError: EADDRINUSE if somebody has it and does not share it.
        """
        for other in self._owners.get(port, ()):
            if other is owner or not _overlap(owner, address, other):
                continue
            if owner.reuse_port and other.reuse_port:
                continue
            if owner.reuse_address and other.reuse_address and not other.listening:
                continue
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))

    def check_listening(self, owner: Owner, address: str, port: int) -> None:
        """See whether an owner of a port may listen there.

        Raises:
            OSError: EADDRINUSE if another one does. With SO_REUSEADDR both may have bound it before.
        """
        for other in self._owners.get(port, ()):
            if other is owner or not other.listening or not _overlap(owner, address, other):
                continue
            if not (owner.reuse_port and other.reuse_port):
                raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))

    def add(self, owner: Owner, port: int) -> None:
        """Note that somebody has a port."""
        self._owners.setdefault(port, {})[owner] = None

    def remove(self, owner: Owner, port: int) -> None:
        """Note that somebody has a port no more."""
        owners = self._owners.get(port)
        if owners is not None:
            owners.pop(owner, None)
            if not owners:
                del self._owners[port]

    def free_port(self, otherwise: int = errno.EADDRINUSE) -> int:
        """A port that nobody has.

        Raises:
            OSError: with the errno `otherwise`, if there is none.
        """
        for _ in range(_FIRST, _LAST + 1):
            port = self._next
            self._next = port + 1 if port < _LAST else _FIRST
            if port not in self._owners:
                return port
        raise OSError(otherwise, os.strerror(otherwise))


def _overlap(owner: Owner, address: str, other: Owner) -> bool:
    return (
        address == other.local_address
        or covers(address, owner.dual, other.local_address)
        or covers(other.local_address, other.dual, address)
    )


def covers(wildcard: str, dual: bool, address: str) -> bool:
    """Whether an address, which may be a wildcard, stands for another one, which may be one, too."""
    if wildcard == ANY_IPV4:
        return ":" not in address
    return wildcard == ANY_IPV6 and (dual or ":" in address)
