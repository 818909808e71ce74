"""``trionet objects``, against servers on loopback."""

from __future__ import annotations

import functools
import json
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trio

from tests.cli.commands import PROGRAM, Commands, running_program
from tests.cli.demo import posix_only
from trionet import ObjectDescription, ObjectServer, pyon, serve_objects
from trionet.cli.output import descriptions_text
from trionet.objects import _host
from trionet.wire.object_values import SERIALIZERS


class InterlockOpen(Exception):
    """An exception that is no builtin."""


class Settings:
    """What can be set."""

    def __init__(self) -> None:
        self.power = 1.5
        self.tag = b"red"
        self.spare = None


class Laser:
    """A laser.

    In a test.
    """

    def __init__(self) -> None:
        self.settings = Settings()
        self.called = trio.Event()
        self._secret = 1

    def echo(self, *args: Any, **kwargs: Any) -> Any:
        return [list(args), kwargs]

    def itself(self) -> Any:
        return [self]

    def set_power(self, power: float, *, ramp: float = 0.5) -> float:
        """Set the power.

        In mW.
        """
        if power < 0:
            raise ValueError("power must\nnot be negative")
        return power * ramp

    def fire(self) -> None:
        raise InterlockOpen("close the \x1b[31m interlock")

    async def wait(self) -> None:
        self.called.set()
        await trio.sleep_forever()

    @property
    def position(self) -> float:
        raise RuntimeError("it has moved")


LISTED = f"""\
laser: {__name__}.Laser
    A laser.

    In a test.

    called: trio.Event
    echo(*args: Any, **kwargs: Any) -> Any
    fire() -> None
    itself() -> Any
    position: property

    set_power(power: float, *, ramp: float = 0.5) -> float
        Set the power.

        In mW.

    settings: {__name__}.Settings
    wait() -> None

spectrum: numpy.ndarray
note: str
"""


async def start_server(
    nursery: trio.Nursery, address: str = "tcp://127.0.0.1:*", **options: Any
) -> tuple[ObjectServer, Laser]:
    """Serve a laser and a few values."""
    laser = Laser()
    namespace = {"laser": laser, "spectrum": np.arange(3, dtype="i2"), "note": "\x1b[31mred"}
    server: ObjectServer = await nursery.start(
        functools.partial(serve_objects, namespace, address, **options)
    )
    return server, laser


async def test_ls(commands: Commands, nursery: trio.Nursery) -> None:
    server, _ = await start_server(nursery)
    done = await commands.run("objects", server.address, "ls")
    assert (done.status, done.err) == (0, "")
    assert done.out == LISTED
    done = await commands.run("objects", server.address, "ls", "laser.settings")
    assert done.out == (
        f"laser.settings: {__name__}.Settings\n    What can be set.\n\n"
        "    power: float\n    spare: NoneType\n    tag: bytes\n"
    )
    done = await commands.run("objects", server.address, "ls", "laser.set_power")
    assert done.out.startswith(
        "laser.set_power(power: float, *, ramp: float = 0.5) -> float\n    Set the power.\n"
    )


async def test_ls_as_json(commands: Commands, nursery: trio.Nursery) -> None:
    server, _ = await start_server(nursery)
    done = await commands.run("objects", server.address, "ls", "--json")
    described = json.loads(done.out)
    assert list(described) == ["laser", "spectrum", "note"]
    assert described["laser"]["docstring"] == "A laser.\n\nIn a test."
    assert described["laser"]["attributes"]["fire"] == {
        "type": "method",
        "docstring": None,
        "signature": "() -> None",
        "attributes": {},
    }


async def test_ls_of_nothing(commands: Commands, nursery: trio.Nursery) -> None:
    server: ObjectServer = await nursery.start(serve_objects, {})
    done = await commands.run("objects", server.address, "ls")
    assert (done.status, done.out, done.err) == (0, "", "trionet: nothing is published\n")
    done = await commands.run("objects", server.address, "ls", "--json")
    assert (done.status, done.out, done.err) == (0, "{}\n", "")


