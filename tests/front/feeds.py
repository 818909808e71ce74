"""Equipment for tests of feeds: publishers, broadcasters and their clients without sockets.

The servers are the real ones, on a listener of their own; the bytes go through `Link`, which can be bounded,
stalled and cut anywhere. So with the mock clock everything that depends on time is exact.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import trio
import trio.testing

import trionet
from trionet._backoff import Backoff
from trionet._tasks import open_background_tasks
from trionet._transport import Transport, open_transport
from trionet.sync_struct.subscription import identity

HELLO = b"ARTIQ sync_struct\n"
MAX_MESSAGE_SIZE = 10_000_000

#: What the other side of a `Link` is called in messages.
PEER = "MemoryEnd"

Connector = Callable[[], Awaitable[Transport]]
settle = trio.testing.wait_all_tasks_blocked


class Pipe:
    """Bytes on their way in one direction.

    Attributes:
        waiting: Those that have been sent and not received.
        capacity: How many may be; a sender waits for the rest.
        stalled: Whether the receiver gets nothing.
    """

    def __init__(self, capacity: float = math.inf) -> None:
        self.waiting = bytearray()
        self.capacity = capacity
        self.stalled = False
        self.sender_closed = False
        self.receiver_closed = False
        self._ended = False
        self._reset = False
        self._changed = trio.lowlevel.ParkingLot()

    def put(self, data: bytes) -> None:
        """Send more than there may be room for."""
        self.waiting += data
        self._changed.unpark_all()

    def take(self, limit: int | None = None) -> bytes:
        """Receive what there is."""
        data = bytes(self.waiting[:limit])
        del self.waiting[:limit]
        self._changed.unpark_all()
        return data

    def close_sender(self) -> None:
        """The sender has closed its end; what is on its way arrives."""
        self.sender_closed = True
        self._changed.unpark_all()

    def end(self) -> None:
        """Nothing more comes through, and the receiver takes that for a close; what is on its way arrives."""
        self._ended = True
        self._changed.unpark_all()

    def reset(self) -> None:
        """Nothing more comes through, and the receiver gets an error; what is on its way arrives."""
        self._reset = True
        self._changed.unpark_all()

    def close_receiver(self) -> None:
        """What is on its way, and whatever follows, is received by nobody."""
        self.receiver_closed = True
        self._changed.unpark_all()

    def resize(self, capacity: float) -> None:
        """Change how much may be on its way."""
        self.capacity = capacity
        self._changed.unpark_all()

    def stall(self) -> None:
        """Hold back everything from now on."""
        self.stalled = True

    def resume(self) -> None:
        """Deliver again."""
        self.stalled = False
        self._changed.unpark_all()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        rest = bytes(data)
        await trio.lowlevel.checkpoint()
        while True:
            if self.sender_closed:
                raise trio.ClosedResourceError
            if self.receiver_closed or self._ended or self._reset:
                raise trio.BrokenResourceError("nobody receives")
            room = max(0, self.capacity - len(self.waiting))
            count = len(rest) if room >= len(rest) else int(room)
            if count:
                self.put(rest[:count])
                rest = rest[count:]
            if not rest:
                return
            await self._changed.park()

    async def receive_some(self, max_bytes: int | None) -> bytes:
        await trio.lowlevel.checkpoint()
        while True:
            if self.receiver_closed:
                raise trio.ClosedResourceError
            if not self.stalled:
                if self.waiting:
                    return self.take(max_bytes)
                if self._reset:
                    raise trio.BrokenResourceError("connection reset")
                if self.sender_closed or self._ended:
                    return b""
            await self._changed.park()


class MemoryEnd(trio.abc.Stream):
    """One end of a `Link`."""

    def __init__(self, outgoing: Pipe, incoming: Pipe) -> None:
        self.outgoing = outgoing
        self.incoming = incoming

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self.outgoing.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        return await self.incoming.receive_some(max_bytes)

    async def aclose(self) -> None:
        self.outgoing.close_sender()
        self.incoming.close_receiver()
        await trio.lowlevel.checkpoint()


class Link:
    """A connection: `up` is from the client to the server, `down` from the server to the client."""

    def __init__(self, capacity: float = math.inf) -> None:
        self.up = Pipe()
        self.down = Pipe(capacity)
        self.client = MemoryEnd(self.up, self.down)
        self.server = MemoryEnd(self.down, self.up)

    @property
    def closed(self) -> bool:
        """Whether either side has closed it."""
        return self.up.sender_closed or self.down.sender_closed

    def cut(self, keep: int = 0, *, reset: bool = False) -> None:
        """The client gets no more than `keep` bytes of what is on its way; then the connection is gone."""
        del self.down.waiting[keep:]
        self.down.resume()
        for pipe in (self.down, self.up):
            if reset:
                pipe.reset()
            else:
                pipe.end()


class MemoryListener(trio.abc.Listener[MemoryEnd]):
    """Accepts the server's ends of links."""

    def __init__(self) -> None:
        self._connecting, self._incoming = trio.open_memory_channel[MemoryEnd](math.inf)
        self.closed = False

    def connect(self, link: Link) -> None:
        """Connect the client's end of a link.

        Raises:
            ConnectionRefusedError: if the listener is closed.
        """
        if self.closed:
            raise ConnectionRefusedError("refused")
        self._connecting.send_nowait(link.server)

    async def accept(self) -> MemoryEnd:
        return await self._incoming.receive()

    async def aclose(self) -> None:
        self.closed = True
        self._incoming.close()
        self._connecting.close()
        await trio.lowlevel.checkpoint()


