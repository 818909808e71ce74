"""Proxies, and a process that works for us: ``python examples/17_a_worker.py [PORT]``."""

import sys

import numpy as np
import trio

from trionet import ConnectionLost, ObjectClient, open_object_client, open_object_process


async def measure(client: ObjectClient) -> np.ndarray:
    interferometer = await client.get("interferometer")
    await interferometer.settings.samples.set(1000)  # nothing is sent before .set
    scan = await interferometer.new_scan()  # no copy: a proxy
    await scan.run()
    intensity: np.ndarray = await scan.intensity.get()  # a copy
    print(f"{intensity.size} samples of {scan!r}")
    try:
        await client.import_module("os")
    except PermissionError as error:
        print("refused:", error.args[0])
    return intensity


async def main(port: int) -> None:
    async with open_object_client(f"tcp://127.0.0.1:{port}") as client:
        intensity = await measure(client)

    async with open_object_process("worker", allow_import=["numpy.fft"]) as worker:
        fft = await worker.client.import_module("numpy.fft")
        spectrum = await fft.rfft(intensity)
        print("the strongest line is number", np.argmax(np.abs(spectrum)))

        worker.kill()  # as a crash would
        try:
            await fft.rfft(intensity)
        except ConnectionLost:
            print("the worker has died, with status", worker.returncode)


if __name__ == "__main__":
    trio.run(main, int(sys.argv[1]) if len(sys.argv) > 1 else 5555)
