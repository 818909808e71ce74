"""``trionet rig doctor`` on loopback: every line as a user sees it."""

from __future__ import annotations

import re
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio

from tests.cli.commands import Commands, Outcome
from tests.cli.feeds import HOST, closed_port
from tests.cli.test_rpc_command import identities
from trionet import ExpMessage, RigEvent, TLSIdentity, open_rig_listener

#: What the doctor sends.
QUESTION = b"[ 32 ]"

WELL = "\nThe rig is well.\n"


@pytest.fixture(autouse=True)
def _width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rig that answers is well, also where the machine has stood still for a moment."""
    for what in ("_PATIENCE", "_SLOW", "_LONGEST_LOOK"):
        monkeypatch.setattr(f"trionet.cli.rig.doctor.{what}", 30.0)


async def doctor(commands: Commands, uri: object, *words: object) -> Outcome:
    """Run it. Nothing goes to standard error, no line is too long, and times are replaced by TIME."""
    done = await commands.run("rig", "doctor", uri, *words)
    assert done.err == ""
    assert max(map(len, done.out.splitlines())) <= 100
    out = re.sub(r"\d+\.\d\d m?s", "TIME", done.out)
    return Outcome(done.status, re.sub(rf"(our socket +{re.escape(HOST)}):\d+", r"\1:OURS", out), "")


def step_lines(out: str) -> str:
    """The steps only."""
    return out.partition("\n\n")[0]


# -- a rig that is well --------------------------------------------------------------------------------


async def test_a_rig_that_is_well(commands: Commands) -> None:
    async with open_rig_listener(f"udp://{HOST}:0") as rig:
        done = await doctor(commands, f"{HOST}:{rig.port}")
    assert (done.status, done.out) == (
        0,
        f"""\
ok    URI          udp://{HOST}:{rig.port} (UDP)
ok    address      {HOST} is this machine's, where a program has UDP port {rig.port}
ok    our socket   {HOST}:OURS
ok    echo         after TIME
ok    round trips  20 of 20; fastest TIME, median TIME, slowest TIME
{WELL}""",
    )


async def test_a_rig_over_tcp(commands: Commands) -> None:
    async with open_rig_listener(f"tcp://{HOST}:0") as rig:
        done = await doctor(commands, f"tcp://{HOST}:{rig.port}")
    assert (done.status, done.out) == (
        0,
        f"""\
ok    URI          tcp://{HOST}:{rig.port} (TCP)
ok    address      {HOST} is this machine's
ok    connection   accepted after TIME
ok    echo         after TIME
ok    round trips  20 of 20; fastest TIME, median TIME, slowest TIME
{WELL}""",
    )


async def test_a_rig_over_tls_and_one_that_is_not_trusted(commands: Commands, tmp_path: Path) -> None:
    ours, theirs = identities(tmp_path)
    async with open_rig_listener(f"wss://{HOST}:0", ssl_context=theirs.server_context()) as rig:
        uri = f"wss://{HOST}:{rig.port}"
        done = await doctor(commands, uri, "--tls", ours.cert, ours.key, ours.peer_cert)
        assert (done.status, done.out.endswith(WELL)) == (0, True)
        assert f"ok    URI          {uri} (TCP with TLS)\n" in done.out
        done = await doctor(commands, uri)
    assert done.status == 1
    assert "FAIL  connection   [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed" in done.out
    assert done.out.endswith(
        f"""
TCP port {rig.port} of this machine accepts connections, but TLS cannot be agreed upon.
  - Our certificate and the rig's are given with --tls CERT KEY PEER_CERT. Without that, the rig's
    has to be one that this system trusts.
