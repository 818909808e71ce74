"""Rigs on hosts of a lab, peers made of bare sockets, and what the packets say about both."""

from __future__ import annotations

import contextlib
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest
import trio
import trio.testing

import trionet
from tests.lab.servers import EVERYWHERE
from trionet import ExpMessage, RigCommunicator, RigEvent
from trionet.testing import Lab, VirtualHost

#: Where rigs listen.
RIG_PORT = 11001

#: What a rig does about a message.
Behaviour = Callable[[RigEvent, RigCommunicator], Awaitable[None]]


async def answer(event: RigEvent, rig: RigCommunicator) -> None:
    """Say who was asked, and what."""
    await rig.respond(event, [rig.name, *event.data])


async def ignore(event: RigEvent, rig: RigCommunicator) -> None:
    """Confirm the message, which has happened already, and leave it at that."""


class LabRig:
    """A rig on a host of its own, which may crash and be started again.

    Args:
        host: The host; the rig is called after it.
        scheme: ``udp`` or ``tcp``.
        behaviour: What it does about messages; may be set to something else.
        **options: Of `trionet.open_rig_listener`.

    Attributes:
        communicator: Of the latest start.
        serving: Whether it is there.
        events: What its callbacks were called with, crashes or not.
    """

    communicator: RigCommunicator

    def __init__(
        self, host: VirtualHost, scheme: str = "udp", behaviour: Behaviour = answer, **options: Any
    ) -> None:
        self.host = host
        self.scheme = scheme
        self.behaviour = behaviour
        self.events: list[RigEvent] = []
        self.serving = False
        self._options = options

    @property
    def uri(self) -> str:
        """Where it is."""
        return f"{self.scheme}://{self.host.ipv4}:{RIG_PORT}"

    @property
    def data(self) -> list[list[Any]]:
        """What has followed the events of its messages."""
        return [event.data for event in self.events]

    @property
    def calls(self) -> Counter[str]:
        """How often its callbacks were called with the same."""
        return Counter(f"{event.event!r} {event.data}" for event in self.events)

    async def start(self) -> None:
        """Start it, and its host if that has crashed."""
        if not self.host.running:
            self.host.restart()
        self.communicator = await self.host.start(self._serve)

    async def stop(self) -> None:
        """End the program, not the host."""
        self.communicator.cancel_scope.cancel()
        await trio.testing.wait_all_tasks_blocked()

    async def _serve(self, *, task_status: trio.TaskStatus[RigCommunicator]) -> None:
        uri = f"{self.scheme}://{EVERYWHERE}:{RIG_PORT}"
        async with trionet.open_rig_listener(uri, name=self.host.name, **self._options) as rig:

            async def take(event: RigEvent) -> None:
                self.events.append(event)
                await self.behaviour(event, rig)

            rig.assign_callback(ExpMessage.any(), take)
            self.serving = True
            task_status.started(rig)
            try:
                await trio.sleep_forever()
            finally:
                self.serving = False


@contextlib.asynccontextmanager
async def open_lab_pair(
    lab: Lab, scheme: str = "udp", behaviour: Behaviour = ignore, *, latency: float = 0.0, **options: Any
) -> AsyncIterator[tuple[RigCommunicator, LabRig]]:
    """A communicator on the host "client", where the block runs, and a rig; the options are for both."""
    client_host, rig_host = lab.host("client"), lab.host("rig")
    lab.link(client_host, rig_host).latency = latency
    rig = LabRig(rig_host, scheme, behaviour, **options)
    await rig.start()
    with client_host.entered():
        async with trionet.open_rig_communicator(rig.uri, name="client", **options) as client:
            yield client, rig


@contextlib.asynccontextmanager
async def open_raw_pair(
    lab: Lab, *, latency: float = 0.0, **options: Any
) -> AsyncIterator[tuple[RigCommunicator, trio.socket.SocketType]]:
    """A communicator over UDP on the host "client", and a bare socket that it takes for its rig.

    The socket is connected to the communicator, which is without memory of that.
    """
    client_host, rig_host = lab.host("client"), lab.host("rig")
    lab.link(client_host, rig_host).latency = latency
    with rig_host.entered():
        sock = trio.socket.socket(type=trio.socket.SOCK_DGRAM)
    with sock:
        await sock.bind((EVERYWHERE, RIG_PORT))
        with client_host.entered():
            uri = f"udp://{rig_host.ipv4}:{RIG_PORT}"
            async with trionet.open_rig_communicator(uri, name="client", **options) as client:
                await sock.connect((client_host.ipv4, client.port))
                yield client, sock


def payloads(lab: Lab, source: str) -> list[tuple[float, bytes]]:
    """When a host has sent which datagrams, or bytes of streams."""
    return [
        (entry.time, entry.packet.payload)
        for entry in lab.trace
        if entry.what == "sent"
        and entry.packet is not None
        and entry.packet.payload
        and entry.packet.src.host == source
    ]


@contextlib.contextmanager
def quiet_logs() -> Iterator[None]:
    """Of expected losses nothing need be said."""
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def near(seconds: float | list[float]) -> Any:
    """That many seconds, or these times, but for how floats are rounded."""
    return pytest.approx(seconds, abs=1e-6)


async def time_of(action: Callable[[], Awaitable[object]]) -> float:
    """How many seconds something takes."""
    began = trio.current_time()
    await action()
    return trio.current_time() - began


async def time_to_fail(kind: type[Exception], action: Callable[[], Awaitable[object]]) -> float:
    """After how many seconds something fails, and with exactly that class."""
    began = trio.current_time()
    with pytest.raises(kind) as caught:
        await action()
    assert type(caught.value) is kind
    return trio.current_time() - began
