"""Pipes to a child process: lines, and the child's end, by itself or not."""

from __future__ import annotations

import copy
import errno
import math
import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from tests.front.pipe_children import NUMBERED, ROOT, command
from tests.front.piped import nothing_stays, open_child
from tests.unmeasured import unmeasured_environment
from trionet.pipes.child import BlockingParentPipe
from trionet.pipes.parent import ChildDied, open_piped_process
from trionet.wire.errors import ConnectionLost, RemoteProtocolError

__all__ = ["nothing_stays"]

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="pipes need POSIX"),
    pytest.mark.usefixtures("nothing_stays"),
]

LARGE = bytes(range(11, 256)) * 4500  # 1.1 MB without LF, much more than a pipe holds


both_echoes = pytest.mark.parametrize("role", ["echo_blocking", "echo_trio"])


@both_echoes
async def test_lines_both_ways(role: str) -> None:
    async with open_child(role) as child:
        for line in (b"question", b"", b"\x00\xff\r", LARGE):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(child.write_line, line)
                assert await child.read_line() == line
        await child.send_eof()
        assert [line async for line in child] == []
        assert await child.process.wait() == 0


@pytest.mark.parametrize("role", ["numbers_blocking", "numbers_trio"])
async def test_many_lines_both_ways_at_once(role: str) -> None:
    async with open_child(role) as child, trio.open_nursery() as nursery:

        @nursery.start_soon
        async def write() -> None:
            for number in range(NUMBERED):
                await child.write_line(b"%d" % number)

        received = [line async for line in child]
        assert received == [b"%d" % number for number in range(NUMBERED)]
        assert await child.process.wait() == 0


async def test_lines_of_several_writers_stay_whole() -> None:
    lines = [bytes([letter]) * len(LARGE) for letter in b"abc"]
    async with open_child("cat") as child, trio.open_nursery() as nursery:
        for line in lines:
            nursery.start_soon(child.write_line, line)
        assert {await child.read_line() for _ in lines} == {*lines}


async def test_only_one_task_reads() -> None:
    async with open_child("cat") as child, trio.open_nursery() as nursery:
        nursery.start_soon(child.read_line)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError):
            await child.read_line()
        await child.write_line(b"for the first")


async def test_a_line_feed_in_a_line() -> None:
    async with open_child("cat") as child:
        with pytest.raises(ValueError, match="line feed"):
            await child.write_line(b"two\nlines")
        await child.write_line(b"one")
        assert await child.read_line() == b"one"


async def test_a_line_that_is_too_long() -> None:
    async with open_child("cat", max_line_size=10) as child:
        await child.write_line(b"1234567890")
        assert await child.read_line() == b"1234567890"
        await child.write_line(b"12345678901")
        for _ in range(2):
            with pytest.raises(RemoteProtocolError, match=r"10 are allowed.*cat"):
                await child.read_line()


@pytest.mark.parametrize("role", ["cat", "leave_grandchild"])
async def test_after_the_block(role: str) -> None:
    async with open_child(role, *(["0"] if role != "cat" else []), stdin=subprocess.PIPE) as child:
        if role != "cat":
            assert await child.read_line() == b"last"
            await child.process.wait()
    with pytest.raises(trio.ClosedResourceError):
        await child.read_line()
    with pytest.raises(trio.ClosedResourceError):
        await child.write_line(b"x")
    assert child.process.returncode == 0


async def test_standard_streams_are_closed_before_the_child_is_waited_for() -> None:
    options = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    async with open_child("read_standard_input", grace=math.inf, **options) as child:
        pass
    assert child.process.returncode == 0
    for stream in (child.process.stdin, child.process.stdout, child.process.stderr):
        assert isinstance(stream, trio.lowlevel.FdStream)
        assert stream.fileno() == -1


async def test_the_environment_and_the_directory(tmp_path: Path) -> None:
    program = (
        "import os, sys; w = int(sys.argv[1].split(',')[1]);"
        "os.write(w, (os.environ['ANSWER'] + os.getcwd() + sys.argv[2]).encode() + b'\\n')"
    )
    with trio.fail_after(60):
        async with open_piped_process(
            [Path(sys.executable), "-c", program, "{address}", "{}{a}"], env={"ANSWER": "42"}, cwd=tmp_path
        ) as child:
            assert (await child.read_line()).decode() == f"42{tmp_path}{{}}{{a}}"


# The child ends by itself.


async def test_status_0_is_an_end_of_the_lines() -> None:
    async with open_child("say_and_exit", "0", "one\ntwo\nhalf a li") as child:
        await child.process.wait()
        await trio.testing.wait_all_tasks_blocked()
        assert [line async for line in child] == [b"one", b"two"]
        for _ in range(2):
            with pytest.raises(ConnectionLost, match=r"status 0, in the middle of a line.*say_and_exit"):
                await child.read_line()
        with pytest.raises(ConnectionLost, match="status 0"):
            await child.write_line(b"anybody there?")


async def test_status_0_while_writing() -> None:
    async with open_child("say_and_exit", "0") as child:
        with pytest.raises(ConnectionLost, match="status 0"):
            await child.write_line(LARGE)
        with pytest.raises(ConnectionLost, match=r"not completed|status 0"):
            await child.write_line(b"more")


