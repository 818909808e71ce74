"""Processes that host objects, for blocking code."""

from __future__ import annotations

import atexit
import json
import logging
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from typing import IO, Any, Final

import trio

from trionet.objects._bootstrap import BOOTSTRAP_TIMEOUT, StatusListener, open_status_listener
from trionet_compat.portal import Opened, current_portal
from trionet_compat.pyacq.core.rpc import log
from trionet_compat.pyacq.core.rpc.client import RPCClient

logger = logging.getLogger("pyacq.core.rpc.processspawner")

_BOOTSTRAP: Final = "trionet_compat.pyacq.core.rpc.bootstrap"
# How often a child that should say something is looked after, in seconds.
_POLL_INTERVAL: Final = 0.05


class ProcessSpawner:
    """Starts a Python process with an `RPCServer` in it: pyacq's `ProcessSpawner`::

        process = ProcessSpawner("camera")
        camera = process.client._import("mylab.cameras").Camera(0)
        ...
        process.stop()

    The process is stopped at the end of the program; one that is killed leaves its processes behind
    (`trionet.open_object_process` does not).

    Args:
        name: What to call it in log records.
        address: Where it serves.
        qt: Whether it runs Qt's event loop and a `QtRPCServer`.
        log_addr: Where its log records, and what it prints, are sent, as bytes; by default where this
            process sends or takes such. Without any, it prints where this process does.
        log_level: Of its root logger; by default that of the logger of this module.
        executable: The Python interpreter; by default that of this process.

    Attributes:
        client: This thread's client of it.
        address: Where it serves, as str.
        name: Its name.
        qt: Whether it runs Qt.
        proc: The process.
        logger, log_handler, stdout_poller, stderr_poller: What forwards its output, if that is forwarded.

    Raises:
        AssertionError: for arguments of wrong types.
        TimeoutError: if it says nothing for 10 seconds.
        RuntimeError: if it cannot serve, or ends.
        OSError: if the interpreter cannot be started.
    """

    def __init__(
        self,
        name: str | None = None,
        address: str = "tcp://127.0.0.1:*",
        qt: bool = False,
        log_addr: str | bytes | None = None,
        log_level: int | None = None,
        executable: str | None = None,
    ) -> None:
        assert isinstance(address, (str, bytes)), "address must be str or bytes"
        assert name is None or isinstance(name, str), "name must be str or None"
        assert log_addr is None or isinstance(log_addr, (str, bytes)), "log_addr must be str, bytes or None"
        assert log_level is None or isinstance(log_level, int), "log_level must be int or None"
        self.name = name
        self.qt = qt
        if log_addr is None:
            log_addr = log.get_logger_address()
        listening = current_portal().open(open_status_listener())
        try:
            settings = {
                "class_name": "QtRPCServer" if qt else "RPCServer",
                "args": {"address": _text(address)},
                "bootstrap_addr": listening.value.address,
                "loglevel": logger.getEffectiveLevel() if log_level is None else log_level,
                "logaddr": None if log_addr is None else _text(log_addr),
                "qt": qt,
            }
            self._start(executable or sys.executable, settings)
            if log_addr is not None:
                self._forward_output(log_addr)
            self.address = self._await_address(listening)
        finally:
            listening.close()
        self.client = RPCClient.get_client(self.address)
        atexit.register(self.stop)

    def _start(self, executable: str, settings: Mapping[str, Any]) -> None:
        output = None if settings["logaddr"] is None else subprocess.PIPE
        self.proc: subprocess.Popen[bytes] = subprocess.Popen(
            (executable, "-m", _BOOTSTRAP, *(() if self.name is None else (self.name,))),
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
        )
        assert self.proc.stdin is not None
        try:
            self.proc.stdin.write(json.dumps(settings).encode())
            self.proc.stdin.close()
        except BrokenPipeError:
            pass  # it has ended already: that is reported when its status is awaited

    def _forward_output(self, log_addr: str | bytes) -> None:
        assert self.proc.stdout is not None
        assert self.proc.stderr is not None
        self.logger = logging.getLogger(f"{logger.name}.{id(self)}")
        self.logger.propagate = False
        self.logger.setLevel(logging.INFO)
        self.log_handler = log.LogSender(log_addr, self.logger)
        name = self.name or f"process-{self.proc.pid}"
        self.stdout_poller = _OutputReader(self.proc.stdout, self.logger.info, f"[{name}.stdout] ")
        self.stderr_poller = _OutputReader(self.proc.stderr, self.logger.warning, f"[{name}.stderr] ")

    def _await_address(self, listening: Opened[StatusListener]) -> str:
        try:
            status = listening.call(_receive_status, listening.value, self.proc)
            if status is None:
                raise TimeoutError("Timed out waiting for response from spawned process.")
            if "address" not in status:
                lines = "".join(map(str, status.get("error", ["no address"])))
                raise RuntimeError(f"Error while spawning process:\n{lines}")
        except BaseException:
            self.kill()
            self.proc.wait()
            raise
        return str(status["address"])

    def wait(self, timeout: float | None = 10) -> int:
        """Wait until it has ended. Returns the exit status.

        Raises:
            TimeoutError: if that takes longer than so many seconds.
        """
        try:
            return self.proc.wait(timeout)
        except subprocess.TimeoutExpired:
            name = self.name or self.proc.pid
            raise TimeoutError(f"Timed out waiting on process exit for {name}") from None

    def poll(self) -> int | None:
        """The exit status; None while it runs."""
        return self.proc.poll()

    def kill(self) -> None:
        """End it at once."""
        if self.poll() is None:
            self.proc.kill()

    def stop(self) -> None:
        """Ask it to end, and wait for that.

        Raises:
            TimeoutError: if it is busy, or does not end in time.
        """
        atexit.unregister(self.stop)
        if self.poll() is None:
            RPCClient.get_client(self.address).close_server()
            self.wait()


class _OutputReader(threading.Thread):
    """Logs what a process prints, line by line, until it has ended."""

    def __init__(self, pipe: IO[bytes], log_line: Callable[[str], None], prefix: str) -> None:
        super().__init__(daemon=True)
        self._pipe = pipe
        self._log_line = log_line
        self._prefix = prefix
        self.start()

    def run(self) -> None:
        with self._pipe:
            for line in self._pipe:
                self._log_line(self._prefix + line.decode(errors="replace").rstrip("\r\n"))


async def _receive_status(
    listener: StatusListener, proc: subprocess.Popen[bytes]
) -> Mapping[str, Any] | None:
    """What a child says of itself, or what becomes of it. None if it says nothing in time."""
    with trio.move_on_after(BOOTSTRAP_TIMEOUT):
        while True:
            ended = proc.poll()
            with trio.move_on_after(_POLL_INTERVAL):
                return await listener.receive()
            if ended is not None:
                return {"error": [f"the process has ended with status {ended}, and said nothing"]}
    return None


def _text(address: str | bytes) -> str:
    return address.decode() if isinstance(address, bytes) else address
