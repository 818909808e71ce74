"""Running code in the process of a server, next to its driver, as upstream's ``remote_exec`` does.

A fast loop over a slow network: instead of a thousand calls, a client sends the function that makes them,
and calls that.

**Whoever can connect to such a server can run any code with the rights of its process**: read and change
its files, start programs, take over the account. There is no sandbox, and none can be made of Python. So
nothing here is on unless you ask for it: `serve_rpc` never offers it by itself. Serve it on loopback, which
is the default, or with a `TLSIdentity`, which admits only the peers whose certificates you gave; not on an
open port of a network that others use.
"""

from __future__ import annotations

import contextlib
import functools
import keyword
import operator
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Final

import trio

from trionet._connect import CONNECT_TIMEOUT
from trionet._server import HANDSHAKE_TIMEOUT as SERVER_HANDSHAKE_TIMEOUT
from trionet._server import AnyListener, Hosts
from trionet._tls import TLSConfig
from trionet.rpc._session import CallMethod, SyncMethods, call_method, per_connection
from trionet.rpc.client import HANDSHAKE_TIMEOUT, MAX_PENDING_CALLS, RpcClient, open_rpc_client
from trionet.rpc.server import RpcServer, serve_rpc
from trionet.wire.feeds import PyonVersion
from trionet.wire.lines import MAX_MESSAGE_SIZE

# Added to the name of a target for the one that executes code beside it.
_SUFFIX: Final = "_rexec"
# What remote code has as its __name__: clients see it in the names of the exceptions that it defines.
_MODULE_NAME: Final = "sipyco.remote_exec"
# A name that only our servers define: by it `connect_global_rpc` knows where its code runs.
_GLOBAL_RPC: Final = "controller_global_rpc"


class RemoteExecSession:
    """Executes code for one connection, in a namespace of its own."""

    def __init__(self, initial_namespace: Mapping[str, Any]) -> None:
        self.namespace: dict[str, Any] = {"__name__": _MODULE_NAME, **initial_namespace}

    def add_code(self, code: str) -> None:
        """Execute the text of a module in the namespace of this connection."""
        # Otherwise it would have the __future__ imports of this module.
        exec(compile(code, "<string>", "exec", dont_inherit=True), self.namespace)

    def call(self, function: str, *args: Any, **kwargs: Any) -> Any:
        """Call a function of the namespace and return its result; an async one is awaited."""
        return self.namespace[function](*args, **kwargs)  # and what can be awaited is, as with all methods


