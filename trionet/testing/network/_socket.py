"""What TCP and UDP sockets have in common: names, options, and how an operation waits.

Each operation behaves as trio's own does, in detail: it is a checkpoint even if it need not wait; cancelled,
it has done nothing; a socket that is closed meanwhile raises `trio.ClosedResourceError`; and errors are those
of Linux, number and all.
"""

from __future__ import annotations

import errno
import operator
import os
import socket
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any, Final, NoReturn, Self, TypeVar, overload

import trio

from trionet.testing.network._options import SocketOptions, pack
from trionet.testing.network._packets import (
    ANY_IPV4,
    ANY_IPV6,
    LOOPBACK_IPV4,
    LOOPBACK_IPV6,
    Endpoint,
    canonical,
    is_wildcard,
    sockaddr,
)
from trionet.testing.network._ports import PortTable
from trionet.testing.network._residence import RESIDENCE, Residence, may_use
from trionet.testing.network._waiting import Waiter

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from trionet.testing.network._stack import Stack

T = TypeVar("T")

#: What `fileno` gives while a socket is open: no descriptor, but not -1 either, which means closed to trio.
NO_DESCRIPTOR: Final = -2

# Plain integers: this is on the way of every packet, where the enumeration's own "and" takes its time.
PEEK: Final = int(socket.MSG_PEEK)
_HARMLESS: Final = int(getattr(socket, "MSG_NOSIGNAL", 0) | getattr(socket, "MSG_DONTWAIT", 0))


def os_error(number: int) -> OSError:
    """The exception for an errno, with the system's words."""
    return OSError(number, os.strerror(number))


