"""``trionet rpc ... interactive``: the shell, with lines from a test, and the sources of lines."""

from __future__ import annotations

import builtins
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from prompt_toolkit.application import create_app_session
from prompt_toolkit.input import PipeInput, create_pipe_input
from prompt_toolkit.output import DummyOutput

from tests.cli.commands import run_program
from tests.cli.laser import start_server
from trionet.cli import prompt as prompts
from trionet.cli.interactive import Shell
from trionet.cli.output import CommandError
from trionet.cli.prompt import PlainPrompt, ScriptPrompt, TerminalPrompt, complete, history_file, open_prompt
from trionet.cli.rpc import Connection

HOST = "127.0.0.1"
Step = str | Callable[[], Awaitable[None]]


class Script:
    """Types lines; steps that are functions are done between them."""

    def __init__(self, *steps: Step) -> None:
        self._steps = list(steps)
        self.prompts: list[str] = []

    async def read(self, message: str) -> str | None:
        await trio.lowlevel.checkpoint()
        while self._steps:
            step = self._steps.pop(0)
            if isinstance(step, str):
                self.prompts.append(message)
                return step
            await step()
        return None


async def test_lines_of_a_pipe(nursery: trio.Nursery) -> None:
    server, _ = await start_server(nursery)
    script = b"echo(1, x='a b')\r\necho 1 'a b'\n\n  identity None\nset_power(4)"
    done = await run_program("rpc", HOST, server.port, "interactive", stdin=script)
    assert (done.status, done.err) == (0, "")
    assert done.out.splitlines() == ["[(1,), {'x': 'a b'}]", "[(1, 'a b'), {}]", "2.0"]


async def test_json_and_quit(nursery: trio.Nursery) -> None:
    server, _ = await start_server(nursery)
    done = await run_program(
        "rpc", HOST, server.port, "interactive", "--json", stdin=b"echo 1\nquit\necho 2\n"
    )
    assert (done.status, done.out) == (0, "[[1],{}]\n")


async def test_a_line_that_fails_does_not_end_it(nursery: trio.Nursery) -> None:
    server, _ = await start_server(nursery)
    script = b"nope()\n(1)\necho hello\nhelp nope\necho(OrderedDict([('__jsonclass__', 1)]))\necho 2\n"
    done = await run_program("rpc", HOST, server.port, "interactive", stdin=script)
    assert (done.status, done.out) == (1, "[(2,), {}]\n")
    errors = done.err.splitlines()
    assert len(errors) == 5
    assert all(line.startswith("error: ") for line in errors)
    assert "has no method 'nope'" in errors[0]
    assert "(1) is no call" in errors[1]
    assert "hello is no value" in errors[2]
    assert "no method 'nope'" in errors[3]
    assert "reserved key" in errors[4]


async def run_shell(
    port: int, *steps: Step, seconds: float | None = None, at_terminal: bool = True
) -> tuple[Shell, Script]:
    shell = Shell(Connection(HOST, port, timeout=seconds))
    script = Script(*steps)
    await shell.run(script, at_terminal)
    return shell, script


async def test_remote_exceptions_have_their_traceback(
    nursery: trio.Nursery, capsys: pytest.CaptureFixture[str]
) -> None:
    server, _ = await start_server(nursery)
    shell, _ = await run_shell(server.port, "set_power(-1)", "fire()", "echo()")
    out, err = capsys.readouterr()
    assert shell.failed
    assert err.count("Remote traceback (most recent call last):\n  File ") == 2
    assert "\nValueError: power must\nnot be negative\n" in err
    assert "InterlockOpen: close the \\x1b[31m interlock\n" in err
    assert out.endswith("[(), {}]\n")


async def test_help(nursery: trio.Nursery, capsys: pytest.CaptureFixture[str]) -> None:
    server, _ = await start_server(nursery)
    shell, script = await run_shell(server.port, "help", "help set_power", "methods", "exit", "never()")
    out, err = capsys.readouterr()
    assert (shell.failed, err) == (False, "")
    assert out.startswith(f"Target 'laser' at {HOST}:{server.port}: 6 methods. Type help for help.\nMETHOD(")
    assert out.count("set_power(power: float, *, ramp: float = 0.5) -> float\n    Set the power.\n") == 2
    assert script.prompts[0] == "laser> "
    assert shell.names()["set_power"] == "(power: float, *, ramp: float = 0.5) -> float"
    assert "help" in shell.names()


