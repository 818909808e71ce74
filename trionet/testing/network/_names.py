"""Names of hosts, in the place of DNS.

Trio itself resolves what is numbers already, and None. What is left are the names of hosts, and "localhost".
Upper and lower case do not differ. A host's own name means its own addresses, not its loopback.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any, Final

import trio

from trionet.testing.network._packets import LOOPBACK_IPV4, LOOPBACK_IPV6, canonical

if TYPE_CHECKING:
    from trionet.testing.network._fabric import Fabric
    from trionet.testing.network._gate import Gate

LOCALHOST: Final = "localhost"
_KINDS: Final = (
    (socket.SOCK_STREAM, socket.IPPROTO_TCP),
    (socket.SOCK_DGRAM, socket.IPPROTO_UDP),
)


class NameResolver(trio.abc.HostnameResolver):
    """Resolves the names of one network's hosts."""

    def __init__(self, fabric: Fabric, gate: Gate) -> None:
        self._fabric = fabric
        self._gate = gate

    async def getaddrinfo(
        self,
        host: bytes | None,
        port: bytes | str | int | None,
        family: int = 0,
        type: int = 0,
        proto: int = 0,
        flags: int = 0,
    ) -> list[Any]:
        """Addresses of a host, IPv4 first, as `socket.getaddrinfo` gives them."""
        await trio.lowlevel.checkpoint()
        if self._gate.leads_outside(f"the name {_text(host)!r} to be resolved"):
            return await self._gate.resolve_outside(
                socket.getaddrinfo, host, port, family, type, proto, flags
            )
        name = _text(host)
        addresses = self._addresses(name, flags)
        number = _port(port)
        found: list[Any] = []
        for version, address in addresses:
            if family not in (0, version):
                if family != socket.AF_INET6 or not flags & getattr(socket, "AI_V4MAPPED", 0):
                    continue
                if any(other == socket.AF_INET6 for other, _ in addresses):
                    continue
                version, address = socket.AF_INET6, f"::ffff:{address}"
            end: tuple[Any, ...] = (address, number)
            if version == socket.AF_INET6:
                end = (address, number, 0, 0)
            for kind, protocol in _KINDS:
                if type in (0, kind) and proto in (0, protocol):
                    canonical_name = name if flags & socket.AI_CANONNAME and not found else ""
                    found.append((version, kind, protocol, canonical_name, end))
        if not found:
            raise _unknown()
        return found

    def _addresses(self, name: str, flags: int) -> list[tuple[socket.AddressFamily, str]]:
        if name == LOCALHOST:
            return [(socket.AF_INET, LOOPBACK_IPV4), (socket.AF_INET6, LOOPBACK_IPV6)]
        host = self._fabric.hosts.get(name)
        if host is None or flags & socket.AI_NUMERICHOST:
            raise _unknown()
        return [(socket.AF_INET, host.ipv4), (socket.AF_INET6, host.ipv6)]

    async def getnameinfo(
        self, sockaddr: tuple[str, int] | tuple[str, int, int, int], flags: int
    ) -> tuple[str, str]:
        """Name and service of an address, as `socket.getnameinfo` gives them. Services have no names."""
        await trio.lowlevel.checkpoint()
        address, port = sockaddr[:2]
        if self._gate.leads_outside(f"the address {address!r} to be resolved"):
            return await self._gate.resolve_outside(socket.getnameinfo, sockaddr, flags)
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        try:
            plain = canonical(family, address)
        except OSError:
            raise _unknown() from None
        name = None if flags & socket.NI_NUMERICHOST else self._name_of(plain)
        if name is None and flags & socket.NI_NAMEREQD:
            raise _unknown()
        return name or address, str(port)

    def _name_of(self, address: str) -> str | None:
        if address in (LOOPBACK_IPV4, LOOPBACK_IPV6):
            return LOCALHOST
        host = self._fabric.by_address.get(address)
        return None if host is None else host.name


def _text(host: bytes | None) -> str:
    return "" if host is None else host.decode("ascii").lower()


def _port(port: bytes | str | int | None) -> int:
    if port is None:
        return 0
    if isinstance(port, int):
        return port
    text = port.decode("ascii") if isinstance(port, bytes) else port
    if text.isdecimal():
        return int(text)
    try:
        return socket.getservbyname(text)
    except OSError:
        message = "Servname not supported for ai_socktype"
        raise socket.gaierror(socket.EAI_SERVICE, message) from None


def _unknown() -> socket.gaierror:
    return socket.gaierror(socket.EAI_NONAME, "Name or service not known")
