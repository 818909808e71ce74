"""The objects of one server: those that were published, and those that clients have proxies to.

What is done with a request, from its options to the frame of its reply, without any waiting. A request is
prepared where it arrives, so that its references are looked up in the order of the requests; then it is
executed, maybe in another thread, where its result is written, too: nobody else changes it meanwhile.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, MutableMapping
from typing import Any, Final, Protocol

from trionet.objects._access import Access
from trionet.objects._access import GiveBack as GiveBack
from trionet.objects._access import PassedOn as PassedOn
from trionet.objects._descriptions import (
    ObjectDescription,
    describe,
    pack_description,
    pack_descriptions,
    type_name,
)
from trionet.wire.errors import CallInfo, ConnectionLost
from trionet.wire.object_references import ObjectTable
from trionet.wire.object_values import (
    SERIALIZERS,
    ProxyReference,
    Refer,
    is_sent_by_value,
    read_reference,
)
from trionet.wire.objects import (
    ObjectRequest,
    encode_failure,
    encode_result,
    pack_failure,
    parse_options,
)

# Modules whose frames say nothing to a client at the beginning of a traceback.
_OWN_MODULES: Final = ("trionet.", "trio.", "outcome.", "importlib.")


# Short cuts for what most results are.
_NEVER_PROXIES: Final = frozenset({type(None), bool, float, str})
_SMALL: Final = range(-(1 << 63), 1 << 63)
_PLAIN: Final = {name: kind() for name, kind in SERIALIZERS.items()}


class Holder(Protocol):
    """Who gets references: a client of the server, or a server that this process is a client of."""

    @property
    def name(self) -> str:
        """How to call it in messages."""

    @property
    def server_address(self) -> str:
        """Our address, as it can reach us."""

    @property
    def receiver(self) -> str:
        """Its own address, if it is a server."""

    @property
    def give_back(self) -> GiveBack | None:
        """Gives references of its own back to it, if it is a server."""

    def resolve_foreign(self, reference: ProxyReference) -> Any:
        """What stands for an object of another server."""


class _Located:
    """An object that a call is for, and the attribute of it."""

    __slots__ = ("names", "value")

    def __init__(self, value: Any, names: tuple[str, ...]) -> None:
        self.value = value
        self.names = names


class _Reader:
    """Reads the options of a request. Attributes of ours that occur in them are not looked up at once."""

    __slots__ = ("_has_located", "_holder", "_host", "_serializer", "options")

    def __init__(self, host: ObjectHost, request: ObjectRequest, holder: Holder) -> None:
        self._host = host
        self._holder = holder
        self._serializer = SERIALIZERS[request.serializer](resolve=self._resolve)
        self._has_located = False
        self.options = parse_options(self._serializer, request)

    def revive(self, plain: Any) -> Any:
        """Make objects of what was parsed; call `complete` before it is used."""
        return self._serializer.revive(plain)

    def target(self) -> _Located:
        """What the request is for."""
        plain = _need(self.options, "obj", object)
        reference = read_reference(plain)
        if reference is None or reference.address not in self._host.addresses:
            return _Located(self.revive(plain), ())
        return _Located(self._host._use(reference, self._holder), reference.attributes)

    def complete(self, value: Any) -> Any:
        """Look up the attributes, too: it may be code of the objects that does that."""
        return self._complete(value) if self._has_located else value

    def _resolve(self, reference: ProxyReference) -> Any:
        if reference.address not in self._host.addresses:
            return self._holder.resolve_foreign(reference)
        value = self._host._use(reference, self._holder)
        if not reference.attributes and type(value) not in (list, dict):  # nor is that gone into
            return value
        self._has_located = True
        return _Located(value, reference.attributes)

    def _complete(self, value: Any) -> Any:
        if type(value) is _Located:
            return self._host.access.look_up(value.value, value.names)
        if type(value) is list:
            return [self._complete(item) for item in value]
        if type(value) is dict:
            return {key: self._complete(item) for key, item in value.items()}
        return value


class ObjectHost:
    """The objects of one server.

    Attributes:
        namespace: What is published, by names.
        access: What clients may do.
        addresses: Our own, as clients know them.
        close: Called when a client ends the server.
        discard: Called with a list of objects that nobody has a proxy to any more. It may empty it later, in
            another thread: wherever that happens, the objects may be deleted.
    """

    def __init__(self, namespace: MutableMapping[str, Any], access: Access, max_proxies: int) -> None:
        self.namespace = namespace
        self.access = access
        self.addresses: set[str] = set()
        self.close: Callable[[Holder], None] = lambda caller: None
        self.discard: Callable[[list[Any]], None] = list.clear
        self._max_proxies = max_proxies
        self._table = ObjectTable()
        self._holders: set[Holder] = set()
        # Results may be written in other threads. Taken again by the garbage collector, which may delete what
        # makes calls of its own.
        self._lock = threading.RLock()

    @property
    def objects(self) -> int:
        """How many objects clients have proxies to."""
        with self._lock:  # those of a holder that has gone are released together
            return self._table.objects

    def admit(self, holder: Holder) -> None:
        """From now on a holder may get references."""
        self._holders.add(holder)

    def release_all(self, holder: Holder) -> None:
        """A holder has gone. It gets no references any more."""
        with self._lock:
            self._holders.discard(holder)
            dropped = self._table.release_all(holder)
        self.discard(dropped)  # not with the lock: what an object does at its end may take long

    def _release(self, numbers: tuple[int, int], holder: Holder) -> None:
        with self._lock:
            dropped = self._table.release(*numbers, holder)
        self.discard(dropped)

    def resolve(self, reference: ProxyReference, holder: Holder) -> Any:
        """What a reference stands for that has come from a holder.

        Raises:
            KeyError: if it is none of ours any more.
            AttributeError: if it has no such attribute. PermissionError: if that is nothing for clients.
        """
        if reference.address not in self.addresses:
            return holder.resolve_foreign(reference)
        return self.access.look_up(self._use(reference, holder), reference.attributes)

    def _use(self, reference: ProxyReference, holder: Holder) -> Any:
        with self._lock:
            self._check_present(holder)
            if not self._table.is_held(reference.object_id, reference.reference_id, holder):
                self._check_room(holder)
            return self._table.use(reference.object_id, reference.reference_id, holder)

    @contextlib.contextmanager
    def referring(self, holder: Holder, *, lending: bool = False) -> Iterator[Refer]:
        """Makes references for one message; if it cannot be written, they are released again.

        Args:
            holder: Who gets them.
            lending: Whether the holder never releases them: then it is given those again that it has.
        """
        made: list[tuple[int, int]] = []

        def refer(value: Any) -> ProxyReference:
            return self._refer(value, holder, lending, made)

        try:
            yield refer
        except BaseException:
            for numbers in made:
                with contextlib.suppress(KeyError):  # the holder has gone meanwhile
                    self._release(numbers, holder)
            raise

    def refer(self, value: Any, holder: Holder) -> ProxyReference:
        """A new reference to an object, for a holder."""
        return self._refer(value, holder, False, [])

    def _refer(
        self, value: Any, holder: Holder, lending: bool, made: list[tuple[int, int]]
    ) -> ProxyReference:
        if isinstance(value, PassedOn):
            return value._refer(holder.receiver, holder.give_back)
        with self._lock:
            self._check_present(holder)
            numbers = self._table.lent(value, holder) if lending else None
            if numbers is None:
                self._check_room(holder)
                numbers = (self._table.lend if lending else self._table.add)(value, holder)
                made.append(numbers)
        return ProxyReference(holder.server_address, *numbers, str(type(value)))

    def _check_room(self, holder: Holder) -> None:
        if self._table.held_by(holder) >= self._max_proxies:
            raise RuntimeError(
                f"{holder.name} has {self._max_proxies} proxies, and gets no more: it should drop those"
                " that it does not need, or the server have a larger max_proxies"
            )

    def _check_present(self, holder: Holder) -> None:
        if holder not in self._holders:
            raise ConnectionLost("it has gone", CallInfo(holder.name))

    def prepare(self, request: ObjectRequest, holder: Holder) -> Callable[[], Any]:
        """Read what a request asks for.

        Returns:
            A function that does it, and returns the result.

        Raises:
            Exception: whatever is wrong with it.
        """
        if request.serializer not in SERIALIZERS:
            known = ", ".join(SERIALIZERS)
            raise ValueError(f"unknown serializer {request.serializer!r}, there are: {known}")
        action = _ACTIONS.get(request.action)
        if action is None:
            raise ValueError(f"unknown action {request.action!r}")
        return action(self, request, holder)

    def finish(self, request: ObjectRequest, holder: Holder, value: Any) -> bytes | None:
        """The frame that answers a request with its result; None if it wants no answer.

        Raises:
            Exception: if the result cannot be written.
        """
        if not request.wants_reply:
            return None
        as_proxy = request.return_type == "proxy"
        if not as_proxy and (type(value) in _NEVER_PROXIES or (type(value) is int and value in _SMALL)):
            return encode_result(_PLAIN[request.serializer], request.number, value)
        with self.referring(holder) as refer:
            serializer = SERIALIZERS[request.serializer](refer)
            if as_proxy or (request.return_type == "auto" and not is_sent_by_value(value)):
                value = refer(value)
            return encode_result(serializer, request.number, value)

    def fail(self, request: ObjectRequest, holder: Holder, error: BaseException) -> bytes:
        """The frame that answers a request with an exception."""
        failure = pack_failure(error, holder.name, request.number, hide=_OWN_MODULES)
        return encode_failure(SERIALIZERS[request.reply_serializer](), request.number, failure)

    def _ping(self, request: ObjectRequest, holder: Holder) -> Callable[[], Any]:
        return lambda: "pong"

    def _clock(self, request: ObjectRequest, holder: Holder) -> Callable[[], Any]:
        return time.perf_counter

    def _get_item(self, request: ObjectRequest, holder: Holder) -> Callable[[], Any]:
        name = _need(_Reader(self, request, holder).options, "name", str)
        return lambda: self.namespace[name]

    def _set_item(self, request: ObjectRequest, holder: Holder) -> Callable[[], Any]:
        reader = _Reader(self, request, holder)
        name = _need(reader.options, "name", str)
        self.access.check_set_item(name)
        value = reader.revive(_need(reader.options, "obj", object))
        return lambda: self.namespace.__setitem__(name, reader.complete(value))

    def _get_obj(self, request: ObjectRequest, holder: Holder) -> Callable[[], Any]:
        return self._looking_up(_Reader(self, request, holder))

    def _describe(self, request: ObjectRequest, holder: Holder) -> Callable[[], Any]:
        look_up = self._looking_up(_Reader(self, request, holder))
        return lambda: pack_description(self._described(look_up()))

    def _looking_up(self, reader: _Reader) -> Callable[[], Any]:
        target = reader.target()
        return lambda: self.access.look_up(reader.complete(target.value), target.names)

    def _published(self, request: ObjectRequest, holder: Holder) -> Callable[[], Any]:
        def look() -> Any:
            published = dict(self.namespace)  # others may publish more while these are described
            return pack_descriptions({name: self._described(value) for name, value in published.items()})

        return look

    def _described(self, value: Any) -> ObjectDescription:
        if isinstance(value, PassedOn):  # that is for its owner to say
            return ObjectDescription(type_name(type(value)))
        return describe(value, self.access)

    def _call_obj(self, request: ObjectRequest, holder: Holder) -> Callable[[], Any]:
        reader = _Reader(self, request, holder)
        target = reader.target()
        args = reader.revive(_need(reader.options, "args", list, []))
        kwargs = reader.revive(_need(reader.options, "kwargs", dict, {}))
        return lambda: self.access.call(
            target.value, target.names, reader.complete(args), reader.complete(kwargs)
        )

    def _import(self, request: ObjectRequest, holder: Holder) -> Callable[[], Any]:
        name = _need(_Reader(self, request, holder).options, "module", str)
        return lambda: self.access.import_module(name)

    def _delete(self, request: ObjectRequest, holder: Holder) -> Callable[[], Any]:
        options = _Reader(self, request, holder).options
        numbers = _need(options, "obj_id", int), _need(options, "ref_id", int)
        self._release(numbers, holder)
        return lambda: None

    def _close(self, request: ObjectRequest, holder: Holder) -> Callable[[], Any]:
        self.access.check_close()

        def close() -> bool:
            self.close(holder)
            return True

        return close


# By their names on the wire. `clock`, `describe` and `published` are trionet's own.
_ACTIONS: Final[dict[str, Callable[[ObjectHost, ObjectRequest, Holder], Callable[[], Any]]]] = {
    "ping": ObjectHost._ping,
    "clock": ObjectHost._clock,
    "get_item": ObjectHost._get_item,
    "set_item": ObjectHost._set_item,
    "get_obj": ObjectHost._get_obj,
    "describe": ObjectHost._describe,
    "published": ObjectHost._published,
    "call_obj": ObjectHost._call_obj,
    "import": ObjectHost._import,
    "delete": ObjectHost._delete,
    "close": ObjectHost._close,
}
_IMMEDIATE: Final = frozenset({"ping", "clock", "close"})


def is_immediate(request: ObjectRequest) -> bool:
    """Whether a request has nothing to do with the objects themselves: such a one waits for nobody.

    Who waits for the end of a reference wants to know that the object has gone, wherever objects are deleted.
    """
    return request.action in _IMMEDIATE or (request.action == "delete" and not request.wants_reply)


def _need(options: dict[str, Any], key: str, kind: type, default: Any = None) -> Any:
    """An option of a request."""
    if key not in options and default is None:
        raise TypeError(f"the option {key!r} is missing")
    value = options.get(key)
    if value is None and default is not None:
        return default
    if not isinstance(value, kind):
        raise TypeError(f"the option {key!r} must be a {kind.__name__}, not {type(value).__name__}")
    return value
