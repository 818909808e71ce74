"""Calling the methods of objects on an RPC server, ours or sipyco's.

How requests and replies share a connection is the business of `_pipeline`.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

import trio

from trionet._connect import CONNECT_TIMEOUT, connect
from trionet._tasks import open_background_tasks
from trionet._tls import TLSConfig
from trionet._transport import Transport, local_host, open_transport
from trionet.rpc._pipeline import Encode, Pipeline
from trionet.rpc.methods import TargetDescription, read_description
from trionet.wire.errors import (
    CallInfo,
    ConnectionLost,
    LocalProtocolError,
    RemoteProtocolError,
    TrionetError,
)
from trionet.wire.feeds import PyonVersion
from trionet.wire.lines import MAX_MESSAGE_SIZE
from trionet.wire.packed_exceptions import rebuild
from trionet.wire.rpc import AUTO, AutoTarget, ClientConnection, MethodsReceived, State
from trionet.wire.rpc_messages import Greeting

#: Seconds that a server may take by default for each of the two steps of the handshake.
HANDSHAKE_TIMEOUT: Final = 10.0
#: Calls whose replies may be outstanding on one connection by default, those of cancelled callers included.
MAX_PENDING_CALLS: Final = 1024


class RpcClient:
    """A connection to an RPC server. Made by `open_rpc_client` and `wrap_rpc_stream`.

    Any number of tasks may call at the same time. The requests share the connection in the order of the
    calls, and the server answers in that order.

    Attributes:
        peer: Address of the server.
    """

    def __init__(
        self,
        transport: Transport,
        nursery: trio.Nursery,
        *,
        max_message_size: int,
        max_pending_calls: int,
        handshake_timeout: float,
        pyon_version: PyonVersion,
    ) -> None:
        if max_pending_calls < 1:
            raise ValueError(f"max_pending_calls must be at least 1, not {max_pending_calls}")
        self.peer = transport.peer
        self._transport = transport
        self._nursery = nursery
        self._handshake_timeout = handshake_timeout
        self._wire = ClientConnection(max_message_size, pyon_version)
        self._greeting = Greeting((), None, ())
        self._target: str | None = None
        self._methods: frozenset[str] = frozenset()
        self._pipeline = Pipeline(transport, self._wire, max_pending_calls)

    @property
    def local_host(self) -> str | None:
        """Our address in this connection, where the server can reach us.

        None if the stream has no such address, or is closed.
        """
        return local_host(self._transport.stream)

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of the targets that the server offers."""
        return self._greeting.targets

    @property
    def description(self) -> str | None:
        """What the server says of itself."""
        return self._greeting.description

    @property
    def target(self) -> str | None:
        """The target that was selected, or None."""
        return self._target

    @property
    def methods(self) -> frozenset[str]:
        """Names of the methods of the target. sipyco's servers list private ones, too."""
        return self._methods

    @property
    def pyon_version(self) -> int:
        """The encoding agreed upon: 2, or 1 with servers before sipyco 1.10."""
        return self._wire.pyon_version

    @property
    def proxy(self) -> RpcProxy:
        """The target in attribute style: ``await client.proxy.set_power(1.5)``."""
        return RpcProxy(self)

    @property
    def disconnect_reason(self) -> str | None:
        """Why the connection is lost; None while it is not."""
        return self._pipeline.lost

    async def wait_disconnected(self) -> None:
        """Wait until the connection is lost, whichever side has ended it."""
        await self._pipeline.disconnected.wait()

    async def select_target(self, name: str | AutoTarget) -> None:
        """Choose the target of the calls. Once per connection, if it was opened with ``target=None``.

        Raises:
            IncompatibleServer: if the server does not have it. Another can be selected then.
            ValueError: for `AUTO`, if the server has not exactly one target.
            ConnectionLost: if the server closes instead of accepting it.
            TimeoutError: if the server says nothing.

        Cancelled, the connection is closed.
        """
        started = trio.current_time()
        try:
            line = self._wire.select_target(name)
        except TrionetError as error:
            asked_for = name if isinstance(name, str) else None
            raise type(error)(error.message, CallInfo(self.peer, asked_for, None, 0.0)) from None
        self._target = self.targets[0] if isinstance(name, AutoTarget) else name
        event = await self._shake_hands(line, started)
        assert isinstance(event, MethodsReceived)
        self._methods = event.methods
        self._nursery.start_soon(self._pipeline.run)

    async def call(self, method: str, /, *args: Any, **kwargs: Any) -> Any:
        """Call a method of the target and return its result.

        Args:
            method: Its name.
            *args: Values that PYON can carry; so must be the keyword arguments and the result.

        Raises:
            AttributeError: if the target has no such method. Nothing was sent.
            TypeError: if an argument cannot be encoded (ValueError likewise). Nothing was sent.
            RemoteError: if the method raised an exception that is not a builtin one.
            Exception: if it raised a builtin one: that class, with its text. The remote traceback and the
                place are in its notes, and the place is its attribute ``call``, a `CallInfo`.
            ConnectionLost: if the connection is, or was, lost: whether the call was executed is unknown.
            RemoteProtocolError: if the server answers what is no reply. The connection is closed.

        Cancellation: while it waits for its turn or the reply, nothing is damaged, and the reply is
        discarded when it comes; the server executes the call all the same. In the middle of sending, the
        connection is closed, and the next call raises `ConnectionLost` at once.
        """
        if method not in self._methods:
            self._check_usable(method)
            raise self._no_such_method(method)
        return await self._request(method, lambda: self._wire.call(method, args, kwargs))

    async def describe(self) -> TargetDescription:
        """Documentation of the target and of its methods. Raises as `call` does."""
        started = trio.current_time()
        received = await self.list_methods()
        try:
            return read_description(received)
        except ValueError as error:
            raise RemoteProtocolError(str(error), self._info("get_rpc_method_list", started)) from error

    async def list_methods(self) -> Any:
        """What `describe` makes sense of, as the server sent it. Raises as `call` does."""
        return await self._request("get_rpc_method_list", self._wire.list_methods)

    def _no_such_method(self, method: str) -> AttributeError:
        error = AttributeError(f"target {self._target!r} of {self.peer} has no method {method!r}")
        error.name, error.obj = method, self.proxy  # lets the interpreter suggest a similar name
        return error

    def _info(self, method: str | None, started: float, traceback: tuple[str, ...] = ()) -> CallInfo:
        return CallInfo(self.peer, self._target, method, trio.current_time() - started, traceback)

    def _check_usable(self, method: str) -> None:
        if self._pipeline.lost is not None:
            info = CallInfo(self.peer, self._target, method, 0.0)
            raise ConnectionLost(self._pipeline.lost, info) from self._pipeline.lost_cause
        if self._wire.state is not State.READY:
            raise LocalProtocolError("no target is selected", CallInfo(self.peer, None, method))

    async def _request(self, method: str, encode: Encode) -> Any:
        started = trio.current_time()
        self._check_usable(method)
        reply = await self._pipeline.request(encode)
        if reply is None:
            cause = self._pipeline.lost_cause
            kind = RemoteProtocolError if isinstance(cause, RemoteProtocolError) else ConnectionLost
            raise kind(str(self._pipeline.lost), self._info(method, started)) from cause
        if reply.failure is not None:
            raise rebuild(reply.failure, self._info(method, started, reply.failure.traceback))
        return reply.result

    async def _greet(self) -> None:
        started = trio.current_time()
        event = await self._shake_hands(self._wire.greet(), started)
        assert isinstance(event, Greeting)
        self._greeting = event

    async def _shake_hands(self, line: bytes, started: float) -> Any:
        """Send a line of the handshake and wait for what it is answered with."""
        event = None
        try:
            with trio.move_on_after(self._handshake_timeout):
                await self._transport.send(line)
                while (event := self._wire.next_event()) is None:
                    data = await self._transport.receive()
                    if not data:
                        raise ConnectionLost(
                            "closed by the server in the handshake", self._info(None, started)
                        )
                    self._wire.receive_data(data)
        except RemoteProtocolError as error:
            raise RemoteProtocolError(error.message, self._info(None, started)) from error
        except trio.BrokenResourceError as error:
            raise ConnectionLost(f"lost in the handshake: {error}", self._info(None, started)) from error
        finally:
            if event is None:
                self._pipeline.lose("the handshake was not completed", None)
        if event is None:
            seconds = self._handshake_timeout
            raise TimeoutError(f"no answer of {self.peer} in the RPC handshake within {seconds} s")
        return event


