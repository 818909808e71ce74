"""What takes time in blocking clients: on a mock clock and a virtual network, so it takes none."""

from __future__ import annotations

import functools
import logging
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
import trio
from trio.testing import MockClock

import trionet
from tests.compat.served import Instrument
from trionet.testing import VirtualNetwork
from trionet_compat.portal import Portal, open_portal
from trionet_compat.sipyco.pc_rpc import AutoTarget, BestEffortClient, Client

PORT = 3251


class Lab:
    """Two hosts: this thread is on the host ``pc``.

    Attributes:
        portal: Where both are.
        network: What connects them.
    """

    def __init__(self, portal: Portal, network: VirtualNetwork) -> None:
        self.portal = portal
        self.network = network
        self.network.host("server")

    def serve(self, target: Any) -> trionet.RpcServer:
        """Serve a target on the host ``server``."""
        serve = functools.partial(trionet.serve_rpc, host="server", allow_parallel=True)
        with self.network.host("server").entered():
            server: trionet.RpcServer = self.portal.start(serve, {"laser": target}, PORT)
        return server

    def serve_tcp(self, handler: Callable[[trio.SocketStream], Awaitable[None]]) -> None:
        """Serve anything on the host ``server``."""
        serve = functools.partial(trio.serve_tcp, host="server")
        with self.network.host("server").entered():
            self.portal.start(serve, handler, PORT)

    def stop(self, server: trionet.RpcServer) -> None:
        self.portal.call(server.aclose)

    def now(self) -> float:
        return self.portal.current_time()


@pytest.fixture
def lab() -> Iterator[Lab]:
    network = VirtualNetwork(latency=0.001)
    clock = MockClock(autojump_threshold=0)
    with open_portal(clock=clock, network=network) as portal, network.host("pc").entered():
        yield Lab(portal, network)


def test_a_call_times_out_and_the_next_one_gets_its_own_reply(lab: Lab) -> None:
    lab.serve(Instrument())
    client = Client("server", PORT, timeout=2.0)
    started = lab.now()
    with pytest.raises(TimeoutError) as info:
        client.sleep(3.0)
    assert str(info.value) == "timed out"
    assert lab.now() - started == pytest.approx(2.0)
    assert client.echo("next") == "next"  # waits behind the reply to the first one
    assert lab.now() - started == pytest.approx(3.0, abs=0.01)
    client.close_rpc()


def test_calls_without_timeout_take_their_time(lab: Lab) -> None:
    lab.serve(Instrument())
    client = Client("server", PORT)
    assert client.sleep(600.0) == 600.0
    client.close_rpc()


def test_connecting_times_out(lab: Lab) -> None:
    lab.network.host("server").firewalled = True
    with pytest.raises(TimeoutError):
        Client("server", PORT, AutoTarget, 4.0)
    assert lab.now() == pytest.approx(4.0)


def test_a_server_that_says_nothing_times_out(lab: Lab) -> None:
    async def say_nothing(stream: trio.SocketStream) -> None:
        await trio.sleep_forever()

    lab.serve_tcp(say_nothing)
    with pytest.raises(TimeoutError):
        Client("server", PORT, AutoTarget, 4.0)
    assert lab.now() == pytest.approx(4.0, abs=0.01)


async def _answer_nonsense(stream: trio.SocketStream) -> None:
    """Be an RPC server, until the first call."""
    await stream.receive_some()
    await stream.send_all(b'{"targets": ["laser"], "description": null}\n')
    await stream.receive_some()
    await stream.send_all(b'{"echo"}\n')
    await stream.receive_some()
    await stream.send_all(b"what?\n")
    await trio.sleep_forever()


def test_a_reply_that_is_none_is_a_lost_connection(lab: Lab) -> None:
    lab.serve_tcp(_answer_nonsense)
    client = Client("server", PORT)
    for _ in range(2):
        with pytest.raises(EOFError):
            client.echo(1)
    client.close_rpc()


