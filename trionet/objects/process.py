"""Processes that host objects: started, connected to, listened to, and ended."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final, Unpack

import trio

from trionet._tasks import open_background_tasks
from trionet.objects._access import module_names
from trionet.objects.client import ObjectClient, ObjectClientOptions, connection_of, open_object_client
from trionet.objects.server import ObjectServer
from trionet.pipes.parent import GRACE, Argument, ChildDied, PipedProcess, open_piped_process

logger = logging.getLogger("trionet.objects.process")

#: Seconds that a new process may take by default until it serves objects.
START_TIMEOUT: Final = 30.0

_PIPE: Final = subprocess.PIPE

# The child sees the modules that this process sees, wherever it has them from.
_PROGRAM: Final = (
    "import json, sys; sys.path[:] = json.loads(sys.argv.pop(1)); "
    "from trionet.objects._child import main; main(sys.argv.pop(1))"
)
# A line that does not end is logged in pieces of this size.
_LONGEST_OUTPUT: Final = 1 << 16
# Seconds for the last lines of a process that has ended. What it has started may keep its outputs open.
_OUTPUT_TIMEOUT: Final = 1.0


class ObjectProcess:
    """A process that hosts objects. Made by `open_object_process`.

    Attributes:
        name: Its name in the log.
        address: Where it serves objects.
        pid: Its process id.
        client: A client of it.
    """

    client: ObjectClient

    def __init__(self, name: str, process: trio.Process, command: Sequence[str], grace: float) -> None:
        self.name = name
        self.address = ""
        self.pid = process.pid
        self._process = process
        self._command = command
        self._grace = grace

    @property
    def returncode(self) -> int | None:
        """Its exit status, or the negative number of the signal that killed it; None while it runs."""
        return self._process.returncode

    async def wait(self) -> int:
        """Wait until it has ended. Returns the exit status."""
        return await self._process.wait()

    def kill(self) -> None:
        """End it at once. Calls that wait raise `ConnectionLost`, and so do later ones."""
        self._process.kill()

    async def _explain_loss(self) -> BaseException | None:
        """Why the connection is lost: because the process has died?"""
        with trio.move_on_after(self._grace):
            status = await self._process.wait()
            return ChildDied(self._command, self.pid, status)
        return None


@contextlib.asynccontextmanager
async def open_object_process(
    name: str | None = None,
    *,
    address: str | None = None,
    allow_import: Sequence[str] = (),
    allow_private: bool = False,
    allow_set_item: bool = False,
    unrestricted: bool = False,
    threads: bool = False,
    executable: Argument = sys.executable,
    log_level: int | None = None,
    grace: float = GRACE,
    start_timeout: float = START_TIMEOUT,
    server: ObjectServer | None = None,
    **options: Unpack[ObjectClientOptions],
) -> AsyncIterator[ObjectProcess]:
    """Start a Python process that hosts objects, and connect to it::

        async with open_object_process("camera", allow_import=["mylab.cameras"]) as process:
            cameras = await process.client.import_module("mylab.cameras")
            camera = await cameras.Camera(0)
            frame = await camera.read()

    It finds the modules that this process finds. What it prints is logged by the logger
    ``trionet.objects.process``, line by line, as information, or as warnings if it is standard error; what it
    logs is logged here by the loggers of the same names, with its name as ``processName``. Of more than
    10,000 records that wait to be sent the oldest are lost, and counted in a record of their own.

    Args:
        name: What to call it; by default ``process-`` and its number.
        address: Where it serves, see `serve_objects`. By default at a Unix socket in a folder that only this
            user can enter, where there are such; elsewhere at any port of this machine.
        allow_import: This and the following ones are those of `serve_objects`. Without it, there is nothing
            to begin with.
        allow_private: See there.
        allow_set_item: See there.
        unrestricted: See there.
        threads: Whether methods that are not asynchronous are executed in threads, several at a time.
        executable: The Python interpreter.
        log_level: Of the root logger of the process; by default that of this process.
        grace: Seconds that it may take to finish when it is to end.
        start_timeout: Seconds until it must be serving.
        server: See `open_object_client`, as for the options.
        **options: Those of `open_object_client`.

    Raises:
        OSError: if the interpreter cannot be started.
        ChildDied: if the process dies while it starts: the log has what it printed.
        TimeoutError: if it does not serve in time.
        TypeError: if `allow_import` is one name, and not several.
        NotImplementedError: on Windows.

    When it dies, calls that wait for it raise `ConnectionLost`, with `ChildDied` as their cause, and so do
    later ones; the block goes on.

    When the block ends, it is told to finish what it does, and to end. After ``grace`` SIGTERM asks it to,
    and after that time once more SIGKILL ends it. It ends in the same way when this process is killed: by
    itself, after ``grace`` at the latest, whatever it is doing.
    """
    modules = module_names(allow_import)
    level = logging.getLogger().getEffectiveLevel() if log_level is None else log_level
    with contextlib.ExitStack() as stack:
        folder = None
        if address is None:
            folder = tempfile.mkdtemp(prefix="trionet-")
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
        settings = {
            "address": f"ipc://{folder}/objects" if address is None else address,
            "allow_import": sorted(modules),
            "allow_private": allow_private,
            "allow_set_item": allow_set_item,
            "unrestricted": unrestricted,
            "sync_methods": "thread" if threads else "inline",
            "log_level": level,
            "grace": grace,
            "folder": folder,
        }
        async with open_background_tasks() as nursery:
            process = await _start(nursery, name, executable, settings, grace, start_timeout)
            async with open_object_client(process.address, server=server, **options) as client:
                connection_of(client).explain = process._explain_loss
                process.client = client
                yield process


async def _start(
    nursery: trio.Nursery,
    name: str | None,
    executable: Argument,
    settings: dict[str, Any],
    grace: float,
    seconds: float,
) -> ObjectProcess:
    with trio.move_on_after(seconds):
        process: ObjectProcess = await nursery.start(_run, name, executable, settings, grace)
        return process
    called = f"process {name}" if name else "process"
    raise TimeoutError(f"the {called} does not serve objects after {seconds} s")


@trio.lowlevel.enable_ki_protection  # Ctrl-C is for the program, not for tasks that it does not see
async def _run(
    name: str | None,
    executable: Argument,
    settings: dict[str, Any],
    grace: float,
    task_status: trio.TaskStatus[ObjectProcess],
) -> None:
    """Start the process, listen to it as long as it lives, and end it when cancelled."""
    command = [executable, "-c", _PROGRAM, json.dumps(sys.path), "{address}", *([name] if name else [])]
    shown = [os.fspath(executable), *([name] if name else [])]
    process: ObjectProcess | None = None
    try:
        async with open_piped_process(command, grace=grace, stdin=_PIPE, stdout=_PIPE, stderr=_PIPE) as child:
            process = ObjectProcess(name or f"process-{child.process.pid}", child.process, shown, grace)
            await child.write_line(json.dumps(settings).encode())
            async with _listening(child, process, task_status):
                await child.process.wait()
    except ChildDied as error:
        if process is None or not process.address:  # it could not start
            await trio.lowlevel.checkpoint_if_cancelled()  # or it was not to
            raise ChildDied(shown, error.pid, error.returncode) from None
    assert process is not None
    if not process.address:
        raise ChildDied(shown, process.pid, process.returncode or 0)


@contextlib.asynccontextmanager
async def _listening(
    child: PipedProcess, process: ObjectProcess, task_status: trio.TaskStatus[ObjectProcess]
) -> AsyncIterator[None]:
    """Take what a process says, to its last line. At the end of the block it is ended."""
    scope = trio.CancelScope(shield=True)
    at_end = trio.Event()

    @trio.lowlevel.enable_ki_protection
    async def listen() -> None:
        assert child.process.stdout is not None
        assert child.process.stderr is not None
        with scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_read_lines, child, process, task_status)
                nursery.start_soon(_log_output, child.process.stdout, process.name, "stdout", logging.INFO)
                nursery.start_soon(_log_output, child.process.stderr, process.name, "stderr", logging.WARNING)
            at_end.set()

    async with open_background_tasks() as nursery:
        nursery.start_soon(listen)
        try:
            yield
        finally:
            with trio.CancelScope(shield=True):
                await _end(child, process._grace)
                with trio.move_on_after(_OUTPUT_TIMEOUT):
                    await at_end.wait()
            scope.cancel()


@trio.lowlevel.enable_ki_protection
async def _read_lines(
    child: PipedProcess, process: ObjectProcess, task_status: trio.TaskStatus[ObjectProcess]
) -> None:
    """Take what the process tells this one: where it serves, and what it logs."""
    with contextlib.suppress(ChildDied):
        async for line in child:
            message = json.loads(line)
            if "record" in message:
                _log_record(message["record"], process.name)
            else:
                process.address = message["address"]
                task_status.started(process)


async def _end(child: PipedProcess, grace: float) -> None:
    """Have a process end, in a friendly way as long as that helps."""
    process = child.process
    assert process.stdin is not None
    await child.send_eof()
    await process.stdin.aclose()
    for number in (signal.SIGTERM, signal.SIGKILL):
        with trio.move_on_after(grace):
            await process.wait()
            return
        child._send_signal(number)
    await process.wait()


@trio.lowlevel.enable_ki_protection
async def _log_output(stream: trio.abc.ReceiveStream, name: str, kind: str, level: int) -> None:
    """Log what a process prints, line by line."""
    rest = b""
    async for data in stream:
        *lines, rest = (rest + data).split(b"\n")
        if len(rest) > _LONGEST_OUTPUT:
            lines, rest = [*lines, rest], b""
        for line in lines:
            _log_line(line, name, kind, level)
    if rest:
        _log_line(rest, name, kind, level)


def _log_line(line: bytes, name: str, kind: str, level: int) -> None:
    logger.log(level, "[%s.%s] %s", name, kind, line.decode(errors="replace").rstrip("\r"))


def _log_record(packed: dict[str, Any], name: str) -> None:
    """Log what a process has logged."""
    record = logging.makeLogRecord({**packed, "processName": name})
    target = logging.getLogger(record.name)
    if target.isEnabledFor(record.levelno):
        target.handle(record)
