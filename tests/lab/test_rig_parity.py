"""Sessions of rigs over the loopback of the system and over that of a virtual host: the same outcome.

Each session notes what it sees, but for times and ports, and the notes of both worlds are compared.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import asdict
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing

import trionet
from tests.lab.rigs import quiet_logs
from trionet import ExpMessage, RigCommunicator, RigEvent
from trionet.testing import open_virtual_network

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux is what is imitated")

LOCAL = "127.0.0.1"
Session = Callable[["Notes", str], Awaitable[None]]
SESSIONS: dict[str, Session] = {}


def session(function: Session) -> Session:
    SESSIONS[function.__name__] = function
    return function


class Notes(list[Any]):
    """What has happened in a session."""

    async def of(self, what: Awaitable[Any]) -> None:
        """Note what a call returns or raises."""
        try:
            self.append(await what)
        except trionet.ServicesError as error:
            self.append(("failed", {name: type(one).__name__ for name, one in error.failed.items()}))
            self.append(error.responses)
        except (trionet.TrionetError, OSError, trio.ClosedResourceError) as error:
            self.append((type(error).__name__, getattr(error, "errno", None)))

    def counts(self, *rigs: RigCommunicator) -> None:
        """Note what communicators have counted."""
        self.extend(asdict(rig.statistics()) for rig in rigs)


@contextlib.asynccontextmanager
async def open_local(scheme: str, **options: Any) -> AsyncIterator[tuple[RigCommunicator, RigCommunicator]]:
    """A communicator and its rig; with echo timeouts that do not pass where time is real."""
    options = {"echo_timeout": 30, **options}
    async with trionet.open_rig_listener(f"{scheme}://{LOCAL}:0", name="rig", **options) as rig:
        uri = f"{scheme}://{LOCAL}:{rig.port}"
        async with trionet.open_rig_communicator(uri, name="client", **options) as client:
            yield client, rig


async def udp_socket(port: int = 0) -> trio.socket.SocketType:
    sock = trio.socket.socket(type=trio.socket.SOCK_DGRAM)
    await sock.bind((LOCAL, port))
    return sock


@session
async def every_message_of_an_experiment(notes: Notes, scheme: str) -> None:
    async with open_local(scheme) as (client, rig):
        with rig.open_events() as events:
            for message in (
                client.init({"a": [1, 2.5, "ü"]}),
                client.start({"date": "2026-11-20", "sequence": 1, "subject": "m"}, None),
                client.status("RUNNING"),
                client.info("RUNNING", "x" * 10_000),
                client.ping(),
                client.stop(),
                client.stop("now", immediately=True),
                client.cleanup(),
                client.confirmed_send("no message"),
            ):
                await notes.of(message)
            for _ in range(7):
                event = await events.receive()
                notes.append((event.event, event.data, event.address[0], event.rig))
        notes.counts(client, rig)


@session
async def answers_and_reports(notes: Notes, scheme: str) -> None:
    async def take(event: RigEvent) -> None:
        if event.event == ExpMessage.EXPEND:
            raise ValueError("there is no end")
        await rig.respond(event, [event.rig, *event.data])

    async with open_local(scheme) as (client, rig):
        rig.assign_callback(ExpMessage.any(), take)
        services = trionet.RigServices({"a": client})
        with quiet_logs():
            await notes.of(services.init(1))
            await notes.of(services.start("ref", {"b": None}))
            await notes.of(services.stop())
            await notes.of(services.status(30))
            await notes.of(services.ready())
        notes.counts(client, rig)


@session
async def a_rig_that_is_not_there(notes: Notes, scheme: str) -> None:
    async with open_local(scheme) as (_, rig):
        uri = f"{scheme}://{LOCAL}:{rig.port}"
    rigs: dict[str, Any] = {"a": uri, "b": uri}
    async with trionet.open_rig_services(rigs, echo_timeout=30) as services:
        await notes.of(services.init(1))
        await notes.of(services.init(1, concurrent=False, fail_fast=True))
        await notes.of(services["a"].ping(attempts=1))
        await notes.of(services["b"].ping(attempts=2, echo_timeout=0.01))


@session
async def both_at_the_same_moment(notes: Notes, scheme: str) -> None:
    async with open_local(scheme) as (client, rig):
        with rig.open_events() as at_rig, client.open_events() as at_client:
            await client.cleanup("where I am")
            address = (await at_rig.receive()).address
            async with trio.open_nursery() as nursery:
                for number in range(20):
                    nursery.start_soon(client.init, number)
                    nursery.start_soon(partial(rig.stop, number, address=address))
            notes.append(sorted([(await at_rig.receive()).data for _ in range(20)]))
            notes.append(sorted([(await at_client.receive()).data for _ in range(20)]))
        notes.counts(client, rig)


@session
async def a_peer_that_doubles_everything(notes: Notes, scheme: str) -> None:
    for window in (0.0, 60.0):
        options: dict[str, Any] = {"echo_timeout": 30, "dedup_window": window}
        with await udp_socket() as sock:
            uri = f"udp://{LOCAL}:{sock.getsockname()[1]}"
            async with trionet.open_rig_communicator(uri, **options) as client:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(client.init, 1)
                    data, address = await sock.recvfrom(100)
                    for _ in range(2):
                        await sock.sendto(data, address)
                if not window:
                    notes.append((await sock.recvfrom(100))[0])  # a message, which is echoed
                for _ in range(2):
                    await sock.sendto(b"[2, 2]", address)
                    notes.append((await sock.recvfrom(100))[0])
                notes.counts(client)


@session
async def a_rig_that_comes_back(notes: Notes, scheme: str) -> None:
    async with trio.open_nursery() as nursery:

        async def be_a_rig(uri: str, *, task_status: trio.TaskStatus[RigCommunicator]) -> None:
            async with trionet.open_rig_listener(uri, name="rig") as rig:
                task_status.started(rig)
                await trio.sleep_forever()

        rig: RigCommunicator = await nursery.start(be_a_rig, f"{scheme}://{LOCAL}:0")
        uri = f"{scheme}://{LOCAL}:{rig.port}"
        async with trionet.open_rig_communicator(uri, echo_timeout=30) as client:
            await notes.of(client.init(1))
            with client.open_events(errors=True) as events:
                rig.cancel_scope.cancel()
                if scheme == "tcp":
                    await notes.of(events.receive())
            await trio.testing.wait_all_tasks_blocked()
            await notes.of(client.init(2))
            rig = await nursery.start(be_a_rig, uri)
            with rig.open_events() as received:
                await notes.of(client.init(3))
                notes.append((await received.receive()).data)
            notes.counts(client, rig)
        rig.cancel_scope.cancel()


@session
async def what_cannot_be_sent(notes: Notes, scheme: str) -> None:
    async with open_local(scheme, max_message_size=100_000) as (client, rig):
        for size in (65_507 - 2, 65_507 - 1, 100_000 - 2, 100_000 - 1):
            await notes.of(client.confirmed_send(b"[" + b" " * size + b"]"))
        await notes.of(client.send([1, "unconfirmed"], address=(LOCAL, rig.port)))
        await notes.of(client.init(1))
    await notes.of(client.init(1))


async def in_virtual_network(body: Session, notes: Notes, scheme: str) -> None:
    async with open_virtual_network() as network:
        with network.host("one").entered():
            await body(notes, scheme)


@pytest.mark.parametrize("scheme", ["udp", "tcp"])
@pytest.mark.parametrize("body", SESSIONS.values(), ids=SESSIONS.keys())
def test_outcome_is_that_of_real_sockets(body: Session, scheme: str) -> None:
    real, virtual = Notes(), Notes()
    trio.run(body, real, scheme)
    clock = trio.testing.MockClock(autojump_threshold=0)
    trio.run(in_virtual_network, body, virtual, scheme, clock=clock)
    assert real
    assert virtual == real
