"""Proxies: objects of another process in the syntax of Python, as far as that can wait.

`p.a.b` is local: it notes which attribute is meant. A call, an operator or an item is an `ObjectCall`, and
something is sent when that is awaited, started, or sent without reply.
"""

from __future__ import annotations

import contextlib
import dataclasses
import warnings
from collections.abc import Callable, Generator
from typing import Any, Final, NoReturn, Protocol

from trionet.objects._access import OPERATORS, CallOfPassedOn, GiveBack, PassedOn
from trionet.objects._connection import PendingCall
from trionet.wire.object_values import ProxyReference
from trionet.wire.objects import ReturnType

# What operators give that do not know what to do with the other operand.
_NOT_IMPLEMENTED: Final = str(type(NotImplemented))


class Sender(Protocol):
    """Sends what is asked of an object to the server that owns it, connecting to it if need be."""

    async def request(
        self, address: str, action: str, options: dict[str, Any], return_type: ReturnType, name: str
    ) -> Any:
        """Send and wait for the result."""

    def start(
        self, address: str, action: str, options: dict[str, Any], return_type: ReturnType, name: str
    ) -> PendingCall:
        """Send now."""

    def notify(self, address: str, action: str, options: dict[str, Any], name: str) -> None:
        """Send, for no reply."""


class Lease:
    """A reference that this process holds, until nothing uses it any more.

    Attributes:
        is_passed_on: Whether somebody else was sent the reference, and may use it: then it is not released
            before the connection ends.
        is_released: Whether it was released before: to use it is an error then.
        holders: The connections of this process that have got or sent it, by their ways to give it back.
    """

    __slots__ = ("holders", "is_passed_on", "is_released", "reference")

    def __init__(self, reference: ProxyReference, give_back: GiveBack) -> None:
        self.reference = reference
        self.is_passed_on = False
        self.is_released = False
        self.holders = [give_back]

    def add_holder(self, give_back: GiveBack) -> None:
        """It is sent through a connection, maybe not the one that it came through."""
        if give_back not in self.holders and not self.is_released:
            self.holders.append(give_back)

    def end_of(self, give_back: GiveBack | None) -> None:
        """It was released through a connection."""
        self.is_released = True
        if give_back is not None and give_back in self.holders:
            self.holders.remove(give_back)

    def __del__(self) -> None:
        # In whatever thread, and maybe when the interpreter ends.
        if not self.is_passed_on:
            for give_back in self.holders:
                with contextlib.suppress(Exception):
                    give_back(self.reference)


class ObjectCall(CallOfPassedOn):
    """Something that is to be done with a remote object. What becomes of it is for you to say::

        result = await p.method(x)               # a copy, or a proxy if its type cannot be copied
        result = await p.method(x).as_proxy()    # a proxy in any case
        result = await p.method(x).as_value()    # a copy, where that is possible
        pending = p.method(x).start()            # sent now; result = await pending, later
        p.method(x).no_reply()                   # sent now; nobody will know what comes of it

    Each can be used once. Errors are those of `ObjectClient.call_obj`.
    """

    __slots__ = ("_action", "_is_operator", "_is_used", "_options", "_proxy", "_return_type")

    def __init__(
        self, proxy: ObjectProxy, action: str, options: dict[str, Any], *, is_operator: bool = False
    ) -> None:
        self._proxy = proxy
        self._action = action
        self._options = {"obj": proxy, **options}
        self._return_type: ReturnType = "auto"
        self._is_operator = is_operator
        self._is_used = False

    def as_proxy(self) -> ObjectCall:
        """The same, with a proxy to the result. It is not copied, whatever it is."""
        self._return_type = "proxy"
        return self

    def as_value(self) -> ObjectCall:
        """The same, with a copy of the result, also for types that are not copied by default, as bytes."""
        self._return_type = "value"
        return self

    def start(self) -> PendingCall:
        """Send it now, and wait for the result later, if at all.

        Raises:
            trio.WouldBlock: if too many replies are outstanding, or too much is waiting to be sent.
            ConnectionLost: if there is no connection.
            TypeError: if an argument cannot be sent (ValueError likewise). Nothing was sent.
        """
        sender, reference = self._use()
        pending = sender.start(
            reference.address, self._action, self._options, self._return_type, _name(reference)
        )
        return pending._check_with(self._check_supported) if self._is_operator else pending

    def no_reply(self) -> None:
        """Send it now. Nobody gets a result; errors are in the log of the server. Raises as `start`."""
        sender, reference = self._use()
        sender.notify(reference.address, self._action, self._options, _name(reference))

    def __await__(self) -> Generator[Any, Any, Any]:
        sender, reference = self._use()
        request = sender.request(
            reference.address, self._action, self._options, self._return_type, _name(reference)
        )
        result = yield from request.__await__()
        if self._is_operator:
            self._check_supported(result)
        return result

    def __bool__(self) -> NoReturn:
        raise TypeError(f"{self!r} has to be awaited")

    def __repr__(self) -> str:
        return f"<ObjectCall of {self._proxy!r}>"

    def __del__(self) -> None:
        if not getattr(self, "_is_used", True):
            warnings.warn(f"{self!r} was never awaited", RuntimeWarning, stacklevel=2, source=self)

    def _check_supported(self, result: Any) -> None:
        """Raise TypeError where Python would go on and ask the other operand, which is on this side."""
        if isinstance(result, ObjectProxy) and reference_of(result).type_text == _NOT_IMPLEMENTED:
            name = _name(reference_of(self._proxy))
            raise TypeError(f"{name} does not support this operand: await p.get(), and compute with that")

    def _withdraw(self) -> None:
        self._is_used = True

    def _use(self) -> tuple[Sender, ProxyReference]:
        if self._is_used:
            raise RuntimeError(f"{self!r} was sent already")
        self._is_used = True
        return _sender_of(self._proxy), reference_of(self._proxy)


