"""A communicator of ours and one of iblutil's that talk to each other."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final, TypedDict

import trio

from tests.interop.peer_process import PATIENCE, Iblutil, Theirs
from trionet import RigCommunicator, RigEvents, open_rig_communicator, open_rig_listener

#: Long enough for a computer with other things to do. Tests that wait for an end of it set a shorter one.
ECHO_TIMEOUT: Final = 30.0

#: Who is the rig, and over what. The other side is a client of it.
LINKS: Final = ("our rig, udp", "our rig, tcp", "their rig, udp", "their rig, tcp")


class ToThem(TypedDict, total=False):
    """Options of our methods that send."""

    address: tuple[str, int]


@dataclass
class Link:
    """Both ends. Either may send; who is the rig has to say to whom."""

    ours: RigCommunicator
    theirs: Theirs
    events: RigEvents
    #: Options of our methods that send, and of theirs.
    to_them: ToThem
    to_us: dict[str, Any]

    async def receive(self) -> list[Any]:
        """The next message that we have received."""
        event = await self.events.receive()
        return [event.event, *event.data]

    async def settle(self) -> None:
        """Wait until all that was sent has been received: something is sent each way, and comes next."""
        await self.ours.init("settled", **self.to_them)
        assert await self.theirs.receive() == [1, "settled"]
        await self.theirs.call("init", "settled, too", **self.to_us)
        assert await self.receive() == [1, "settled, too"]


@contextlib.asynccontextmanager
async def open_link(iblutil: Iblutil, kind: str, **options: Any) -> AsyncIterator[Link]:
    """A link of a kind; the side that is a client has told where it is. Options are those of our side."""
    options.setdefault("echo_timeout", ECHO_TIMEOUT)
    side, _, scheme = kind.partition(", ")
    with trio.fail_after(PATIENCE):
        if side == "our rig":
            async with open_rig_listener(f"{scheme}://127.0.0.1:0", **options) as rig:
                with rig.open_events(errors=True) as events:
                    theirs = await iblutil.connect(f"{scheme}://127.0.0.1:{rig.port}")
                    await theirs.call("status", "CONNECTED")
                    address = (await events.receive()).address
                    yield Link(rig, theirs, events, {"address": address}, {})
        else:
            theirs = await iblutil.serve(scheme)
            async with open_rig_communicator(theirs.uri, **options) as client:
                with client.open_events(errors=True) as events:
                    await client.status("CONNECTED")
                    _, address = await theirs.receive_from()
                    yield Link(client, theirs, events, {}, {"addr": address})
