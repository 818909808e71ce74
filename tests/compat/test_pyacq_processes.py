"""Processes with servers in them, started and ended by blocking code."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from trionet_compat.pyacq.core.rpc import ProcessSpawner, RPCClient, log, processspawner
from trionet_compat.pyacq.core.rpc.log import LogServer

pytestmark = pytest.mark.usefixtures("own_portal")


class Records(logging.Handler):
    """Keeps the records that come."""

    def __init__(self) -> None:
        super().__init__()
        self.come: list[Any] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.come.append(record)


@pytest.fixture
def log_server() -> Iterator[tuple[LogServer, Records]]:
    """A log server, and what has come."""
    records = Records()
    logger = logging.Logger("of the test")
    logger.addHandler(records)
    server = LogServer(logger)
    server.start()
    yield server, records
    server.close()
    server.join()


def test_a_process_from_its_beginning_to_its_end() -> None:
    process = ProcessSpawner("kid")
    assert process.client is RPCClient.get_client(process.address)
    assert (process.name, process.qt, process.poll()) == ("kid", False, None)
    assert process.client._import("os").getpid() == process.proc.pid
    assert process.client._import("sys").argv._get_value()[1:] == ["kid"]
    names = process.client._import("trionet_compat.pyacq.core.rpc.log")
    assert names.get_process_name() == "kid"
    threading = process.client._import("threading")
    assert threading.current_thread().name._get_value() == "MainThread"
    process.stop()
    assert process.poll() == process.wait() == 0
    process.stop()
    process.kill()


def test_a_process_that_is_killed() -> None:
    process = ProcessSpawner()
    with pytest.raises(TimeoutError, match=f"^Timed out waiting on process exit for {process.proc.pid}$"):
        process.wait(timeout=0.01)
    future = process.client._import("threading").Event().wait(_sync="async")
    process.kill()
    assert process.wait() != 0
    # As with upstream's, whose calls run into their timeouts; and as with servers that have ended.
    for kind in (TimeoutError, RuntimeError):
        with pytest.raises(kind):
            future.result()
        with pytest.raises(kind):
            process.client.ping()
    assert process.client.disconnected()
    process.stop()


def test_what_a_process_prints_and_logs_is_forwarded(log_server: tuple[LogServer, Records]) -> None:
    server, records = log_server
    process = ProcessSpawner("kid", log_addr=server.address, log_level=logging.INFO)
    streams = process.client._import("sys")
    streams.stdout.write("printed\n")
    streams.stdout.flush()
    streams.stderr.write("100 % wrong\n")
    streams.stderr.flush()
    process.client._import("logging").getLogger("of.it").info("logged %d", 3)
    process.stop()
    process.stdout_poller.join()
    process.stderr_poller.join()
    process.log_handler.close()
    shown = {"[kid.stdout] printed": "INFO", "[kid.stderr] 100 % wrong": "WARNING", "logged 3": "INFO"}
    while not shown.keys() <= {record.getMessage() for record in records.come}:
        server.join(0.01)
    found = {record.getMessage(): record for record in records.come}
    assert {text: found[text].levelname for text in shown} == shown
    logged = found["logged 3"]
    assert (logged.name, logged.process_name, logged.thread_name) == ("of.it", "kid", "MainThread")
    assert logged.host_name == log.get_host_name()


def test_what_goes_wrong_in_a_process() -> None:
    with pytest.raises(RuntimeError, match=r"^Error while spawning process:\nTraceback[\s\S]*is no address"):
        ProcessSpawner(address="nowhere")


@pytest.mark.skipif(sys.platform == "win32", reason="needs a script as the interpreter")
def test_a_process_that_ends_at_once(tmp_path: Any) -> None:
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\nexit 7\n")
    script.chmod(0o755)
    with pytest.raises(RuntimeError, match="ended with status 7"):
        ProcessSpawner(executable=str(script))


@pytest.mark.skipif(sys.platform == "win32", reason="needs a script as the interpreter")
def test_a_process_that_says_nothing(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "python"
    script.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\nexec sleep 1000\n")
    script.chmod(0o755)
    monkeypatch.setattr(processspawner, "BOOTSTRAP_TIMEOUT", 0.5)
    with pytest.raises(TimeoutError, match="Timed out waiting for response from spawned process"):
        ProcessSpawner(executable=str(script))
    if (tmp_path / "pid").exists():  # it may have been killed before that
        with pytest.raises(ProcessLookupError):
            os.kill(int((tmp_path / "pid").read_text()), 0)


def test_arguments_of_processes() -> None:
    for arguments in ({"name": 3}, {"address": 3}, {"log_addr": 3}, {"log_level": "INFO"}):
        with pytest.raises(AssertionError):
            ProcessSpawner(**arguments)