def _operator(name: str) -> Callable[..., ObjectCall]:
    def operate(self: Any, *others: Any) -> ObjectCall:
        method = self.attribute(name)
        return ObjectCall(method, "call_obj", {"args": others, "kwargs": {}}, is_operator=True)

    operate.__name__ = operate.__qualname__ = name
    return operate


class ObjectProxy(PassedOn):
    """An object in another process. They come out of calls; see `open_object_client`::

        laser = await client.get("laser")
        await laser.set_power(1.5)                  # a method
        power = await laser.settings.power.get()    # an attribute; of a name such as `get`: .attribute("get")
        await laser.settings.power.set(2.0)         # assign to it, and know that it is done
        first = await laser.history[0]              # an item
        total = await (laser.offset + 1)            # an operator

    Attribute names, as deep as they go, are noted without asking anybody; all else is an `ObjectCall`, so it
    has to be awaited, or sent in another of its ways. ``p.name = value``, ``p[key] = value`` and ``del`` of
    both are sent at once, without reply: errors are in the log of the server only.

    Equality, hash and repr ask nobody, either. Two proxies are equal if they stand for the same attribute of
    the same object; what the objects say of themselves is ``await p.attribute("__eq__")(other)``. Comparisons
    other than that are calls, and membership, iteration and truth, which cannot be awaited, are not offered;
    the methods behind them can be called: ``await p.__len__()``, ``await p.attribute("__contains__")(item)``.

    An operator asks the object only: where it does not know what to do with the other operand, as an int with
    a float, that is a TypeError, and not for the other operand to do.

    When a proxy and all that was made of it have been collected, the server is told so and can let go of the
    object. If it was passed on to another server, which then uses the same reference, that happens only when
    this connection ends.

    Names that begin with an underscore have to be asked for by `attribute`; servers refuse most of them.
    """

    __slots__ = ("__weakref__", "_lease", "_reference", "_sender")

    _lease: Lease | None
    _reference: ProxyReference
    _sender: Sender

    def __init__(self, sender: Sender, reference: ProxyReference, lease: Lease | None) -> None:
        object.__setattr__(self, "_sender", sender)
        object.__setattr__(self, "_reference", reference)
        object.__setattr__(self, "_lease", lease)

    def attribute(self, name: str) -> ObjectProxy:
        """An attribute by its name: of names that proxies use themselves, or private ones."""
        names = (*self._reference.attributes, name)
        return ObjectProxy(self._sender, dataclasses.replace(self._reference, attributes=names), self._lease)

    def get(self) -> ObjectCall:
        """The object itself, as a copy if its type can be copied: ``await p.name.get()``."""
        return ObjectCall(self, "get_obj", {})

    def set(self, value: Any) -> ObjectCall:
        """Assign to the attribute that this stands for: ``await p.name.set(value)``.

        Raises:
            TypeError: if it stands for an object, and not for an attribute of one.
        """
        *names, name = self._reference.attributes or (None,)
        if name is None:
            raise TypeError(f"{self!r} is no attribute that could be assigned to")
        owner = ObjectProxy(
            self._sender, dataclasses.replace(self._reference, attributes=tuple(names)), self._lease
        )
        return owner.attribute("__setattr__")(name, value)

    def __getattr__(self, name: str) -> ObjectProxy:
        if name.startswith("_") and name not in OPERATORS:
            raise AttributeError(
                f"a proxy has no attribute {name!r}: if it is the object's, that is .attribute({name!r})"
            )
        return self.attribute(name)

    def __call__(self, *args: Any, **kwargs: Any) -> ObjectCall:
        return ObjectCall(self, "call_obj", {"args": args, "kwargs": kwargs})

    def __getitem__(self, key: Any) -> ObjectCall:
        return self.attribute("__getitem__")(key)

    def __setitem__(self, key: Any, value: Any) -> None:
        self.attribute("__setitem__")(key, value).no_reply()

    def __delitem__(self, key: Any) -> None:
        self.attribute("__delitem__")(key).no_reply()

    def __setattr__(self, name: str, value: Any) -> None:
        self.attribute("__setattr__")(name, value).no_reply()

    def __delattr__(self, name: str) -> None:
        self.attribute("__delattr__")(name).no_reply()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ObjectProxy):
            return NotImplemented
        return _identity(self) == _identity(other)

    def __hash__(self) -> int:
        return hash(_identity(self))

    def __repr__(self) -> str:
        return f"<ObjectProxy for {_describe(self._reference)}>"

    # numpy leaves operators with an array or a number of its own on the left to this class.
    __array_ufunc__ = None

    # Python would fall back on __getitem__, and never come to an end.
    __iter__ = None
    __contains__ = None

    # The operators.
    __lt__ = _operator("__lt__")
    __le__ = _operator("__le__")
    __gt__ = _operator("__gt__")
    __ge__ = _operator("__ge__")
    __neg__ = _operator("__neg__")
    __pos__ = _operator("__pos__")
    __abs__ = _operator("__abs__")
    __invert__ = _operator("__invert__")
    __add__ = _operator("__add__")
    __sub__ = _operator("__sub__")
    __mul__ = _operator("__mul__")
    __matmul__ = _operator("__matmul__")
    __truediv__ = _operator("__truediv__")
    __floordiv__ = _operator("__floordiv__")
    __mod__ = _operator("__mod__")
    __divmod__ = _operator("__divmod__")
    __pow__ = _operator("__pow__")
    __lshift__ = _operator("__lshift__")
    __rshift__ = _operator("__rshift__")
    __and__ = _operator("__and__")
    __xor__ = _operator("__xor__")
    __or__ = _operator("__or__")
    __radd__ = _operator("__radd__")
    __rsub__ = _operator("__rsub__")
    __rmul__ = _operator("__rmul__")
    __rmatmul__ = _operator("__rmatmul__")
    __rtruediv__ = _operator("__rtruediv__")
    __rfloordiv__ = _operator("__rfloordiv__")
    __rmod__ = _operator("__rmod__")
    __rdivmod__ = _operator("__rdivmod__")
    __rpow__ = _operator("__rpow__")
    __rlshift__ = _operator("__rlshift__")
    __rrshift__ = _operator("__rrshift__")
    __rand__ = _operator("__rand__")
    __rxor__ = _operator("__rxor__")
    __ror__ = _operator("__ror__")

    def _refer(self, receiver: str, give_back: GiveBack | None) -> ProxyReference:
        if self._lease is None:
            return self._reference
        if receiver != self._reference.address:
            self._lease.is_passed_on = True
        elif give_back is not None:
            self._lease.add_holder(give_back)
        return self._reference


def _identity(proxy: ObjectProxy) -> tuple[str, int, tuple[str, ...]]:
    reference = proxy._reference
    return reference.address, reference.object_id, reference.attributes


def _sender_of(proxy: ObjectProxy) -> Sender:
    return proxy._sender


def lease_of(proxy: ObjectProxy) -> Lease | None:
    """The reference that a proxy holds, if it came from its owner."""
    return proxy._lease


def reference_of(proxy: ObjectProxy) -> ProxyReference:
    """What a proxy stands for."""
    return proxy._reference


def _describe(reference: ProxyReference) -> str:
    return f"{reference.address}[{reference.object_id}] {_name(reference)}"


def _name(reference: ProxyReference) -> str:
    return ".".join((reference.type_text, *reference.attributes))
