"""``trionet demo``: it runs, says when something fails, and leaves no process behind."""

from __future__ import annotations

import contextlib
import functools
import re
import signal
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio

from tests.cli.commands import Commands, run_program
from tests.cli.demo import demo_until, is_running, posix_only
from tests.cli.laser import start_server
from trionet import RpcServer, open_rpc_client, serve_rpc
from trionet.cli.demo import outage, scenario
from trionet.cli.demo.experiment import checksum_of, run_experiment
from trionet.cli.demo.laser import Laser
from trionet.cli.demo.narrator import Narrator, StepFailed
from trionet.cli.demo.outage import follow_scan
from trionet.cli.demo.processes import run_program as run_demo_program
from trionet.cli.demo.relay import Relay
from trionet.testing import open_memory_rpc_client


async def test_the_demo() -> None:
    done = await run_program("demo")
    assert (done.status, done.err) == (0, "")
    assert "FAILED" not in done.out
    assert done.out.count("   ok  ") == 10
    total = re.search(r"^All 10 steps ok in ([\d.]+) s\.$", done.out, re.MULTILINE)
    assert total is not None
    missed = re.search(r"all of it, (\d+) missed points included$", done.out, re.MULTILINE)
    assert missed is not None
    assert 49 <= int(missed[1]) <= 100  # the last of 50 shots may have come to the laser only
    measured = re.search(r"\| the scan has ended: .* checksum (\w+)$", done.out, re.MULTILINE)
    assert measured is not None
    assert f"the operator's copy has the same checksum, {measured[1]}\n" in done.out
    pids = {int(pid) for pid in re.findall(r"process (\d+)", done.out)}
    # Two controllers, an experiment, three rigs; and a worker, which needs POSIX.
    assert len(pids) == (6 if sys.platform == "win32" else 7)
    if sys.platform != "win32":
        assert not any(map(is_running, pids))
        check_worker(done.out)


def check_worker(out: str) -> None:
    """What the demo says about its worker."""
    worker = re.search(r"^   process (\d+) is the worker 'spectrum', ", out, re.MULTILINE)
    assert worker is not None
    assert re.search(
        r"^   log: \[spectrum\.stdout\] 100,000 samples have 50,001 frequencies", out, re.MULTILINE
    )
    assert re.search(r"^   <ObjectProxy for ipc://\S+ <class '\S+\.Spectrum'>>$", out, re.MULTILINE)
    assert "   its strongest line: 10 periods, 12.50 mW, as the experiment had set them\n" in out
    assert f"and so does process {worker[1]}, with status 0\n" in out


@contextlib.asynccontextmanager
async def demo_with_controller() -> AsyncIterator[tuple[trio.Process, int, int]]:
    """The demo as a process, once its controller runs; with pid and port of that."""
    async with demo_until(rb"process (\d+) serves \S+:(\d+),") as (process, (found,)):
        yield process, int(found[1]), int(found[2])


@posix_only
async def test_interrupted_it_leaves_no_process() -> None:
    async with demo_with_controller() as (process, pid, _):
        process.send_signal(signal.SIGINT)
        assert await process.wait() == 130
        assert not is_running(pid)


async def test_killed_it_leaves_no_process() -> None:
    async with demo_with_controller() as (process, _, port):
        connection = await trio.open_tcp_stream("127.0.0.1", port)
        process.kill()
        async with connection:  # the controller notices that it was left, and ends: so does the connection
            with contextlib.suppress(trio.BrokenResourceError):
                assert await connection.receive_some() == b""


# -- what can fail -------------------------------------------------------------------------------------


