"""A rig listener over memory streams, for tests on the mock clock."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import trio
import trio.testing

import trionet

Stapled = trio.StapledStream[trio.testing.MemorySendStream, trio.testing.MemoryReceiveStream]
Connect = Callable[[], Awaitable[Stapled]]


class MemoryListener(trio.abc.Listener[trio.abc.Stream]):
    """Accepts the streams that come from a channel."""

    def __init__(self, streams: trio.MemoryReceiveChannel[trio.abc.Stream]) -> None:
        self._streams = streams

    async def accept(self) -> trio.abc.Stream:
        return await self._streams.receive()

    async def aclose(self) -> None:
        await self._streams.aclose()


@contextlib.asynccontextmanager
async def open_memory_rig(**options: Any) -> AsyncIterator[tuple[trionet.RigCommunicator, Connect]]:
    """A rig, and a function that connects to it and returns the other end, where bytes go in and out."""
    send_streams, receive_streams = trio.open_memory_channel[trio.abc.Stream](10)
    ends: list[Stapled] = []

    async def connect() -> Stapled:
        ours, theirs = trio.testing.memory_stream_pair()
        ends.append(ours)
        await send_streams.send(theirs)
        return ours

    listener = MemoryListener(receive_streams)
    async with trionet.open_rig_listener("tcp://rig", name="rig", listeners=[listener], **options) as rig:
        yield rig, connect
    for end in ends:
        await end.aclose()


async def address_behind(rig: trionet.RigCommunicator, stream: Stapled) -> tuple[str, int]:
    """Where a rig sees the other end of a stream; costs a message, and the gap behind its echo."""
    with rig.open_events() as events:
        await stream.send_all(b'[8, "who"]')
        address = (await events.receive()).address
    assert await stream.receive_some() == b'[8, "who"]'
    await trio.sleep(1)
    return address
