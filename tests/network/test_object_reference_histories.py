"""References in histories made by chance: what somebody holds can be used, and in the end nothing is kept."""

from __future__ import annotations

import contextlib
import gc
import random
from typing import Any

import pytest
import trio
import trio.testing

import trionet

STEPS = 25


class Shelf:
    """Makes objects, and keeps those of others."""

    def __init__(self, number: int = 0) -> None:
        self.number = number
        self.kept: list[Any] = []

    def make(self, number: int) -> Shelf:
        return Shelf(number)

    def several(self, numbers: list[int]) -> list[Shelf]:
        return [Shelf(number) for number in numbers]

    def keep(self, thing: Any) -> None:
        self.kept.append(thing)

    async def ask(self, thing: Any) -> int:
        return await _number_of(thing)

    async def ask_kept(self) -> list[int]:
        """What this server has used once, it holds."""
        return [await _number_of(thing) for thing in self.kept]


async def _number_of(thing: Any) -> int:
    number: int = await thing.number.get() if isinstance(thing, trionet.ObjectProxy) else thing.number
    return number


class Client:
    """One of them, on its way through the history."""

    def __init__(self, chance: random.Random, servers: list[trionet.ObjectServer]) -> None:
        self._chance = chance
        self._servers = servers
        self._held: list[tuple[int, Any]] = []
        self._next = 0

    async def live(self) -> None:
        async with contextlib.AsyncExitStack() as stack:
            clients = [
                await stack.enter_async_context(trionet.open_object_client(server.address))
                for server in self._servers
            ]
            for _ in range(STEPS):
                shelf = await self._chance.choice(clients).get("thing")
                await self._step(shelf)
                for number, thing in self._held:
                    assert await thing.number.get() == number
            self._held.clear()

    async def _step(self, shelf: Any) -> None:
        self._next += 1
        held = self._chance.choice(self._held) if self._held else None
        match self._chance.randrange(7):
            case 0:
                self._held.append((self._next, await shelf.make(self._next)))
            case 1:
                made = await shelf.several([7, self._next, 8])
                self._held.append((self._next, made[1]))
            case 2 if held is not None:
                assert await shelf.ask(held[1]) == held[0]
            case 3 if held is not None:
                await shelf.keep(held[1])
                assert held[0] in await shelf.ask_kept()
            case 4 if held is not None:
                self._held.remove(held)
            case 5:
                with trio.CancelScope() as scope:
                    scope.cancel()
                    await shelf.make(0)
                with trio.CancelScope() as scope:
                    pending = shelf.make(0).start()
                    scope.cancel()
                    await pending
            case 6:
                gc.collect()


@pytest.mark.parametrize("seed", range(8))
async def test_histories(seed: int) -> None:
    chance = random.Random(seed)
    async with trio.open_nursery() as nursery:
        shelves = [Shelf() for _ in range(3)]
        servers = [await nursery.start(trionet.serve_objects, {"thing": shelf}) for shelf in shelves]
        async with trio.open_nursery() as clients:
            for _ in range(3):
                clients.start_soon(Client(chance, servers).live)
        for shelf in shelves:  # all of these clients have gone
            await shelf.ask_kept()
        *others, last = servers
        for server in others:  # which hold what they have used
            await server.aclose()
        while last.statistics().objects:
            await trio.testing.wait_all_tasks_blocked()
        await last.aclose()
        assert [server.statistics().objects for server in servers] == [0, 0, 0]
