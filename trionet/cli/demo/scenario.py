"""What the demo does, step by step, seen from the operator's desk of a small laboratory."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Final

import trio

from trionet import (
    BestEffortRpcClient,
    ConnectionLost,
    RpcClient,
    open_best_effort_rpc_client,
    open_rpc_client,
)
from trionet.cli.demo.narrator import Narrator, StepFailed, check
from trionet.cli.demo.outage import follow_scan
from trionet.cli.demo.processes import START_ATTEMPTS, Program, run_program
from trionet.cli.demo.session import open_session, start_rigs
from trionet.cli.demo.worker import compute_spectrum
from trionet.cli.feeds import log_told
from trionet.cli.tasks import until_first

_HOST: Final = "127.0.0.1"
_CALLS: Final = 1000
# Seconds: how long the laser calibrates, and how long the operator waits for it.
_CALIBRATION: Final = 0.6
_PATIENCE: Final = 0.2
_RETRY_INTERVAL: Final = 0.1
# Seconds for all of it: far more than a slow machine needs, so whoever waits longer waits in vain.
_MOST_TIME: Final = 60.0


def run_demo() -> int:
    """Run the demo. Returns the exit status."""
    narrator = Narrator()
    print(
        "A laser controller, an experiment, a worker, two rigs, and an operator, which is this process.",
        flush=True,
    )
    finished = False
    with contextlib.suppress(StepFailed):
        finished = trio.run(_play_in_time, narrator)
    return 0 if narrator.summarize(finished) else 1


async def _play_in_time(narrator: Narrator) -> bool:
    with trio.move_on_after(_MOST_TIME):
        await play(narrator)
        return True
    narrator.say(f"FAILED: not finished within {_MOST_TIME:g} s")
    return False


async def play(narrator: Narrator) -> None:
    """All steps. Processes and connections end with it.

    Raises:
        StepFailed: if one of them fails.
    """
    async with contextlib.AsyncExitStack() as lab:
        with narrator.step("Start the controller of a laser"):
            controller = await _start_controller(narrator, lab, 0)
        with narrator.step("Call its methods"):
            port = controller.port
            operator = await lab.enter_async_context(open_rpc_client(_HOST, port, "laser"))
            await _call_methods(narrator, operator)
        with narrator.step("Two clients at once: an experiment, and the operator"):
            experiment = await lab.enter_async_context(run_program("trionet.cli.demo.experiment", str(port)))
            await _run_experiment(narrator, operator, experiment)
        with narrator.step("Live data: a subscriber is cut off, and catches up"):
            await follow_scan(narrator, operator, experiment)
        with narrator.step("A worker process computes a spectrum"):
            await compute_spectrum(narrator, operator)
        with narrator.step("A call that times out, without harm"):
            await _time_out(narrator, operator)
        with narrator.step("The controller is killed, and comes back"):
            async with _open_logbook(narrator, port) as logbook:
                controller = await _kill_and_restart(narrator, lab, logbook, operator, controller)
        with narrator.step("Two rigs, one of them slow, begin an experiment together"):
            rigs = await start_rigs(narrator, lab)
            session = await lab.enter_async_context(open_session(narrator, rigs))
            await session.begin()
        with narrator.step("A rig dies in the middle, and comes back"):
            await session.lose_one()
            await session.find_it_again(lab)
        with narrator.step("Shut down"):
            await _shut_down(narrator, controller)


class _Controller:
    """The controller's process, once it serves its port."""

    def __init__(self, program: Program, port: int) -> None:
        self.program = program
        self.port = port


async def _start_controller(narrator: Narrator, lab: contextlib.AsyncExitStack, port: int) -> _Controller:
    started = trio.current_time()
    for _ in range(START_ATTEMPTS):
        program = await lab.enter_async_context(run_program("trionet.cli.demo.laser", str(port)))
        line = await program.read_line()
        if line is not None:
            seconds = trio.current_time() - started
            controller = _Controller(program, int(line))
            narrator.say(f"process {program.pid} serves {_HOST}:{line}, {seconds:.2f} s after its start")
            return controller
    raise StepFailed("the controller does not start")


