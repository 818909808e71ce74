"""``trionet rig doctor`` and troubles that loopback does not have: on the mock clock, without sockets."""

from __future__ import annotations

import errno
import re
import socket
import ssl
from collections.abc import Iterable, Iterator

import pytest
import trio
import trio.testing

from tests.cli.rig_network import Answers, Names, Network
from trionet import RigURI
from trionet.cli.rig.diagnosis import Place, of_error, of_stream
from trionet.cli.rig.doctor import examine

RIG = ("10.0.0.5", 11001)


@pytest.fixture(autouse=True)
def _width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")


@pytest.fixture
def network() -> Network:
    """Where nobody answers."""
    return Network()


async def examined(capsys: pytest.CaptureFixture[str], network: Network, uri: str = RIG[0]) -> str:
    """What the doctor prints about a rig that is not well."""
    network.use()
    assert not await examine(RigURI.parse(uri), 3)
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 100
    return out


async def healthy(capsys: pytest.CaptureFixture[str], network: Network, uri: str = RIG[0]) -> str:
    """What it prints about a rig that is."""
    network.use()
    assert await examine(RigURI.parse(uri), 3)
    return capsys.readouterr().out


def echo(data: bytes, number: int) -> Answers:
    yield 0.001, data, RIG


# -- silence, and what the system reports --------------------------------------------------------------


