"""Results that will come, and how threads wait for them."""

from __future__ import annotations

import concurrent.futures
import math
import weakref
from typing import TYPE_CHECKING, Any

import trio

from trionet.objects._connection import PendingCall
from trionet_compat.pyacq.core.rpc._errors import as_upstream, server_has_gone
from trionet_compat.pyacq.core.rpc._inbox import Inbox

if TYPE_CHECKING:
    from trionet_compat.pyacq.core.rpc.client import RPCClient


class Future(concurrent.futures.Future[Any]):
    """A result that will come: pyacq's `Future`. Made by calls with ``sync="async"``.

    Unlike upstream's, it is done when the reply has come, whether somebody waits or not. Functions of
    `add_done_callback` are called in the portal's thread, and must not make blocking calls there.

    Attributes:
        client: Where the call was made.
        call_id: Its number there.
    """

    def __init__(self, client: RPCClient, call_id: int) -> None:
        super().__init__()
        self.client = client
        self.call_id = call_id

    def cancel(self) -> bool:
        """A call that was sent cannot be taken back."""
        return False

    def result(self, timeout: float | None = None) -> Any:
        """Wait for the result. Requests to a server of this thread are worked on meanwhile.

        Raises:
            RemoteCallException: for whatever was raised there.
            TimeoutError: if it takes longer than ``timeout`` seconds.
            RuntimeError: if the server has gone.
        """
        self.client.process_until_future(self, timeout)
        return super().result(0)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """What `result` would raise, waiting likewise; None if there is a result."""
        self.client.process_until_future(self, timeout)
        return super().exception(0)


class Watch:
    """Tells a thread that works on requests when a result has come, or has not in time."""

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox
        self._has_ended = False

    def has_ended(self) -> bool:
        """Whether there is nothing more to wait for."""
        return self._has_ended

    async def run(self, future: Future, seconds: float | None) -> None:
        """Wait for a future, in the portal."""
        try:
            await wait_for(future, seconds)
        finally:
            self._has_ended = True
            self._inbox.wake()


async def wait_for(future: Future, seconds: float | None) -> None:
    """Wait until a future is done, or some seconds are over."""
    done = trio.Event()
    future.add_done_callback(lambda _: done.set())
    with trio.move_on_after(math.inf if seconds is None else seconds):
        await done.wait()


async def deliver(pending: PendingCall, reference: weakref.ref[Future]) -> None:
    """Give a result to the future that it belongs to, if that still exists."""
    result, failure = None, None
    try:
        result = await pending.wait()
    except Exception as error:
        failure = as_upstream(error)
    except trio.Cancelled:
        failure = server_has_gone()
        raise
    finally:
        future = reference()
        if future is not None:
            if failure is None:
                future.set_result(result)
            else:
                future.set_exception(failure)
