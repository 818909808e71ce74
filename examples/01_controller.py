"""A laser controller: ``python examples/01_controller.py [PORT]``."""

import sys

import trio

from trionet import RpcServer, serve_rpc


class Laser:
    """A laser, simulated. Each public method can be called by clients."""

    def __init__(self) -> None:
        self._power = 0.0

    def set_power(self, milliwatts: float) -> None:
        """Set the power at the output; ValueError outside of 0 to 50 mW."""
        if not 0 <= milliwatts <= 50:
            raise ValueError(f"power must be from 0 to 50 mW, not {milliwatts}")
        self._power = milliwatts

    def get_power(self) -> float:
        """Power at the output, in mW."""
        return self._power

    async def calibrate(self, seconds: float) -> str:
        """Calibrate the power meter, which takes a while."""
        await trio.sleep(seconds)
        return "calibrated"


async def main(port: int) -> None:
    async with trio.open_nursery() as nursery:
        server: RpcServer = await nursery.start(serve_rpc, {"laser": Laser()}, port)
        print(f"serving on port {server.port}", flush=True)


if __name__ == "__main__":
    trio.run(main, int(sys.argv[1]) if len(sys.argv) > 1 else 3251)
