"""ZeroMQ's addresses, and how to listen at one and connect to one: ``tcp://`` and ``ipc://``."""

from __future__ import annotations

import os
import socket
import stat
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import trio

from trionet._connect import CONNECT_TIMEOUT, connect
from trionet._server import AnyListener, listening_addresses, open_listeners
from trionet._transport import Transport, format_address, local_host, open_transport

_FORMS: Final = "tcp://HOST:PORT or ipc://PATH"
# How listeners on all interfaces are called by the system.
_ALL_INTERFACES: Final = ("0.0.0.0", "::")
# Seconds for finding out whether somebody listens at a socket file.
_PROBE_TIMEOUT: Final = 1.0


@dataclass(frozen=True, slots=True)
class TcpEndpoint:
    """``tcp://HOST:PORT``.

    Attributes:
        host: Name or address, without brackets; None for all interfaces, when listening.
        port: 0 for any that is free, when listening.
    """

    host: str | None
    port: int

    def __str__(self) -> str:
        return f"tcp://{format_address((self.host or '*', self.port or '*'))}"


@dataclass(frozen=True, slots=True)
class IpcEndpoint:
    """``ipc://PATH``, a Unix socket."""

    path: str

    def __str__(self) -> str:
        return f"ipc://{self.path}"


Endpoint = TcpEndpoint | IpcEndpoint


def parse_endpoint(address: str) -> Endpoint:
    """Read an address as libzmq writes it: ``tcp://127.0.0.1:*``, ``tcp://[::1]:5555``, ``ipc:///run/laser``.

    ``*`` is any host or any port; port 0 is any, too.

    Raises:
        ValueError: for anything else, with what is wrong about it.
    """
    scheme, separator, rest = address.partition("://")
    if not separator:
        raise ValueError(f"{address!r} is no address: use {_FORMS}")
    if scheme == "tcp":
        return _parse_tcp(address, rest)
    if scheme == "ipc":
        return _parse_ipc(address, rest)
    if scheme == "inproc":
        raise ValueError(f"{address!r}: inproc is for threads that share a libzmq context: use {_FORMS}")
    raise ValueError(f"{address!r}: {scheme}:// is not supported: use {_FORMS}")


def _parse_tcp(address: str, rest: str) -> TcpEndpoint:
    host, colon, port = rest.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"{address!r}: an IPv6 address stands in brackets: tcp://[::1]:5555")
    if not colon or not host or any(character in host for character in "[];/ "):
        raise ValueError(f"{address!r} is no address: use tcp://HOST:PORT")
    if port != "*" and not (port.isascii() and port.isdigit() and int(port) < 1 << 16):
        raise ValueError(f"{address!r}: {port!r} is no port, use a number up to 65535, or * for any")
    return TcpEndpoint(None if host == "*" else host, 0 if port == "*" else int(port))


def _parse_ipc(address: str, path: str) -> IpcEndpoint:
    if not path or path == "*" or path.startswith("@") or "\0" in path:
        raise ValueError(f"{address!r}: the path of a file is needed, like ipc:///run/laser")
    return IpcEndpoint(path)


async def connect_endpoint(endpoint: Endpoint, *, connect_timeout: float = CONNECT_TIMEOUT) -> Transport:
    """Connect to where somebody listens.

    Args:
        endpoint: The address.
        connect_timeout: Seconds for all of it.

    Raises:
        ValueError: for an address that can only be listened at.
        OSError: as the system reports it: ConnectionRefusedError, FileNotFoundError, ...
        TimeoutError: when the seconds are over.
        NotImplementedError: for ``ipc`` on Windows.
    """
    if isinstance(endpoint, IpcEndpoint):
        return await _connect_ipc(endpoint, connect_timeout)
    if endpoint.host is None or not endpoint.port:
        raise ValueError(f"{endpoint} can be listened at, but not connected to")
    return await connect(endpoint.host, endpoint.port, connect_timeout=connect_timeout)