"""
    )


async def test_a_rig_that_does_not_trust_us(commands: Commands, tmp_path: Path) -> None:
    ours, theirs = identities(tmp_path)
    strangers = TLSIdentity(theirs.cert, theirs.key, theirs.cert)
    async with open_rig_listener(f"wss://{HOST}:0", ssl_context=strangers.server_context()) as rig:
        uri = f"wss://{HOST}:{rig.port}"
        done = await doctor(commands, uri, "--tls", ours.cert, ours.key, ours.peer_cert)
    assert done.status == 1
    assert "  - It may not trust our certificate: give one that it knows with --tls.\n" in done.out


async def test_the_rig_is_not_troubled_with_messages(commands: Commands) -> None:
    async with open_rig_listener(f"udp://{HOST}:0") as rig:
        events: list[RigEvent] = []
        rig.assign_callback(ExpMessage.any(), events.append)
        done = await doctor(commands, f"{HOST}:{rig.port}")
        assert rig.statistics().pings == 21
    assert (done.status, events) == (0, [])


# -- UDP -----------------------------------------------------------------------------------------------


Reply = Callable[[trio.socket.SocketType, bytes, tuple[str, int]], Awaitable[object]]


async def receive_udp(reply: Reply, task_status: trio.TaskStatus[int]) -> None:
    """Something at a UDP port that is no rig of ours."""
    with trio.socket.socket(type=socket.SOCK_DGRAM) as sock:
        await sock.bind((HOST, 0))
        task_status.started(sock.getsockname()[1])
        while True:
            data, source = await sock.recvfrom(65_536)
            await reply(sock, data, source)


async def test_silence_of_a_program(commands: Commands) -> None:
    with trio.socket.socket(type=socket.SOCK_DGRAM) as silent:
        await silent.bind((HOST, 0))
        port = silent.getsockname()[1]
        done = await doctor(commands, f"{HOST}:{port}", "--timeout", "0.1")
        assert [await silent.recv(100), await silent.recv(100)] == [QUESTION, QUESTION]
    assert (done.status, done.out) == (
        1,
        f"""\
ok    URI          udp://{HOST}:{port} (UDP)
ok    address      {HOST} is this machine's, where a program has UDP port {port}
ok    our socket   {HOST}:OURS
FAIL  echo         none within 0.1 s

A program on this machine has UDP port {port}, but does not answer.
  - If it is the rig's, it hangs: look into its log, and start it anew.
  - It may be another one. Linux says which: `ss -lnpu sport = {port}`; macOS: `lsof -nPi udp:{port}`;
    Windows: `netstat -abno`.
""",
    )


async def test_refused(commands: Commands) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as holder:
        holder.bind((HOST, 0))
        port = holder.getsockname()[1]
        holder.connect((HOST, port))  # to itself: the port is taken, and refuses all others
        done = await doctor(commands, f"{HOST}:{port}")
    assert done.status == 1
    assert "\nFAIL  echo         " in done.out
    assert done.out.endswith(
        f"""
Nobody listens at UDP port {port} of this machine.
  - Does the rig's program run? It says where it listens, or its log does.
  - Is the port right, and does it listen by UDP? If not, the URI begins with tcp://.
"""
    )


async def test_an_echo_that_differs(commands: Commands, nursery: trio.Nursery) -> None:
    async def reply(sock: trio.socket.SocketType, data: bytes, source: tuple[str, int]) -> None:
        await sock.sendto(b"[33, 0]\x1b[31m", source)

    port = await nursery.start(receive_udp, reply)
    done = await doctor(commands, f"{HOST}:{port}", "--timeout", "1")
    assert done.status == 1
    assert done.out.endswith(
        f"""\
FAIL  echo         instead, '[33, 0]\\x1b[31m' has come from {HOST}:{port}

The program at UDP port {port} of this machine answers, but it is no rig.
  - Another program may have the port {port}: is it the one where the rig listens?
  - A rig sends every message back as it came, byte for byte.
"""
    )


async def test_an_echo_from_another_port(commands: Commands, nursery: trio.Nursery) -> None:
    with trio.socket.socket(type=socket.SOCK_DGRAM) as other:
        await other.bind((HOST, 0))
        where = other.getsockname()[1]

        async def reply(sock: trio.socket.SocketType, data: bytes, source: tuple[str, int]) -> None:
            await other.sendto(data, source)

        port = await nursery.start(receive_udp, reply)
        done = await doctor(commands, f"{HOST}:{port}", "--timeout", "1")
    assert done.status == 1
    assert done.out.endswith(
        f"""\
FAIL  echo         from {HOST}:{where} instead of {HOST}:{port}

The rig answers from {HOST}:{where}, where programs do not expect it: they do not hear that.
  - If that is where the rig is, use udp://{HOST}:{where}.
  - A rig has to answer from the port at which it listens: one socket for both.
