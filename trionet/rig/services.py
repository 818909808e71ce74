"""Marching many rigs through an experiment together."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar, Unpack

import trio

from trionet._arguments import check_named
from trionet._tasks import open_background_tasks
from trionet.rig._peer import EchoTimeout
from trionet.rig.alyx import AlyxClient, AlyxToken, alyx_message
from trionet.rig.communicator import RigCommunicator
from trionet.rig.events import EventCallback, RigEvents
from trionet.rig.opening import CommunicatorOptions, open_rig_communicator
from trionet.wire.errors import CallInfo, TrionetError
from trionet.wire.rig_messages import (
    ExpMessage,
    ExpStatus,
    Message,
    encode_message,
    start_message,
)
from trionet.wire.rig_uri import AnyURI

T = TypeVar("T")

#: Seconds for all answers by default, as upstream.
RESPONSE_TIMEOUT: Final = 10.0

# Seconds between two questions to a rig that does not answer yet.
_READY_INTERVAL: Final = 0.25

#: What the rigs answered: the data of each rig's answer, by its name.
Responses = dict[str, list[Any]]


class ResponseTimeout(TrionetError, TimeoutError):
    """A rig has not answered a message in time. If it has not confirmed it either, that is an `EchoTimeout`,
    unless there was no time for that.
    """


class NotAsked(TrionetError):
    """A rig was not asked, or its answer not awaited, because another one had failed."""


class ServicesError(ExceptionGroup[Exception]):
    """Some rigs have failed. The exceptions of the group are the reasons.

    Attributes:
        failed: The reason of each rig that has failed, by name.
        responses: What the others answered, by name.
    """

    failed: dict[str, Exception]
    responses: dict[str, Any]

    def __new__(
        cls, failed: Mapping[str, Exception], responses: Mapping[str, Any] | None = None
    ) -> ServicesError:
        """Make one; `failed` must not be empty."""
        count = len(failed) + len(responses or {})
        reasons = "; ".join(f"{name}: {reason}" for name, reason in failed.items())
        group = super().__new__(cls, f"{len(failed)} of {count} rigs failed: {reasons}", [*failed.values()])
        group.failed = dict(failed)
        group.responses = dict(responses or {})
        return group

    def __reduce__(self) -> tuple[type[ServicesError], tuple[dict[str, Exception], dict[str, Any]]]:
        return ServicesError, (self.failed, self.responses)


class RigServices(Mapping[str, RigCommunicator]):
    """Several rigs under their names, as one.

    The methods that correspond to an event send its message to every rig, wait until each has sent a message
    of the same event back, and return the data of these answers by name. In order for `init`, `start`,
    `info` and `status`, in reverse order for `stop` and `cleanup`.

    They take as keywords:

    - `concurrent` (True): all rigs are asked at once. With False, each when the one before has answered.
    - `fail_fast` (False): as soon as a rig fails, do not ask or wait for the others.

    and raise `ServicesError` when rigs have failed, once all others have answered or failed, too. A rig has
    failed when its message was not confirmed (`EchoTimeout`, OSError), when it reported that a callback has
    failed (`RemoteError`), or when its answer did not come within `response_timeout` (`ResponseTimeout`).
    Cancelled, any of the rigs may have got the message.

    Args:
        rigs: Communicators by name. They are not closed by this object.
        response_timeout: Seconds from the message to its answer.

    Attributes:
        response_timeout: May be changed; math.inf to wait for ever.
    """

    def __init__(
        self, rigs: Mapping[str, RigCommunicator], *, response_timeout: float = RESPONSE_TIMEOUT
    ) -> None:
        self._rigs = dict(rigs)
        self.response_timeout = response_timeout

    def __getitem__(self, name: str) -> RigCommunicator:
        return self._rigs[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._rigs)

    def __len__(self) -> int:
        return len(self._rigs)

    async def init(self, data: Any = None, *, concurrent: bool = True, fail_fast: bool = False) -> Responses:
        """Have all rigs get ready."""
        return await self.ask([ExpMessage.EXPINIT, data], concurrent=concurrent, fail_fast=fail_fast)

    async def start(
        self,
        exp_ref: str | Mapping[str, Any] | None,
        data: Any = None,
        *,
        concurrent: bool = True,
        fail_fast: bool = False,
    ) -> Responses:
        """Have all rigs start; the arguments are those of `RigCommunicator.start`."""
        return await self.ask(start_message(exp_ref, data), concurrent=concurrent, fail_fast=fail_fast)

    async def stop(
        self,
        data: Any = None,
        immediately: bool = False,
        *,
        concurrent: bool = True,
        fail_fast: bool = False,
    ) -> Responses:
        """Have all rigs stop, in reverse order: at the next good moment, or immediately."""
        event = ExpMessage.EXPINTERRUPT if immediately else ExpMessage.EXPEND
        return await self.ask([event, data], reverse=True, concurrent=concurrent, fail_fast=fail_fast)

    async def cleanup(
        self, data: Any = None, *, concurrent: bool = True, fail_fast: bool = False
    ) -> Responses:
        """Have all rigs clean up, in reverse order."""
        message = [ExpMessage.EXPCLEANUP, data]
        return await self.ask(message, reverse=True, concurrent=concurrent, fail_fast=fail_fast)

    async def status(
        self, status: ExpStatus | int | str, *, concurrent: bool = True, fail_fast: bool = False
    ) -> Responses:
        """Tell all rigs how far this side is, and get their own status: ``[status]``."""
        message = [ExpMessage.EXPSTATUS, ExpStatus.validate(status)]
        return await self.ask(message, concurrent=concurrent, fail_fast=fail_fast)

    async def info(
        self,
        status: ExpStatus | int | str,
        data: Any = None,
        *,
        concurrent: bool = True,
        fail_fast: bool = False,
    ) -> Responses:
        """Tell all rigs how far this side is and more, and get the same of them: ``[status, data]``."""
        message = [ExpMessage.EXPINFO, ExpStatus.validate(status), data]
        return await self.ask(message, concurrent=concurrent, fail_fast=fail_fast)

    async def alyx(self, client: AlyxClient | None = None) -> dict[str, AlyxToken | None]:
        """Send the token of a client that is logged in to all rigs, in order; else ask each of them for one.

        Returns:
            None for each rig if a token was sent, which they do not answer; else the tokens that they have.
        """

        encode_message(alyx_message(client))  # what it raises concerns all rigs

        async def send(name: str, begun: trio.Event) -> AlyxToken | None:
            with trio.move_on_after(self.response_timeout):
                return await self[name].alyx(client)
            raise self._no_answer(name, ExpMessage.ALYX)

        return await self._each(send, list(self), concurrent=False, fail_fast=False)

    async def ask(
        self,
        message: Message,
        *,
        reverse: bool = False,
        concurrent: bool = True,
        fail_fast: bool = False,
    ) -> Responses:
        """Send any message to all rigs and wait for their answers, as described for the class.

        Args:
            message: The event and the data.
            reverse: Begin with the last rig.
            concurrent: See the class.
            fail_fast: See the class.

        Raises:
            ServicesError: if rigs have failed.
            TypeError: if JSON cannot carry the message.
            ValueError: if it does not begin with exactly one event.
        """
        event = ExpMessage.validate(message[0], allow_bitwise=False)
        data = encode_message(message)
        order = list(reversed(self._rigs)) if reverse else list(self._rigs)
        with contextlib.ExitStack() as stack:
            # All of them before the first message is sent: an answer may come early.
            streams = self._open_streams(stack, event, errors=True)

            async def ask_one(name: str, begun: trio.Event) -> list[Any]:
                with trio.move_on_after(self.response_timeout):
                    await self[name]._confirmed_send(data, {}, begun)
                    return (await streams[name].receive_answer(event)).data
                raise self._no_answer(name, event)

            return await self._each(ask_one, order, concurrent=concurrent, fail_fast=fail_fast)

    async def wait_all(self, event: ExpMessage | int | str) -> Responses:
        """Wait until every rig has sent a message of an event; what came before the call does not count.

        Returns:
            The data of the messages, by name.

        Raises:
            ServicesError: if some have not within `response_timeout`.
        """
        wanted = ExpMessage.validate(event, allow_bitwise=False)
        with contextlib.ExitStack() as stack:
            # All of them now: a rig may send its message before the task that waits for it has begun.
            streams = self._open_streams(stack, wanted, errors=False)

            async def wait_one(name: str, begun: trio.Event) -> list[Any]:
                begun.set()
                if name not in streams:
                    raise trio.ClosedResourceError("the communicator is closed")
                with trio.move_on_after(self.response_timeout):
                    return (await streams[name].receive()).data
                raise self._no_answer(name, wanted)

            return await self._each(wait_one, list(self), concurrent=True, fail_fast=False)

    async def ready(self, seconds: float = RESPONSE_TIMEOUT) -> None:
        """Wait until every rig confirms a ping; see `RigCommunicator.ping` for what it does to answers.

        Args:
            seconds: How long to wait at most.

        Raises:
            ServicesError: if some do not; the reasons are those of their last attempts.
        """

        async def wait_one(name: str, begun: trio.Event) -> None:
            begun.set()
            reason: Exception = EchoTimeout(
                f"not there within {seconds} s", CallInfo(str(self[name].uri), rig=name)
            )
            with trio.move_on_after(seconds):
                while True:
                    try:
                        await self[name].ping(attempts=1)
                        return
                    except (EchoTimeout, OSError) as error:
                        reason = error
                    await trio.sleep(_READY_INTERVAL)
            raise reason

        await self._each(wait_one, list(self), concurrent=True, fail_fast=False)

    def assign_callback(self, event: ExpMessage | int | str, callback: EventCallback) -> None:
        """Have a function called with the events of all rigs, see `RigCommunicator.assign_callback`."""
        for rig in self.values():
            rig.assign_callback(event, callback)

    def clear_callbacks(
        self, event: ExpMessage | int | str, callback: EventCallback | None = None
    ) -> dict[str, int]:
        """The opposite; returns how many assignments that has changed, by name."""
        return {name: rig.clear_callbacks(event, callback) for name, rig in self.items()}

    def _open_streams(
        self, stack: contextlib.ExitStack, event: ExpMessage, *, errors: bool
    ) -> dict[str, RigEvents]:
        """A stream of each rig, but for those that are closed: they fail by themselves."""
        streams = {}
        for name, rig in self._rigs.items():
            with contextlib.suppress(trio.ClosedResourceError):
                streams[name] = stack.enter_context(rig.open_events(event, errors=errors))
        return streams

    def _no_answer(self, name: str, event: ExpMessage) -> ResponseTimeout:
        where = CallInfo(str(self[name].uri), rig=name, event=event.name, elapsed=self.response_timeout)
        return ResponseTimeout("the rig has not answered in time", where)

    async def _each(
        self,
        act: Callable[[str, trio.Event], Awaitable[Any]],
        order: Sequence[str],
        *,
        concurrent: bool,
        fail_fast: bool,
    ) -> dict[str, Any]:
        """Act on each rig; `act` sets the event when the next one may be begun."""
        responses: dict[str, Any] = {}
        failed: dict[str, Exception] = {}
        all_done = trio.Event()

        @trio.lowlevel.enable_ki_protection
        async def run(name: str, begun: trio.Event) -> None:
            try:
                responses[name] = await act(name, begun)
            except (TrionetError, OSError, trio.ClosedResourceError) as error:
                failed[name] = error
                if fail_fast:
                    nursery.cancel_scope.cancel()
            finally:
                begun.set()
                if len(responses) + len(failed) == len(order):
                    all_done.set()

        # What the caller is interrupted with is to leave as it is, in no group.
        async with open_background_tasks() as nursery:
            for name in order:
                if concurrent:
                    begun = trio.Event()
                    nursery.start_soon(run, name, begun)
                    await begun.wait()
                else:
                    await run(name, trio.Event())
            if order:
                await all_done.wait()
        for name in order:
            if name not in responses and name not in failed:
                failed[name] = NotAsked("given up, because another rig had failed", CallInfo(rig=name))
        if failed:
            raise ServicesError(self._in_order(failed), self._in_order(responses))
        return self._in_order(responses)

    def _in_order(self, by_name: Mapping[str, T]) -> dict[str, T]:
        return {name: by_name[name] for name in self if name in by_name}


@contextlib.asynccontextmanager
async def open_rig_services(
    rigs: Mapping[str, AnyURI],
    *,
    response_timeout: float = RESPONSE_TIMEOUT,
    **options: Unpack[CommunicatorOptions],
) -> AsyncIterator[RigServices]:
    """Talk to several rigs.

    Args:
        rigs: The URI of each rig by its name, in the order of starting.
        response_timeout: Seconds from a message to its answer.
        **options: Of `open_rig_communicator`, for all of them. None of the rigs need be there yet: over TCP
            they are connected to for the first message (`connect_first` is False); `ready` waits for them.

    Raises:
        ValueError: for a URI or a number that is not allowed.
        TypeError: if `rigs` is no mapping.
        OSError: if a host is not known.
    """
    check_named("rigs", rigs, "URIs")
    options.setdefault("connect_first", False)
    async with contextlib.AsyncExitStack() as stack:
        opened = {
            name: await stack.enter_async_context(open_rig_communicator(uri, name=name, **options))
            for name, uri in rigs.items()
        }
        yield RigServices(opened, response_timeout=response_timeout)