async def test_a_step_that_fails(commands: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    async def play(narrator: Narrator) -> None:
        with narrator.step("The first"):
            await trio.lowlevel.checkpoint()
        with narrator.step("The second"):
            raise ConnectionRefusedError(111, "nobody\nthere")

    monkeypatch.setattr(scenario, "play", play)
    done = await commands.run("demo")
    assert done.status == 1
    assert "   FAILED: ConnectionRefusedError: nobody there\n" in done.out
    assert re.search(r"^   ok      1\. The first +\d+\.\d\d s$", done.out, re.MULTILINE)
    assert re.search(r"^   FAILED  2\. The second ", done.out, re.MULTILINE)
    assert re.search(r"^Step 2 failed, after \d+\.\d s\.$", done.out, re.MULTILINE)


async def test_it_ends_by_itself(commands: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    async def play(narrator: Narrator) -> None:
        with narrator.step("The only one"):
            await trio.sleep_forever()

    monkeypatch.setattr(scenario, "play", play)
    monkeypatch.setattr(scenario, "_MOST_TIME", 0.0)
    done = await commands.run("demo")
    assert done.status == 1
    assert "FAILED: not finished within 0 s" in done.out
    assert "Step 1 failed" in done.out


async def test_cut_off_between_two_steps(commands: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    async def play(narrator: Narrator) -> None:
        await trio.sleep_forever()

    monkeypatch.setattr(scenario, "play", play)
    monkeypatch.setattr(scenario, "_MOST_TIME", 0.0)
    done = await commands.run("demo")
    assert (done.status, "Step 1 failed" in done.out) == (1, True)


async def test_a_controller_that_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    async with contextlib.AsyncExitStack() as lab:
        with pytest.raises(StepFailed, match="does not start"):
            await scenario._start_controller(Narrator(), lab, -1)


async def test_an_experiment_that_fails(nursery: trio.Nursery, capfd: pytest.CaptureFixture[str]) -> None:
    served, _ = await start_server(nursery, "laser")
    waiting = {"laser": Laser()}
    async with open_memory_rpc_client(waiting) as operator:
        # This laser is another one, and cannot load a waveform.
        async with run_demo_program("trionet.cli.demo.experiment", str(served.port)) as experiment:
            with pytest.raises(StepFailed, match="ended with status 1"):
                await scenario._run_experiment(Narrator(), operator, experiment)
            with pytest.raises(StepFailed, match="ended with status 1"):
                await follow_scan(Narrator(), operator, experiment)
    assert "no method 'load_waveform'" in capfd.readouterr().err


async def test_an_experiment_that_dies_in_the_scan(nursery: trio.Nursery) -> None:
    laser = Laser()
    laser.close_interlock()
    server = await serve(nursery, laser)
    async with open_memory_rpc_client({"laser": laser}) as operator:
        async with run_demo_program("trionet.cli.demo.experiment", str(server.port)) as experiment:

            async def kill() -> None:
                await laser.wait_shots(5)
                experiment.kill()

            nursery.start_soon(kill)
            with pytest.raises(StepFailed, match="the experiment ended with status"):
                await follow_scan(Narrator(), operator, experiment)


async def test_a_copy_that_is_another_one(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outage, "checksum_of", lambda counts: f"not {checksum_of(counts)}")
    laser = Laser()
    laser.close_interlock()
    server = await serve(nursery, laser)
    async with open_rpc_client("127.0.0.1", server.port) as operator:
        async with run_demo_program("trionet.cli.demo.experiment", str(server.port)) as experiment:
            with pytest.raises(StepFailed, match="the operator's copy is another one: not "):
                await follow_scan(Narrator(), operator, experiment)


async def test_the_relay(nursery: trio.Nursery) -> None:
    async def echo(stream: trio.SocketStream) -> None:
        async for data in stream:
            await stream.send_all(data)

    listeners = await nursery.start(trio.serve_tcp, echo, 0)
    relay = Relay(listeners[0].socket.getsockname()[1])
    port = await nursery.start(relay.serve)
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(b"x")
        assert await stream.receive_some() == b"x"
        relay.cut()
        assert await is_closed(stream)
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        assert await is_closed(stream)
    relay.mend()
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(b"y")
        assert await stream.receive_some() == b"y"
        await stream.send_eof()
        assert await is_closed(stream)
    nobody = Relay(1)
    async with await trio.open_tcp_stream("127.0.0.1", await nursery.start(nobody.serve)) as stream:
        assert await is_closed(stream)


async def is_closed(stream: trio.SocketStream) -> bool:
    """Wait for something to come, which should be the end."""
    with contextlib.suppress(trio.BrokenResourceError):
        return await stream.receive_some() == b""
    return True


async def test_checks_of_the_steps(nursery: trio.Nursery) -> None:
    class Wrong(Laser):
        def set_power(self, milliwatts: float) -> None:
            self._power = milliwatts

        async def calibrate(self, seconds: float) -> str:
            return "at once"

    async with open_memory_rpc_client({"laser": Wrong()}) as operator:
        with pytest.raises(StepFailed, match="too much power"):
            await scenario._call_methods(Narrator(), operator)
        with pytest.raises(StepFailed, match="did not time out"):
            await scenario._time_out(Narrator(), operator)


@posix_only
async def test_a_program_ends_with_its_block() -> None:
    async with run_demo_program("trionet.cli.demo.laser") as program:
        assert (await program.read_line() or "").isdecimal()
        assert is_running(program.pid)
    assert not is_running(program.pid)


async def test_the_experiment_in_this_process(
    nursery: trio.Nursery, capsys: pytest.CaptureFixture[str]
) -> None:
    laser = Laser()
    laser.close_interlock()
    laser.arm(200)

    async def disarm() -> None:
        await laser.wait_shots(200)
        laser.disarm()

    nursery.start_soon(disarm)
    await run_experiment((await serve(nursery, laser)).port)
    out = capsys.readouterr().out
    assert "100,000 samples" in out
    assert "the scan has ended" in out


async def test_an_experiment_checks_what_it_gets(nursery: trio.Nursery) -> None:
    class Deaf(Laser):
        def load_waveform(self, samples: Any) -> dict[str, Any]:
            return {**super().load_waveform(samples), "samples": 99_999}

    class Blind(Laser):
        def play_waveform(self) -> Any:
            return super().play_waveform()[::-1]

    for laser, message in ((Deaf(), "arrived changed"), (Blind(), "something else")):
        laser.close_interlock()
        server = await serve(nursery, laser)
        with pytest.raises(SystemExit, match=message):
            await run_experiment(server.port)


async def serve(nursery: trio.Nursery, laser: Laser) -> RpcServer:
    serve_parallel = functools.partial(serve_rpc, {"laser": laser}, 0, allow_parallel=True)
    server: RpcServer = await nursery.start(serve_parallel)
    return server
