"""A program whose log goes to another computer, too: ``python examples/07_logging.py [PORT]``."""

import logging
import sys

import trio

from trionet import open_log_forwarder

log = logging.getLogger("laser")


async def main(port: int) -> None:
    async with open_log_forwarder("localhost", port, source="lab-pc", flush_timeout=10) as handler:
        logging.getLogger().addHandler(handler)
        # Nothing here waits for the network. Without a connection the records wait, and the oldest of too
        # many are dropped; when the connection is back, a record says how many those were.
        log.warning("the interlock is open")
        try:
            raise OSError("no answer from the power supply")
        except OSError:
            log.exception("switching off failed")
        logging.getLogger().removeHandler(handler)
    # The end of the block has waited, for 10 s at most, until everything was sent.


if __name__ == "__main__":
    trio.run(main, int(sys.argv[1]) if len(sys.argv) > 1 else 1066)
