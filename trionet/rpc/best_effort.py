"""An RPC client for what may be missing: a call during an outage returns None instead of failing."""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import trio
from trio_util import AsyncBool

from trionet._arguments import check_port
from trionet._tasks import open_background_tasks
from trionet._tls import TLSConfig, client_context
from trionet._transport import format_address
from trionet.rpc.client import RpcClient, open_rpc_client
from trionet.wire.errors import ConnectionLost, RemoteProtocolError, TrionetError
from trionet.wire.feeds import PyonVersion
from trionet.wire.lines import MAX_MESSAGE_SIZE
from trionet.wire.rpc import AutoTarget

logger = logging.getLogger("trionet.rpc")

#: Seconds that opening may take by default, as upstream: a program should not wait for what may be missing.
FIRST_TIMEOUT: Final = 1.0
#: Seconds from one attempt to connect to the next by default, as upstream.
RETRY_INTERVAL: Final = 5.0


class BestEffortRpcClient:
    """A connection that comes and goes. Made by `open_best_effort_rpc_client`.

    Attributes:
        connected: Whether there is a connection now; ``await client.connected.wait_value(True)`` waits for
            one. Read it, do not set it.
    """

    def __init__(self) -> None:
        self.connected = AsyncBool(False)
        self._client: RpcClient | None = None
        self._methods: frozenset[str] | None = None

    @property
    def methods(self) -> frozenset[str] | None:
        """Names of the methods of the target, as of the latest connection; None before the first one."""
        return self._methods

    async def call(self, method: str, /, *args: Any, **kwargs: Any) -> Any:
        """Call a method of the target, if there is a connection.

        Returns:
            What the method returned; None if there is no connection, or if it is lost before the reply, also
            because of what came instead of one.

        Raises:
            Exception: what the remote method raised, and what is wrong with the call itself: see
                `RpcClient.call`.

        Cancellation: as in `RpcClient.call`.
        """
        if self._client is not None:
            with contextlib.suppress(ConnectionLost, RemoteProtocolError):
                return await self._client.call(method, *args, **kwargs)
        await trio.lowlevel.checkpoint()  # so that a loop of calls leaves time to connect
        return None

    def _set(self, client: RpcClient | None) -> None:
        self._client = client
        if client is not None:
            self._methods = client.methods
        self.connected.value = client is not None


@contextlib.asynccontextmanager
async def open_best_effort_rpc_client(
    host: str,
    port: int,
    target: str | AutoTarget,
    *,
    first_timeout: float = FIRST_TIMEOUT,
    retry_interval: float = RETRY_INTERVAL,
    ssl_context: TLSConfig | None = None,
    max_message_size: int = MAX_MESSAGE_SIZE,
    pyon_version: PyonVersion = 2,
    logger: logging.Logger = logger,
) -> AsyncIterator[BestEffortRpcClient]:
    """Connect to an RPC server if it is there, and keep trying while it is not.

    Args:
        host: Name or address of the server.
        port: Its port.
        target: Name of the target, or `AUTO`.
        first_timeout: Seconds that the first attempt may take before the block begins without connection.
        retry_interval: Seconds from the beginning of one attempt to that of the next. A connection that is
            lost after a longer time is opened again at once.
        ssl_context: Speak TLS; see `TLSIdentity`.
        max_message_size: Longest reply accepted, in bytes; a longer one ends the connection.
        pyon_version: 1 never to agree on PYON v2, as peers did before sipyco 1.10.
        logger: Where outages, failed attempts and their reasons are told, once per outage.

    Raises:
        ValueError: for a port that there cannot be, or times that make no sense.
        OSError: if a file of a `TLSIdentity` cannot be used.

    Whatever the server does, nothing is raised.
    """
    check_port(port)
    if not retry_interval > 0:
        raise ValueError(f"retry_interval must be more than 0 s, not {retry_interval}")
    context = client_context(ssl_context)
    best_effort = BestEffortRpcClient()
    keeper = _Keeper(
        best_effort,
        lambda: open_rpc_client(
            host,
            port,
            target,
            ssl_context=context,
            max_message_size=max_message_size,
            pyon_version=pyon_version,
        ),
        format_address((host, port)),
        retry_interval,
        logger,
    )
    async with open_background_tasks() as nursery:
        await nursery.start(keeper.run, first_timeout)
        yield best_effort


class _StartOnce(trio.TaskStatus[None]):
    """Reports once, however often it is told to."""

    def __init__(self, task_status: trio.TaskStatus[None]) -> None:
        self._task_status: trio.TaskStatus[None] | None = task_status

    def started(self, value: None = None) -> None:
        if self._task_status is not None:
            self._task_status.started()
            self._task_status = None


class _Keeper:
    """Keeps a best-effort client connected."""

    def __init__(
        self,
        best_effort: BestEffortRpcClient,
        open_client: Callable[[], contextlib.AbstractAsyncContextManager[RpcClient]],
        peer: str,
        retry_interval: float,
        logger: logging.Logger = logger,
    ) -> None:
        self._best_effort = best_effort
        self._open_client = open_client
        self._peer = peer
        self._retry_interval = retry_interval
        self._logger = logger
        self._outage_reported = False

    async def run(self, first_timeout: float, *, task_status: trio.TaskStatus[None]) -> None:
        """Connect again and again; reports when the first attempt has ended, one way or the other."""
        started = trio.current_time()
        first = _StartOnce(task_status)
        reason = await self._connect_and_stay(first_timeout, first)
        first.started()
        while True:
            self._report_outage(reason)
            await trio.sleep_until(started + self._retry_interval)
            started = trio.current_time()
            reason = await self._connect_and_stay(math.inf, trio.TASK_STATUS_IGNORED)

    async def _connect_and_stay(self, seconds: float, task_status: trio.TaskStatus[None]) -> str:
        """Connect, and return why there is no connection, or none any more."""
        with trio.move_on_after(seconds) as attempt:
            try:
                async with self._open_client() as client:
                    attempt.deadline = math.inf
                    self._report_connection()
                    self._best_effort._set(client)
                    task_status.started()
                    await client.wait_disconnected()
                    return str(client.disconnect_reason)
            except (OSError, TrionetError, ValueError) as error:
                return str(error)
            finally:
                self._best_effort._set(None)
        return f"no answer within {seconds} s"

    def _report_outage(self, reason: str) -> None:
        if not self._outage_reported:
            self._logger.warning("%s: %s; trying again every %s s", self._peer, reason, self._retry_interval)
            self._outage_reported = True

    def _report_connection(self) -> None:
        if self._outage_reported:
            self._logger.warning("%s: connected again", self._peer)
            self._outage_reported = False