async def test_lost_connection_and_return(nursery: trio.Nursery, capsys: pytest.CaptureFixture[str]) -> None:
    server, _ = await start_server(nursery)
    port = server.port

    async def come_back() -> None:
        await start_server(nursery, port=port)

    async def stop() -> None:
        await server.aclose()

    steps = ("echo 1", stop, "echo 2", "echo 3", come_back, "echo 4", "echo 5")
    shell, script = await run_shell(port, *steps)
    out, err = capsys.readouterr()
    assert out.splitlines()[1:] == ["[(1,), {}]", "[(4,), {}]", "[(5,), {}]"]
    lines = err.splitlines()
    assert lines[0].startswith("The connection was lost (")
    assert len(lines) == 3
    assert all(line.startswith("error: ") and f"{HOST}:{port}" in line for line in lines[1:])
    assert shell.failed
    assert script.prompts == ["laser> ", "laser> ", *["not connected> "] * 2, "laser> "]


async def test_connection_lost_in_a_call(nursery: trio.Nursery, capsys: pytest.CaptureFixture[str]) -> None:
    server, laser = await start_server(nursery)

    async def stop() -> None:
        await laser.called.wait()
        await server.aclose()

    async def come_back() -> None:
        await start_server(nursery, port=server.port)

    nursery.start_soon(stop)
    await run_shell(server.port, "wait()", come_back, "echo 1")
    out, err = capsys.readouterr()
    assert "closed by the server" in err
    assert "the next command connects again" in err
    assert out.endswith("[(1,), {}]\n")


async def test_no_server(capsys: pytest.CaptureFixture[str], nursery: trio.Nursery) -> None:
    server, _ = await start_server(nursery)
    await server.aclose()
    with pytest.raises(CommandError, match=str(server.port)):
        await run_shell(server.port, "echo 1")


async def test_timeout_is_per_call(
    nursery: trio.Nursery, capsys: pytest.CaptureFixture[str], mock_clock: trio.testing.MockClock
) -> None:
    server, laser = await start_server(nursery)

    async def let_time_pass() -> None:
        mock_clock.jump(2.0)

    async def run_into_timeout() -> None:
        await laser.called.wait()
        mock_clock.jump(3.0)

    nursery.start_soon(run_into_timeout)
    steps = (let_time_pass, "help echo", let_time_pass, "help echo", "wait()")
    await run_shell(server.port, *steps, seconds=3.0)
    assert capsys.readouterr().err == "error: no answer within 3 s\n"


async def test_a_server_without_descriptions(
    nursery: trio.Nursery, capsys: pytest.CaptureFixture[str]
) -> None:
    async def serve(stream: trio.SocketStream) -> None:
        greeting = b'{"targets":["old"],"description":null,"features":["pyon_v2"]}\n'
        answers = [greeting, b'{"__jsonclass__":["set",[["f"]]]}\n', b'{"status":"ok","ret":[]}\n']
        received = b""
        async for data in stream:
            received += data
            while answers and b"\n" in received:
                received = received.partition(b"\n")[2]
                await stream.send_all(answers.pop(0))

    listeners = await nursery.start(trio.serve_tcp, serve, 0)
    port = listeners[0].socket.getsockname()[1]
    with pytest.raises(CommandError, match="the server does not describe its methods"):
        await run_shell(port, "f()")


# -- Ctrl-C --------------------------------------------------------------------------------------------


async def interrupt() -> None:
    signal.raise_signal(signal.SIGINT)
    await trio.testing.wait_all_tasks_blocked()


async def test_ctrl_c_cancels_a_call(nursery: trio.Nursery, capsys: pytest.CaptureFixture[str]) -> None:
    server, laser = await start_server(nursery)

    async def interrupt_call() -> None:
        await laser.called.wait()
        await interrupt()

    nursery.start_soon(interrupt_call)
    # The server works on at the first call, so the connection would answer a second one only after it.
    await run_shell(server.port, "wait()", "help echo")
    out, err = capsys.readouterr()
    assert "cancelled" in err
    assert out.endswith("echo(*args: Any, **kwargs: Any) -> Any\n")


async def test_ctrl_c_at_the_prompt_cancels_the_line(
    nursery: trio.Nursery, capsys: pytest.CaptureFixture[str]
) -> None:
    server, _ = await start_server(nursery)
    shell, _ = await run_shell(server.port, interrupt, "echo 1")
    assert capsys.readouterr().out.endswith("\nlaser> [(1,), {}]\n")
    assert not shell.failed


async def test_ctrl_c_while_connecting_ends_it(nursery: trio.Nursery) -> None:
    async def accept(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await interrupt()

    listeners = await nursery.start(trio.serve_tcp, accept, 0)
    with pytest.raises(KeyboardInterrupt):
        await run_shell(listeners[0].socket.getsockname()[1], "echo 1")


# -- sources of lines ----------------------------------------------------------------------------------

NAMES = {"set_power": "(power)", "set_phase": "(phase)", "get_power": "() ->\nfloat", "help": "help"}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", ["get_power", "help", "set_phase", "set_power"]),
        ("se", ["set_phase", "set_power"]),
        (" set_po", ["set_power"]),
        ("help g", ["get_power"]),
        ("help ", ["get_power", "help", "set_phase", "set_power"]),
        ("set_power g", []),
        ("x", []),
    ],
)
def test_completion(text: str, found: list[str]) -> None:
    assert [name for name, _, _ in complete(text, NAMES)] == found


