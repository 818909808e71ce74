"""Trio in a background thread, for blocking code.

A portal is a thread with one Trio run in it. Blocking calls are carried out there and waited for in the
calling thread; what a blocking client needs in the background (the tasks of its connection) lives there, too.
All blocking objects of this package share one portal, which starts with the first of them. `open_portal`
makes another one: with a clock and a network of its own, it makes tests of blocking code exact and fast.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import os
import sys
import threading
import weakref
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, Generic, TypeVar

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trionet._linger import linger_rounds
from trionet._tasks import open_background_tasks
from trionet_compat._blocking_call import BlockingCall
from trionet_compat._crossing import in_context, is_cancelled
from trionet_compat._held import Held
from trionet_compat._nap import Nap
from trionet_compat._pause import Pause

T = TypeVar("T")
R = TypeVar("R")

# How often a waiting thread looks up, in seconds. On Windows it is deaf to Ctrl-C in between; elsewhere that
# wakes it, unless it comes between the interpreter's last look at signals and the wait.
_WAIT: Final = 0.1 if sys.platform == "win32" else 0.5

# Seconds that the interpreter may take for the rest of its exit before daemon threads that have made calls
# hear that there is no portal any more.
_EXIT_TIME: Final = 5.0


class PortalClosed(RuntimeError):
    """The portal was closed, before or during the call; or it is that of the process before a fork."""


class Portal:
    """A Trio run in a thread of its own. Made by `open_portal`; `current_portal` gives the one in use."""

    def __init__(
        self,
        clock: trio.abc.Clock | None = None,
        network: AbstractAsyncContextManager[object] | None = None,
    ) -> None:
        self._clock = clock
        self._network = network
        self._pause = Pause(clock) if isinstance(clock, MockClock) else None
        self._ready = threading.Event()
        self._closed: str | None = None  # why it is
        self._failure: BaseException | None = None
        self._exiting = False
        self._inbox: deque[BlockingCall] = deque()
        self._nap = Nap(self._inbox)
        self._pending: set[BlockingCall] = set()  # used in the portal's thread only
        self._thread = threading.Thread(target=self._run, name="trionet portal", daemon=True)
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            raise self._failure
        _portals.alive.add(self)

    def call(self, async_fn: Callable[..., Awaitable[T]], *args: Any) -> T:
        """Run an async function in the portal, and wait for it. From any thread but the portal's own.

        The context variables of the calling thread hold there, too: in a block ``with host.entered():`` of a
        virtual network, the function runs on that host.

        Raises:
            PortalClosed: if the portal has been closed, or is while this waits.
            RuntimeError: in the portal's own thread, as in a callback: it would wait for itself.
            KeyboardInterrupt: at once, on Ctrl-C. The function is cancelled; nobody waits for that.
            Exception: what the function raises.
        """
        self._check_usable()
        call = BlockingCall(async_fn, args)
        try:
            self._inbox.append(call)
            if not self._nap.end():
                self._wake(self._begin_all)
            while not call.done.acquire(timeout=_WAIT):
                pass
        except PortalClosed:
            self._stop_daemon()
            raise
        except BaseException:  # Ctrl-C
            self.run_soon(call.cancel)
            raise
        if call.error is not None:
            if isinstance(call.error, PortalClosed):
                self._stop_daemon()
            call.raise_error()
        result: T = call.take_result()
        return result

    def call_sync(self, fn: Callable[..., T], *args: Any) -> T:
        """Run a function in the portal's thread, and wait for it. Raises as `call` does."""

        async def run() -> T:
            return fn(*args)

        return self.call(run)

    def start(self, async_fn: Callable[..., Awaitable[object]], *args: object) -> Any:
        """Start a task that runs until the portal is closed, as `trio.Nursery.start` does; returns its value.

        If the task raises something later, the portal ends: calls raise `PortalClosed`, closing raises it.
        """
        return self.call(self._start, async_fn, args)

    def open(self, manager: AbstractAsyncContextManager[T]) -> Opened[T]:
        """Enter an async context manager. A task of the portal keeps it open. Raises what entering raises."""
        held = Held(manager)
        try:
            return Opened(self, held, self.call(self._open, held))
        except BaseException:  # it may have been opened after Ctrl-C
            self.run_soon(held.cancel)
            raise

    def sleep(self, seconds: float) -> None:
        """Let time pass. On a mock clock it passes during calls only, such as this one."""
        self.call(trio.sleep, seconds)

    def current_time(self) -> float:
        """The time of the portal's clock, in seconds; see `trio.current_time`."""
        return self.call_sync(trio.current_time)

    def run_soon(self, fn: Callable[[], object]) -> None:
        """Have a function run in the portal's thread, if that still exists. From any thread, at any time.

        The function must not raise anything.
        """
        if self._closed is None:
            with contextlib.suppress(PortalClosed):
                self._wake(fn)

    def close(self) -> None:
        """Cancel everything in it, and wait for the end of its thread. May be called again.

        Raises:
            BaseException: what a task raised that `start` had started.
        """
        if self.is_own_thread():
            raise RuntimeError("a portal cannot be closed in its own thread: that would wait for itself")
        _portals.alive.discard(self)
        self.run_soon(self._scope.cancel)
        self._closed = self._closed or "the portal has been closed"
        self._thread.join()
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def _wake(self, fn: Callable[[], object]) -> None:
        """Have Trio run a function soon."""
        try:
            self._token.run_sync_soon(fn)
        except (trio.RunFinishedError, OSError) as error:
            # Where Trio itself has failed, it has closed the socket that wakes it, and does not say so.
            if isinstance(error, OSError) and error.errno != errno.EBADF:
                raise
            raise PortalClosed(self._closed or "the portal has ended") from None

    def _check_usable(self) -> None:
        if self._closed is not None:
            self._stop_daemon()
            raise PortalClosed(self._closed)
        if self.is_own_thread():
            raise RuntimeError(
                "a blocking call in the portal's own thread, as in a callback, would wait for itself: "
                "make it in another thread"
            )

    def is_own_thread(self) -> bool:
        """Whether this is the portal's own thread, where nothing can be waited for."""
        return threading.get_ident() == self._thread.ident

    def _stop_daemon(self) -> None:
        """At the exit, have a daemon thread go no further: what it would do next is complain.

        Not for ever: it may have a lock that something else needs to come to the end.
        """
        if self._exiting and threading.current_thread().daemon and not self.is_own_thread():
            threading.Event().wait(_EXIT_TIME)

    def _close_at_exit(self) -> None:
        """The interpreter ends. Only daemon threads can be waiting now, and it stops them where they are."""
        self._exiting = True
        with contextlib.suppress(Exception):
            self.close()

    def _leave_to_parent(self) -> None:
        """This process is a child now, without the thread."""
        self._closed = "this was made before os.fork(), and works in the parent only: make a new one"
        self._failure = None

    # -- in the portal's thread ------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            trio.run(self._main, clock=self._clock)
        except BaseException as error:  # for `close`, or who waits for the beginning
            self._failure = error
            self._closed = f"the portal has ended: {error!r}"
            for call in [*self._pending, *self._inbox]:  # if Trio itself has failed
                call.end(PortalClosed(self._closed))
        finally:
            self._ready.set()

    async def _main(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        linger_rounds.set(0)  # while it looks again and again, the calling thread cannot go on
        async with contextlib.AsyncExitStack() as stack:
            self._scope = stack.enter_context(trio.CancelScope())
            if self._network is not None:
                await stack.enter_async_context(self._network)
            self._nursery = await stack.enter_async_context(open_background_tasks())
            self._ready.set()
            try:
                await trio.sleep_forever()
            finally:  # now, because the nursery takes no more tasks from some time on
                self._closed = self._closed or "the portal has been closed"

    def _begin_all(self) -> None:
        while self._inbox:
            call = self._inbox.popleft()
            if self._closed is not None:
                call.end(PortalClosed(self._closed))
            elif not call.cancelled:
                self._pending.add(call)
                if self._pause is not None:
                    self._pause.begin_call(call.context)
                call.scope = trio.CancelScope()  # now: it may be cancelled before its task has begun
                self._nursery.start_soon(self._work, call, call.scope)

    async def _work(self, call: BlockingCall, scope: trio.CancelScope) -> None:
        """Carry out a call, and those that come soon after it, until one is cancelled."""
        following: BlockingCall | None = call
        with scope:
            while following is not None:
                following.scope = scope
                await in_context(following.context, self._carry_out(following))
                following = None if scope.cancel_called else self._take_next()

    async def _carry_out(self, call: BlockingCall) -> None:
        try:
            try:
                call.result = await call.async_fn(*call.args)
            except BaseException as error:
                call.error = error
                if is_cancelled(error):
                    raise
            if self._pause is not None:
                await wait_all_tasks_blocked()
        except BaseException:
            if not call.cancelled:
                call.error = PortalClosed("the portal was closed during the call")
            raise
        finally:
            call.scope = None
            self._pending.discard(call)
            if self._pause is not None:
                self._pause.end_call(call.context)
            call.done.release()

    def _take_next(self) -> BlockingCall | None:
        """The call that follows, if one comes at once and nobody else waits for anything."""
        if self._pause is not None or self._pending or not self._nap.take():
            return None
        call = self._inbox.popleft()
        if call.cancelled:
            return None
        self._pending.add(call)
        if self._inbox:  # from other threads
            self._begin_all()
        return call

    async def run_in_thread(self, fn: Callable[..., R], *args: Any, thread_name: str | None = None) -> R:
        """Run a function of the program, such as a callback, in another thread. To be awaited in the portal.

        It may block, and make blocking calls. A mock clock stands still meanwhile, but while it waits for
        such a call. If this is cancelled, the function goes on by itself.
        """
        with contextlib.ExitStack() as stack:
            if self._pause is not None:
                stack.enter_context(self._pause.thread())
            return await trio.to_thread.run_sync(fn, *args, thread_name=thread_name, abandon_on_cancel=True)

    async def _start(self, async_fn: Callable[..., Awaitable[object]], args: tuple[object, ...]) -> object:
        return await self._nursery.start(async_fn, *args)

    async def _open(self, held: Held[T]) -> T:
        return await held.open(self._nursery)


class Opened(Generic[T]):
    """An async context manager that is open in a portal. Made by `Portal.open`.

    Attributes:
        value: What entering it gave.
    """

    def __init__(self, portal: Portal, held: Held[T], value: T) -> None:
        self.value = value
        self._portal = portal
        self._held = held

    def call(self, async_fn: Callable[..., Awaitable[R]], *args: Any) -> R:
        """As `Portal.call`."""
        return self._portal.call(async_fn, *args)

    def close(self) -> None:
        """Leave the block and wait for that; raises what leaving raises. A closed portal has left it.

        In the portal's own thread, where garbage may be collected, this does not wait: see `abandon`.
        """
        if self._portal.is_own_thread():
            self.abandon()
            return
        with contextlib.suppress(PortalClosed):
            self._portal.call(self._held.close)

    def abandon(self) -> None:
        """Have the block left soon, without waiting for it. From any thread, at any time."""
        self._portal.run_soon(self._held.cancel)


class _Portals:
    """The portals of this process."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.shared: Portal | None = None
        self.opened: list[Portal] = []  # by `open_portal`; the last one is in use
        self.alive: weakref.WeakSet[Portal] = weakref.WeakSet()

    def current(self) -> Portal:
        with self.lock:
            if self.opened:
                return self.opened[-1]
            if self.shared is None or self.shared._closed is not None:
                self.shared = Portal()
            return self.shared

    def close_at_exit(self) -> None:
        for portal in list(self.alive):
            portal._close_at_exit()

    def begin_anew(self) -> None:
        """In the child of a fork."""
        for portal in list(self.alive):
            portal._leave_to_parent()
        self.__init__()  # type: ignore[misc]  # the lock may be held by a thread that is not here


_portals: Final = _Portals()
atexit.register(_portals.close_at_exit)
if sys.platform != "win32":
    os.register_at_fork(after_in_child=_portals.begin_anew)


def current_portal() -> Portal:
    """The portal of blocking objects that are made now.

    That of the innermost `open_portal` block, in whatever thread it was opened; else the one that all of the
    process share. It starts when it is first asked for, and ends with the interpreter. The child of a fork
    gets another one.
    """
    return _portals.current()


@contextlib.contextmanager
def open_portal(
    *,
    clock: trio.abc.Clock | None = None,
    network: AbstractAsyncContextManager[object] | None = None,
) -> Iterator[Portal]:
    """A portal for the blocking objects that are made in the block. It ends with the block.

    Args:
        clock: Of the Trio run, such as a `trio.testing.MockClock`. If that jumps, it does so only while a
            call waits, so what the calling thread does takes no time; and a call returns when all tasks of
            the portal wait for something: the same calls always see the same.
        network: An async context manager to run everything in, such as a
            `trionet.testing.VirtualNetwork`.

    Raises:
        BaseException: what the network raises when it is opened or closed, and what a task raised that
            `Portal.start` had started.
    """
    portal = Portal(clock, network)
    with _portals.lock:
        _portals.opened.append(portal)
    try:
        yield portal
    finally:
        with _portals.lock:
            _portals.opened.remove(portal)
        portal.close()
