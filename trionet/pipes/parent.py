"""The parent's end of the pipes, and the life of the child."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import IO, Any, Final, TypeAlias

import trio

from trionet._arguments import check_seconds
from trionet._tasks import open_background_tasks
from trionet.pipes._address import format_address, require_posix
from trionet.pipes._lines import PipeLines
from trionet.wire.errors import TrionetError
from trionet.wire.lines import MAX_MESSAGE_SIZE

#: Seconds that a child may take by default to notice the end and to finish: enough for a Python program that
#: has a device to switch off.
GRACE: Final = 5.0
_ADDRESS: Final = "{address}"
_LONGEST_COMMAND_SHOWN: Final = 100

Argument: TypeAlias = str | os.PathLike[str]
StandardStream: TypeAlias = int | IO[Any] | None


class ChildDied(TrionetError, ChildProcessError):
    """A child process failed or was killed while the block that had started it was running.

    Attributes:
        command: The program and its arguments.
        pid: The process id that it had.
        returncode: Its exit status, or the negative number of the signal that killed it.
    """

    def __init__(self, command: Sequence[str], pid: int, returncode: int) -> None:
        super().__init__(f"{_describe(command, pid)} {_describe_status(returncode)}")
        self.args = (command, pid, returncode)  # so that a copy or a pickle is built the same way
        self.command = tuple(command)
        self.pid = pid
        self.returncode = returncode


class PipedProcess(PipeLines):
    """A child process and the lines to and from it. Made by `open_piped_process`.

    One task may read while others write. Of lines that the child writes faster than they are read, a pipe
    takes some (64 KiB on Linux), then the child waits; and the other way round.

    Attributes:
        process: The process: ``pid``, ``returncode``, ``wait()``; and its ``stdin``, ``stdout``, ``stderr``
            where they were asked for with ``subprocess.PIPE``. Killing it ends the block with `ChildDied`.
    """

    def __init__(
        self,
        process: trio.Process,
        command: Sequence[str],
        descriptors: tuple[int, int],
        nursery: trio.Nursery,
        *,
        max_line_size: int,
        grace: float,
    ) -> None:
        super().__init__(*descriptors, _describe(command, process.pid), max_line_size)
        self.process = process
        self._command = command
        self._nursery = nursery
        self._grace = grace
        self._ended = trio.Event()
        self._outlives_pipe = False
        self._died: ChildDied | None = None

    async def _watch(self) -> None:
        """Wait until the process has ended, and let the block have its last lines."""
        status = await self.process.wait()
        lines_left = self._set_peer_gone()
        if status != 0:
            self._died = ChildDied(self._command, self.process.pid, status)
        self._ended.set()
        if self._died is not None:
            if lines_left:
                await trio.sleep(self._grace)  # or until they have been read, see _explain_end
            self._nursery.cancel_scope.cancel()
        await trio.sleep_forever()  # the pipes, and what else is open, belong to the block until it ends

    async def _explain_end(self) -> str:
        if not self._outlives_pipe:
            # The pipes of a process that dies are closed a moment before its status is known.
            with trio.move_on_after(self._grace):
                await self._ended.wait()
            self._outlives_pipe = not self._ended.is_set()
        if self._died is not None:
            self._nursery.cancel_scope.cancel()
            await trio.lowlevel.checkpoint()
            raise ChildDied(*self._died.args)  # here, in a task that is not part of the block
        returncode = self.process.returncode
        return "the process has closed the pipe" if returncode is None else _describe_status(returncode)

    async def _finish(self) -> None:
        """End the process, whatever it is doing. Takes up to twice the grace, and cannot be cancelled."""
        process = self.process
        with trio.CancelScope(shield=True):
            self._close()
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    await stream.aclose()
            with trio.move_on_after(self._grace):
                await process.wait()
            self._send_signal(signal.SIGTERM)
            with trio.move_on_after(self._grace):
                await process.wait()
            self._send_signal(signal.SIGKILL)
            await process.wait()
            self._ended.set()

    def _send_signal(self, number: signal.Signals) -> None:
        """To the process and its group: it may be a launcher."""
        if self.process.returncode is not None:
            return
        try:
            os.killpg(self.process.pid, number)
        except PermissionError:
            if self.process.returncode is None:  # macOS says so of one that has ended this moment, too
                raise


@contextlib.asynccontextmanager
async def open_piped_process(
    command: Sequence[Argument],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Argument | None = None,
    stdin: StandardStream = None,
    stdout: StandardStream = None,
    stderr: StandardStream = None,
    grace: float = GRACE,
    max_line_size: int = MAX_MESSAGE_SIZE,
) -> AsyncIterator[PipedProcess]:
    """Start a child process, with pipes for lines in both directions::

        async with open_piped_process([sys.executable, "worker.py", "{address}"]) as worker:
            await worker.write_line(pyon.encode(job).encode())
            result = pyon.decode((await worker.read_line()).decode())

    The child finds its ends with `open_parent_pipe` or `BlockingParentPipe`, or sipyco's ``ChildComm``.

    Args:
        command: The program and its arguments. In these, ``{address}`` is replaced by the address of the
            pipes, as often as it is there; other braces are left alone. That is also how programs written for
            sipyco get it.
        env: The environment; None for that of this process.
        cwd: The directory to start in; None for that of this process.
        stdin: Standard input, with the values of `subprocess.Popen`, as are the next two. They have nothing
            to do with the lines.
        stdout: Standard output.
        stderr: Standard error.
        grace: Seconds that the child may take to do what it should, see below.
        max_line_size: Longest line accepted, in bytes without its LF.

    Raises:
        ValueError: if the address is not in the command, or `grace` is below 0.
        OSError: if the program cannot be started: FileNotFoundError, PermissionError, ...
        ChildDied: if the child dies while the block runs, see below.
        NotImplementedError: on Windows.

    When the block ends, for whatever reason, the pipes are closed, which a child notices that reads. If it
    has not ended within ``grace``, SIGTERM asks it to; and after that time once more, SIGKILL ends it. The
    block waits for this even when it is cancelled. How the child ends by then is no error, but
    ``process.returncode`` tells. Signals go to the whole process group: to a launcher and to the program that
    it runs, which has to obey if the launcher does. The group is the child's own, so Ctrl-C in a terminal
    reaches this process only, whose business it is to end the child. Should this process be killed, the child
    can see the end of the lines.

    When the child ends before:

    - With status 0, the block goes on. The lines that it wrote can be read, then `read_line` raises
      `ConnectionLost` and ``async for`` ends; writing raises `ConnectionLost`.
    - With another status, or by a signal, the block is cancelled and `ChildDied` raised, at once if there are
      no lines left to be read. If there are, as when a program explains why it fails, they can be read until
      there is no next one, for ``grace`` at most. Writing ends the block in any case.

    What the child has started itself may keep the pipes open, that makes no difference. If the child closes
    them and runs on, it is given ``grace`` to end before they count as ended.

    Cancelled while it starts the child, it finishes that first; then the block is cancelled.
    """
    require_posix()
    if isinstance(command, str) or not any(_ADDRESS in os.fspath(part) for part in command):
        raise ValueError(f"no argument of the command contains {_ADDRESS!r}: {command!r}")
    check_seconds("grace", grace)
    options = {"env": env, "cwd": cwd, "stdin": stdin, "stdout": stdout, "stderr": stderr}
    watching = trio.CancelScope(shield=True)
    async with open_background_tasks() as nursery:
        try:
            yield await _start(command, options, nursery, watching, grace=grace, max_line_size=max_line_size)
        finally:
            watching.cancel()


@trio.lowlevel.enable_ki_protection
async def _supervise(child: PipedProcess, watching: trio.CancelScope) -> None:
    """Watch the child until the block has ended, which may take a while when it is cancelled; then end it."""
    with watching:
        await child._watch()
    await child._finish()
    if child._died is not None:
        raise child._died


# Ctrl-C is for the block. It finds no gap between a child that is started and a task that will end it.
@trio.lowlevel.enable_ki_protection
async def _start(
    command: Sequence[Argument],
    options: Mapping[str, Any],
    nursery: trio.Nursery,
    watching: trio.CancelScope,
    *,
    grace: float,
    max_line_size: int,
) -> PipedProcess:
    """Start the child and the task that will end it."""
    with contextlib.ExitStack() as theirs, contextlib.ExitStack() as ours:
        their_reader, our_writer = os.pipe()
        theirs.callback(os.close, their_reader)
        ours.callback(os.close, our_writer)
        our_reader, their_writer = os.pipe()
        theirs.callback(os.close, their_writer)
        ours.callback(os.close, our_reader)
        address = format_address(their_reader, their_writer)
        arguments = [os.fspath(part).replace(_ADDRESS, address) for part in command]
        process = await trio.lowlevel.open_process(
            arguments, pass_fds=(their_reader, their_writer), start_new_session=True, **options
        )
        ours.pop_all()
    child = PipedProcess(
        process, arguments, (our_reader, our_writer), nursery, max_line_size=max_line_size, grace=grace
    )
    nursery.start_soon(_supervise, child, watching)
    return child


def _describe(command: Sequence[str], pid: int) -> str:
    shown = shlex.join(command)
    if len(shown) > _LONGEST_COMMAND_SHOWN:
        shown = f"{shown[:_LONGEST_COMMAND_SHOWN]}..."
    return f"process {pid} ({shown})"


def _describe_status(returncode: int) -> str:
    if returncode >= 0:
        return f"ended with status {returncode}"
    try:
        return f"was killed by {signal.Signals(-returncode).name}"
    except ValueError:  # the real-time signals have no names
        return f"was killed by signal {-returncode}"
