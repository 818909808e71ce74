"""A step of the demo: a worker process hosts an object that the operator uses by a proxy."""

from __future__ import annotations

import logging
import sys
from typing import Final

import trio

from trionet import ObjectClient, ObjectProcess, RpcClient, open_object_process
from trionet.cli.demo import spectrum
from trionet.cli.demo.narrator import Narrator, check
from trionet.cli.feeds import log_told

_NAME: Final = "spectrum"
# What the experiment has loaded, and how exactly a spectrum has to show it.
_PERIODS: Final = 10
_PRECISION: Final = 0.01


async def compute_spectrum(narrator: Narrator, operator: RpcClient) -> None:
    """Have a process of its own compute the spectrum of what the laser's photodiode has seen.

    Raises:
        StepFailed: if that is not the spectrum of the waveform.
    """
    if sys.platform == "win32":
        narrator.say("left out: processes that host objects need the pipes of POSIX")
        return
    has_printed = trio.Event()

    def tell(text: str) -> None:
        narrator.say(f"log: {text}")
        has_printed.set()

    with log_told(logging.getLogger("trionet.objects.process"), tell, logging.INFO):
        started = trio.current_time()
        async with open_object_process(_NAME, allow_import=[spectrum.__name__]) as process:
            seconds = trio.current_time() - started
            narrator.say(f"process {process.pid} is the worker {_NAME!r}, {seconds:.2f} s after its start")
            await _use(narrator, operator, process.client, has_printed)
    _tell_end(narrator, process)


async def _use(
    narrator: Narrator, operator: RpcClient, worker: ObjectClient, has_printed: trio.Event
) -> None:
    module = await worker.import_module(spectrum.__name__)
    narrator.say(f"it lets its clients import {spectrum.__name__}, and nothing else")
    light = await operator.call("play_waveform")
    narrator.say(f"{light.nbytes:,} bytes from the laser go there")
    computed = await module.Spectrum(light)
    await has_printed.wait()
    narrator.say("the spectrum stays there; what comes back is a proxy:")
    narrator.say(f"{computed!r}")
    periods, amplitude = await computed.strongest_line()
    power = await operator.call("get_power")
    check(
        periods == _PERIODS and abs(amplitude - power) < _PRECISION * power,
        f"the strongest line is at {periods} periods, with {amplitude} mW",
    )
    narrator.say(f"its strongest line: {periods} periods, {amplitude:.2f} mW, as the experiment had set them")


def _tell_end(narrator: Narrator, process: ObjectProcess) -> None:
    check(process.returncode == 0, f"the worker ended with status {process.returncode}")
    narrator.say(f"the block of open_object_process ends, and so does process {process.pid}, with status 0")