class RpcProxy:
    """A remote target in attribute style; see `RpcClient.proxy`.

    ``proxy.method`` is an async function; AttributeError if the target has no such method.
    """

    __slots__ = ("_client",)

    def __init__(self, client: RpcClient) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        if name in RpcProxy.__slots__:  # while a copy is made, it is not there yet
            raise AttributeError(name, name=name, obj=self)
        if name not in self._client._methods:
            raise self._client._no_such_method(name)
        client = self._client

        async def method(*args: Any, **kwargs: Any) -> Any:
            return await client.call(name, *args, **kwargs)

        method.__name__ = method.__qualname__ = name
        return method

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._client._methods]

    def __repr__(self) -> str:
        return f"<RpcProxy of target {self._client.target!r} at {self._client.peer}>"


@contextlib.asynccontextmanager
async def open_rpc_client(
    host: str,
    port: int,
    target: str | AutoTarget | None = AUTO,
    *,
    ssl_context: TLSConfig | None = None,
    connect_timeout: float = CONNECT_TIMEOUT,
    handshake_timeout: float = HANDSHAKE_TIMEOUT,
    max_message_size: int = MAX_MESSAGE_SIZE,
    max_pending_calls: int = MAX_PENDING_CALLS,
    pyon_version: PyonVersion = 2,
) -> AsyncIterator[RpcClient]:
    """Connect to an RPC server: ``async with open_rpc_client("laser-pc", 3251) as laser:``.

    Args:
        host: Name or address of the server.
        port: Its port.
        target: Name of the target; `AUTO` for the only one; None to look at ``targets`` first, and then
            call ``select_target``.
        ssl_context: Speak TLS; see `TLSIdentity`.
        connect_timeout: Seconds for the connection, all addresses of the name and TLS included.
        handshake_timeout: Seconds that the server may take for each of the two steps of the handshake.
        max_message_size: Longest reply accepted, in bytes; a longer one ends the connection.
        max_pending_calls: Calls whose replies may be outstanding; further ones wait for their turn. A reply
            that nobody waits for any more counts until it comes.
        pyon_version: 1 never to agree on PYON v2, as peers did before sipyco 1.10.

    Raises:
        OSError: if the server cannot be reached: ConnectionRefusedError, TimeoutError, ...
        IncompatibleServer: if it does not have the target.
        ValueError: for `AUTO`, if it has not exactly one target; for a port that there cannot be; if not
            even one call may be outstanding.
        RemoteProtocolError: if it is no RPC server.
        ConnectionLost: if it closes the connection in the handshake.

    When the block ends the connection is closed; calls of other tasks that still wait raise
    `ConnectionLost`.
    """
    transport = await connect(host, port, ssl_context=ssl_context, connect_timeout=connect_timeout)
    async with _open_client(
        transport, target, handshake_timeout, max_message_size, max_pending_calls, pyon_version
    ) as client:
        yield client