def remote_exec_targets(
    name: str,
    driver: Any,
    namespace: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The targets for `serve_rpc` to serve `driver`, and to execute code beside it.

    **Who can connect to that server can run any code with the rights of its process.** Keep it on loopback,
    or use a `TLSIdentity`.

    Args:
        name: Name of the target `driver`. The one that executes code is called that with ``_rexec`` behind.
        driver: Any object; remote code finds it as ``controller_driver``.
        namespace: More names that remote code finds. The mapping itself is not changed.

    Each connection has a namespace of its own, made from one dict for the whole server, which remote code
    finds as ``controller_initial_namespace``: what is stored there, later connections have from the
    beginning. Exception classes of remote code are called ``sipyco.remote_exec.Name`` on the wire, as
    upstream's are, because ``__name__`` is that of upstream's module. What looks that module up, such as
    `dataclasses` for annotations that are strings, does not find it where sipyco is not installed.

    Calls of remote code are calls like others: they take turns with those of the driver unless the server
    allows them in parallel, an async function is cancelled when its client leaves, and one that is not
    async holds up the whole server while it runs, unless `serve_rpc` runs it in a thread.

    Raises:
        TypeError: if `driver` is a `per_connection`: remote code and other clients share one driver.
    """
    if isinstance(driver, per_connection):
        raise TypeError("the driver must be one object for all connections, not per_connection()")
    shared: dict[str, Any] = dict(namespace or {})
    shared["controller_driver"] = driver
    shared["controller_initial_namespace"] = shared
    shared[_GLOBAL_RPC] = GlobalRpc
    return {name: driver, name + _SUFFIX: per_connection(functools.partial(RemoteExecSession, shared))}


async def serve_remote_exec(
    name: str,
    driver: Any,
    port: int,
    *,
    namespace: Mapping[str, Any] | None = None,
    description: str | None = None,
    allow_parallel: bool = False,
    allow_terminate: bool = False,
    sync_methods: SyncMethods = "inline",
    call_method: CallMethod = call_method,
    max_message_size: int = MAX_MESSAGE_SIZE,
    handshake_timeout: float = SERVER_HANDSHAKE_TIMEOUT,
    pyon_version: PyonVersion = 2,
    host: Hosts = "127.0.0.1",
    ssl_context: TLSConfig | None = None,
    listeners: list[AnyListener] | None = None,
    task_status: trio.TaskStatus[RpcServer] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve `driver`, and whatever code clients send, until cancelled.

    **Who can connect can run any code with the rights of this process**: with another `host` than loopback,
    give a `TLSIdentity` as `ssl_context`.

    Args:
        name: Name of the driver's target; see `remote_exec_targets`, also for `namespace`.
        driver: The object to serve.
        port: TCP port; 0 for a free one.
        namespace: More names that remote code finds.
        description: As for `serve_rpc`, and so are the others.

    Errors and cancellation: as with `serve_rpc`. SyntaxError and what the code raises go to the client
    that sent it.
    """
    await serve_rpc(
        remote_exec_targets(name, driver, namespace),
        port,
        description=description,
        allow_parallel=allow_parallel,
        allow_terminate=allow_terminate,
        sync_methods=sync_methods,
        call_method=call_method,
        max_message_size=max_message_size,
        handshake_timeout=handshake_timeout,
        pyon_version=pyon_version,
        host=host,
        ssl_context=ssl_context,
        listeners=listeners,
        task_status=task_status,
    )


class RemoteExec:
    """A namespace on a server. Made by `open_remote_exec`.

    Attributes:
        client: The connection, whose target is the one that executes code.
    """

    def __init__(self, client: RpcClient) -> None:
        self.client = client

    async def add_code(self, code: str) -> None:
        """Execute a module's text over there, in the namespace of this connection.

        Raises:
            SyntaxError: if it is no Python, with the line in its text.
            Exception: what it raises: see `RpcClient.call`.

        There is no ``await`` outside of functions. Cancellation: as in `RpcClient.call`.
        """
        await self.client.call("add_code", code)

    async def call(self, function: str, /, *args: Any, **kwargs: Any) -> Any:
        """Call a function that was defined over there. Servers of trionet await async ones.

        Its keyword arguments cannot be named ``self`` or ``function``, because the protocol has these.

        Raises:
            KeyError: if there is no such name.
            Exception: what it raises: see `RpcClient.call`.

        Cancellation: as in `RpcClient.call`; to end the function itself, close the connection.
        """
        return await self.client.call("call", function, *args, **kwargs)

    def __repr__(self) -> str:
        return f"<RemoteExec of target {self.client.target!r} at {self.client.peer}>"


@contextlib.asynccontextmanager
async def open_remote_exec(
    host: str,
    port: int,
    name: str,
    *,
    ssl_context: TLSConfig | None = None,
    connect_timeout: float = CONNECT_TIMEOUT,
    handshake_timeout: float = HANDSHAKE_TIMEOUT,
    max_message_size: int = MAX_MESSAGE_SIZE,
    max_pending_calls: int = MAX_PENDING_CALLS,
    pyon_version: PyonVersion = 2,
) -> AsyncIterator[RemoteExec]:
    """Connect to a server that executes code: ``async with open_remote_exec("lab-pc", 3251, "dev") as dev:``.

    ``await dev.add_code("def f(x): return controller_driver.value() + x")`` defines a function over there,
    in a namespace that ends with this connection, and ``await dev.call("f", 1)`` calls it.

    Args:
        host: Name or address of the server.
        port: Its port.
        name: Name of the driver's target, without ``_rexec``.
        ssl_context: As for `open_rpc_client`, and so are the others, the errors and the end of the block.
    """
    async with open_rpc_client(
        host,
        port,
        name + _SUFFIX,
        ssl_context=ssl_context,
        connect_timeout=connect_timeout,
        handshake_timeout=handshake_timeout,
        max_message_size=max_message_size,
        max_pending_calls=max_pending_calls,
        pyon_version=pyon_version,
    ) as client:
        yield RemoteExec(client)


class GlobalRpc:
    """The methods of a target on another server, for code that has no place to hold a connection open.

    ``await dataset_db.get("key")`` connects, calls and disconnects again. So it needs no closing, does not
    mind if the other server is restarted between calls, and works in any number of tasks.

    Args:
        host: Name or address of the other server.
        port: Its port.
        target: Name of its target.
        ssl_context: Speak TLS; see `TLSIdentity`.

    Its methods raise what `open_rpc_client` and `RpcClient.call` do. They must not call the server that
    they run in, unless that allows calls in parallel: it is waiting for this one.
    """

    __slots__ = ("_host", "_port", "_ssl_context", "_target")

    def __init__(self, host: str, port: int, target: str, *, ssl_context: TLSConfig | None = None) -> None:
        self._host = host
        self._port = port
        self._target = target
        self._ssl_context = ssl_context

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        if name.startswith("_"):
            raise AttributeError(f"only public methods can be called, not {name!r}", name=name, obj=self)

        async def method(*args: Any, **kwargs: Any) -> Any:
            async with open_rpc_client(
                self._host, self._port, self._target, ssl_context=self._ssl_context
            ) as client:
                return await client.call(name, *args, **kwargs)

        method.__name__ = method.__qualname__ = name
        return method

    def __repr__(self) -> str:
        return f"<GlobalRpc of target {self._target!r} at {self._host}:{self._port}>"


# Runs on servers of trionet and of upstream, and leaves nothing but the name that it was asked for.
_CONNECT_CODE: Final = f"""\
def _connect_global_rpc(name, host, port, target):
    shared = controller_initial_namespace
    if name not in shared:
        make = globals().get({_GLOBAL_RPC!r})
        if make is not None:
            shared[name] = make(host, port, target)
        else:
            import atexit
            import importlib
            for package in ("sipyco", "artiq.protocols", "trionet_compat.sipyco"):
                try:
                    module = importlib.import_module(package + ".pc_rpc")
                    break
                except ImportError:
                    pass
            else:
                raise ImportError("there is no sipyco here")
            shared[name] = client = module.Client(host, port, target)
            atexit.register(client.close_rpc)
    globals()[name] = shared[name]

try:
    _connect_global_rpc(*{{arguments}})
finally:
    del _connect_global_rpc
"""


async def connect_global_rpc(
    remote_exec: RemoteExec,
    host: str | None = None,
    port: int = 3251,
    target: str = "master_dataset_db",
    name: str = "dataset_db",
) -> None:
    """Give remote code access to a third server, by default to the datasets of an ARTIQ master.

    Args:
        remote_exec: Where the code runs.
        host: Name or address of the third server, as the second one can reach it; None for this computer,
            by the address that it has in the connection of `remote_exec`.
        port: Its port; by default that of upstream's master.
        target: Name of its target.
        name: What remote code calls it. If the server has that name already, it stays what it is.

    This connection has the name at once, those that are opened later from their beginning.

    On a server of trionet it is a `GlobalRpc`, whose methods are async: ``await dataset_db.get("key")`` in
    an ``async def``. It connects when it is used; for TLS, put one of your own into the `namespace` of
    `remote_exec_targets`. On a server of upstream it is a blocking `sipyco.pc_rpc.Client`, connected now and
    until that process ends: ``dataset_db.get("key")``. On one of `trionet_compat`, likewise its own.

    Raises:
        ValueError: if `name` cannot be a name in Python, `target` is not one word, or there is no `host` in
            a connection that is none over a network.
        Exception: what goes wrong over there, such as a third server that upstream cannot reach: see
            `RpcClient.call`.

    Cancellation: as in `RpcClient.call`.
    """
    host = host if host is not None else remote_exec.client.local_host
    if host is None:
        raise ValueError("this connection has no address of its own: name the host")
    await remote_exec.add_code(global_rpc_code(host, port, target, name))


def global_rpc_code(host: str, port: int, target: str, name: str) -> str:
    """The code that `connect_global_rpc` has executed; ValueError as there."""
    if not name.isidentifier() or keyword.iskeyword(name):
        raise ValueError(f"{name!r} cannot be a name in Python")
    if target.split() != [target]:
        raise ValueError(f"a target name must be one word, not {target!r}")
    # As plain str and int, whose repr() is what Python reads as the same value and nothing else.
    arguments = (str(name), str(host), operator.index(port), str(target))
    return _CONNECT_CODE.format(arguments=repr(arguments))