@pytest.mark.parametrize(
    ("status", "text"), [("3", "ended with status 3"), ("-9", "killed by SIGKILL"), ("-40", "by signal 40")]
)
async def test_death_while_waiting(status: str, text: str) -> None:
    with pytest.raises(ChildDied, match=rf"^process \d+ \(.*say_and_exit.*\) .*{text}$") as caught:
        async with open_child("say_and_exit", status, grace=math.inf) as child:
            await trio.sleep_forever()
    assert caught.value.returncode == int(status)
    assert caught.value.pid == child.process.pid
    assert caught.value.command[3:4] == ("say_and_exit",)
    for again in (copy.copy(caught.value), pickle.loads(pickle.dumps(caught.value))):
        assert (str(again), again.returncode) == (str(caught.value), int(status))


@pytest.mark.parametrize("noticed", [True, False])
async def test_last_words_are_read_before_death(noticed: bool) -> None:
    received = []
    with pytest.raises(ChildDied, match="status 3"):
        async with open_child("say_and_exit", "3", "one\ntwo\nhalf a li", grace=math.inf) as child:
            if noticed:
                await child.process.wait()
                await trio.testing.wait_all_tasks_blocked()
            async for line in child:
                received.append(line)  # noqa: PERF401 - as a comprehension, it would be lost
            received.append(b"reached")
    assert received == [b"one", b"two"]


async def test_last_words_that_nobody_reads() -> None:
    with pytest.raises(ChildDied, match="status 3"):
        async with open_child("say_and_exit", "3", "one\n", grace=0.01):
            await trio.sleep_forever()


async def test_last_words_that_are_too_long() -> None:
    with pytest.raises(BaseExceptionGroup) as caught:
        async with open_child("say_and_exit", "3", "too long\n", max_line_size=3) as child:
            await child.process.wait()
            await trio.testing.wait_all_tasks_blocked()
            await child.read_line()
    assert [type(error) for error in caught.value.exceptions] == [RemoteProtocolError, ChildDied]


async def test_death_while_reading_what_comes() -> None:
    with pytest.raises(ChildDied, match="SIGKILL"):
        async with open_child("stubborn", grace=math.inf) as child:
            assert await child.read_line() == b"ready"
            child.process.kill()
            await child.read_line()


async def test_death_while_writing() -> None:
    with pytest.raises(ChildDied, match="SIGKILL"):
        async with open_child("stubborn", grace=math.inf) as child:
            await child.read_line()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(child.write_line, LARGE)
                await trio.testing.wait_all_tasks_blocked()
                child.process.kill()


async def test_writing_ends_the_block_although_there_are_last_words() -> None:
    with pytest.raises(ChildDied, match="status 3"):
        async with open_child("say_and_exit", "3", "one\n", grace=math.inf) as child:
            await child.process.wait()
            await trio.testing.wait_all_tasks_blocked()
            await child.write_line(b"anybody there?")


async def test_death_seen_by_a_task_outside_the_block() -> None:
    async def read() -> None:
        with pytest.raises(ChildDied, match="SIGKILL"):
            await child.read_line()
        seen.append(True)

    seen: list[bool] = []
    async with trio.open_nursery() as nursery:
        with pytest.raises(ChildDied, match="SIGKILL"):
            async with open_child("stubborn") as child:
                await child.read_line()
                nursery.start_soon(read)
                await trio.testing.wait_all_tasks_blocked()
                child.process.kill()
                await trio.sleep_forever()
    assert seen == [True]


async def test_an_error_of_the_block_beside_the_death() -> None:
    with pytest.raises(ExceptionGroup) as caught:
        async with open_child("say_and_exit", "3"):
            try:
                await trio.sleep_forever()
            finally:
                raise KeyError("block")
    assert [type(error) for error in caught.value.exceptions] == [KeyError, ChildDied]


# A grandchild has the pipes open when the child is gone. It stays until standard input ends, with the block.


async def test_a_grandchild_and_status_0() -> None:
    async with open_child("leave_grandchild", "0", stdin=subprocess.PIPE) as child:
        assert [line async for line in child] == [b"last"]
        with pytest.raises(ConnectionLost, match="status 0"):
            await child.write_line(LARGE)


async def test_a_grandchild_while_writing() -> None:
    async with open_child("leave_grandchild", "0", stdin=subprocess.PIPE) as child:
        with pytest.raises(ConnectionLost, match="status 0"):
            await child.write_line(LARGE)


async def test_a_grandchild_and_death() -> None:
    with pytest.raises(ChildDied, match="status 3"):
        async with open_child("leave_grandchild", "3", stdin=subprocess.PIPE, grace=math.inf) as child:
            async for line in child:
                assert line == b"last"