@contextlib.asynccontextmanager
async def wrap_rpc_stream(
    stream: trio.abc.Stream,
    target: str | AutoTarget | None = AUTO,
    *,
    handshake_timeout: float = HANDSHAKE_TIMEOUT,
    max_message_size: int = MAX_MESSAGE_SIZE,
    max_pending_calls: int = MAX_PENDING_CALLS,
    pyon_version: PyonVersion = 2,
) -> AsyncIterator[RpcClient]:
    """Be an RPC client over a stream that is connected already. It is closed when the block ends.

    The arguments and errors are those of `open_rpc_client`.
    """
    transport = open_transport(stream)
    async with _open_client(
        transport, target, handshake_timeout, max_message_size, max_pending_calls, pyon_version
    ) as client:
        yield client


@contextlib.asynccontextmanager
async def _open_client(
    transport: Transport,
    target: str | AutoTarget | None,
    handshake_timeout: float,
    max_message_size: int,
    max_pending_calls: int,
    pyon_version: PyonVersion,
) -> AsyncIterator[RpcClient]:
    try:
        async with open_background_tasks() as nursery:
            client = RpcClient(
                transport,
                nursery,
                max_message_size=max_message_size,
                max_pending_calls=max_pending_calls,
                handshake_timeout=handshake_timeout,
                pyon_version=pyon_version,
            )
            await client._greet()
            if target is not None:
                await client.select_target(target)
            yield client
    finally:
        await transport.aclose()
