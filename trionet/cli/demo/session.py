"""Two steps of the demo: rigs are marched through an experiment, and one of them dies in the middle."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Mapping
from dataclasses import dataclass
from typing import Final

import trio

from trionet import ExpMessage, RigEvent, RigServices, ServicesError, open_rig_services
from trionet.cli.demo.narrator import Narrator, StepFailed, check
from trionet.cli.demo.processes import START_ATTEMPTS, Program, run_program
from trionet.cli.demo.rig import ECHO_TIMEOUT, INSTRUMENTS
from trionet.cli.feeds import log_told
from trionet.cli.tasks import until_first

_HOST: Final = "127.0.0.1"
_REFERENCE: Final = "2026-01-31_1_mouse"
# The one that dies. It is one with UDP: for those the system tells at once that nobody listens there.
_MORTAL: Final = "ephys"
# Seconds that the rigs record before.
_RECORDING: Final = 0.25
# Seconds for a rig's process to be there.
_READY_TIME: Final = 60.0


@dataclass(frozen=True, slots=True)
class Rig:
    """A rig's process, and where it listens."""

    program: Program
    port: int
    uri: str


async def start_rigs(narrator: Narrator, lab: contextlib.AsyncExitStack) -> dict[str, Rig]:
    """Start a process for each rig. They end with the lab.

    Raises:
        StepFailed: if one does not start.
    """
    programs = {
        name: await lab.enter_async_context(run_program("trionet.cli.demo.rig", name)) for name in INSTRUMENTS
    }
    rigs: dict[str, Rig] = {}
    for name, program in programs.items():
        port = await program.read_line()
        if port is None:
            raise StepFailed(f"the rig {name} does not start")
        rigs[name] = Rig(program, int(port), f"{INSTRUMENTS[name].scheme}://{_HOST}:{port}")
        narrator.say(f"process {program.pid} is the rig {name}, at {rigs[name].uri}")
    return rigs


class Session:
    """An experiment with several rigs, as the operator sees it. Made by `open_session`."""

    def __init__(self, narrator: Narrator, rigs: Mapping[str, Rig], services: RigServices) -> None:
        self._narrator = narrator
        self._rigs = rigs
        self._services = services

    async def begin(self) -> None:
        """Init and start; one of the rigs takes its time.

        Raises:
            StepFailed: if it does not.
        """
        await self._services.ready(_READY_TIME)
        await self._ask("init", self._services.init())
        begun = trio.current_time()
        await self._ask("start", self._services.start(_REFERENCE))
        seconds = trio.current_time() - begun
        slowest = max(instrument.start_time for instrument in INSTRUMENTS.values())
        check(seconds >= slowest, f"all rigs have started after {seconds:.2f} s already")
        self._narrator.say(f"asked at once, all record after {seconds:.2f} s, as long as the slowest takes")

    async def lose_one(self) -> None:
        """One of the rigs dies: stop tells which, and what the others have answered.

        Raises:
            StepFailed: if it tells anything else.
        """
        mortal = self._rigs[_MORTAL].program
        await trio.sleep(_RECORDING)
        self._narrator.say(
            f"they have recorded for {_RECORDING:g} s; process {mortal.pid}, {_MORTAL}, is killed"
        )
        mortal.kill()
        await mortal.wait()
        try:
            await self._ask("stop", self._services.stop())
        except ServicesError as error:
            check([*error.failed] == [_MORTAL], f"stop failed: {error.message}")
            self._narrator.say(f"stop raises ServicesError: {error.message}")
            self._narrator.say(f"what the others have answered is in it: {error.responses}")
        else:
            raise StepFailed("a dead rig has answered")

    async def find_it_again(self, lab: contextlib.AsyncExitStack) -> None:
        """It is started again, waited for as one waits for a PC that boots, and cleanup goes through.

        Raises:
            StepFailed: if it does not start.
        """
        begun = trio.current_time()
        program = await self._start_again(lab)
        seconds = trio.current_time() - begun
        self._narrator.say(
            f"process {program.pid} is {_MORTAL} now; ready() has waited {seconds:.2f} s for it"
        )
        await self._ask("cleanup", self._services.cleanup())

    async def _start_again(self, lab: contextlib.AsyncExitStack) -> Program:
        ready = False

        async def wait_ready() -> None:
            nonlocal ready
            await self._services.ready(_READY_TIME)
            ready = True

        for _ in range(START_ATTEMPTS):
            port = str(self._rigs[_MORTAL].port)
            program = await lab.enter_async_context(run_program("trionet.cli.demo.rig", _MORTAL, port))
            await until_first(wait_ready, program.wait)
            if ready:
                return program
        raise StepFailed(f"the rig {_MORTAL} does not start again")

    async def _ask(self, what: str, answers: Awaitable[object]) -> None:
        """Ask all rigs, and tell who answers when."""
        begun = trio.current_time()

        def tell(event: RigEvent) -> None:
            milliseconds = (trio.current_time() - begun) * 1000
            self._narrator.say(f"{what}: {event.rig} answers after {milliseconds:.0f} ms: {event.data[-1]}")

        self._services.assign_callback(ExpMessage.any(), tell)
        try:
            await answers
        finally:
            self._services.clear_callbacks(ExpMessage.any())


@contextlib.asynccontextmanager
async def open_session(narrator: Narrator, rigs: Mapping[str, Rig]) -> AsyncIterator[Session]:
    """Talk to all rigs as one."""
    with log_told(logging.getLogger("trionet.rig"), lambda text: narrator.say(f"log: {text}")):
        uris = {name: rig.uri for name, rig in rigs.items()}
        async with open_rig_services(uris, echo_timeout=ECHO_TIMEOUT) as services:
            yield Session(narrator, rigs, services)
