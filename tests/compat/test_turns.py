"""When a guest run gets its turns: not while there is nothing to do, and at once when there is."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest
import trio
from trio._core import _run

from tests.compat.guests import run_program
from trionet_compat import _guest, _turns, guest


class Block:
    async def __aenter__(self) -> None:
        pass

    async def __aexit__(self, *_: object) -> None:
        pass


def no_thread(*_: object) -> None:
    raise AssertionError("Trio waits in a thread")


async def rounds(number: int) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


async def settle() -> None:
    """Have Trio do what it has to."""
    await rounds(20)


def test_sockets_are_waited_for_without_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    async def ping_pong() -> bytes:
        ours, theirs = trio.socket.socketpair()
        with ours, theirs:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(theirs.send, b"hello")
                return await ours.recv(10)

    async def main() -> None:
        opened = await guest.open_held(Block())
        with monkeypatch.context() as patch:
            patch.setattr(_run, "start_thread_soon", no_thread)
            assert await opened.run(ping_pong) == b"hello"
            await opened.run(trio.sleep, 0.001)
        await opened.aclose()

    run_program(main)


def test_a_socket_that_is_ready_already() -> None:
    async def main() -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            theirs.send(b"hello")
            await guest.run(trio.lowlevel.wait_readable, ours)

    run_program(main)


def test_nothing_happens_while_there_is_nothing_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[object] = []
    take = _guest.Guest._take

    def count(self: Any, turn: Callable[[], object]) -> None:
        taken.append(turn)
        take(self, turn)

    monkeypatch.setattr(_guest.Guest, "_take", count)

    async def main() -> None:
        opened = await guest.open_held(Block())
        await settle()
        taken.clear()
        await rounds(1000)
        assert taken == []
        await opened.run(trio.lowlevel.checkpoint)
        assert taken
        await opened.aclose()

    run_program(main)


def test_a_deadline_that_the_program_changes_is_noticed() -> None:
    scope = trio.CancelScope()

    async def wait() -> bool:
        with scope:
            await trio.sleep_forever()
        return scope.cancelled_caught

    async def main() -> None:
        waiting = asyncio.ensure_future(guest.run(wait))
        await settle()
        scope.deadline = trio.current_time()
        assert await waiting

    run_program(main)


def test_threads_wake_it() -> None:
    go = threading.Event()

    async def main() -> None:
        waiting = asyncio.ensure_future(guest.run(trio.to_thread.run_sync, go.wait))
        await settle()
        go.set()
        assert await waiting

    run_program(main)


def test_the_program_wakes_tasks() -> None:
    async def main() -> None:
        event = trio.Event()
        waiting = asyncio.ensure_future(guest.run(event.wait))
        await settle()
        event.set()
        await waiting

    run_program(main)


def test_waiting_until_all_tasks_are_blocked() -> None:
    from trio.testing import wait_all_tasks_blocked

    async def main() -> None:
        waiting = asyncio.ensure_future(guest.run(wait_all_tasks_blocked))
        with pytest.raises(TimeoutError):  # it idles by running, so that moment never comes
            await asyncio.wait_for(waiting, 0.001)

    run_program(main)


@pytest.mark.parametrize("missing", ["descriptor", "private part"])
def test_without_what_it_needs_of_trio_it_works_in_the_way_of_trio(
    monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    if missing == "descriptor":
        monkeypatch.setattr(_turns, "_wait_descriptor", lambda: None)
    else:
        monkeypatch.setattr(_turns, "_PRIVATE", {"Runner": ("nothing_of_that_name",)})
    started: list[object] = []
    start_thread_soon = vars(_run)["start_thread_soon"]

    def start(*arguments: Any) -> None:
        started.append(arguments)
        start_thread_soon(*arguments)

    monkeypatch.setattr(_run, "start_thread_soon", start)

    async def main() -> None:
        await guest.run(trio.sleep, 0.001)

    run_program(main)
    assert started
