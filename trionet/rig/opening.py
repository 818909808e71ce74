"""Opening communicators and listeners."""

from __future__ import annotations

import contextlib
import logging
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from typing import TypedDict

from trionet._connect import CONNECT_TIMEOUT, connector
from trionet._server import Address, AnyListener, open_listeners
from trionet._tasks import open_background_tasks
from trionet._tls import TLSConfig
from trionet.rig._endpoint import Endpoint, Owner
from trionet.rig._peer import ECHO_TIMEOUT
from trionet.rig._tcp import TcpClientEndpoint, TcpServerEndpoint
from trionet.rig._udp import UdpEndpoint, open_udp_socket
from trionet.rig.communicator import MAX_RUNNING_CALLBACKS, RigCommunicator, Settings, logger
from trionet.rig.uri import validate_uri
from trionet.wire.lines import MAX_MESSAGE_SIZE
from trionet.wire.rig_uri import AnyURI, RigURI


class CommunicatorOptions(TypedDict, total=False):
    """The options of `open_rig_communicator`, but for the name."""

    echo_timeout: float
    attempts: int
    dedup_window: float
    max_running_callbacks: int
    max_message_size: int
    logger: logging.Logger
    ssl_context: TLSConfig | None
    connect_timeout: float
    connect_first: bool


@contextlib.asynccontextmanager
async def open_rig_communicator(
    uri: AnyURI,
    *,
    name: str | None = None,
    echo_timeout: float = ECHO_TIMEOUT,
    attempts: int = 1,
    dedup_window: float = 0.0,
    max_running_callbacks: int = MAX_RUNNING_CALLBACKS,
    max_message_size: int = MAX_MESSAGE_SIZE,
    logger: logging.Logger = logger,
    ssl_context: TLSConfig | None = None,
    connect_timeout: float = CONNECT_TIMEOUT,
    connect_first: bool = True,
) -> AsyncIterator[RigCommunicator]:
    """Talk to one rig, ours or iblutil's.

    Args:
        uri: Where it is: ``[scheme://]host[:port]``, see `validate_uri`. ``udp`` (the default) is ready at
            once, whether the rig is there or not; ``tcp`` and ``ws`` connect; ``wss`` connects with TLS.
            Upstream means TCP without TLS by all three: use ``tcp`` for its rigs.
        name: What to call it; by default the URI as it was given.
        echo_timeout: Seconds to wait for the echo of a message.
        attempts: How often to send a message until its echo comes, `echo_timeout` apart. The bytes are the
            same, so an upstream rig takes each that arrives for a message; a trionet rig with a
            `dedup_window` does not, unless they come over different TCP connections.
        dedup_window: Seconds for which a message that comes again is a repeat: echoed, not delivered. It has
            to be longer than the other side goes on sending. The echo of a message of ours that comes once
            more is ignored as long. So an answer needs other bytes than the question, or it is taken for
            such an echo: `respond` sees to that, upstream's rigs do if they add data. 0 takes every message
            for a new one, as upstream does.
        max_running_callbacks: Messages whose asynchronous callbacks may run at the same time; callbacks are
            not called for one beyond, and its sender gets a report.
        max_message_size: The longest message over TCP, in bytes. More ends the connection. Upstream's rigs
            understand about 65,000 bytes.
        logger: Where it logs what goes wrong; by default ``trionet.rig``.
        ssl_context: For ``wss``; by default the system's authorities are trusted.
        connect_timeout: Seconds for connecting over TCP.
        connect_first: False to connect over TCP for the first message only: the rig need not be there yet.

    What has come when the block ends is lost if nobody has read it. Callbacks that run are cancelled.

    Raises:
        ValueError: for a URI or a number that is not allowed.
        OSError: if the host is not known, or over TCP cannot be connected to.
    """
    settings = Settings(echo_timeout, attempts, dedup_window, max_running_callbacks, logger)
    parsed = RigURI.parse(uri)
    if not parsed.is_stream:
        parsed = await validate_uri(parsed)
    remote = (parsed.host or "localhost", parsed.port)
    called = name if name is not None else str(uri)

    if parsed.is_stream:
        context = _client_tls(parsed, ssl_context)
        connect = connector(*remote, ssl_context=context, connect_timeout=connect_timeout)

        def make_endpoint(owner: Owner) -> Endpoint:
            return TcpClientEndpoint(connect, remote, max_message_size, owner, connect_first=connect_first)

    else:
        _client_tls(parsed, ssl_context)
        sock = await open_udp_socket(parsed, listen=False)

        def make_endpoint(owner: Owner) -> Endpoint:
            return UdpEndpoint(sock, remote, owner)

    async with _open(called, parsed, remote, settings, make_endpoint) as communicator:
        yield communicator


