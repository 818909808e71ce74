"""One end of the exchange of experiment messages: `EchoProtocol`."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import functools
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any, Final, Self

import trio

from trionet import EchoTimeout, ExpMessage, ExpStatus, RigEvent, RigURI
from trionet_compat import guest
from trionet_compat._crossing import PASSING, as_exception
from trionet_compat.iblutil.io.net import base
from trionet_compat.iblutil.io.net._callbacks import Address
from trionet_compat.iblutil.io.net._line import TLS, Line, find_place, open_line
from trionet_compat.iblutil.io.net._stdout import open_stdout_logger

_ROLES: Final = ("server", "client")


class _BoundSocket:
    """As much of a socket as programs look at."""

    def __init__(self, address: Address) -> None:
        self._address = address

    def getsockname(self) -> Address:
        """Host and port of this side."""
        return self._address


class EchoProtocol(base.Communicator):
    """One end of the exchange of experiment messages. Stands for iblutil's class of this name.

    Made by `server` or `client`, in a running loop of asyncio or in Trio; it is not a protocol for asyncio's
    own transports. The methods that send a message return when its echo has come. They take the address to
    send to as `addr`, which the server role needs. They raise

    - TimeoutError if no echo came, or the system knows that none will come; that closes the communicator.
    - asyncio.CancelledError (trio.ClosedResourceError under Trio) if it is closed meanwhile.
    - TypeError for data that JSON cannot carry.

    Better than upstream's: several tasks may send at the same time, and so may both sides; messages for one
    address wait for each other. A server over TCP has many clients; a client over TCP connects anew for the
    next message when its connection was lost. What is known to be in vain fails at once, not after a second.
    `send` takes lists over UDP as well. Closing closes the listening socket, too.

    Attributes:
        Server: None: there is no server object of asyncio.
        default_echo_timeout: Seconds to wait for an echo. May be set, of the class or of one object.
        max_message_size: Of upstream, in bytes. Longer ones are understood here.
        on_connection_lost: Future that `close` resolves.
        on_error_received: Future that the first error of the system resolves.
        on_eof_received: Future that is resolved when the peer of a client over TCP closes the connection.
    """

    Server: Final = None
    default_echo_timeout: float = 1.0
    max_message_size: int = 65535

    def __init__(
        self,
        server_uri: str | base.IPAddress,
        role: str,
        name: str | None = None,
        logger: logging.Logger | None = None,
    ) -> None:
        super().__init__(server_uri, name, logger)
        self.role = role
        self.on_connection_lost = _make_future()
        self.on_error_received = _make_future()
        self.on_eof_received = _make_future()
        self._opened: guest.Opened[Self] | None = None
        self._line: Line | None = None
        self._closed = False
        self._awaited: Counter[Address] = Counter()
        self._latest: Address | None = None

    # -- making and closing ----------------------------------------------------------------------------------

    @classmethod
    async def server(
        cls,
        server_uri: str | base.IPAddress,
        name: str | None = None,
        log: logging.Logger | None = None,
        **kwargs: TLS,
    ) -> Self:
        """Be a rig: listen at a URI.

        Args:
            server_uri: ``[scheme://]host[:port]``, see `base.validate_uri`: ``udp``, or any other scheme for
                TCP.
            name: What to call it; by default the URI as it was given.
            log: Where it logs; by default the logger of that name, which is made to write all to the standard
                output.
            **kwargs: `ssl`, a context for TLS over TCP. Nothing else: there is no endpoint of asyncio.

        Raises:
            ValueError: if the URI is not allowed, or its host not known.
            OSError: if it is not possible to listen there.
        """
        return await cls._open("server", server_uri, name, log, **kwargs)

    @classmethod
    async def client(
        cls,
        server_uri: str | base.IPAddress,
        name: str | None = None,
        log: logging.Logger | None = None,
        **kwargs: TLS,
    ) -> Self:
        """Talk to a rig. The arguments are those of `server`.

        Over UDP the rig need not be there yet.

        Raises:
            ValueError: if the URI is not allowed, or its host not known.
            OSError: if it cannot be connected to, over TCP.
        """
        return await cls._open("client", server_uri, name, log, **kwargs)

    @classmethod
    async def _open(
        cls,
        role: str,
        server_uri: str | base.IPAddress,
        name: str | None,
        log: logging.Logger | None,
        ssl: TLS = None,
        **options: Any,
    ) -> Self:
        """Make one in an open line. Options are for the constructors of subclasses."""
        called = name or str(server_uri)
        logger = log or open_stdout_logger(called)
        make = functools.partial(cls, role=role, name=called, logger=logger, **options)
        opened = await guest.open_held(cls._held_open(make, base.parse_uri(server_uri), ssl))
        communicator: Self = opened.value
        communicator._opened = opened
        return communicator

    @classmethod
    @contextlib.asynccontextmanager
    async def _held_open(cls, make: Callable[[str], Self], uri: RigURI, ssl: TLS) -> AsyncIterator[Self]:
        """A communicator, for as long as the block is open. In Trio."""
        place = await find_place(uri, ssl)
        communicator = make(str(replace(place, scheme=uri.scheme)))
        name, logger = communicator.name, communicator.logger
        async with open_line(communicator.role, place, ssl, name, logger) as line:
            communicator._line = line
            line.on_lost = communicator._note_loss
            line.on_error = line.rig.on_refused = communicator._note_error
            line.rig.assign_callback(ExpMessage.any(), communicator._deliver)
            line.rig.assign_callback(0, communicator._deliver)
            logger.info("Open: %s %s", communicator.role, communicator.server_uri)
            yield communicator

    def close(self) -> None:
        """Close it, without a word to the other side. What `send` was given before is sent. May be repeated.

        Futures that wait for events or echoes, and the coroutines that wait for them, are cancelled.
        """
        if self._closed:
            return
        self._closed = True
        super().close()
        self.on_error_received.cancel()
        self.on_eof_received.cancel()
        if not self.on_connection_lost.done():
            self.on_connection_lost.set_result("Close called on communicator")
        if self._line is not None and self._opened is not None:
            self._line.close(self._opened.abandon)
            self.logger.info("Closed")

    # -- what is there ---------------------------------------------------------------------------------------

    @property
    def role(self) -> str:
        """``"server"`` for the side that listens, ``"client"`` for the one that connects."""
        return self._role

    @role.setter
    def role(self, role: str) -> None:
        if hasattr(self, "_role"):
            raise AttributeError("can't set attribute")
        if role not in _ROLES:
            raise ValueError('role must be either "server" or "client"')
        self._role = role

    @property
    def is_connected(self) -> bool:
        """Whether it is open; over TCP, whether there is a connection."""
        return not self._closed and self._line is not None and self._line.rig.is_connected

    @property
    def _socket(self) -> _BoundSocket | None:
        addresses = self._line.rig.addresses if self._line is not None else ()
        return _BoundSocket(addresses[0]) if addresses else None

    def awaiting_response(self, addr: Address | None = None) -> bool:
        """Whether the echo of a message is awaited, of one to an address or of any."""
        return bool(self._awaited[addr] if addr is not None else self._awaited.total())

    # -- receiving -------------------------------------------------------------------------------------------

    def _deliver(self, event: RigEvent) -> Awaitable[None] | None:
        """Callback of the rig. What it raises is logged, and told to the sender."""
        self._latest = event.address
        self.logger.info("Received %r %r from %s:%d", event.event, event.data, *event.address)
        try:
            self._callbacks.call(event.event, event.data, event.address)
        except PASSING:
            raise
        except BaseException as error:
            raise as_exception(error) from error
        return None

    def _note_loss(self) -> None:
        if not self.on_eof_received.done():
            self.on_eof_received.set_result(True)

    def _note_error(self, error: Exception) -> None:
        if not self.on_error_received.done():
            self.on_error_received.set_result(error)

    # -- sending ---------------------------------------------------------------------------------------------

    async def init(self, data: Any = None, addr: Address | None = None) -> None:
        """Tell the rig to get ready."""
        await self.confirmed_send(super().init(data), addr)

    async def start(
        self, exp_ref: str | Mapping[str, Any] | None, data: Any = None, addr: Address | None = None
    ) -> None:
        """Tell it to start. The reference may be a mapping with `date`, `sequence` and `subject`."""
        await self.confirmed_send(super().start(exp_ref, data), addr)

    async def stop(self, data: Any = None, immediately: bool = False, addr: Address | None = None) -> None:
        """Tell it to stop: at the next good moment, or immediately."""
        await self.confirmed_send(super().stop(data, immediately), addr)

    async def status(self, status: ExpStatus | int | str, addr: Address | None = None) -> None:
        """Tell how far this side is."""
        await self.confirmed_send(super().status(status), addr)

    async def info(
        self, status: ExpStatus | int | str, data: Any = None, addr: Address | None = None
    ) -> None:
        """Tell how far this side is, and more."""
        await self.confirmed_send(super().info(status, data), addr)

    async def cleanup(self, data: Any = None, addr: Address | None = None) -> None:
        """Tell it to clean up."""
        await self.confirmed_send(super().cleanup(data), addr)

    async def alyx(self, alyx: Any = None, addr: Address | None = None) -> list[Any] | None:
        """Send the token of a client of Alyx that is logged in; otherwise ask for one and wait for it.

        Args:
            alyx: Anything with `base_url`, `user`, `_token` and `is_logged_in`.
            addr: Where to.

        Returns:
            None if a token was sent; else the address of the database, and the tokens by user. There is no
            limit to the wait for it.

        Raises:
            RemoteError: if a callback of the rig for the request has failed; upstream waits for ever.
        """
        message = super().alyx(alyx)
        if message[-1]:
            await self.confirmed_send(message, addr)
            return None
        _, peer = self._find_address(addr)
        with self._get_line().rig.open_events(ExpMessage.ALYX, errors=True) as events:
            await self.confirmed_send(message, addr)
            while True:
                answer = await self._run(events.receive_answer, ExpMessage.ALYX, peer)
                if len(answer.data) == 2:
                    return list(answer.data)

    async def confirmed_send(
        self,
        data: Any,
        addr: Address | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> None:
        """Send any message and wait for its echo.

        Args:
            data: The event and its data, as a list; text and bytes are sent as they are.
            addr: Where to.
            timeout: Seconds to wait for the echo; None or 0 for `default_echo_timeout`.

        Raises:
            ValueError: for a timeout below 0, or an address that a client is not connected to.
        """
        message = self.encode(data)
        seconds = timeout or self.default_echo_timeout
        if seconds <= 0:
            raise ValueError("Timeout must be non-zero number")

        address, peer = self._find_address(addr)
        rig = self._get_line().rig
        send = functools.partial(rig.confirmed_send, address=address, echo_timeout=seconds)
        self._awaited[peer] += 1
        try:
            await self._run(send, message)
        finally:
            self._awaited[peer] -= 1

    async def _run(self, async_fn: Callable[..., Awaitable[Any]], *args: Any) -> Any:
        """Wait for something that comes from the rig. If it is known not to come, this is closed."""
        assert self._opened is not None
        try:
            return await self._opened.run(async_fn, *args)
        except (trio.ClosedResourceError, trio.RunFinishedError):
            if trio.lowlevel.in_trio_task():
                raise
            raise asyncio.CancelledError from None
        except OSError as error:
            self._fail(error)
            raise TimeoutError(self._no_echo()) from error

    def _get_line(self) -> Line:
        if self._closed or self._line is None:
            raise TimeoutError(self._no_echo())
        return self._line

    def _fail(self, error: Exception) -> None:
        """An echo was missed, or the system knows that it will not come: close this."""
        if not isinstance(error, EchoTimeout):
            self._note_error(error)
        self.logger.error("No echo: %s", error)
        self.close()

    def _no_echo(self) -> str:
        """What upstream says about a missed echo."""
        return f"Failed to receive client response in time ({self.name}: {self.server_uri})"

    def _find_address(self, addr: Address | None) -> tuple[Address | None, Address]:
        """What to tell the rig about where to send to, and where that is."""
        if self.role == "server":
            if addr is None:
                raise TypeError("confirmed_send missing 1 required argument: 'addr'")
            return addr, addr
        rig = (self.hostname, self.port)
        if addr is not None and tuple(addr) != rig:
            raise ValueError("Unexpected remote address")
        return None, rig

    def send(self, data: Any, addr: Address | None = None) -> None:
        """Send a message without waiting for its echo, soon; nothing tells whether it has arrived.

        Args:
            data: As for `confirmed_send`.
            addr: Where to. A server over TCP without it answers who has sent something last.

        Raises:
            TypeError: without an address, if one is needed.
            ValueError: for an address that a client is not connected to; over TCP that is a warning in the
                log.
            OSError: if it is closed.
        """
        message = self.encode(data)
        if self.role == "client":
            rig = (self.hostname, self.port)
            if addr is not None and tuple(addr) != rig:
                if self.protocol == "udp":
                    raise ValueError(f"Invalid address: must be None or {rig}")
                self.logger.warning("Nothing sent to %s: this talks to %s only", addr, rig)
                return
            addr = None
        elif addr is None:
            addr = self._latest if self.protocol != "udp" else None
            if addr is None:
                raise TypeError("send missing 1 required argument: 'addr'")
        if self._closed or self._line is None:
            raise OSError("the communicator is closed")
        self._line.send(message, addr)


def _make_future() -> asyncio.Future[Any] | concurrent.futures.Future[Any]:
    """A future that nobody has to wait for; without a running loop, one of threads."""
    try:
        return asyncio.get_running_loop().create_future()
    except RuntimeError:
        return concurrent.futures.Future()
