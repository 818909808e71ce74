"""The rigs of the demo: who answers when, who has died, and that none is left behind."""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import trio

from tests.cli.commands import run_program
from tests.cli.demo import demo_until, is_running, posix_only
from trionet import (
    RemoteError,
    ServicesError,
    open_rig_communicator,
    open_rig_listener,
    open_rig_services,
)
from trionet.cli.demo import session
from trionet.cli.demo.narrator import Narrator, StepFailed
from trionet.cli.demo.processes import run_program as run_demo_program
from trionet.cli.demo.rig import INSTRUMENTS, Instrument, Recording
from trionet.cli.demo.session import Rig, Session, start_rigs

# What the demo prints of a rig: its process, its name, where it is.
RIGS = (
    rb"process (\d+) is the rig (cameras), at (tcp://\S+:\d+)\r?\n",
    rb"process (\d+) is the rig (ephys), at (udp://\S+:\d+)\r?\n",
)


async def test_what_the_demo_says_about_rigs() -> None:
    out = (await run_program("demo")).out
    after = dict(re.findall(r"   start: (\w+) answers after (\d+) ms: recording", out))
    assert sorted(after) == ["cameras", "ephys"]  # on a busy machine not in the order of their haste
    assert int(after["cameras"]) >= 500  # it sleeps as long
    killed = re.search(r"process (\d+), ephys, is killed\n", out)
    assert killed is not None
    assert f"process {killed[1]} is the rig ephys, at udp://" in out
    assert re.search(r"   stop raises ServicesError: 1 of 2 rigs failed: ephys: \S", out)
    frames = re.search(r"   stop: cameras answers after \d+ ms: (\d+ frames) recorded\n", out)
    assert frames is not None
    assert f"in it: {{'cameras': ['{frames[1]} recorded']}}\n" in out
    again = re.search(r"process (\d+) is ephys now; ready\(\) has waited", out)
    assert again is not None
    assert again[1] != killed[1]
    assert re.search(r"   cleanup: ephys answers after \d+ ms: 0 samples stored\n", out)
    assert re.search(rf"   cleanup: cameras answers after \d+ ms: {frames[1]} stored\n", out)


@posix_only
async def test_interrupted_it_leaves_no_rig() -> None:
    async with demo_until(*RIGS) as (process, rigs):
        process.send_signal(signal.SIGINT)
        assert await process.wait() == 130
        assert [is_running(int(rig[1])) for rig in rigs] == [False, False]


async def test_killed_it_leaves_no_rig() -> None:
    async with demo_until(*RIGS) as (process, rigs):
        process.kill()
        for rig in rigs:
            await until_gone(rig[3].decode())


async def until_gone(uri: str) -> None:
    """Talk to a rig until it does not answer: it notices that it was left, and ends."""
    with contextlib.suppress(OSError):
        async with open_rig_communicator(uri, echo_timeout=30) as rig:
            while True:
                await rig.status("CONNECTED")


