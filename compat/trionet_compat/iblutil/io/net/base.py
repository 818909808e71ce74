"""Events, addresses, and what all communicators have in common. Stands for iblutil.io.net.base."""

from __future__ import annotations

import asyncio
import concurrent.futures
import ipaddress
import json
import logging
import re
import socket
import urllib.request
import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Final

import trio

from trionet import ExpMessage, ExpStatus, RigURI
from trionet_compat.iblutil.io.net._callbacks import Address, AnyCallback, Callbacks

__all__ = [
    "LISTEN_PORT",
    "PROTOCOL_VERSION",
    "Communicator",
    "ExpMessage",
    "ExpStatus",
    "Service",
    "external_ip",
    "hostname2ip",
    "is_success",
    "is_valid_ip",
    "validate_uri",
]

#: The port of rigs, unless another is given.
LISTEN_PORT: Final = 11001

#: The version of the table of events.
PROTOCOL_VERSION: Final = "1.0.0"

#: An IP address, of either version.
IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

# Tells the address that it is asked from, as text. Upstream, too, asks somebody on the internet.
_ECHO_OF_ADDRESSES: Final = "https://api.ipify.org"
_INTERNET_TIMEOUT: Final = 10.0

_SCHEME: Final = re.compile(r"(?:(?P<scheme>[A-Za-z]+)://)?(?P<place>.*)", re.DOTALL)


def is_success(future: asyncio.Future[Any] | concurrent.futures.Future[Any]) -> bool:
    """Whether a future, or a task, has come to an end that is neither an exception nor a cancellation."""
    return future.done() and not future.cancelled() and not future.exception()


def external_ip() -> IPAddress:
    """The address that the internet knows this network by.

    Asks a public server on the internet, as upstream does; blocks for up to 10 s.

    Raises:
        OSError: if that cannot be reached (urllib.error.URLError).
    """
    with urllib.request.urlopen(_ECHO_OF_ADDRESSES, timeout=_INTERNET_TIMEOUT) as reply:
        return ipaddress.ip_address(reply.read().decode().strip())


def is_valid_ip(ip_address: object) -> bool:
    """Whether it is an IP address, or something that can be made into one."""
    try:
        ipaddress.ip_address(ip_address)  # type: ignore[arg-type]
    except ValueError:
        return False
    return True


def hostname2ip(hostname: str | None = None) -> IPAddress:
    """Look up the IPv4 address of a host; of this one without a name. Blocks.

    Raises:
        ValueError: if there is none.
    """
    name = hostname or socket.gethostname()
    try:
        return ipaddress.ip_address(socket.gethostbyname(name))
    except OSError as error:
        raise ValueError(f'Failed to resolve IP for hostname "{name}"') from error


def validate_uri(
    uri: str | IPAddress,
    resolve_host: bool = True,
    default_port: int = LISTEN_PORT,
    default_proc: str = "udp",
) -> str:
    """Complete the URI of a rig to ``scheme://host:port``. Blocks if there is a host to look up.

    Unlike upstream's it knows IPv6 addresses, which stand in brackets, and accepts all host names that are
    possible.

    Args:
        uri: ``[scheme://]host[:port]``, or an IP address. Any word is a scheme.
        resolve_host: Replace a host name by its address; an empty one is this host.
        default_port: For a URI without a port.
        default_proc: The scheme of a URI without one.

    Raises:
        TypeError: if it is no text or address.
        ValueError: if a part of it is not allowed, or the host is not known.
    """
    parsed = parse_uri(uri, default_port=default_port, default_proc=default_proc)
    host = parsed.host
    if resolve_host and not is_valid_ip(host):
        host = str(hostname2ip(host))
    elif not host:
        raise ValueError('Invalid hostname ""')
    return str(RigURI(parsed.scheme, host, parsed.port))


def parse_uri(uri: str | IPAddress, *, default_port: int = LISTEN_PORT, default_proc: str = "udp") -> RigURI:
    """The parts of a URI, its scheme and host as they are. Raises what `validate_uri` does for parts."""
    if not isinstance(uri, str):
        return RigURI(default_proc, RigURI.parse(uri).host, default_port)
    parts = _SCHEME.fullmatch(uri.strip())
    assert parts is not None
    place = RigURI.parse(parts["place"], default_port=default_port)
    return RigURI(parts["scheme"] or default_proc, place.host, place.port)


class Service(ABC):
    """What can be told about an experiment. Stands for iblutil's class of this name.

    The methods here are plain and give the message: a tuple of the event and its data. Classes that send
    it have coroutine methods of the same names.
    """

    __slots__ = ("name",)
    __version__ = PROTOCOL_VERSION

    name: str

    @abstractmethod
    def init(self, data: Any = None) -> Any:
        """The experiment is about to begin."""
        return ExpMessage.EXPINIT, data

    @abstractmethod
    def start(self, exp_ref: str | Mapping[str, Any] | None, data: Any = None) -> Any:
        """It begins. The reference may be a mapping with `date`, `sequence` and `subject`."""
        if isinstance(exp_ref, Mapping) and exp_ref:
            exp_ref = f"{exp_ref['date']}_{int(exp_ref['sequence'])}_{exp_ref['subject']}"
        return ExpMessage.EXPSTART, exp_ref or None, data

    @abstractmethod
    def stop(self, data: Any = None, immediately: bool = False) -> Any:
        """It ends, at the next good moment or immediately."""
        return (ExpMessage.EXPINTERRUPT if immediately else ExpMessage.EXPEND), data

    @abstractmethod
    def status(self, status: ExpStatus | int | str) -> Any:
        """How far this side is: a member, its number (ValueError) or its name (KeyError)."""
        return ExpMessage.EXPSTATUS, _to_status(status)

    @abstractmethod
    def info(self, status: ExpStatus | int | str, data: Any = None) -> Any:
        """How far this side is, and more."""
        return ExpMessage.EXPINFO, _to_status(status), data

    @abstractmethod
    def cleanup(self, data: Any = None) -> Any:
        """It is time to clean up."""
        return ExpMessage.EXPCLEANUP, data

    @abstractmethod
    def alyx(self, alyx: Any) -> Any:
        """The token of a client of Alyx; without one, or if nobody is logged in, the request for a token."""
        if alyx is None:
            return ExpMessage.ALYX, None, {}
        tokens = {alyx.user: alyx._token} if alyx.is_logged_in else {}
        return ExpMessage.ALYX, alyx.base_url, tokens