async def test_ls_of_a_server_of_pyacq(
    commands: Commands, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server does not know the requests that only trionet's know, and lets clients do anything."""
    for action in ("published", "describe", "clock"):
        monkeypatch.delitem(_host._ACTIONS, action)
    server, _ = await start_server(nursery, unrestricted=True)
    done = await commands.run("objects", server.address, "ls")
    assert (done.status, done.out) == (1, "")
    assert done.err.startswith("trionet: error: the server does not tell what it publishes (")
    server.namespace["self"] = Upstream(dict(server.namespace))
    done = await commands.run("objects", server.address, "ls")
    assert (done.status, done.err) == (0, "")
    assert done.out.replace("'", "") == LISTED
    done = await commands.run("objects", server.address, "ls", "laser.settings")
    assert done.out.startswith(f"laser.settings: {__name__}.Settings\n    What can be set.\n")


class Upstream:
    """What a server of pyacq publishes as itself."""

    def __init__(self, namespace: dict[str, Any]) -> None:
        self._namespace = {"self": self, **namespace}


async def test_get(commands: Commands, nursery: trio.Nursery) -> None:
    server, _ = await start_server(nursery)
    for path, out in {
        "laser.settings.power": "1.5\n",
        "laser.settings.tag": "b'red'\n",
        "laser.settings.spare": "None\n",
        "spectrum": "array([0, 1, 2], dtype=int16)\n",
        "note": "'\\x1b[31mred'\n",
    }.items():
        for serializer in ("msgpack", "json"):
            done = await commands.run("objects", server.address, "get", path, "--serializer", serializer)
            assert (done.status, done.out, done.err) == (0, out, "")
    done = await commands.run("objects", server.address, "get", "laser")
    assert done.out.startswith("<ObjectProxy for tcp://127.0.0.1:")


async def test_call(commands: Commands, nursery: trio.Nursery) -> None:
    server, _ = await start_server(nursery)
    done = await commands.run("objects", server.address, "call", "laser.set_power", "3", "ramp=2")
    assert (done.status, done.out, done.err) == (0, "6\n", "")
    words = ["-1", "-1e3", "-np.pi", "x=-1", "'(1, None)'"]
    done = await commands.run("objects", server.address, "call", "laser.echo", *words)
    assert done.out == "[[-1, -1000.0, -3.141592653589793, '(1, None)'], {'x': -1}]\n"
    done = await commands.run("objects", server.address, "call", "spectrum.sum")
    assert done.out == "3\n"
    done = await commands.run("objects", server.address, "call", "spectrum.__setitem__", "0", "5")
    assert (done.status, done.out) == (0, "")
    done = await commands.run("objects", server.address, "call", "spectrum.__setitem__", "0", "5", "--json")
    assert (done.status, done.out) == (0, "null\n")
    assert server.namespace["spectrum"].tolist() == [5, 1, 2]


async def test_the_serializer_is_the_one_that_was_asked_for(
    commands: Commands, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, _ = await start_server(nursery)
    monkeypatch.delitem(SERIALIZERS, "msgpack")
    done = await commands.run("objects", server.address, "--serializer", "json", "ls", "note")
    assert (done.status, done.out) == (0, "note: str\n")


async def test_json(commands: Commands, nursery: trio.Nursery) -> None:
    server, _ = await start_server(nursery)
    done = await commands.run("objects", server.address, "--json", "call", "laser.echo", "{'a': (1, [2.5])}")
    assert json.loads(done.out) == [[{"a": [1, [2.5]]}], {}]
    done = await commands.run("objects", server.address, "--json", "get", "spectrum")
    assert pyon.decode(done.out).tolist() == [0, 1, 2]
    done = await commands.run("objects", server.address, "--json", "call", "laser.itself")
    assert (done.status, done.out, done.err.count("\n")) == (1, "", 1)
    assert done.err.startswith("trionet: error: the result has no form in JSON: ")


async def test_options_may_stand_anywhere(commands: Commands, nursery: trio.Nursery) -> None:
    server, _ = await start_server(nursery)
    words = ["objects", server.address, "call", "laser.echo", "1", "2"]
    for place in range(1, len(words) + 1):
        done = await commands.run(*words[:place], "--serializer", "json", "--json", *words[place:])
        assert (done.status, done.out) == (0, "[[1,2],{}]\n")


@pytest.mark.skipif(sys.platform == "win32", reason="no Unix sockets")
async def test_a_server_at_a_unix_socket(commands: Commands, nursery: trio.Nursery, tmp_path: Path) -> None:
    await start_server(nursery, f"ipc://{tmp_path}/s")
    done = await commands.run("objects", f"ipc://{tmp_path}/s", "get", "laser.settings.power")
    assert (done.status, done.out) == (0, "1.5\n")


def test_what_a_server_says_does_not_control_the_terminal() -> None:
    described = ObjectDescription(
        "\x1b[1m", "\x1b[2m", None, {"\x1b[3m": ObjectDescription("", None, "\x1b[4m")}
    )
    assert "\x1b" not in descriptions_text({"\x1b[0m": described})


# -- what can go wrong ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["ls", "laser.nope"], "laser.nope raised AttributeError: 'Laser' object has no attribute 'nope'"),
        (["get", "nope"], "the server publishes no 'nope': see `ls`"),
        (["ls", "nope.x"], "the server publishes no 'nope': see `ls`"),
        (["get", "laser.position"], "laser.position raised RuntimeError: it has moved"),
        (["call", "laser.fire"], "laser.fire raised InterlockOpen: close the \\x1b[31m interlock"),
        (["call", "laser.set_power", "-1"], "laser.set_power raised ValueError: power must not be negative"),
        (["call", "laser"], "laser raised TypeError: 'Laser' object is not callable"),
        (
            ["get", "laser._secret"],
            "laser._secret raised PermissionError: the private attribute '_secret' is nothing for clients of "
            "this server: allow_private=True would allow it",
        ),
        (
            ["call", "laser.echo", "{1}"],
            "a value of type set cannot be copied, and there is no server of this side that could offer a "
            "proxy to it",
        ),
        (["call", "laser.wait", "--timeout", "0.2"], "no answer within 0.2 s"),
    ],
)
async def test_what_fails_is_one_line(
    commands: Commands, nursery: trio.Nursery, words: list[str], message: str
) -> None:
    server, _ = await start_server(nursery)
    done = await commands.run("objects", server.address, *words)
    assert (done.status, done.out, done.err) == (1, "", f"trionet: error: {message}\n")


