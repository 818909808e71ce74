"""Both ends of feeds (`trionet.wire.feeds`): what sync_struct and broadcast have in common."""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Final, Generic, TypeVar

import trio
from trio_util import AsyncBool

from trionet._backoff import Backoff
from trionet._tasks import open_background_tasks
from trionet._transport import Transport
from trionet.wire.errors import CallInfo, ConnectionLost, RemoteProtocolError, TrionetError
from trionet.wire.feeds import FeedClient, FeedServer, encode_name

# While the consumer is busy, so much is read ahead; then the server has to wait, or to drop.
_READ_AHEAD: Final = 256 * 1024
# After so many items that needed no waiting, other tasks have their turn.
_ITEMS_AT_A_STRETCH: Final = 64

Item = TypeVar("Item")


async def wait_name(
    transport: Transport, banner: bytes, handshake_timeout: float, logger: logging.Logger
) -> str | None:
    """The server's side of the handshake: what the client asks for. None if it is to be left.

    Why a client is to be left goes to the log.
    """
    wire = FeedServer(banner)
    with trio.move_on_after(handshake_timeout):
        try:
            while (name := wire.next_name()) is None:
                data = await transport.receive()
                if not data:
                    return None
                wire.receive_data(data)
            return name
        except RemoteProtocolError as error:
            logger.warning("%s: connection closed: %s", transport.peer, error.message)
            return None
    logger.warning("%s: asked for nothing within %s s", transport.peer, handshake_timeout)
    return None


@trio.lowlevel.enable_ki_protection  # Ctrl-C is for the program, not for tasks that it does not see
async def wait_client_left(transport: Transport, scope: trio.CancelScope) -> None:
    """Ignore what a client says; when it leaves, cancel what is done for it."""
    try:
        while await transport.receive():
            pass
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass
    scope.cancel()


class _ConnectionOver(Exception):
    """Only for what ends a connection; what the code of the user raises must not be taken for it."""

    def __init__(self, reason: Exception) -> None:
        self.reason = reason


@contextlib.contextmanager
def _translating() -> Iterator[None]:
    try:
        yield
    except trio.BrokenResourceError as error:
        raise _ConnectionOver(ConnectionLost(f"connection lost: {error}")) from error


