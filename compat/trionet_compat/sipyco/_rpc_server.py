"""RPC servers for asyncio programs, and the main loop of a controller."""

from __future__ import annotations

import asyncio
import inspect
import logging
import math
import ssl
from collections.abc import Awaitable, Callable, Generator, Mapping
from typing import Any

import trio
from outcome import Error, Outcome, Value

from trionet import RpcServer, per_connection, serve_rpc
from trionet.rpc.methods import describe
from trionet.wire.feeds import PyonVersion
from trionet_compat import guest
from trionet_compat.sipyco._serving import FrontEndServer
from trionet_compat.sipyco.tools import AsyncioServer, Host, SignalHandler, SimpleSSLConfig


class Server(FrontEndServer):
    """An RPC server; stands for sipyco's class of that name. It is `trionet.serve_rpc`, see there.

    Methods run in the loop; the log of ``sipyco.pc_rpc`` has their calls, as DEBUG. What gives a coroutine is
    awaited, as a task of asyncio; it is not cancelled when its client leaves, but when the server stops.

    What is different: names that begin with an underscore, and properties, cannot be called. A remote
    `terminate` closes all connections, not only the next `stop` does. SystemExit in a method, where there is
    no `terminate`, goes to the client, and so does `asyncio.CancelledError`. KeyboardInterrupt ends the
    program.

    Attributes:
        targets: The objects by name, as of the next `start`. One that can be called is called for each
            connection, and gives the target.
        description: What the server says of itself.
        builtin_terminate: Whether clients can call `terminate`.

    Raises:
        ValueError: for a target name with white space, or a description that is no text.
    """

    _pyon_version: PyonVersion = 2
    _logger = logging.getLogger("sipyco.pc_rpc")

    def __init__(
        self,
        targets: Mapping[str, Any],
        description: str | None = None,
        builtin_terminate: bool = False,
        allow_parallel: bool = False,
    ) -> None:
        AsyncioServer.__init__(self)
        if any(name.split() != [name] for name in targets):
            raise ValueError("target names must not contain whitespace")
        if not isinstance(description, str | None):
            raise ValueError("description must be `None` or `str`")
        self.targets = targets
        self.description = description
        self.builtin_terminate = builtin_terminate
        self._allow_parallel = allow_parallel
        self._terminated = trio.Event()
        self._calls: set[trio.CancelScope] = set()

    async def wait_terminate(self) -> None:
        """Wait until a client has called `terminate`. AttributeError without ``builtin_terminate``."""
        if not self.builtin_terminate:
            raise AttributeError("clients cannot terminate this server: it has no builtin_terminate")
        await guest.run(self._terminated.wait)

    async def _serve(
        self,
        host: Host,
        port: int,
        context: ssl.SSLContext | None,
        *,
        task_status: trio.TaskStatus[RpcServer],
    ) -> None:
        await serve_rpc(
            {name: _made_if_callable(target) for name, target in self.targets.items()},
            port,
            description=self.description,
            allow_parallel=self._allow_parallel,
            allow_terminate=self.builtin_terminate,
            call_method=self._call_method,
            handshake_timeout=math.inf,
            pyon_version=self._pyon_version,
            host=host,
            ssl_context=context,
            task_status=task_status,
        )
        self._terminated.set()  # otherwise it would have been cancelled

    def _end(self) -> None:
        for scope in self._calls:
            scope.cancel()

    def _call_method(self, method: Callable[..., Any], args: Any, kwargs: dict[str, Any]) -> Any:
        if self._logger.isEnabledFor(logging.DEBUG):
            self._logger.debug("calling %s", _WrittenCall(method, args, kwargs))
        result = method(*args, **kwargs)
        return _AsyncioCall(result, self._calls) if inspect.isawaitable(result) else result

    @staticmethod
    def _document_function(function: Callable[..., Any]) -> tuple[dict[str, Any], str | None]:
        """The description of a function in a list of methods: its arguments and its documentation."""
        documented: tuple[dict[str, Any], str | None]
        documented = describe(None, {"function": function}, False)["methods"]["function"]
        return documented


def _made_if_callable(target: Any) -> Any:
    return per_connection(target) if callable(target) else target


class _WrittenCall:
    """A call as it would stand in a program, for the log: written only if a handler wants it."""

    def __init__(self, method: Callable[..., Any], args: Any, kwargs: dict[str, Any]) -> None:
        self._name = getattr(method, "__name__", type(method).__name__)
        self._args = args
        self._kwargs = kwargs

    def __str__(self) -> str:
        keywords = (f"{name}={value!r}" for name, value in sorted(self._kwargs.items()))
        return f"{self._name}({', '.join([*map(repr, self._args), *keywords])})"


class _AsyncioCall:
    """The result of a method, awaited by asyncio; for a task of Trio."""

    def __init__(self, work: Awaitable[Any], calls: set[trio.CancelScope]) -> None:
        self._work = work
        self._calls = calls

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._run().__await__()

    async def _run(self) -> Any:
        # Not to be cancelled when the client leaves: that is nothing that programs for sipyco expect.
        with trio.CancelScope(shield=True) as scope:
            self._calls.add(scope)
            try:
                outcome = await guest.run_asyncio(_outcome_of, self._work)
                return outcome.unwrap()
            finally:
                self._calls.discard(scope)
        await trio.lowlevel.checkpoint()  # the server ends: no answer
        raise AssertionError("unreachable")

    def close(self) -> None:
        """It is over, or its turn has never come."""
        if inspect.iscoroutine(self._work):
            self._work.close()


async def _outcome_of(work: Awaitable[Any]) -> Outcome[Any]:
    """What a coroutine returns or raises. SystemExit in a task would end the loop."""
    try:
        return Value(await work)
    except (KeyboardInterrupt, trio.Cancelled):
        raise
    except BaseException as error:
        return Error(error)


def simple_server_loop(
    targets: Mapping[str, Any],
    host: Host,
    port: int,
    description: str | None = None,
    allow_parallel: bool = False,
    ssl_config: SimpleSSLConfig | None = None,
    *,
    loop: asyncio.AbstractEventLoop | None = None,
) -> None:
    """Serve until a signal, or a client that calls `terminate`, ends it. In the main thread.

    The arguments are those of `Server` and of its ``start``.

    Args:
        targets: The objects by name.
        host: Where to listen.
        port: The port.
        description: What the server says of itself.
        allow_parallel: Let calls of several connections run at the same time.
        ssl_config: Speak TLS.
        loop: The loop to use. By default a new one, which is closed at the end.
    """
    used = asyncio.new_event_loop() if loop is None else loop
    if loop is None:
        asyncio.set_event_loop(used)
    try:
        signals = SignalHandler()
        signals.setup()
        try:
            server = Server(targets, description, True, allow_parallel)
            used.run_until_complete(_serve_until_told(server, signals, host, port, ssl_config))
        finally:
            signals.teardown()
    finally:
        if loop is None:
            used.run_until_complete(used.shutdown_asyncgens())
            asyncio.set_event_loop(None)
            used.close()


async def _serve_until_told(
    server: Server, signals: SignalHandler, host: Host, port: int, ssl_config: SimpleSSLConfig | None
) -> None:
    await server.start(host, port, ssl_config)
    try:
        waiting = [
            asyncio.ensure_future(signals.wait_terminate()),
            asyncio.ensure_future(server.wait_terminate()),
        ]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.wait(waiting)
    finally:
        await server.stop()
