"""Servers of objects whose requests are executed by a thread of the program."""

from __future__ import annotations

import atexit
import contextlib
import logging
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np
import trio

from trionet._tasks import open_background_tasks
from trionet.objects._host import Holder, ObjectHost
from trionet.objects._links import LinkOptions
from trionet.objects.server import ObjectServer, serve_objects, service_of
from trionet.wire.object_values import SERIALIZERS, ProxyReference
from trionet.wire.objects import ObjectRequest
from trionet_compat.portal import PortalClosed, current_portal
from trionet_compat.pyacq.core import rpc
from trionet_compat.pyacq.core.rpc._connections import BlockingLinks
from trionet_compat.pyacq.core.rpc._inbox import Inbox, ThreadInbox
from trionet_compat.pyacq.core.rpc.proxy import ObjectProxy, proxy_of
from trionet_compat.pyacq.core.rpc.timer import Timer

if TYPE_CHECKING:
    from trionet_compat.pyacq.core.rpc.client import RPCClient

logger = logging.getLogger("pyacq.core.rpc.server")

# Seconds for the server's thread to come to the end, which stands behind the requests that have come.
_CLOSE_TIMEOUT: Final = 1.0


class RPCServer:
    """Offers objects of this process to others: pyacq's `RPCServer`.

    It listens from now on; requests are executed by the thread that runs it: in `run_forever`; or, after
    `run_lazy`, whenever that thread waits for a result of another server. There is at most one server for
    each thread, and arguments and results that cannot be copied are offered by that of the thread.

    Security: as upstream's, it lets whoever can connect import any module and call anything, and there is no
    password. It is `trionet.serve_objects` with ``unrestricted=True``; use that for anything that should be
    reached from elsewhere.

    Args:
        address: Where to listen: ``tcp://HOST:PORT``, with ``*`` for any host or port, or ``ipc://PATH``.

    Attributes:
        address: Where it listens, as bytes.
        no_proxy_types: The types of results that are copied by default. For information.

    Raises:
        ValueError: for an address that is none; ``inproc`` is not supported.
        OSError: if it cannot listen there.

    Differences from upstream: objects are released when the client that they were sent to has gone, unless
    another one has used them; errors of requests without reply go to the log; pings are answered also while
    the thread is busy; malformed requests end nothing but their connection; methods may be asynchronous,
    with Trio.
    """

    servers_by_thread: ClassVar[dict[int, RPCServer]] = {}
    servers_by_thread_lock: ClassVar[threading.Lock] = threading.Lock()

    # -- the servers of threads --------------------------------------------------------------------------

    @staticmethod
    def get_server() -> RPCServer | None:
        """The server of this thread."""
        server = RPCServer.servers_by_thread.get(threading.get_ident())
        # The system gives the number of a thread that has ended to a new one.
        return server if server is not None and server._thread is threading.current_thread() else None

    @staticmethod
    def register_server(srv: RPCServer) -> None:
        """Make this thread the one that works on the requests to a server.

        Raises:
            KeyError: if it has a server already.
            AssertionError: if the server has a thread already.
        """
        key = threading.get_ident()
        with RPCServer.servers_by_thread_lock:
            if RPCServer.get_server() is not None:
                raise KeyError(f"this thread has a server already: {RPCServer.servers_by_thread[key]!r}")
            if srv._thread not in (None, threading.current_thread()):
                raise AssertionError(f"{srv!r} belongs to another thread: {srv._thread!r}")
            srv._thread = threading.current_thread()
            RPCServer.servers_by_thread[key] = srv

    @staticmethod
    def unregister_server(srv: RPCServer) -> None:
        """The contrary, in any thread."""
        with RPCServer.servers_by_thread_lock:
            for key, server in list(RPCServer.servers_by_thread.items()):
                if server is srv:
                    del RPCServer.servers_by_thread[key]

    @staticmethod
    def local_client() -> RPCClient:
        """This thread's client of its own server.

        Raises:
            RuntimeError: if it has none.
        """
        server = RPCServer.get_server()
        if server is None:
            raise RuntimeError("this thread has no server")
        return rpc.RPCClient.get_client(server.address)

    # -- its life ----------------------------------------------------------------------------------------

    def __init__(self, address: str = "tcp://127.0.0.1:*") -> None:
        self.no_proxy_types: list[type] = [
            *(type(None), str, int, float, tuple, list, dict),
            *(ObjectProxy, np.ndarray),
        ]
        self._namespace: dict[str, Any] = {"self": self}
        self._thread: threading.Thread | None = None
        self._closed = False
        self._is_ending = False
        self._inbox = self._make_inbox()
        self._discarded: deque[list[Any]] = deque()
        self._holder = _ThisProcess()
        self._portal = current_portal()
        self._ended = trio.Event()
        server: ObjectServer = self._portal.start(self._serve, address)
        self.address = server.address.encode()
        self._host: ObjectHost = service_of(server).host
        atexit.register(self._atexit)

    def _make_inbox(self) -> Inbox:
        return ThreadInbox()

    def run_forever(self) -> None:
        """Work on requests until the server is closed.

        Raises:
            KeyError: if this thread has another server.
            AssertionError: if another thread runs this one.
            BaseException: what ends threads, as SystemExit; the server is closed then.
        """
        if RPCServer.get_server() is not self:
            RPCServer.register_server(self)
        try:
            self._inbox.serve_until(lambda: self._closed)
        finally:
            self._close_now()
            self._delete_discarded()

    def run_lazy(self) -> None:
        """Have this thread work on requests whenever it waits for results. Raises as `run_forever` does."""
        RPCServer.register_server(self)

    def _read_and_process_one(self) -> None:
        """Wait for a request, and work on it."""
        self._inbox.serve_one()

    def running(self) -> bool:
        """Whether it was not closed yet."""
        return not self._closed

    def close(self) -> None:
        """Close it, from any thread, after the requests that have come. Clients are told.

        If its thread does not get to that within a second, or does not run it at all, it is closed anyway.
        """
        own = self._thread is threading.current_thread()
        if not own and self._thread is not None and self._thread.is_alive():
            self._inbox.put(lambda: self._portal.run_soon(self._begin_to_end))
            self._portal.call(_wait_a_moment, self._ended)
        self._close_now()
        if own:
            self._delete_discarded()

    def _close_now(self) -> None:
        with contextlib.suppress(PortalClosed):
            self._portal.call(self._end)
        self._finish()

    def _finish(self) -> None:
        """Nothing comes any more. In any thread, maybe several times."""
        self._closed = True
        RPCServer.unregister_server(self)
        atexit.unregister(self._atexit)
        self._inbox.wake()

    def _delete_discarded(self) -> None:
        """In the thread of the server."""
        with contextlib.suppress(IndexError):
            while True:
                self._discarded.popleft().clear()

    def _atexit(self) -> None:
        if not self._closed:
            logger.warning("RPCServer exiting without close()!")
            self._close_now()

    # -- its objects -------------------------------------------------------------------------------------

    def __getitem__(self, key: str) -> Any:
        """What it publishes under a name."""
        return self._namespace[key]

    def __setitem__(self, key: str, value: Any) -> None:
        """Publish something."""
        self._namespace[key] = value

    def get_proxy(self, obj: Any, **kwds: Any) -> ObjectProxy:
        """A proxy to an object of this process. Options are those of `ObjectProxy`.

        The object is kept until the proxy is deleted, or the server closed.
        """
        return proxy_of(self._host.refer(obj, self._holder), kwds)

    def unwrap_proxy(self, proxy: ObjectProxy) -> Any:
        """The object that a proxy stands for, if it is of this server; else the proxy.

        Raises:
            KeyError: if it was released.
            AttributeError: if it has not the attribute that the proxy stands for.
        """
        return self._host.resolve(proxy._refer(self.address.decode(), None), self._holder)

    def auto_proxy(self, obj: Any, no_proxy_types: list[type]) -> Any:
        """An object of one of these types; or a proxy to it."""
        return obj if isinstance(obj, tuple(no_proxy_types)) else self.get_proxy(obj)

    def process_action(
        self, action: str, opts: Mapping[str, Any] | None, return_type: str, caller: object
    ) -> Any:
        """Do what a client could ask for, in this thread; arguments that cannot be copied are passed as they
        are. Returns the result. Raises whatever is wrong with it.
        """
        holder = self._holder
        with self._host.referring(holder) as refer:
            data = b"" if opts is None else SERIALIZERS["msgpack"](refer).dumps(opts)
        value = self._host.prepare(ObjectRequest(0, action, return_type, "msgpack", data), holder)()
        if return_type == "proxy":
            return self.get_proxy(value)
        return self.auto_proxy(value, self.no_proxy_types) if return_type == "auto" else value

    def start_timer(self, callback: Callable[[], Any], interval: float, **kwds: Any) -> Timer:
        """Call a function at regular times, in the thread that runs the server. See `Timer`."""
        proxy = callback if isinstance(callback, ObjectProxy) else self.get_proxy(callback)
        return Timer(proxy, interval, **{"start": True, **kwds})

    # -- in the portal -----------------------------------------------------------------------------------

    async def _serve(self, address: str, task_status: trio.TaskStatus[ObjectServer]) -> None:
        started = False
        try:
            async with open_background_tasks() as nursery:
                server = await nursery.start(self._serve_objects, address)
                started = True
                service = service_of(server)
                service.links = BlockingLinks(service.nursery, LinkOptions(), service.host, {})
                service.host.close = partial(self._close_host, service.host.close)
                service.host.discard = self._discard
                service.host.admit(self._holder)
                self._holder.server_address = server.address
                task_status.started(server)
                await self._ended.wait()
        except Exception:
            if not started:
                raise
            logger.exception("server ended")
        finally:
            self._finish()

    async def _serve_objects(self, address: str, task_status: trio.TaskStatus[ObjectServer]) -> None:
        try:
            await serve_objects(
                self._namespace,
                address,
                unrestricted=True,
                sync_methods=self._inbox.put,
                max_proxies=sys.maxsize,  # upstream's clients release nothing by themselves
                task_status=task_status,
            )
        finally:
            self._ended.set()

    def _close_host(self, close: Callable[[Holder], None], caller: Holder) -> None:
        if not self._is_ending:
            self._is_ending = True
            close(caller)
            self._finish()  # before the client that has asked for it knows

    def _discard(self, objects: list[Any]) -> None:
        """Have objects deleted in the thread that has made them; widgets of Qt insist on that."""
        if objects:
            self._discarded.append(objects)
            self._inbox.put(self._delete_discarded)

    def _begin_to_end(self) -> None:
        self._host.close(self._holder)

    async def _end(self) -> None:
        self._begin_to_end()
        await self._ended.wait()


