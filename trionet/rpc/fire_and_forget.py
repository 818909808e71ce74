"""Calls that nobody waits for: from callbacks of user interfaces, and for devices that may be slow.

Such a call returns at once, so it works where nothing can be awaited. What it costs: there is no result, a
call that finds another one under way is dropped, and what goes wrong is only to be read in the log.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import trio
from trio_util import AsyncBool

from trionet._tasks import open_background_tasks
from trionet.rpc.best_effort import BestEffortRpcClient
from trionet.rpc.client import RpcClient, RpcProxy
from trionet.rpc.methods import Method, is_computed

logger = logging.getLogger("trionet.rpc")


@dataclass(frozen=True, slots=True)
class FireAndForgetStatistics:
    """What became of the calls so far.

    Attributes:
        calls: Calls begun, the one in flight included.
        dropped: Calls dropped, because another one was in flight.
        failed: Calls that ended with an exception.
    """

    calls: int
    dropped: int
    failed: int


class FireAndForget:
    """A target whose methods can be called without waiting. Made by `open_fire_and_forget`.

    ``ff.method`` is a function that starts the call and returns None, for any public method of the target.
    Other attributes raise AttributeError, before anything is called; properties are among them, and are not
    read. Only a `BestEffortRpcClient` cannot say which methods there are: with one, a wrong name ends as a
    warning, like everything that goes wrong in a call, and a call during an outage ends without a word.

    A method with the name of one of this object's own is reached with ``ff.call("wait_idle")``.
    """

    def __init__(self, target: Any, nursery: trio.Nursery) -> None:
        self._target = target.proxy if isinstance(target, RpcClient) else target
        self._label = repr(self._target) if isinstance(self._target, RpcProxy) else type(target).__name__
        self._nursery = nursery
        self._token = trio.lowlevel.current_trio_token()
        self._in_flight = AsyncBool(False)
        self._method = ""
        self._closed = False
        self._calls = self._dropped = self._failed = 0

    @property
    def busy(self) -> bool:
        """Whether a call is in flight, so that another one would be dropped."""
        return bool(self._in_flight.value)

    async def wait_idle(self) -> None:
        """Wait until no call is in flight. Not in a method that was called: that waits for itself."""
        await self._in_flight.wait_value(False)

    def statistics(self) -> FireAndForgetStatistics:
        """Counters since the beginning."""
        return FireAndForgetStatistics(self._calls, self._dropped, self._failed)

    def call(self, method: str, /, *args: Any, **kwargs: Any) -> None:
        """Start a call of the method of that name; dropped with a warning if one is in flight.

        Arguments are passed on as they are, so do not change them while the call is in flight.

        Raises:
            AttributeError: if there is no such method.
            trio.ClosedResourceError: after the end of the block.
            RuntimeError: in another thread than that of Trio.
        """
        self._start(method, self._find(method), args, kwargs)

    def __getattr__(self, name: str) -> Callable[..., None]:
        found = self._find(name)

        def method(*args: Any, **kwargs: Any) -> None:
            self._start(name, found, args, kwargs)

        method.__name__ = method.__qualname__ = name
        return method

    def __dir__(self) -> list[str]:
        if isinstance(self._target, BestEffortRpcClient):
            return [*super().__dir__()]
        return [*super().__dir__(), *(name for name in dir(self._target) if not name.startswith("_"))]

    def __repr__(self) -> str:
        state = "closed" if self._closed else "busy" if self.busy else "idle"
        return f"<FireAndForget of {self._label}, {state}>"

    def _find(self, name: str) -> Method:
        if name.startswith("_"):
            raise AttributeError(f"only public methods can be called, not {name!r}", name=name, obj=self)
        target = self._target
        if isinstance(target, BestEffortRpcClient):
            return functools.partial(target.call, name)
        if not is_computed(target, name):
            method = getattr(target, name)
            if callable(method):
                return method  # type: ignore[no-any-return]
        raise AttributeError(f"{name!r} of {self._label} is no method", name=name, obj=target)

    def _start(self, name: str, method: Method, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._check_thread(name)
        if self._closed:
            raise trio.ClosedResourceError(f"call to {name!r} after the end of open_fire_and_forget()")
        if self.busy:
            self._dropped += 1
            logger.warning(
                "skipping fire-and-forget call to %r of %s: %r is still in flight",
                *(name, self._label, self._method),
            )
            return
        self._calls += 1
        self._method = name
        self._in_flight.value = True
        self._nursery.start_soon(self._run, name, functools.partial(method, *args, **kwargs), name=name)

    def _check_thread(self, name: str) -> None:
        try:
            here = trio.lowlevel.current_trio_token() is self._token
        except RuntimeError:
            here = False
        if not here:
            raise RuntimeError(
                f"call to {name!r} in another thread than that of Trio: use trio.from_thread.run_sync(...)"
            )

    async def _run(self, name: str, call: Callable[[], Any]) -> None:
        try:
            if inspect.iscoroutinefunction(call):
                result = call()
            else:  # as a tuple, because trio takes no coroutine out of a thread
                (result,) = await trio.to_thread.run_sync(lambda: (call(),))
            if inspect.isawaitable(result):
                await result
        except Exception:
            self._failed += 1
            logger.warning("fire-and-forget call to %r of %s failed", name, self._label, exc_info=True)
        finally:
            self._in_flight.value = False


@contextlib.asynccontextmanager
async def open_fire_and_forget(target: Any) -> AsyncIterator[FireAndForget]:
    """Call the methods of `target` without waiting: ``async with open_fire_and_forget(laser) as ff:``.

    ``ff.set_power(1.0)`` then returns None at once. One call is in flight at a time; further ones are
    dropped, each with a warning in the log of ``trionet.rpc``, so that a device that is slower than its
    calls gets no queue of old ones. What a method raises becomes a warning there, with the traceback.

    Args:
        target: An `RpcClient` or its proxy, a `BestEffortRpcClient`, or any object. Async methods run as a
            task. Others, which may take long, run in a worker thread each, and must be fit for that; if
            what they return can be awaited, it is awaited in Trio then.

    Raises:
        BaseException: what the block raises, and of what a method raises only what is no Exception, such
            as KeyboardInterrupt.

    At the end of the block the call in flight is waited for, so ``ff.close_shutter()`` may be its last line.
    If the block raises or is cancelled, an async call is cancelled: what a remote method does then is said
    at `RpcClient.call`. A thread cannot be, and is waited for in any case.
    """
    async with open_background_tasks() as nursery:
        fire_and_forget = FireAndForget(target, nursery)
        try:
            yield fire_and_forget
            fire_and_forget._closed = True
            await fire_and_forget.wait_idle()
        finally:
            fire_and_forget._closed = True
