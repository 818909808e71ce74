"""A client's process is killed while its calls are in flight."""

from __future__ import annotations

import sys
from pathlib import Path

import trio

import trionet
from tests.front.objects import Thing

PROGRAM = """
import sys, trio, trionet

async def main():
    async with trionet.open_object_client(sys.argv[1]) as client:
        thing = await client.get("thing")
        new = await thing.new()
        calls = [thing.wait(str(number)).start() for number in range(10)]
        await trio.sleep_forever()

trio.run(main)
"""


async def test_its_calls_are_cancelled_and_its_objects_released() -> None:
    target = Thing()
    async with trio.open_nursery() as nursery:
        server = await nursery.start(trionet.serve_objects, {"thing": target})
        process = await trio.lowlevel.open_process(
            [sys.executable, "-c", PROGRAM, server.address], cwd=Path(__file__).parents[2]
        )
        async with trionet.open_object_client(server.address) as other:
            thing = await other.get("thing")
            with trio.fail_after(60):
                while server.statistics().requests_in_flight < 10:
                    await other.ping()
                held = server.statistics().objects
                process.kill()
                await process.wait()
                while server.statistics().connections > 1:
                    await other.ping()
            statistics = server.statistics()
            assert (statistics.requests_in_flight, statistics.objects) == (0, held - 1)
            assert sorted(target.events) == [f"{number} cancelled" for number in range(10)]
            assert await thing.add(1) == 2
        server.cancel_scope.cancel()
