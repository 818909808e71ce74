"""The command `sipyco_rpctool`, and the test case for controllers."""

from __future__ import annotations

import io
import socket
import sys
from collections.abc import Callable, Iterator

import pytest

from tests.compat.served import Instrument, port_of, serving
from trionet_compat.sipyco import sipyco_rpctool
from trionet_compat.sipyco.test.generic_rpc import GenericRPCCase

HOST = "127.0.0.1"


class Laser:
    """A laser.

    Of room 3.
    """

    def get_power(self) -> float:
        """Returns the power.

        In watts.
        """
        return 0.5

    def say(self, *words: object, **options: object) -> object:
        return list(words), dict(sorted(options.items())) or None

    def nothing(self) -> None:
        pass

    def fail(self) -> None:
        raise ValueError("no \x1b[31mpower")


METHODS = """\
A laser.

Of room 3.

fail(self) -> 'None'

get_power(self) -> 'float'
    Returns the power.

    In watts.

nothing(self) -> 'None'

say(self, *words: 'object', **options: 'object') -> 'object'

"""

Command = Callable[..., str]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Command]:
    """Runs the command, and returns what it printed."""
    with serving({"laser": Laser(), "other": Instrument()}, description="of room 3") as (_, server):

        def run(*words: str) -> str:
            monkeypatch.setattr(sys, "argv", ["sipyco_rpctool", HOST, str(port_of(server)), *words])
            sipyco_rpctool.main()
            return capsys.readouterr().out

        yield run


def test_targets(command: Command) -> None:
    assert command("list-targets") == "Target(s):   laser, other\nDescription: of room 3\n"


def test_methods(command: Command) -> None:
    assert command("list-methods", "-t", "laser") == METHODS


def test_calls(command: Command) -> None:
    assert command("call", "-t", "laser", "get_power") == "0.5\n"
    assert command("call", "--target", "laser", "nothing") == ""
    called = command("call", "-t", "laser", "say", "1", "-2.5", '"a"', "np.float32(1)", "(1, [2])", "b=None")
    assert called == "([1, -2.5, 'a', np.float32(1.0), (1, [2])], {'b': None})\n"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["call", "get_power"], "ValueError: Server has multiple targets: laser other"),
        (["call", "-t", "laser", "nope"], "no method 'nope'"),
        (["call", "-t", "laser", "say", "__import__('os')"], "ArgumentError: argument 1"),
        (["list-methods", "-t", "third"], "IncompatibleServer: valid target name(s): laser other"),
        (["--ssl", "a", "b", "c", "list-targets"], "FileNotFoundError"),
    ],
)
def test_what_goes_wrong_is_told_in_a_line(command: Command, words: list[str], told: str) -> None:
    with pytest.raises(SystemExit) as info:
        command(*words)
    assert str(info.value.code).startswith("sipyco_rpctool: ")
    assert told in str(info.value.code)
    assert "\n" not in str(info.value.code)


def test_a_remote_exception_is_told_with_its_traceback(command: Command) -> None:
    with pytest.raises(SystemExit) as info:
        command("call", "-t", "laser", "fail")
    *lines, last = str(info.value.code).splitlines()
    assert last == r"sipyco_rpctool: ValueError: no \x1b[31mpower"
    assert "in fail" in lines[0]


def test_a_prompt(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        sys, "stdin", io.StringIO("get_power()\n\nsay 1 b=2\nfail()\nnope()\n1 + 1\nnothing()\n")
    )
    lines = command("interactive", "-t", "laser").splitlines()
    assert lines[0] == "(laser) 0.5"
    assert lines[1] == "(laser) (laser) ([1], {'b': 2})"
    assert lines[2] == "(laser) Remote exception:"
    assert lines[3] == r"ValueError: no \x1b[31mpower"
    assert "in fail" in lines[4]
    assert "no method 'nope'" in next(line for line in lines if "AttributeError" in line)
    assert "is no call" in next(line for line in lines if "ArgumentError" in line)
    assert lines[-1] == "(laser) (laser) "


CONTROLLER = """
import sys, trio, trionet

class Laser:
    def get_power(self):
        return 0.5

trio.run(trionet.serve_remote_exec, "laser", Laser(), int(sys.argv[1]))
"""
TERMINABLE = CONTROLLER.replace(
    "trio.run(trionet.serve_remote_exec, ",
    "import functools\ntrio.run(functools.partial(trionet.serve_remote_exec, allow_terminate=True), ",
)


def _free_port() -> int:
    with socket.create_server(("localhost", 0)) as listener:
        return int(listener.getsockname()[1])


@pytest.mark.parametrize("program", [CONTROLLER, TERMINABLE])
def test_a_case_starts_and_stops_controllers(program: str) -> None:
    case = GenericRPCCase()
    case.setUp()
    port = _free_port()
    command = f"\"{sys.executable}\" -c '{program}' {port}"
    laser = case.start_server("laser", command, port, 60, "laser", 30)
    assert laser.get_power() == 0.5
    with pytest.raises(ValueError, match="server `laser` already started"):
        case.start_server("laser", command, port)
    process = case.servers["laser"][0]
    case.stop_server("laser", 60)  # not by waiting that long
    assert process.returncode is not None
    with pytest.raises(KeyError):
        case.stop_server("laser")


def test_a_case_stops_what_is_left() -> None:
    case = GenericRPCCase()
    case.setUp()
    stopped: list[str] = []
    case.servers = dict.fromkeys(["laser", "stage"])  # type: ignore[assignment]
    case.stop_server = stopped.append  # type: ignore[assignment]
    case.tearDown()
    assert stopped == ["laser", "stage"]


def test_a_case_whose_controller_ends_early() -> None:
    case = GenericRPCCase()
    case.setUp()
    with pytest.raises(ConnectionRefusedError):
        case.start_server("laser", f'"{sys.executable}" -S -c ""', _free_port(), 60, "laser", 30)
    assert not case.servers