def _to_status(status: ExpStatus | int | str) -> ExpStatus:
    return ExpStatus[status] if isinstance(status, str) else ExpStatus(status)


class Communicator(Service):
    """One end of the exchange of experiment messages. Stands for iblutil's class of this name.

    Callbacks are called with the data of the message, which is a list of what followed the event, and with
    the address of its sender, host and port, to be passed as `addr` of an answer. Those for several events
    are called with the event as well. They are plain functions: nobody awaits what they return. Futures may
    be assigned instead; the first event resolves one with the tuple of the same values.

    Unlike upstream's, callbacks of event 0 (reports that a callback over there has failed) can be cleared;
    futures for several events leave nothing behind; and they may be futures of `concurrent.futures`.

    Args:
        server_uri: Where the rig is, see `validate_uri`.
        name: What to call it; by default the URI as it was given.
        logger: Where it logs; by default the logger of that name.

    Attributes:
        server_uri: The complete URI.
        name: See above.
        logger: See above.
    """

    def __init__(
        self, server_uri: str | IPAddress, name: str | None = None, logger: logging.Logger | None = None
    ) -> None:
        self.server_uri = validate_uri(server_uri)
        self._parsed = parse_uri(self.server_uri)
        self.name = name or str(server_uri)
        self.logger = logger or logging.getLogger(self.name)
        self._callbacks = Callbacks()

    @property
    def port(self) -> int:
        """The port of the rig."""
        return self._parsed.port

    @property
    def hostname(self) -> str:
        """The host of the rig: its IP address."""
        return self._parsed.host

    @property
    def protocol(self) -> str:
        """The scheme of its URI."""
        return self._parsed.scheme

    @property
    @abstractmethod
    def is_connected(self) -> bool:
        """Whether messages can be sent."""

    @abstractmethod
    def send(self, data: Any, addr: Address | None = None) -> None:
        """Send a message without waiting for its echo."""

    def assign_callback(self, event: ExpMessage | int | str, callback: AnyCallback) -> None:
        """Have a function called, or a future resolved, when an event comes.

        Args:
            event: One event; several, combined with ``|``; 0 for the reports of errors.
            callback: See the class.

        Raises:
            TypeError: if it is neither a function nor a future, or the event is none.
            ValueError: if no event has that name.
        """
        self._callbacks.assign(ExpMessage.validate(event), callback)

    def clear_callbacks(
        self,
        event: ExpMessage | int | str,
        callback: AnyCallback | None = None,
        cancel_futures: bool = True,
    ) -> int:
        """Remove callbacks.

        Args:
            event: As for `assign_callback`.
            callback: This one only, or what has an attribute `id` that is its; by default all of them.
            cancel_futures: Cancel the futures among them.

        Returns:
            How many that were, counted for each event.
        """
        return self._callbacks.clear(ExpMessage.validate(event), callback, cancel_futures)

    async def on_event(self, event: ExpMessage | int | str) -> tuple[Any, ...]:
        """Wait for the next event of a kind. Under asyncio or Trio.

        Args:
            event: As for `assign_callback`.

        Returns:
            The data and the address of the sender. For several events, the event as the third.

        Raises:
            asyncio.CancelledError: when this is closed meanwhile; trio.ClosedResourceError under Trio.
        """
        if trio.lowlevel.in_trio_task():
            return await self._on_event_in_trio(event)
        future: asyncio.Future[tuple[Any, ...]] = asyncio.get_running_loop().create_future()
        self.assign_callback(event, future)
        try:
            return await future
        finally:
            self.clear_callbacks(event, future)

    async def _on_event_in_trio(self, event: ExpMessage | int | str) -> tuple[Any, ...]:
        future: concurrent.futures.Future[tuple[Any, ...]] = concurrent.futures.Future()
        ended = trio.Event()
        token = trio.lowlevel.current_trio_token()  # callbacks may be called in other threads
        future.add_done_callback(lambda _: token.run_sync_soon(ended.set))
        self.assign_callback(event, future)
        try:
            await ended.wait()
        finally:
            self.clear_callbacks(event, future)
        if future.cancelled():
            raise trio.ClosedResourceError("the communicator is closed")
        return future.result()

    @staticmethod
    def encode(data: Any) -> bytes:
        """A message as it travels: bytes as they are, text as UTF-8, anything else as JSON.

        Raises:
            TypeError: if JSON cannot carry it.
        """
        if isinstance(data, bytes | bytearray | memoryview):
            return bytes(data)
        return (data if isinstance(data, str) else json.dumps(data)).encode()

    @staticmethod
    def decode(data: bytes) -> Any:
        """The opposite: what the JSON means, or the text with a warning if it is none."""
        text = data.decode()
        try:
            return json.loads(text)
        except ValueError:
            warnings.warn("Failed to decode as JSON", stacklevel=2)
            return text

    def close(self) -> None:
        """Cancel the futures that wait for events, and forget all callbacks."""
        self._callbacks.close()
