"""Calls that nobody waits for: one in flight, the others dropped, and nothing lost without a word."""

from __future__ import annotations

import contextlib
import functools
import logging
import queue
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.testing

import trionet
from trionet.rpc.fire_and_forget import FireAndForget, FireAndForgetStatistics, open_fire_and_forget
from trionet.testing import open_memory_rpc_client


class Laser:
    """Has methods of all kinds."""

    wavelength = 1550

    def __init__(self) -> None:
        self.log: list[Any] = []
        self.begun = trio.Event()
        self.release = threading.Event()
        self.set_later = functools.partial(self.set_power, 0.25)

    @property
    def temperature(self) -> float:
        raise RuntimeError("reading this talks to the hardware")

    async def set_power(self, power: float, *, ramp: float = 0.0) -> str:
        self.begun.set()
        try:
            await trio.sleep(ramp)
        except trio.Cancelled:
            self.log.append(("cancelled", power, trio.current_time()))
            raise
        self.log.append((power, trio.current_time()))
        return "nobody sees this"

    def block(self) -> None:
        self.log.append(threading.current_thread() is not threading.main_thread())
        self.release.wait()
        self.log.append("released")

    def delegate(self, power: float) -> Awaitable[str]:
        self.log.append(threading.current_thread() is not threading.main_thread())
        return self.set_power(power, ramp=1)

    def set_now(self, power: float) -> None:
        self.log.append(power)

    def fail(self) -> None:
        raise ValueError("out of range")

    async def fail_later(self) -> None:
        await trio.sleep(1)
        raise ValueError("out of range")

    async def interrupt(self) -> None:
        await trio.sleep(1)
        raise KeyboardInterrupt

    def wait_idle(self) -> None:
        self.log.append("the laser's own wait_idle")

    def _private(self) -> None: ...


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    assert {record.name for record in caplog.records} <= {"trionet.rpc"}
    assert {record.levelno for record in caplog.records} <= {logging.WARNING}
    return [record.message for record in caplog.records]


@contextlib.asynccontextmanager
async def opened(kind: str, laser: Laser) -> AsyncIterator[FireAndForget]:
    """`laser` behind each kind of target."""
    async with contextlib.AsyncExitStack() as stack:
        target: Any = laser
        if kind != "local":
            client = await stack.enter_async_context(
                open_memory_rpc_client({"laser": laser}, sync_methods="thread")
            )
            target = client.proxy if kind == "proxy" else client
        if kind == "best effort":
            target = trionet.BestEffortRpcClient()
            target._set(client)
        yield await stack.enter_async_context(open_fire_and_forget(target))


KINDS = ("local", "proxy", "client", "best effort")


