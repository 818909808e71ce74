"""Lines that are sent back as they came, with asyncio's streams: the least that a call can be."""

from __future__ import annotations

import asyncio
from collections import deque

from tests.benchmarks.peers._asyncio_calls import answer_commands
from tests.benchmarks.peers._program import exit_with_parent, raise_file_limit, run, say


async def _handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while line := await reader.readline():
        writer.write(line)
        await writer.drain()
    writer.close()


async def serve() -> None:
    server = await asyncio.start_server(_handle, "127.0.0.1", 0, backlog=1024)
    say(port=server.sockets[0].getsockname()[1])
    await server.serve_forever()


async def call(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    waiting: deque[asyncio.Future[int]] = deque()
    loop = asyncio.get_running_loop()

    async def read() -> None:
        while line := await reader.readline():
            waiting.popleft().set_result(int(line))

    async def echo(value: int) -> int:
        writer.write(b"%d\n" % value)
        answer: asyncio.Future[int] = loop.create_future()
        waiting.append(answer)
        return await answer

    reading = asyncio.create_task(read())
    await answer_commands(echo)
    writer.close()
    await reading


def program(role: str, port: str = "0") -> None:
    if role == "server":
        exit_with_parent()
        raise_file_limit()
        asyncio.run(serve())
    else:
        asyncio.run(call(int(port)))


if __name__ == "__main__":
    run(program)