class Network:
    """Where clients find a server, if there is one.

    Attributes:
        capacity: Bytes that may be on their way to a client of a new connection.
        links: The connections made, in that order.
        attempts: When a client tried to connect.
    """

    def __init__(self, capacity: float = math.inf) -> None:
        self.capacity = capacity
        self.links: list[Link] = []
        self.attempts: list[float] = []
        self._listener: MemoryListener | None = None

    def listen(self) -> list[trio.abc.Listener[Any]]:
        """The listener of the next server."""
        self._listener = MemoryListener()
        return [self._listener]

    def link(self, hello: bytes = b"") -> Link:
        """A connection whose client is the test itself, which has said `hello`."""
        link = Link(self.capacity)
        if self._listener is None:
            raise ConnectionRefusedError("refused")
        self._listener.connect(link)
        self.links.append(link)
        link.up.put(hello)
        return link

    async def connect(self) -> Transport:
        """A connection as subscriptions and receivers open them."""
        self.attempts.append(trio.current_time())
        await trio.lowlevel.checkpoint()
        return open_transport(self.link().client, "server")


class Script:
    """Stands in for a server: what each attempt to connect meets. After the last one, silence.

    Attributes:
        links: The connections made, in that order.
        attempts: When a client tried to connect.
        end_at_once: Whether nothing follows what a client meets.
    """

    def __init__(self, *outcomes: bytes | OSError) -> None:
        self.outcomes = list(outcomes)
        self.end_at_once = False
        self.links: list[Link] = []
        self.attempts: list[float] = []

    async def connect(self) -> Transport:
        self.attempts.append(trio.current_time())
        await trio.lowlevel.checkpoint()
        outcome = self.outcomes.pop(0) if self.outcomes else b""
        if isinstance(outcome, OSError):
            raise outcome
        link = Link()
        link.down.put(outcome)
        if self.end_at_once:
            link.down.end()
        self.links.append(link)
        return open_transport(link.client, "server")


@contextlib.asynccontextmanager
async def publishing(
    notifiers: Mapping[str, trionet.Notifier], network: Network, **options: Any
) -> AsyncIterator[trionet.Publisher]:
    async with open_background_tasks() as nursery:
        publisher = await nursery.start(
            lambda **kw: trionet.serve_publisher(notifiers, 0, listeners=network.listen(), **options, **kw)
        )
        yield publisher


@contextlib.asynccontextmanager
async def broadcasting(
    broadcaster: trionet.Broadcaster, network: Network, **options: Any
) -> AsyncIterator[trionet.BroadcastServer]:
    async with open_background_tasks() as nursery:
        server = await nursery.start(
            lambda **kw: trionet.serve_broadcaster(
                broadcaster, 0, listeners=network.listen(), **options, **kw
            )
        )
        yield server


@contextlib.asynccontextmanager
async def subscribed(
    connect: Connector,
    name: str = "it",
    *,
    build: Callable[[Any], Any] = identity,
    on_mod: Callable[[trionet.Mod], object] | None = None,
    backoff: Backoff | None = None,
    pyon_version: Any = None,
    answer_timeout: float = 60.0,
    max_message_size: int = MAX_MESSAGE_SIZE,
) -> AsyncIterator[trionet.Subscription]:
    """`open_subscription` with another way to connect."""
    subscription = trionet.Subscription(
        connect,
        peer="server",
        name=name,
        build=build,
        on_mod=on_mod,
        backoff=backoff,
        pyon_version=pyon_version,
        answer_timeout=answer_timeout,
        max_message_size=max_message_size,
    )
    async with subscription._reader.running():
        yield subscription


@contextlib.asynccontextmanager
async def receiving(
    connect: Connector, channel: str = "it", backoff: Backoff | None = None, **options: Any
) -> AsyncIterator[trionet.BroadcastReceiver]:
    """`open_broadcast_receiver` with another way to connect."""
    options = {"pyon_version": None, "max_message_size": MAX_MESSAGE_SIZE, **options}
    receiver = trionet.BroadcastReceiver(connect, peer="server", channel=channel, backoff=backoff, **options)
    async with receiver._reader.running():
        yield receiver


def warnings_of(records: list[Any]) -> list[str]:
    """The messages of a log that are warnings or worse."""
    return [record.getMessage() for record in records if record.levelno >= 30]
