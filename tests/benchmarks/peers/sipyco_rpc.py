"""sipyco's asyncio server and both its clients. The last argument is a checkout of it."""

from __future__ import annotations

import asyncio
import sys

from tests.benchmarks.peers._asyncio_calls import answer_commands
from tests.benchmarks.peers._program import (
    Echo,
    commands,
    count_calls_blocking,
    exit_with_parent,
    raise_file_limit,
    run,
    say,
)


async def serve() -> None:
    from sipyco.pc_rpc import Server

    server = Server({"echo": Echo()})
    await server.start("127.0.0.1", 0)
    say(port=server.server.sockets[0].getsockname()[1])
    await asyncio.get_running_loop().create_future()


async def call(port: int) -> None:
    from sipyco.pc_rpc import AsyncioClient

    client = AsyncioClient()
    await client.connect_rpc("127.0.0.1", port, "echo")
    await answer_commands(client.echo)
    await client.close_rpc()


def call_blocking(port: int) -> None:
    from sipyco.pc_rpc import Client

    client = Client("127.0.0.1", port, "echo")
    say(ready=True)
    for command in commands():
        say(calls=count_calls_blocking(client.echo, command["seconds"]))
    client.close_rpc()


def program(role: str, *arguments: str) -> None:
    sys.path.insert(0, arguments[-1])
    if role == "server":
        exit_with_parent()
        raise_file_limit()
        asyncio.run(serve())
    elif role == "blocking":
        call_blocking(int(arguments[0]))
    else:
        asyncio.run(call(int(arguments[0])))


if __name__ == "__main__":
    run(program)
