"""An object to play with, and a client and a server over memory streams."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import trio
import trio.testing

import trionet

ADDRESS = "tcp://server:1"


class Thing:
    """What the tests publish."""

    def __init__(self) -> None:
        self.items = [1, 2, 3]
        self.power = 1.0
        self.child = {"a": 1}
        self.events: list[str] = []
        self.started = trio.Event()
        self.go_on = trio.Event()
        self._hidden = 5

    def add(self, x: Any, y: Any = 1) -> Any:
        return x + y

    def echo(self, value: Any = None) -> Any:
        return value

    def itself(self) -> Thing:
        return self

    def new(self) -> Thing:
        return Thing()

    def fail(self) -> None:
        raise ValueError("no")

    def note(self, text: str) -> None:
        self.events.append(text)

    async def wait(self, name: str = "wait") -> str:
        """Until the test lets it go on."""
        self.started.set()
        try:
            await self.go_on.wait()
        except trio.Cancelled:
            self.events.append(f"{name} cancelled")
            raise
        self.events.append(name)
        return name

    async def sleep(self, seconds: float) -> float:
        await trio.sleep(seconds)
        return seconds

    def begin(self, thing: Any) -> Any:
        """What is to be awaited, of another object."""
        return thing.add(1)

    async def call(self, function: Any, *args: Any) -> Any:
        return await function(*args)

    def generator(self) -> Any:
        yield 1

    def get(self, key: str = "nothing") -> str:
        """Named as something that proxies have."""
        return f"got {key}"

    def __getitem__(self, index: int) -> int:
        return self.items[index]

    def __setitem__(self, index: int, value: int) -> None:
        self.items[index] = value

    def __delitem__(self, index: int) -> None:
        del self.items[index]

    def __len__(self) -> int:
        return len(self.items)

    def __add__(self, other: Any) -> Any:
        return ("add", other)

    def __radd__(self, other: Any) -> Any:
        return ("radd", other)

    def __lt__(self, other: Any) -> bool:
        return True

    def __neg__(self) -> str:
        return "neg"


@contextlib.asynccontextmanager
async def open_pair(
    thing: Any = None, *, serializer: str = "msgpack", client: dict[str, Any] | None = None, **options: Any
) -> AsyncIterator[tuple[trionet.ObjectClient, Any]]:
    """A client, and a proxy to the thing. The options are those of the server."""
    ours, theirs = trio.testing.memory_stream_pair()
    namespace = {"thing": Thing() if thing is None else thing, "value": 42}
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: trionet.handle_object_stream(theirs, namespace, ADDRESS, **options))
        async with trionet.wrap_object_stream(ours, ADDRESS, serializer=serializer, **client or {}) as opened:
            yield opened, await opened.get("thing")
