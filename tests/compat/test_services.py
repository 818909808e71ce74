"""Services under asyncio; and rigs under Trio, over the virtual network, in exact times."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from tests.compat.asyncio_programs import run
from tests.compat.echoing import LOGGER, SCHEMES, alyx_client, open_silent_socket, serve
from tests.compat.lab_rigs import LabRig
from trionet import RemoteError, ResponseTimeout, ServicesError
from trionet.testing import VirtualHost, VirtualNetwork
from trionet_compat.iblutil.io.net.app import EchoProtocol, Services, main
from trionet_compat.iblutil.io.net.base import ExpMessage

NAMES = ("camera", "sound")

both_schemes = pytest.mark.parametrize("scheme", SCHEMES)


class Rigs:
    """Rigs that answer, and what they were sent."""

    def __init__(self) -> None:
        self.received: list[tuple[str, int, Any]] = []
        self.tasks: list[asyncio.Future[None]] = []
        self.opened: dict[str, EchoProtocol] = {}

    async def open(self, scheme: str, name: str) -> EchoProtocol:
        rig: EchoProtocol = await serve(scheme, name=name)
        self.opened[name] = rig

        def answer(data: Any, addr: Any, event: ExpMessage) -> None:
            self.received.append((name, int(event), data))
            if event != ExpMessage.ALYX:
                reply = rig.confirmed_send([event, *data, name], addr=addr)
                self.tasks.append(asyncio.ensure_future(reply))

        rig.assign_callback(ExpMessage.any(), answer)
        return rig


@contextlib.asynccontextmanager
async def open_services(scheme: str) -> AsyncIterator[tuple[Services, Rigs]]:
    rigs = Rigs()
    clients = []
    for name in NAMES:
        rig = await rigs.open(scheme, name)
        clients.append(await EchoProtocol.client(rig.server_uri, name, LOGGER))
    services = Services(clients)
    try:
        yield services, rigs
    finally:
        await asyncio.gather(*rigs.tasks)
        services.close()
        for rig in rigs.opened.values():
            rig.close()


@both_schemes
@pytest.mark.parametrize("concurrent", [True, False])
def test_a_session(scheme: str, concurrent: bool) -> None:
    async def program() -> None:
        async with open_services(scheme) as (services, rigs):

            def said(*data: Any) -> dict[str, list[Any]]:
                return {name: [*data, name] for name in NAMES}

            assert services.is_connected
            assert await services.info("CONNECTED", {"a": 1}, concurrent=concurrent) == said(0, {"a": 1})
            assert await services.init({"b": 2}, concurrent=concurrent) == said({"b": 2})
            assert await services.start("ref", 3, concurrent=concurrent) == said("ref", 3)
            assert await services.status(20, concurrent=concurrent) == said(20)
            assert await services.stop("why", concurrent=concurrent) == said("why")
            assert await services.stop(immediately=True, concurrent=concurrent) == said(None)
            assert await services.cleanup(concurrent=concurrent) == said(None)
            await services.alyx(alyx_client({"token": "t"}))
            if not concurrent:
                order = [name for name, event, _ in rigs.received if event in (4, 8, 16)]
                assert order == [*reversed(NAMES)] * 3
                assert [name for name, event, _ in rigs.received if event < 4] == [*NAMES] * 2
            assert sorted(rigs.received[-2:]) == [
                (name, 128, ["https://alyx", {"me": {"token": "t"}}]) for name in NAMES
            ]
        assert not services.is_connected

    run(program)


def test_signals_by_method() -> None:
    """As iblrig sends them."""

    async def program() -> None:
        async with open_services("udp") as (services, _):
            message = [ExpMessage.EXPINFO, 0, "data"]
            expected = {name: [0, "data", name] for name in NAMES}
            assert await services._signal(ExpMessage.EXPINFO, "confirmed_send", message) == expected
            assert await services._signal("EXPINIT", "init", "data") == {n: ["data", n] for n in NAMES}
            with pytest.raises(ValueError, match="EXPEND"):
                await services._signal(ExpMessage.EXPEND, "confirmed_send", message)

    run(program)


def test_a_mapping_that_cannot_be_changed() -> None:
    async def program() -> None:
        async with open_services("udp") as (services, _):
            assert list(services) == [*NAMES]
            assert services.timeout == 10
            with pytest.raises(TypeError, match="does not support item assignment"):
                services["camera"] = services["sound"]
            with pytest.raises(TypeError, match="does not support item deletion"):
                del services["camera"]
            for wrong in ((services["camera"],), [1], None):
                with pytest.raises(TypeError, match="Remote services"):
                    Services(wrong)  # type: ignore[arg-type]
        nothing = Services([])
        assert not nothing.is_connected
        assert await nothing.init() == {}

    run(program)


def test_callbacks() -> None:
    async def program() -> None:
        async with open_services("udp") as (services, _):
            calls: list[Any] = []

            def with_service(*args: Any) -> None:
                calls.append(args)

            def without(*args: Any) -> None:
                calls.append(args)

            services.assign_callback("EXPINIT", with_service, return_service=True)
            services.assign_callback(1 | 2, without)
            await services._run(lambda rigs: rigs.ask([1, None], concurrent=False))
            addresses = [(rig.hostname, rig.port) for rig in services.values()]
            assert calls == [
                ([None, "camera"], addresses[0], services["camera"]),
                ([None, "camera"], addresses[0], ExpMessage.EXPINIT),
                ([None, "sound"], addresses[1], services["sound"]),
                ([None, "sound"], addresses[1], ExpMessage.EXPINIT),
            ]
            assert services.clear_callbacks("EXPINIT", with_service) == dict.fromkeys(NAMES, 1)
            assert services.clear_callbacks(3) == dict.fromkeys(NAMES, 2)

    run(program)


async def test_a_rig_that_does_not_answer(autojump_clock: MockClock) -> None:
    """It has confirmed the message, so it stays open."""
    async with VirtualNetwork(latency=0.01) as network, contextlib.AsyncExitStack() as stack:
        for name in NAMES:
            rig = LabRig(name)
            rig.silent = name == "sound"
            with network.host(name).entered():
                await stack.enter_async_context(rig.open("udp://0.0.0.0:11001"))
        with network.host("pc").entered():
            clients = [await EchoProtocol.client(f"udp://{name}", name, LOGGER) for name in NAMES]
        services = Services(clients)
        services.timeout = 0.05
        text = r"^The following services failed to respond in time: {'sound'}$"
        with pytest.raises(TimeoutError, match=text) as caught:
            await services.init()
        cause = caught.value.__cause__
        assert isinstance(cause, ServicesError)
        assert isinstance(cause.failed["sound"], ResponseTimeout)
        assert cause.responses == {"camera": [None, "camera"]}
        with pytest.raises(TimeoutError, match="failed to respond"):
            await services.await_all("EXPEND")
        assert services.is_connected
        services.close()


def test_a_rig_whose_callback_fails_is_not_waited_for() -> None:
    def fail(*_: Any) -> None:
        raise ValueError("no light")

    async def program() -> None:
        async with open_services("udp") as (services, rigs):
            services.timeout = None  # for ever
            rigs.opened["sound"].clear_callbacks(255)
            rigs.opened["sound"].assign_callback(1, fail)
            with pytest.raises(TimeoutError, match=r"failed to respond in time: {'sound'}$") as caught:
                await services.init()
            assert isinstance(caught.value.__cause__, ServicesError)
            (reason,) = caught.value.__cause__.exceptions
            assert isinstance(reason, RemoteError)
            assert services.is_connected

    run(program)


@both_schemes
def test_a_rig_that_does_not_confirm_is_closed(scheme: str) -> None:
    async def program() -> None:
        rigs = Rigs()
        with open_silent_socket(scheme) as uri:
            camera = await rigs.open(scheme, "camera")
            clients = [
                await EchoProtocol.client(camera.server_uri, "camera", LOGGER),
                await EchoProtocol.client(uri, "silent", LOGGER),
            ]
            services = Services(clients)
            clients[1].default_echo_timeout = 0.02
            text = rf"^Failed to receive client response in time \(silent: {uri}\)$"
            with pytest.raises(TimeoutError, match=text) as caught:
                await services.init()
            assert isinstance(caught.value.__cause__, ServicesError)
            assert "within 0.02 s" in str(caught.value.__cause__.failed["silent"])
            assert [client.is_connected for client in clients] == [True, False]
            with pytest.raises(TimeoutError, match=text):
                await services.init()
            assert [number for _, number, _ in rigs.received] == [1]
            await asyncio.gather(*rigs.tasks)
            services.close()
            camera.close()

    run(program)


def test_a_cancelled_signal_leaves_nothing_behind() -> None:
    async def program() -> None:
        async with open_services("udp") as (services, rigs):
            for rig in rigs.opened.values():
                rig.clear_callbacks(255)
            task = asyncio.ensure_future(services.init())
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()
            assert services.is_connected

    run(program)


async def test_rigs_in_trio(autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same coroutines; answers are 5 ms behind their echoes."""
    monkeypatch.undo()  # `patience`: this is about upstream's times

    async def be_rig(*, task_status: trio.TaskStatus[EchoProtocol]) -> None:
        rig = await EchoProtocol.server("udp://0.0.0.0:11001", "camera", LOGGER)
        task_status.started(rig)
        while True:
            data, addr, event = await rig.on_event(ExpMessage.any())
            await rig.confirmed_send([event, *data, "seen"], addr=addr)

    async def control() -> None:
        client = await EchoProtocol.client("udp://rig", "camera", LOGGER)
        assert client.server_uri == f"udp://{host.ipv4}:11001"
        services = Services([client])
        began = trio.current_time()
        assert await services.init("data") == {"camera": ["data", "seen"]}
        assert trio.current_time() - began == pytest.approx(0.025)
        network.host("rig").crash()
        began = trio.current_time()
        with pytest.raises(TimeoutError, match="Failed to receive"):
            await client.init()
        assert trio.current_time() - began == pytest.approx(1)
        assert not client.is_connected
        with pytest.raises(trio.ClosedResourceError):
            await client.on_event(1)

    async with VirtualNetwork(latency=0.01) as network:
        host: VirtualHost = network.host("rig")
        await host.start(be_rig)
        with network.host("pc").entered():
            await control()


