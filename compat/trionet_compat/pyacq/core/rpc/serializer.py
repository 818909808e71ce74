"""Values as bytes, for those who use the serializers by themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final

from trionet.wire.object_values import SERIALIZERS, TYPE_KEY, ProxyReference
from trionet.wire.object_values import Serializer as _WireSerializer
from trionet_compat.pyacq.core.rpc.proxy import ObjectProxy, proxy_of

if TYPE_CHECKING:
    from trionet_compat.pyacq.core.rpc.client import RPCClient
    from trionet_compat.pyacq.core.rpc.server import RPCServer

__all__ = [
    "HAVE_MSGPACK",
    "JsonSerializer",
    "MsgpackSerializer",
    "Serializer",
    "all_serializers",
    "encode_key",
]

HAVE_MSGPACK: Final = True
encode_key: Final = TYPE_KEY


class Serializer:
    """Writes and reads values: pyacq's `Serializer`.

    Args:
        server: It owns what cannot be copied; without it, that is a TypeError.
        client: Proxies that are read get its default options.

    Unlike upstream's, it executes nothing of what it reads.
    """

    type: ClassVar[str]

    def __init__(self, server: RPCServer | None = None, client: RPCClient | None = None) -> None:
        self._server = server
        self.client = client
        self._wire: _WireSerializer = SERIALIZERS[self.type](self._refer, self._resolve)

    @property
    def server(self) -> RPCServer | None:
        """The server that owns what cannot be copied: that of the client's thread, for those of clients."""
        return self._server

    def dumps(self, obj: Any) -> bytes:
        """Write a value.

        Raises:
            TypeError: if there is something in it that cannot be copied, and no server.
            ValueError: if it contains itself, or the like.
        """
        return self._wire.dumps(obj)

    def loads(self, msg: bytes) -> Any:
        """Read a value.

        Raises:
            ValueError: if that is not possible.
        """
        return self._wire.loads(msg)

    def encode(self, obj: Any) -> Any:
        """A value in terms of what msgpack or JSON has. Raises as `dumps` does."""
        return self._wire.parse(self.dumps(obj))

    def decode(self, dct: Any) -> Any:
        """The contrary. Raises as `loads` does."""
        return self._wire.revive(dct)

    def _refer(self, value: Any) -> ProxyReference:
        if isinstance(value, ObjectProxy):
            return value._refer("", None)
        if self._server is None:
            return refuse_to_proxy(value)
        return self._server.get_proxy(value)._refer("", None)

    def _resolve(self, reference: ProxyReference) -> Any:
        options = {} if self.client is None else self.client.default_proxy_options
        proxy = proxy_of(reference, options)
        return proxy if self._server is None else self._server.unwrap_proxy(proxy)


class JsonSerializer(Serializer):
    """Values in JSON."""

    type = "json"


class MsgpackSerializer(Serializer):
    """Values in msgpack."""

    type = "msgpack"


#: The serializers that there are, by their names.
all_serializers: Final[dict[str, type[Serializer]]] = {
    "json": JsonSerializer,
    "msgpack": MsgpackSerializer,
}


def refuse_to_proxy(value: object) -> ProxyReference:
    """For those who have no server."""
    raise TypeError(f"Cannot make proxy to {value!r} without proxy server.")
