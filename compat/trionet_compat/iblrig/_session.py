"""What is behind `Auxiliaries`: the connection with the rigs, in a portal's run of Trio."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Final

import trio

from trionet import RigEvent
from trionet._tasks import open_background_tasks
from trionet_compat._crossing import as_exception
from trionet_compat.iblutil.io.net.app import EchoProtocol, Services
from trionet_compat.iblutil.io.net.base import ExpMessage
from trionet_compat.portal import Portal

log = logging.getLogger("iblrig.net")

#: Seconds that rigs have to answer, unless `services.timeout` is set.
TIMEOUT: Final = 10.0

#: The thread in which the callbacks of programs run.
CALLBACK_THREAD: Final = "network_coms"


class Occasion(threading.Condition):
    """A condition that is notified of something, and for which `wait` returns at once if there is no need.

    Args:
        is_over: Whether there is nothing to wait for any more.
    """

    def __init__(self, is_over: Callable[[], bool]) -> None:
        super().__init__()
        self._is_over = is_over

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is notified; False after so many seconds. Not if it was, and there is no more."""
        return self._is_over() or super().wait(timeout)

    def wait_for(self, predicate: Callable[[], Any], timeout: float | None = None) -> Any:
        """Wait until a predicate is true, for so many seconds at most; the predicate's last value."""
        end = None if timeout is None else time.monotonic() + timeout
        while not (result := predicate()):
            left = None if end is None else end - time.monotonic()
            if left is not None and left <= 0:
                break
            super().wait(left)
        return result

    async def announce(self) -> None:
        """Notify all who wait, from Trio: a thread that keeps the lock for long holds nothing up."""
        if self.acquire(blocking=False):
            self._announce()
        else:
            await trio.to_thread.run_sync(self._announce_locked, abandon_on_cancel=True)

    def _announce_locked(self) -> None:
        self.acquire()
        self._announce()

    def _announce(self) -> None:
        self.notify_all()
        self.release()


class Callers:
    """Calls callbacks of programs one after the other, in a thread: they may make blocking calls."""

    def __init__(self, portal: Portal) -> None:
        self._portal = portal
        self._turn = trio.Lock()
        self._thread: int | None = None

    async def call(self, fn: Callable[[RigEvent], object], event: RigEvent) -> None:
        """Call a function and wait for it. Cancelled, it goes on by itself."""
        async with self._turn:
            await self._portal.run_in_thread(self._call, fn, event, thread_name=CALLBACK_THREAD)

    def _call(self, fn: Callable[[RigEvent], object], event: RigEvent) -> None:
        self._thread = threading.get_ident()
        try:
            fn(event)
        except (SystemExit, KeyboardInterrupt) as error:  # ends no more than this thread would
            raise as_exception(error) from error
        finally:
            self._thread = None

    def is_inside(self) -> bool:
        """Whether the calling thread is in a callback."""
        return self._thread == threading.get_ident()

    def is_idle(self) -> bool:
        """Whether no callback runs."""
        return not self._turn.locked()

    async def wait_idle(self) -> None:
        """Wait for the callbacks that have been called so far."""
        async with self._turn:
            pass


