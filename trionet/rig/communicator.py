"""Talking to rigs, and being one."""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypedDict, Unpack

import trio

from trionet._server import Address
from trionet._transport import format_address
from trionet.rig._endpoint import Endpoint, RigStatistics
from trionet.rig._limited_log import LimitedLog
from trionet.rig._peer import ECHO_TIMEOUT, Peer
from trionet.rig.alyx import AlyxClient, AlyxToken, alyx_message
from trionet.rig.events import MAX_BACKLOG, EventCallback, EventDispatcher, RigEvent, RigEvents
from trionet.wire.errors import TrionetError
from trionet.wire.rig import Incoming
from trionet.wire.rig_messages import (
    ERROR,
    PING,
    ExpMessage,
    ExpStatus,
    Message,
    encode_answer,
    encode_message,
    error_message,
    start_message,
)
from trionet.wire.rig_uri import RigURI

logger = logging.getLogger("trionet.rig")

#: All events at once.
ANY_EVENT: Final = ExpMessage.any()

#: Messages whose asynchronous callbacks may run at the same time by default.
MAX_RUNNING_CALLBACKS: Final = 100


_SEND_OPTIONS: Final = frozenset({"address", "echo_timeout", "attempts"})


class SendOptions(TypedDict, total=False):
    """What every method that sends a message takes as well.

    Attributes:
        address: Host and port to send to. Needed by a listener, which talks to many; the address of an
            event is where an answer goes.
        echo_timeout: Seconds to wait for the echo, for each attempt.
        attempts: How often to send the message until its echo comes.
    """

    address: Address | None
    echo_timeout: float | None
    attempts: int | None


@dataclass(frozen=True, slots=True)
class Settings:
    """How a communicator sends and receives, see `open_rig_communicator`.

    Raises:
        ValueError: if a value is out of range.
    """

    echo_timeout: float = ECHO_TIMEOUT
    attempts: int = 1
    dedup_window: float = 0.0
    max_running_callbacks: int = MAX_RUNNING_CALLBACKS
    logger: logging.Logger = logger

    def __post_init__(self) -> None:
        _check_sending(self.echo_timeout, self.attempts)
        if not 0 <= self.dedup_window < math.inf:
            raise ValueError(f"the dedup window is a number of seconds from 0, not {self.dedup_window}")
        if self.max_running_callbacks < 1:
            raise ValueError(f"at least one callback must be able to run, not {self.max_running_callbacks}")


def _check_sending(echo_timeout: float, attempts: int) -> None:
    if not echo_timeout > 0:
        raise ValueError(f"the timeout of an echo must be more than 0 s, not {echo_timeout}")
    if attempts < 1:
        raise ValueError(f"there must be at least one attempt, not {attempts}")


