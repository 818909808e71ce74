"""The blocking clients of RPC servers. Trio works for them in the background: see `trionet_compat.portal`."""

from __future__ import annotations

import contextlib
import errno
import functools
import logging
import math
import ssl
import sys
import warnings
from collections.abc import Awaitable, Callable
from typing import Any, Final, NoReturn, Protocol

import trio

from trionet import AUTO, BestEffortRpcClient, RpcClient, open_best_effort_rpc_client, open_rpc_client
from trionet.wire.feeds import PyonVersion
from trionet_compat.portal import Opened, current_portal
from trionet_compat.sipyco._errors import ConnectionClosed, upstream_errors
from trionet_compat.sipyco._targets import AutoTarget, TargetName, choose_target

_CLOSED: Final = "Connection closed before a full line was received."
# Upstream's blocking clients take replies of any length.
_MAX_REPLY_SIZE: Final = sys.maxsize


class ClientTLS(Protocol):
    """What clients need of a ``SimpleSSLConfig``."""

    def create_client_context(self) -> ssl.SSLContext:
        """For connecting; OSError if a file cannot be used."""


class Client:
    """A blocking RPC client. Stands for ``sipyco.pc_rpc.Client``.

    Once connected, the methods of the target are methods of this object. It connects when it is made, and
    must be closed with `close_rpc`. Remote methods with the names of its own cannot be called.

    Any number of threads may share one: their calls share the connection. It belongs to the portal that is
    current when it is made, see `trionet_compat.portal.current_portal`.

    Args:
        host: Name or address of the server.
        port: Its port.
        target_name: Name of the target; `AutoTarget` for the only one; None to look at `get_rpc_id` first,
            and then call `select_rpc_target`.
        timeout: Seconds for connecting, for each step of the handshake, and for each call; None for no limit.
            Upstream's is one for each operation on the socket, so a long reply may take longer there.
        ssl_config: Speak TLS: a ``SimpleSSLConfig``.

    Raises:
        OSError: if the server cannot be reached: ConnectionRefusedError, TimeoutError, ssl.SSLError, ...
        IncompatibleServer: if it does not have the target.
        ValueError: for `AutoTarget`, if it has several targets; IndexError if it has none.
        EOFError: if it closes the connection, or is no RPC server. That is a ConnectionResetError, too.

    Calls raise

    - what the remote method raised; its traceback there is the attribute ``parent_traceback``;
    - TypeError if an argument cannot be encoded (or ValueError); nothing was sent then;
    - TimeoutError after `timeout`. The server executes the call all the same; the next call works, and gets
      its own reply. Only if the call was still being sent, the connection is closed;
    - EOFError, which is a ConnectionResetError and a BrokenPipeError, too, if the connection is lost;
    - OSError after `close_rpc`.
    """

    _pyon_version: PyonVersion = 2
    __opened: Opened[RpcClient] | None = None
    __closed = False

    def __init__(
        self,
        host: str,
        port: int,
        target_name: TargetName | None = AutoTarget,
        timeout: float | None = None,
        ssl_config: ClientTLS | None = None,
    ) -> None:
        if timeout is not None and timeout < 0:
            raise ValueError("Timeout value out of range")
        self.__selected: str | None = None
        self.__timeout = timeout
        self.__portal = current_portal()
        context = None if ssl_config is None else ssl_config.create_client_context()
        with self.__errors():
            self.__opened = self.__portal.open(_open(host, port, timeout, context, self._pyon_version))
        try:
            if target_name is not None:
                self.select_rpc_target(target_name)
        except BaseException:
            self.close_rpc()
            raise

    def __del__(self, warn: Callable[..., None] = warnings.warn) -> None:
        if self.__opened is not None and not self.__closed:
            self.__opened.abandon()
            warn(f"unclosed {self!r}", ResourceWarning, stacklevel=2, source=self)

    def __repr__(self) -> str:
        peer = "nothing" if self.__opened is None else self.__opened.value.peer
        return f"<{type(self).__name__} connected to {peer}>"

    def select_rpc_target(self, target_name: TargetName) -> None:
        """Choose the target of the calls; once, for a client that was made with ``target_name=None``.

        Raises:
            IncompatibleServer: if the server does not have it. Another can be selected then.
            ValueError: for `AutoTarget`, if it has several targets; IndexError if it has none.
        """
        client = self.__client()
        name = choose_target(client.targets, target_name)
        with self.__errors():
            self.__portal.call(client.select_target, name)
        self.__selected = name

    def get_selected_target(self) -> str | None:
        """The name of the target that was selected, or None."""
        return self.__selected

    def get_rpc_id(self) -> tuple[list[str], str | None]:
        """The names of the targets that the server offers, and its description of itself."""
        client = self.__opened_client()
        return list(client.targets), client.description

    def get_local_host(self) -> str:
        """The address of this side in the connection. OSError if that is lost."""
        address = self.__client().local_host
        if address is None:
            raise OSError(errno.ENOTCONN, "the connection is lost")
        return address

    def get_rpc_method_list(self) -> dict[str, Any]:
        """The documentation of the target, as the server sends it.

        Returns:
            ``{"docstring": text or None, "methods": {name: (argspec, docstring or None)}}``, where an argspec
            is a dict with the fields of `inspect.getfullargspec`.
        """
        return dict(self.__call(self.__client().list_methods))

    def close_rpc(self) -> None:
        """Close the connection. Calls of other threads that still wait raise EOFError. May be repeated."""
        self.__closed = True
        if self.__opened is not None:
            self.__opened.close()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if self.__opened is None or name not in self.__opened.value.methods:
            raise AttributeError(f"{self!r} has no method {name!r}", name=name, obj=self)

        def method(*args: Any, **kwargs: Any) -> Any:
            return self.__call(functools.partial(self.__client().call, name, *args, **kwargs))

        method.__name__ = method.__qualname__ = name
        return method

    def __opened_client(self) -> RpcClient:
        assert self.__opened is not None
        return self.__opened.value

    def __client(self) -> RpcClient:
        if self.__closed:
            raise OSError(errno.EBADF, "this client has been closed")
        return self.__opened_client()

    def __call(self, async_fn: Callable[[], Awaitable[Any]]) -> Any:
        with self.__errors():
            if self.__timeout is None:
                return self.__portal.call(async_fn)
            return self.__portal.call(_within, self.__timeout, async_fn)

    def __errors(self) -> contextlib.AbstractContextManager[None]:
        return upstream_errors(_CLOSED)


