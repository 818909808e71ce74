"""Rigs for the tasks of iblrig, which are blocking code. Stands for iblrig.net.

Out of scope: `install_alyx_token` and `update_alyx_token`, which are about the ONE package; and the settings
files of iblrig. Where upstream finds a file by its settings, the functions here have to be told.
"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Mapping
from typing import Any

from trionet_compat.iblrig._remote_devices import (
    check_uri_match,
    get_remote_devices,
    get_remote_devices_file,
    get_server_communicator,
)
from trionet_compat.iblrig._session import Occasion, Session, log
from trionet_compat.iblrig._task import ExpInfo, read_stdin
from trionet_compat.iblutil.io.net.app import Services
from trionet_compat.iblutil.io.net.base import ExpMessage
from trionet_compat.portal import Opened, current_portal

__all__ = [
    "Auxiliaries",
    "ExpInfo",
    "check_uri_match",
    "get_remote_devices",
    "get_remote_devices_file",
    "get_server_communicator",
    "log",
    "read_stdin",
]

log.setLevel(logging.DEBUG)


class Auxiliaries:
    """The rigs of an experiment, for blocking code. Stands for iblrig's class of this name.

    The constructor returns when the rigs are connected to. If they cannot be, it logs why, and there are no
    `services`. Close it; otherwise a ResourceWarning tells when it is collected.

    What differs from upstream's: the rigs are in the portal's run of Trio, not in a thread of their own, and
    a message that is pushed is sent at once. A response cannot kill anything: exceptions of whatever kind are
    responses. Messages of the event EXPINFO work. Several objects do not disturb each other. `wait` of the
    two conditions returns at once if what is waited for has happened.

    Callbacks that are assigned by ``services.assign_callback`` are called one after the other in a thread,
    named ``network_coms`` meanwhile, and before a response of the same rigs is there; they may block. The
    coroutine methods of `services` are for Trio in the portal; use `push`.

    Args:
        clients: The URI of each rig by its name. Without any, nothing is connected and nothing can be pushed.

    Attributes:
        refresh_rate: Seconds by which `push` waits longer than rigs have to answer. Nothing looks into the
            queue at intervals.
    """

    refresh_rate: float = 0.2

    def __init__(self, clients: Mapping[str, str] | None) -> None:
        self._opened: Opened[None] | None = None
        self._portal = current_portal()
        self._session = session = Session(clients or {}, self._portal)
        if clients:
            try:
                self._opened = self._portal.open(session.open())
            except Exception:
                log.exception("the rigs cannot be connected to")

    def __del__(self) -> None:
        opened: Opened[None] | None = getattr(self, "_opened", None)
        if opened is not None:
            opened.abandon()
            warnings.warn(f"{self!r} was not closed", ResourceWarning, stacklevel=2, source=self)

    @property
    def services(self) -> Services | None:
        """The rigs; None if there are none, or they could not be connected to."""
        return self._session.services

    @property
    def connected(self) -> Occasion:
        """Condition that is notified when the rigs are connected."""
        return self._session.connected

    @property
    def response_received(self) -> Occasion:
        """Condition that is notified of each response; nobody waits if every request has its own."""
        return self._session.response_received

    @property
    def stop_event(self) -> Any:
        """Set by `close`."""
        return self._session.stop_event

    @property
    def is_connected(self) -> bool:
        """Whether there are rigs, and all are connected."""
        return self._session.is_connected

    @property
    def is_running(self) -> bool:
        """Whether it has not been closed."""
        return not self._session.stop_event.is_set()

    @property
    def _log(self) -> dict[float, Any]:
        """The responses, by the times that `push` has returned."""
        return self._session.responses

    @property
    def _queued(self) -> dict[float, list[Any]]:
        """What has been pushed, and not been sent yet: event, arguments and keywords, by the same times."""
        return self._session.queued

    def push(self, message: ExpMessage | int | str, *args: Any, wait: bool = False, **kwargs: Any) -> Any:
        """Send a message to all rigs, behind those that were pushed before, and have them answer it.

        ============================  =====================================================================
        EXPINIT                       ``services.init(*args)``
        EXPSTART                      ``services.start(*args)``
        EXPEND, EXPINTERRUPT          ``services.stop(args, immediately=...)``: the arguments are one value
        EXPINFO                       ``services.info(*args)``
        ALYX                          ``services.alyx(*args)``, whose response is None
        others                        not possible: the response is a NotImplementedError
        ============================  =====================================================================

        Args:
            message: One event.
            *args: See above.
            wait: Wait for the response.
            **kwargs: Kept with the request; of no use.

        Returns:
            The response, if it is waited for: the data of each rig's answer by name, or an exception, which
            is *returned*: TimeoutError if a rig has not confirmed or not answered the message. Otherwise the
            time of the request, by which `_log` has the response when it has come.

        Raises:
            AssertionError: after `close`.
            AttributeError: if there are no services.
            TypeError: if the message is no event (ValueError for unknown ones, and several).
            RuntimeError: if there is no response within `services.timeout` and `refresh_rate`: those pushed
                before have taken too long, or this was closed meanwhile.
        """
        session = self._session
        assert self.is_running, "closed"
        event = ExpMessage.validate(message, allow_bitwise=False)
        if session.services is None:
            raise AttributeError("there are no services: no rigs are connected")
        request_time = session.add(event, args, kwargs)
        if not wait:
            self._portal.run_soon(session.wake)
            return request_time
        seconds = (session.services.timeout or math.inf) + self.refresh_rate
        return self._portal.call(session.wait_response, request_time, seconds)

    def clear_message_queue(self) -> int:
        """Drop what has been pushed and not been sent yet; how many messages that were."""
        return self._session.clear()

    def close(self) -> None:
        """Close the communicators, without a word to the rigs. Who waits for a response gets none.

        May be repeated.
        """
        self.clear_message_queue()
        self._session.stop_event.set()
        opened, self._opened = self._opened, None
        if opened is not None:
            opened.close()

    async def create(self) -> None:
        """Connect to the rigs. Not for users: the constructor does it, in the portal."""
        await self._session.create()

    async def listen(self) -> None:
        """Carry out what is pushed, until `stop_event` is set. Not for users: it runs in the portal."""
        await self._session.listen()

    async def cleanup(self, notify_services: bool = False) -> None:
        """Close the communicators. Not for users: it runs in the portal.

        Args:
            notify_services: Send EXPCLEANUP before, and wait for the answers.

        Raises:
            TimeoutError: if they do not come; the communicators are closed all the same.
        """
        await self._session.cleanup(notify_services)
