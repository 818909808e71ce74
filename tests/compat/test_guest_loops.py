"""Guests of loops that are run, stopped, run again, closed, and thrown away; in threads, and at the exit."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import trio

from trionet_compat import _guest, guest

ROOT = Path(__file__).parents[2]


class Block:
    """A block with a task and an async generator in it, which takes some rounds to be left."""

    def __init__(self) -> None:
        self.left = False

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[Block]:
        async with trio.open_nursery() as nursery, self._inner():
            nursery.start_soon(trio.sleep_forever)
            try:
                yield self
            finally:
                nursery.cancel_scope.cancel()

    @contextlib.asynccontextmanager
    async def _inner(self) -> AsyncIterator[None]:
        try:
            yield
        finally:
            with trio.CancelScope(shield=True):
                for _ in range(5):
                    await trio.lowlevel.checkpoint()
                await trio.sleep(0.001)
            self.left = True


async def _echo(value: object) -> object:
    await trio.lowlevel.checkpoint()
    return value


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    made = asyncio.new_event_loop()
    made.set_debug(True)
    made.set_exception_handler(lambda _, context: complaints.append(context))
    complaints: list[object] = []
    yield made
    made.close()
    _guest.finish_abandoned()
    assert complaints == []
    assert not _guest.guests


def test_a_loop_that_is_run_again_and_again(loop: asyncio.AbstractEventLoop) -> None:
    block = Block()
    opened = loop.run_until_complete(guest.open_held(block.open()))
    for number in range(5):
        assert loop.run_until_complete(opened.run(_echo, number)) == number
    other = loop.run_until_complete(guest.open_held(Block().open()))
    loop.run_until_complete(opened.aclose())
    assert block.left
    assert _guest.guests
    loop.run_until_complete(other.aclose())
    assert not _guest.guests
    assert loop.run_until_complete(guest.run(_echo, 1)) == 1


def test_what_was_asked_for_while_it_stood_still_is_done_then(loop: asyncio.AbstractEventLoop) -> None:
    event = trio.Event()
    opened = loop.run_until_complete(guest.open_held(Block().open()))
    task = loop.create_task(opened.run(event.wait))
    loop.run_until_complete(opened.run(_echo, 1))
    event.set()
    loop.run_until_complete(task)
    loop.run_until_complete(opened.aclose())


@pytest.mark.parametrize("runs", [1, 3])
def test_shutting_down_asynchronous_generators_leaves_what_is_open(
    runs: int, loop: asyncio.AbstractEventLoop
) -> None:
    blocks = [Block() for _ in range(runs)]
    opened = [loop.run_until_complete(guest.open_held(block.open())) for block in blocks]
    loop.run_until_complete(loop.shutdown_asyncgens())
    assert all(block.left for block in blocks)
    assert not _guest.guests
    loop.run_until_complete(opened[0].aclose())  # as programs do at their end
    later = loop.run_until_complete(guest.open_held(Block().open()))
    loop.run_until_complete(later.aclose())


def test_a_runner_of_asyncio() -> None:
    blocks = [Block() for _ in range(3)]
    with asyncio.Runner(debug=True) as runner:
        opened = [runner.run(_opened(block)) for block in blocks]
        runner.run(opened[1].aclose())
        assert [block.left for block in blocks] == [False, True, False]
    assert all(block.left for block in blocks)
    assert not _guest.guests


async def _opened(block: Block) -> guest.Opened[Block]:
    return await guest.open_held(block.open())


def test_a_loop_that_is_closed_with_something_open() -> None:
    block, unfinished = Block(), Block()
    loop = asyncio.new_event_loop()
    opened = loop.run_until_complete(_opened(block))
    entering = loop.create_task(_opened(unfinished))
    loop.call_soon(loop.stop)
    loop.run_forever()
    entering.cancel()  # or it would say that it was destroyed while it was pending
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.close()
    opened.abandon()
    assert asyncio.run(guest.run(_echo, 1)) == 1  # what makes another guest ends this one before
    assert block.left


@pytest.mark.parametrize("rounds", range(6))
def test_a_loop_that_is_closed_while_a_guest_begins(rounds: int) -> None:
    async def use() -> None:
        with contextlib.suppress(trio.RunFinishedError):
            await guest.run(_echo, 1)

    loop = asyncio.new_event_loop()
    using = use()
    task = loop.create_task(using)
    for _ in range(rounds):
        loop.call_soon(loop.stop)
        loop.run_forever()
    loop.close()
    _guest.finish_abandoned()
    assert not _guest.guests
    task._log_destroy_pending = False  # type: ignore[attr-defined]  # that is known here
    using.close()


def test_loops_one_after_the_other() -> None:
    for number in range(3):
        block = Block()

        async def main(block: Block = block) -> None:
            await _opened(block)

        asyncio.run(main(), debug=bool(number))
        assert block.left
    assert not _guest.guests


def test_loops_in_threads_at_the_same_time() -> None:
    async def main(number: int) -> bool:
        block = Block()
        opened = await _opened(block)
        for index in range(20):
            assert await opened.run(_echo, (number, index)) == (number, index)
            if index == 10:
                await asyncio.to_thread(together.wait)
        return block.left

    together = threading.Barrier(4)
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(lambda number: asyncio.run(main(number)), range(4))) == [False] * 4
    assert not _guest.guests


def test_sockets_of_trio_wake_a_sleeping_loop() -> None:
    async def main() -> bytes:
        ours, theirs = socket.socketpair()
        with theirs:
            stream = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
            receiving = asyncio.create_task(guest.run(stream.receive_some))
            await asyncio.to_thread(theirs.send, b"data")
            data = await receiving
            await guest.run(stream.aclose)
        return bytes(data)

    assert asyncio.run(main(), debug=True) == b"data"


# -- in processes of their own -------------------------------------------------------------------------------

PRELUDE = """
import asyncio, atexit, contextlib, gc, logging, sys, threading
import trio
from trionet_compat import guest