class _Rig(EchoProtocol):
    """A communicator whose callbacks are called in the thread for them."""

    def __init__(self, *args: Any, callers: Callers, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._callers = callers

    def _deliver(self, event: RigEvent) -> Any:
        if event.event == ExpMessage.EXPSTART:
            print(f"{event.address[0]}:{event.address[1]} started")  # noqa: T201  # upstream does
        if self._callbacks.wants(event.event):
            return self._callers.call(super()._deliver, event)
        return super()._deliver(event)


class Session:
    """The requests of one `Auxiliaries`, and their responses. Its coroutines run in the portal.

    Attributes:
        services: The rigs, when they are connected.
        queued: Requests that wait for their turn, by the time of the request: event, arguments, keywords.
        responses: What came of requests, by the same times.
        connected: Notified when the rigs are connected.
        response_received: Notified of each response.
        stop_event: Set when this is to end.
    """

    def __init__(self, clients: Mapping[str, str], portal: Portal) -> None:
        self._clients = dict(clients)
        self.services: Services | None = None
        self.queued: dict[float, list[Any]] = {}
        self.responses: dict[float, Any] = {}
        self.connected = Occasion(lambda: self.is_connected)
        self.response_received = Occasion(lambda: bool(self.responses) and not self._unanswered)
        self.stop_event = threading.Event()
        self._lock = threading.Lock()
        self._unanswered = 0
        self._latest = 0.0
        self._from_callbacks: set[float] = set()
        # In the portal only.
        self._callers = Callers(portal)
        self._wake = trio.Event()
        self._answered: dict[float, trio.Event] = {}

    @property
    def is_connected(self) -> bool:
        """Whether all rigs are connected."""
        return self.services is not None and self.services.is_connected

    # -- in any thread ---------------------------------------------------------------------------------------

    def add(self, event: ExpMessage, args: tuple[Any, ...], kwargs: dict[str, Any]) -> float:
        """Put a request into the queue. `wake` or `wait_response` has it looked at."""
        with self._lock:
            # No two requests have the same time.
            self._latest = request_time = max(time.time(), self._latest + 1e-6)
            self.queued[request_time] = [event, args, kwargs]
            self._unanswered += 1
            if self._callers.is_inside():
                self._from_callbacks.add(request_time)
        return request_time

    def clear(self) -> int:
        """Drop what is in the queue; how many requests that were."""
        with self._lock:
            count = len(self.queued)
            self.queued.clear()
            self._unanswered -= count
        return count

    def _take(self) -> tuple[float, ExpMessage, tuple[Any, ...]] | None:
        with self._lock:
            if not self.queued:
                return None
            request_time = next(iter(self.queued))
            event, args, _ = self.queued.pop(request_time)
            return request_time, event, args

    # -- in the portal ---------------------------------------------------------------------------------------

    def wake(self) -> None:
        """There are requests in the queue, or it is time to stop."""
        self._wake.set()

    async def wait_response(self, request_time: float, seconds: float) -> Any:
        """Wait for what comes of a request.

        Raises:
            RuntimeError: if nothing does within so many seconds, or this ends.
        """
        answered = self._answered.setdefault(request_time, trio.Event())
        self.wake()
        if request_time not in self.responses and not self.stop_event.is_set():
            with trio.move_on_after(seconds):
                await answered.wait()
        self._answered.pop(request_time, None)
        if request_time not in self.responses:
            raise RuntimeError("Thread failed to return")
        return self.responses[request_time]

    async def create(self) -> None:
        """Connect to the rigs.

        Raises:
            ValueError: for a URI that is not allowed, or a host that is not known.
            OSError: if a rig cannot be connected to.
        """
        rigs: list[EchoProtocol] = []
        try:
            for name, uri in self._clients.items():
                rigs.append(await _Rig._open("client", uri, name, None, callers=self._callers))
        except BaseException:
            for rig in rigs:
                rig.close()
            raise
        self.services = Services(rigs, timeout=TIMEOUT)
        await self.connected.announce()

    async def listen(self) -> None:
        """Carry out requests, one after the other, until `stop_event` is set."""
        async with open_background_tasks() as nursery:
            while not self.stop_event.is_set():
                self._wake = trio.Event()
                while (request := self._take()) is not None:
                    request_time, event, args = request
                    response = await self._carry_out(event, args)
                    await trio.lowlevel.checkpoint()  # callbacks of what has come are called now
                    if self._callers.is_idle():
                        await self._finish(request_time, response)
                    else:  # one of them may have pushed something, and wait for that
                        nursery.start_soon(self._finish, request_time, response)
                await self._wake.wait()

    async def _carry_out(self, event: ExpMessage, args: tuple[Any, ...]) -> Any:
        """What comes of a request, exceptions included."""
        services = self.services
        assert services is not None
        try:
            match event:
                case ExpMessage.EXPINIT:
                    return await services.init(*args)
                case ExpMessage.EXPSTART:
                    return await services.start(*args)
                case ExpMessage.EXPEND | ExpMessage.EXPINTERRUPT:
                    return await services.stop(args, immediately=event == ExpMessage.EXPINTERRUPT)
                case ExpMessage.EXPINFO:
                    return await services.info(*args)
                case ExpMessage.ALYX:
                    return await self._send_alyx(services, args)
            raise NotImplementedError(f"{event.name} cannot be pushed")
        except Exception as error:
            log.error("%s: %s", event.name, error)
            return error

    async def _send_alyx(self, services: Services, args: tuple[Any, ...]) -> None:
        with trio.move_on_after(services.timeout or float("inf")):
            return await services.alyx(*args)
        raise TimeoutError("The services failed to send a token in time")

    async def _finish(self, request_time: float, response: Any) -> None:
        if request_time not in self._from_callbacks:
            await self._callers.wait_idle()
        with self._lock:
            self._from_callbacks.discard(request_time)
            self.responses[request_time] = response
            self._unanswered -= 1
        if request_time in self._answered:
            self._answered[request_time].set()
        await self.response_received.announce()

    async def cleanup(self, notify_services: bool = False) -> None:
        """Close the communicators; before that, tell the rigs to clean up, if they are to be notified."""
        try:
            if notify_services and self.services is not None:
                await self.services.cleanup()
        finally:
            self.stop_event.set()
            self.wake()
            if self.services is not None:
                self.services.close()
            for answered in self._answered.values():
                answered.set()

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Be connected, and carry out requests, for as long as the block is open. Raises as `create` does."""
        await self.create()
        try:
            async with open_background_tasks() as nursery:
                nursery.start_soon(self.listen)
                yield
        finally:
            await self.cleanup()
