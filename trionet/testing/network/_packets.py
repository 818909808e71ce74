"""What travels: packets, and the addresses they carry."""

from __future__ import annotations

import socket
import zlib
from functools import lru_cache
from typing import Final, Literal, NamedTuple

Protocol = Literal["tcp", "udp", "icmp"]

ANY_IPV4: Final = "0.0.0.0"
ANY_IPV6: Final = "::"
LOOPBACK_IPV4: Final = "127.0.0.1"
LOOPBACK_IPV6: Final = "::1"
BROADCAST: Final = ("255.255.255.255", "10.255.255.255")

# Of the link layer nothing is simulated, and of the headers only that they take time on a slow link.
_HEADERS: Final = {"tcp": 40, "udp": 28, "icmp": 56}

# Each connection counts its bytes from a multiple of 2**32, so a packet of an earlier connection between the
# same ports is outside of every window; what is left of the number is the place in the stream.
SEQUENCE_SPACE: Final = 1 << 32


class Endpoint(NamedTuple):
    """One end of a packet's way.

    Attributes:
        host: Name of the host; "" if the address is nobody's.
        address: IPv4 or IPv6 address.
        port: The port. Of an ICMP message, which has none, that of the datagram it is about.
    """

    host: str
    address: str
    port: int

    def __str__(self) -> str:
        address = f"[{self.address}]" if ":" in self.address else self.address
        return f"{self.host or '?'}/{address}:{self.port}"


class Packet:
    """A datagram, a TCP segment or an ICMP message. Rules look at packets, and do not change them.

    Attributes:
        protocol: "tcp", "udp" or "icmp" (port unreachable).
        src: Where it comes from.
        dst: Where it goes to.
        flags: Of TCP, as tcpdump writes them: "S" SYN, "F" FIN, "R" RST, "P" PSH, "." ACK; "" otherwise.
        seq: TCP's sequence number of the first byte. Its lower 32 bits count from 0, the SYN.
        ack: TCP's acknowledgement number.
        window: TCP's receive window, in bytes; not scaled.
        payload: The data.
    """

    __slots__ = ("_text", "ack", "dst", "flags", "payload", "protocol", "seq", "src", "window")

    def __init__(
        self,
        protocol: Protocol,
        src: Endpoint,
        dst: Endpoint,
        payload: bytes = b"",
        flags: str = "",
        seq: int = 0,
        ack: int = 0,
        window: int = 0,
    ) -> None:
        self.protocol: Protocol = protocol
        self.src = src
        self.dst = dst
        self.payload = payload
        self.flags = flags
        self.seq = seq
        self.ack = ack
        self.window = window
        self._text = ""

    @property
    def size(self) -> int:
        """Bytes on the link: the payload and the headers."""
        return len(self.payload) + _HEADERS[self.protocol] + (20 if ":" in self.dst.address else 0)

    @property
    def offset(self) -> int:
        """Place of the payload's first byte in its TCP stream, which begins with 0."""
        return (self.seq - 1) % SEQUENCE_SPACE

    @property
    def checksum(self) -> int:
        """CRC-32 of the payload."""
        return zlib.crc32(self.payload)

    def __str__(self) -> str:
        if not self._text:
            self._text = f"{self.src} > {self.dst}: {self._details()}"
        return self._text

    def __repr__(self) -> str:
        return f"<Packet {self}>"

    def _details(self) -> str:
        length = len(self.payload)
        if self.protocol == "udp":
            return f"UDP, length {length}"
        if self.protocol == "icmp":
            return f"ICMP udp port {self.src.port} unreachable"
        seq = self.seq % SEQUENCE_SPACE
        text = f"Flags [{self.flags}], seq {seq}"
        if length:
            text += f":{seq + length}"
        if "." in self.flags:
            text += f", ack {self.ack % SEQUENCE_SPACE}"
        return f"{text}, win {self.window}, length {length}"


@lru_cache(maxsize=4096)
def canonical(family: int, text: str) -> str:
    """The one way in which an address is written here; IPv4 in IPv6 clothes (::ffff:a.b.c.d) becomes IPv4.

    Raises:
        OSError: if it is no address of that family.
    """
    packed = socket.inet_pton(family, text)
    if family == socket.AF_INET6 and packed.startswith(bytes(10) + b"\xff\xff"):
        return socket.inet_ntop(socket.AF_INET, packed[12:])
    return socket.inet_ntop(family, packed)


def is_loopback(address: str) -> bool:
    """Whether an address never leaves its host."""
    return address.startswith("127.") or address == LOOPBACK_IPV6


def is_wildcard(address: str) -> bool:
    """Whether an address stands for all of a host's."""
    return address in (ANY_IPV4, ANY_IPV6)


def sockaddr(family: int, address: str, port: int) -> tuple[str, int] | tuple[str, int, int, int]:
    """An address as the socket module gives it."""
    if family == socket.AF_INET:
        return (address, port)
    return (address if ":" in address else f"::ffff:{address}", port, 0, 0)
