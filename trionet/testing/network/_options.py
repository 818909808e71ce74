"""Socket options: those that mean something here, those that are only remembered, and no others.

An option that is not in these tables is refused with ENOPROTOOPT, as a kernel does that does not know it: a
network that accepted what it does not do would pass programs that fail elsewhere. What is remembered only
concerns performance, or headers that are not simulated.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from typing_extensions import Buffer

#: Bytes of payload that sockets keep by default. `getsockopt` gives twice that, as in Linux.
TCP_BUFFER: Final = 128 * 1024
UDP_BUFFER: Final = 208 * 1024
_SMALLEST_BUFFER: Final = 1024

# Options with their defaults. Not every system has a number for each.
_BOTH: Final = {
    ("SOL_SOCKET", "SO_REUSEADDR"): 0,
    ("SOL_SOCKET", "SO_REUSEPORT"): 0,
    ("SOL_SOCKET", "SO_EXCLUSIVEADDRUSE"): 0,
    ("SOL_SOCKET", "SO_KEEPALIVE"): 0,
    ("SOL_SOCKET", "SO_BROADCAST"): 0,
    ("SOL_SOCKET", "SO_PRIORITY"): 0,
    ("SOL_SOCKET", "SO_DONTROUTE"): 0,
    ("IPPROTO_IP", "IP_TOS"): 0,
    ("IPPROTO_IP", "IP_TTL"): 64,
    ("IPPROTO_IP", "IP_BIND_ADDRESS_NO_PORT"): 0,
}
_TCP: Final = {
    ("IPPROTO_TCP", "TCP_NODELAY"): 0,
    ("IPPROTO_TCP", "TCP_CORK"): 0,
    ("IPPROTO_TCP", "TCP_QUICKACK"): 1,
    ("IPPROTO_TCP", "TCP_NOTSENT_LOWAT"): 0,
    ("IPPROTO_TCP", "TCP_KEEPIDLE"): 7200,
    ("IPPROTO_TCP", "TCP_KEEPALIVE"): 7200,  # macOS's name for it
    ("IPPROTO_TCP", "TCP_KEEPINTVL"): 75,
    ("IPPROTO_TCP", "TCP_KEEPCNT"): 9,
    ("IPPROTO_TCP", "TCP_USER_TIMEOUT"): 0,
}
_UDP: Final = {
    ("IPPROTO_IP", "IP_MULTICAST_TTL"): 1,
    ("IPPROTO_IP", "IP_MULTICAST_LOOP"): 1,
}
_IPV6: Final = {
    ("IPPROTO_IPV6", "IPV6_V6ONLY"): 0,
    ("IPPROTO_IPV6", "IPV6_UNICAST_HOPS"): 64,
    ("IPPROTO_IPV6", "IPV6_TCLASS"): 0,
}
_SWITCHES: Final = frozenset(
    {"SO_REUSEADDR", "SO_REUSEPORT", "SO_KEEPALIVE", "SO_BROADCAST", "TCP_NODELAY", "IPV6_V6ONLY"}
)
_COUNTS: Final = frozenset({"TCP_KEEPIDLE", "TCP_KEEPALIVE", "TCP_KEEPINTVL", "TCP_KEEPCNT"})


class SocketOptions:
    """The options of one socket, by the names that the socket module has for them."""

    __slots__ = ("_values", "linger")

    def __init__(self, family: int, kind: int) -> None:
        stream = kind == socket.SOCK_STREAM
        size = 2 * (TCP_BUFFER if stream else UDP_BUFFER)
        self._values: dict[str, int] = {"SO_SNDBUF": size, "SO_RCVBUF": size}
        for table in (_BOTH, _TCP if stream else _UDP, _IPV6 if family == socket.AF_INET6 else {}):
            for (_, name), default in table.items():
                self._values[name] = default
        self.linger: tuple[int, int] = (0, 0)

    def __getitem__(self, name: str) -> int:
        return self._values.get(name, 0)

    def copy_from(self, other: SocketOptions) -> None:
        """Have the same values, as an accepted socket has those of the listening one."""
        self._values.update(other._values)
        self.linger = other.linger

    def get(self, level: int, number: int) -> int | bytes:
        """The value.

        Raises:
            OSError: ENOPROTOOPT.
        """
        if (level, number) == (socket.SOL_SOCKET, socket.SO_LINGER):
            return struct.pack("ii", *self.linger)
        return self._values[self._name(level, number)]

    def set(self, level: int, number: int, value: int | Buffer) -> str:
        """Set an option, and return its name.

        Raises:
            OSError: ENOPROTOOPT if it is unknown, EINVAL if it cannot have that value.
        """
        if (level, number) == (socket.SOL_SOCKET, socket.SO_LINGER):
            data = b"" if isinstance(value, int) else bytes(value)
            if len(data) not in (4, 8):
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
            on, seconds = struct.unpack("ii" if len(data) == 8 else "hh", data)
            self.linger = (int(bool(on)), seconds)
            return "SO_LINGER"
        name = self._name(level, number)
        new = value if isinstance(value, int) else _unpack(value)
        if name in _SWITCHES:
            new = int(bool(new))
        elif name in ("SO_SNDBUF", "SO_RCVBUF"):
            new = max(2 * new, 2 * _SMALLEST_BUFFER)
        elif name in _COUNTS and new < 1:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        self._values[name] = new
        return name

    def _name(self, level: int, number: int) -> str:
        name = _NAMES.get((level, number))
        if name is None or name not in self._values:
            raise OSError(errno.ENOPROTOOPT, os.strerror(errno.ENOPROTOOPT))
        return name


def pack(value: int | bytes, length: int | None) -> int | bytes:
    """A value as `getsockopt` returns it, with and without the argument ``buflen``."""
    if length is None:
        return value if isinstance(value, int) else struct.unpack("i", value[:4])[0]
    return (struct.pack("i", value) if isinstance(value, int) else value)[:length]


def _unpack(value: Buffer) -> int:
    data = bytes(value)
    if len(data) < 4:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    return int(struct.unpack("i", data[:4])[0])


def _collect(keys: Iterable[tuple[str, str]]) -> dict[tuple[int, int], str]:
    return {
        (getattr(socket, level), getattr(socket, name)): name
        for level, name in keys
        if hasattr(socket, name) and hasattr(socket, level)
    }


_NAMES: Final = _collect(
    [("SOL_SOCKET", "SO_SNDBUF"), ("SOL_SOCKET", "SO_RCVBUF"), *_BOTH, *_TCP, *_UDP, *_IPV6]
)
