"""An experiment that publishes its datasets: ``python examples/05_datasets.py [PORT]``."""

import sys

import numpy as np
import trio

from trionet import Notifier, Publisher, serve_publisher

POINTS = 20


async def scan(datasets: Notifier) -> None:
    """Measure a resonance, point by point. Whoever has subscribed sees each of them."""
    datasets["frequency"] = np.linspace(9.0, 11.0, POINTS)
    datasets["counts"] = np.zeros(POINTS)
    datasets["points"] = 0
    for index, frequency in enumerate(datasets["frequency"].raw_view):
        await trio.sleep(0.02)
        datasets["counts"][index] = 1000 / (1 + (20 * (frequency - 10.2)) ** 2)
        datasets["points"] = index + 1


async def main(port: int) -> None:
    datasets = Notifier({})
    async with trio.open_nursery() as nursery:
        publisher: Publisher = await nursery.start(serve_publisher, {"datasets": datasets}, port)
        print("publishing on port", publisher.port, flush=True)
        await scan(datasets)
        # The publisher goes on, with the result, until it is stopped with Ctrl-C.


if __name__ == "__main__":
    try:
        trio.run(main, int(sys.argv[1]) if len(sys.argv) > 1 else 3250)
    except* KeyboardInterrupt:
        print("stopped")
