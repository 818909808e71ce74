"""The examples run as their README says."""

from __future__ import annotations

import contextlib
import logging
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
import trio

from tests.cli.demo import posix_only
from trionet import LogSink, serve_log_sink

EXAMPLES = Path(__file__).parents[2] / "examples"


@contextlib.asynccontextmanager
async def serving(name: str, first_words: str) -> AsyncIterator[str]:
    """An example as a process; gives the port that it prints."""
    process = await trio.lowlevel.open_process(
        [sys.executable, str(EXAMPLES / name), "0"], stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        line = b""
        while not line.endswith(b"\n"):
            data = await process.stdout.receive_some()
            assert data, "it has ended without printing its port"
            line += data
        assert line.decode().startswith(f"{first_words} on port ")
        yield line.split()[-1].decode()
    finally:
        with trio.CancelScope(shield=True):
            process.kill()
            await process.wait()
            await process.stdout.aclose()


def controller() -> AbstractAsyncContextManager[str]:
    """The first example."""
    return serving("01_controller.py", "serving")


async def run_example(name: str, *words: str) -> list[str]:
    done = await trio.run_process([sys.executable, str(EXAMPLES / name), *words], capture_stdout=True)
    return done.stdout.decode().splitlines()


def readme_output(command: str) -> list[str]:
    """What the README shows below a command."""
    lines = (EXAMPLES / "README.md").read_text(encoding="utf-8").splitlines()
    start = lines.index(f"$ {command}") + 1
    end = next(number for number in range(start, len(lines)) if lines[number][:1] in ("$", "`"))
    return lines[start:end]


async def test_client() -> None:
    async with controller() as port:
        assert await run_example("02_client.py", port) == readme_output("python examples/02_client.py")


async def test_timeouts() -> None:
    async with controller() as port:
        await run_example("02_client.py", port)
        assert await run_example("03_timeouts.py", port) == readme_output("python examples/03_timeouts.py")


async def test_the_command_line_of_the_tutorial() -> None:
    async with controller() as port:
        command = [sys.executable, "-m", "trionet.cli", "rpc", "localhost", port]
        listed = await trio.run_process([*command, "list-methods"], capture_stdout=True)
        shown = readme_output("trionet rpc localhost 3251 list-methods")
        assert listed.stdout.decode().splitlines() == shown
        await trio.run_process([*command, "call", "set_power", "12.5"])
        power = await trio.run_process([*command, "call", "get_power"], capture_stdout=True)
        assert power.stdout.decode().splitlines() == readme_output(
            "trionet rpc localhost 3251 call get_power"
        )


@pytest.mark.parametrize(
    "example",
    [
        "04_testing_a_controller.py",
        "10_a_lab_in_a_test.py",
        "11_every_crash_point.py",
        "15_an_outage_in_a_test.py",
    ],
)
async def test_tests(example: str) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"examples/{example}"]
    done = await trio.run_process(command, capture_stdout=True, check=False, cwd=EXAMPLES.parent)
    assert done.returncode == 0, done.stdout.decode()
    *dots, summary = done.stdout.decode().splitlines()
    *dots_shown, summary_shown = readme_output(f"pytest -q examples/{example}")
    assert dots == dots_shown
    assert summary.partition(" in ")[0] == summary_shown.partition(" in ")[0]


async def test_published_datasets() -> None:
    async with serving("05_datasets.py", "publishing") as port:
        shown = readme_output("python examples/06_monitor.py")
        assert await run_example("06_monitor.py", port) == shown
        command = [sys.executable, "-m", "trionet.cli", "watch", "localhost", port, "datasets", "points"]
        points = await trio.run_process([*command, "--once"], capture_stdout=True)
        assert points.stdout.decode().splitlines() == readme_output(
            "trionet watch localhost 3250 datasets points --once"
        )


async def test_logging() -> None:
    records: list[logging.LogRecord] = []
    async with trio.open_nursery() as nursery:
        sink: LogSink = await nursery.start(lambda **kw: serve_log_sink(0, emit=records.append, **kw))
        assert await run_example("07_logging.py", str(sink.port)) == []
        with trio.fail_after(30):
            while sink.statistics().records < 2:
                await trio.lowlevel.checkpoint()
        sink.cancel_scope.cancel()
    warning, error = records
    assert warning.getMessage() == "the interlock is open"
    assert (warning.name, warning.levelname, getattr(warning, "source", "")) == ("laser", "WARNING", "lab-pc")
    assert error.getMessage().startswith("switching off failed\nTraceback (most recent call last):\n")


async def test_rigs() -> None:
    async with serving("08_a_rig.py", "listening") as left, serving("08_a_rig.py", "listening") as right:
        done = await run_example("09_many_rigs.py", left, right)
    shown = readme_output("python examples/09_many_rigs.py")
    assert done == [line.replace(":11002)", f":{right})") for line in shown]


async def test_a_blocking_script() -> None:
    async with controller() as port:
        shown = readme_output("python examples/12_blocking_script.py")
        assert await run_example("12_blocking_script.py", port) == shown


async def test_an_asyncio_program() -> None:
    async with controller() as laser, serving("05_datasets.py", "publishing") as datasets:
        shown = readme_output("python examples/13_asyncio_program.py")
        assert await run_example("13_asyncio_program.py", laser, datasets) == shown


async def test_a_task_with_rigs() -> None:
    async with serving("08_a_rig.py", "listening") as left, serving("08_a_rig.py", "listening") as right:
        done = await run_example("14_a_task_with_rigs.py", left, right)
    printed = [line for line in done if line.startswith(("init:", "start:", "stop:"))]
    assert printed == readme_output("python examples/14_a_task_with_rigs.py")


async def test_objects_at_the_command_line() -> None:
    async with serving("16_objects.py", "serving") as port:
        command = [sys.executable, "-m", "trionet.cli", "objects", f"tcp://localhost:{port}"]
        listed = await trio.run_process([*command, "ls"], capture_stdout=True)
        shown = readme_output("trionet objects tcp://localhost:5555 ls")
        assert listed.stdout.decode().splitlines() == shown
        words = ["get", "interferometer.settings.samples"]
        samples = await trio.run_process([*command, *words], capture_stdout=True)
        assert samples.stdout.decode().splitlines() == readme_output(
            f"trionet objects tcp://localhost:5555 {' '.join(words)}"
        )


@posix_only
async def test_a_worker() -> None:
    async with serving("16_objects.py", "serving") as port:
        shown = readme_output("python examples/17_a_worker.py")
        done = await run_example("17_a_worker.py", port)
        assert done == [line.replace(":5555[", f":{port}[") for line in shown]


def test_every_example_is_in_the_readme() -> None:
    readme = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    for example in EXAMPLES.glob("[0-9]*.py"):
        assert f"({example.name})" in readme


@pytest.mark.parametrize("example", sorted(EXAMPLES.glob("[0-9]*.py")), ids=lambda path: path.name)
def test_examples_are_short(example: Path) -> None:
    assert len(example.read_text(encoding="utf-8").splitlines()) < 80
