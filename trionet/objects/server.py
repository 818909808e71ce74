"""Offering objects of this process to others: clients of trionet and of pyacq."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypedDict, Unpack

import trio

from trionet._arguments import check_named, check_seconds
from trionet._server import (
    HANDSHAKE_TIMEOUT,
    AnyListener,
    Connection,
    ServerHandle,
    serve_connections,
)
from trionet._tasks import open_background_tasks
from trionet._transport import open_transport
from trionet._zmtp import open_zmtp, zmtp_handler
from trionet._zmtp_endpoints import (
    address_towards,
    listening_endpoints,
    open_endpoint_listeners,
    parse_endpoint,
)
from trionet._zmtp_stream import ZmtpStream
from trionet.objects._access import Access
from trionet.objects._connection import MAX_BACKLOG, MAX_PENDING_CALLS
from trionet.objects._host import Holder, ObjectHost
from trionet.objects._links import LinkOptions, Links
from trionet.objects._session import Service, Session, SyncMethods
from trionet.objects.timer import ObjectTimer
from trionet.wire.lines import MAX_MESSAGE_SIZE
from trionet.wire.zmtp import SocketType

logger = logging.getLogger("trionet.objects")

#: Proxies that one client may have by default.
MAX_PROXIES: Final = 100_000


class ObjectServerOptions(TypedDict, total=False):
    """The settings of a server, see `serve_objects`."""

    allow_import: Iterable[str]
    allow_private: bool
    allow_set_item: bool
    allow_close: bool
    unrestricted: bool
    sync_methods: SyncMethods
    max_message_size: int
    max_pending_calls: int
    max_backlog: int
    max_proxies: int


@dataclass(frozen=True, slots=True)
class ObjectServerStatistics:
    """What an object server has done so far, and does now.

    Attributes:
        connections: Clients that are connected.
        accepted: Clients that have ever connected.
        requests: Requests that came, those in flight included.
        failed_requests: Those that ended with an exception.
        requests_in_flight: Those that are executed now, and have something to wait for.
        objects: Objects that clients have proxies to.
    """

    connections: int
    accepted: int
    requests: int
    failed_requests: int
    requests_in_flight: int
    objects: int


class ObjectServer(ServerHandle):
    """A running object server, as `serve_objects` reports it.

    Attributes:
        endpoints: The addresses where it listens: ``tcp://127.0.0.1:46221``.
        namespace: What it publishes, by names; change it as you like.
    """

    def __init__(
        self, listeners: Sequence[AnyListener], endpoints: tuple[str, ...], service: Service
    ) -> None:
        super().__init__(listeners)
        self.endpoints = endpoints
        self.namespace = service.host.namespace
        self._service = service

    @property
    def address(self) -> str:
        """The first of its addresses."""
        return self.endpoints[0]

    def start_timer(
        self, callback: Callable[[], Any], interval: float, *, limit: int | None = None
    ) -> ObjectTimer:
        """Call a function every so many seconds, for the first time after these, until the server ends.

        Args:
            callback: It is called where the methods of objects are, see ``sync_methods``; it may be
                asynchronous. If it fails, that is logged, and the timer stops.
            interval: Seconds from the beginning of one call to that of the next.
            limit: Calls until it stops; None for no limit.
        """
        timer = ObjectTimer(callback, interval, limit)
        self._service.nursery.start_soon(timer._run, self._service.call)
        return timer

    def statistics(self) -> ObjectServerStatistics:
        """Numbers of this moment."""
        service = self._service
        return ObjectServerStatistics(
            self.connections,
            self.accepted,
            service.requests,
            service.failed_requests,
            service.requests_in_flight,
            service.host.objects,
        )


async def serve_objects(
    namespace: MutableMapping[str, Any],
    address: str = "tcp://127.0.0.1:*",
    *,
    allow_import: Iterable[str] = (),
    allow_private: bool = False,
    allow_set_item: bool = False,
    allow_close: bool = False,
    unrestricted: bool = False,
    sync_methods: SyncMethods = "inline",
    max_message_size: int = MAX_MESSAGE_SIZE,
    max_pending_calls: int = MAX_PENDING_CALLS,
    max_backlog: int = MAX_BACKLOG,
    max_proxies: int = MAX_PROXIES,
    handshake_timeout: float = HANDSHAKE_TIMEOUT,
    task_status: trio.TaskStatus[ObjectServer] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Offer objects to clients: ``server = await nursery.start(serve_objects, {"laser": laser})``.

    Clients get a copy of what can be copied, and a proxy to everything else: `open_object_client` has what
    they can do with it. Methods may be asynchronous: these run in tasks, several at a time, also of one
    client, and are cancelled when it leaves, unless it wanted no reply.

    **What can be reached** are the objects of the namespace, what methods return, and all that public
    attributes of these lead to; what is passed on is passed on. Whoever can connect can do so: there is no
    password. Refused, with the setting that would allow it, are:

    - names that begin with an underscore, but for the operators: ``allow_private`` for those with one
      underscore, ``unrestricted`` for all;
    - modules, unless they, or a package that they are in, are among ``allow_import``;
    - to publish something: ``allow_set_item``; to end the server: ``allow_close``;
    - the insides of frames and generators, ``str.format``, writing arrays to files, resizing them, attributes
      of classes, functions and arrays being changed, this server as a client of another one:
      ``unrestricted``.

    Args:
        namespace: What to publish, by names. It may be changed while it is served.
        address: Where to listen: ``tcp://HOST:PORT``, with ``*`` for any host or port, or ``ipc://PATH``.
        allow_import: Names of modules that clients may import, with what is in them.
        allow_private: Whether clients may reach private attributes.
        allow_set_item: Whether clients may publish.
        allow_close: Whether clients may end the server.
        unrestricted: Whether clients may do all that, and whatever Python can, as with upstream's servers:
            for those who could as well log in.
        sync_methods: Where all that is done with objects is executed, but for asynchronous methods.
            ``"inline"``: in the event loop, so one at a time, and quickly. ``"thread"``: in threads, up to
            ``max_pending_calls`` at a time. Or a function that is given one without arguments, to be called
            once, elsewhere, in the order of the requests; such as `ThreadPoolExecutor.submit`. While that has
            to wait for other requests, such as a call back, it needs to let these be executed.
        max_message_size: Longest request accepted, in bytes; a longer one ends the connection.
        max_pending_calls: Requests of one client that may be executed at the same time; further ones wait,
            and no more than a few of them are read.
        max_backlog: Bytes of memory that replies may take which wait for a client to read them; a client that
            exceeds it is disconnected, with a line in the log. A single longer reply is sent.
        max_proxies: Proxies that one client may have; calls that would give it more fail.
        handshake_timeout: Seconds that a new client may take to say who it is.
        task_status: Reports the `ObjectServer`.

    Proxies belong to the client that got them: they are released when it has gone, unless somebody else has
    used them meanwhile. A client that sends what is no request is disconnected, with a line in the log.

    It runs until it is cancelled, or a client ends it. Clients are told.

    Raises:
        OSError: if it is not possible to listen at the address.
        ValueError: for what is no address, a time below 0, or an unknown `sync_methods`.
        TypeError: if `namespace` is no mapping, or `allow_import` one name, and not several.
        NotImplementedError: for ``ipc`` on Windows.
    """
    check_seconds("handshake_timeout", handshake_timeout)
    endpoint = parse_endpoint(address)
    options: ObjectServerOptions = {
        "allow_import": allow_import,
        "allow_private": allow_private,
        "allow_set_item": allow_set_item,
        "allow_close": allow_close,
        "unrestricted": unrestricted,
        "sync_methods": sync_methods,
        "max_message_size": max_message_size,
        "max_pending_calls": max_pending_calls,
        "max_backlog": max_backlog,
        "max_proxies": max_proxies,
    }
    async with open_background_tasks() as nursery:
        service = _make_service(nursery, namespace, options)
        listeners = await open_endpoint_listeners(endpoint)
        endpoints = listening_endpoints(listeners)
        service.offer_at(endpoints)
        handle = ObjectServer(listeners, endpoints, service)
        service.host.close = _Closing(handle.cancel_scope, service)

        async def serve(client: Connection, zmtp: ZmtpStream) -> None:
            own_address = address_towards(client.transport.stream, endpoints)
            service.host.addresses.add(own_address)
            await Session(service, client, zmtp, own_address).run()

        handler = zmtp_handler(
            serve,
            SocketType.ROUTER,
            logger,
            max_message_size=max_message_size,
            handshake_timeout=handshake_timeout,
        )
        try:
            await serve_connections(handler, handle, handshake_timeout, task_status)
        finally:
            service.links.close()
            nursery.cancel_scope.cancel()


