"""Giving up without harm, and going on without a server: ``python examples/03_timeouts.py [PORT]``."""

import sys

import trio

from trionet import open_best_effort_rpc_client, open_rpc_client


async def give_up(port: int) -> None:
    """A call that takes too long. The connection stays usable, and no answer goes to the wrong call."""
    async with open_rpc_client("localhost", port, "laser") as client:
        with trio.move_on_after(0.1) as patience:
            await client.call("calibrate", 0.5)
        print("gave up:", patience.cancelled_caught)
        # The server finishes the calibration, throws its result away, and answers this call.
        print("power:", await client.call("get_power"), "mW")


async def go_on_without(port: int) -> None:
    """A client for what may be missing: calls return None while there is no connection."""
    async with open_best_effort_rpc_client("localhost", port, "laser", first_timeout=10) as logbook:
        print("connected:", logbook.connected.value)
        print("logbook reads:", await logbook.call("get_power"))


async def main(port: int) -> None:
    await give_up(port)
    await go_on_without(port)


if __name__ == "__main__":
    trio.run(main, int(sys.argv[1]) if len(sys.argv) > 1 else 3251)
