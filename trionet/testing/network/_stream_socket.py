"""TCP sockets."""

from __future__ import annotations

import errno
import operator
import os
import socket
from collections import deque
from typing import TYPE_CHECKING, Any

import trio

from trionet.testing.network._packets import BROADCAST, Endpoint, Packet, sockaddr
from trionet.testing.network._socket import PEEK, VirtualSocket, os_error
from trionet.testing.network._tcp import Connection
from trionet.testing.network._tcp_driver import TcpDriver
from trionet.testing.network._tcp_states import State
from trionet.testing.network._waiting import Waiter

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from trionet.testing.network._stack import Stack

_OVER = (State.CLOSED, State.TIME_WAIT)


class StreamSocket(VirtualSocket):
    """A TCP socket: new, listening or connected."""

    def __init__(self, stack: Stack, family: int, proto: int, driver: TcpDriver | None = None) -> None:
        super().__init__(stack, family, socket.SOCK_STREAM, proto, stack.tcp_ports)
        self._driver = driver
        self._backlog = -1  # while it listens, how many connections may wait
        self._ready: deque[TcpDriver] = deque()
        self._half_open: dict[TcpDriver, None] = {}
        self._accepting = Waiter()
        self._idle = Waiter()  # of a new socket, for which nothing is ever worth waiting
        self._asked_again = driver is not None
        self._bound = (self.local_address, 0)  # before it was connected
        self._failed = False  # to connect, and was not told to connect again

    @property
    def driver(self) -> TcpDriver | None:
        """Of a connected socket."""
        return self._driver

    @property
    def peer(self) -> Endpoint | None:
        """What it is connected to."""
        driver = self._driver
        if driver is None or driver.opening or driver.connection.state in _OVER:
            return None
        return driver.connection.remote

    # Connecting.

    async def connect(self, address: Any) -> None:
        """Connect. Cancelled, the socket is closed, as trio does it."""
        try:
            host, port = await self._resolve(address, local=False)
            await trio.lowlevel.checkpoint_if_cancelled()
            try:
                self._check_open()
                if self.peer is not None and not self._asked_again:
                    # Linux wants the outcome of connecting to be asked for. Trio never does, so if a program
                    # connects once more, this is what it is told the first time.
                    self._asked_again = True
                    await trio.lowlevel.cancel_shielded_checkpoint()
                    return
                driver = self._begin_to_connect(self._destination(host), port)
            except OSError:
                await trio.lowlevel.cancel_shielded_checkpoint()
                raise
            while driver.opening:
                await driver.writing.wait()
        except trio.Cancelled:
            self.close()
            raise
        number = driver.connection.error
        if number:
            self._driver = None  # it may try again, but see _begin_to_connect
            self._failed = True
            self.local_address, self.local_port = self._bound
            if self.local_port:
                self._ports.add(self, self.local_port)
            text = f"Error connecting to {address!r}: {os.strerror(number)}"
            raise OSError(number, text)

    def _begin_to_connect(self, address: str, port: int) -> TcpDriver:
        if self._driver is not None:
            raise os_error(errno.EALREADY if self._driver.opening else errno.EISCONN)
        if self.listening:
            raise os_error(errno.EISCONN)
        if self._failed:
            self._failed = False  # Linux lets only every other attempt be one
            raise os_error(errno.ECONNABORTED)
        if address in BROADCAST:
            raise os_error(errno.ENETUNREACH)
        stack = self._stack
        source = stack.source_for(address, self.local_address)
        local_port = self.local_port or self._ports.free_port(errno.EADDRNOTAVAIL)
        connection = Connection(
            stack.endpoint(source, local_port),
            stack.endpoint(address, port),
            stack.fabric.initial_sequence(),
        )
        driver = self._make_driver(connection)
        stack.add_driver(driver)
        self._bound = (self.local_address, self.local_port)
        if self.local_port:
            self._ports.remove(self, local_port)  # the driver has it now
        self.local_address, self.local_port = source, local_port
        self._driver = driver
        connection.connect(trio.current_time())
        driver.pump()
        return driver

    # Listening.

    @property
    def listening(self) -> bool:
        """Whether it accepts connections."""
        return self._backlog >= 0

    @property
    def backlog_full(self) -> bool:
        """Whether a connection would have to wait that may not."""
        return len(self._ready) + len(self._half_open) > self._backlog

    @property
    def backlog_length(self) -> int:
        """How many connections wait to be accepted."""
        return len(self._ready)

    @property
    def backlog_limit(self) -> int:
        """How many may; one more is let in, as in Linux."""
        return self._backlog

    def listen(self, backlog: int = 128) -> None:
        """Accept connections. When `backlog` of them wait, more are not answered, and try again."""
        self._check_open()
        if self._driver is not None or self._failed:
            raise os_error(errno.EINVAL)
        if not self.local_port:
            self._bind(self.local_address, 0)
        if not self.listening:
            self._ports.check_listening(self, self.local_address, self.local_port)
            self._stack.add_listener(self, self.local_port)
        self._backlog = max(0, backlog)

    def answer(self, packet: Packet, now: float) -> None:
        """Begin a connection with whoever has sent a SYN."""
        stack = self._stack
        connection = Connection(
            stack.endpoint(packet.dst.address, packet.dst.port), packet.src, stack.fabric.initial_sequence()
        )
        driver = self._make_driver(connection, listening=True)
        self._half_open[driver] = None
        stack.add_driver(driver)
        connection.accept_syn(packet, now)
        driver.pump()

    def _opened(self, driver: TcpDriver) -> None:
        self._half_open.pop(driver, None)
        if driver.connection.state is not State.CLOSED and self.listening:
            self._ready.append(driver)
            self._accepting.wake()

    async def accept(self) -> tuple[StreamSocket, Any]:
        """The next connection, and where it comes from."""
        return await self._perform(lambda: self._accepting, self._accept_now)

    def _accept_now(self) -> tuple[StreamSocket, Any] | None:
        if not self.listening:
            raise os_error(errno.EINVAL)
        if not self._ready:
            return None
        driver = self._ready.popleft()
        sock = StreamSocket(self._stack, self._family, self._proto, driver)
        sock.options.copy_from(self.options)
        local, remote = driver.connection.local, driver.connection.remote
        sock.local_address, sock.local_port = local.address, local.port
        return sock, sockaddr(self._family, remote.address, remote.port)

    # Data.

    async def recvfrom(self, bufsize: int, flags: int = 0, /) -> tuple[bytes, Any]:
        """Data that has come, and None, as TCP gives no address with it."""
        return await self.recv(bufsize, flags), None

    async def recv(self, buflen: int, flags: int = 0, /) -> bytes:
        """Some data that has come; b"" at the end of the stream."""
        count = operator.index(buflen)
        if count < 0:
            raise ValueError("negative buffersize in recv")
        peek = bool(flags & PEEK)

        def receive() -> bytes | None:
            self._check_flags(flags, PEEK)
            if self._failed:
                return b""
            driver = self._connected(errno.ENOTCONN)
            if count == 0:
                return b""
            data = driver.connection.receive(count, peek=peek)
            driver.pump()
            return data

        return await self._perform(self._reader, receive)

    async def _send_to(self, data: Buffer, flags: int, address: Any) -> int:
        """Send some of the data. An address is ignored, as TCP does."""
        if address is not None:
            await self._resolve(address, local=False)

        def send() -> int | None:
            self._check_flags(flags)
            driver = self._connected(errno.EPIPE)
            with memoryview(data).cast("B") as view:
                sent = driver.connection.send(view, trio.current_time())
                driver.pump()
                return sent if sent or not view else None

        return await self._perform(self._writer, send)

    def _connected(self, otherwise: int) -> TcpDriver:
        if self._driver is None:
            raise os_error(otherwise)
        return self._driver

    def _reader(self) -> Waiter:
        return self._idle if self._driver is None else self._driver.reading

    def _writer(self) -> Waiter:
        return self._idle if self._driver is None else self._driver.writing

    def is_readable(self) -> bool:
        """Whether reading, or accepting, would not wait."""
        self._check_open()
        if self.listening:
            return bool(self._ready)
        return self._driver is None or self._driver.connection.readable

    async def wait_writable(self) -> None:
        """Wait until sending would not wait."""

        def look() -> bool | None:
            return self._driver is None or self._driver.connection.writable or None

        await self._perform(self._writer, look)

    def shutdown(self, flag: int) -> None:
        """End one direction, or both."""
        self._check_open()
        if flag not in (socket.SHUT_RD, socket.SHUT_WR, socket.SHUT_RDWR):
            raise os_error(errno.EINVAL)
        if self.listening:
            if flag != socket.SHUT_WR:
                self._stop_listening()
                self._accepting.wake()
        elif self.peer is None or self._driver is None:
            raise os_error(errno.ENOTCONN)
        else:
            if flag != socket.SHUT_WR:
                self._driver.connection.shut_down_receiving()
            if flag != socket.SHUT_RD:
                self._driver.connection.shut_down_sending(trio.current_time())
            self._driver.pump()
        self._sending_shut |= flag != socket.SHUT_RD

    # Options, and the end.

    def _make_driver(self, connection: Connection, *, listening: bool = False) -> TcpDriver:
        driver = TcpDriver(
            self._stack,
            connection,
            self._opened if listening else None,
            reuse_address=self.reuse_address,
            reuse_port=self.reuse_port,
        )
        self._configure(connection)
        return driver

    def _configure(self, connection: Connection) -> None:
        options, keepalive = self.options, connection.keepalive
        connection.send_limit = options["SO_SNDBUF"] // 2
        connection.receive_limit = options["SO_RCVBUF"] // 2
        connection.user_timeout = options["TCP_USER_TIMEOUT"] / 1000
        keepalive.idle = options["TCP_KEEPIDLE"]
        keepalive.interval = options["TCP_KEEPINTVL"]
        keepalive.count = options["TCP_KEEPCNT"]
        if options["SO_KEEPALIVE"]:
            keepalive.start(trio.current_time())
        else:
            keepalive.stop()

    def _option_changed(self, name: str) -> None:
        if self._driver is not None and self._driver.connection.state is not State.CLOSED:
            self._configure(self._driver.connection)
            self._driver.pump()

    def _take_error_number(self) -> int:
        if self._driver is None:
            return 0
        number, self._driver.connection.error = self._driver.connection.error, 0
        return number

    def waiters(self) -> tuple[Waiter, ...]:
        """All places where tasks wait for this socket."""
        return (self._accepting, self._reader(), self._writer())

    def _stop_listening(self) -> None:
        self._backlog = -1
        self._stack.remove_listener(self, self.local_port)
        waiting = [*self._ready, *self._half_open]
        self._ready.clear()
        for driver in waiting:
            driver.connection.abort()
            driver.pump()

    def _close(self) -> None:
        if self.listening:
            self._stop_listening()
        driver = self._driver
        if driver is not None and driver.connection.state is not State.CLOSED:
            if self.options.linger == (1, 0):
                driver.connection.abort()
            else:
                driver.connection.close(trio.current_time())
            driver.pump()
