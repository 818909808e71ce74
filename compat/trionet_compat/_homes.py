"""Where objects live that are kept open: in a run of Trio that is nobody's guest, a system task."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

import trio

T = TypeVar("T")
H = TypeVar("H", bound="Home")


class Home(ABC):
    """Where objects live: a nursery in a run of Trio, kept open as long as somebody uses it."""

    def __init__(self) -> None:
        self.nursery: trio.Nursery
        self.scope = trio.CancelScope()
        self.users = 0
        self.ending = False

    @abstractmethod
    async def run(self, async_fn: Callable[..., Awaitable[T]], *args: Any) -> T:
        """Run a function there; see the function `run`."""

    @abstractmethod
    async def wait_ready(self) -> None:
        """Wait until it can be used."""

    @abstractmethod
    async def wait_ended(self) -> None:
        """Wait until there is nothing left of it."""

    def release_soon(self) -> None:
        """One user less; the last one ends it."""
        self.users -= 1
        if self.users == 0:
            self.end_soon()

    async def release(self) -> None:
        """The same; the last one waits for the end."""
        self.release_soon()
        if self.ending:
            await self.wait_ended()

    def end_soon(self) -> None:
        """Cancel everything in it."""
        self.ending = True
        self.scope.cancel()


class TrioHome(Home):
    """In a run of Trio that is nobody's guest: a system task."""

    def __init__(self) -> None:
        super().__init__()
        self._ready = trio.Event()
        self._ended = trio.Event()
        trio.lowlevel.spawn_system_task(self._main)

    async def run(self, async_fn: Callable[..., Awaitable[T]], *args: Any) -> T:
        return await async_fn(*args)

    async def wait_ready(self) -> None:
        await self._ready.wait()

    async def wait_ended(self) -> None:
        with trio.CancelScope(shield=True):
            await self._ended.wait()

    async def _main(self) -> None:
        try:
            with self.scope:
                async with trio.open_nursery() as self.nursery:
                    self._ready.set()
                    await trio.sleep_forever()
        finally:
            self._ended.set()


_trio_home: Final[trio.lowlevel.RunVar[TrioHome | None]] = trio.lowlevel.RunVar("trionet_compat home", None)


async def find_trio_home() -> TrioHome:
    home = _trio_home.get()
    if home is None or home.ending:
        home = TrioHome()
        _trio_home.set(home)
    home.users += 1
    return await when_ready(home)


async def when_ready(home: H) -> H:
    try:
        await home.wait_ready()
    except BaseException:
        await home.release()
        raise
    return home
