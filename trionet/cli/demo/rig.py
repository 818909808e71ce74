"""A rig: the program that would run on the PC of the cameras, or of the probes in the brain.

    python -m trionet.cli.demo.rig NAME [PORT]

It prints the port that it listens on, and ends when its standard input does: whoever has started it cannot
leave it behind.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Final

import trio

from trionet import ExpMessage, RigCommunicator, RigEvent, open_rig_listener
from trionet.cli.demo.processes import end_with_starter

#: Seconds that all in the demo wait for an echo: it is to work on a busy machine, too.
ECHO_TIMEOUT: Final = 10.0


@dataclass(frozen=True, slots=True)
class Instrument:
    """What a rig records with, simulated.

    Attributes:
        scheme: How its messages travel, ``tcp`` or ``udp``.
        parts: What it consists of.
        samples: What it records.
        rate: How many of them per second.
        start_time: Seconds that it takes to start.
    """

    scheme: str
    parts: str
    samples: str
    rate: float
    start_time: float = 0.0


#: The rigs of the demo, in the order of starting.
INSTRUMENTS: Final = {
    "cameras": Instrument("tcp", "3 cameras", "frames", 60, start_time=0.5),
    "ephys": Instrument("udp", "2 probes", "samples", 30_000),
}


class Recording:
    """Answers the messages that march a rig through an experiment."""

    def __init__(self, rig: RigCommunicator, instrument: Instrument) -> None:
        self._rig = rig
        self._instrument = instrument
        self._begun: float | None = None
        self._recorded = 0
        rig.assign_callback(ExpMessage.EXPINIT, self._init)
        rig.assign_callback(ExpMessage.EXPSTART, self._start)
        rig.assign_callback(ExpMessage.EXPEND | ExpMessage.EXPINTERRUPT, self._stop)
        rig.assign_callback(ExpMessage.EXPCLEANUP, self._clean_up)

    async def _init(self, event: RigEvent) -> None:
        await self._rig.respond(event, f"{self._instrument.parts} ready")

    async def _start(self, event: RigEvent) -> None:
        await trio.sleep(self._instrument.start_time)  # it goes on taking messages meanwhile
        self._begun = trio.current_time()
        await self._rig.respond(event, f"recording {self._instrument.rate:,} {self._instrument.samples}/s")

    async def _stop(self, event: RigEvent) -> None:
        if self._begun is None:
            raise RuntimeError("nothing is being recorded")
        self._recorded = round((trio.current_time() - self._begun) * self._instrument.rate)
        self._begun = None
        await self._rig.respond(event, f"{self._recorded:,} {self._instrument.samples} recorded")

    async def _clean_up(self, event: RigEvent) -> None:
        recorded, self._recorded = self._recorded, 0
        await self._rig.respond(event, f"{recorded:,} {self._instrument.samples} stored")


async def run_rig(name: str, port: int) -> None:
    """Be a rig until standard input ends."""
    instrument = INSTRUMENTS[name]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(end_with_starter, nursery.cancel_scope)
        uri = f"{instrument.scheme}://127.0.0.1:{port}"
        async with open_rig_listener(uri, name=name, echo_timeout=ECHO_TIMEOUT) as rig:
            Recording(rig, instrument)
            print(rig.port, flush=True)
            await trio.sleep_forever()


if __name__ == "__main__":
    trio.run(run_rig, sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 0)
