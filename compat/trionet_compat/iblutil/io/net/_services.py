"""Several rigs as one: `Services`."""

from __future__ import annotations

import math
from collections import UserDict
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, Final

import trio

from trionet import ExpMessage, ExpStatus, ResponseTimeout, RigServices, ServicesError
from trionet_compat import guest
from trionet_compat.iblutil.io.net import base
from trionet_compat.iblutil.io.net._callbacks import Address, AnyCallback, is_future
from trionet_compat.iblutil.io.net._echo import EchoProtocol

#: Seconds that rigs have to answer by default.
TIMEOUT: Final = 10.0

#: The data of each rig's answer, by its name.
Responses = dict[str, list[Any]]


class Services(base.Service, UserDict[str, EchoProtocol]):
    """Several rigs as one, by name; nothing can be added or removed. Stands for iblutil's class of this name.

    The methods of an event send it to every rig, wait until each has sent a message of the same event back,
    and return the data of these by name. They raise TimeoutError if rigs have not confirmed the message,
    which closes their communicators, or not answered it in time. Its cause is the `ServicesError` with the
    reason of each, and with what the others have answered.

    Better than upstream's: rigs are asked at the same time, not one after the other; a rig that reports a
    failed callback, or is known to be gone, is not waited for; nothing stays behind when one fails; and no
    services answer nothing, rather than raise.

    Args:
        remote_rigs: Communicators of this package.
        timeout: Seconds to wait for answers.

    Attributes:
        timeout: May be changed; 0 or None to wait for ever.

    Raises:
        TypeError: if that is no list of them.
    """

    timeout: float | None

    def __init__(self, remote_rigs: list[EchoProtocol], timeout: float | None = TIMEOUT) -> None:
        rigs: object = remote_rigs
        if not isinstance(rigs, list) or not all(isinstance(rig, EchoProtocol) for rig in rigs):
            raise TypeError(f"Remote services must be a list of {EchoProtocol}")
        self.data = MappingProxyType({rig.name: rig for rig in remote_rigs})  # type: ignore[assignment]
        self.timeout = timeout

    @property
    def is_connected(self) -> bool:
        """Whether there are any, and all are connected."""
        return bool(self.data) and all(rig.is_connected for rig in self.values())

    def close(self) -> None:
        """Close all of them."""
        for rig in self.values():
            rig.close()

    def assign_callback(
        self,
        event: ExpMessage | int | str,
        callback: AnyCallback,
        return_service: bool = False,
    ) -> None:
        """Have a function called with an event of any rig, see `base.Communicator`.

        Args:
            event: One event, or several.
            callback: A function or a future.
            return_service: Call the function with the communicator as well, as the last argument.

        Raises:
            TypeError: if it is neither a function nor a future.
        """
        for rig in self.values():
            if return_service and callable(callback) and not is_future(callback):
                rig.assign_callback(event, _WithService(callback, rig))
            else:
                rig.assign_callback(event, callback)

    def clear_callbacks(
        self, event: ExpMessage | int | str, callback: AnyCallback | None = None
    ) -> dict[str, int]:
        """Remove one callback of an event, or all; how many that were, by name."""
        return {name: rig.clear_callbacks(event, callback) for name, rig in self.items()}

    async def init(self, data: Any = None, concurrent: bool = True) -> Responses:
        """Have all rigs get ready."""
        return await self._signal(ExpMessage.EXPINIT, "init", data, concurrent=concurrent)

    async def start(
        self, exp_ref: str | Mapping[str, Any] | None, data: Any = None, concurrent: bool = True
    ) -> Responses:
        """Have all rigs start."""
        return await self._signal(ExpMessage.EXPSTART, "start", exp_ref, data, concurrent=concurrent)

    async def stop(self, data: Any = None, immediately: bool = False, **kwargs: bool) -> Responses:
        """Have all rigs stop, in reverse order. Takes `concurrent` as well."""
        event = ExpMessage.EXPINTERRUPT if immediately else ExpMessage.EXPEND
        return await self._signal(event, "stop", data, immediately, reverse=True, **kwargs)

    async def status(self, status: ExpStatus | int | str, **kwargs: bool) -> Responses:
        """Tell all rigs how far this side is, and get the same of them. Takes `concurrent` as well."""
        return await self._signal(ExpMessage.EXPSTATUS, "status", status, **kwargs)

    async def info(self, status: ExpStatus | int | str, data: Any = None, **kwargs: bool) -> Responses:
        """Tell all rigs how far this side is and more, and get the same. Takes `concurrent` as well."""
        return await self._signal(ExpMessage.EXPINFO, "info", status, data, **kwargs)

    async def cleanup(self, data: Any = None, concurrent: bool = True) -> Responses:
        """Have all rigs clean up, in reverse order."""
        return await self._signal(ExpMessage.EXPCLEANUP, "cleanup", data, reverse=True, concurrent=concurrent)

    async def alyx(self, alyx: Any) -> None:
        """Send the token of a client of Alyx to all rigs, one after the other; they do not answer it."""
        for rig in self.values():
            await rig.alyx(alyx)

    async def await_all(self, event: ExpMessage | int | str) -> Responses:
        """Wait until every rig has sent a message of an event; the data of these, by name.

        Raises:
            TimeoutError: if some have not in time.
        """
        return await self._run(lambda rigs: rigs.wait_all(event))

    async def _signal(
        self,
        event: ExpMessage | int | str,
        method: str,
        *args: Any,
        concurrent: bool = True,
        reverse: bool = False,
        **kwargs: Any,
    ) -> Responses:
        """Send a message to all rigs and wait for their answers.

        Args:
            event: The event of the message and of its answers.
            method: What would send it to one of them: ``"confirmed_send"``, or the method of an event.
            *args: The arguments of that.
            concurrent: False to ask each rig when the one before has answered.
            reverse: Begin with the last one.
            **kwargs: More arguments of it.

        Raises:
            ValueError: if the message is of another event.
        """
        message = self._message(method, *args, **kwargs)
        if ExpMessage.validate(message[0]) != ExpMessage.validate(event):
            raise ValueError(f"the message {message} is not of the event {event!r} that is to answer it")
        return await self._run(
            partial(RigServices.ask, message=message, concurrent=concurrent, reverse=reverse)
        )

    def _message(self, method: str, *args: Any, **kwargs: Any) -> list[Any]:
        """What a method of a rig would send."""
        if method != "confirmed_send":
            return list(getattr(base.Service, method)(self, *args, **kwargs))
        (message,) = args
        return list(base.Communicator.decode(base.Communicator.encode(message)))

    async def _run(self, act: Callable[[RigServices], Any]) -> Responses:
        rigs = {}
        for name, rig in self.items():
            if rig._line is None or rig._closed:
                raise TimeoutError(rig._no_echo())
            rigs[name] = rig._line.rig
            rigs[name].echo_timeout = rig.default_echo_timeout
        try:
            responses: Responses = await guest.run(
                act, RigServices(rigs, response_timeout=self.timeout or math.inf)
            )
        except ServicesError as error:
            raise TimeoutError(self._explain(error)) from error
        return responses

    def _explain(self, error: ServicesError) -> str:
        """What upstream says about it. The communicators of rigs that have not confirmed are closed."""
        lost = {name: reason for name, reason in error.failed.items() if _is_lost(reason)}
        for name, reason in lost.items():
            self[name]._fail(reason)
        if lost:
            return self[next(iter(lost))]._no_echo()
        return f"The following services failed to respond in time: {set(error.failed)}"


def _is_lost(reason: Exception) -> bool:
    """Whether a rig has not confirmed a message; otherwise it has not answered, or reported an error."""
    if isinstance(reason, ResponseTimeout):
        return False
    return isinstance(reason, OSError | trio.ClosedResourceError)


class _WithService:
    """A callback that is called with the communicator as well; `clear_callbacks` knows it by its id."""

    def __init__(self, callback: Callable[..., object], rig: EchoProtocol) -> None:
        self.id = id(callback)
        self._callback = callback
        self._rig = rig

    def __call__(self, data: list[Any], addr: Address, *event: ExpMessage) -> None:
        self._callback(data, addr, *event, self._rig)
