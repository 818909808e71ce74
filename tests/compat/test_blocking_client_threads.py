"""Blocking clients in many threads, forgotten ones, and Ctrl-C."""

from __future__ import annotations

import functools
import gc
import signal
import subprocess
import sys
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import trio

from tests.compat.served import Instrument, port_of, serving, until_alone
from tests.unmeasured import unmeasured_environment
from trionet_compat.portal import Portal
from trionet_compat.sipyco.pc_rpc import BestEffortClient, Client

HOST = "127.0.0.1"
THREADS = 50
CALLS = 100  # of each thread


def _call_often(make_client: Callable[[], Client], number: int) -> None:
    client = make_client()
    for index in range(CALLS):
        assert client.echo((number, index)) == (number, index)


def _close_all(clients: list[Client]) -> None:
    for client in clients:
        client.close_rpc()


def test_many_threads_share_a_client() -> None:
    with serving({"laser": Instrument()}) as (_, server), ThreadPoolExecutor(THREADS) as threads:
        client = Client(HOST, port_of(server))
        list(threads.map(functools.partial(_call_often, lambda: client), range(THREADS)))
        assert server.statistics().accepted == 1
        assert server.statistics().calls == THREADS * CALLS
        client.close_rpc()


def test_many_threads_have_a_client_each() -> None:
    clients: list[Client] = []

    def make_client() -> Client:
        clients.append(Client(HOST, port_of(server)))
        return clients[-1]

    with serving({"laser": Instrument()}) as (_, server), ThreadPoolExecutor(THREADS) as threads:
        list(threads.map(functools.partial(_call_often, make_client), range(THREADS)))
        assert server.statistics().accepted == THREADS
        assert server.statistics().calls == THREADS * CALLS
        _close_all(clients)


def test_closing_ends_the_calls_of_other_threads() -> None:
    instrument = Instrument()

    async def wait_called() -> None:
        while not instrument.waiting:
            await trio.lowlevel.checkpoint()

    with serving({"laser": instrument}) as (portal, server), ThreadPoolExecutor() as threads:
        client = Client(HOST, port_of(server))
        call = threads.submit(client.wait)
        portal.call(wait_called)
        client.close_rpc()
        with pytest.raises(EOFError):
            call.result()


def _tasks(portal: Portal) -> int:
    return portal.call_sync(lambda: trio.lowlevel.current_statistics().tasks_living)


@pytest.mark.parametrize("kind", [Client, BestEffortClient])
def test_a_client_that_is_forgotten(kind: type[Client] | type[BestEffortClient]) -> None:
    with serving({"laser": Instrument()}) as (portal, server):
        tasks = _tasks(portal)
        client = kind(HOST, port_of(server), "laser", 30)
        assert client.echo(1) == 1
        there = weakref.ref(client)
        with pytest.warns(ResourceWarning, match=f"unclosed <{kind.__name__} "):
            del client
        assert there() is None
        portal.call(until_alone, server)
        portal.call(trio.testing.wait_all_tasks_blocked)
        assert _tasks(portal) == tasks


def test_a_client_that_is_forgotten_is_not_kept_by_its_methods_or_errors() -> None:
    with serving({"laser": Instrument()}) as (_, server):
        client = Client(HOST, port_of(server))
        with pytest.raises(ValueError, match="text"):
            client.fail("text")
        client.echo(1)
        client.close_rpc()
        there = weakref.ref(client)
        gc.collect()
        gc.disable()
        try:
            del client
            assert there() is None
        finally:
            gc.enable()


def test_a_client_that_was_not_made_leaves_nothing() -> None:
    with serving({"laser": Instrument()}) as (portal, server):
        tasks = _tasks(portal)
        portal.call(server.aclose)
        with pytest.raises(ConnectionRefusedError):
            Client(HOST, port_of(server))
        gc.collect()  # warnings are errors
        portal.call(trio.testing.wait_all_tasks_blocked)
        assert _tasks(portal) <= tasks


INTERRUPTED = """
import functools, trio, trionet
from trionet_compat.portal import current_portal
from trionet_compat.sipyco.pc_rpc import Client

class Target:
    def echo(self, value):
        return value

    async def wait(self):
        print("called", flush=True)
        try:
            await trio.sleep_forever()
        finally:
            print("cancelled", flush=True)

serve = functools.partial(trionet.serve_rpc, allow_parallel=True)
server = current_portal().start(serve, {"t": Target()}, 0)
client = Client("127.0.0.1", server.addresses[0][1])
other = Client("127.0.0.1", server.addresses[0][1])
try:
    client.wait()
except KeyboardInterrupt:
    print("interrupted", flush=True)
print(other.echo("goes on"))
other.close_rpc()
client.close_rpc()
"""


@pytest.mark.skipif(
    sys.platform == "win32", reason="a program of our own console cannot be interrupted alone"
)
def test_ctrl_c_in_a_call() -> None:
    process = subprocess.Popen(
        [sys.executable, "-X", "dev", "-c", INTERRUPTED],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=unmeasured_environment(),
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "called\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert err == ""
    assert out.splitlines()[0] == "interrupted"
    assert sorted(out.splitlines()[1:]) == ["cancelled", "goes on"]
    assert process.returncode == 0
