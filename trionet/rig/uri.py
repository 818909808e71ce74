"""Finding the address behind the URI of a rig."""

from __future__ import annotations

import socket
from dataclasses import replace

import trio

from trionet.wire.rig_uri import DEFAULT_PORT, AnyURI, RigURI


async def validate_uri(
    uri: AnyURI,
    *,
    resolve_host: bool = True,
    default_port: int = DEFAULT_PORT,
    default_scheme: str = "udp",
    allow_port_0: bool = False,
) -> RigURI:
    """Complete the URI of a rig.

    Args:
        uri: ``[scheme://]host[:port]``, such as ``cameras``, ``tcp://10.0.0.5`` or ``udp://[::1]:12000``.
        resolve_host: Replace a host name by its address: IPv4 if it has one, as upstream, else IPv6. An
            empty host is this host. The event loop goes on meanwhile.
        default_port: For a URI without a port.
        default_scheme: For a URI without a scheme: ``udp``, ``tcp``, ``ws`` or ``wss``.
        allow_port_0: Whether the port may be 0: any that is free, to listen on.

    Raises:
        TypeError: if it is no text or address.
        ValueError: if a part of it is not allowed.
        OSError: if the host name is not known (socket.gaierror).
    """
    parsed = RigURI.parse(
        uri, default_scheme=default_scheme, default_port=default_port, allow_port_0=allow_port_0
    )
    if not resolve_host:
        await trio.lowlevel.checkpoint()
        return parsed
    return replace(parsed, host=await resolve(parsed.host or socket.gethostname()))


async def resolve(host: str, family: int = 0) -> str:
    """The first IPv4 address of a host; its first IPv6 address if it has no other.

    Raises:
        OSError: if the name is not known (socket.gaierror), or has no address of the family.
    """
    try:
        info = await trio.socket.getaddrinfo(host, None, family, trio.socket.SOCK_DGRAM)
    except socket.gaierror as error:
        raise socket.gaierror(error.errno, f"{error.strerror} ({host})") from error
    addresses = [(found, str(sockaddr[0])) for found, *_, sockaddr in info]
    return next((text for found, text in addresses if found == socket.AF_INET), addresses[0][1])
