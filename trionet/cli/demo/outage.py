"""A step of the demo: a subscriber of the experiment's datasets is cut off, and catches up."""

from __future__ import annotations

import functools
import logging
from typing import Final

import trio

from trionet import RpcClient, Subscription, open_subscription
from trionet.cli.demo.experiment import checksum_of
from trionet.cli.demo.narrator import Narrator, check
from trionet.cli.demo.processes import Program
from trionet.cli.demo.relay import Relay
from trionet.cli.feeds import log_told
from trionet.cli.tasks import run_served, until_first

# The subscriber is cut off after so many points, until the experiment has measured so many more.
_CUT_AT: Final = 100
_MISSED: Final = 50
_FIRST_RETRY: Final = 0.02
_MOST_RETRY: Final = 0.05


async def follow_scan(narrator: Narrator, operator: RpcClient, experiment: Program) -> None:
    """Follow the datasets of a scan, with an outage in the middle, until the experiment has ended.

    Raises:
        StepFailed: if the copy is another one in the end, or the experiment fails.
    """
    announced = await narrator.tell_output(experiment, until="at port ")
    digest = ""

    async def follow() -> None:
        if announced is not None:
            relay = Relay(int(announced.rpartition(" ")[2]))
            await run_served(relay.serve, functools.partial(subscribe, relay))

    async def subscribe(relay: Relay, port: int) -> None:
        nonlocal digest
        async with open_subscription(
            "127.0.0.1", port, "datasets", first_retry=_FIRST_RETRY, max_retry=_MOST_RETRY
        ) as datasets:
            digest = await _follow_through_outage(narrator, operator, datasets, relay)

    with log_told(logging.getLogger("trionet.sync_struct"), lambda text: narrator.say(f"log: {text}")):
        await until_first(follow, functools.partial(_wait_failed, experiment))
    last = await narrator.tell_output(experiment)
    status = await experiment.wait()
    check(status == 0, f"the experiment ended with status {status}")
    check(last is not None and digest in last, f"the operator's copy is another one: {digest}")
    narrator.say(f"the operator's copy has the same checksum, {digest}")


async def _wait_failed(experiment: Program) -> None:
    if await experiment.wait() == 0:
        await trio.sleep_forever()


async def _follow_through_outage(
    narrator: Narrator, operator: RpcClient, datasets: Subscription, relay: Relay
) -> str:
    """Follow the scan to its end. Returns the checksum of what was measured."""
    points = datasets.value["counts"].size
    narrator.say(f"the operator subscribes, through a relay, and arms the laser for {_CUT_AT} shots")
    await operator.call("arm", _CUT_AT)
    await datasets.wait_value(lambda value: value["progress"] == _CUT_AT)
    narrator.say(
        f"{_CUT_AT} points have come, one by one; the relay is cut, and the laser armed for the rest"
    )
    started = trio.current_time()
    relay.cut()
    await datasets.connected.wait_value(False)
    await operator.call("arm", points)
    await operator.call("wait_shots", _CUT_AT + _MISSED)
    seconds = trio.current_time() - started
    check(datasets.stale and datasets.value["progress"] == _CUT_AT, "something came through a cut relay")
    narrator.say(
        f"stale since point {_CUT_AT}; after {seconds:.2f} s, and {_MISSED} more shots, it is mended"
    )
    relay.mend()
    await datasets.connected.wait_value(True)
    seconds = trio.current_time() - started
    progress = datasets.value["progress"]
    check(progress > _CUT_AT, "what was missed did not come")
    narrator.say(
        f"connected again {seconds:.2f} s after the cut; the first thing to come was all of it, "
        f"{progress - _CUT_AT} missed points included"
    )
    await datasets.wait_value(lambda value: value["progress"] == points)
    narrator.say(f"the scan is at its end, with all {points} points here; the laser is disarmed")
    checksum = checksum_of(datasets.value["counts"])
    await operator.call("disarm")
    return checksum