def _open(
    host: str,
    port: int,
    timeout: float | None,
    context: ssl.SSLContext | None,
    pyon_version: PyonVersion,
) -> contextlib.AbstractAsyncContextManager[RpcClient]:
    seconds = math.inf if timeout is None else timeout
    return open_rpc_client(
        host,
        port,
        None,
        ssl_context=context,
        connect_timeout=seconds,
        handshake_timeout=seconds,
        max_message_size=_MAX_REPLY_SIZE,
        pyon_version=pyon_version,
    )


async def _within(seconds: float, async_fn: Callable[[], Awaitable[Any]]) -> Any:
    with trio.move_on_after(seconds):
        return await async_fn()
    raise TimeoutError("timed out")


class BestEffortClient:
    """A blocking RPC client for what may be missing. Stands for ``sipyco.pc_rpc.BestEffortClient``.

    Calls return None while there is no connection, and if it is lost before the reply. It is opened again in
    the background. Making one never raises anything on account of the server; outages go to the log of
    ``sipyco.pc_rpc``, as warnings.

    Before the first connection nobody knows what methods there are. Upstream raises AttributeError for all
    names then; here any name without underscore in front is a method that returns None. Once a connection was
    made, other names than those of the target's methods raise AttributeError.

    Args:
        host: Name or address of the server.
        port: Its port.
        target_name: Name of the target, or `AutoTarget`.
        firstcon_timeout: Seconds that the first attempt to connect may take; None for no limit.
        retry: Seconds from one attempt to the next.
        ssl_config: Speak TLS: a ``SimpleSSLConfig``. If its files cannot be used, that is logged, and there
            never is a connection.

    Calls raise what the remote method raised, and TypeError (or ValueError) for arguments that cannot be
    encoded. Any number of threads may share one.
    """

    _pyon_version: PyonVersion = 2
    _logger = logging.getLogger("sipyco.pc_rpc")
    __opened: Opened[BestEffortRpcClient] | None = None
    __closed = False

    def __init__(
        self,
        host: str,
        port: int,
        target_name: TargetName,
        firstcon_timeout: float | None = 1.0,
        retry: float = 5.0,
        ssl_config: ClientTLS | None = None,
    ) -> None:
        self.__address = f"{host}:{port}"
        self.__portal = current_portal()
        try:
            context = None if ssl_config is None else ssl_config.create_client_context()
        except OSError:
            self._logger.warning("%s: TLS cannot be used, so no connection", self.__address, exc_info=True)
            return
        self.__opened = self.__portal.open(
            open_best_effort_rpc_client(
                host,
                port,
                target_name if isinstance(target_name, str) else AUTO,
                first_timeout=math.inf if firstcon_timeout is None else firstcon_timeout,
                retry_interval=retry,
                ssl_context=context,
                max_message_size=_MAX_REPLY_SIZE,
                pyon_version=self._pyon_version,
                logger=self._logger,
            )
        )

    def __del__(self, warn: Callable[..., None] = warnings.warn) -> None:
        if self.__opened is not None and not self.__closed:
            self.__opened.abandon()
            warn(f"unclosed {self!r}", ResourceWarning, stacklevel=2, source=self)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.__address}>"

    def get_selected_target(self) -> NoReturn:
        """Not offered by this client."""
        raise NotImplementedError

    def get_local_host(self) -> NoReturn:
        """Not offered by this client."""
        raise NotImplementedError

    def close_rpc(self) -> None:
        """Close the connection, or stop trying. Calls return None from then on. May be repeated."""
        self.__closed = True
        if self.__opened is not None:
            self.__opened.close()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        methods = None if self.__opened is None else self.__opened.value.methods
        if name.startswith("_") if methods is None else name not in methods:
            raise AttributeError(f"{self!r} has no method {name!r}", name=name, obj=self)

        def method(*args: Any, **kwargs: Any) -> Any:
            return self.__call(name, args, kwargs)

        method.__name__ = method.__qualname__ = name
        return method

    def __call(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self.__opened is None or self.__closed:
            return None
        try:
            with upstream_errors(_CLOSED):
                return self.__portal.call(functools.partial(self.__opened.value.call, name, *args, **kwargs))
        except ConnectionClosed:  # what came was no reply
            return None
