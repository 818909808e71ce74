"""Proxies whose use blocks: objects of another process, or thread, in the syntax of Python."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, Final

from trionet.objects._host import GiveBack, PassedOn
from trionet.wire.object_values import ProxyReference

# Proxies make clients, and clients make proxies.
from trionet_compat.pyacq.core import rpc
from trionet_compat.pyacq.core.rpc._errors import RemoteCallException

__all__ = ["ObjectProxy"]

_Names = tuple[str, ...]

# What a proxy has of its own; all other names are the object's.
_FIELDS: Final = frozenset(
    {
        *("_rpc_addr", "_obj_id", "_ref_id", "_type_str", "_attributes"),
        *("_proxy_options", "_parent_proxy", "_hash", "_lease"),
    }
)


def _operator(name: str) -> Callable[..., Any]:
    def operate(self: Any, other: Any) -> Any:
        return self._operate(name, other)

    operate.__name__ = operate.__qualname__ = name
    return operate


def _in_place(name: str) -> Callable[..., Any]:
    def operate(self: Any, other: Any) -> Any:
        self._deferred_attr(name)(other, _sync="off")
        return self

    operate.__name__ = operate.__qualname__ = name
    return operate


class ObjectProxy(PassedOn):
    """An object of a server: pyacq's `ObjectProxy`. They come out of calls::

        laser = client["laser"]
        laser.set_power(1.5)                    # a method: the result is a copy, or a proxy
        laser.settings.power._get_value()       # an attribute, as a copy
        laser.read(_sync="async").result()      # sent now; wait for the result later
        laser.power = 2.0                       # sent, not waited for: errors are in the log of the server

    Attributes of attributes ask nobody until they are used. Any thread may use a proxy: each has a connection
    of its own, see `RPCClient`. Names of this class hide those of the object.

    Args:
        rpc_addr: Address of the server that owns the object, str or bytes.
        obj_id: Its number there.
        ref_id: Number of the reference to it.
        type_str: Its type, for display.
        attributes: Names of attributes that are still to be looked up.
        **kwds: Options, see `_set_proxy_options`.

    Differences from upstream: in-place operators leave the proxy what it is, instead of turning the name into
    None; proxies to different attributes of one object are compared by asking it; an operator that the
    objects do not support is a TypeError, and such an equality False; ``bool`` of an object without length
    is True; iteration ends with the object; ``auto_delete`` waits until all that was made of a proxy has
    gone; a reference that was deleted is of no more use, also where the object has others.
    ``no_proxy_types`` has no effect, in both.
    """

    _rpc_addr: bytes
    _obj_id: int
    _ref_id: int
    _type_str: str
    _attributes: _Names
    _proxy_options: dict[str, Any]
    _parent_proxy: ObjectProxy | None
    _hash: int
    _lease: _Lease

    # numpy leaves operators with an array or a number of its own on the left to this class.
    __array_ufunc__ = None

    def __init__(
        self,
        rpc_addr: str | bytes,
        obj_id: int,
        ref_id: int,
        type_str: str = "",
        attributes: tuple[str, ...] = (),
        **kwds: Any,
    ) -> None:
        address = rpc_addr.encode() if isinstance(rpc_addr, str) else bytes(rpc_addr)
        names = tuple(attributes)
        self.__dict__.update(
            _rpc_addr=address,
            _obj_id=obj_id,
            _ref_id=ref_id,
            _type_str=type_str,
            _attributes=names,
            _parent_proxy=None,
            _hash=hash((address, obj_id, names)),
            _proxy_options=_DEFAULT_OPTIONS.copy(),
            _lease=_Lease(ProxyReference(address.decode(), obj_id, ref_id)),
        )
        self._set_proxy_options(**kwds)

    # -- what a proxy can do by itself -------------------------------------------------------------------

    def _set_proxy_options(self, **kwds: Any) -> None:
        """Change how this proxy works, and those of its attributes that are made from now on.

        Args:
            **kwds: ``sync``: "sync" to wait for the result, "async" for a `Future`, "off" for nothing, not
                even errors. ``timeout``: seconds to wait for results. ``return_type``: "auto" for a copy if
                its type can be copied, "proxy" for a proxy in any case, "value" for a copy if at all
                possible. ``defer_getattr``: False to look attributes up at once. ``auto_delete``: whether
                the server is told when nothing uses the proxy any more.

        Raises:
            KeyError: for any other option.
        """
        for name in kwds:
            if name not in self._proxy_options:
                raise KeyError(f"Unrecognized proxy option {name!r}")
        self._proxy_options.update(kwds)
        self._lease.is_to_end = self._proxy_options["auto_delete"]

    def _save(self) -> dict[str, Any]:
        """The arguments that make the same proxy, elsewhere, of this class."""
        return {
            "rpc_addr": self._rpc_addr.decode(),
            "obj_id": self._obj_id,
            "ref_id": self._ref_id,
            "type_str": self._type_str,
            "attributes": self._attributes,
        }

    def _copy(self) -> ObjectProxy:
        """Another proxy of the same, with the same options."""
        proxy = ObjectProxy(**self._save(), **self._proxy_options)
        proxy._lease = self._lease
        return proxy

    def _client(self) -> rpc.RPCClient:
        """This thread's client of the server that owns the object. Raises what `RPCClient` does."""
        return rpc.RPCClient.get_client(self._rpc_addr)

    def _server(self) -> rpc.RPCServer | None:
        """This thread's own server."""
        return rpc.RPCServer.get_server()

    def _deferred_attr(self, attr: str, **kwds: Any) -> ObjectProxy:
        """A proxy to an attribute, not looked up yet."""
        proxy = ObjectProxy.__new__(ObjectProxy)
        names = (*self._attributes, attr)
        proxy.__dict__.update(
            self.__dict__,
            _attributes=names,
            _parent_proxy=self,
            _hash=hash((self._rpc_addr, self._obj_id, names)),
            _proxy_options=self._proxy_options.copy(),
        )
        if kwds:
            proxy._set_proxy_options(**kwds)
        return proxy

    def _refer(self, receiver: str, give_back: GiveBack | None) -> ProxyReference:
        if receiver != (address := self._rpc_addr.decode()):
            self._lease.is_passed_on = True
        elif give_back is not None:
            self._lease.add_holder(give_back)
        return ProxyReference(address, self._obj_id, self._ref_id, self._type_str, self._attributes)

    def __repr__(self) -> str:
        name = ".".join((self._type_str, *self._attributes))
        return f"<ObjectProxy for {self._rpc_addr.decode()}[{self._obj_id}] {name} >"

    __str__ = __repr__

    def __hash__(self) -> int:
        return self._hash

    def __getattr__(self, attr: str) -> Any:
        if attr in _FIELDS:  # of a proxy that is being copied, and has nothing yet
            raise AttributeError(attr)
        proxy = self._deferred_attr(attr)
        return proxy if self._proxy_options["defer_getattr"] else proxy._undefer()

    # -- what is asked of the server ---------------------------------------------------------------------

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the object.

        Args:
            *args: Arguments. What cannot be copied needs a server of this thread, which will own it.
            **kwargs: Arguments with names; and, for the options of the same names, ``_sync``,
                ``_return_type`` and ``_timeout``.

        Returns:
            The result; a `Future`; or None: see the option ``sync``.

        Raises:
            RemoteCallException: for whatever was raised there.
            TimeoutError: if the result takes too long.
            RuntimeError: if the server has gone.
            TypeError: if an argument cannot be sent. Nothing was sent.
        """
        options = self._proxy_options
        return self._client().call_obj(
            self,
            args,
            kwargs,
            sync=kwargs.pop("_sync", options["sync"]),
            return_type=kwargs.pop("_return_type", options["return_type"]),
            timeout=kwargs.pop("_timeout", options["timeout"]),
        )

    def _undefer(self, sync: str = "sync", return_type: str = "auto", **kwds: Any) -> Any:
        """Look the attributes up. Raises as a call does; this very proxy if there are none."""
        if not self._attributes:
            return self
        return self._client().get_obj(self, sync=sync, return_type=return_type, **kwds)

    def _get_value(self) -> Any:
        """A copy of the object, if it can be copied. Raises as a call does."""
        return self._client().get_obj(self, return_type="value")

    def _delete(self, sync: str = "sync", **kwds: Any) -> None:
        """Release this reference: the server lets go of the object with its last one.

        Raises as a call does; that is KeyError if it was released already.
        """
        self._lease.is_to_end = False
        client = self._client()
        if self._lease.end_but_for(client._links.give_back):
            client.delete(self, sync=sync, **kwds)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _FIELDS:
            self.__dict__[name] = value
        else:
            self._deferred_attr("__setattr__")(name, value, _sync="off")

    def __setitem__(self, key: Any, value: Any) -> None:
        self._deferred_attr("__setitem__")(key, value, _sync="off")

    def __getitem__(self, key: Any) -> Any:
        return self._deferred_attr("__getitem__")(key, _sync="sync")

    def __len__(self) -> int:
        length: int = self._deferred_attr("__len__")(_sync="sync")
        return length

    def __bool__(self) -> bool:
        try:
            return len(self) > 0
        except RemoteCallException as error:
            if error.type_str == "AttributeError":  # as Python does with objects that have no length
                return True
            raise

    def __iter__(self) -> Iterator[Any]:
        index = 0
        while True:
            try:
                item = self[index]
            except RemoteCallException as error:
                if error.type_str == "IndexError":
                    return
                raise
            yield item
            index += 1

    def __eq__(self, other: object) -> Any:
        if isinstance(other, ObjectProxy) and _identity(self) == _identity(other):
            return True
        return self._operate("__eq__", other)

    def __ne__(self, other: object) -> Any:
        return self._operate("__ne__", other)

    def _operate(self, name: str, other: object) -> Any:
        result = self._deferred_attr(name)(other, _sync="sync")
        if isinstance(result, ObjectProxy) and result._type_str == "<class 'NotImplementedType'>":
            return NotImplemented
        return result

    __add__ = _operator("__add__")
    __sub__ = _operator("__sub__")
    __mul__ = _operator("__mul__")
    __truediv__ = _operator("__truediv__")
    __floordiv__ = _operator("__floordiv__")
    __mod__ = _operator("__mod__")
    __pow__ = _operator("__pow__")
    __lshift__ = _operator("__lshift__")
    __rshift__ = _operator("__rshift__")
    __and__ = _operator("__and__")
    __or__ = _operator("__or__")
    __xor__ = _operator("__xor__")
    __radd__ = _operator("__radd__")
    __rsub__ = _operator("__rsub__")
    __rmul__ = _operator("__rmul__")
    __rtruediv__ = _operator("__rtruediv__")
    __rfloordiv__ = _operator("__rfloordiv__")
    __rmod__ = _operator("__rmod__")
    __rpow__ = _operator("__rpow__")
    __rlshift__ = _operator("__rlshift__")
    __rrshift__ = _operator("__rrshift__")
    __rand__ = _operator("__rand__")
    __ror__ = _operator("__ror__")
    __rxor__ = _operator("__rxor__")
    __iadd__ = _in_place("__iadd__")
    __isub__ = _in_place("__isub__")
    __imul__ = _in_place("__imul__")
    __itruediv__ = _in_place("__itruediv__")
    __ifloordiv__ = _in_place("__ifloordiv__")
    __imod__ = _in_place("__imod__")
    __ipow__ = _in_place("__ipow__")
    __ilshift__ = _in_place("__ilshift__")
    __irshift__ = _in_place("__irshift__")
    __iand__ = _in_place("__iand__")
    __ior__ = _in_place("__ior__")
    __ixor__ = _in_place("__ixor__")
    __lt__ = _operator("__lt__")
    __le__ = _operator("__le__")
    __gt__ = _operator("__gt__")
    __ge__ = _operator("__ge__")


_DEFAULT_OPTIONS: Final[dict[str, Any]] = {
    "sync": "sync",
    "timeout": 10,
    "return_type": "auto",
    "defer_getattr": True,
    "no_proxy_types": [type(None), str, int, float, tuple, list, dict, ObjectProxy],
    "auto_delete": False,
}


def _identity(proxy: ObjectProxy) -> tuple[bytes, int, _Names]:
    return proxy._rpc_addr, proxy._obj_id, proxy._attributes


class _Lease:
    """A reference that a proxy, and all that was made of it, share.

    Attributes:
        holders: The connections of this process that have got or sent it, by their ways to give it back; none
            of a proxy that has not come from its owner.
        is_to_end: Whether it ends when the last of them has been collected.
        is_passed_on: Whether somebody else was sent it, and may use it: then it does not.
    """

    __slots__ = ("holders", "is_passed_on", "is_to_end", "reference")

    def __init__(self, reference: ProxyReference) -> None:
        self.reference = reference
        self.holders: list[GiveBack] = []
        self.is_to_end = False
        self.is_passed_on = False

    def add_holder(self, give_back: GiveBack) -> None:
        """A thread uses it that has another connection than the one it came through."""
        if self.holders and give_back not in self.holders:
            self.holders.append(give_back)

    def end_but_for(self, give_back: GiveBack) -> bool:
        """Give it back through all connections but one. Returns whether that one may hold it, too."""
        holders, self.holders = self.holders, []
        for other in holders:
            if other != give_back:
                other(self.reference)
        return not holders or give_back in holders

    def __del__(self) -> None:
        # In whatever thread, and maybe when the interpreter ends.
        if self.is_to_end and not self.is_passed_on:
            for give_back in self.holders:
                with contextlib.suppress(Exception):
                    give_back(self.reference)


def proxy_of(
    reference: ProxyReference,
    options: dict[str, Any],
    give_back: GiveBack | None = None,
) -> ObjectProxy:
    """What stands for a reference that came.

    Args:
        reference: The reference.
        options: Of the proxy.
        give_back: Tells the server that the reference is of no more use.
    """
    proxy = ObjectProxy(
        reference.address,
        reference.object_id,
        reference.reference_id,
        reference.type_text,
        reference.attributes,
        **options,
    )
    if give_back is not None:
        proxy._lease.holders.append(give_back)
    return proxy