async def test_remote_traceback_on_request(nursery: trio.Nursery) -> None:
    server, _ = await start_server(nursery)
    command = [*PROGRAM, "objects", server.address, "call", "--traceback", "laser.fire"]
    done = await trio.run_process(command, capture_stderr=True, check=False)
    lines = done.stderr.decode().splitlines()
    assert lines[0] == "Remote traceback (most recent call last):"
    assert any("in fire" in line for line in lines)
    assert lines[-1].startswith("trionet: error: laser.fire raised InterlockOpen: ")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["laser-pc", "ls"], "'laser-pc' is no address: write tcp://HOST:PORT or ipc://PATH"),
        (["udp://laser-pc:1", "ls"], "'udp://laser-pc:1' is no address"),
        (["tcp://", "ls"], "'tcp://' is no address"),
        (["tcp://laser-pc:1", "get", "laser..power"], "'laser..power' is no path"),
        (["tcp://laser-pc:1", "get", ".power"], "'.power' is no path"),
        (["tcp://laser-pc:1", "call", "laser", "x"], "argument 1: x is no value"),
        (["tcp://laser-pc:1", "ls", "--serializer", "xml"], "invalid choice: 'xml'"),
        (["tcp://laser-pc:1"], "ACTION"),
    ],
)
async def test_command_lines_that_make_no_sense(commands: Commands, words: list[str], message: str) -> None:
    done = await commands.run("objects", *words)
    assert (done.status, done.out, done.err.count("\n")) == (2, "", 1)
    assert message in done.err


async def test_nobody_listens(commands: Commands, nursery: trio.Nursery) -> None:
    server, _ = await start_server(nursery)
    await server.aclose()
    for options in ([], ["--timeout", "20"]):
        done = await commands.run("objects", server.address, "ls", *options)
        assert (done.status, done.err) == (1, f"trionet: error: Connection refused ({server.address[6:]})\n")
    done = await commands.run("objects", "tcp://127.0.0.1:*", "ls")
    assert (done.status, done.err.count("\n")) == (1, 1)


async def test_no_object_server(commands: Commands, nursery: trio.Nursery) -> None:
    async def answer(stream: trio.SocketStream) -> None:
        await stream.send_all(b"SSH-2.0-OpenSSH_9.6\r\n")
        async for _ in stream:
            pass

    listeners = await nursery.start(trio.serve_tcp, answer, 0)
    port = listeners[0].socket.getsockname()[1]
    done = await commands.run("objects", f"tcp://127.0.0.1:{port}", "ls")
    assert (done.status, done.err.count("\n")) == (1, 1)


async def test_connection_lost_in_a_call(commands: Commands, nursery: trio.Nursery) -> None:
    server, laser = await start_server(nursery)

    async def stop_server() -> None:
        await laser.called.wait()
        server.cancel_scope.cancel()

    nursery.start_soon(stop_server)
    done = await commands.run("objects", server.address, "call", "laser.wait")
    assert (done.status, done.err.count("\n")) == (1, 1)
    assert "the server has ended" in done.err


@posix_only
async def test_ctrl_c(nursery: trio.Nursery) -> None:
    server, laser = await start_server(nursery)
    async with running_program("objects", server.address, "call", "laser.wait") as running:
        await laser.called.wait()
        running.process.send_signal(signal.SIGINT)
        assert await running.process.wait() == 130
        assert await running.rest("err") == ""
