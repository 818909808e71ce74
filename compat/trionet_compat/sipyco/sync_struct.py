"""Structures whose changes reach every subscriber; stands for ``sipyco.sync_struct``."""

from __future__ import annotations

import logging
import math
import ssl
import threading
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Any, cast

import trio

import trionet
from trionet._transport import Transport
from trionet.sync_struct.notifier import ModSink
from trionet.wire.feeds import PyonVersion
from trionet_compat.sipyco._feed_client import MAX_LINE, FeedClient
from trionet_compat.sipyco._serving import FrontEndServer
from trionet_compat.sipyco.tools import AsyncioServer, Host, SimpleSSLConfig

logger = logging.getLogger("sipyco.sync_struct")

#: A change to a structure, see `trionet.apply_mod`.
Mod = trionet.Mod


class ModAction(Enum):
    """What a mod does; its ``"action"`` is the value, a string."""

    init = "init"
    append = "append"
    insert = "insert"
    pop = "pop"
    setitem = "setitem"
    delitem = "delitem"


def process_mod(target: Any, mod: Mod) -> None:
    """Change a structure as a mod says: see `trionet.apply_mod`.

    Args:
        target: A dict or list, a `Notifier`, which publishes the change then, or anything with the methods
            that are needed, such as a Qt model.
        mod: The change. Its values are not copied.

    Raises:
        ValueError: for an action that is not known.
        KeyError: for ``init``, which has no path.
    """
    if isinstance(mod["action"], ModAction):
        mod = {**mod, "action": mod["action"].value}
    trionet.apply_mod(target, mod)


def update_from_dict(target: Any, source: Mapping[Any, Any]) -> None:
    """Change a published dict until it equals another one, member by member: those missing are deleted first.

    Unlike upstream's, it also tells arrays and types apart, and copies what it takes.

    Args:
        target: A `Notifier` that holds a dict.
        source: What it is to become.
    """
    trionet.update_from_dict(cast(trionet.NotifierNode, target), source, nested=False)


class Notifier:
    """A structure of dicts, lists and arrays that can be published; stands for sipyco's class of that name.

    It works as `trionet.Notifier`, so a change that PYON cannot carry is not made while there are
    subscribers. A child stands for its place, not for the object that is there now.

    Args:
        backing_struct: The structure. It is not copied.
        root: For children, the notifier that they are part of.
        path: For children, the keys that lead there.

    Attributes:
        root: The notifier of the whole structure.
        publish: Of a root only: called with each mod when the change has been made; None for nothing. A
            `Publisher` sets it, and so may programs.
    """

    root: Notifier
    publish: Callable[[Mod], object] | None

    def __init__(self, backing_struct: Any, root: Notifier | None = None, path: Sequence[Any] = ()) -> None:
        self._node: trionet.NotifierNode
        if root is None:
            self.root = self
            self.publish = None
            top = trionet.Notifier(backing_struct)
            top.attach(_Publishing(self))
            self._node = top
        else:
            self.root = root
            self._node = root._node
            for key in path:
                self._node = self._node[key]

    @property
    def raw_view(self) -> Any:
        """The structure itself, or that part of it. For reading only."""
        return self._node.raw_view

    def append(self, x: Any) -> None:
        """Append to a list."""
        self._node.append(x)

    def insert(self, i: int, x: Any) -> None:
        """Insert into a list."""
        self._node.insert(i, x)

    def pop(self, i: Any = -1) -> Any:
        """Take a member out of a list, or out of a dict, and return it."""
        return self._node.pop(i)

    def __setitem__(self, key: Any, value: Any) -> None:
        """Set a member: of a dict, list or array, or a slice of the latter two."""
        self._node[key] = value

    def __delitem__(self, key: Any) -> None:
        """Delete a member."""
        del self._node[key]

    def __getitem__(self, key: Any) -> Notifier:
        """The place of a member. LookupError if there is none."""
        child = Notifier.__new__(type(self))
        child.root = self.root
        child._node = self._node[key]
        return child

    __iter__ = None  # or Python would count through the keys 0, 1, 2, ...; use raw_view
    __contains__ = None


class _Publishing:
    """Where the changes of a notifier go: to its attribute ``publish``."""

    def __init__(self, notifier: Notifier) -> None:
        self._notifier = notifier

    def prepare(self, mod: Mod) -> Mod:
        own: Mod = {**mod, "path": list(mod["path"])}  # programs may change it
        if isinstance(self._notifier.publish, _Channel):
            self._notifier.publish.prepare(own)
        return own

    def publish(self, mod: Mod) -> None:
        if self._notifier.publish is not None:
            self._notifier.publish(mod)


class _Channel:
    """What a publisher sets as ``publish`` of a notifier."""

    def __init__(self, publisher: Publisher, notifier: Notifier) -> None:
        self.notifier = notifier
        self.sinks: list[ModSink] = []
        self._publisher = publisher
        self._thread = 0
        self._prepared: tuple[Mod | None, list[Any]] = None, []

    def open(self, sink: ModSink) -> None:
        """From now on, in this thread."""
        self.sinks.append(sink)
        self._thread = threading.get_ident()

    def prepare(self, mod: Mod) -> None:
        """A change is about to be made. What this raises keeps it from being made."""
        if self.sinks and threading.get_ident() != self._thread:
            raise RuntimeError(
                "this is published by the event loop of another thread: "
                "change it there, with loop.call_soon_threadsafe"
            )
        self._prepared = mod, [sink.prepare(mod) for sink in self.sinks]

    def __call__(self, mod: Mod) -> None:
        self._publisher.publish(self.notifier, mod)

    def send(self, mod: Mod) -> None:
        """A change has been made; it need not be the one that was prepared."""
        if self._prepared[0] is not mod:
            self.prepare(mod)
        lines, self._prepared = self._prepared[1], (None, [])
        for sink, line in zip(self.sinks, lines, strict=True):
            sink.publish(line)


