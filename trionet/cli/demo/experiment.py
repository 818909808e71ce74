"""An experiment: the script that would run on the PC of a physicist.

    python -m trionet.cli.demo.experiment PORT

It drives the laser with a waveform, checks what comes back, then measures a scan and publishes its datasets
meanwhile. It prints what it does.
"""

from __future__ import annotations

import functools
import hashlib
import sys
from typing import Any, Final

import numpy as np
import trio

from trionet import Notifier, Publisher, RpcProxy, open_rpc_client, serve_publisher
from trionet.cli.tasks import run_served

_SAMPLES: Final = 100_000
_POWER: Final = 12.5
_POINTS: Final = 200
# Seconds between two points of the scan, at least.
_POINT_TIME: Final = 0.002


async def run_experiment(port: int) -> None:
    """Play a waveform, then measure a scan."""
    async with open_rpc_client("127.0.0.1", port, "laser") as client:
        await _play_waveform(client.proxy)
        await _scan(client.proxy)


async def _play_waveform(laser: RpcProxy) -> None:
    """Load a waveform, wait for the interlock, play the waveform, and compare."""
    waveform = np.sin(np.linspace(0.0, 20 * np.pi, _SAMPLES))
    await laser.set_power(_POWER)

    started = trio.current_time()
    statistics = await laser.load_waveform(waveform)
    milliseconds = (trio.current_time() - started) * 1000
    expected = {
        "samples": waveform.size,
        "bytes": waveform.nbytes,
        "mean": float(waveform.mean()),
        "peak": float(np.abs(waveform).max()),
    }
    if statistics != expected:
        raise SystemExit(f"the waveform arrived changed: {statistics} instead of {expected}")
    _say(
        f"a waveform of {waveform.size:,} samples ({waveform.nbytes:,} bytes) is loaded in "
        f"{milliseconds:.0f} ms"
    )
    _say(f"the laser reports the same peak, {statistics['peak']:.6f}, and waits for its interlock")

    await laser.wait_interlock()
    light = await laser.play_waveform()
    if not np.array_equal(light, _POWER * waveform):
        raise SystemExit("the photodiode has seen something else than the waveform")
    _say(f"interlock closed; all {light.size:,} samples of the photodiode are as computed here")


async def _scan(laser: RpcProxy) -> None:
    """Measure point by point, for everybody to see, until the laser is disarmed."""
    datasets = Notifier({"counts": np.zeros(_POINTS, np.int64), "progress": 0})

    async def measure(publisher: Publisher) -> None:
        _say(f"a scan of {_POINTS} points waits for the laser; its datasets are at port {publisher.port}")
        for point in range(_POINTS):
            datasets["counts"][point] = await laser.measure(point)
            datasets["progress"] = point + 1
            await trio.sleep(_POINT_TIME)
        await laser.wait_disarmed()

    await run_served(functools.partial(serve_publisher, {"datasets": datasets}, 0), measure)
    counts = datasets["counts"].raw_view
    _say(f"the scan has ended: {counts.sum():,} counts, checksum {checksum_of(counts)}")


def checksum_of(counts: np.ndarray[Any, Any]) -> str:
    """What two arrays have in common only if they are equal."""
    return hashlib.sha256(counts.tobytes()).hexdigest()[:12]


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    trio.run(run_experiment, int(sys.argv[1]))
