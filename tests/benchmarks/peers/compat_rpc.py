"""The clients of `trionet_compat`, blocking and under asyncio."""

from __future__ import annotations

import asyncio

from tests.benchmarks.peers._asyncio_calls import answer_commands
from tests.benchmarks.peers._program import commands, count_calls_blocking, run, say


async def call(port: int) -> None:
    from trionet_compat.sipyco.pc_rpc import AsyncioClient

    client = AsyncioClient()
    await client.connect_rpc("127.0.0.1", port, "echo")
    await answer_commands(client.echo)
    await client.close_rpc()


def call_blocking(port: int) -> None:
    from trionet_compat.sipyco.pc_rpc import Client

    client = Client("127.0.0.1", port, "echo")
    say(ready=True)
    for command in commands():
        say(calls=count_calls_blocking(client.echo, command["seconds"]))
    client.close_rpc()


def program(role: str, port: str) -> None:
    if role == "blocking":
        call_blocking(int(port))
    else:
        asyncio.run(call(int(port)))


if __name__ == "__main__":
    run(program)
