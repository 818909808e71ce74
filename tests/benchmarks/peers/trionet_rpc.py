"""Our server and our client, both under Trio."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from time import perf_counter

import trio

import trionet
from tests.benchmarks.peers._program import (
    Echo,
    count_calls,
    exit_with_parent,
    next_command,
    raise_file_limit,
    run,
    say,
)


async def serve() -> None:
    async with trio.open_nursery() as nursery:
        server: trionet.RpcServer = await nursery.start(trionet.serve_rpc, {"echo": Echo()}, 0)
        say(port=server.port)


async def call(port: int) -> None:
    async with trionet.open_rpc_client("127.0.0.1", port) as client:
        say(ready=True)

        async def echo(value: int) -> int:
            result: int = await client.call("echo", value)
            return result

        while (command := await trio.to_thread.run_sync(next_command)) is not None:
            say(calls=await _rate(echo, command["tasks"], command["seconds"]))


async def _rate(echo: Callable[[int], Awaitable[int]], tasks: int, seconds: float) -> float:
    counts: list[int] = []
    start = perf_counter()

    async def work() -> None:
        counts.append(await count_calls(echo, start + seconds))

    async with trio.open_nursery() as nursery:
        for _ in range(tasks):
            nursery.start_soon(work)
    return sum(counts) / (perf_counter() - start)


def program(role: str, port: str = "0") -> None:
    if role == "server":
        exit_with_parent()
        raise_file_limit()
        trio.run(serve)
    else:
        trio.run(call, int(port))


if __name__ == "__main__":
    run(program)
