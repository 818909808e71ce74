"""A network for the doctor of rigs, in which a test decides what becomes of each message."""

from __future__ import annotations

import errno
import math
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import trio

#: Datagrams that come back: after how many seconds, what, and from where; or what the system reports.
Answers = Iterable[tuple[float, bytes, tuple[str, int]]]


@dataclass
class Network(trio.abc.SocketFactory):
    """Makes sockets of which no byte leaves the program.

    Attributes:
        answer: Called with each message and its number, from 1; gives what comes back. If it raises
            ConnectionError, that is reported to who receives; another OSError, to who sends.
        unreachable: Raised by connecting, or None.
        here: Addresses of this machine, and the UDP ports that are taken there.
        sent: What has been sent.
    """

    answer: Callable[[bytes, int], Answers] = lambda data, number: ()
    unreachable: OSError | None = None
    here: dict[str, set[int]] = field(default_factory=dict)
    sent: list[bytes] = field(default_factory=list)

    def socket(
        self, family: int = socket.AF_INET, type: int = socket.SOCK_DGRAM, proto: int = 0
    ) -> trio.socket.SocketType:
        return _Socket(self, socket.AddressFamily(family), type)

    def use(self) -> None:
        """Have all sockets of this run made here."""
        trio.socket.set_custom_socket_factory(self)


class _Socket(trio.socket.SocketType):
    def __init__(self, network: Network, family: socket.AddressFamily, kind: int) -> None:
        self._network = network
        self._family = family
        self._kind = kind
        self._send, self._receive = trio.open_memory_channel[tuple[float, bytes, Any] | OSError](math.inf)

    @property
    def family(self) -> socket.AddressFamily:
        return self._family

    def fileno(self) -> int:
        return -1

    def getsockname(self) -> Any:
        return ("10.0.0.1", 50_000)

    async def bind(self, address: Any) -> None:
        await trio.lowlevel.checkpoint()
        if address[0] not in self._network.here:
            raise OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address")
        if address[1] in self._network.here[address[0]]:
            raise OSError(errno.EADDRINUSE, "Address already in use")

    async def connect(self, address: Any) -> None:
        await trio.lowlevel.checkpoint()
        if self._network.unreachable is not None:
            raise self._network.unreachable
        if self._kind == socket.SOCK_STREAM:
            await trio.sleep_forever()

    async def send(self, data: Any, flags: int = 0) -> int:
        await trio.lowlevel.checkpoint()
        self._network.sent.append(bytes(data))
        try:
            for seconds, back, source in self._network.answer(bytes(data), len(self._network.sent)):
                self._send.send_nowait((trio.current_time() + seconds, back, source))
        except ConnectionError as error:
            self._send.send_nowait(error)
        return len(data)

    async def sendto(self, *args: Any) -> int:
        return await self.send(args[0])

    async def recvfrom(self, bufsize: int, flags: int = 0) -> tuple[bytes, Any]:
        received = await self._receive.receive()
        if isinstance(received, OSError):
            raise received
        due, data, source = received
        await trio.sleep_until(due)
        return data, source

    def close(self) -> None:
        self._send.close()

    def __enter__(self) -> _Socket:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


class Names(trio.abc.HostnameResolver):
    """Looks names up as a test says.

    Args:
        look_up: Called with each name; its addresses, or None to leave it at that. What it raises is what
            went wrong.
    """

    def __init__(self, look_up: Callable[[str], Iterable[str] | None]) -> None:
        self._look_up = look_up

    async def getaddrinfo(
        self,
        host: bytes | None,
        port: bytes | str | int | None,
        family: int = 0,
        type: int = 0,
        proto: int = 0,
        flags: int = 0,
    ) -> Any:
        await trio.lowlevel.checkpoint()
        assert isinstance(host, bytes)
        addresses = self._look_up(host.decode())
        if addresses is None:
            await trio.sleep_forever()
        return [
            (socket.AF_INET6 if ":" in one else socket.AF_INET, type, 0, "", (one, port))
            for one in addresses or ()
        ]

    async def getnameinfo(self, sockaddr: Any, flags: int) -> Any:
        raise NotImplementedError

    def use(self) -> None:
        """Have all names of this run looked up here."""
        trio.socket.set_custom_hostname_resolver(self)
