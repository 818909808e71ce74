"""``trionet rig send`` and ``listen``."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.cli.commands import Commands, Outcome, Running, run_program, running_program
from tests.cli.feeds import HOST, closed_port
from tests.cli.test_rpc_command import identities
from trionet import ExpMessage, RigCommunicator, RigEvent, open_rig_communicator, open_rig_listener
from trionet.cli.arguments import ArgumentError
from trionet.cli.rig.messages import json_text, message_text, parse_items

TIME = r"\d\d\d\d-\d\d-\d\d \d\d:\d\d:\d\d\.\d\d\d"
LISTENING = "trionet: listening at "


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """An echo that is not missed on purpose may take its time."""
    monkeypatch.setattr("trionet.cli.rig.sending._ECHO_TIMEOUT", 30.0)
    monkeypatch.setattr("trionet.cli.rig.sending._ANSWER_TIMEOUT", 30.0)


@contextlib.asynccontextmanager
async def listening(*words: object, uri: str = f"udp://{HOST}:0") -> AsyncIterator[tuple[Running, str]]:
    """The command, and where it says that it listens."""
    async with running_program("rig", "listen", uri, *words) as listen:
        line = await listen.read_line("err")
        assert line.startswith(LISTENING)
        yield listen, line.removeprefix(LISTENING)


async def shown(listen: Running) -> str:
    """Event and data of the next message that it prints."""
    line = await listen.read_line()
    found = re.fullmatch(rf"{TIME} {re.escape(HOST)}:\d+ (.*)", line)
    assert found is not None, line
    return found[1]


# -- send ----------------------------------------------------------------------------------------------


def confirmed(uri: str, event: str) -> str:
    return f"trionet: {uri} has confirmed {event}\n"


@pytest.mark.parametrize(
    ("words", "event", "data"),
    [
        (["EXPINIT"], "EXPINIT", [None]),
        (["init", "{'a': (1, True)}"], "EXPINIT", [{"a": [1, True]}]),
        (["init", '{"a": [1, true, null]}'], "EXPINIT", [{"a": [1, True, None]}]),
        (["start"], "EXPSTART", [None, None]),
        (["start", "2025-03-14_1_mouse7", "-1.5"], "EXPSTART", ["2025-03-14_1_mouse7", -1.5]),
        (["start", '"of my own"'], "EXPSTART", ["of my own", None]),
        (
            ["start", "{'date': '2025-03-14', 'sequence': '001', 'subject': 'mouse7'}"],
            "EXPSTART",
            ["2025-03-14_1_mouse7", None],
        ),
        (["End", "'now'"], "EXPEND", ["now"]),
        (["cleanup"], "EXPCLEANUP", [None]),
        (["interrupt", "null"], "EXPINTERRUPT", [None]),
        (["status", "running"], "EXPSTATUS", [20]),
        (["status", "30"], "EXPSTATUS", [30]),
        (["expinfo", "STOPPED"], "EXPINFO", [30, None]),
        (["info", "INITIALIZED", "[1]"], "EXPINFO", [10, [1]]),
        (["alyx"], "ALYX", [None, {}]),
        (["alyx", "https://alyx.lab.org", "{'me': 't'}"], "ALYX", ["https://alyx.lab.org", {"me": "t"}]),
    ],
)
async def test_messages(commands: Commands, words: list[str], event: str, data: list[Any]) -> None:
    async with open_rig_listener(f"udp://{HOST}:0", echo_timeout=30) as rig:
        with rig.open_events() as events:
            done = await commands.run("rig", "send", f"{HOST}:{rig.port}", *words)
            told = await events.receive()
    assert done == Outcome(0, "", confirmed(f"udp://{HOST}:{rig.port}", event))
    assert (told.event.name, told.data) == (event, data)


def answer_with(rig: RigCommunicator, *data: Any) -> None:
    """Have each message answered."""

    async def answer(event: RigEvent) -> None:
        await rig.respond(event, *data)

    rig.assign_callback(ExpMessage.any(), answer)


@pytest.mark.parametrize("scheme", ["udp", "tcp"])
async def test_the_answer_is_printed(commands: Commands, scheme: str) -> None:
    async with open_rig_listener(f"{scheme}://{HOST}:0", echo_timeout=30) as rig:
        answer_with(rig, 20, {"text": "für\x7f\u202e", "list": [None, True, 1.5]})
        done = await commands.run("rig", "send", f"{scheme}://{HOST}:{rig.port}", "--wait", "info", "RUNNING")
    assert (done.status, done.err) == (0, confirmed(f"{scheme}://{HOST}:{rig.port}", "EXPINFO"))
    assert done.out == '20\n{"text": "für\\u007f\\u202e", "list": [null, true, 1.5]}\n'


async def test_a_message_of_another_event_is_no_answer(commands: Commands) -> None:
    async def answer(event: RigEvent) -> None:
        await rig.status("INITIALIZED", address=event.address)
        await rig.respond(event, "ready")

    async with open_rig_listener(f"udp://{HOST}:0", echo_timeout=30) as rig:
        rig.assign_callback("EXPINIT", answer)
        done = await commands.run("rig", "send", f"{HOST}:{rig.port}", "init", "--wait")
    assert (done.status, done.out) == (0, '"ready"\n')


async def test_a_rig_that_fails(commands: Commands) -> None:
    def fail(event: RigEvent) -> None:
        raise ValueError("no\ncamera")

    async with open_rig_listener(f"udp://{HOST}:0", echo_timeout=30) as rig:
        rig.assign_callback("EXPINIT", fail)
        done = await commands.run("rig", "send", f"{HOST}:{rig.port}", "init", "--wait")
    assert (done.status, done.out) == (1, "")
    uri = f"udp://{HOST}:{rig.port}"
    # the others are what the rig and the command have logged, the report possibly before the echo
    assert done.err.endswith(f"\ntrionet: error: {uri} has failed to handle EXPINIT: ValueError: no camera\n")
    assert confirmed(uri, "EXPINIT") in done.err


async def test_a_rig_that_does_not_answer(commands: Commands) -> None:
    async with open_rig_listener(f"udp://{HOST}:0", echo_timeout=30) as rig:
        done = await commands.run("rig", "send", f"{HOST}:{rig.port}", "init", "--wait", "--timeout", "0.1")
    uri = f"udp://{HOST}:{rig.port}"
    assert (done.status, done.out) == (1, "")
    assert done.err == (
        confirmed(uri, "EXPINIT") + f"trionet: error: {uri} has not answered EXPINIT within 0.1 s\n"
    )


async def test_attempts(commands: Commands) -> None:
    """Each is sent after the time for its echo, and the last one is the error."""
    with trio.socket.socket(type=trio.socket.SOCK_DGRAM) as silent:
        await silent.bind((HOST, 0))
        uri = f"udp://{HOST}:{silent.getsockname()[1]}"
        words = ["--attempts", "3", "--echo-timeout", "0.05"]
        done = await commands.run("rig", "send", uri, "init", "'x'", *words)
        assert [await silent.recv(100) for _ in range(3)] == 3 * [b'[1, "x"]']
    assert (done.status, done.out, done.err.count("\n")) == (1, "", 1)
    assert done.err.startswith("trionet: error: ")
    assert "within 0.05 s" in done.err
    assert done.err.endswith(f"; see trionet rig doctor {uri}\n")


async def test_refused(commands: Commands) -> None:
    with closed_port() as holder:
        uri = f"tcp://{HOST}:{holder.getsockname()[1]}"
        done = await commands.run("rig", "send", uri, "init")
    assert (done.status, done.out, done.err.count("\n")) == (1, "", 1)
    assert done.err.endswith(f"; see trionet rig doctor {uri}\n")


async def test_a_message_that_is_too_long(commands: Commands) -> None:
    done = await commands.run("rig", "send", f"{HOST}:9", "init", repr("x" * 65_507))
    assert (done.status, done.out, done.err.count("\n")) == (1, "", 1)
    assert "65507 at most" in done.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "required: ACTION (see trionet rig --help)"),
        (["send", HOST], "required: EVENT (see trionet rig send --help)"),
        (["send", HOST, "begin"], "'begin' is no event; there are EXPINIT, EXPSTART"),
        (["send", "a:b", "init"], "'b' in 'a:b' is no port"),
        (["send", HOST, "init", "hello"], "DATA: hello is no value; text needs quotes"),
        (
            ["send", HOST, "init", "{1, 2}"],
            "DATA: rigs talk JSON, which cannot carry that: Object of type set",
        ),
        (["send", HOST, "init", "1", "2"], "EXPINIT takes DATA, and nothing else"),
        (["send", HOST, "start", "1", "2", "3"], "EXPSTART takes REFERENCE and DATA, and nothing else"),
        (["send", HOST, "start", "mouse"], "REFERENCE: mouse is no value"),
        (["send", HOST, "status"], "EXPSTATUS needs a status: CONNECTED, INITIALIZED"),
        (["send", HOST, "info", "LOST"], "'LOST' is no status; there are CONNECTED"),
        (["send", HOST, "status", "5"], "'5' is no status"),
        (["send", HOST, "init", "--attempts", "0"], "'0' is no number greater than 0"),
        (
            ["send", HOST, "init", "--tls", "a", "b", "c"],
            "--tls is for wss://, not for udp://127.0.0.1:11001",
        ),
        (["listen"], "required: URI"),
        (["listen", "wss://a"], "wss://a:11001 needs --tls; tcp:// goes without"),
        (
            ["listen", HOST, "--tls", "a", "b", "c"],
            "udp://127.0.0.1:11001 goes without --tls, wss:// needs it",
        ),
        (["listen", HOST, "--events", "init,x"], "'x' is no event"),
        (["listen", HOST, "--respond", "x"], "--respond: x is no value"),
    ],
)
async def test_usage(commands: Commands, words: list[str], message: str) -> None:
    done = await commands.run("rig", *words)
    assert (done.status, done.out, done.err.count("\n")) == (2, "", 1)
    assert message in done.err


async def test_a_reference_that_lacks_something(commands: Commands) -> None:
    done = await commands.run("rig", "send", f"{HOST}:9", "start", "{'date': 1}")
    message = "trionet: error: the experiment reference lacks sequence, subject\n"
    assert done == Outcome(1, "", message)


# -- listen --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["udp", "tcp"])
async def test_each_message_is_a_line(scheme: str) -> None:
    async with listening(uri=f"{scheme}://{HOST}:0") as (listen, uri):
        assert re.fullmatch(rf"{scheme}://{re.escape(HOST)}:[1-9]\d*", uri)
        async with open_rig_communicator(uri, echo_timeout=30) as rig:
            await rig.init({"text": "\x1b[31m\n"})
            await rig.start("2025-03-14_1_mouse7", [1.5, None])
            await rig.stop(immediately=True)
            await rig.status("RUNNING")
            await rig.info("STOPPED", True)
            await rig.confirmed_send([ExpMessage.EXPSTATUS, 99])
            await rig.confirmed_send([ExpMessage.ALYX, "https://alyx.lab.org", {"me": "secret"}])
            await rig.send([0, "ValueError: no\ncamera", 1])
            assert [await shown(listen) for _ in range(8)] == [
                'EXPINIT {"text": "\\u001b[31m\\n"}',
                'EXPSTART "2025-03-14_1_mouse7" [1.5, null]',
                "EXPINTERRUPT null",
                "EXPSTATUS RUNNING",
                "EXPINFO STOPPED true",
                "EXPSTATUS 99",
                'ALYX "https://alyx.lab.org" {"me": "***"}',
                '(error) EXPINIT: "ValueError: no\\ncamera"',
            ]


async def test_some_events_only() -> None:
    async with listening("--events", "start,EXPEND", "--respond", "[1]") as (listen, uri):
        async with open_rig_communicator(uri, echo_timeout=30) as rig:
            with rig.open_events() as events:
                await rig.init()
                await rig.send([0, "text", 1])
                await rig.stop()
                assert await shown(listen) == "EXPEND null"
                answer = await events.receive()
                assert (answer.event, answer.data) == (ExpMessage.EXPEND, [[1]])


async def test_what_send_sends_is_answered_and_shown(commands: Commands) -> None:
    async with listening("--respond", "{'ready': True}") as (listen, uri):
        for words in (["init"], ["start", "2025-03-14_1_mouse7"], ["cleanup", "-1"]):
            done = await commands.run("rig", "send", uri, *words, "--wait")
            assert (done.status, done.out) == (0, '{"ready": true}\n')
        assert [await shown(listen) for _ in range(3)] == [
            "EXPINIT null",
            'EXPSTART "2025-03-14_1_mouse7" null',
            "EXPCLEANUP -1",
        ]


async def test_tokens_and_reports_are_not_answered() -> None:
    async with listening("--respond", "1", "--events", "alyx") as (listen, uri):
        with trio.socket.socket(type=trio.socket.SOCK_DGRAM) as sock:
            host, _, port = uri.removeprefix("udp://").rpartition(":")
            await sock.connect((host, int(port)))
            await sock.send(b'[0, "text", 1]')
            for message in (b"[128, null, {}]", b"[128, 1, {}]", b"[128, 2, {}]"):
                await sock.send(message)
                assert await sock.recv(100) == message
            await sock.send(b"nonsense")
            assert "has failed" in await listen.read_line("err")  # what was reported, and nothing else
            assert "no message" in await listen.read_line("err")
        assert [await shown(listen) for _ in range(3)] == ["ALYX null {}", "ALYX 1 {}", "ALYX 2 {}"]


async def test_who_does_not_confirm_an_answer_harms_nobody() -> None:
    async with listening("--respond", "1") as (listen, uri):
        with trio.socket.socket(type=trio.socket.SOCK_DGRAM) as sock:
            host, _, port = uri.removeprefix("udp://").rpartition(":")
            await sock.connect((host, int(port)))
            await sock.send(b"[1, null]")
            assert await sock.recv(100) == b"[1, null]"
            assert json.loads(await sock.recv(100)) == [1, 1]
            assert (await listen.read_line("err")).startswith(f"trionet: no answer to EXPINIT from {HOST}:")
            await sock.send(b"nonsense")
            assert "no message" in await listen.read_line("err")
        async with open_rig_communicator(uri, echo_timeout=30) as rig:
            await rig.stop()
        assert [await shown(listen), await shown(listen)] == ["EXPINIT null", "EXPEND null"]


async def test_send_and_listen_over_tls(tmp_path: Path) -> None:
    ours, theirs = identities(tmp_path)
    tls = ["--tls", ours.cert, ours.key, ours.peer_cert]
    async with listening("--respond", "2", *tls, uri=f"wss://{HOST}:0") as (listen, uri):
        assert uri.startswith("wss://")
        tls = ["--tls", theirs.cert, theirs.key, theirs.peer_cert]
        done = await run_program("rig", "send", uri, "init", "1", "--wait", "--echo-timeout", 30, *tls)
        assert (done.status, done.out) == (0, "2\n")
        assert await shown(listen) == "EXPINIT 1"


@pytest.mark.parametrize("scheme", ["udp", "tcp"])
async def test_a_port_that_is_taken(commands: Commands, scheme: str) -> None:
    async with open_rig_listener(f"{scheme}://{HOST}:0", echo_timeout=30) as rig:
        done = await commands.run("rig", "listen", f"{scheme}://{HOST}:{rig.port}")
    assert (done.status, done.out, done.err.count("\n")) == (1, "", 1)
    assert f"{HOST}:{rig.port}" in done.err


@pytest.mark.skipif(sys.platform == "win32", reason="signals, and pipes that report their reader's end")
async def test_ctrl_c_and_a_reader_that_leaves() -> None:
    async with listening() as (listen, _):
        listen.process.send_signal(signal.SIGINT)
        assert (await listen.process.wait(), await listen.rest("err"), await listen.rest()) == (130, "", "")
    async with listening() as (listen, uri):
        await listen.close_stdout()
        async with open_rig_communicator(uri, echo_timeout=30) as rig:
            await rig.init()
            assert (await listen.process.wait(), await listen.rest("err")) == (1, "")


# -- messages in words ---------------------------------------------------------------------------------


def test_what_strangers_may_send_can_be_shown() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    assert json_text(deep) == '"(nested too deep to be shown)"'
    assert message_text(ExpMessage.EXPINIT, [float("nan"), "\ud800"]) == 'EXPINIT NaN "\\ud800"'
    assert message_text(ExpMessage.EXPSTATUS, []) == "EXPSTATUS"
    assert message_text(ExpMessage.EXPSTATUS, [False, 1]) == "EXPSTATUS false 1"
    assert message_text(ExpMessage.EXPINFO, ["20", 20]) == 'EXPINFO "20" 20'
    assert message_text(ExpMessage.ALYX, [None]) == "ALYX null"
    assert message_text(ExpMessage.ALYX, [None, "secret", None]) == 'ALYX null "***" null'
    assert message_text(ExpMessage(0), [[1], "x"]) == '(error) "x": [1]'
    assert message_text(ExpMessage(0), ["fine", 3]) == "(error) EXPINIT|EXPSTART: fine"


def test_a_value_that_is_too_deep_is_refused() -> None:
    with pytest.raises(ArgumentError, match="too "):
        parse_items(ExpMessage.EXPINIT, ["[" * 100_000 + "]" * 100_000])