@contextlib.asynccontextmanager
async def open_rig_listener(
    uri: AnyURI,
    *,
    name: str | None = None,
    echo_timeout: float = ECHO_TIMEOUT,
    attempts: int = 1,
    dedup_window: float = 0.0,
    max_running_callbacks: int = MAX_RUNNING_CALLBACKS,
    max_message_size: int = MAX_MESSAGE_SIZE,
    logger: logging.Logger = logger,
    ssl_context: TLSConfig | None = None,
    listeners: Sequence[AnyListener] | None = None,
) -> AsyncIterator[RigCommunicator]:
    """Be a rig: receive the messages of whoever sends some, and answer them.

    Args:
        uri: Where to listen: ``[scheme://]host[:port]``, see `validate_uri`. ``0.0.0.0`` listens on all IPv4
            addresses, port 0 on any port that is free: the communicator's ``addresses`` tell.
        name: What to call it; by default the URI as it was given.
        echo_timeout: As for `open_rig_communicator`; so are the following.
        attempts: See there.
        dedup_window: See there.
        max_running_callbacks: See there.
        max_message_size: See there.
        logger: See there.
        ssl_context: Needed for ``wss``.
        listeners: Streams are accepted from these instead, whatever the scheme.

    The methods of the communicator that send a message need the `address` to send to. Over TCP it is that
    of a connection. Many may be connected at a time, unlike upstream.

    Raises:
        ValueError: for a URI or a number that is not allowed.
        OSError: if it is not possible to listen there; the message names host and port.
    """
    settings = Settings(echo_timeout, attempts, dedup_window, max_running_callbacks, logger)
    parsed = RigURI.parse(uri, allow_port_0=True)
    called = name if name is not None else str(uri)
    _check_server_tls(parsed, ssl_context)

    if listeners is None:
        parsed = await validate_uri(parsed, allow_port_0=True)

    if parsed.is_stream or listeners is not None:
        opened = await open_listeners(parsed.host, parsed.port, ssl_context, listeners)

        def make_endpoint(owner: Owner) -> Endpoint:
            return TcpServerEndpoint(opened, max_message_size, owner)
    else:
        sock = await open_udp_socket(parsed, listen=True)

        def make_endpoint(owner: Owner) -> Endpoint:
            return UdpEndpoint(sock, None, owner)

    async with _open(called, parsed, None, settings, make_endpoint) as communicator:
        yield communicator


@contextlib.asynccontextmanager
async def _open(
    name: str,
    uri: RigURI,
    remote: Address | None,
    settings: Settings,
    make_endpoint: Callable[[Owner], Endpoint],
) -> AsyncIterator[RigCommunicator]:
    async with open_background_tasks() as nursery:
        communicator = RigCommunicator(name, uri, remote, settings, nursery)
        dispatcher = communicator._dispatcher
        owner = Owner(
            name,
            settings.logger,
            settings.dedup_window,
            deliver=communicator._deliver,
            connected=dispatcher.forget_losses,
            lost=dispatcher.lose_connection,
            refused=communicator._refused,
        )
        endpoint = make_endpoint(owner)
        await nursery.start(communicator._run, endpoint)
        if remote is None and endpoint.addresses:
            communicator.uri = replace(uri, port=endpoint.addresses[0][1])  # any port has become one
        yield communicator


def _client_tls(uri: RigURI, ssl_context: TLSConfig | None) -> TLSConfig | None:
    if uri.scheme == "wss":
        return ssl_context if ssl_context is not None else ssl.create_default_context()
    if ssl_context is not None:
        raise ValueError(f"{uri} is not encrypted, wss is; an ssl_context is of no use")
    return None


def _check_server_tls(uri: RigURI, ssl_context: TLSConfig | None) -> None:
    if uri.scheme == "wss" and ssl_context is None:
        raise ValueError(f"{uri} needs an ssl_context; tcp and ws are without TLS, as upstream's wss is")
    if uri.scheme != "wss" and ssl_context is not None:
        raise ValueError(f"{uri} is not encrypted, wss is; an ssl_context is of no use")
