"""A retry loop, and the power fails at every packet: ``pytest examples/11_every_crash_point.py``."""

from typing import Any

import pytest
import trio

import trionet
from trionet.testing import DROP, Lab, Packet, Verdict


class Pump:
    """The controller of a syringe pump; ``strokes`` are counted by the pump itself, 1 µl each."""

    def __init__(self) -> None:
        self.strokes = 0

    def dispensed(self) -> int:
        """What has been dispensed so far, in µl."""
        return self.strokes

    async def dispense_up_to(self, microlitres: int) -> None:
        """Dispense until it is so much in total."""
        while self.strokes < microlitres:
            await trio.sleep(0.08)
            self.strokes += 1


async def call_until_answered(method: str, *args: Any) -> Any:
    """Call a method of the pump. If the connection is lost, try again."""
    while True:
        try:
            async with trionet.open_rpc_client("pump-pc", 3251) as pump:
                return await pump.call(method, *args)
        except OSError:  # ConnectionLost is one, too
            await trio.sleep(1)


async def dose(microlitres: int) -> None:
    """Dispense so much, whatever happens to the pump's PC and the connection."""
    before = await call_until_answered("dispensed")
    await call_until_answered("dispense_up_to", before + microlitres)


@pytest.mark.trio
@pytest.mark.lab(seeds=40)
async def test_the_power_fails_at_every_packet(lab: Lab, lab_seed: int) -> None:
    """The seed is the number of the packet that is lost with the power."""
    pump, pump_pc = Pump(), lab.host("pump-pc")
    crashed, packets = trio.Event(), 0

    async def serve(*, task_status: trio.TaskStatus[Any]) -> None:
        await trionet.serve_rpc({"pump": pump}, 3251, host=None, task_status=task_status)

    def cut_power(packet: Packet) -> Verdict | None:
        nonlocal packets
        packets += 1
        if packets != lab_seed + 1:
            return None
        pump_pc.crash()
        crashed.set()
        return DROP

    async def come_back() -> None:
        await crashed.wait()
        await trio.sleep(5)
        pump_pc.restart()
        await pump_pc.start(serve)

    await pump_pc.start(serve)
    with trio.fail_after(300):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(come_back)
            with lab.host("lab-pc").entered(), lab.rule(cut_power):
                await dose(3)
            nursery.cancel_scope.cancel()
    assert pump.strokes == 3
