"""Asking a server of pyacq what it publishes, and what its objects are.

It has no request for that, but clients may do anything there: so `dir` and the module `inspect` of its own
process are used, by proxies, an attribute at a time. What is found out is the same as trionet's servers say.
"""

from __future__ import annotations

from typing import Any, Final

from trionet.objects._descriptions import UNKNOWN_SIGNATURE, ObjectDescription
from trionet.objects.proxy import ObjectCall, ObjectProxy, reference_of
from trionet.wire.errors import ConnectionLost, RemoteProtocolError

# Where one of its servers, which publishes itself, keeps what it publishes.
_NAMESPACE: Final = "_namespace"
_METHODS: Final = frozenset(
    {"function", "method", "classmethod", "staticmethod", "builtin_function_or_method"}
)
_METHODS_IN_C: Final = frozenset({"method_descriptor", "classmethod_descriptor"})
_COPIED: Final = frozenset(
    {"NoneType", "bool", "int", "float", "str", "tuple", "list", "dict", "numpy.ndarray", "numpy.float64"}
)
_COMPUTED: Final = frozenset({"property", "functools.cached_property", "getset_descriptor"})


class UpstreamInspection:
    """Looks at the objects of a server of pyacq.

    Args:
        builtins: A proxy to that module of the server's process.
        inspect: The same.
    """

    def __init__(self, builtins: ObjectProxy, inspect: ObjectProxy) -> None:
        self._builtins = builtins
        self._inspect = inspect

    async def names(self, server: ObjectProxy) -> list[str]:
        """What a server publishes beside itself, by a proxy to it. Raises as `ObjectClient.call_obj` does."""
        names = await self._builtins.list(server.attribute(_NAMESPACE))
        return [name for name in names if name != "self"]

    async def describe(self, proxy: ObjectProxy) -> ObjectDescription:
        """Describe an object with its public attributes. Raises as `ObjectClient.call_obj` does."""
        value = await proxy.get().as_proxy()
        if _type_name(value) in _COPIED:
            return ObjectDescription(_type_name(value))
        attributes = {
            name: await self._describe_attribute(value, name)
            for name in await self._builtins.dir(value)
            if not name.startswith("_")
        }
        signature = await self._signature(value) if await self._builtins.callable(value) else None
        return ObjectDescription(_type_name(value), await self._docstring(value), signature, attributes)

    async def _describe_attribute(self, owner: ObjectProxy, name: str) -> ObjectDescription:
        try:
            found = await self._inspect.getattr_static(owner, name).as_proxy()
        except AttributeError:  # made when it is asked for
            return ObjectDescription("property")
        kind = _type_name(found)
        if kind in _METHODS or kind in _METHODS_IN_C:
            signature = await self._signature(owner.attribute(name))
            return ObjectDescription("method", await self._docstring(found), signature)
        if kind in _COMPUTED:
            return ObjectDescription("property", await self._docstring(found))
        return ObjectDescription(kind)

    async def _docstring(self, proxy: ObjectProxy) -> str | None:
        text = await _answer(self._inspect.getdoc(proxy))
        return text if isinstance(text, str) else None

    async def _signature(self, function: ObjectProxy) -> str:
        signature = await _answer(self._inspect.signature(function))
        if signature is None:  # of one in C
            return UNKNOWN_SIGNATURE
        return str(await _answer(self._builtins.str(signature)) or UNKNOWN_SIGNATURE)


async def _answer(call: ObjectCall) -> Any:
    """What comes of a call; None if it fails, whatever the object does with it: the rest is worth knowing."""
    try:
        return await call
    except (ConnectionLost, RemoteProtocolError):
        raise
    except Exception:
        return None


def _type_name(proxy: ObjectProxy) -> str:
    """The type that a proxy stands for: ``Laser`` of ``<class '__main__.Laser'>``."""
    text = reference_of(proxy).type_text
    return text.removeprefix("<class '").removesuffix("'>").removeprefix("__main__.")
