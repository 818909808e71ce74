"""Using the objects of another process, ours or pyacq's."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypedDict, TypeVar, Unpack

import trio

from trionet._connect import CONNECT_TIMEOUT
from trionet._server import HANDSHAKE_TIMEOUT
from trionet._tasks import open_background_tasks
from trionet._transport import open_transport
from trionet._zmtp import open_zmtp
from trionet.objects._connection import MAX_BACKLOG, MAX_PENDING_CALLS, ObjectConnection, PendingCall
from trionet.objects._descriptions import ObjectDescription, read_description, read_descriptions
from trionet.objects._links import LinkOptions, Links, new_identity
from trionet.objects._upstream_descriptions import UpstreamInspection
from trionet.objects.proxy import ObjectProxy, lease_of, reference_of
from trionet.objects.server import ObjectServer, service_of
from trionet.wire.errors import CallInfo, IncompatibleServer, RemoteProtocolError
from trionet.wire.lines import MAX_MESSAGE_SIZE
from trionet.wire.objects import ReturnType
from trionet.wire.zmtp import SocketType

# Questions for the time of a server: the quickest answer tells most.
_CLOCK_SAMPLES: Final = 10

Description = TypeVar("Description")


@dataclass(frozen=True, slots=True)
class ClockOffset:
    """How the clock of a server differs from ours.

    Attributes:
        seconds: Its `time.perf_counter` minus ours, at the same moment.
        uncertainty: By how many seconds that may be wrong, either way: half of what the answer took.
    """

    seconds: float
    uncertainty: float


class ObjectClientOptions(TypedDict, total=False):
    """The settings of a client, see `open_object_client`."""

    serializer: str
    connect_timeout: float
    handshake_timeout: float
    max_message_size: int
    max_pending_calls: int
    max_backlog: int
    heartbeat_interval: float | None


class ObjectClient:
    """A connection to an object server. Made by `open_object_client`.

    Any number of tasks may use it at the same time: their requests share the connection, and what takes the
    server long holds up nobody else, unless it is the server itself that waits.

    Attributes:
        address: Of the server.
    """

    def __init__(self, connection: ObjectConnection) -> None:
        self.address = connection.address
        self._connection = connection

    @property
    def disconnect_reason(self) -> str | None:
        """Why the connection is lost; None while it is not."""
        return self._connection.lost

    async def wait_disconnected(self) -> None:
        """Wait until the connection is lost, whichever side has ended it."""
        await self._connection.disconnected.wait()

    async def ping(self) -> None:
        """Ask the server for a sign of life. Raises as `call_obj` does, `RemoteError` and such excepted."""
        await self._connection.request("ping", None, "auto", "ping")

    async def get(self, name: str, return_type: ReturnType = "auto") -> Any:
        """What the server publishes under a name: a copy if its type can be copied, else a proxy.

        Raises as `call_obj` does; KeyError if there is no such name.
        """
        return await self._connection.request("get_item", {"name": name}, return_type, f"get {name!r}")

    async def set(self, name: str, value: Any) -> None:
        """Have the server publish a value, or an object of its own. Raises as `call_obj` does.

        trionet's servers refuse that with PermissionError, unless they ``allow_set_item``.
        """
        await self._connection.request("set_item", {"name": name, "obj": value}, "auto", f"set {name!r}")

    async def import_module(self, name: str) -> Any:
        """A proxy to a module of the server's process, the innermost of a dotted name.

        Raises as `call_obj` does; PermissionError unless it is in the server's ``allow_import``.
        """
        return await self._connection.request("import", {"module": name}, "auto", f"import {name}")

    async def call_obj(
        self,
        obj: ObjectProxy,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        return_type: ReturnType = "auto",
    ) -> Any:
        """Call what a proxy stands for: ``await p.f(x)``, where the name of the method is not in your hands.

        Args:
            obj: The proxy, of an object of this server.
            args: The arguments. What cannot be copied needs the ``server`` of `open_object_client`, which
                keeps it for the other side until the connection ends: so give the same function each time.
            kwargs: Those with names.
            return_type: ``"auto"`` for a copy if its type can be copied, else a proxy; ``"proxy"`` for a
                proxy in any case; ``"value"`` for a copy if at all possible.

        Raises:
            TypeError: if an argument cannot be sent (ValueError likewise). Nothing was sent.
            RemoteError: if an exception was raised there that is not a builtin one.
            Exception: if a builtin one was: that class, with its text. The remote traceback and the place
                are in its notes, and the place is its attribute ``call``, a `CallInfo`.
            ConnectionLost: if the connection is, or was, lost: whether the call was executed is unknown.
            RemoteProtocolError: if the server answers what is no reply. The connection is closed, but not
                for a result that cannot be read.

        Cancellation: once it is sent, the server executes the call all the same. Nothing is damaged, and the
        reply is discarded when it comes, also if it was just being sent: to close the connection would take
        all proxies with it.
        """
        options = {"obj": obj, "args": list(args), "kwargs": dict(kwargs or {})}
        return await self._connection.request("call_obj", options, return_type, repr(obj))

    async def get_obj(self, obj: Any, *, return_type: ReturnType = "auto") -> Any:
        """What a proxy stands for, its attributes looked up: a copy, if its type can be copied.

        Raises as `call_obj` does.
        """
        return await self._connection.request("get_obj", {"obj": obj}, return_type, repr(obj)[:80])

    async def transfer(self, value: Any) -> ObjectProxy:
        """Copy a value to the server. Returns a proxy to the copy. Raises as `call_obj` does."""
        proxy: ObjectProxy = await self._connection.request("get_obj", {"obj": value}, "proxy", "transfer")
        return proxy

    async def delete(self, proxy: ObjectProxy) -> None:
        """Release the reference of a proxy now, whatever still uses it: later calls raise KeyError.

        Other references to the object are not concerned. It is not needed where proxies are collected.

        Raises as `call_obj` does; KeyError if it has been released already; ValueError for a proxy of an
        object of another server.
        """
        reference, lease = reference_of(proxy), lease_of(proxy)
        if reference.address not in self._connection.aliases:
            raise ValueError(f"{proxy!r} stands for an object of another server than {self.address}")
        options = {"obj_id": reference.object_id, "ref_id": reference.reference_id}
        await self._connection.request("delete", options, "auto", f"delete {proxy!r}")
        if lease is not None:  # not before: a call that is cancelled may not have been sent
            lease.end_of(self._connection.give_back)

    async def close_server(self) -> None:
        """End the server. Other clients are told.

        Raises as `call_obj` does; PermissionError unless it has ``allow_close``.
        """
        await self._connection.request("close", None, "auto", "close")

    async def published(self) -> dict[str, ObjectDescription]:
        """What the server publishes, by name, with documentation and public attributes.

        Raises as `call_obj` does; IncompatibleServer if it does not tell. A pyacq server is asked piece by
        piece, by means of its own modules; so are its objects by `describe`.
        """
        try:
            received = await self._connection.request("published", None, "auto", "published")
        except ValueError:
            upstream = await self._upstream_unless_ours()
            if upstream is None:
                raise
            return {
                name: await upstream.describe(await self.get(name, "proxy"))
                for name in await self._upstream_names(upstream)
            }
        return self._read(read_descriptions, received)

    async def _upstream_names(self, upstream: UpstreamInspection) -> list[str]:
        try:
            return await upstream.names(await self.get("self", "proxy"))
        except (KeyError, AttributeError) as error:
            reason = "the server does not tell what it publishes"
            raise IncompatibleServer(reason, CallInfo(self.address)) from error

    async def describe(self, obj: ObjectProxy) -> ObjectDescription:
        """What the server says about an object, with its documentation and its public attributes.

        Raises as `call_obj` does. Attributes are not looked at: those that are computed may do anything.
        """
        try:
            received = await self._connection.request("describe", {"obj": obj}, "auto", repr(obj))
        except ValueError:
            upstream = await self._upstream_unless_ours()
            if upstream is None:
                raise
            return await upstream.describe(obj)
        return self._read(read_description, received)

    async def _upstream_unless_ours(self) -> UpstreamInspection | None:
        """After an error that may mean an unknown request, or come from an object. None: it is the latter."""
        with contextlib.suppress(ValueError):
            await self._connection.request("clock", None, "auto", "clock")
            return None
        return UpstreamInspection(await self.import_module("builtins"), await self.import_module("inspect"))

    def _read(self, read: Callable[[Any], Description], received: Any) -> Description:
        try:
            return read(received)
        except ValueError as error:
            raise RemoteProtocolError(str(error), CallInfo(self.address)) from error

    async def measure_clock_offset(self) -> ClockOffset:
        """Compare the server's `time.perf_counter` with ours. Raises as `call_obj` does.

        A pyacq server is asked for its module `time` for that.
        """
        try:
            await self._connection.request("clock", None, "auto", "clock")
        except ValueError:  # unknown action
            clock = await self.import_module("time")
            samples = [await _sample(lambda: clock.perf_counter()) for _ in range(_CLOCK_SAMPLES)]
        else:
            request = self._connection.request
            samples = [
                await _sample(lambda: request("clock", None, "auto", "clock")) for _ in range(_CLOCK_SAMPLES)
            ]
        return min(samples, key=lambda offset: offset.uncertainty)

    def start(
        self, action: str, options: Mapping[str, Any] | None = None, return_type: ReturnType = "auto"
    ) -> PendingCall:
        """Send any request now, and wait for the result later, if at all. Raises as `ObjectCall.start`."""
        return self._connection.start(action, options, return_type, action)

    def notify(self, action: str, options: Mapping[str, Any] | None = None) -> None:
        """Send any request that is not to be answered. Raises as `ObjectCall.start`."""
        self._connection.notify(action, options, action)


async def _sample(ask: Callable[[], Any]) -> ClockOffset:
    before = time.perf_counter()
    remote = await ask()
    after = time.perf_counter()
    return ClockOffset(remote - (before + after) / 2, (after - before) / 2)


@contextlib.asynccontextmanager
async def open_object_client(
    address: str,
    *,
    serializer: str = "msgpack",
    server: ObjectServer | None = None,
    connect_timeout: float = CONNECT_TIMEOUT,
    handshake_timeout: float = HANDSHAKE_TIMEOUT,
    max_message_size: int = MAX_MESSAGE_SIZE,
    max_pending_calls: int = MAX_PENDING_CALLS,
    max_backlog: int = MAX_BACKLOG,
    heartbeat_interval: float | None = None,
) -> AsyncIterator[ObjectClient]:
    """Connect to an object server: ``async with open_object_client("tcp://laser-pc:5555") as client:``.

    What it publishes comes as copies or as proxies, see `ObjectProxy`. A proxy may stand for an object of
    another server than this: when it is used first, that server is connected to with the same settings, and
    the connection ends with the block, too.

    Args:
        address: Of the server: ``tcp://HOST:PORT`` or ``ipc://PATH``.
        serializer: ``"msgpack"`` or ``"json"``.
        server: One of this process, which then owns the arguments that cannot be copied: the other side gets
            proxies to them, for example to call a function of ours. It is to be served until the block ends,
            and to be reachable for the other side.
        connect_timeout: Seconds for the connection, all addresses of the name included.
        handshake_timeout: Seconds that the server may take to say who it is, and to answer a ping.
        max_message_size: Longest reply accepted, in bytes; a longer one ends the connection.
        max_pending_calls: Calls whose replies may be outstanding; further ones wait for their turn.
        max_backlog: Bytes that may wait to be sent; if there are more, calls wait, and those that are not
            awaited raise `trio.WouldBlock`.
        heartbeat_interval: Seconds between two signs of life that the server is asked for; three intervals of
            silence mean that the connection is lost. None asks for none: that an idle server has lost power
            is noticed within 40 s, but a call that is sent then waits until TCP has given up sending it, 15
            minutes on Linux. With it, no method may hold up the server for so long: a trionet server answers
            between other things (pyacq's at any time).

    Raises:
        ValueError: for an address, a serializer or an interval that is none.
        OSError: if the server cannot be reached: ConnectionRefusedError, ...
        TimeoutError: if that, or its answer, takes too long.
        RemoteProtocolError: if it speaks something else.
        ConnectionLost: if it closes the connection meanwhile.

    When the block ends the connection is closed; calls of other tasks that still wait raise
    `ConnectionLost`, and the server releases the proxies.
    """
    options = LinkOptions(
        serializer,
        connect_timeout,
        handshake_timeout,
        max_message_size,
        max_pending_calls,
        max_backlog,
        heartbeat_interval,
    )
    async with _open_links(options, server) as links, links.open(address) as connection:
        yield ObjectClient(connection)


@contextlib.asynccontextmanager
async def wrap_object_stream(
    stream: trio.abc.Stream,
    address: str,
    *,
    server: ObjectServer | None = None,
    **options: Unpack[ObjectClientOptions],
) -> AsyncIterator[ObjectClient]:
    """Be a client over a stream that is connected already. It is closed when the block ends.

    Args:
        stream: The stream.
        address: What the server calls itself: proxies that name another address stand for objects of others.
        server: See `open_object_client`.
        **options: Those of `open_object_client`, as are the errors.
    """
    settings = LinkOptions(**options)
    async with (
        open_zmtp(
            open_transport(stream, address),
            SocketType.DEALER,
            identity=new_identity(address),
            max_message_size=settings.max_message_size,
            handshake_timeout=settings.handshake_timeout,
            heartbeat_interval=settings.heartbeat_interval,
        ) as zmtp,
        _open_links(settings, server) as links,
        links.open_over(zmtp, address) as connection,
    ):
        yield ObjectClient(connection)


@contextlib.asynccontextmanager
async def _open_links(options: LinkOptions, server: ObjectServer | None) -> AsyncIterator[Links]:
    async with open_background_tasks() as nursery:
        links = Links(nursery, options, None if server is None else service_of(server).host)
        links.own_addresses = () if server is None else server.endpoints
        try:
            yield links
        finally:
            links.close()


def connection_of(client: ObjectClient) -> ObjectConnection:
    """The connection behind a client."""
    return client._connection
