"""``trionet rpc``, against a server on loopback."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import trio
import trustme

import trionet.cli
from tests.cli.commands import PROGRAM, Commands, run_program
from tests.cli.laser import start_server
from tests.unmeasured import unmeasured_environment
from trionet import TLSIdentity, __version__, pyon
from trionet.cli.output import CommandError, result_text
from trionet.cli.parser import options_first

HOST = "127.0.0.1"


def closed_port() -> socket.socket:
    """A socket that has a port, on which nobody listens."""
    holder = socket.socket()
    holder.bind((HOST, 0))
    return holder


async def test_list_targets(commands: Commands, nursery: trio.Nursery) -> None:
    server, _ = await start_server(nursery, "laser", "spare")
    done = await commands.run("rpc", HOST, server.port, "list-targets")
    assert (done.status, done.err) == (0, "")
    assert done.out == "Target(s):   laser, spare\nDescription: test server\n"


async def test_list_targets_without_description(commands: Commands, nursery: trio.Nursery) -> None:
    server, _ = await start_server(nursery, description=None)
    done = await commands.run("rpc", HOST, server.port, "list-targets")
    assert done.out == "Target(s):   laser\n"
    done = await commands.run("rpc", HOST, server.port, "list-targets", "--json")
    assert json.loads(done.out) == {"targets": ["laser"], "description": None}


async def test_what_a_server_says_does_not_control_the_terminal(
    commands: Commands, nursery: trio.Nursery
) -> None:
    server, _ = await start_server(nursery, description="\x1b[31mred\u202e")
    done = await commands.run("rpc", HOST, server.port, "list-targets")
    assert done.out.endswith("Description: \\x1b[31mred\\u202e\n")


async def test_list_methods(commands: Commands, nursery: trio.Nursery) -> None:
    server, _ = await start_server(nursery)
    done = await commands.run("rpc", HOST, server.port, "list-methods")
    assert (done.status, done.err) == (0, "")
    assert done.out.startswith("A laser.\n\nIn a test.\n\nbare()")
    assert (
        "\n\nset_power(power: float, *, ramp: float = 0.5) -> float\n"
        "    Set the power.\n\n    In mW.\n\nwait()" in done.out
    )
    done = await commands.run("rpc", HOST, server.port, "list-methods", "--json")
    described = json.loads(done.out)
    assert described["docstring"] == "A laser.\n\nIn a test."
    assert described["methods"]["echo"] == {
        "signature": "(*args: Any, **kwargs: Any) -> Any",
        "docstring": None,
    }


async def test_call(commands: Commands, nursery: trio.Nursery) -> None:
    server, _ = await start_server(nursery)
    done = await commands.run("rpc", HOST, server.port, "call", "set_power", "3", "ramp=2")
    assert (done.status, done.out, done.err) == (0, "6\n", "")
    done = await commands.run("rpc", HOST, server.port, "call", "identity", "np.arange(3, dtype='i2')")
    assert done.out == "array([0, 1, 2], dtype=int16)\n"
    done = await commands.run("rpc", HOST, server.port, "call", "identity", "None")
    assert (done.status, done.out) == (0, "")


async def test_values_that_begin_with_a_minus(commands: Commands, nursery: trio.Nursery) -> None:
    server, _ = await start_server(nursery)
    words = ["-1", "-1.5", "-1e3", "-np.pi", "-inf", "-1-2j", "x=-1"]
    done = await commands.run("rpc", HOST, server.port, "call", "echo", *words)
    expected = "[(-1, -1.5, -1000.0, -3.141592653589793, -inf, (-1-2j)), {'x': -1}]\n"
    assert (done.status, done.out) == (0, expected)
    done = await commands.run("rpc", HOST, server.port, "call", "echo", "--json", "--", "-1", "3")
    assert json.loads(done.out) == [[-1, 3], {}]


async def test_options_may_stand_anywhere(commands: Commands, nursery: trio.Nursery) -> None:
    server, _ = await start_server(nursery, "laser", "spare")
    words = ["rpc", HOST, str(server.port), "call", "echo", "1", "2"]
    for place in range(1, len(words) + 1):
        for option in (["--target", "spare", "--json"], ["--json", "--target=spare"]):
            done = await commands.run(*words[:place], *option, *words[place:])
            assert (done.status, done.out) == (0, "[[1,2],{}]\n")


def test_an_option_without_its_value_stays_where_it_is() -> None:
    assert options_first(["a", "--tls", "b", "c"], {"--tls": 3}) == ["a", "--tls", "b", "c"]
    assert options_first(["a", "-h", "--x", "-1"], {"--tls": 3}) == ["a", "-h", "--x", " -1"]


async def test_json(commands: Commands, nursery: trio.Nursery) -> None:
    server, _ = await start_server(nursery)
    plain = {"a": (1, [2.5, None]), "b": True, "c": "ä"}
    done = await commands.run("rpc", HOST, server.port, "--json", "call", "identity", repr(plain))
    assert done.out.count("\n") == 1
    assert json.loads(done.out) == {"a": [1, [2.5, None]], "b": True, "c": "ä"}
    for value in ({1: (2, 3)}, [float("inf")], [1j, (2,)]):
        done = await commands.run("rpc", HOST, server.port, "--json", "call", "identity", repr(value))
        assert pyon.decode(done.out) == value
    done = await commands.run("rpc", HOST, server.port, "--json", "call", "identity", "None")
    assert done.out == "null\n"


def test_long_results_fit_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    value = {"b": [100] * 10, "a": 2}
    monkeypatch.setenv("COLUMNS", "80")
    assert result_text(value) == repr(value)
    monkeypatch.setenv("COLUMNS", "30")
    assert max(map(len, result_text(value).splitlines())) < 30


# -- what can go wrong ---------------------------------------------------------------------------------


async def test_wrong_port(commands: Commands) -> None:
    with closed_port() as holder:
        port = holder.getsockname()[1]
        for action in (["list-targets"], ["list-methods"], ["call", "echo"], ["interactive"]):
            done = await commands.run("rpc", HOST, port, *action)
            assert (done.status, done.out) == (1, "")
            assert done.err.startswith("trionet: error: ")
            assert f"{HOST}:{port}" in done.err
            assert done.err.count("\n") == 1


async def test_unknown_host(commands: Commands) -> None:
    done = await commands.run("rpc", "no host", "1", "list-targets")
    assert done.status == 1
    assert done.err.endswith(" (no host:1)\n")


async def test_no_rpc_server(commands: Commands, nursery: trio.Nursery) -> None:
    async def answer(stream: trio.SocketStream) -> None:
        await stream.send_all(b"SSH-2.0-OpenSSH_9.6\r\n")
        async for _ in stream:
            pass

    listeners = await nursery.start(
        trio.serve_tcp,
        answer,
        0,
    )
    port = listeners[0].socket.getsockname()[1]
    done = await commands.run("rpc", HOST, port, "call", "echo")
    assert (done.status, done.err.count("\n")) == (1, 1)
    assert "expected" in done.err


async def test_unknown_target_and_method(commands: Commands, nursery: trio.Nursery) -> None:
    server, _ = await start_server(nursery, "laser", "spare")
    done = await commands.run("rpc", HOST, server.port, "--target", "nope", "call", "echo")
    assert done.status == 1
    assert done.err.startswith("trionet: error: the server has no target 'nope', but: laser spare")
    done = await commands.run("rpc", HOST, server.port, "list-methods")
    assert done.status == 1
    assert "the server has 2 targets, name one: laser spare" in done.err
    done = await commands.run("rpc", HOST, server.port, "--target", "spare", "call", "nope")
    assert done.status == 1
    assert "has no method 'nope'" in done.err


async def test_a_value_that_pyon_cannot_carry(commands: Commands, nursery: trio.Nursery) -> None:
    server, _ = await start_server(nursery)
    reserved = "OrderedDict([('__jsonclass__', 1)])"
    done = await commands.run("rpc", HOST, server.port, "call", "echo", reserved)
    assert (done.status, done.err.count("\n")) == (1, 1)
    assert "reserved key" in done.err


async def test_remote_exceptions(commands: Commands, nursery: trio.Nursery) -> None:
    server, _ = await start_server(nursery)
    done = await commands.run("rpc", HOST, server.port, "call", "set_power", "-1")
    assert (done.status, done.out) == (1, "")
    assert done.err == "trionet: error: set_power raised ValueError: power must not be negative\n"
    done = await commands.run("rpc", HOST, server.port, "call", "fire")
    assert done.err == (
        "trionet: error: fire raised tests.cli.laser.InterlockOpen: close the \\x1b[31m interlock\n"
    )
    done = await commands.run("rpc", HOST, server.port, "call", "bare")
    assert done.err == "trionet: error: bare raised RuntimeError\n"


async def test_remote_traceback_on_request(nursery: trio.Nursery) -> None:
    server, _ = await start_server(nursery)
    command = [*PROGRAM, "rpc", HOST, str(server.port), "call", "--traceback", "set_power", "-1"]
    done = await trio.run_process(command, capture_stderr=True, check=False)
    lines = done.stderr.decode().splitlines()
    assert lines[0] == "Remote traceback (most recent call last):"
    assert any("laser.py" in line and "set_power" in line for line in lines)
    assert lines[-1] == "trionet: error: set_power raised ValueError: power must not be negative"


async def test_timeout(commands: Commands, nursery: trio.Nursery) -> None:
    server, _ = await start_server(nursery)
    done = await commands.run("rpc", HOST, server.port, "--timeout", "0.2", "call", "wait")
    assert (done.status, done.err) == (1, "trionet: error: no answer within 0.2 s\n")


async def test_timeout_of_the_handshake(commands: Commands) -> None:
    with socket.create_server((HOST, 0)) as silent:
        port = silent.getsockname()[1]
        done = await commands.run("rpc", HOST, port, "--timeout", "0.05", "list-targets")
    assert (done.status, done.err) == (1, "trionet: error: no answer within 0.05 s\n")


async def test_connection_lost_in_a_call(commands: Commands, nursery: trio.Nursery) -> None:
    server, laser = await start_server(nursery)

    async def stop_server() -> None:
        await laser.called.wait()
        server.cancel_scope.cancel()

    nursery.start_soon(stop_server)
    done = await commands.run("rpc", HOST, server.port, "call", "wait")
    assert (done.status, done.err.count("\n")) == (1, 1)
    assert "closed by the server" in done.err


# -- TLS -----------------------------------------------------------------------------------------------


def identities(directory: Path) -> tuple[TLSIdentity, TLSIdentity]:
    """Server and client, each trusting the other."""
    for name in ("server", "client"):
        certificate = trustme.CA().issue_cert(f"{name}.example")
        certificate.private_key_pem.write_to_path(str(directory / f"{name}.key"))
        certificate.cert_chain_pems[0].write_to_path(str(directory / f"{name}.pem"))

    def identity(own: str, peer: str) -> TLSIdentity:
        return TLSIdentity(directory / f"{own}.pem", directory / f"{own}.key", directory / f"{peer}.pem")

    return identity("server", "client"), identity("client", "server")


async def test_tls(commands: Commands, nursery: trio.Nursery, tmp_path: Path) -> None:
    ours, theirs = identities(tmp_path)
    server, _ = await start_server(nursery, tls=ours)
    tls = ["--tls", theirs.cert, theirs.key, theirs.peer_cert]
    done = await commands.run("rpc", HOST, server.port, "call", *tls, "echo", "1")
    assert (done.status, done.out) == (0, "[(1,), {}]\n")
    # The certificate of somebody else.
    done = await commands.run(
        "rpc", HOST, server.port, "--tls", ours.cert, ours.key, ours.cert, "call", "echo"
    )
    assert (done.status, done.err.count("\n")) == (1, 1)


async def test_tls_files_that_are_none(commands: Commands, tmp_path: Path) -> None:
    missing, text = tmp_path / "missing.pem", tmp_path / "text.pem"
    text.write_text("nothing")
    done = await commands.run("rpc", HOST, 1, "--tls", text, missing, text, "list-targets")
    assert done.status == 1
    assert done.err.startswith(f"trionet: error: --tls: {missing}: ")
    done = await commands.run("rpc", HOST, 1, "--tls", text, text, text, "list-targets")
    assert (done.status, done.err.count("\n")) == (1, 1)


# -- usage ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "the following arguments are required: COMMAND (see trionet --help)"),
        (["nope"], "invalid choice: 'nope'"),
        (["rpc"], "required: HOST, PORT, ACTION (see trionet rpc --help)"),
        (["rpc", HOST, "1", "nope"], "invalid choice: 'nope'"),
        (["rpc", HOST, "1", "call"], "required: METHOD (see trionet rpc --help)"),
        (["rpc", HOST, "99999", "list-targets"], "'99999' is no port"),
        (["rpc", HOST, "x", "list-targets"], "'x' is no port"),
        (["rpc", HOST, "-1", "list-targets"], "'-1' is no port"),
        (["rpc", HOST, "1", "list-targets", "--timeout", "-1"], "'-1' is no number of seconds"),
        (["rpc", HOST, "1", "list-targets", "--timeout", "soon"], "'soon' is no number of seconds"),
        (["rpc", HOST, "1", "list-targets", "--tls", "a", "b"], "--tls: expected 3 arguments"),
        (["rpc", HOST, "1", "list-targets", "--tar", "a"], "unrecognized arguments: --tar"),
        (["rpc", HOST, "1", "call", "f", "hello"], "argument 1: hello is no value"),
        (["rpc", HOST, "1", "call", "f", "1", "x=hello"], "argument 'x': hello is no value"),
    ],
)
async def test_usage(commands: Commands, words: list[str], message: str) -> None:
    done = await commands.run(*words)
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith("trionet: error: ")
    assert message in done.err
    assert done.err.count("\n") == 1


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["rpc"],
        ["demo"],
        ["watch"],
        ["broadcast"],
        ["broadcast", "listen"],
        ["broadcast", "send"],
        ["logs"],
        ["logs", "serve"],
        ["logs", "tail"],
        *(["rpc", "h", "1", a] for a in ("list-targets", "list-methods", "call", "interactive")),
    ],
)
async def test_help_has_an_example(commands: Commands, words: list[str]) -> None:
    done = await commands.run(*words, "--help")
    assert (done.status, done.err) == (0, "")
    assert "example" in done.out
    assert done.out.count("trionet") > 1


async def test_version(commands: Commands) -> None:
    assert (await commands.run("--version")).out == f"trionet {__version__}\n"
    done = await trio.run_process([sys.executable, "-m", "trionet", "--version"], capture_stdout=True)
    assert done.stdout.decode().split() == ["trionet", __version__]


# -- the process ---------------------------------------------------------------------------------------


async def test_as_a_process(nursery: trio.Nursery) -> None:
    server, _ = await start_server(nursery)
    done = await run_program("rpc", HOST, server.port, "call", "set_power", "2")
    assert (done.status, done.out.split(), done.err) == (0, ["1.0"], "")
    done = await run_program("rpc", HOST, server.port, "call", "nope")
    assert done.status == 1


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C cannot be sent to one process there")
@pytest.mark.parametrize("action", [["call", "wait"], ["interactive"]])
async def test_ctrl_c(nursery: trio.Nursery, action: list[str]) -> None:
    server, laser = await start_server(nursery)
    command = [*PROGRAM, "rpc", HOST, str(server.port), *action]
    process = await trio.lowlevel.open_process(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=unmeasured_environment(),
    )
    assert process.stdin is not None
    assert process.stdout is not None
    await process.stdin.send_all(b"wait()\n")
    await laser.called.wait()
    process.send_signal(signal.SIGINT)
    output = b"".join([chunk async for chunk in process.stdout])
    assert (await process.wait(), output) == (130, b"")


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pipe that reports its reader's end")
async def test_reader_that_leaves(nursery: trio.Nursery) -> None:
    server, _ = await start_server(nursery)
    reading, writing = os.pipe()
    os.close(reading)
    command = [*PROGRAM, "rpc", HOST, str(server.port), "call", "echo", "1"]
    try:
        done = await trio.run_process(command, stdout=writing, capture_stderr=True, check=False)
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (1, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
async def test_full_disk(nursery: trio.Nursery) -> None:
    server, _ = await start_server(nursery)
    command = [*PROGRAM, "rpc", HOST, str(server.port), "call", "echo", "1"]
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        done = await trio.run_process(command, stdout=full, capture_stderr=True, check=False)
    finally:
        os.close(full)
    assert done.returncode == 1
    assert done.stderr.startswith(b"trionet: error: output: ")


async def test_a_terminal_without_unicode(nursery: trio.Nursery) -> None:
    server, _ = await start_server(nursery)
    command = [*PROGRAM, "rpc", HOST, str(server.port), "call", "identity", "'\\u00b5'"]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = await trio.run_process(command, capture_stdout=True, env=environment)
    assert done.stdout.split() == [b"'\\xb5'"]


@pytest.mark.parametrize(
    "error",
    [
        KeyboardInterrupt(),
        BaseExceptionGroup("", [KeyboardInterrupt(), CommandError("connection closed")]),
        BaseExceptionGroup("", [BaseExceptionGroup("", [KeyboardInterrupt()]), OSError()]),
    ],
    ids=["alone", "with what came of it", "nested"],
)
def test_ctrl_c_in_a_task(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: BaseException
) -> None:
    def fail(_: object) -> None:
        raise error

    monkeypatch.setattr("trionet.cli.rpc.trio.run", fail)
    assert trionet.cli.main(["rpc", HOST, "1", "list-targets"]) == 130
    assert capsys.readouterr() == ("", "")


def test_bugs_in_tasks_do_have_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> None:
        raise ExceptionGroup("", [ZeroDivisionError()])

    monkeypatch.setattr("trionet.cli.rpc.trio.run", fail)
    with pytest.raises(ExceptionGroup):
        trionet.cli.main(["rpc", HOST, "1", "list-targets"])


def test_bugs_do_have_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("trionet.cli.rpc.trio.run", fail)
    with pytest.raises(ZeroDivisionError):
        trionet.cli.main(["rpc", HOST, "1", "list-targets"])
