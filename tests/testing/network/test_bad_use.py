"""What a network says to who uses it in the wrong way, and real sockets beside virtual ones."""

from __future__ import annotations

import asyncio
import functools
import socket
import sys
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import trio
import trio.testing

from tests.testing.network.programs import PORT, echo, tcp_socket, udp_socket
from trionet.testing import NotOnHostError, UnknownHostError, VirtualNetwork, open_virtual_network
from trionet.testing.network._schedule import SeededSchedule

Clock = trio.testing.MockClock


def test_outside_of_a_run() -> None:
    async def use() -> None:
        async with open_virtual_network():
            raise AssertionError

    with pytest.raises(RuntimeError, match=r"inside a run of Trio"):
        asyncio.run(use())


async def test_two_networks_in_one_run() -> None:
    async with open_virtual_network():
        with pytest.raises(RuntimeError, match="another virtual network is open in this run"):
            async with open_virtual_network():
                raise AssertionError
    async with open_virtual_network():
        pass  # one after the other is fine


async def test_two_networks_in_two_threads() -> None:
    errors: list[str] = []

    async def other_run() -> None:
        try:
            async with open_virtual_network():
                raise AssertionError
        except RuntimeError as error:
            errors.append(str(error))

    async with open_virtual_network():
        thread = threading.Thread(target=trio.run, args=(other_run,))
        thread.start()
        thread.join()
    assert "another thread" in errors[0]


async def test_a_network_is_opened_once() -> None:
    network = VirtualNetwork()
    async with network:
        pass
    with pytest.raises(RuntimeError, match="only once"):
        async with network:
            raise AssertionError


async def test_tasks_need_an_open_network() -> None:
    network = VirtualNetwork()
    with pytest.raises(RuntimeError, match="while their network is open"):
        network.host("one").start_soon(trio.sleep_forever)
    async with network:
        pass
    with pytest.raises(RuntimeError, match="while their network is open"):
        network.host("one").start_soon(trio.sleep_forever)


@pytest.mark.parametrize(
    "use",
    [
        lambda network: network.link("one", "none"),
        lambda network: network.partition("none", "one"),
        lambda network: network.partition("one", ["two", "none"]),
        lambda network: network.repair("one", "none"),
        lambda network: network.hold("one", "none"),
        lambda network: network.release("none", "one"),
        lambda network: network.netstat("none"),
        lambda network: network.netstat(VirtualNetwork().host("none")),
    ],
)
def test_an_unknown_host(use: Callable[[VirtualNetwork], object]) -> None:
    network = VirtualNetwork()
    network.host("one")
    network.host("two")
    with pytest.raises(UnknownHostError, match="no host 'none' in this network; there are: one, two"):
        use(network)


@pytest.mark.parametrize(
    "use",
    [
        lambda network: network.partition("one", "ONE"),
        lambda network: network.partition(["one", "two"], ["two"]),
        lambda network: network.hold("one", network.host("one")),
        lambda network: network.link("one", "one"),
        lambda network: network.link("one", "two").toward("three"),
    ],
)
def test_a_host_and_itself(use: Callable[[VirtualNetwork], object]) -> None:
    network = VirtualNetwork()
    for name in ("one", "two", "three"):
        network.host(name)
    with pytest.raises(ValueError, match=r"itself|at no end"):
        use(network)


@pytest.mark.parametrize("name", ["", "two words", "10.0.0.1", "::1", "localhost", "-", "a_", "ä"])
def test_names_that_no_host_can_have(name: str) -> None:
    with pytest.raises(ValueError, match="name of a host"):
        VirtualNetwork().host(name)


def test_one_side_only() -> None:
    network = VirtualNetwork()
    network.host("one")
    with pytest.raises(TypeError, match="both sides"):
        network.repair("one")
    with pytest.raises(TypeError, match="a rule is a function"), network.rule(3):  # type: ignore[arg-type]
        raise AssertionError


async def test_a_socket_of_a_task_on_no_host(autojump_clock: Clock) -> None:
    async with open_virtual_network() as network:
        with pytest.raises(NotOnHostError, match=r"host\.start_soon.*host\.entered.*allow_real=True"):
            tcp_socket()
        with pytest.raises(NotOnHostError, match="the name 'one' to be resolved"):
            await trio.open_tcp_stream("one", PORT)
        with pytest.raises(NotOnHostError, match="to be resolved"):
            await trio.socket.getnameinfo(("127.0.0.1", 80), 0)
        with network.host("one").entered():
            for family, kind in (
                (socket.AF_INET, socket.SOCK_RAW),
                (getattr(socket, "AF_UNIX", 99), socket.SOCK_STREAM),
            ):
                with pytest.raises(NotOnHostError, match="no sockets of family"):
                    trio.socket.socket(family, kind)