"""
    )


# -- TCP -----------------------------------------------------------------------------------------------


Talk = Callable[[trio.SocketStream], Awaitable[object]]


async def serve_tcp(talk: Talk, task_status: trio.TaskStatus[int]) -> None:
    """Something at a TCP port that is no rig."""

    async def serve(stream: trio.SocketStream) -> None:
        async with stream:
            await talk(stream)

    listeners = await trio.open_tcp_listeners(0, host=HOST)
    task_status.started(listeners[0].socket.getsockname()[1])
    await trio.serve_listeners(serve, listeners)


async def hold(stream: trio.SocketStream) -> None:
    async for _ in stream:
        pass


async def greet(stream: trio.SocketStream) -> None:
    await stream.send_all(b"SSH-2.0-OpenSSH\r\n")
    await hold(stream)


async def refuse(stream: trio.SocketStream) -> None:
    await stream.receive_some()


async def echo_thrice(stream: trio.SocketStream) -> None:
    for _ in range(3):
        await stream.send_all(await stream.receive_some())
    await stream.receive_some()


@pytest.mark.parametrize(
    ("talk", "seconds", "finding", "verdict"),
    [
        (hold, 1, "echo         none within 1 s", "accepts connections, but does not answer."),
        (greet, 3, r"echo         instead, 'SSH-2.0-OpenSSH\r\n' has come", "answers, but it is no rig."),
        (refuse, 30, "echo         the peer has closed", "closes the connection when a message comes."),
    ],
)
async def test_programs_that_are_no_rigs(
    commands: Commands, nursery: trio.Nursery, talk: Talk, seconds: int, finding: str, verdict: str
) -> None:
    port = await nursery.start(serve_tcp, talk)
    done = await doctor(commands, f"tcp://{HOST}:{port}", "--timeout", seconds)
    assert done.status == 1
    assert f"\nFAIL  {finding}" in done.out
    assert f"\n\nThe program at TCP port {port} of this machine {verdict}\n  - " in done.out
    assert "warning" not in done.out


async def test_a_program_that_ends(commands: Commands, nursery: trio.Nursery) -> None:
    port = await nursery.start(serve_tcp, echo_thrice)
    done = await doctor(commands, f"tcp://{HOST}:{port}")
    assert done.status == 1
    assert "\nFAIL  round trips  2 of 2; fastest TIME, median TIME, slowest TIME; then: the peer" in done.out
    assert f"no more: its program at TCP port {port} has ended, or hangs.\n" in done.out


@pytest.mark.parametrize("talk", [hold, greet, refuse])
async def test_programs_without_tls(commands: Commands, nursery: trio.Nursery, talk: Talk) -> None:
    port = await nursery.start(serve_tcp, talk)
    done = await doctor(commands, f"wss://{HOST}:{port}", "--timeout", 1 if talk is hold else 30)
    assert done.status == 1
    assert "\nFAIL  connection   " in done.out
    assert (
        f"\n\nTCP port {port} of this machine accepts connections, but TLS cannot be agreed upon.\n"
        in done.out
    )
    assert "\n  - iblutil's rigs speak TCP without TLS, whatever they call it: use tcp://.\n" in done.out


@pytest.mark.parametrize("scheme", ["tcp", "wss"])
async def test_a_refused_connection(commands: Commands, scheme: str) -> None:
    with closed_port() as holder:
        port = holder.getsockname()[1]
        done = await doctor(commands, f"{scheme}://{HOST}:{port}")
    assert done.status == 1
    assert re.search(r"\nFAIL  connection   .*refused", done.out)
    assert f"\n\nNobody listens at TCP port {port} of this machine.\n" in done.out
    assert "the URI begins with udp://.\n" in done.out


# -- usage ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "required: URI"),
        ([f"{HOST}:99999"], "'99999' in '127.0.0.1:99999' is no port"),
        (["http://cameras"], "scheme 'http' is not one of udp, tcp, ws, wss"),
        ([f"{HOST}:0"], "is no port"),
        ([HOST, "--timeout", "0"], "'0' is no number of seconds greater than 0"),
        ([HOST, "--tls", "a", "b", "c"], "--tls is for wss://, not for udp://127.0.0.1:11001"),
    ],
)
async def test_usage(commands: Commands, words: list[str], message: str) -> None:
    done = await commands.run("rig", "doctor", *words)
    assert (done.status, done.out, done.err.count("\n")) == (2, "", 1)
    assert message in done.err