async def test_the_child_closes_the_pipes_and_runs_on() -> None:
    async with open_child("close_and_stay", grace=0.2) as child:
        assert await child.read_line() == b"last"
        with pytest.raises(ConnectionLost, match="the process has closed the pipe"):
            await child.read_line()
        async with trio.open_nursery() as nursery:
            again = trio.Event()

            @nursery.start_soon
            async def read() -> None:
                assert [line async for line in child] == []
                again.set()

            await trio.testing.wait_all_tasks_blocked()
            assert again.is_set()  # it is not given the time once more
        with pytest.raises(ConnectionLost, match="the process has closed the pipe"):
            await child.write_line(b"x")
    # The latter on a busy machine, where it is not given the time to follow the former.
    assert child.process.returncode in (-signal.SIGTERM, -signal.SIGKILL)


# The block ends first.


async def test_the_child_ends_by_itself_at_the_end_of_the_lines() -> None:
    async with open_child("cat", grace=math.inf) as child:
        await child.write_line(b"not read")
    assert child.process.returncode == 0


async def test_a_child_that_ignores_the_end_is_terminated(
    mock_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    async def let_grace_pass() -> None:
        await trio.testing.wait_all_tasks_blocked()
        mock_clock.jump(1)

    async with open_child("close_and_stay", grace=1) as child:
        await child.read_line()
        nursery.start_soon(let_grace_pass)  # once: it has all the time then to end
    assert child.process.returncode == -signal.SIGTERM


async def test_a_child_that_ignores_everything_is_killed() -> None:
    async with open_child("stubborn", grace=0.05) as child:
        await child.read_line()
    assert child.process.returncode == -signal.SIGKILL


async def test_what_a_launcher_runs_is_terminated_with_it() -> None:
    async with open_child("launch", grace=0.2, stdout=subprocess.PIPE) as child:
        await child.read_line()
        stdout = child.process.stdout
        assert isinstance(stdout, trio.lowlevel.FdStream)
        end = os.dup(stdout.fileno())
    async with trio.lowlevel.FdStream(end) as stream:
        with trio.fail_after(30):
            assert await stream.receive_some() == b""  # nobody is left who could write


async def test_the_block_raises() -> None:
    with pytest.raises(KeyError, match="block"):
        async with open_child("stubborn", grace=0.05) as child:
            await child.read_line()
            raise KeyError("block")
    assert child.process.returncode == -signal.SIGKILL


async def test_the_block_is_cancelled() -> None:
    with trio.CancelScope() as scope:
        async with open_child("stubborn", grace=0.05) as child:
            await child.read_line()
            scope.cancel()
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert child.process.returncode == -signal.SIGKILL


async def test_a_cancelled_block_may_have_a_last_word() -> None:
    with trio.CancelScope() as scope:
        async with open_child("cat") as child:
            scope.cancel()
            try:
                await trio.sleep_forever()
            finally:
                with trio.CancelScope(shield=True):
                    await child.write_line(b"off")
                    answer = await child.read_line()
    assert scope.cancelled_caught
    assert answer == b"off"
    assert child.process.returncode == 0


# Starting.


async def test_no_such_program() -> None:
    for program in ("/nonexistent/program", str(ROOT)):
        with pytest.raises((FileNotFoundError, PermissionError), match=program):
            async with open_piped_process([program, "{address}"]):
                pytest.fail("started")


@pytest.mark.parametrize("grace", [-1.0, math.nan])
async def test_no_child_is_started_that_could_not_be_ended(grace: float) -> None:
    with pytest.raises(ValueError, match="grace must be at least 0 s"):
        async with open_piped_process(["sleep", "1", "{address}"], grace=grace):
            pass


@pytest.mark.parametrize("wrong", [["program", "address"], [], "program {address}"])
async def test_a_command_without_address(wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"contains '\{address\}'"):
        async with open_piped_process(wrong):
            pytest.fail("started")


async def test_no_descriptors_left(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[int, int]] = []
    original = os.pipe

    def pipe() -> tuple[int, int]:
        if made:
            raise OSError(errno.EMFILE, "too many")
        made.append(original())
        return made[0]

    monkeypatch.setattr(os, "pipe", pipe)
    with pytest.raises(OSError, match="too many"):
        async with open_piped_process(command("cat")):
            pytest.fail("started")


async def test_windows_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(NotImplementedError, match="POSIX"):
        BlockingParentPipe("5,8")
    with pytest.raises(NotImplementedError, match="POSIX"):
        async with open_piped_process(command("cat")):
            pytest.fail("started")


# The parent ends badly. These parents are programs of their own.


async def test_the_child_sees_that_its_parent_was_killed() -> None:
    with trio.fail_after(60):
        process = await trio.lowlevel.open_process(
            command("parent_of_witness"), cwd=ROOT, stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        async with process.stdout as stdout:
            assert await stdout.receive_some() == b"started\n"
            process.kill()
            await process.wait()
            assert b"".join([data async for data in stdout]) == b"b''\n"


@pytest.mark.parametrize("moment", ["starting", "block and ending", "ending"])
async def test_ctrl_c_does_not_keep_the_child_from_being_ended(moment: str) -> None:
    with trio.fail_after(60):
        done = await trio.run_process(
            command("interrupted_parent", moment), cwd=ROOT, env=unmeasured_environment(), capture_stdout=True
        )
    assert done.stdout == b"KeyboardInterrupt, and the child has ended\n"
