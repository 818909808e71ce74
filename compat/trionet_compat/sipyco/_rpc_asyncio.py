"""The client of RPC servers for asyncio programs."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import math
import warnings
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

import trio

from trionet import RpcClient, open_rpc_client
from trionet.wire.feeds import PyonVersion
from trionet_compat import guest
from trionet_compat.sipyco._errors import ConnectionClosed, upstream_errors
from trionet_compat.sipyco._targets import AutoTarget, TargetName, choose_target
from trionet_compat.sipyco.tools import SimpleSSLConfig

_CLOSED: Final = "Connection closed unexpectedly"
# As upstream's.
_MAX_REPLY_SIZE: Final = 100 * 1024 * 1024


class AsyncioClient:
    """A client for asyncio, and for Trio; stands for sipyco's class of that name.

    ``await client.method(...)`` calls a method of the target; a name that it does not have is an
    AttributeError at once. Calls of several tasks are carried out in their order. Unlike upstream's, a
    call that is cancelled leaves nothing behind that the next one could take for its reply.

    Connecting and calling take as long as they take: cancel them, or use ``asyncio.timeout``.
    """

    _pyon_version: PyonVersion = 2
    _opened: guest.Opened[RpcClient] | None = None

    async def connect_rpc(
        self,
        host: str,
        port: int,
        target_name: TargetName | None = AutoTarget,
        ssl_config: SimpleSSLConfig | None = None,
    ) -> None:
        """Connect. May be done again after `close_rpc`.

        Args:
            host: Name or address of the server.
            port: Its port.
            target_name: The target; `AutoTarget` for the only one; None to call `select_rpc_target` later.
            ssl_config: Speak TLS.

        Raises:
            OSError: if the server cannot be reached.
            IncompatibleServer: if it does not have the target.
            ValueError: for `AutoTarget`, if it has several; IndexError, if it has none.
            EOFError: if it closes the connection.
        """
        await AsyncioClient.close_rpc(self)
        context = None if ssl_config is None else ssl_config.create_client_context()
        client = open_rpc_client(
            host,
            port,
            None,
            ssl_context=context,
            connect_timeout=math.inf,
            handshake_timeout=math.inf,
            max_message_size=_MAX_REPLY_SIZE,
            pyon_version=self._pyon_version,
        )
        with upstream_errors(_CLOSED):
            self._opened = await guest.open_held(client)
        self._turns = _Turns()
        self._call_soon = _call_soon()  # garbage is collected in any thread
        self._selected: str | None = None
        if target_name is not None:
            try:
                await self.select_rpc_target(target_name)
            except BaseException:
                await AsyncioClient.close_rpc(self)
                raise

    async def select_rpc_target(self, target_name: TargetName) -> None:
        """Choose the target, once, if that was not done by `connect_rpc`. Raises as that does."""
        opened = self._require_opened()
        name = choose_target(opened.value.targets, target_name)
        with upstream_errors(_CLOSED):
            await opened.run(opened.value.select_target, name)
        self._selected = name

    def get_selected_target(self) -> str | None:
        """The target, also after `close_rpc`. AttributeError before the first connection."""
        return self._selected

    def get_local_host(self) -> str:
        """Our own address in this connection."""
        return str(self._require_opened().value.local_host)

    def get_rpc_id(self) -> tuple[list[str] | None, str | None]:
        """The names of the targets and the description of the server; both None without connection."""
        if self._opened is None:
            return None, None
        return list(self._opened.value.targets), self._opened.value.description

    async def close_rpc(self) -> None:
        """Close the connection, if there is one, and wait for that."""
        opened, self._opened = self._opened, None
        if opened is not None:
            await opened.aclose()

    def __getattr__(self, name: str) -> Callable[..., Coroutine[Any, Any, Any]]:
        opened = self._opened
        if opened is None or name not in opened.value.methods:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}", name=name)

        async def method(*args: Any, **kwargs: Any) -> Any:
            return await self._call(name, *args, **kwargs)

        method.__name__ = method.__qualname__ = name
        return method

    async def _call(self, method: str, /, *args: Any, **kwargs: Any) -> Any:
        """Call a method of the target."""
        opened, turns = self._require_opened(), self._turns
        turn = turns.take()
        try:
            with upstream_errors(_CLOSED):
                call = functools.partial(opened.value.call, method, *args, **kwargs)
                return await opened.run(_call_in_turn, turns, turn, call)
        except trio.RunFinishedError as error:  # the loop has been ended with the client open
            raise ConnectionClosed(_CLOSED) from error
        finally:
            turns.leave(turn)

    def _require_opened(self) -> guest.Opened[RpcClient]:
        if self._opened is None:
            raise AttributeError("not connected to an RPC server")
        return self._opened

    def __del__(self, warn: Callable[..., None] = warnings.warn) -> None:
        if self._opened is not None:
            warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=2)
            with contextlib.suppress(RuntimeError):  # the loop, or the run of Trio, is over
                self._call_soon(self._opened.abandon)


def _call_soon() -> Callable[[Callable[[], object]], object]:
    """How other threads have a function called in this one."""
    try:
        return asyncio.get_running_loop().call_soon_threadsafe
    except RuntimeError:
        return trio.lowlevel.current_trio_token().run_sync_soon


class _Turns:
    """Who may send next: tasks of Trio do not begin in the order in which they were started."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[trio.Event, None] = OrderedDict()

    def take(self) -> trio.Event:
        """Something that is set when it is one's turn. Give it to `leave` in any case."""
        turn = trio.Event()
        if not self._waiting:
            turn.set()
        self._waiting[turn] = None
        return turn

    def leave(self, turn: trio.Event) -> None:
        """One has had one's turn, or does not want it any more. May be called again."""
        if turn in self._waiting:
            del self._waiting[turn]
            if self._waiting:
                next(iter(self._waiting)).set()


async def _call_in_turn(turns: _Turns, turn: trio.Event, call: Callable[[], Awaitable[Any]]) -> Any:
    if not turn.is_set():
        await turn.wait()
    turns.leave(turn)  # the others come when this one waits for its reply
    return await call()