class VirtualSocket(trio.socket.SocketType):
    """A socket of a simulated host.

    Attributes:
        options: The socket options.
        local_address: What it is bound to; the wildcard at first.
        local_port: Likewise; 0 at first.
        drops: How many packets it had no room for.
    """

    def __init__(self, stack: Stack, family: int, kind: int, proto: int, ports: PortTable) -> None:
        super().__init__()
        self._stack = stack
        self._family = socket.AddressFamily(family)
        self._kind = socket.SocketKind(kind)
        self._proto = proto
        self._ports = ports
        self._closed = False
        self._sending_shut = False
        self.options = SocketOptions(family, kind)
        self.local_address = ANY_IPV6 if family == socket.AF_INET6 else ANY_IPV4
        self.local_port = 0
        self.drops = 0
        stack.sockets[self] = None

    # As `_ports.Owner`.

    @property
    def dual(self) -> bool:
        """Whether it is an IPv6 socket that speaks IPv4, too."""
        return self._family == socket.AF_INET6 and not self.options["IPV6_V6ONLY"]

    @property
    def listening(self) -> bool:
        """Whether it accepts connections."""
        return False

    @property
    def reuse_address(self) -> bool:
        """SO_REUSEADDR."""
        return bool(self.options["SO_REUSEADDR"])

    @property
    def reuse_port(self) -> bool:
        """SO_REUSEPORT."""
        return bool(self.options["SO_REUSEPORT"])

    # What it is.

    @property
    def family(self) -> socket.AddressFamily:
        return self._family

    @property
    def type(self) -> socket.SocketKind:
        return self._kind

    @property
    def proto(self) -> int:
        return self._proto

    @property
    def did_shutdown_SHUT_WR(self) -> bool:  # noqa: N802
        return self._sending_shut

    def fileno(self) -> int:
        """No descriptor: -1 when the socket is closed, another negative number before."""
        return -1 if self._closed else NO_DESCRIPTOR

    def __repr__(self) -> str:
        state = "closed " if self._closed else ""
        kind = "TCP" if self._kind == socket.SOCK_STREAM else "UDP"
        local = self._stack.endpoint(self.local_address, self.local_port)
        return f"<virtual {state}{kind} socket of {self._stack.host.name} at {local}>"

    def detach(self) -> NoReturn:
        raise NotImplementedError("a virtual socket has no descriptor that it could give away")

    def dup(self) -> NoReturn:
        raise NotImplementedError("a virtual socket has no descriptor that could be duplicated")

    def share(self, process_id: int) -> NoReturn:
        raise NotImplementedError("another process cannot use a virtual socket")

    def get_inheritable(self) -> bool:
        return False

    def set_inheritable(self, inheritable: bool) -> None:
        if inheritable:
            raise NotImplementedError("another process cannot use a virtual socket")

    # Names.

    def getsockname(self) -> Any:
        self._check_open()
        return sockaddr(self._family, self.local_address, self.local_port)

    def getpeername(self) -> Any:
        self._check_open()
        peer = self.peer
        if peer is None:
            raise os_error(errno.ENOTCONN)
        return sockaddr(self._family, peer.address, peer.port)

    @property
    @abstractmethod
    def peer(self) -> Endpoint | None:
        """What it is connected to."""

    async def bind(self, address: Any) -> None:
        host, port = await self._resolve(address, local=True)
        await trio.lowlevel.checkpoint()
        self._check_open()
        if self._family == socket.AF_INET6 and ":" not in host and not self.dual:
            raise os_error(errno.EINVAL)
        if self.local_port or self.peer is not None:
            raise os_error(errno.EINVAL)
        self._stack.check_bindable(host)
        self._bind(host, port)
        if ":" in host and not is_wildcard(host):
            self.options.set(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)  # Linux concludes that, too

    def _bind(self, address: str, port: int) -> None:
        if port:
            self._ports.check(self, address, port)
        else:
            port = self._ports.free_port()
        self.local_address, self.local_port = address, port
        self._ports.add(self, port)

    async def _resolve(self, address: Any, *, local: bool) -> tuple[str, int]:
        """Address and port, as numbers, of what the user has given. Not always a checkpoint."""
        family = self._family
        if family == socket.AF_INET:
            if not isinstance(address, tuple) or len(address) != 2:
                raise ValueError("address should be a (host, port) tuple")
        elif not isinstance(address, tuple) or not 2 <= len(address) <= 4:
            raise ValueError("address should be a (host, port, [flowinfo, [scopeid]]) tuple")
        host, port = address[:2]
        if isinstance(port, int) and isinstance(host, str):
            if not 0 <= port <= 65535:
                raise OverflowError("port must be 0-65535.")
            try:
                return canonical(family, host), port
            except OSError:
                pass  # a name
        host = {"": None, "<broadcast>": "255.255.255.255"}.get(host, host)
        flags = socket.AI_PASSIVE if local else 0
        if self.dual:
            flags |= getattr(socket, "AI_V4MAPPED", 0)
        # The socket's host asks, wherever the task lives that was handed the socket.
        token = RESIDENCE.set(Residence(self._stack.host, self._stack))
        try:
            found = await trio.socket.getaddrinfo(host, port, family, self._kind, self._proto, flags)
        finally:
            RESIDENCE.reset(token)
        normed = found[0][4]
        return canonical(family, str(normed[0])), int(normed[1])

    def _destination(self, address: str) -> str:
        """Where packets to an address go: the wildcard means this host."""
        if self._family == socket.AF_INET6 and ":" not in address and not self.dual:
            raise os_error(errno.ENETUNREACH)
        return {ANY_IPV4: LOOPBACK_IPV4, ANY_IPV6: LOOPBACK_IPV6}.get(address, address)

    # Options.

    @overload
    def getsockopt(self, level: int, optname: int) -> int: ...
    @overload
    def getsockopt(self, level: int, optname: int, buflen: int) -> bytes: ...
    def getsockopt(self, level: int, optname: int, buflen: int | None = None) -> int | bytes:
        self._check_open()
        if level == socket.SOL_SOCKET:
            special = self._special_option(optname)
            if special is not None:
                return pack(special, buflen)
        return pack(self.options.get(level, optname), buflen)

    @overload
    def setsockopt(self, level: int, optname: int, value: int | Buffer) -> None: ...
    @overload
    def setsockopt(self, level: int, optname: int, value: None, optlen: int) -> None: ...
    def setsockopt(
        self, level: int, optname: int, value: int | Buffer | None, optlen: int | None = None
    ) -> None:
        self._check_open()
        if value is None:
            raise TypeError("value None means nothing to a virtual socket")
        only_ipv6 = (level, optname) == (socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
        if only_ipv6 and self._family == socket.AF_INET6 and self.local_port:
            raise os_error(errno.EINVAL)
        self._option_changed(self.options.set(level, optname, value))

    def _special_option(self, number: int) -> int | None:
        if number == socket.SO_TYPE:
            return int(self._kind)
        if number == socket.SO_ERROR:
            return self._take_error_number()
        if number == getattr(socket, "SO_ACCEPTCONN", None):
            return int(self.listening)
        if number == getattr(socket, "SO_DOMAIN", None):
            return int(self._family)
        if number == getattr(socket, "SO_PROTOCOL", None):
            kind = socket.IPPROTO_TCP if self._kind == socket.SOCK_STREAM else socket.IPPROTO_UDP
            return self._proto or int(kind)
        return None

    @abstractmethod
    def _take_error_number(self) -> int:
        """SO_ERROR: what is to be reported, which is reported once."""

    def _option_changed(self, name: str) -> None:
        """An option was set."""

    # Operations.

    def _check_open(self) -> None:
        if self._closed or not may_use(self._stack):
            raise os_error(errno.EBADF)

    async def _perform(self, waiter: Callable[[], Waiter], attempt: Callable[[], T | None]) -> T:
        """Do something, after waiting if need be: `attempt` returns None if it has to."""
        await trio.lowlevel.checkpoint_if_cancelled()
        try:
            self._check_open()
            result = attempt()
        except OSError:
            await trio.lowlevel.cancel_shielded_checkpoint()
            raise
        if result is not None:
            await trio.lowlevel.cancel_shielded_checkpoint()
            return result
        while result is None:
            await waiter().wait()
            self._check_open()
            result = attempt()
        return result

    @staticmethod
    def _check_flags(flags: int, allowed: int = 0) -> None:
        if flags and int(flags) & ~(allowed | _HARMLESS):
            raise os_error(errno.EOPNOTSUPP)

    @abstractmethod
    def recvfrom(self, bufsize: int, flags: int = 0, /) -> Awaitable[tuple[bytes, Any]]: ...

    async def recv(self, buflen: int, flags: int = 0, /) -> bytes:
        return (await self.recvfrom(buflen, flags))[0]

    async def recv_into(self, buffer: Buffer, nbytes: int = 0, flags: int = 0) -> int:
        return (await self.recvfrom_into(buffer, nbytes, flags))[0]

    async def recvfrom_into(self, buffer: Buffer, nbytes: int = 0, flags: int = 0) -> tuple[int, Any]:
        with memoryview(buffer).cast("B") as view:
            data, address = await self.recvfrom(min(nbytes, len(view)) or len(view), flags)
            view[: len(data)] = data
            return len(data), address

    async def recvmsg(
        self, bufsize: int, ancbufsize: int = 0, flags: int = 0, /
    ) -> tuple[bytes, list[tuple[int, int, bytes]], int, object]:
        data, message_flags, address = await self._receive_message(operator.index(bufsize), flags)
        return data, [], message_flags, address

    async def recvmsg_into(
        self, buffers: Iterable[Buffer], ancbufsize: int = 0, flags: int = 0, /
    ) -> tuple[int, list[tuple[int, int, bytes]], int, object]:
        views = [memoryview(buffer).cast("B") for buffer in buffers]
        data, message_flags, address = await self._receive_message(sum(map(len, views)), flags)
        place = 0
        for view in views:
            part = data[place : place + len(view)]
            view[: len(part)] = part
            place += len(part)
        return place, [], message_flags, address

    async def _receive_message(self, count: int, flags: int) -> tuple[bytes, int, Any]:
        """As `recvfrom`, with flags of the message between the two."""
        data, address = await self.recvfrom(count, flags)
        return data, 0, address

    @overload
    async def sendto(self, data: Buffer, address: tuple[object, ...] | str | Buffer, /) -> int: ...
    @overload
    async def sendto(
        self, data: Buffer, flags: int, address: tuple[object, ...] | str | Buffer, /
    ) -> int: ...
    async def sendto(self, *args: Any) -> int:
        if len(args) not in (2, 3):
            raise TypeError(f"sendto() takes 2 or 3 arguments ({len(args)} given)")
        data, flags, address = args if len(args) == 3 else (args[0], 0, args[1])
        return await self._send_to(data, flags, address)

    async def send(self, bytes: Buffer, flags: int = 0, /) -> int:
        return await self._send_to(bytes, flags, None)

    async def sendmsg(
        self,
        buffers: Iterable[Buffer],
        ancdata: Iterable[tuple[int, int, Buffer]] = (),
        flags: int = 0,
        address: Any = None,
        /,
    ) -> int:
        if tuple(ancdata):
            raise os_error(errno.EOPNOTSUPP)
        return await self._send_to(b"".join(bytes(part) for part in buffers), flags, address)

    @abstractmethod
    async def _send_to(self, data: Buffer, flags: int, address: Any) -> int: ...

    # The end.

    @abstractmethod
    def waiters(self) -> tuple[Waiter, ...]:
        """All places where tasks wait for this socket."""

    @abstractmethod
    def _close(self) -> None:
        """Let go of the network."""

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            del self._stack.sockets[self]
            waiters = self.waiters()
            self._close()
            if self.local_port:
                self._ports.remove(self, self.local_port)
            for waiter in waiters:
                waiter.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *details: object) -> None:
        self.close()
