"""Our server of objects, our client, and our processes, all under Trio."""

from __future__ import annotations

from time import perf_counter
from typing import Any

import trio

from tests.benchmarks.peers._object_calls import call_async, carry_async
from tests.benchmarks.peers._program import Echo, exit_with_parent, next_command, run, say
from trionet.objects.client import ObjectClient, open_object_client
from trionet.objects.process import open_object_process
from trionet.objects.server import ObjectServer, serve_objects


async def serve() -> None:
    async with trio.open_nursery() as nursery:
        server: ObjectServer = await nursery.start(serve_objects, {"echo": Echo()})
        say(address=server.address)


async def call(address: str) -> None:
    async with open_object_client(address) as client:
        echo = await client.get("echo")
        say(ready=True)
        while (command := await trio.to_thread.run_sync(next_command)) is not None:
            say(rate=await _measure(client, echo, command))


async def _measure(client: ObjectClient, echo: Any, command: dict[str, Any]) -> float:
    async def ping(number: int) -> int:
        await client.ping()
        return number

    async def call_method(number: int) -> int:
        result: int = await echo.echo(number)
        return result

    async def burst(number: int) -> int:
        calls = [client.start("ping") for _ in range(command["count"])]
        answers = [await call for call in calls]
        return number if answers == ["pong"] * len(calls) else -1

    match command["do"]:
        case "ping":
            return await call_async(ping, command["seconds"])
        case "echo":
            return await call_async(call_method, command["seconds"])
        case "burst":
            return await call_async(burst, command["seconds"]) * int(command["count"])
        case _:
            return await carry_async(echo.echo, command["size"], command["seconds"])


async def start_processes() -> None:
    say(ready=True)
    while await trio.to_thread.run_sync(next_command) is not None:
        begun = perf_counter()
        async with open_object_process(allow_import=["math"]) as process:
            await process.client.ping()
            seconds = perf_counter() - begun
            math = await process.client.import_module("math")
            if await math.sqrt(4) != 2:
                raise RuntimeError("a wrong answer")
        say(seconds=seconds)


def program(role: str, address: str = "") -> None:
    if role == "server":
        exit_with_parent()
        trio.run(serve)
    elif role == "client":
        trio.run(call, address)
    else:
        trio.run(start_processes)


if __name__ == "__main__":
    run(program)