def _make_service(
    nursery: trio.Nursery, namespace: MutableMapping[str, Any], options: ObjectServerOptions
) -> Service:
    check_named("namespace", namespace, "objects")
    sync_methods = options.get("sync_methods", "inline")
    if sync_methods not in ("inline", "thread") and not callable(sync_methods):
        raise ValueError(f"sync_methods must be 'inline', 'thread' or a function, not {sync_methods!r}")
    access = Access(
        allow_import=options.get("allow_import", ()),
        allow_private=options.get("allow_private", False),
        allow_set_item=options.get("allow_set_item", False),
        allow_close=options.get("allow_close", False),
        unrestricted=options.get("unrestricted", False),
    )
    max_backlog = options.get("max_backlog", MAX_BACKLOG)
    host = ObjectHost(namespace, access, options.get("max_proxies", MAX_PROXIES))
    links = Links(
        nursery,
        LinkOptions(
            max_message_size=options.get("max_message_size", MAX_MESSAGE_SIZE), max_backlog=max_backlog
        ),
        host,
    )
    return Service(
        host, links, nursery, sync_methods, options.get("max_pending_calls", MAX_PENDING_CALLS), max_backlog
    )


class _Closing:
    """A client ends the server: the others are told, then it gets its reply."""

    def __init__(self, scope: trio.CancelScope, service: Service) -> None:
        self._scope = scope
        self._service = service

    def __call__(self, caller: Holder) -> None:
        logger.info("%s: server ended by this client", caller.name)
        for session in self._service.sessions:
            if session is caller:
                session.spare_goodbye()
            else:
                session.tell_end()
        # In a task: this one has still to answer.
        self._service.nursery.start_soon(self._service.end_sessions, self._scope)


