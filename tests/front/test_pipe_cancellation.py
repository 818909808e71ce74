"""Pipes and cancellation: nothing stays, nothing is damaged that need not be."""

from __future__ import annotations

import contextlib
import os
import signal
import sys

import pytest
import trio
import trio.testing

from tests.front.piped import nothing_stays, open_child
from tests.front.test_cancellation import CancelAtStep
from trionet.wire.errors import ConnectionLost

__all__ = ["nothing_stays"]

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="pipes need POSIX"),
    pytest.mark.usefixtures("nothing_stays"),
]

LARGE = bytes(range(11, 256)) * 4500  # 1.1 MB without LF, much more than a pipe holds


async def test_cancelled_at_every_step() -> None:
    completed = 0
    for step in range(40):  # some more than there usually are
        processes = []
        with trio.fail_after(60), trio.CancelScope() as scope:
            instrument = CancelAtStep(scope, step)
            trio.lowlevel.add_instrument(instrument)
            try:
                async with open_child("cat") as child:
                    processes.append(child.process)
                    await child.write_line(b"x" * 100_000)
                    assert len(await child.read_line()) == 100_000
                    await child.send_eof()
                    completed += 1
            finally:
                trio.lowlevel.remove_instrument(instrument)
        assert all(process.returncode == 0 for process in processes)
    assert 0 < completed < 40


async def test_writing_cancelled_in_the_middle_of_a_line() -> None:
    async with open_child("stubborn", grace=0.05) as child:
        await child.read_line()
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(child.write_line, LARGE)
                await trio.testing.wait_all_tasks_blocked()
                scope.cancel()
        for _ in range(2):
            with pytest.raises(ConnectionLost, match="not completed"):
                await child.write_line(b"next")


async def test_what_the_child_says_to_a_line_cut_off_can_be_read() -> None:
    async with open_child("echo_blocking") as child:
        await child.write_line(b"whole")
        assert await child.read_line() == b"whole"
        os.kill(child.process.pid, signal.SIGSTOP)
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(child.write_line, LARGE)
                await trio.testing.wait_all_tasks_blocked()
                scope.cancel()
        os.kill(child.process.pid, signal.SIGCONT)
        assert [line async for line in child] == []
        assert await child.process.wait() == 0


async def test_waiting_for_a_turn_to_write_is_cancelled_without_damage() -> None:
    async with open_child("cat") as child:
        os.kill(child.process.pid, signal.SIGSTOP)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child.write_line, LARGE)
            await trio.testing.wait_all_tasks_blocked()
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as waiting:
                    waiting.start_soon(child.write_line, b"withdrawn")
                    await trio.testing.wait_all_tasks_blocked()
                    scope.cancel()
            os.kill(child.process.pid, signal.SIGCONT)
            assert await child.read_line() == LARGE
            await child.write_line(b"next")
            assert await child.read_line() == b"next"


async def test_writing_cancelled_before_the_line_has_begun() -> None:
    async with open_child("cat") as child:
        os.kill(child.process.pid, signal.SIGSTOP)
        filling = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                filling += os.write(child._writer.fileno(), b"x")
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(child.write_line, b"withdrawn")
                await trio.testing.wait_all_tasks_blocked()
                scope.cancel()
        os.kill(child.process.pid, signal.SIGCONT)
        await child.write_line(b"next")
        assert await child.read_line() == b"x" * filling + b"next"


async def test_reading_cancelled_takes_nothing() -> None:
    async with open_child("cat") as child:
        await child.write_line(b"one")
        await child.write_line(b"two")
        assert await child.read_line() == b"one"
        with trio.CancelScope() as scope:
            scope.cancel()
            await child.read_line()
        assert await child.read_line() == b"two"
