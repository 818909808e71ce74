"""An experiment: the script that would run on the PC of a physicist.

    python -m trionet.cli.demo.experiment PORT

It drives the laser with a waveform, checks what comes back, and prints what it does.
"""

from __future__ import annotations

import sys
from typing import Final

import numpy as np
import trio

from trionet import open_rpc_client

_SAMPLES: Final = 100_000
_POWER: Final = 12.5


async def run_experiment(port: int) -> None:
    """Load a waveform, wait for the interlock, play the waveform, and compare."""
    waveform = np.sin(np.linspace(0.0, 20 * np.pi, _SAMPLES))
    async with open_rpc_client("127.0.0.1", port, "laser") as client:
        laser = client.proxy
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


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    trio.run(run_experiment, int(sys.argv[1]))