async def handle_object_stream(
    stream: trio.abc.Stream,
    namespace: MutableMapping[str, Any],
    address: str,
    *,
    handshake_timeout: float = HANDSHAKE_TIMEOUT,
    **options: Unpack[ObjectServerOptions],
) -> None:
    """Serve one client over a stream that is connected already, until it leaves.

    Args:
        stream: The stream. It is closed at the end, also when cancelled.
        namespace: What to publish, by names.
        address: What proxies are to name as the server's address.
        handshake_timeout: Seconds that the client may take to say who it is.
        **options: Those of `serve_objects`; to end the server is to end the connection.

    Raises:
        ConnectionLost: if the connection is lost.
        RemoteProtocolError: if the client sends what is no request.
        TimeoutError: if it does not say who it is.
    """
    transport = open_transport(stream)
    size = options.get("max_message_size", MAX_MESSAGE_SIZE)
    with trio.CancelScope() as scope:
        async with open_background_tasks() as nursery:
            service = _make_service(nursery, namespace, options)
            service.offer_at([address])
            service.host.close = _Closing(scope, service)
            async with open_zmtp(
                transport, SocketType.ROUTER, max_message_size=size, handshake_timeout=handshake_timeout
            ) as zmtp:
                await Session(service, Connection(transport), zmtp, address).run()


def service_of(server: ObjectServer) -> Service:
    """The service behind a handle."""
    return server._service