async def _call_methods(narrator: Narrator, operator: RpcClient) -> None:
    narrator.say(
        f"the server says it is {operator.description!r}; target 'laser' has {len(operator.methods)} methods"
    )
    await operator.call("set_power", 3.0)
    started = trio.current_time()
    for _ in range(_CALLS):
        check(await operator.call("get_power") == 3.0, "the power is not what was set")
    microseconds = (trio.current_time() - started) / _CALLS * 1e6
    narrator.say(f"{_CALLS} calls, one after the other: {microseconds:.0f} µs from call to result")
    try:
        await operator.call("set_power", 1000.0)
    except ValueError as error:
        narrator.say(f"set_power(1000.0) raises here, too: ValueError: {error}")
    else:
        raise StepFailed("too much power was accepted")


async def _run_experiment(narrator: Narrator, operator: RpcClient, experiment: Program) -> None:
    narrator.say(f"process {experiment.pid} is the experiment; what it prints:")
    finished = False

    async def tell() -> None:
        nonlocal finished
        finished = await narrator.tell_output(experiment, until="photodiode") is not None

    async def operate() -> None:
        await _operate(narrator, operator)
        await trio.sleep_forever()

    await until_first(tell, operate)
    if not finished:
        raise StepFailed(f"the experiment ended with status {await experiment.wait()}")


async def _operate(narrator: Narrator, operator: RpcClient) -> None:
    await operator.call("wait_experiment")
    started = trio.current_time()
    for _ in range(_CALLS):
        await operator.call("get_power")
    milliseconds = (trio.current_time() - started) * 1000
    narrator.say(f"while it waits, the operator reads the power {_CALLS} times, in {milliseconds:.0f} ms")
    await operator.call("close_interlock")


async def _time_out(narrator: Narrator, operator: RpcClient) -> None:
    with trio.move_on_after(_PATIENCE) as patience:
        await operator.call("calibrate", _CALIBRATION)
    check(patience.cancelled_caught, "the call did not time out")
    narrator.say(f"calibrate takes {_CALIBRATION:g} s; the operator gave up after {_PATIENCE:g} s")
    started = trio.current_time()
    await operator.call("set_power", 7.0)
    power = await operator.call("get_power")
    seconds = trio.current_time() - started
    check(power == 7.0, f"the next call was answered with {power!r}")
    narrator.say(
        f"the next calls on this connection, {seconds:.2f} s later, got their own answers: {power} mW"
    )


@contextlib.asynccontextmanager
async def _open_logbook(narrator: Narrator, port: int) -> AsyncIterator[BestEffortRpcClient]:
    """A client that writes the power down, and goes on if it cannot. Its log is told, too."""
    with log_told(logging.getLogger("trionet.rpc"), lambda text: narrator.say(f"log: {text}")):
        async with open_best_effort_rpc_client(
            _HOST, port, "laser", retry_interval=_RETRY_INTERVAL
        ) as logbook:
            yield logbook


async def _kill_and_restart(
    narrator: Narrator,
    lab: contextlib.AsyncExitStack,
    logbook: BestEffortRpcClient,
    operator: RpcClient,
    controller: _Controller,
) -> _Controller:
    await logbook.connected.wait_value(True)
    narrator.say(f"a best-effort client, the logbook, reads {await logbook.call('get_power')} mW")
    narrator.say(f"process {controller.program.pid} is killed")
    started = trio.current_time()
    controller.program.kill()
    await operator.wait_disconnected()
    try:
        await operator.call("get_power")
    except ConnectionLost:
        narrator.say("the operator's client, a plain one, raises ConnectionLost")
    await logbook.connected.wait_value(False)
    reading = await logbook.call("get_power")
    check(reading is None, f"without a controller the logbook read {reading!r}")
    narrator.say("the logbook goes on: its calls return None")

    controller = await _start_controller(narrator, lab, controller.port)
    await logbook.connected.wait_value(True)
    outage = trio.current_time() - started
    reading = await logbook.call("get_power")
    check(reading == 0.0, f"the new controller says {reading!r}")
    narrator.say(f"after {outage:.2f} s the logbook reads again: {reading} mW, as the laser has just started")
    return controller


async def _shut_down(narrator: Narrator, controller: _Controller) -> None:
    async with open_rpc_client(_HOST, controller.port, "laser") as operator:
        await operator.call("terminate")
    status = await controller.program.wait()
    check(status == 0, f"the controller ended with status {status}")
    narrator.say(f"asked to terminate, process {controller.program.pid} ended with status {status}")