async def test_silence_looks_like_a_firewall(
    autojump_clock: trio.testing.MockClock, network: Network, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await examined(capsys, network) == (
        """\
ok    URI          udp://10.0.0.5:11001 (UDP)
ok    address      10.0.0.5 is another machine's
ok    our socket   10.0.0.1:50000
FAIL  echo         none within 3 s

Messages to UDP port 11001 of 10.0.0.5 vanish, which looks like a firewall.
  - Have the firewall of the rig's machine let UDP port 11001 in. That of Windows drops what comes
    until the program is allowed, for the kind of network that it is in: private or public.
  - Is the machine on, and 10.0.0.5 still its address? See whether `ping 10.0.0.5` is answered.
  - Does the rig's program run? Some machines, Windows among them, do not say when nobody listens.
"""
    )
    assert network.sent == [b"[ 32 ]", b"[ 32 ]"]


@pytest.mark.parametrize("scheme", ["tcp", "wss"])
async def test_connecting_in_vain_looks_like_a_firewall(
    autojump_clock: trio.testing.MockClock,
    network: Network,
    capsys: pytest.CaptureFixture[str],
    scheme: str,
) -> None:
    out = await examined(capsys, network, f"{scheme}://10.0.0.5")
    assert "\nFAIL  connection   no connection to 10.0.0.5:11001 within 3 s\n\n" in out
    assert "\nMessages to TCP port 11001 of 10.0.0.5 vanish, which looks like a firewall.\n" in out


async def test_the_address_of_a_network(
    autojump_clock: trio.testing.MockClock, network: Network, capsys: pytest.CaptureFixture[str]
) -> None:
    """It can be bound as if it were this machine's, but not be sent to."""
    network.here = {"10.0.0.5": set()}
    network.unreachable = PermissionError(errno.EACCES, "Permission denied")
    out = await examined(capsys, network)
    assert "\nok    address      10.0.0.5 is another machine's\n" in out
    assert "\n  - Is it the address of a network, such as 10.0.0.255, instead of a machine's?\n" in out


@pytest.mark.parametrize(
    ("number", "verdict"),
    [
        (errno.ENETUNREACH, "This machine knows no way to 10.0.0.5."),
        (errno.EHOSTUNREACH, "No machine can be reached at 10.0.0.5, or a firewall turns messages back."),
        (errno.EACCES, "This machine does not let programs send to UDP port 11001 of 10.0.0.5."),
        (errno.EINVAL, "It is not possible to send to UDP port 11001 of 10.0.0.5."),
    ],
)
async def test_what_the_system_reports(
    autojump_clock: trio.testing.MockClock,
    network: Network,
    capsys: pytest.CaptureFixture[str],
    number: int,
    verdict: str,
) -> None:
    def report(data: bytes, number_of_message: int) -> Answers:
        raise OSError(number, "as the system says")

    network.answer = report
    out = await examined(capsys, network)
    assert re.search(rf"\nFAIL  echo +.*as the system says.*\n\n{re.escape(verdict)}\n", out)
    network.unreachable = OSError(number, "as the system says")
    out = await examined(capsys, network)
    assert f"\nFAIL  our socket   cannot send to 10.0.0.5:11001: as the system says\n\n{verdict}\n" in out


async def test_nobody_has_the_port(
    autojump_clock: trio.testing.MockClock, network: Network, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(data: bytes, number: int) -> Answers:
        raise ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")

    network.answer = refuse
    out = await examined(capsys, network)
    assert "\nNobody listens at UDP port 11001 of 10.0.0.5, which is there and says so.\n" in out
    assert "\n  - Does it listen on 127.0.0.1 only? For others to reach it, it has to be 0.0.0.0.\n" in out
    network.here = {"10.0.0.5": set()}
    out = await examined(capsys, network)
    assert "\nnote  address      10.0.0.5 is this machine's, where nobody has UDP port 11001\n" in out
    assert "\nNobody listens at UDP port 11001 of this machine.\n" in out


async def test_another_program_has_the_port(
    autojump_clock: trio.testing.MockClock, network: Network, capsys: pytest.CaptureFixture[str]
) -> None:
    network.here = {"10.0.0.5": {11001}}
    out = await examined(capsys, network)
    assert "\nok    address      10.0.0.5 is this machine's, where a program has UDP port 11001\n" in out
    assert "\nA program on this machine has UDP port 11001, but does not answer.\n" in out


async def test_an_answer_from_another_address(
    autojump_clock: trio.testing.MockClock, network: Network, capsys: pytest.CaptureFixture[str]
) -> None:
    """A connected socket does not hear it, so the first question has no answer."""
    network.answer = lambda data, number: [(0.01, data, ("10.0.9.5", 11001))] if number > 1 else []
    out = await examined(capsys, network)
    assert "\nFAIL  echo         from 10.0.9.5:11001 instead of 10.0.0.5:11001\n" in out
    assert "\n  - If that is where the rig is, use udp://10.0.9.5:11001.\n" in out
    assert "\n  - A machine with two networks may answer by the other one: " in out


# -- echoes that come late, or now and then ------------------------------------------------------------


async def test_a_rig_on_another_machine(
    autojump_clock: trio.testing.MockClock, network: Network, capsys: pytest.CaptureFixture[str]
) -> None:
    network.answer = echo
    assert await healthy(capsys, network) == (
        """\
ok    URI          udp://10.0.0.5:11001 (UDP)
ok    address      10.0.0.5 is another machine's
ok    our socket   10.0.0.1:50000
ok    echo         after 1.00 ms
ok    round trips  20 of 20; fastest 1.00 ms, median 1.00 ms, slowest 1.00 ms

The rig is well.
"""
    )
    assert network.sent == 21 * [b"[ 32 ]"]


@pytest.mark.parametrize(("slow", "step"), [(1, "echo  "), (15, "round trips")])
async def test_an_echo_that_comes_late(
    autojump_clock: trio.testing.MockClock,
    network: Network,
    capsys: pytest.CaptureFixture[str],
    slow: int,
    step: str,
) -> None:
    network.answer = lambda data, number: [(2.0 if number == slow else 0.001, data, RIG)]
    out = await examined(capsys, network)
    assert "\n\nThe rig answers, but so late that programs may give up: they wait 1 s unless told" in out
    assert re.search(rf"\nFAIL  {step} .*2\.00 s\n", out)


async def test_echoes_that_are_lost(
    autojump_clock: trio.testing.MockClock, network: Network, capsys: pytest.CaptureFixture[str]
) -> None:
    network.answer = lambda data, number: echo(data, number) if number % 4 else []
    out = await examined(capsys, network)
    assert "\nFAIL  round trips  15 of 20; fastest 1.00 ms, median 1.00 ms, slowest 1.00 ms\n" in out
    assert "\nMessages get lost between here and the rig.\n" in out


async def test_a_first_message_that_is_lost(
    autojump_clock: trio.testing.MockClock, network: Network, capsys: pytest.CaptureFixture[str]
) -> None:
    began = trio.current_time()
    network.answer = lambda data, number: echo(data, number) if number > 1 else []
    out = await examined(capsys, network)
    assert "\nFAIL  echo         none within 3 s; the second message came back\n" in out
    assert trio.current_time() - began < 3.5
    assert "\nMessages get lost between here and the rig.\n" in out


async def test_a_rig_that_stops_answering(
    autojump_clock: trio.testing.MockClock, network: Network, capsys: pytest.CaptureFixture[str]
) -> None:
    network.answer = lambda data, number: echo(data, number) if number <= 8 else []
    out = await examined(capsys, network)
    assert "\nFAIL  round trips  7 of 10; fastest 1.00 ms, median 1.00 ms, slowest 1.00 ms; then: " in out
    assert "\nThe rig answered, and then no more: its program at UDP port 11001 has ended, or hangs.\n" in out
    assert len(network.sent) == 11


# -- names ---------------------------------------------------------------------------------------------


def fails(number: int, text: str) -> Iterator[str]:
    raise socket.gaierror(number, text)


@pytest.mark.parametrize(
    ("number", "verdict"),
    [
        (socket.EAI_NONAME, "There is no machine called cameras, as far as this one knows."),
        (socket.EAI_AGAIN, "The name server does not answer, so nobody knows where cameras is."),
    ],
)
@pytest.mark.parametrize("scheme", ["udp", "tcp"])
async def test_a_name_that_is_not_known(
    autojump_clock: trio.testing.MockClock,
    network: Network,
    capsys: pytest.CaptureFixture[str],
    scheme: str,
    number: int,
    verdict: str,
) -> None:
    Names(lambda host: fails(number, "so it is")).use()
    out = await examined(capsys, network, f"{scheme}://cameras")
    assert f"\nFAIL  name         so it is\n\n{verdict}\n  - " in out
    assert network.sent == []


async def test_a_name_server_that_hangs(
    autojump_clock: trio.testing.MockClock, network: Network, capsys: pytest.CaptureFixture[str]
) -> None:
    began = trio.current_time()
    Names(lambda host: None).use()
    out = await examined(capsys, network, "cameras")
    assert "\nFAIL  name         no answer\n\nThe name server does not answer, so nobody knows" in out
    assert trio.current_time() - began == pytest.approx(3, abs=0.5)


@pytest.mark.parametrize(
    ("addresses", "finding"),
    [
        (["10.0.0.5"], "cameras is 10.0.0.5"),
        (["fe80::5", "10.0.0.5", "10.0.0.5"], "cameras is 10.0.0.5, fe80::5; programs use 10.0.0.5"),
    ],
)
async def test_a_name_and_its_addresses(
    autojump_clock: trio.testing.MockClock,
    network: Network,
    capsys: pytest.CaptureFixture[str],
    addresses: Iterable[str],
    finding: str,
) -> None:
    Names(lambda host: addresses).use()
    network.answer = echo
    out = await healthy(capsys, network, "cameras")
    assert f"\nok    name         {finding}\nok    address      10.0.0.5 is another machine's\n" in out


@pytest.mark.parametrize("host", ["0.0.0.0", "[::]"])
async def test_an_address_for_listening(
    autojump_clock: trio.testing.MockClock, network: Network, capsys: pytest.CaptureFixture[str], host: str
) -> None:
    out = await examined(capsys, network, host + ":1")
    assert f"{host.strip('[]')} is where a rig may listen; to talk to it, name its machine.\n" in out
    assert network.sent == []


# -- errors in words -----------------------------------------------------------------------------------


TCP = Place(RigURI.parse("tcp://cameras"), "cameras", ("10.0.0.5", "fe80::5"))
REFUSED = ConnectionRefusedError(errno.ECONNREFUSED, "refused")
NO_ROUTE = OSError(errno.ENETUNREACH, "no route")


def all_failed(*errors: OSError) -> OSError:
    """As trio reports that no address of a name could be connected to."""
    error = OSError("all attempts to connect failed")
    error.__cause__ = ExceptionGroup("", errors)
    return error


@pytest.mark.parametrize("errors", [(REFUSED, NO_ROUTE), (NO_ROUTE, REFUSED)])
def test_addresses_that_fail_differently(errors: tuple[OSError, ...]) -> None:
    """Where somebody has answered, there is a machine."""
    trouble = of_error(TCP, "connection", all_failed(*errors))
    assert trouble.verdict == "Nobody listens at TCP port 11001 of 10.0.0.5, which is there and says so."
    assert trouble.finding == "refused"


def test_other_errors_are_told_as_they_are() -> None:
    trouble = of_error(TCP, "connection", ValueError("what is this"))
    assert (trouble.finding, trouble.advice) == ("what is this", ())


def test_a_reset_is_about_tls_only_where_there_is_some() -> None:
    reset = ConnectionResetError(errno.ECONNRESET, "reset")
    assert "Nobody listens" in of_error(TCP, "connection", reset).verdict
    wss = Place(RigURI.parse("wss://cameras"), "cameras", ("10.0.0.5",))
    for error in (reset, ssl.SSLError(1, "no")):
        assert "TLS cannot be agreed upon" in of_error(wss, "connection", error).verdict


def test_of_what_has_come_only_the_beginning_is_shown() -> None:
    trouble = of_stream(TCP, "none", 10_000 * b"\xff", closed=False)
    assert trouble.finding.startswith(r"instead, '\\xff\\xff")
    assert trouble.finding.endswith("...' has come")
    assert len(trouble.finding) < 120