def test_a_reply_that_is_none_is_an_outage(lab: Lab) -> None:
    lab.serve_tcp(_answer_nonsense)
    laser = BestEffortClient("server", PORT, "laser")
    assert hasattr(laser, "echo")
    assert laser.echo(1) is None
    laser.close_rpc()


def test_a_best_effort_client_through_an_outage(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    server = lab.serve(Instrument())
    laser = BestEffortClient("server", PORT, "laser")
    assert laser.add(1) == 6
    lab.stop(server)
    assert laser.add(1) is None
    assert not hasattr(laser, "nothing")
    lab.portal.sleep(60.0)
    assert laser.add(1) is None
    lab.serve(Instrument())
    lab.portal.sleep(5.1)
    assert laser.add(1) == 6
    laser.close_rpc()
    assert laser.add(1) is None
    assert {(record.name, record.levelno) for record in caplog.records} == {
        ("sipyco.pc_rpc", logging.WARNING)
    }
    assert len(caplog.records) == 2  # lost, and back


@pytest.mark.parametrize("target_name", ["laser", AutoTarget])
def test_a_best_effort_client_of_what_is_not_there_yet(lab: Lab, target_name: Any) -> None:
    laser = BestEffortClient("server", PORT, target_name, retry=10.0)
    assert lab.now() < 1.0  # refused
    assert laser.anything(1, two=3) is None
    assert not hasattr(laser, "_repr_html_")
    early = laser.echo
    mistaken = laser.anything
    lab.serve(Instrument())
    lab.portal.sleep(9.0)
    assert early("here") is None
    lab.portal.sleep(1.1)
    assert early("here") == "here"
    assert not hasattr(laser, "anything")
    with pytest.raises(AttributeError):
        mistaken()
    laser.close_rpc()


def test_the_first_attempt_of_a_best_effort_client_is_short(lab: Lab) -> None:
    lab.network.host("server").firewalled = True
    laser = BestEffortClient("server", PORT, "laser", 2.5)
    assert lab.now() == pytest.approx(2.5)
    assert laser.echo(1) is None
    laser.close_rpc()


def test_names_that_do_not_exist_are_an_outage(lab: Lab) -> None:
    laser = BestEffortClient("nowhere", PORT, "laser")
    assert laser.echo(1) is None
    laser.close_rpc()


def test_what_methods_raise_is_raised_by_best_effort_clients(lab: Lab) -> None:
    lab.serve(Instrument())
    laser = BestEffortClient("server", PORT, "laser")
    with pytest.raises(ValueError, match="no power") as info:
        laser.fail("no power")
    assert hasattr(info.value, "parent_traceback")
    with pytest.raises(TypeError):
        laser.echo(object())
    assert laser.echo(1) == 1
    laser.close_rpc()


def test_what_best_effort_clients_do_not_offer(lab: Lab) -> None:
    lab.serve(Instrument())
    laser = BestEffortClient("server", PORT, "laser")
    for ask in (laser.get_selected_target, laser.get_local_host):
        with pytest.raises(NotImplementedError):
            ask()
    assert not hasattr(laser, "get_rpc_id")
    laser.close_rpc()


def test_tls_that_cannot_be_used_is_logged(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    class MissingFiles:
        def create_client_context(self) -> Any:
            raise FileNotFoundError("laser.pem")

    lab.serve(Instrument())
    laser = BestEffortClient("server", PORT, "laser", ssl_config=MissingFiles())
    assert laser.echo(1) is None
    assert "TLS cannot be used" in caplog.text
    laser.close_rpc()


def test_a_best_effort_client_that_was_closed_outlives_its_portal() -> None:
    with open_portal():
        laser = BestEffortClient("127.0.0.1", 1, "laser")
        laser.close_rpc()
    assert laser.echo(1) is None
    laser.close_rpc()
