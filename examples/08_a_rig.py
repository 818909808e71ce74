"""A rig, two cameras: ``python examples/08_a_rig.py [PORT]``."""

import sys

import trio

from trionet import ExpMessage, ExpStatus, RigCommunicator, RigEvent, open_rig_listener


class Cameras:
    """Two cameras, simulated. Each message that marches a rig through an experiment has its method."""

    def __init__(self, rig: RigCommunicator) -> None:
        self._rig = rig
        self._status = ExpStatus.CONNECTED
        rig.assign_callback(ExpMessage.EXPINIT, self.init)
        rig.assign_callback(ExpMessage.EXPSTART, self.start)
        rig.assign_callback(ExpMessage.EXPEND | ExpMessage.EXPINTERRUPT, self.stop)
        rig.assign_callback(ExpMessage.EXPINFO, self.info)

    async def init(self, event: RigEvent) -> None:
        # The sender knows already that its message has arrived, and waits for the answer. The rig goes on
        # taking messages meanwhile.
        await trio.sleep(0.1)
        self._status = ExpStatus.INITIALIZED
        await self._rig.respond(event, "2 cameras")

    async def start(self, event: RigEvent) -> None:
        if self._status == ExpStatus.RUNNING:
            raise RuntimeError("recording already")  # the sender gets a report
        exp_ref = event.data[0]
        self._status = ExpStatus.RUNNING
        await self._rig.respond(event, exp_ref, "recording")

    async def stop(self, event: RigEvent) -> None:
        if self._status != ExpStatus.RUNNING:
            raise RuntimeError("not recording")
        self._status = ExpStatus.STOPPED
        await self._rig.respond(event, "stopped")

    async def info(self, event: RigEvent) -> None:
        await self._rig.respond(event, self._status, {"free": "1.5 TB"})


async def main(port: int) -> None:
    async with open_rig_listener(f"udp://127.0.0.1:{port}") as rig:
        Cameras(rig)
        print("listening on port", rig.port, flush=True)
        with rig.open_events() as events:  # a stream of all messages, beside the callbacks
            async for event in events:
                print(event.event.name, event.data, flush=True)


if __name__ == "__main__":
    try:
        trio.run(main, int(sys.argv[1]) if len(sys.argv) > 1 else 11001)
    except* KeyboardInterrupt:
        print("stopped")