class FeedReader(Generic[Item]):
    """The client's side: keeps a feed coming, and hands out its items.

    While nobody takes items (see `take_over`), `run` takes them as they come.

    Args:
        connect: Opens a connection.
        open_wire: Makes the state machine of a new connection.
        take: Takes the next item out of one; None if there is none. RemoteProtocolError ends the
            connection, anything else leaves `run` or `next_item`.
        name: What to ask for.
        peer: The server, for messages.
        backoff: The delays between attempts; None not to connect again.
        answer_timeout: Seconds within which the server must begin to answer; None if it need not.
        logger: Where outages are reported.
        on_end: Called with `error` when it is set.

    Attributes:
        connected: Whether items are coming: see `set_connected`.
        error: Why no more items will come; None while they may.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[Transport]],
        open_wire: Callable[[], FeedClient],
        take: Callable[[FeedClient], Item | None],
        *,
        name: str,
        peer: str,
        backoff: Backoff | None,
        answer_timeout: float | None,
        logger: logging.Logger,
        on_end: Callable[[Exception], None] = lambda _: None,
    ) -> None:
        encode_name(name)  # raises what is wrong with it
        self.connected = AsyncBool(False)
        self.error: Exception | None = None
        self._connect = connect
        self._open_wire = open_wire
        self._take = take
        self._name = name
        self._peer = peer
        self._backoff = backoff
        self._answer_timeout = answer_timeout
        self._logger = logger
        self._on_end = on_end
        self._outage_reported = False
        # The latest connection: what comes in, since when, whether more may come, and how to end it.
        self._wire: FeedClient | None = None
        self._opened = -math.inf
        self._is_open = False
        self._reading = trio.CancelScope()
        self._refusal: Exception | None = None
        self._begun = False
        self._taken_over = False
        self._at_a_stretch = 0  # items taken without a turn for other tasks
        self._changed = trio.lowlevel.ParkingLot()  # those who wait for an item, or for the connection
        self._consumed = trio.lowlevel.ParkingLot()  # the reader, while there are items enough
        self._released = trio.lowlevel.ParkingLot()  # see _take_leftovers
        self._token: trio.lowlevel.TrioToken | None = None

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """A block that begins when the feed is coming, and that it ends with.

        Raises:
            Exception: `error`, if it will not come; and what `take` raises.
        """
        self._token = trio.lowlevel.current_trio_token()
        try:
            async with open_background_tasks() as nursery:
                nursery.start_soon(self.run)
                nursery.start_soon(self._take_leftovers)
                await self.wait_begun()
                yield
        finally:
            self._end(ConnectionLost("this side has closed the connection"))

    # -- the background task ---------------------------------------------------------------------------

    @trio.lowlevel.enable_ki_protection
    async def run(self) -> None:
        """Connect and read; again and again if so asked."""
        while True:
            attempted = trio.current_time()
            error = await self._connect_and_read()
            lasted = trio.current_time() - self._opened if self._opened >= attempted else 0.0
            if self._backoff is None:
                self._logger.info("%s: %r: %s", self._peer, self._name, _message(error))
                self._end(error)
                return
            delay = self._backoff.next_delay(lasted)
            self._report_outage(error)
            del error  # or its traceback would live as long as the next connection
            await trio.sleep(delay)

    async def _connect_and_read(self) -> Exception:
        """One connection, from its beginning to its end. Returns why there is none, or none any more."""
        try:
            transport = await self._connect()
        except (OSError, TrionetError) as error:
            return error
        wire = self._wire = self._open_wire()
        self._opened = trio.current_time()
        self._refusal = None
        reason: Exception = ConnectionLost("closed by this side")
        try:
            with trio.CancelScope() as self._reading:
                reason = await self._read(transport, wire)
        except _ConnectionOver as over:
            reason = over.reason
        finally:
            self._lose()
            await transport.aclose()
        refusal: Exception | None = self._refusal  # by a task that took items
        self._refusal = None
        return reason if refusal is None else refusal

    async def _read(self, transport: Transport, wire: FeedClient) -> Exception:
        """Read to the end, and have everything taken that came. Returns how it has ended."""
        seconds = math.inf if self._answer_timeout is None else self._answer_timeout
        with trio.move_on_after(seconds) as patience:
            with _translating():
                await transport.send(wire.subscribe(self._name))
            self._is_open = True
            if self._answer_timeout is None:
                self._begun = True
                self.set_connected()
            while data := await self._receive(transport):
                patience.deadline = math.inf
                wire.receive_data(data)
                await self._hand_out(wire, _READ_AHEAD)
            patience.deadline = math.inf
            self._lose()
            await self._hand_out(wire, 0)
            silent = not wire.answered and self._answer_timeout is not None
            return ConnectionLost(_NOTHING_SAID if silent else "closed by the server")
        return ConnectionLost(f"no answer within {seconds} s")

    async def _receive(self, transport: Transport) -> bytes:
        with _translating():
            return await transport.receive()

    def _lose(self) -> None:
        self._is_open = False
        self.connected.value = False

    async def _hand_out(self, wire: FeedClient, enough: int) -> None:
        """Take what has come; or have it taken, until at most `enough` bytes are left."""
        taken = 0
        while True:
            if not self._taken_over:
                if self._take_one(wire) is None:
                    break
                taken += 1
                if taken % _ITEMS_AT_A_STRETCH == 0:
                    await trio.lowlevel.checkpoint()
            elif wire.has_line and wire.buffered > enough:
                self._changed.unpark_all()
                await self._consumed.park()
            else:
                break
        self._changed.unpark_all()

    def _take_one(self, wire: FeedClient) -> Item | None:
        """Take an item.

        Raises:
            _ConnectionOver: if the server sends what makes no sense.
            Exception: what the code of the user raises, whatever that is.
        """
        try:
            item = self._take(wire)
        except RemoteProtocolError as error:
            if not wire.is_closed:
                raise  # from somewhere else
            raise _ConnectionOver(error) from error
        self._begun = self._begun or self.connected.value
        return item

    @trio.lowlevel.enable_ki_protection
    async def _take_leftovers(self) -> None:
        """Take what is left when nobody takes items any more: the reader only does so with the next data."""
        while True:
            await self._released.park()
            while not self._taken_over and self._take_or_refuse() is not None:
                await trio.lowlevel.checkpoint()

    def _report_outage(self, error: Exception) -> None:
        if not self._outage_reported:
            self._logger.warning("%s: %r: %s; trying again", self._peer, self._name, _message(error))
            self._outage_reported = True

    def _end(self, error: Exception) -> None:
        if self.error is not None:
            return
        if isinstance(error, TrionetError):
            error = type(error)(error.message, CallInfo(self._peer, self._name))
        self.error = error
        self._changed.unpark_all()
        self._on_end(error)

    # -- for those who take items ----------------------------------------------------------------------

    def set_connected(self) -> None:
        """What was asked for is coming. Called by `take`, unless the server need not answer."""
        if self._outage_reported:
            self._logger.warning("%s: %r: connected again", self._peer, self._name)
            self._outage_reported = False
        self.connected.value = True
        self._changed.unpark_all()

    def is_current(self, wire: FeedClient) -> bool:
        """Whether this is the state machine of a connection that is not lost yet."""
        return wire is self._wire and self._is_open

    async def wait_begun(self) -> None:
        """Wait until what was asked for has come for the first time.

        Raises:
            Exception: `error`, if it will not.
        """
        while not self._begun:
            if self.error is not None:
                raise self.error
            await self._changed.park()

    def take_over(self) -> None:
        """From now on items are taken with `next_item` only; who does not take them stops the feed.

        Raises:
            trio.BusyResourceError: if somebody else does so.
        """
        if self._taken_over:
            raise trio.BusyResourceError(f"somebody else is taking the items of {self._name!r}")
        self._taken_over = True

    def release(self) -> None:
        """The opposite of `take_over`. In any thread: the garbage collector may call it."""
        self._taken_over = False
        if _is_current(self._token):
            self._wake_released()
        elif self._token is not None:
            with contextlib.suppress(trio.RunFinishedError):
                self._token.run_sync_soon(self._wake_released)

    def _wake_released(self) -> None:
        self._consumed.unpark_all()
        self._released.unpark_all()

    async def next_item(self) -> Item:
        """Wait for the next item.

        Raises:
            Exception: `error`, once all items have been taken; and what `take` raises.
        """
        self._at_a_stretch += 1
        if self._at_a_stretch < _ITEMS_AT_A_STRETCH:
            await trio.lowlevel.checkpoint_if_cancelled()
        else:
            self._at_a_stretch = 0
            await trio.lowlevel.checkpoint()
        while True:
            item = self._take_or_refuse()
            if item is not None:
                self._consumed.unpark_all()
                return item
            if self.error is not None:
                raise self.error
            self._at_a_stretch = 0
            await self._changed.park()

    def _take_or_refuse(self) -> Item | None:
        if self._wire is None:
            return None
        try:
            return self._take_one(self._wire)
        except _ConnectionOver as over:
            self._refusal = over.reason
            self._reading.cancel()
            return None


_NOTHING_SAID: Final = (
    "closed by the server without an answer: it has nothing of this name, or speaks another protocol"
)


def _is_current(token: trio.lowlevel.TrioToken | None) -> bool:
    """Whether this is called in the run of Trio that the token belongs to."""
    try:
        return trio.lowlevel.current_trio_token() is token
    except RuntimeError:
        return False


def _message(error: Exception) -> str:
    return error.message if isinstance(error, TrionetError) else str(error)