async def test_a_socket_after_the_network_is_real() -> None:
    async with open_virtual_network() as network:
        with network.host("one").entered():
            virtual = tcp_socket()
    assert virtual.fileno() == -1
    with tcp_socket() as real:
        assert real.fileno() >= 0


async def test_who_entered_a_host_and_stays_after_the_network(autojump_clock: Clock) -> None:
    async with open_virtual_network() as first:
        entered = first.host("one").entered()
        entered.__enter__()
    async with open_virtual_network() as second:
        second.host("one")
        with pytest.raises(NotOnHostError):
            tcp_socket()
    entered.__exit__(None, None, None)


async def test_real_sockets_beside_virtual_ones() -> None:
    async with open_virtual_network(allow_real=True) as network, trio.open_nursery() as nursery:
        listeners = await nursery.start(functools.partial(trio.serve_tcp, echo, 0, host="127.0.0.1"))
        port = listeners[0].socket.getsockname()[1]
        assert listeners[0].socket.fileno() >= 0
        async with await trio.open_tcp_stream("localhost", port) as stream:
            await stream.send_all(b"x")
            assert await stream.receive_some() == b"x"
        with network.host("one").entered():
            assert tcp_socket().fileno() < 0
            with pytest.raises(OSError, match="all attempts"):
                await trio.open_tcp_stream("localhost", port)
            if sys.platform != "win32":
                with trio.socket.socket(socket.AF_UNIX) as unix:
                    assert unix.fileno() >= 0
        assert (await trio.socket.getnameinfo(("127.0.0.1", 80), socket.NI_NUMERICHOST))[0] == "127.0.0.1"
        nursery.cancel_scope.cancel()


async def test_factories_that_were_there_come_back() -> None:
    class Factory(trio.abc.SocketFactory):
        def socket(self, *args: object) -> trio.socket.SocketType:
            raise NotImplementedError

    before = Factory()
    trio.socket.set_custom_socket_factory(before)
    try:
        async with open_virtual_network() as network:
            with network.host("one").entered():
                udp_socket()
        with pytest.raises(NotImplementedError):
            tcp_socket()
    finally:
        assert trio.socket.set_custom_socket_factory(None) is before


def test_schedule_of_a_run_that_died_does_not_outlive_the_next() -> None:
    """Such as one that a timeout ended while Trio waited: nothing was cleaned up."""
    run: Any = trio._core._run
    before = run._r, run._ALLOW_DETERMINISTIC_SCHEDULING
    died = SeededSchedule("died")
    died.install()
    following = SeededSchedule("following")
    following.install()
    following.restore()
    assert (run._r, run._ALLOW_DETERMINISTIC_SCHEDULING) == before
    died.restore()
    assert (run._r, run._ALLOW_DETERMINISTIC_SCHEDULING) == before


@pytest.mark.parametrize("name", ["_ALLOW_DETERMINISTIC_SCHEDULING", "_r"])
async def test_a_trio_whose_order_of_tasks_cannot_be_driven(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    factory = trio.socket.set_custom_socket_factory(None)
    with monkeypatch.context() as patch:
        patch.delattr(trio._core._run, name)
        with pytest.raises(RuntimeError, match=rf"Trio {trio.__version__} does not let .* {name} "):
            async with open_virtual_network():
                pass
    assert trio.socket.set_custom_socket_factory(None) is factory is None
    async with open_virtual_network():
        pass


async def test_a_trio_that_does_not_ask_for_the_order_of_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has the names, but makes nothing of them any more."""
    monkeypatch.setattr(
        "trionet.testing.network._schedule._RUN",
        SimpleNamespace(_ALLOW_DETERMINISTIC_SCHEDULING=False, _r=None),
    )
    with pytest.raises(RuntimeError, match="no run of a virtual network could be repeated"):
        async with open_virtual_network() as network:
            network.host("one").start_soon(trio.sleep, 0)
    with pytest.raises(ValueError, match="the block's own"):
        async with open_virtual_network():
            raise ValueError("the block's own")
