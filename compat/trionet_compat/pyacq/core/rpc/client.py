"""Blocking clients of object servers, one for each thread and server."""

from __future__ import annotations

import logging
import math
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

import trio

from trionet.wire.errors import CallInfo, ConnectionLost
from trionet.wire.objects import ReturnType
from trionet_compat.portal import current_portal
from trionet_compat.pyacq.core.rpc import log
from trionet_compat.pyacq.core.rpc._connections import open_link
from trionet_compat.pyacq.core.rpc._errors import (
    GOODBYE,
    RemoteCallException,
    as_upstream,
    server_has_gone,
)
from trionet_compat.pyacq.core.rpc._futures import Future, Watch, deliver, wait_for
from trionet_compat.pyacq.core.rpc.proxy import ObjectProxy
from trionet_compat.pyacq.core.rpc.serializer import Serializer, all_serializers
from trionet_compat.pyacq.core.rpc.server import RPCServer

__all__ = ["Future", "RPCClient", "RemoteCallException"]

logger = logging.getLogger("pyacq.core.rpc.client")

_SYNC_VALUES: Final = ("sync", "async", "off")
_CLOCK_SAMPLES: Final = 10


class RPCClient:
    """A thread's connection to an object server: pyacq's `RPCClient`.

    Get one by `get_client`; `ObjectProxy` does so by itself. While a thread waits for a result, it works on
    the requests to a server that it runs, so two servers may call each other.

    Args:
        address: Of the server, as bytes.
        reentrant: Whether waiting calls let a server of this thread work.
        serializer: "msgpack" or "json".

    Attributes:
        address: Of the server, as bytes.
        name: What it is called in messages of the log: host, process, thread and address.
        serializer: A `Serializer` as it uses them.
        futures: Those of calls whose results nobody has dropped, by number.
        next_request_id: The number of the next call.
        connect_established: Whether the server has answered.
        default_proxy_options: Options of all proxies that come through this client.

    Raises:
        AttributeError: if the address is not bytes.
        KeyError: if this thread has a client of this address already.
        TimeoutError: if there is no server within a second, or it does not answer within another one.
        ValueError: for an unknown serializer, or an address that is none; ``inproc`` is not supported.

    Differences from upstream: a server that was killed is noticed at once; `get_client` then connects anew,
    and so it does after `close`. A client that could not connect is not remembered. `process_msg` and sockets
    are not offered: the messages are read in the background.
    """

    clients_by_thread: ClassVar[dict[tuple[int, bytes], RPCClient]] = {}
    clients_by_thread_lock: ClassVar[threading.Lock] = threading.Lock()

    @staticmethod
    def get_client(address: str | bytes) -> RPCClient:
        """This thread's client of a server: a new one if there is none. Raises as `RPCClient` does."""
        if isinstance(address, str):
            address = address.encode()
        client = RPCClient._find(address)
        return RPCClient(address) if client is None else client

    @staticmethod
    def _find(address: bytes) -> RPCClient | None:
        """This thread's client, unless it is of no more use and another connection may be."""
        client = RPCClient.clients_by_thread.get((threading.get_ident(), address))
        if client is None or client._is_of_use():
            return client
        client.close()
        return None

    @staticmethod
    def _forget_useless() -> None:
        """Of clients that have lost their server, keep what says so; of those of former threads, nothing."""
        threads = {thread.ident for thread in threading.enumerate()}
        for (ident, _), client in list(RPCClient.clients_by_thread.items()):
            if client._portal._closed is not None:
                client.close()
            elif client._connection.lost is not None:
                if ident in threads:
                    client._opened.abandon()
                else:
                    client.close()

    def __init__(self, address: bytes, reentrant: bool = True, serializer: str = "msgpack") -> None:
        text = address.decode()
        if serializer not in all_serializers:
            raise ValueError(f"Unsupported serializer type {serializer!r}")
        if RPCClient._find(address) is not None:
            raise KeyError(
                "An RPCClient instance already exists for this address. "
                "Use RPCClient.get_client(address) instead."
            )
        RPCClient._forget_useless()
        self.address = address
        self.name = ".".join((log.get_host_name(), log.get_process_name(), log.get_thread_name())).encode()
        self.name += b":" + address
        self.serializer: Serializer = all_serializers[serializer](client=self)
        self.futures: weakref.WeakValueDictionary[int, Future] = weakref.WeakValueDictionary()
        self.next_request_id = 0
        self.connect_established = False
        self.default_proxy_options: dict[str, Any] = {}
        self._reentrant = reentrant
        self._is_closed = False
        self._has_ended_server = False
        self._offered: RPCServer | None = None
        self._portal = current_portal()
        self._opened = self._portal.open(open_link(text, serializer, self.default_proxy_options))
        self._connection = self._opened.value.connection
        self._links = self._opened.value.links
        self._nursery = self._opened.value.nursery
        self.connect_established = True
        self._key = threading.get_ident(), address
        with self.clients_by_thread_lock:
            self.clients_by_thread[self._key] = self

    def _is_of_use(self) -> bool:
        """Whether it works, or the server has said goodbye, so that nothing else would work either."""
        if self._is_closed or self._portal._closed is not None:
            return False
        lost = self._connection.lost
        return lost is None or lost == GOODBYE or self._has_ended_server

    def __getitem__(self, name: str) -> Any:
        """What the server publishes under a name: a copy or a proxy. Raises as `send` does."""
        return self.send("get_item", {"name": name})

    def __setitem__(self, name: str, obj: Any) -> None:
        """Have the server publish something. Raises as `send` does."""
        self.send("set_item", {"name": name, "obj": obj})

    def send(
        self,
        action: str,
        opts: Mapping[str, Any] | None = None,
        return_type: ReturnType = "auto",
        sync: str = "sync",
        timeout: float | None = 10.0,
    ) -> Any:
        """Ask something of the server.

        Args:
            action: What.
            opts: What belongs to it.
            return_type: "auto" for a copy of the result if its type can be copied, else a proxy; "proxy" for
                a proxy in any case; "value" for a copy if at all possible.
            sync: "sync" to wait for the result, "async" for a `Future`, "off" for nothing.
            timeout: Seconds to wait; None for no limit. The server does what was asked for all the same.

        Raises:
            RemoteCallException: for whatever was raised there.
            TimeoutError: if the result takes too long.
            RuntimeError: if the server has gone; without a goodbye, it is a TimeoutError as well.
            TypeError: if something cannot be sent. Nothing was sent.
            ValueError: for another ``sync``; for what cannot be sent, as a list that contains itself.
        """
        if sync not in _SYNC_VALUES:
            raise ValueError(f"Invalid sync value: {sync}")
        if self._is_closed or self._has_ended_server:
            raise server_has_gone()
        if self._connection.lost is not None:
            raise server_has_gone(ConnectionLost(self._connection.lost, CallInfo(self._connection.address)))
        server = RPCServer.get_server()
        if server is not self._offered:
            self._offer(server)
        self.next_request_id += 1
        # The portal remembers calls for a while, but not what is taken out of these.
        options = None if opts is None else dict(opts)
        results: list[Any] = []
        try:
            if sync == "off":
                return self._portal.call(self._notify, action, options)
            if sync == "sync" and (server is None or not self._reentrant):
                self._portal.call(self._request, results, action, options, return_type, timeout)
                return results.pop()
            self._portal.call(self._start, results, action, options, return_type)
        except Exception as error:
            shown = as_upstream(error)
            if shown is error:
                raise
            raise shown from shown.__cause__
        finally:
            if options is not None:
                options.clear()
        future: Future = results.pop()
        return future if sync == "async" else future.result(timeout)

    def _offer(self, server: RPCServer | None) -> None:
        """Arguments that cannot be copied belong to the server of this thread."""
        if server is None:
            self._portal.call_sync(self._connection.offer, None, "")
        else:
            self._portal.call_sync(self._connection.offer, server._host, server.address.decode())
        self._offered = server

    def call_obj(
        self,
        obj: ObjectProxy,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **kwds: Any,
    ) -> Any:
        """Call what a proxy stands for. The other arguments are those of `send`, as are the errors."""
        opts = {"obj": obj, "args": list(args or ()), "kwargs": dict(kwargs or {})}
        return self.send("call_obj", opts, **kwds)

    def get_obj(self, obj: Any, **kwds: Any) -> Any:
        """What a proxy stands for, as a copy if its type can be copied. See `send`."""
        return self.send("get_obj", {"obj": obj}, **kwds)

    def transfer(self, obj: Any, **kwds: Any) -> Any:
        """Copy a value to the server. Returns a proxy to the copy. See `send`."""
        return self.send("get_obj", {"obj": obj}, return_type="proxy", **kwds)

    def _import(self, module: str, **kwds: Any) -> Any:
        """A proxy to a module of the server, the innermost of a dotted name. See `send`."""
        return self.send("import", {"module": module}, **kwds)

    def delete(self, obj: ObjectProxy, **kwds: Any) -> Any:
        """Release the reference of a proxy. See `send`; KeyError there if that was done before."""
        return self.send("delete", {"obj_id": obj._obj_id, "ref_id": obj._ref_id}, **kwds)

    def ping(self, sync: str = "sync", **kwds: Any) -> Any:
        """Ask for a sign of life: "pong". See `send`."""
        return self.send("ping", sync=sync, **kwds)

    def ensure_connection(self, timeout: float = 1.0) -> None:
        """Raise TimeoutError unless the server answers in so many seconds; RuntimeError if it has gone."""
        self.ping(timeout=timeout)

    def disconnected(self) -> bool:
        """Whether the server has gone, or this client was closed."""
        if self._has_ended_server or self._portal._closed is not None:
            return True
        self._portal.call(_let_others_read)
        return self._is_closed or self._connection.lost is not None

    def close_server(self, sync: str = "sync", timeout: float | None = 1.0, **kwds: Any) -> Any:
        """End the server, after all that was asked for before. Returns True, also if it had gone already.

        Other arguments, and errors, are those of `send`.
        """
        if self.disconnected():
            return True
        result = self.send("close", sync=sync, timeout=timeout, **kwds)
        self._has_ended_server = sync == "sync"
        return result

    def close(self) -> None:
        """Close the connection; the server releases what only this client has proxies to."""
        self._is_closed = True
        with self.clients_by_thread_lock:
            if self.clients_by_thread.get(self._key) is self:
                del self.clients_by_thread[self._key]
        self._opened.close()

    @staticmethod
    def _close_all_of_thread() -> None:
        """This thread ends."""
        for (ident, _), client in list(RPCClient.clients_by_thread.items()):
            if ident == threading.get_ident():
                client.close()

    def measure_clock_diff(self) -> float:
        """By how many seconds the server's `time.perf_counter` is ahead of ours. Raises as `send` does."""
        clock = self._import("time").perf_counter
        samples = []
        for _ in range(_CLOCK_SAMPLES):
            before = time.perf_counter()
            remote = clock(_sync="sync", _timeout=10)
            after = time.perf_counter()
            samples.append((after - before, remote - (before + after) / 2))
        return float(min(samples)[1])  # the quickest answer tells most

    def process_until_future(self, future: Future, timeout: float | None = None) -> None:
        """Wait for a result. Requests to a server of this thread are worked on meanwhile.

        Raises:
            TimeoutError: if it takes longer than so many seconds.
        """
        if future.done():
            return
        server = RPCServer.get_server() if self._reentrant else None
        if server is None:
            self._portal.call(wait_for, future, timeout)
        else:
            watch = Watch(server._inbox)
            self._portal.call_sync(self._nursery.start_soon, watch.run, future, timeout)
            server._inbox.serve_until(watch.has_ended)
        if not future.done():
            raise TimeoutError("Timeout waiting for Future result.")

    # -- in the portal -----------------------------------------------------------------------------------

    async def _request(
        self,
        results: list[Any],
        action: str,
        opts: Mapping[str, Any] | None,
        return_type: ReturnType,
        seconds: float | None,
    ) -> None:
        self._links.send_released()
        with trio.move_on_after(math.inf if seconds is None else seconds):
            results.append(await self._connection.request(action, opts, return_type, action))
            return
        raise TimeoutError("Timeout waiting for Future result.")

    async def _start(
        self, results: list[Any], action: str, opts: Mapping[str, Any] | None, return_type: ReturnType
    ) -> None:
        self._links.send_released()
        while True:
            try:
                pending = self._connection.start(action, opts, return_type, action)
                break
            except trio.WouldBlock:
                await self._connection.wait_sent()
        future = self.futures[self.next_request_id - 1] = Future(self, self.next_request_id - 1)
        self._nursery.start_soon(deliver, pending, weakref.ref(future))
        results.append(future)

    async def _notify(self, action: str, opts: Mapping[str, Any] | None) -> None:
        self._links.send_released()
        while True:
            try:
                return self._connection.notify(action, opts, action)
            except trio.WouldBlock:
                await self._connection.wait_sent()


async def _let_others_read() -> None:
    """Give the tasks that read a chance to take what has come."""
    for _ in range(3):
        await trio.lowlevel.checkpoint()
