"""Our rigs, and our controller of rigs."""

from __future__ import annotations

from contextlib import AsyncExitStack
from time import perf_counter
from typing import Any

import trio

import trionet
from tests.benchmarks.peers._program import count_calls, next_command, run, say
from tests.benchmarks.peers._rig_session import REFERENCE, STATUS, Log, Marches, answer_to, rig_name
from trionet import ExpMessage


async def be_rigs(scheme: str, count: int) -> None:
    async with AsyncExitStack() as stack:
        rigs = [
            await stack.enter_async_context(trionet.open_rig_listener(f"{scheme}://127.0.0.1:0"))
            for _ in range(count)
        ]
        log = Log()
        for index, rig in enumerate(rigs):
            rig.assign_callback(ExpMessage.EXPINFO, lambda event: log.note(event.data))
            _answer_starts(rig, index)
        say(ports=[rig.port for rig in rigs])
        while await trio.to_thread.run_sync(next_command) is not None:
            say(received=log.check())


def _answer_starts(rig: trionet.RigCommunicator, index: int) -> None:
    async def answer(event: trionet.RigEvent) -> None:
        await rig.respond(event, REFERENCE, answer_to(index, event.data[1]))

    rig.assign_callback(ExpMessage.EXPSTART, answer)


async def control(scheme: str, ports: list[str]) -> None:
    uris = {rig_name(index): f"{scheme}://127.0.0.1:{port}" for index, port in enumerate(ports)}
    async with trionet.open_rig_services(uris, connect_first=True) as services:

        async def send(number: int) -> int:
            await first.confirmed_send([ExpMessage.EXPINFO, STATUS, number])
            return number

        async def start(number: int) -> dict[str, Any]:
            return await services.start(REFERENCE, number)

        first = services[rig_name(0)]
        marches = Marches(start, len(services), trio.sleep)
        await services.ready()  # as programs do; rigs that were pinged answer without a pause
        say(ready=True)
        while (command := await trio.to_thread.run_sync(next_command)) is not None:
            match command["do"]:
                case "send":
                    begun = perf_counter()
                    sent = await count_calls(send, begun + command["seconds"])
                    say(sent=sent, rate=sent / (perf_counter() - begun))
                case "start":
                    say(time=await marches.run(command["seconds"]))


def program(role: str, scheme: str, *arguments: str) -> None:
    if role == "rigs":
        trio.run(be_rigs, scheme, int(arguments[0]))
    else:
        trio.run(control, scheme, list(arguments))


if __name__ == "__main__":
    run(program)
