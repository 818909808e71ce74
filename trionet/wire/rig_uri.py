"""Where a rig is: ``scheme://host:port``."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Final

#: The port of rigs, unless another is given.
DEFAULT_PORT: Final = 11001

_LAST_PORT: Final = 65_535

#: Datagrams; a byte stream, in upstream's spellings; the same with TLS.
SCHEMES: Final = ("udp", "tcp", "ws", "wss")

_URI: Final = re.compile(r"(?:(?P<scheme>[A-Za-z]+)://)?(?P<rest>.*)", re.DOTALL)
_HOST_AND_PORT: Final = re.compile(
    r"(?:\[(?P<v6>[^\[\]]*)\]|(?P<host>[^:\[\]]*))(?::(?P<port>.*))?", re.DOTALL
)
_HOST_NAME: Final = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)(?:\.(?!-)[A-Za-z0-9_-]{1,63}(?<!-))*\.?")

# Systems complete "10.1" to 10.0.0.1, and know hexadecimal addresses; nobody means that.
_NUMBERS: Final = re.compile(r"(?:(?:0[xX][0-9a-fA-F]*|[0-9]+)(?:\.|$))+")


@dataclass(frozen=True, slots=True)
class RigURI:
    """A complete address of a rig; ``str`` has it as text.

    Attributes:
        scheme: ``udp``, ``tcp``, ``ws`` (the same as ``tcp``) or ``wss`` (with TLS).
        host: Name or IP address, without brackets.
        port: From 1 to 65535; 0 only for listening on any port.
    """

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    @property
    def is_stream(self) -> bool:
        """Whether it is about TCP."""
        return self.scheme != "udp"

    @classmethod
    def parse(
        cls,
        uri: AnyURI,
        *,
        default_scheme: str = "udp",
        default_port: int = DEFAULT_PORT,
        allow_port_0: bool = False,
    ) -> RigURI:
        """Complete a URI, without looking its host up.

        Args:
            uri: ``[scheme://]host[:port]``. IPv6 addresses stand in brackets if there is a port or a scheme.
                An empty host is this host.
            default_scheme: For a URI without one.
            default_port: For a URI without one.
            allow_port_0: Whether the port may be 0.

        Raises:
            TypeError: if it is no text or address.
            ValueError: if a part of it is not allowed; the message says which.
        """
        if isinstance(uri, RigURI):
            return uri
        if not (0 if allow_port_0 else 1) <= default_port <= _LAST_PORT:
            raise ValueError(f"the default port {default_port} is no port: a number from 1 to {_LAST_PORT}")
        if isinstance(uri, ipaddress.IPv4Address | ipaddress.IPv6Address):
            return cls(_check_scheme(default_scheme), str(uri), default_port)
        if not isinstance(uri, str):
            raise TypeError(f"a URI is text, not {type(uri).__name__}")
        text = uri.strip()
        if is_ip(text):  # IPv6 without brackets, too
            return cls(_check_scheme(default_scheme), text, default_port)
        parts = _URI.fullmatch(text)
        place = _HOST_AND_PORT.fullmatch(parts["rest"].rstrip("/")) if parts is not None else None
        if parts is None or place is None:
            raise ValueError(f"{uri!r} is no [scheme://]host[:port]; IPv6 addresses need brackets")
        host = place["v6"] if place["v6"] is not None else place["host"]
        if place["v6"] is not None and not (":" in host and is_ip(host)):
            raise ValueError(f"{host!r} in {uri!r} is no IPv6 address")
        if host and not is_ip(host) and (not _HOST_NAME.fullmatch(host) or _NUMBERS.fullmatch(host)):
            raise ValueError(f"{host!r} in {uri!r} is neither an IP address nor a host name")
        port = _check_port(place["port"], default_port, allow_port_0, uri)
        return cls(_check_scheme(parts["scheme"] or default_scheme), host, port)


#: What stands for the place of a rig.
AnyURI = str | ipaddress.IPv4Address | ipaddress.IPv6Address | RigURI


def _check_scheme(scheme: str) -> str:
    if scheme.lower() not in SCHEMES:
        raise ValueError(f"scheme {scheme!r} is not one of {', '.join(SCHEMES)}")
    return scheme.lower()


def _check_port(text: str | None, default: int, allow_0: bool, uri: str) -> int:
    if not text:
        return default
    # isdecimal also accepts other scripts' digits; int would, too
    port = int(text) if text.isascii() and text.isdecimal() and len(text) <= 5 else -1
    if not (0 if allow_0 else 1) <= port <= _LAST_PORT:
        raise ValueError(f"{text!r} in {uri!r} is no port: a number from 1 to {_LAST_PORT}")
    return port


def is_ip(text: str) -> bool:
    """Whether it is an IP address, of either version."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
