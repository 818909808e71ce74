"""Processes that host objects."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
import trio.testing

import trionet
from trionet import ChildDied, ConnectionLost

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="pipes to child processes need POSIX")

# Prints the number of its child, when that has come as far as the test wants it.
PARENT = """
import logging, sys, trio, trionet

class Listener(logging.Handler):
    def emit(self, record):
        said.set()

async def main():
    global said
    said = trio.Event()
    logging.getLogger("trionet.objects.process").addHandler(Listener())
    async with trionet.open_object_process(allow_import=["builtins"], grace=0.2, log_level=20) as process:
        if sys.argv[1] == "hang":
            builtins = await process.client.import_module("builtins")
            builtins.exec("import signal; print('hanging'); signal.pause()").no_reply()
            await said.wait()
        print(process.pid, flush=True)
        await trio.sleep_forever()

logging.getLogger("trionet").setLevel(logging.INFO)
trio.run(main)
"""


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a process has said last is there in the end, however busy the machine."""
    monkeypatch.setattr("trionet.objects.process._OUTPUT_TIMEOUT", 30.0)


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where temporary folders are made. Its own path is short, as those of sockets have to be."""
    with tempfile.TemporaryDirectory(prefix="tn") as name:
        monkeypatch.setattr(tempfile, "tempdir", name)
        yield Path(name)


@pytest.fixture
def tidy_folder(folder: Path) -> Iterator[Path]:
    """The same; nothing must be left there."""
    yield folder
    assert not os.listdir(folder)


async def test_process_hosts_objects_and_its_words_are_logged(
    tidy_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    modules = ["os", "builtins", "sys", "logging"]
    async with trionet.open_object_process("worker", allow_import=modules, grace=30) as process:
        assert process.address.startswith(f"ipc://{tidy_folder}")
        os_module = await process.client.import_module("os")
        assert await os_module.getpid() == process.pid
        assert await os_module.getppid() == os.getpid()
        await (await process.client.import_module("builtins")).print("to stdout")
        await (await process.client.import_module("sys")).stderr.write("to stderr, without end")
        logger = await (await process.client.import_module("logging")).getLogger("lab.camera")
        await logger.warning("exposed %s s", 0.5)
        await logger.debug("not wanted")
        assert process.returncode is None
        many = "import logging\nfor n in range(2000): logging.getLogger('many').warning('record %d', n)"
        (await process.client.import_module("builtins")).exec(many).no_reply()
        await process.client.ping()
    assert process.returncode == 0
    said = {record.getMessage(): record for record in caplog.records}
    assert said["[worker.stdout] to stdout"].levelno == logging.INFO
    assert said["[worker.stderr] to stderr, without end"].levelno == logging.WARNING
    assert said["exposed 0.5 s"].name == "lab.camera"
    assert said["exposed 0.5 s"].processName == "worker"
    assert "not wanted" not in said
    assert "record 1999" in said


async def test_log_records_that_are_lost_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    """A method logs more than can wait, and nothing is sent meanwhile."""
    caplog.set_level(logging.WARNING)
    many = "import logging\nfor n in range(12_000): logging.getLogger('many').warning('%d', n)"
    async with trionet.open_object_process(allow_import=["builtins"], grace=30) as process:
        await (await process.client.import_module("builtins")).exec(many)
    report, *arrived = (record for record in caplog.records if record.processName != "MainProcess")
    first = 12_000 - len(arrived)
    assert report.name == "trionet.objects.process"
    assert report.getMessage() == f"{first} log records were lost here: there were more than 10000"
    assert [record.getMessage() for record in arrived] == [str(n) for n in range(first, 12_000)]


async def test_process_may_be_given_an_address() -> None:
    async with trionet.open_object_process(address="tcp://127.0.0.1:*", allow_import=["math"]) as process:
        assert process.name == f"process-{process.pid}"
        async with trionet.open_object_client(process.address) as client:
            assert await (await client.import_module("math")).sqrt(4) == 2


async def test_modules_are_several_names() -> None:
    """A text is several letters, which would be allowed instead."""
    with pytest.raises(TypeError, match="not the text 'numpy'"):
        async with trionet.open_object_process(allow_import="numpy"):
            raise AssertionError
    with pytest.raises(TypeError, match="not the text 'numpy'"):
        await trionet.serve_objects({}, allow_import="numpy")


async def test_death_is_told_to_all_who_wait_and_to_those_who_come(tidy_folder: Path) -> None:
    async with trionet.open_object_process("worker", allow_import=["time"], threads=True) as process:
        time_module = await process.client.import_module("time")
        calls = [time_module.sleep(1000).start() for _ in range(3)]
        await process.client.ping()
        process.kill()
        for call in calls:
            with pytest.raises(ConnectionLost, match=r"worker.*was killed by SIGKILL") as caught:
                await call
            assert isinstance(caught.value.__cause__, ChildDied)
        with pytest.raises(ConnectionLost, match="SIGKILL"):
            await time_module.time()
        assert await process.wait() == -signal.SIGKILL
    assert process.returncode == -signal.SIGKILL


async def test_process_that_cannot_serve_says_why(
    tidy_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(ChildDied, match="status 1"):
        async with trionet.open_object_process("worker", address="tcp://no.such.host.invalid:1"):
            pytest.fail("it cannot serve")
    assert "[worker.stderr]" in caplog.text
    assert "gaierror" in caplog.text


async def test_process_that_does_not_serve_in_time_is_ended(tidy_folder: Path) -> None:
    """That it is killed is no news to who has given it up."""
    interpreter = tidy_folder / "python"
    interpreter.write_text("#!/bin/sh\nexec sleep 1000\n")
    interpreter.chmod(0o700)
    try:
        with pytest.raises(TimeoutError, match=r"the process worker does not serve objects after 0\.01 s"):
            async with trionet.open_object_process(
                "worker", executable=str(interpreter), start_timeout=0.01, grace=0.01
            ):
                pytest.fail("it does not serve")
        with trio.move_on_after(0.01) as scope:
            async with trionet.open_object_process(executable=str(interpreter), grace=0.01):
                pytest.fail("it does not serve")
        assert scope.cancelled_caught
    finally:
        interpreter.unlink()


async def test_process_that_hangs_is_killed_after_its_grace(tidy_folder: Path) -> None:
    async with trionet.open_object_process(allow_import=["signal"], grace=0.1) as process:
        module = await process.client.import_module("signal")
        await module.signal(signal.SIGTERM, signal.SIG_IGN)
        module.pause().no_reply()
        with trio.move_on_after(0.0):
            await process.client.ping()
    assert process.returncode == -signal.SIGKILL


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="there is no other way to wait for a grandchild")
@pytest.mark.parametrize("mood", ["idle", "hang"])
async def test_process_ends_when_its_parent_is_killed(folder: Path, mood: str) -> None:
    env = {**os.environ, "TMPDIR": str(folder)}
    parent = await trio.lowlevel.open_process(
        [sys.executable, "-c", PARENT, mood], stdout=subprocess.PIPE, env=env
    )
    assert parent.stdout is not None
    with trio.fail_after(60):
        process = os.pidfd_open(int(await parent.stdout.receive_some()))
        parent.kill()
        await parent.wait()
        await trio.lowlevel.wait_readable(process)
    os.close(process)
    await parent.stdout.aclose()
    # One that is killed cannot tidy up.
    assert len(os.listdir(folder)) == (mood == "hang")