def test_completion_replaces_what_was_begun() -> None:
    assert list(complete("help ge", NAMES)) == [("get_power", 2, "() -> float")]


@pytest.fixture
async def keyboard() -> AsyncIterator[PipeInput]:
    """What is sent into it is typed at the prompts of prompt_toolkit."""
    with create_pipe_input() as pipe, create_app_session(input=pipe, output=DummyOutput()):
        yield pipe


async def test_typed_lines(keyboard: PipeInput, tmp_path: Path) -> None:
    prompt = TerminalPrompt(lambda: NAMES, tmp_path / "state" / "history")
    keyboard.send_text("echo 1\r")
    assert await prompt.read("> ") == "echo 1"
    keyboard.send_text("half a line\x03")  # Ctrl-C
    assert await prompt.read("> ") == ""
    keyboard.send_text("\x04")  # Ctrl-D
    assert await prompt.read("> ") is None


async def test_tab_completes(keyboard: PipeInput) -> None:
    prompt = TerminalPrompt(lambda: NAMES, None)

    def go_on(buffer: Any) -> None:
        if buffer.text == "get_power":
            keyboard.send_text("()\r")

    prompt.session.default_buffer.on_text_changed += go_on
    keyboard.send_text("get\t")
    assert await prompt.read("> ") == "get_power()"


async def test_tab_shows_signatures(keyboard: PipeInput) -> None:
    prompt = TerminalPrompt(lambda: NAMES, None)
    shown: list[tuple[str, str]] = []

    def go_on(buffer: Any) -> None:
        if buffer.complete_state is not None and not shown:
            completions = buffer.complete_state.completions
            shown.extend((one.text, one.display_meta_text) for one in completions)
            keyboard.send_text("\x03")

    prompt.session.default_buffer.on_completions_changed += go_on
    keyboard.send_text("set_\t\t")
    assert await prompt.read("> ") == ""
    assert shown == [("set_phase", "(phase)"), ("set_power", "(power)")]


async def test_history_outlives_the_session(keyboard: PipeInput, tmp_path: Path) -> None:
    file = tmp_path / "state" / "history"
    first = TerminalPrompt(lambda: NAMES, file)
    keyboard.send_text("echo 17\r")
    await first.read("> ")
    second = TerminalPrompt(lambda: NAMES, file)

    def press_up_until_loaded(app: Any) -> None:
        # The history is loaded in the background; each key is followed by another rendering.
        keyboard.send_text("\r" if app.current_buffer.text else "\x1b[A")

    second.session.app.after_render += press_up_until_loaded
    assert await second.read("> ") == "echo 17"


async def test_history_that_cannot_be_written(keyboard: PipeInput, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a directory")
    prompt = TerminalPrompt(lambda: NAMES, tmp_path / "file" / "history")
    keyboard.send_text("echo 1\r")
    assert await prompt.read("> ") == "echo 1"


def test_place_of_the_history(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert history_file() == tmp_path / "trionet" / "rpc_history"
    monkeypatch.delenv("XDG_STATE_HOME")
    assert history_file() == Path.home() / ".local" / "state" / "trionet" / "rpc_history"
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path))
    assert history_file() == tmp_path / "trionet" / "rpc_history"


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What `input` returns, line by line."""
    typed: list[str] = []

    def read(_: str) -> str:
        if not typed:
            raise EOFError
        return typed.pop(0)

    monkeypatch.setattr(builtins, "input", read)
    return typed


async def test_plain_prompt(lines: list[str]) -> None:
    lines.append("echo 1")
    prompt = PlainPrompt()
    assert await prompt.read("> ") == "echo 1"
    assert await prompt.read("> ") is None


async def test_script_prompt_in_pieces() -> None:
    reading, writing = os.pipe()
    try:
        prompt = ScriptPrompt(reading)
        os.write(writing, b"one\ntw")
        assert await prompt.read("") == "one"
        os.write(writing, b"o\r\n\xff")
        assert await prompt.read("") == "two"
        os.close(writing)
        assert await prompt.read("") == "\\xff"
        assert await prompt.read("") is None
    finally:
        os.close(reading)


async def test_the_best_prompt_is_chosen(
    monkeypatch: pytest.MonkeyPatch, keyboard: PipeInput, tmp_path: Path
) -> None:
    monkeypatch.setattr(prompts, "history_file", lambda: tmp_path / "history")
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    assert isinstance(open_prompt(dict), ScriptPrompt)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.stdout.isatty", lambda: False, raising=False)
    assert isinstance(open_prompt(dict), PlainPrompt)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert isinstance(open_prompt(dict), TerminalPrompt)
    monkeypatch.setitem(sys.modules, "prompt_toolkit", None)
    assert isinstance(open_prompt(dict), PlainPrompt)