async def test_closing_in_trio(autojump_clock: MockClock) -> None:
    async with VirtualNetwork() as network:
        with network.host("rig").entered():
            rig = await EchoProtocol.server("tcp://0.0.0.0:11001", None, LOGGER)
        with network.host("pc").entered():
            client = await EchoProtocol.client("tcp://rig:11001", None, LOGGER)
        outcomes: list[type[Exception]] = []

        async def wait(async_fn: Any, *args: Any) -> None:
            try:
                await async_fn(*args)
            except trio.ClosedResourceError as error:
                outcomes.append(type(error))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait, client.on_event, 1)
            nursery.start_soon(wait, client.alyx)
            await trio.sleep(0.1)
            client.close()
        assert outcomes == [trio.ClosedResourceError] * 2
        assert client.on_connection_lost.result() == "Close called on communicator"
        rig.close()


async def test_an_unknown_host(autojump_clock: MockClock) -> None:
    async with VirtualNetwork() as network:
        with network.host("pc").entered():
            with pytest.raises(ValueError, match=r'^Failed to resolve IP for hostname "nowhere"$'):
                await EchoProtocol.client("nowhere", None, LOGGER)


async def test_the_example(autojump_clock: MockClock) -> None:
    async with VirtualNetwork() as network, trio.open_nursery() as nursery:
        with network.host("rig").entered():
            nursery.start_soon(partial(main, log=LOGGER), "server", "udp://0.0.0.0:11001")
        await trio.sleep(0.1)
        with network.host("pc").entered():
            await main("client", "udp://rig:11001", log=LOGGER)
        began = trio.current_time()
        nursery.cancel_scope.deadline = began + 3000
    assert trio.current_time() == began + 3000
    with pytest.raises(ValueError, match="role"):
        await main("master", "udp://rig:11001")