@pytest.mark.parametrize("kind", KINDS)
async def test_calls_return_at_once(
    kind: str, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    laser = Laser()
    async with opened(kind, laser) as ff:
        assert not ff.busy
        assert ff.set_power(1.5, ramp=2) is None
        assert ff.busy
        assert laser.log == []
        assert trio.current_time() == 0.0
        await ff.wait_idle()
        assert not ff.busy
        assert laser.log == [(1.5, 2.0)]
        ff.set_now(3)
        await ff.wait_idle()
        ff.call("set_power", 4, ramp=1)
        await ff.wait_idle()
        assert laser.log == [(1.5, 2.0), 3, (4, 3.0)]
        assert ff.statistics() == FireAndForgetStatistics(calls=3, dropped=0, failed=0)
    assert warnings(caplog) == []


@pytest.mark.parametrize("kind", KINDS)
async def test_one_call_in_flight(
    kind: str, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    laser = Laser()
    async with opened(kind, laser) as ff:
        ff.set_power(1, ramp=5)
        ff.set_now(2)
        await trio.sleep(4)
        ff.set_power(3)
        await trio.sleep(2)
        ff.set_power(4)
        assert ff.statistics() == FireAndForgetStatistics(calls=2, dropped=2, failed=0)
    assert laser.log == [(1, 5.0), (4, 6.0)]
    label = {
        "local": "Laser",
        "proxy": "<RpcProxy of target 'laser' at StapledStream>",
        "client": "<RpcProxy of target 'laser' at StapledStream>",
        "best effort": "BestEffortRpcClient",
    }[kind]
    assert warnings(caplog) == [
        f"skipping fire-and-forget call to 'set_now' of {label}: 'set_power' is still in flight",
        f"skipping fire-and-forget call to 'set_power' of {label}: 'set_power' is still in flight",
    ]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", ["fail", "fail_later"])
async def test_exceptions_become_warnings(
    kind: str, method: str, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    laser = Laser()
    async with opened(kind, laser) as ff:
        getattr(ff, method)()
        await ff.wait_idle()
        assert ff.statistics() == FireAndForgetStatistics(calls=1, dropped=0, failed=1)
        ff.set_now(1)
    assert laser.log == [1]
    (message,) = warnings(caplog)
    assert message.startswith(f"fire-and-forget call to '{method}' of ")
    assert message.endswith(" failed")
    assert "in " + method in caplog.text  # the traceback, also that of the server
    assert "ValueError: out of range" in caplog.text


@pytest.mark.parametrize("kind", ["local", "proxy", "client"])
async def test_names_that_are_no_methods(kind: str) -> None:
    async with opened(kind, Laser()) as ff:
        for name in ("nope", "wavelength", "temperature", "_private", "__wrapped__"):
            assert not hasattr(ff, name)
            with pytest.raises(AttributeError, match=name):
                getattr(ff, name)
            with pytest.raises(AttributeError, match=name):
                ff.call(name)
        assert ff.statistics().calls == 0
        assert {"set_power", "fail", "wait_idle", "statistics"} <= {*dir(ff)}
        assert "_private" not in dir(ff)
        assert ff.set_power.__name__ == "set_power"


async def test_a_best_effort_client_cannot_say_what_it_has(caplog: pytest.LogCaptureFixture) -> None:
    async with opened("best effort", Laser()) as ff:
        with pytest.raises(AttributeError, match="_private"):
            ff._private()
        ff.nope()
        await ff.wait_idle()
        assert ff.statistics().failed == 1
        assert "connected" not in dir(ff)
    assert "has no method 'nope'" in caplog.text


async def test_a_best_effort_client_without_connection(caplog: pytest.LogCaptureFixture) -> None:
    async with open_fire_and_forget(trionet.BestEffortRpcClient()) as ff:
        ff.set_power(1.0)
    assert ff.statistics() == FireAndForgetStatistics(calls=1, dropped=0, failed=0)
    assert warnings(caplog) == []


async def test_the_names_of_the_object_itself(autojump_clock: trio.testing.MockClock) -> None:
    laser = Laser()
    async with open_fire_and_forget(laser) as ff:
        ff.call("wait_idle")
        await ff.wait_idle()
    assert laser.log == ["the laser's own wait_idle"]


async def test_arguments_may_have_any_name() -> None:
    class Target:
        received: Any = None

        def both(self, *args: Any, **kwargs: Any) -> None:
            self.received = args, kwargs

    target = Target()
    async with open_fire_and_forget(target) as ff:
        ff.both(1, name=2, method=3, call=4)
        await ff.wait_idle()
        assert target.received == ((1,), {"name": 2, "method": 3, "call": 4})
        ff.call("both", method="a", name="b")
    assert target.received == ((), {"method": "a", "name": "b"})


async def test_a_sync_method_runs_in_a_thread() -> None:
    laser = Laser()
    async with open_fire_and_forget(laser) as ff:
        ff.block()
        await trio.testing.wait_all_tasks_blocked()
        assert ff.busy
        ff.set_now(1)
        laser.release.set()
        await ff.wait_idle()
        assert ff.statistics() == FireAndForgetStatistics(calls=1, dropped=1, failed=0)
    assert laser.log == [True, "released"]


async def test_what_can_be_awaited_is_awaited(autojump_clock: trio.testing.MockClock) -> None:
    """Returned by a sync method, or by an object of which one cannot tell."""
    laser = Laser()
    async with open_fire_and_forget(laser) as ff:
        ff.delegate(0.5)
        await ff.wait_idle()
        assert laser.log == [True, (0.5, 1.0)]
        ff.set_later(ramp=1)
    assert laser.log == [True, (0.5, 1.0), (0.25, 2.0)]


async def test_the_last_call_is_waited_for(autojump_clock: trio.testing.MockClock) -> None:
    laser = Laser()
    async with open_fire_and_forget(laser) as ff:
        ff.set_power(1, ramp=3)
        assert repr(ff) == "<FireAndForget of Laser, busy>"
    assert trio.current_time() == 3.0
    assert laser.log == [(1, 3.0)]
    assert repr(ff) == "<FireAndForget of Laser, closed>"
    for call in (ff.set_power, functools.partial(ff.call, "set_power")):
        with pytest.raises(trio.ClosedResourceError, match="'set_power' after the end"):
            call(2)


async def test_no_more_calls_while_the_last_one_is_waited_for(autojump_clock: trio.testing.MockClock) -> None:
    laser = Laser()
    async with trio.open_nursery() as nursery:

        async def call_later() -> None:
            await trio.sleep(1)
            with pytest.raises(trio.ClosedResourceError):
                ff.set_power(2)

        async with open_fire_and_forget(laser) as ff:
            ff.set_power(1, ramp=3)
            nursery.start_soon(call_later)
    assert laser.log == [(1, 3.0)]


async def test_what_the_block_raises_leaves_as_it_is(autojump_clock: trio.testing.MockClock) -> None:
    laser = Laser()
    with pytest.raises(OSError, match="of the block"):
        async with open_fire_and_forget(laser) as ff:
            ff.set_power(1, ramp=3)
            await trio.sleep(1)
            raise OSError("of the block")
    assert laser.log == [("cancelled", 1, 1.0)]
    with pytest.raises(trio.ClosedResourceError):
        ff.set_power(2)


@pytest.mark.parametrize("in_block", [1.0, 3.0])
async def test_cancelled(in_block: float, autojump_clock: trio.testing.MockClock) -> None:
    """In the block, or while the last call is waited for."""
    laser = Laser()
    with trio.move_on_after(2) as scope:
        async with open_fire_and_forget(laser) as ff:
            ff.set_power(1, ramp=10)
            await trio.sleep(in_block)
    assert scope.cancelled_caught
    assert laser.log == [("cancelled", 1, 2.0)]
    assert not ff.busy


async def test_cancelled_while_a_thread_runs(caplog: pytest.LogCaptureFixture) -> None:
    """It is waited for, and what it raises is not lost."""

    class Slow:
        begun = trio.Event()
        release = threading.Event()

        def fail(self) -> None:
            trio.from_thread.run_sync(self.begun.set)
            self.release.wait()
            raise ValueError("in the thread")

    slow = Slow()
    with trio.CancelScope() as scope:
        async with open_fire_and_forget(slow) as ff:
            ff.fail()
            await slow.begun.wait()
            trio.lowlevel.current_trio_token().run_sync_soon(slow.release.set)
            scope.cancel()
    assert scope.cancelled_caught
    assert ff.statistics().failed == 1
    assert "ValueError: in the thread" in caplog.text


async def test_what_is_no_exception_is_raised(autojump_clock: trio.testing.MockClock) -> None:
    with pytest.raises(KeyboardInterrupt):
        async with open_fire_and_forget(Laser()) as ff:
            ff.interrupt()
            await trio.sleep_forever()
    assert trio.current_time() == 1.0
    with pytest.raises(KeyboardInterrupt):
        async with open_fire_and_forget(Laser()) as ff:
            ff.interrupt()


async def test_wait_idle_waits_for_what_is_in_flight_only(autojump_clock: trio.testing.MockClock) -> None:
    async with open_fire_and_forget(Laser()) as ff:
        with trio.testing.assert_checkpoints():
            await ff.wait_idle()
        ff.set_power(1, ramp=2)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ff.wait_idle)
            nursery.start_soon(ff.wait_idle)
        assert trio.current_time() == 2.0


async def test_calls_in_another_thread() -> None:
    laser = Laser()
    async with open_fire_and_forget(laser) as ff:
        with pytest.raises(RuntimeError, match=r"'set_now' .* use trio\.from_thread\.run_sync"):
            await trio.to_thread.run_sync(ff.set_now, 1)

        async def call() -> None:
            ff.set_now(2)

        with pytest.raises(RuntimeError, match="another thread"):
            await trio.to_thread.run_sync(trio.run, call)
        await trio.to_thread.run_sync(lambda: trio.from_thread.run_sync(ff.set_now, 3))
        assert ff.statistics().calls == 1
    assert laser.log == [3]


def test_calls_from_the_loop_of_a_user_interface() -> None:
    """Callbacks between two steps of Trio as a guest: the button that this is made for."""
    laser = Laser()
    callbacks: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
    ended: list[object] = []

    async def main() -> None:
        async with open_fire_and_forget(laser) as ff:
            called = trio.Event()

            def click() -> None:
                ff.set_power(1)
                ff.set_power(2)

            callbacks.put(click)
            callbacks.put(called.set)
            await called.wait()

    trio.lowlevel.start_guest_run(
        main,
        run_sync_soon_threadsafe=callbacks.put,
        done_callback=ended.append,
    )
    while not ended:
        callbacks.get(timeout=60)()
    assert [power for power, _ in laser.log] == [1]


async def test_over_sockets() -> None:
    laser = Laser()
    async with trio.open_nursery() as nursery:
        server: trionet.RpcServer = await nursery.start(trionet.serve_rpc, {"laser": laser}, 0)
        async with (
            trionet.open_rpc_client("127.0.0.1", server.port) as client,
            open_fire_and_forget(client) as ff,
        ):
            assert (
                repr(ff)
                == f"<FireAndForget of <RpcProxy of target 'laser' at 127.0.0.1:{server.port}>, idle>"
            )
            ff.set_now(1)
            await ff.wait_idle()
            ff.set_now(2)
        assert laser.log == [1, 2]
        await server.aclose()


async def test_a_server_that_goes_away(caplog: pytest.LogCaptureFixture) -> None:
    laser = Laser()
    async with trio.open_nursery() as nursery:
        server: trionet.RpcServer = await nursery.start(trionet.serve_rpc, {"laser": laser}, 0)
        async with (
            trionet.open_rpc_client("127.0.0.1", server.port) as client,
            open_fire_and_forget(client) as ff,
        ):
            ff.set_power(1, ramp=1000)
            await laser.begun.wait()
            await server.aclose()
            await ff.wait_idle()
            ff.set_power(2)
            await ff.wait_idle()
            assert ff.statistics() == FireAndForgetStatistics(calls=2, dropped=0, failed=2)
    assert caplog.text.count("ConnectionLost: ") == 2