class QtRPCServer(RPCServer):
    """A server whose requests are executed by the event loop of Qt: pyacq's `QtRPCServer`.

    Make it in the thread of the `QApplication`, after that, and call `run_forever`, which returns at once;
    then run the event loop. While that thread waits for results of other servers, the event loop goes on.

    It works with PySide6 (``pip install trionet[qt]``), and with PyQt6 or PyQt5 where the program has
    imported these. Security: see `RPCServer`.

    Args:
        address: As for `RPCServer`.
        quit_on_close: Whether the event loop ends with the server.

    Raises:
        ModuleNotFoundError: without Qt; and what `RPCServer` raises.
    """

    def __init__(self, address: str = "tcp://127.0.0.1:*", quit_on_close: bool = True) -> None:
        self.quit_on_close = quit_on_close
        super().__init__(address)

    def _make_inbox(self) -> Inbox:
        from trionet_compat.pyacq.core.rpc._qt import QtInbox  # most programs have no Qt

        self._qt_inbox = QtInbox()
        return self._qt_inbox

    def run_forever(self) -> None:
        """Have the event loop of this thread work on requests from now on. Raises as for `RPCServer`."""
        self.run_lazy()

    def close(self) -> None:
        """As for `RPCServer`."""
        super().close()
        if self._thread is threading.current_thread():
            self._qt_inbox.serve_rest()  # or the next event loop would end at once

    def _finish(self) -> None:
        if self.quit_on_close and not self._closed:
            from trionet_compat.pyacq.core.rpc._qt import quit_application

            self._inbox.put(quit_application)
        super()._finish()


class _ThisProcess:
    """Who holds the references that the program has made: see `Holder`."""

    name = receiver = "this process"
    server_address = ""
    give_back = None

    def resolve_foreign(self, reference: ProxyReference) -> Any:
        return proxy_of(reference, {})


async def _wait_a_moment(ended: trio.Event) -> None:
    with trio.move_on_after(_CLOSE_TIMEOUT):
        await ended.wait()
