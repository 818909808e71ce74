"""Follows the datasets of 05_datasets.py: ``python examples/06_monitor.py [PORT]``."""

import sys
from typing import Any

import trio

from trionet import open_subscription


def is_complete(datasets: dict[str, Any]) -> bool:
    return "counts" in datasets and datasets["points"] == len(datasets["counts"])


async def main(port: int) -> None:
    async with open_subscription("localhost", port, "datasets") as subscription:
        # The value is kept equal to what is published, also by a connection that is lost and comes back.
        datasets = await subscription.wait_value(is_complete)
        peak = datasets["counts"].argmax()
        print(f"{datasets['points']} points, the highest at {datasets['frequency'][peak]:.2f} MHz")


if __name__ == "__main__":
    trio.run(main, int(sys.argv[1]) if len(sys.argv) > 1 else 3250)