async def test_a_rig_ends_with_its_standard_input() -> None:
    process = await trio.lowlevel.open_process(
        [sys.executable, "-m", "trionet.cli.demo.rig", "ephys"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    async with process.stdout:
        port = int(await process.stdout.receive_some())
        async with open_rig_communicator(f"udp://127.0.0.1:{port}", echo_timeout=30) as rig:
            await rig.status("CONNECTED")
            await process.stdin.aclose()
            assert await process.wait() == 0


# -- one rig -------------------------------------------------------------------------------------------

PIANO = Instrument("udp", "88 keys", "notes", 0.0)


@contextlib.asynccontextmanager
async def open_rigs(*instruments: Instrument, names: tuple[str, ...]) -> AsyncIterator[dict[str, str]]:
    """Rigs in this process; their URIs by name."""
    async with contextlib.AsyncExitStack() as stack:
        uris = {}
        for name, instrument in zip(names, instruments, strict=True):
            listener = open_rig_listener("udp://127.0.0.1:0", name=name, echo_timeout=30)
            rig = await stack.enter_async_context(listener)
            Recording(rig, instrument)
            uris[name] = f"udp://127.0.0.1:{rig.port}"
        yield uris


async def test_a_rig_answers() -> None:
    async with open_rigs(PIANO, names=("piano",)) as uris, open_rig_services(uris, echo_timeout=30) as rigs:
        assert await rigs.init() == {"piano": ["88 keys ready"]}
        assert await rigs.start("2026-01-31_1_mouse") == {"piano": ["recording 0.0 notes/s"]}
        assert await rigs.stop(immediately=True) == {"piano": ["0 notes recorded"]}
        assert await rigs.cleanup() == {"piano": ["0 notes stored"]}


async def test_a_rig_that_does_not_record_cannot_be_stopped() -> None:
    async with open_rigs(PIANO, names=("piano",)) as uris, open_rig_services(uris, echo_timeout=30) as rigs:
        with pytest.raises(ServicesError) as caught:
            await rigs.stop()
    reason = caught.value.failed["piano"]
    assert isinstance(reason, RemoteError)
    assert (reason.class_name, reason.message) == ("RuntimeError", "nothing is being recorded")


# -- what can fail -------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def open_session_with(uris: dict[str, str]) -> AsyncIterator[Session]:
    """A session with some rigs; the process that it will kill is none of theirs."""
    async with run_demo_program("trionet.cli.demo.laser") as program:
        rigs = {name: Rig(program, int(uri.rpartition(":")[2]), uri) for name, uri in uris.items()}
        async with session.open_session(Narrator(), rigs) as opened:
            yield opened


NAMES = ("cameras", "ephys")


async def test_a_rig_that_does_not_start(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(INSTRUMENTS, "piano", PIANO)  # here, but not in its process
    async with contextlib.AsyncExitStack() as lab:
        with pytest.raises(StepFailed, match="the rig piano does not start"):
            await start_rigs(Narrator(), lab)
    assert "KeyError: 'piano'" in capfd.readouterr().err


async def test_a_slow_rig_that_is_not_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(INSTRUMENTS, "cameras", replace(INSTRUMENTS["cameras"], start_time=1000.0))
    async with open_rigs(PIANO, PIANO, names=NAMES) as uris, open_session_with(uris) as opened:
        with pytest.raises(StepFailed, match=r"all rigs have started after \d+\.\d\d s already"):
            await opened.begin()


async def test_a_rig_that_answers_after_its_death() -> None:
    async with open_rigs(PIANO, PIANO, names=NAMES) as uris, open_session_with(uris) as opened:
        await opened._services.start(None)
        with pytest.raises(StepFailed, match="a dead rig has answered"):
            await opened.lose_one()


async def test_another_rig_that_fails_as_well() -> None:
    async with open_rigs(PIANO, PIANO, names=NAMES) as uris, open_session_with(uris) as opened:
        with pytest.raises(StepFailed, match="stop failed: 2 of 2 rigs failed"):
            await opened.lose_one()  # they have not been started


async def test_a_rig_that_does_not_start_again(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(session, "START_ATTEMPTS", 2)
    silent = trio.socket.socket(type=trio.socket.SOCK_DGRAM)
    with silent:
        await silent.bind(("127.0.0.1", 0))
        uris = {"ephys": f"udp://127.0.0.1:{silent.getsockname()[1]}"}
        async with contextlib.AsyncExitStack() as lab, open_session_with(uris) as opened:
            with pytest.raises(StepFailed, match="the rig ephys does not start again"):
                await opened.find_it_again(lab)
    assert capfd.readouterr().err.count("another program listens there") == 2


async def test_answers_are_told_only_while_they_are_awaited(capsys: pytest.CaptureFixture[str]) -> None:
    async with open_rigs(PIANO, names=("ephys",)) as uris, open_session_with(uris) as opened:
        await opened._ask("init", opened._services.init())
        assert re.fullmatch(r"   init: ephys answers after \d+ ms: 88 keys ready\n", capsys.readouterr().out)
        await opened._services.init()
        assert capsys.readouterr().out == ""
