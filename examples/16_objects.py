"""An interferometer, offered as objects: ``python examples/16_objects.py [PORT]``."""

import sys

import numpy as np
import trio

from trionet import ObjectServer, serve_objects


class Settings:
    """What can be set."""

    def __init__(self) -> None:
        self.samples = 256


class Scan:
    """A scan: it stays here, its clients have proxies to it."""

    def __init__(self, samples: int) -> None:
        self._positions = np.linspace(0, 1, samples, endpoint=False)
        self.intensity = np.zeros(samples)

    async def run(self) -> None:
        """Move the mirror, and measure the light."""
        await trio.sleep(0.1)
        self.intensity = np.cos(2 * np.pi * 31 * self._positions)


class Interferometer:
    """An interferometer, simulated. What is public can be reached by clients, attributes included."""

    def __init__(self) -> None:
        self.settings = Settings()

    def new_scan(self) -> Scan:
        """A scan with the settings of now."""
        return Scan(self.settings.samples)


async def main(port: int) -> None:
    async with trio.open_nursery() as nursery:
        server: ObjectServer = await nursery.start(
            serve_objects, {"interferometer": Interferometer()}, f"tcp://127.0.0.1:{port}"
        )
        print(f"serving on port {server.address.rpartition(':')[2]}", flush=True)


if __name__ == "__main__":
    try:
        trio.run(main, int(sys.argv[1]) if len(sys.argv) > 1 else 5555)
    except* KeyboardInterrupt:
        print("stopped")
