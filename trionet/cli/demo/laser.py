"""A laser controller: the program that would run on the PC next to the laser.

    python -m trionet.cli.demo.laser [PORT]

It prints the port that it serves, and ends when a client terminates it, or when its standard input does:
whoever has started it cannot leave it behind.
"""

from __future__ import annotations

import functools
import sys
from typing import Any, Final

import numpy as np
import trio
from trio_util import AsyncValue

from trionet import RpcServer, serve_rpc
from trionet.cli.demo.processes import end_with_starter

_MOST_POWER: Final = 50.0


class Laser:
    """A laser with a waveform generator and an interlock, simulated."""

    def __init__(self) -> None:
        self._power = 0.0
        self._waveform = np.zeros(0)
        self._experiment_waits = trio.Event()
        self._interlock_closed = trio.Event()
        self._armed = AsyncValue(0)
        self._shots = AsyncValue(0)
        self._disarmed = trio.Event()

    def get_power(self) -> float:
        """Power at the output, in mW."""
        return self._power

    def set_power(self, milliwatts: float) -> None:
        """Set the power at the output; ValueError outside of 0 to 50 mW."""
        if not 0 <= milliwatts <= _MOST_POWER:
            raise ValueError(f"power must be from 0 to {_MOST_POWER:g} mW, not {milliwatts:g}")
        self._power = milliwatts

    def load_waveform(self, samples: np.ndarray[Any, Any]) -> dict[str, Any]:
        """Load the waveform generator. Returns statistics of what has arrived."""
        self._waveform = samples
        return {
            "samples": samples.size,
            "bytes": samples.nbytes,
            "mean": float(samples.mean()),
            "peak": float(np.abs(samples).max()),
        }

    async def calibrate(self, seconds: float) -> str:
        """Calibrate the power meter, which takes a while."""
        await trio.sleep(seconds)
        return "calibrated"

    async def wait_interlock(self) -> None:
        """Wait until the operator has closed the interlock."""
        self._experiment_waits.set()
        await self._interlock_closed.wait()

    async def wait_experiment(self) -> None:
        """Wait until an experiment waits for the interlock."""
        await self._experiment_waits.wait()

    def close_interlock(self) -> None:
        """Let the experiment begin."""
        self._interlock_closed.set()

    def play_waveform(self) -> np.ndarray[Any, Any]:
        """Play the waveform once. Returns the light that the photodiode has seen."""
        return self._power * self._waveform

    def arm(self, shots: int) -> None:
        """Let the laser fire up to so many shots, counted from its start."""
        self._armed.value = shots

    def disarm(self) -> None:
        """Let the laser fire no more."""
        self._armed.value = 0
        self._disarmed.set()

    async def measure(self, point: int) -> int:
        """Fire a shot as soon as the laser is armed. Returns the photons counted."""
        await self._armed.wait_value(lambda shots: shots > self._shots.value)
        self._shots.value += 1
        return round(1000 + 50 * self._power * float(self._waveform[point * 37]))

    async def wait_shots(self, shots: int) -> None:
        """Wait until the laser has fired so many shots."""
        await self._shots.wait_value(lambda fired: fired >= shots)

    async def wait_disarmed(self) -> None:
        """Wait until the laser has been disarmed."""
        await self._disarmed.wait()


async def run_controller(port: int) -> None:
    """Serve a laser until a client terminates the server, or standard input ends."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(end_with_starter, nursery.cancel_scope)
        await _serve(port)
        nursery.cancel_scope.cancel()


async def _serve(port: int) -> None:
    async with trio.open_nursery() as nursery:
        # In parallel: while the experiment waits for the interlock, the operator has to close it.
        serve = functools.partial(
            serve_rpc,
            {"laser": Laser()},
            port,
            description="Demo laser, 50 mW",
            allow_parallel=True,
            allow_terminate=True,
        )
        server: RpcServer = await nursery.start(serve)
        print(server.port, flush=True)


if __name__ == "__main__":
    trio.run(run_controller, int(sys.argv[1]) if len(sys.argv) > 1 else 0)
