"""Following a published structure: a copy of it that is kept equal."""

from __future__ import annotations

import contextlib
import inspect
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

import trio
from outcome import Error, Value
from trio_util import AsyncBool

from trionet._backoff import FIRST_RETRY, MAX_RETRY, Backoff
from trionet._connect import CONNECT_TIMEOUT, connector
from trionet._feeds import FeedReader
from trionet._tasks import call_of_program
from trionet._tls import TLSConfig
from trionet._transport import Transport, format_address
from trionet.wire.feeds import FeedClient, PyonVersion
from trionet.wire.lines import MAX_MESSAGE_SIZE
from trionet.wire.sync_struct import Mod, SubscriberConnection, apply_mod, cannot_apply

logger = logging.getLogger("trionet.sync_struct")

#: Seconds that a publisher may take by default until it begins to send the structure.
ANSWER_TIMEOUT: Final = 60.0


class Subscription:
    """A structure that is published elsewhere, as it is now. Made by `open_subscription`.

    Three ways to follow it: look at `value` whenever it is needed; `wait_value` for a condition; or iterate
    over the changes, ``async for mod in subscription``. A mod is a dict, see `trionet.apply_mod`.

    While a loop iterates, `value` is what the mod in hand has made of it, neither older nor newer: the next
    mod is taken when the loop asks for it. So a loop that stops asking stops the subscription, and in the
    end the publisher leaves out what came in between: an ``init`` mod with the whole structure is next then.
    When the loop is left, the subscription goes on by itself.

    Attributes:
        connected: Whether `value` is up to date. ``await subscription.connected.wait_value(False)`` waits
            for an outage. Read it, do not set it.
        peer: The publisher's address.
        name: What was subscribed to.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[Transport]],
        *,
        peer: str,
        name: str,
        build: Callable[[Any], Any],
        on_mod: Callable[[Mod], object] | None,
        backoff: Backoff | None,
        pyon_version: PyonVersion | None,
        answer_timeout: float,
        max_message_size: int,
    ) -> None:
        for function in (build, on_mod):
            if inspect.iscoroutinefunction(function):
                raise TypeError("build and on_mod must be ordinary functions, not async ones")
        self.peer = peer
        self.name = name
        self._build = build
        self._on_mod = on_mod
        self._value: Any = None
        self._waiting: dict[trio.lowlevel.Task, Callable[[Any], object]] = {}
        self._reader = FeedReader[Mod](
            connect,
            lambda: SubscriberConnection(max_message_size, pyon_version),
            self._take,
            name=name,
            peer=peer,
            backoff=backoff,
            answer_timeout=answer_timeout,
            logger=logger,
            on_end=self._fail_waiting,
        )
        self.connected: AsyncBool = self._reader.connected

    def running(self) -> contextlib.AbstractAsyncContextManager[None]:
        """The block that `open_subscription` gives, for those who bring their own connection."""
        return self._reader.running()

    @property
    def value(self) -> Any:
        """What `build` made of the structure, kept up to date in place; a new one with each ``init``.

        While the connection is lost it is what it was then: see `stale`.
        """
        return self._value

    @property
    def stale(self) -> bool:
        """Whether `value` may be out of date, because the connection is lost."""
        return not self.connected.value

    async def wait_value(self, predicate: Callable[[Any], object]) -> Any:
        """Wait until the value is up to date and `predicate` is true of it.

        Args:
            predicate: Called with the value now, and again after each mod, so that no state is missed,
                however short.

        Returns:
            The value. It may have changed since.

        Raises:
            ConnectionLost: without ``reconnect``, if the connection is lost first; RemoteProtocolError
                likewise.
            Exception: what `predicate` raises.
        """
        await trio.lowlevel.checkpoint()
        if self.connected.value and predicate(self._value):
            return self._value
        if self._reader.error is not None:
            raise self._reader.error
        task = trio.lowlevel.current_task()

        def abort(_: object) -> trio.lowlevel.Abort:
            del self._waiting[task]
            return trio.lowlevel.Abort.SUCCEEDED

        self._waiting[task] = predicate
        return await trio.lowlevel.wait_task_rescheduled(abort)

    def __aiter__(self) -> AsyncIterator[Mod]:
        """The mods from now on; see the class.

        Raises:
            trio.BusyResourceError: if another loop iterates over this subscription.

        In the loop:
            ConnectionLost: without ``reconnect``, when the connection is lost. RemoteProtocolError likewise.
            Exception: what `build` and `on_mod` raise.
        """
        return _Mods(self._reader)

    def _fail_waiting(self, error: Exception) -> None:
        waiting, self._waiting = self._waiting, {}
        for task in waiting:
            trio.lowlevel.reschedule(task, Error(error))

    def _take(self, wire: FeedClient) -> Mod | None:
        """Take the next mod and apply it."""
        assert isinstance(wire, SubscriberConnection)
        mod = wire.next_mod()
        if mod is None:
            return None
        if mod["action"] == "init":
            self._value = call_of_program(self._build, mod["struct"])
            if self._reader.is_current(wire):
                self._reader.set_connected()
        else:
            self._apply(wire, mod)
        if self._on_mod is not None:
            call_of_program(self._on_mod, mod)
        if self._waiting and self.connected.value:
            self._wake()
        return mod

    def _apply(self, wire: SubscriberConnection, mod: Mod) -> None:
        try:
            apply_mod(self._value, mod)
        except Exception as error:
            if self._build is not identity:
                raise  # perhaps it is the user's own
            wire.close()
            raise cannot_apply(mod, error) from error

    def _wake(self) -> None:
        """Reschedule those whose condition holds now."""
        for task, predicate in [*self._waiting.items()]:
            try:
                holds = call_of_program(predicate, self._value)
                result: Any = Value(self._value) if holds else None
            except Exception as error:
                result = Error(error)
            # A predicate may have cancelled some of those who wait.
            if result is not None and self._waiting.pop(task, None) is not None:
                trio.lowlevel.reschedule(task, result)


class _Mods(AsyncIterator[Mod]):
    """The mods of a subscription, for one loop. It has the subscription for itself as long as it exists."""

    _reader: FeedReader[Mod] | None = None

    def __init__(self, reader: FeedReader[Mod]) -> None:
        reader.take_over()
        self._reader = reader

    def __anext__(self) -> Awaitable[Mod]:
        # Not an async function: the traceback of what it raises would keep this object, and so the loop.
        assert self._reader is not None
        return self._reader.next_item()

    def __del__(self) -> None:
        # There is no other sign that a loop was left with `break`.
        if self._reader is not None:
            self._reader.release()


def identity(structure: Any) -> Any:
    """The structure itself."""
    return structure


@contextlib.asynccontextmanager
async def open_subscription(
    host: str,
    port: int,
    name: str,
    *,
    build: Callable[[Any], Any] = identity,
    on_mod: Callable[[Mod], object] | None = None,
    reconnect: bool = True,
    first_retry: float = FIRST_RETRY,
    max_retry: float = MAX_RETRY,
    rng: random.Random | None = None,
    pyon_version: PyonVersion | None = None,
    ssl_context: TLSConfig | None = None,
    connect_timeout: float = CONNECT_TIMEOUT,
    answer_timeout: float = ANSWER_TIMEOUT,
    max_message_size: int = MAX_MESSAGE_SIZE,
) -> AsyncIterator[Subscription]:
    """Subscribe to a published structure: ``async with open_subscription("master", 3250, "schedule") as s:``.

    The block begins when the structure has come; with `reconnect`, that may be when the publisher is
    started, and reasons to wait are in the log of ``trionet.sync_struct``. Put it into ``trio.fail_after``
    if it must not wait.

    Args:
        host: Name or address of the publisher.
        port: Its port.
        name: Name of the notifier.
        build: Makes `Subscription.value` out of the structure: called with each ``init``, first of all. What
            it returns must take the mods: see `trionet.apply_mod`. By default it is the structure itself.
        on_mod: Called with each mod, ``init`` included, after `value` has changed. It must be quick, because
            everything else waits.
        reconnect: Connect again whenever the connection is lost, and if there is none at first.
        first_retry: Seconds before the first attempt to connect again, see `max_retry`.
        max_retry: The delay doubles with each attempt, up to these seconds, and is shortened by up to a half
            at random, so that many subscribers do not all come at once.
        rng: The source of that randomness; by default one of its own.
        pyon_version: What the publisher speaks: 2 since sipyco 1.10, 1 before. None to find out, which goes
            wrong only where a v1 text means something else in v2.
        ssl_context: Speak TLS; see `TLSIdentity`.
        connect_timeout: Seconds for the connection, all addresses of the name and TLS included.
        answer_timeout: Seconds until the publisher must have begun to send the structure.
        max_message_size: Longest line accepted, in bytes; a longer one ends the connection. The whole
            structure is one line.

    Raises:
        ValueError: for a `name` that no line can carry, a port that there cannot be, or delays that make no
            sense.
        TypeError: for an async `build` or `on_mod`.
        Exception: what `build` and `on_mod` raise, in the block and after it has been cancelled for that.

    Without `reconnect` also, here and from what waits for mods or values later:
        OSError: if the publisher cannot be reached: ConnectionRefusedError, TimeoutError, ...
        ConnectionLost: if the connection ends. A publisher does so without a word if it has no notifier of
            this name, or if it is no publisher.
        RemoteProtocolError: if it sends what makes no sense, or does not fit the structure.

    With `reconnect`, these are reasons to connect again, and go to the log, once per outage.
    """
    subscription = Subscription(
        connector(host, port, ssl_context=ssl_context, connect_timeout=connect_timeout),
        peer=format_address((host, port)),
        name=name,
        build=build,
        on_mod=on_mod,
        backoff=Backoff(first_retry, max_retry, rng) if reconnect else None,
        pyon_version=pyon_version,
        answer_timeout=answer_timeout,
        max_message_size=max_message_size,
    )
    async with subscription.running():
        yield subscription
