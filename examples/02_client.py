"""A client of 01_controller.py: ``python examples/02_client.py [PORT]``."""

import sys

import trio

from trionet import open_rpc_client


async def main(port: int) -> None:
    async with open_rpc_client("localhost", port, "laser") as client:
        laser = client.proxy
        await laser.set_power(12.5)
        print("power:", await laser.get_power(), "mW")
        try:
            await laser.set_power(1000.0)
        except ValueError as error:
            print("refused:", error)


if __name__ == "__main__":
    trio.run(main, int(sys.argv[1]) if len(sys.argv) > 1 else 3251)
