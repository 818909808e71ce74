"""Our rigs and controller under iblutil's names, in asyncio."""

from __future__ import annotations

import asyncio
import logging
import socket
from time import perf_counter
from typing import Any

from tests.benchmarks.peers._program import count_calls, next_command, run, say
from tests.benchmarks.peers._rig_session import REFERENCE, STATUS, Log, Marches, answer_to, rig_name
from trionet_compat.iblutil.io import net

# Without one they would write everything to the standard output.
_logger = logging.getLogger("trionet_compat")


async def be_rigs(scheme: str, count: int) -> None:
    log = Log()
    async with asyncio.TaskGroup() as answers:
        rigs = [await _open_rig(scheme) for _ in range(count)]
        for index, rig in enumerate(rigs):
            rig.assign_callback(net.base.ExpMessage.EXPINFO, lambda data, _: log.note(data))
            rig.assign_callback(net.base.ExpMessage.EXPSTART, _answer_starts(rig, index, answers))
        say(ports=[rig.port for rig in rigs])
        while await asyncio.to_thread(next_command) is not None:
            say(received=log.check())


async def _open_rig(scheme: str) -> net.app.EchoProtocol:
    """A server on a port that is free; it has to be told one."""
    kind = socket.SOCK_DGRAM if scheme == "udp" else socket.SOCK_STREAM
    while True:
        with socket.socket(socket.AF_INET, kind) as found:
            found.bind(("127.0.0.1", 0))
            port = found.getsockname()[1]
        try:
            return await net.app.EchoProtocol.server(f"{scheme}://127.0.0.1:{port}", None, _logger)
        except OSError:  # another program was faster
            continue


def _answer_starts(rig: net.app.EchoProtocol, index: int, answers: asyncio.TaskGroup) -> Any:
    def answer(data: list[Any], address: tuple[str, int]) -> None:
        answers.create_task(rig.start(REFERENCE, answer_to(index, data[1]), addr=address))

    return answer


async def control(scheme: str, ports: list[str]) -> None:
    clients = [
        await net.app.EchoProtocol.client(f"{scheme}://127.0.0.1:{port}", rig_name(index), _logger)
        for index, port in enumerate(ports)
    ]
    services = net.app.Services(clients)

    async def send(number: int) -> int:
        await clients[0].confirmed_send([net.base.ExpMessage.EXPINFO, STATUS, number])
        return number

    async def start(number: int) -> dict[str, Any]:
        return await services.start(REFERENCE, number)

    marches = Marches(start, len(clients), asyncio.sleep)
    say(ready=True)
    while (command := await asyncio.to_thread(next_command)) is not None:
        match command["do"]:
            case "send":
                begun = perf_counter()
                sent = await count_calls(send, begun + command["seconds"])
                say(sent=sent, rate=sent / (perf_counter() - begun))
            case "start":
                say(time=await marches.run(command["seconds"]))
    services.close()


def program(role: str, scheme: str, *arguments: str) -> None:
    if role == "rigs":
        asyncio.run(be_rigs(scheme, int(arguments[0])))
    else:
        asyncio.run(control(scheme, list(arguments)))


if __name__ == "__main__":
    run(program)