class Publisher(FrontEndServer):
    """Publishes notifiers; stands for sipyco's class of that name. See `trionet.serve_publisher`.

    What is different: a subscriber that does not keep up is sent the whole structure again, so what waits
    for it is bounded. A name that is not published is told to the log of ``trionet.sync_struct``.

    Args:
        notifiers: The notifiers by name. Their attribute ``publish`` is set.

    Attributes:
        notifiers: As given.
    """

    _pyon_version: PyonVersion = 2

    def __init__(self, notifiers: Mapping[str, Notifier]) -> None:
        AsyncioServer.__init__(self)
        self.notifiers = notifiers
        self._channels = {id(notifier): _Channel(self, notifier) for notifier in notifiers.values()}
        for channel in self._channels.values():
            channel.notifier.publish = channel

    def publish(self, notifier: Notifier, mod: Mod) -> None:
        """Tell the subscribers of a change that has been made. In the loop's thread.

        Raises:
            TypeError: if there are subscribers, and PYON cannot carry it (ValueError likewise).
        """
        self._channels[id(notifier)].send(mod)

    async def _serve(
        self,
        host: Host,
        port: int,
        context: ssl.SSLContext | None,
        *,
        task_status: trio.TaskStatus[trionet.Publisher],
    ) -> None:
        # Notifiers only to show the structures to new subscribers: nothing is changed through them.
        views = {name: trionet.Notifier(one.raw_view) for name, one in self.notifiers.items()}
        await trionet.serve_publisher(
            views,
            port,
            pyon_version=self._pyon_version,
            handshake_timeout=math.inf,
            host=host,
            ssl_context=context,
            task_status=task_status,
        )

    def _begin(self, handle: trionet.Publisher) -> None:
        for name, notifier in self.notifiers.items():
            self._channels[id(notifier)].open(handle.sink(name))

    def _end(self) -> None:
        for channel in self._channels.values():
            channel.sinks.clear()


class _CallbackFailed(Exception):
    """A callback has raised something, which is in the log: no more is received."""


class Subscriber(FeedClient):
    """Keeps a copy of a published structure; stands for sipyco's class of that name.

    Callbacks run in the loop. `connect` comes back before the structure has come. A publisher that has
    nothing of that name closes the connection.

    Args:
        notifier_name: What to subscribe to.
        target_builder: Called with the structure, each time that the whole comes; gives what to keep equal.
        notify_cb: Called with each mod, ``init`` included, after the change; a function or a list of them.
        disconnect_cb: Called when reception has ended, other than by `close`.

    Attributes:
        notifier_name: As given.
        target_builder: As given.
        notify_cbs: The functions; the very list that was given. What one raises is logged, and ends
            reception.
    """

    _pyon_version: PyonVersion | None = None

    def __init__(
        self,
        notifier_name: str,
        target_builder: Callable[[Any], Any],
        notify_cb: Callable[[Mod], object] | list[Callable[[Mod], object]] | None = None,
        disconnect_cb: Callable[[], object] | None = None,
    ) -> None:
        self.notifier_name = notifier_name
        self.target_builder = target_builder
        if notify_cb is None:
            notify_cb = []
        self.notify_cbs = notify_cb if isinstance(notify_cb, list) else [notify_cb]
        self.disconnect_cb = disconnect_cb

    async def connect(
        self,
        host: str,
        port: int,
        before_receive_cb: Callable[[], object] | None = None,
        ssl_config: SimpleSSLConfig | None = None,
    ) -> None:
        """Connect, and begin to receive.

        Args:
            host: Name or address of the publisher.
            port: Its port.
            before_receive_cb: Called when there is a connection, before anything is sent.
            ssl_config: Speak TLS.

        Raises:
            OSError: if the publisher cannot be reached.
        """
        await self._connect(host, port, ssl_config, before_receive_cb)

    async def _follow(self, transport: Transport) -> None:
        async def connect() -> Transport:
            return transport

        subscription = trionet.Subscription(
            connect,
            peer=transport.peer,
            name=self.notifier_name,
            build=lambda structure: self.target_builder(structure),
            on_mod=self._notify,
            backoff=None,
            pyon_version=self._pyon_version,
            answer_timeout=math.inf,
            max_message_size=MAX_LINE,
        )
        try:
            async with subscription.running():
                await subscription.wait_value(_never)
        except (trionet.ConnectionLost, _CallbackFailed):
            pass

    def _notify(self, mod: Mod) -> None:
        for callback in list(self.notify_cbs):
            try:
                callback(mod)
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as error:  # asyncio.CancelledError is none of ours
                logger.error("Exception in notifier callback", exc_info=True)
                raise _CallbackFailed from error


def _never(target: object) -> bool:
    return False