class RigCommunicator:
    """One end of the exchange of experiment messages, from `open_rig_communicator` or `open_rig_listener`.

    The methods that send a message return when its echo has come: the other side has received it, no more.
    Each takes the `SendOptions` as keywords. They may be called by several tasks: messages to different
    addresses are under way at the same time, those to one address one after the other, in the order of the
    calls. They raise

    - `EchoTimeout` (a TimeoutError) if no echo has come. The message may have arrived all the same; the
      echo is not mistaken for anything else when it comes late. The communicator goes on.
    - OSError if the system says that nobody is there, such as ConnectionRefusedError; `ConnectionLost` for
      TCP. With attempts left, it is tried again all the same.
    - `LocalProtocolError` for a message that is too long, or that nobody echoes; TypeError for data that JSON
      cannot carry.
    - trio.ClosedResourceError when the communicator is closed.

    Cancelled, a message may have arrived or not; the next one is not affected. A TCP communicator connects
    anew for the next message when its connection is lost.

    Attributes:
        name: What it is called in messages and events.
        uri: Where the rig is, or where it listens; a host name has been looked up, but for TCP clients.
        cancel_scope: Cancel it to end the block at once.
        echo_timeout: Seconds to wait for an echo, unless a method is told otherwise. May be changed.
        on_refused: A function that is called with the OSError by which the system reports that a message over
            UDP has not arrived, one without confirmation, too, such as ConnectionRefusedError; it must not
            raise. None, the default, ignores that. Listeners are not told by their systems.
    """

    def __init__(
        self, name: str, uri: RigURI, remote: Address | None, settings: Settings, nursery: trio.Nursery
    ) -> None:
        self.name = name
        self.uri = uri
        self.cancel_scope = nursery.cancel_scope
        self.echo_timeout = settings.echo_timeout
        self.on_refused: Callable[[OSError], object] | None = None
        self._remote = remote
        self._settings = settings
        self._dispatcher = EventDispatcher(nursery, self._report, settings.max_running_callbacks)
        self._reports = LimitedLog(settings.logger, name)
        self._endpoint: Endpoint

    @trio.lowlevel.enable_ki_protection  # Ctrl-C is for the program, not for tasks that it does not see
    async def _run(self, endpoint: Endpoint, task_status: trio.TaskStatus[None]) -> None:
        """Send and receive through an endpoint until cancelled."""
        self._endpoint = endpoint
        try:
            await endpoint.run(task_status)
        finally:
            self._dispatcher.close()
            self._reports.flush()

    @property
    def addresses(self) -> tuple[Address, ...]:
        """Host and port of this side, for each address it listens on; a TCP client has none to tell."""
        return self._endpoint.addresses

    @property
    def port(self) -> int:
        """The port of the first address."""
        return self._endpoint.addresses[0][1]

    @property
    def is_connected(self) -> bool:
        """Whether there is somebody to send to, as far as this side can know.

        Over UDP until it is closed. Over TCP while there is a connection: a client makes a new one for the
        next message, a listener may get one.
        """
        return self._endpoint.connected

    def statistics(self) -> RigStatistics:
        """What has come and gone so far."""
        return self._endpoint.statistics()

    # Sending

    async def init(self, data: Any = None, **options: Unpack[SendOptions]) -> None:
        """Tell the rig to get ready."""
        await self.confirmed_send([ExpMessage.EXPINIT, data], **options)

    async def start(
        self,
        exp_ref: str | Mapping[str, Any] | None,
        data: Any = None,
        **options: Unpack[SendOptions],
    ) -> None:
        """Tell the rig to start.

        Args:
            exp_ref: Reference of the experiment: ``date_sequence_subject``, or a mapping with these keys.
            data: Whatever else it should know.
            **options: See `SendOptions`.

        Raises:
            ValueError: if a key of the mapping is missing.
        """
        await self.confirmed_send(start_message(exp_ref, data), **options)

    async def stop(self, data: Any = None, immediately: bool = False, **options: Unpack[SendOptions]) -> None:
        """Tell the rig to stop: at the next good moment, or immediately."""
        event = ExpMessage.EXPINTERRUPT if immediately else ExpMessage.EXPEND
        await self.confirmed_send([event, data], **options)

    async def cleanup(self, data: Any = None, **options: Unpack[SendOptions]) -> None:
        """Tell the rig to clean up after the experiment."""
        await self.confirmed_send([ExpMessage.EXPCLEANUP, data], **options)

    async def status(self, status: ExpStatus | int | str, **options: Unpack[SendOptions]) -> None:
        """Tell how far this side is. ValueError if there is no such status."""
        await self.confirmed_send([ExpMessage.EXPSTATUS, ExpStatus.validate(status)], **options)

    async def info(
        self, status: ExpStatus | int | str, data: Any = None, **options: Unpack[SendOptions]
    ) -> None:
        """Tell how far this side is, and more. ValueError if there is no such status."""
        await self.confirmed_send([ExpMessage.EXPINFO, ExpStatus.validate(status), data], **options)

    async def alyx(
        self, client: AlyxClient | None = None, **options: Unpack[SendOptions]
    ) -> AlyxToken | None:
        """Send the token of a client that is logged in; otherwise ask the rig for one and wait for it.

        Args:
            client: A client of the Alyx database: anything with the attributes of `AlyxClient`.
            **options: See `SendOptions`.

        Returns:
            None if a token was sent; else the token that has come. There is no limit to the wait for it.

        Raises:
            RemoteError: if a callback of the rig for the request has failed.
        """
        message = alyx_message(client)
        if message[-1]:
            await self.confirmed_send(message, **options)
            return None
        peer = await self._find_peer(options.get("address"))
        with self.open_events(ExpMessage.ALYX, errors=True) as events:
            await self.confirmed_send(message, **options)
            while True:
                answer = await events.receive_answer(ExpMessage.ALYX, peer.address)
                if len(answer.data) == 2:
                    return AlyxToken(*answer.data)

    async def ping(self, **options: Unpack[SendOptions]) -> None:
        """Send what a rig confirms and does nothing about, to see whether it is there.

        It also tells a trionet rig that it may answer without a pause behind its echoes; it makes one for
        upstream's sake, 5 ms over UDP and 20 ms over TCP.
        """
        await self.confirmed_send(PING, **options)

    async def respond(self, event: RigEvent, *data: Any, **options: Unpack[SendOptions]) -> None:
        """Answer an event: with a message of the same event to its sender, as `RigServices` awaits it.

        Args:
            event: What is answered.
            *data: What follows the event in the message; None without any. It is sent without blanks: even an
                answer that says the same as its question does not have the same bytes, and so is not taken
                for an echo.
            **options: See `SendOptions`.
        """
        options.setdefault("address", event.address)
        await self._confirmed_send(encode_answer([event.event, *(data or (None,))]), options)

    async def confirmed_send(self, message: Message | str | bytes, **options: Unpack[SendOptions]) -> None:
        """Send any message and wait for its echo.

        Args:
            message: The event and the data, as a list; text and bytes are sent as they are.
            **options: See `SendOptions`.
        """
        await self._confirmed_send(encode_message(message), options)

    async def _confirmed_send(
        self,
        data: bytes,
        options: SendOptions,
        begun: trio.Event | None = None,
    ) -> None:
        if unknown := options.keys() - _SEND_OPTIONS:
            raise TypeError(
                f"there is no option {', '.join(sorted(unknown))}, but {', '.join(sorted(_SEND_OPTIONS))}"
            )
        echo_timeout = options.get("echo_timeout")
        if echo_timeout is None:
            echo_timeout = self.echo_timeout
        attempts = options.get("attempts")
        if attempts is None:
            attempts = self._settings.attempts
        _check_sending(echo_timeout, attempts)
        peer = await self._find_peer(options.get("address"))
        await peer.send_confirmed(data, echo_timeout, attempts, begun)

    async def send(self, message: Message | str | bytes, *, address: Address | None = None) -> None:
        """Send a message without waiting for its echo; nothing tells whether it has arrived."""
        data = encode_message(message)
        peer = await self._find_peer(address)
        await peer.send(data)

    async def _find_peer(self, address: Address | None) -> Peer:
        if self._endpoint.closed:
            raise trio.ClosedResourceError("the communicator is closed")
        return await self._endpoint.find_peer(address)

    def _refused(self, error: OSError) -> None:
        if self.on_refused is not None:
            self.on_refused(error)

    # Receiving

    async def wait_event(self, mask: ExpMessage | int | str = ANY_EVENT) -> RigEvent:
        """Wait for the next event of a mask.

        What comes between two calls is missed: use `open_events` for more than one.

        Args:
            mask: Events, combined with ``|``; 0 for reports that a callback over there has failed.

        Raises:
            trio.ClosedResourceError: when the communicator is closed meanwhile.
        """
        with self.open_events(mask) as events:
            return await events.receive()

    @contextlib.contextmanager
    def open_events(
        self,
        mask: ExpMessage | int | str = ANY_EVENT,
        *,
        errors: bool = False,
        max_backlog: int = MAX_BACKLOG,
    ) -> Iterator[RigEvents]:
        """A stream of all events of a mask that come during the block, for ``async for``.

        Args:
            mask: As for `wait_event`.
            errors: Reports that a callback over there has failed come as well. And `receive` raises
                `ConnectionLost` when the connection of a TCP client was lost; otherwise the stream just
                waits for it to be made again, by the next message that is sent.
            max_backlog: Events that may wait to be read. When there would be more, reading raises
                `EventsLost` after those: an experiment must not miss its end in silence.

        Raises:
            trio.ClosedResourceError: if the communicator is closed.
        """
        with self._dispatcher.open_events(ExpMessage.validate(mask), errors, max_backlog) as events:
            yield events

    def assign_callback(self, event: ExpMessage | int | str, callback: EventCallback) -> None:
        """Have a function called with each event of a mask.

        Callbacks of an event are called in the order in which they were assigned. What one returns is awaited
        if it can be, in a task of its own, so that a callback may take its time and send messages: events
        that come meanwhile are delivered. A function that is not async holds up everything while it runs.

        If one raises, the sender of the event gets a report and the remaining ones are not called.

        Args:
            event: As for `wait_event`.
            callback: Takes a `RigEvent`.

        Raises:
            TypeError: if it cannot be called.
        """
        self._dispatcher.assign_callback(ExpMessage.validate(event), callback)

    def clear_callbacks(
        self, event: ExpMessage | int | str = ANY_EVENT, callback: EventCallback | None = None
    ) -> int:
        """Call functions no more for the events of a mask. Those that are running go on.

        Args:
            event: As for `wait_event`.
            callback: Only this one; else all of them.

        Returns:
            How many assignments that has changed.
        """
        return self._dispatcher.clear_callbacks(ExpMessage.validate(event), callback)

    def _deliver(self, incoming: Incoming, address: Address) -> None:
        if incoming.event == ERROR:
            text, event = incoming.data
            self._reports.warning(
                "%s: a callback for %s has failed at %s: %s",
                self.name,
                _event_name(event),
                format_address(address),
                text,
            )
        self._dispatcher.dispatch(RigEvent(incoming.event, incoming.data, address, self.name))

    async def _report(self, event: RigEvent, error: Exception) -> None:
        """Tell the sender of an event that a callback for it has failed; nobody confirms that."""
        what, sender = event.event.name or "an error", format_address(event.address)
        self._reports.error("%s: a callback for %s from %s failed", self.name, what, sender, exc_info=error)
        if event.event == ERROR:
            return  # a report about a report might go on for ever
        try:
            message = error_message(error, event.event)
            await self.send(message, address=event.address if self._remote is None else None)
        except (TrionetError, OSError, trio.ClosedResourceError) as failure:
            self._reports.warning("%s: %s was not told: %s", self.name, sender, failure)


def _event_name(event: Any) -> str:
    """The name of an event that somebody has sent."""
    try:
        return ExpMessage.validate(event, allow_bitwise=False).name or str(event)
    except (TypeError, ValueError):
        return repr(event)
