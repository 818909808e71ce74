"""A program for asyncio and sipyco: ``python examples/13_asyncio_program.py [LASER_PORT DATASETS_PORT]``.

It calls 01_controller.py, and follows 05_datasets.py.
"""

import asyncio
import sys
from typing import Any

from trionet_compat.sipyco.pc_rpc import AsyncioClient
from trionet_compat.sipyco.sync_struct import Subscriber


async def follow(port: int) -> dict[str, Any]:
    """Follow the datasets until the scan is complete. Returns them."""
    datasets: dict[str, Any] = {}
    complete = asyncio.Event()

    def build(struct: dict[str, Any]) -> dict[str, Any]:
        datasets.update(struct)
        return datasets

    def look(mod: dict[str, Any]) -> None:
        if "counts" in datasets and datasets["points"] == len(datasets["counts"]):
            complete.set()

    subscriber = Subscriber("datasets", build, look)
    await subscriber.connect("localhost", port)
    try:
        await complete.wait()
    finally:
        await subscriber.close()
    return datasets


async def main(laser_port: int, datasets_port: int) -> None:
    laser = AsyncioClient()
    await laser.connect_rpc("localhost", laser_port, "laser")
    try:
        _, datasets = await asyncio.gather(laser.set_power(12.5), follow(datasets_port))
        peak = datasets["counts"].argmax()
        print(f"{await laser.get_power()} mW, the highest at {datasets['frequency'][peak]:.2f} MHz")
    finally:
        await laser.close_rpc()


if __name__ == "__main__":
    asyncio.run(main(*(int(port) for port in sys.argv[1:] or (3251, 3250))))