async def _connect_ipc(endpoint: IpcEndpoint, seconds: float) -> Transport:
    sock = _unix_socket()
    try:
        with trio.move_on_after(seconds):
            await sock.connect(endpoint.path)
            return open_transport(trio.SocketStream(sock), str(endpoint))
        raise TimeoutError(f"no connection to {endpoint} within {seconds} s")
    except BaseException as error:
        sock.close()
        if isinstance(error, OSError) and error.errno:
            raise OSError(error.errno, f"{error.strerror} ({endpoint})") from error
        raise


async def open_endpoint_listeners(endpoint: Endpoint) -> list[AnyListener]:
    """Listen at an address; for ``tcp`` on all addresses that the name has.

    A socket file that a program has left behind is replaced, as libzmq does. One at which a program
    listens is not, while libzmq takes it over in silence. The file is removed when the listener closes;
    who may connect depends on the umask, and on the folder.

    Raises:
        OSError: if an address cannot be listened at.
        NotImplementedError: for ``ipc`` on Windows.
    """
    if isinstance(endpoint, TcpEndpoint):
        return await open_listeners(endpoint.host, endpoint.port, None, None)
    sock = _unix_socket()
    try:
        await _remove_left_behind(endpoint)
        await sock.bind(endpoint.path)
        sock.listen(128)
        return [_IpcListener(sock, endpoint)]
    except BaseException as error:
        sock.close()
        if isinstance(error, OSError) and error.errno:
            raise OSError(error.errno, f"cannot listen on {endpoint}: {error.strerror}") from error
        raise


async def _remove_left_behind(endpoint: IpcEndpoint) -> None:
    """Remove a socket file at which nobody listens; what else is there makes `bind` fail."""
    try:
        if not stat.S_ISSOCK(os.stat(endpoint.path).st_mode):
            return
        transport = await _connect_ipc(endpoint, _PROBE_TIMEOUT)
    except ConnectionRefusedError:
        os.unlink(endpoint.path)
    except (FileNotFoundError, TimeoutError):
        pass
    else:
        await transport.aclose()


class _IpcListener(trio.abc.Listener[trio.SocketStream]):
    """Removes its file when it closes, if that is still its own."""

    def __init__(self, sock: trio.socket.SocketType, endpoint: IpcEndpoint) -> None:
        self.endpoint = endpoint
        self._listener = trio.SocketListener(sock)
        self._inode = _inode(endpoint.path)

    async def accept(self) -> trio.SocketStream:
        return await self._listener.accept()

    async def aclose(self) -> None:
        try:
            if self._inode is not None and _inode(self.endpoint.path) == self._inode:
                os.unlink(self.endpoint.path)
        finally:
            self._inode = None
            await self._listener.aclose()


def _inode(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _unix_socket() -> trio.socket.SocketType:
    if sys.platform == "win32" or not hasattr(socket, "AF_UNIX"):
        raise NotImplementedError("ipc:// needs Unix sockets, which Python has not on Windows: use tcp://")
    return trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)


def listening_endpoints(listeners: Sequence[AnyListener]) -> tuple[str, ...]:
    """The addresses at which clients find these listeners; those of ``tcp`` with their real ports."""
    tcp = [str(TcpEndpoint(host, port)) for host, port in listening_addresses(listeners)]
    return (*tcp, *(str(one.endpoint) for one in listeners if isinstance(one, _IpcListener)))


def address_towards(stream: trio.abc.Stream | None, endpoints: Sequence[str]) -> str:
    """The address, of those where we listen, at which the other side of a connection finds us.

    Who listens on all interfaces has no address of its own: then it is that of our end of the connection.
    """
    first = parse_endpoint(endpoints[0])
    host = None if stream is None else local_host(stream)
    if host is None or not isinstance(first, TcpEndpoint):
        return endpoints[0]
    listening = [parsed for parsed in map(parse_endpoint, endpoints) if isinstance(parsed, TcpEndpoint)]
    for endpoint in listening:
        if endpoint.host == host:
            return str(endpoint)
    if any(endpoint.host in _ALL_INTERFACES for endpoint in listening):
        return str(TcpEndpoint(host, first.port))
    return endpoints[0]
