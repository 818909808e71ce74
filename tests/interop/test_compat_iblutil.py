"""Upstream's names of ours and iblutil's own in the same loop of asyncio: each is the rig, and the client."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator
from typing import Any, Final

import pytest

from tests.compat.asyncio_programs import Told, run
from tests.compat.echoing import LOGGER, SCHEMES, alyx_client, free_uri, serve
from tests.interop.links import ECHO_TIMEOUT
from trionet_compat.iblrig.net import Auxiliaries
from trionet_compat.iblutil.io.net import app, base

iblutil = pytest.importorskip("iblutil.io.net")

NAMES: Final = ("camera", "sound")

both_schemes = pytest.mark.parametrize("scheme", SCHEMES)
either_rig = pytest.mark.parametrize("whose", ["our rig", "their rig"])


async def open_rig(whose: str, scheme: str, name: str = "rig") -> Any:
    server = (app if whose == "our rig" else iblutil.app).EchoProtocol.server
    rig = await serve(scheme, server, name)
    rig.default_echo_timeout = ECHO_TIMEOUT
    return rig


async def open_client(whose: str, rig: Any, name: str = "client") -> Any:
    """The side that is not the rig."""
    client = await (iblutil.app if whose == "our rig" else app).EchoProtocol.client(
        rig.server_uri, name, LOGGER
    )
    client.default_echo_timeout = ECHO_TIMEOUT
    return client


def close(*communicators: Any) -> None:
    for one in communicators:
        one.close()
        if one.Server is not None:
            one.Server.close()


@contextlib.asynccontextmanager
async def open_pair(whose: str, scheme: str) -> AsyncIterator[tuple[Any, Any]]:
    rig = await open_rig(whose, scheme)
    client = await open_client(whose, rig)
    try:
        yield rig, client
    finally:
        close(client, rig)


class Heard(Told):
    def __call__(self, data: Any = None, addr: Any = None, *event: Any) -> None:
        self.addr = addr
        super().__call__(data)


class Answers:
    """Has a rig answer.

    To iblutil not before it has the echo of its message and waits for what comes: it breaks, or misses the
    answer, if it finds both at once. Our rigs leave it some time, but this loop may have stood still.
    """

    def __init__(self) -> None:
        self.clients: dict[str, Any] = {}  # by the names of their rigs
        self.tasks: list[asyncio.Future[Any]] = []
        self.received: list[Any] = []

    def start(self, rig: Any, coroutine: Coroutine[Any, Any, Any]) -> None:
        self.tasks.append(asyncio.ensure_future(self._run(self.clients.get(rig.name), coroutine)))

    async def _run(self, client: Any, coroutine: Coroutine[Any, Any, Any]) -> None:
        if client is not None:
            rounds = 20
            while rounds:
                await asyncio.sleep(0)
                waits = client.awaiting_response((client.hostname, client.port))
                rounds = 20 if waits else rounds - 1
        await coroutine

    def of(self, rig: Any) -> Any:
        for number in (1, 2, 4, 8, 16, 32, 64):

            def answer(data: Any, addr: Any, number: int = number) -> None:
                self.received.append((rig.name, number, data))
                self.start(rig, rig.confirmed_send([number, *data, rig.name], addr=addr))

            rig.assign_callback(number, answer)
        return rig


@either_rig
@both_schemes
def test_every_message_arrives(whose: str, scheme: str) -> None:
    async def main() -> None:
        async with open_pair(whose, scheme) as (rig, client):
            heard: dict[int, Heard] = {}
            for event in base.ExpMessage:
                heard[event] = Heard()
                rig.assign_callback(int(event), heard[event])
            await client.init({"ä": [1, float("inf")]})
            await client.start({"date": "2020-01-01", "sequence": "002", "subject": "m"}, 5)
            await client.stop("why")
            await client.stop(immediately=True)
            await client.status("RUNNING")
            await client.info(20, "data")
            await client.cleanup()
            await client.alyx(alyx_client({"token": "t"}))
            expected = {
                1: [{"ä": [1, float("inf")]}],
                2: ["2020-01-01_2_m", 5],
                4: ["why"],
                8: [None],
                16: [None],
                32: [20],
                64: [20, "data"],
                128: ["https://alyx", {"me": {"token": "t"}}],
            }
            for number, data in expected.items():
                assert await heard[base.ExpMessage(number)].wait(1) == [data]

    run(main)


@either_rig
@both_schemes
def test_the_rig_answers(whose: str, scheme: str) -> None:
    async def main() -> None:
        async with open_pair(whose, scheme) as (rig, client):
            answers = Answers()
            answers.of(rig)
            if whose == "our rig":
                answers.clients[rig.name] = client
            for number in range(5):
                answered = asyncio.ensure_future(client.on_event(1))
                await asyncio.sleep(0)
                await client.init(number)
                assert await answered == ([number, "rig"], (client.hostname, client.port))
            await asyncio.gather(*answers.tasks)

    run(main)


@either_rig
@both_schemes
def test_asking_for_a_token(whose: str, scheme: str) -> None:
    async def main() -> None:
        async with open_pair(whose, scheme) as (rig, client):
            answers = Answers()
            if whose == "our rig":
                answers.clients[rig.name] = client
            token = alyx_client({"token": "t"})
            rig.assign_callback(128, lambda data, addr: answers.start(rig, rig.alyx(token, addr=addr)))
            assert await client.alyx() == ["https://alyx", {"me": {"token": "t"}}]
            await asyncio.gather(*answers.tasks)

    run(main)


@either_rig
def test_a_failed_callback_is_told(whose: str) -> None:
    def fail(*_: Any) -> None:
        raise ValueError("no light")

    async def main() -> None:
        async with open_pair(whose, "udp") as (rig, client):
            rig.assign_callback(1, fail)
            told = Heard()
            client.assign_callback(0, told)
            await client.init()
            assert await told.wait(1) == [["ValueError: no light", 1]]

    run(main)


@either_rig
@both_schemes
@pytest.mark.parametrize("concurrent", [True, False])
def test_services(whose: str, scheme: str, concurrent: bool) -> None:
    async def main() -> None:
        answers = Answers()
        rigs = [answers.of(await open_rig(whose, scheme, name)) for name in NAMES]
        clients = [await open_client(whose, rig, rig.name) for rig in rigs]
        if whose == "our rig":
            answers.clients = dict(zip(NAMES, clients, strict=True))
        services = (iblutil.app if whose == "our rig" else app).Services(clients, timeout=ECHO_TIMEOUT)

        def said(*data: Any) -> dict[str, list[Any]]:
            return {name: [*data, name] for name in NAMES}

        assert await services.info("CONNECTED", 1, concurrent=concurrent) == said(0, 1)
        assert await services.init({"a": 1}, concurrent=concurrent) == said({"a": 1})
        assert await services.start("ref", 2, concurrent=concurrent) == said("ref", 2)
        assert await services.status("RUNNING", concurrent=concurrent) == said(20)
        assert await services.stop([1], concurrent=concurrent) == said([1])
        assert await services.cleanup(concurrent=concurrent) == said(None)
        if not concurrent:
            order = [name for name, number, _ in answers.received if number in (4, 8)]
            assert order == [*reversed(NAMES)] * 2
        await asyncio.gather(*answers.tasks)
        close(*clients, *rigs)

    run(main)


def test_what_we_do_that_breaks_two_of_theirs() -> None:
    """Several messages at once from our side, to a rig of theirs."""

    async def main() -> None:
        async with open_pair("their rig", "udp") as (rig, client):
            heard = Heard()
            rig.assign_callback(1, heard)
            await asyncio.gather(*(client.init(number) for number in range(10)))
            assert sorted(await heard.wait(10)) == [[number] for number in range(10)]
            assert client.is_connected

    run(main)


@either_rig
def test_a_client_learns_that_its_rig_has_gone(whose: str) -> None:
    async def main() -> None:
        async with open_pair(whose, "tcp") as (rig, client):
            await client.init()
            rig.close()
            assert await client.on_eof_received is True
            assert not client.is_connected

    run(main)


class TheirRigs:
    """Rigs of theirs, in a thread."""

    def __init__(self, scheme: str) -> None:
        self.uris = {name: free_uri(scheme) for name in NAMES}
        self.answers = Answers()
        self.ready = threading.Event()
        self.loop: asyncio.AbstractEventLoop
        self.over: asyncio.Event

    async def main(self) -> None:
        self.loop, self.over = asyncio.get_running_loop(), asyncio.Event()
        rigs = []
        for name, uri in self.uris.items():
            rig = await iblutil.app.EchoProtocol.server(uri, name, LOGGER)
            rig.default_echo_timeout = ECHO_TIMEOUT
            rigs.append(self.answers.of(rig))
        self.ready.set()
        await self.over.wait()
        await asyncio.gather(*self.answers.tasks)
        close(*rigs)


@contextlib.contextmanager
def open_their_rigs(scheme: str) -> Iterator[TheirRigs]:
    rigs = TheirRigs(scheme)
    thread = threading.Thread(target=lambda: asyncio.run(rigs.main()))
    thread.start()
    assert rigs.ready.wait(ECHO_TIMEOUT)
    try:
        yield rigs
    finally:
        rigs.loop.call_soon_threadsafe(rigs.over.set)
        thread.join()


@both_schemes
def test_auxiliaries(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def said(*data: Any) -> dict[str, list[Any]]:
        return {name: [*data, name] for name in NAMES}

    monkeypatch.setattr(app.EchoProtocol, "default_echo_timeout", ECHO_TIMEOUT)
    with open_their_rigs(scheme) as rigs:
        aux = Auxiliaries(rigs.uris)
        assert aux.is_connected
        assert aux.services is not None
        aux.services.timeout = ECHO_TIMEOUT
        info = {"main_sync": True, "exp_ref": None}
        assert aux.push("EXPINFO", "CONNECTED", info, wait=True) == said(0, info)
        assert aux.push("EXPINIT", {"exp_ref": "ref"}, wait=True) == said({"exp_ref": "ref"})
        assert aux.push("EXPSTART", "ref", wait=True) == said("ref", None)
        assert aux.push("ALYX", alyx_client({"token": "t"}), wait=True) is None
        assert aux.push("EXPINTERRUPT", {"error": "e"}, wait=True) == said([{"error": "e"}])
        assert aux.push("EXPEND", wait=True) == said([])
        aux.close()
        assert not aux.is_connected