# Machines are slow: how long something takes is no complaint.
logging.getLogger("asyncio").addFilter(lambda record: not record.getMessage().startswith("Executing "))

@contextlib.asynccontextmanager
async def block(name):
    stream, other = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep_forever)
        try:
            yield name
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(0.001)
            print("left", name, flush=True)
            nursery.cancel_scope.cancel()

def open_block(name):
    return guest.open_held(block(name))
"""


def _program(program: str) -> list[str]:
    """What a program printed; there must be no complaints, and warnings are errors."""
    ended = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", PRELUDE + textwrap.dedent(program)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (ended.stderr, ended.returncode) == ("", 0)
    return ended.stdout.splitlines()


def test_loops_that_are_left_as_they_are() -> None:
    assert _program("""
        import trio.testing
        loop = asyncio.new_event_loop()
        kept = loop.run_until_complete(open_block("of a closed loop"))
        loop.close()

        second = asyncio.new_event_loop()
        asyncio.set_event_loop(second)
        client = second.run_until_complete(open_block("closed at the exit"))

        def close():
            second.run_until_complete(client.aclose())
            second.close()
            print("exit")

        atexit.register(close)
        second.run_until_complete(open_block("left open"))
    """) == ["left of a closed loop", "left closed at the exit", "exit", "left left open"]


def test_where_trio_fails_no_task_waits_for_ever() -> None:
    assert _program("""
        import os
        import trio.testing
        sys.unraisablehook = lambda _: None  # complaints about what Trio did not end

        async def crash():
            def abort(_):
                raise ValueError("this stops Trio where it is")

            with trio.CancelScope() as scope:
                scope.cancel()
                await trio.lowlevel.wait_task_rescheduled(abort)

        async def main():
            asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
            waiting = asyncio.create_task(guest.run(trio.sleep_forever))
            for task in (asyncio.create_task(guest.run(crash)), waiting):
                try:
                    await task
                except RuntimeError:
                    print("told")

        complaints = []
        asyncio.run(main())
        print([type(context["exception"]).__name__ for context in complaints], flush=True)
        os._exit(0)
    """) == ["told", "told", "['TrioInternalError']"]


@pytest.mark.skipif(sys.platform == "win32", reason="there is no os.fork")
def test_the_child_of_a_fork_has_guests_of_its_own() -> None:
    assert _program("""
        import os
        import trio.testing

        async def work(of_parent):
            opened = await open_block("of the child")
            try:
                await of_parent.run(trio.sleep, 0)
            except trio.RunFinishedError:
                await of_parent.aclose()
            await opened.run(trio.sleep, 0)
            await opened.aclose()

        def fork():
            child = os.fork()
            if not child:
                try:
                    asyncio.run(work(opened))
                finally:
                    os._exit(0)
            assert os.waitpid(child, 0)[1] == 0

        async def fork_in_trio():
            fork()

        async def main():
            global opened
            opened = await open_block("of the parent")
            fork()
            await opened.run(fork_in_trio)
            await guest.run(trio.sleep, 0)
            await opened.aclose()

        asyncio.run(main())
    """) == ["left of the child", "left of the child", "left of the parent"]


def test_a_second_loop_of_a_thread_is_refused() -> None:
    async def open_block() -> guest.Opened[Block]:
        return await guest.open_held(Block().open())

    with contextlib.closing(asyncio.new_event_loop()) as first:
        opened = first.run_until_complete(open_block())
        with pytest.raises(RuntimeError, match="for another event loop"):
            asyncio.run(open_block())
        first.run_until_complete(opened.aclose())
    asyncio.run(open_block())
    assert not _guest.guests


def test_a_loop_of_a_thread_that_is_gone() -> None:
    # Nobody can end its guest any more; at least it disturbs nothing.
    assert _program("""
        import trio.testing
        def work():
            loop = asyncio.new_event_loop()
            loop.run_until_complete(open_block("of a thread"))
            loop.close()

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()

        async def main():
            await open_block("another")

        asyncio.run(main())
        print("end")
    """) == ["left another", "end"]
