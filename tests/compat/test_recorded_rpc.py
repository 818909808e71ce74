"""Sessions of RPC that were recorded from upstream's peers, with one of ours in the place of each.

What the bytes mean is for `tests.front.test_golden_transcripts`; this is about what programs see of it.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.compat.asyncio_programs import port_of, run
from tests.compat.test_recorded_sessions import replaying
from tests.echo_target import Echo as TrioEcho
from tests.echo_target import Hello, OldTarget
from tests.front import test_remote_exec
from tests.front.test_golden_transcripts import check_answer, difference
from tests.wire.transcripts import Recording, load, recordings
from tests.wire.values import identical
from trionet.wire.rpc_messages import V1, V2, ListMethods
from trionet_compat.artiq.protocols import pc_rpc as artiq
from trionet_compat.sipyco.pc_rpc import (
    AutoTarget,
    BestEffortClient,
    Client,
    GenericRemoteException,
    IncompatibleServer,
    Server,
)
from trionet_compat.sipyco.remote_exec import rexec_targets

HOST = "127.0.0.1"


class Echo(TrioEcho):
    __doc__ = TrioEcho.__doc__

    async def async_echo(self, x):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
        await asyncio.sleep(0)
        return x


#: The servers that stand in for the recorded ones, but for the edge cases, which no program sees.
SERVERS: dict[str, Callable[[], Server]] = {
    "v1_old_client": lambda: Server({"echo": Echo()}, "new server", True),
    "v1_values": lambda: Server({"echo": Echo()}),
    "v2_asyncio_client": lambda: Server({"echo": Echo()}),
    "v2_best_effort_client": lambda: Server({"echo": Echo()}),
    "v2_session": lambda: Server({"echo": Echo()}, "A description \u269b", True),
    "v2_sys_exit": lambda: Server({"echo": Echo()}, None, True),
    "v2_two_targets": lambda: Server({"one": Hello("first"), "two": Hello("second")}, "two targets"),
    "v2_values": lambda: Server({"echo": Echo()}),
}
#: Ends the program here, see the migration guide.
CTRL_C = b'"name":"raise_keyboard_interrupt"'


async def replay_client(recording: Recording, port: int, check: Callable[[int, bytes, bytes], None]) -> None:
    """Send what the recorded client sent, and look at each answer; upstream's is given, too."""
    reader, writer = await asyncio.open_connection(HOST, port)
    answers = recording.lines("server")
    for number, request in enumerate(recording.lines("client")):
        if CTRL_C not in request:
            writer.write(request)
            ours = await reader.readline()
            if number < len(answers):
                check(number, ours, answers[number])
            else:
                assert ours == b""
    writer.write_eof()
    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize(
    "recording", [recording for scenario in SERVERS for recording in recordings(scenario)], ids=str
)
def test_a_server(recording: Recording) -> None:
    def check(number: int, ours: bytes, recorded: bytes) -> None:
        request = recording.lines("client")[number]
        check_answer(recording, number, ours, recorded, difference(recording, request))

    async def main() -> None:
        server = SERVERS[recording.scenario]()
        await server.start(HOST, 0)
        await replay_client(recording, port_of(server), check)
        await server.stop()

    run(main)


def test_a_server_of_the_time_of_artiq_4() -> None:
    """It offers nothing, and its clients ask for nothing."""
    (recording,) = recordings("v1_old_server")

    def check(number: int, ours: bytes, recorded: bytes) -> None:
        if number == 0:
            assert json.loads(ours) == {**json.loads(recorded), "features": []}  # which means the same
        else:
            check_answer(recording, number, ours, recorded, None)

    async def main() -> None:
        server = artiq.Server({"echo": OldTarget()}, "old server", True)
        await server.start(HOST, 0)
        await replay_client(recording, port_of(server), check)
        await server.wait_terminate()
        await server.stop()

    run(main)


@pytest.mark.parametrize("recording", load("remote_exec_session"), ids=str)
def test_a_server_that_executes(recording: Recording) -> None:
    def check(number: int, ours: bytes, recorded: bytes) -> None:
        request = recording.lines("client")[number]
        test_remote_exec.check_answer(number, request, ours, recorded)

    async def main() -> None:
        server = Server(rexec_targets("dev", test_remote_exec.Driver()), builtin_terminate=True)
        await server.start(HOST, 0)
        await replay_client(recording, port_of(server), check)
        await server.stop()

    run(main)


# -- clients ---------------------------------------------------------------------------------------------


def use(recording: Recording, function: Callable[[int], None]) -> None:
    """Have blocking code talk to the recorded server, of which it has to ask the same."""

    async def main() -> None:
        async with replaying(recording) as (_, port):
            await asyncio.to_thread(function, port)

    run(main)


#: What upstream's clients raised, what ours raise, and why: names that a server sends call nothing.
DIFFERENCES = {
    "builtins.KeyboardInterrupt": "GenericRemoteException",
    "builtins.TypeError: function": "GenericRemoteException",  # of a UnicodeDecodeError
}


def outcome(client: Any, request: Any) -> Any:
    """What a program has of a recorded request: the result, or the exception."""
    if isinstance(request, ListMethods):
        return client.get_rpc_method_list()
    try:
        return getattr(client, request.method)(*request.args, **request.kwargs)
    except Exception as error:
        return error


def check_session(client: Any, recording: Recording) -> None:
    """Call what was called, and compare what comes of it with the recorded replies and notes."""
    codec = V2 if recording.is_v2 else V1
    notes = [message.note for message in recording.messages if message.sender == "client"][3:]
    for number, (request, reply) in enumerate(recording.exchanges):
        result, failure = codec.decode_reply(reply[:-1])
        ours = outcome(client, codec.decode_request(request[:-1]))
        if failure is None:
            assert identical(ours, result)
            continue
        assert vars(ours)["parent_traceback"] == list(failure.traceback)
        raised = re.search(r"raises ([\w.]+): (\w*)", notes[number])
        if raised is not None:
            names = raised[1], f"{raised[1]}: {raised[2]}"
            different = [DIFFERENCES[name] for name in names if name in DIFFERENCES]
            assert type(ours).__name__ == (different or [raised[1].rpartition(".")[2]])[0]
        assert str(ours.args[0]).endswith(failure.message)


@pytest.mark.parametrize(
    ("scenario", "client_class"),
    [
        ("v2_session", Client),
        ("v2_values", Client),
        ("v1_old_server", Client),
        ("v1_old_server", artiq.Client),
        ("v1_old_client", artiq.Client),
        ("v1_values", artiq.Client),
    ],
)
def test_a_blocking_client(scenario: str, client_class: type[Client]) -> None:
    (recording,) = recordings(scenario)

    def session(port: int) -> None:
        client = client_class(HOST, port)
        greeting = json.loads(recording.lines("server")[0])
        assert client.get_rpc_id() == (greeting["targets"], greeting["description"])
        assert client.get_selected_target() == "echo"
        check_session(client, recording)
        client.close_rpc()

    use(recording, session)


def test_a_client_of_two_targets() -> None:
    selected, several, *others = recordings("v2_two_targets")

    def select(port: int) -> None:
        client = Client(HOST, port, None)
        assert client.get_rpc_id() == (["one", "two"], "two targets")
        assert client.get_selected_target() is None
        client.select_rpc_target("two")
        check_session(client, selected)
        client.close_rpc()

    def refuse(port: int) -> None:
        with pytest.raises(ValueError, match=r"^Server has multiple targets: one two$"):
            Client(HOST, port, AutoTarget)

    def miss(port: int) -> None:
        with pytest.raises(IncompatibleServer, match=r"^valid target name\(s\): one two$"):
            Client(HOST, port, "three")

    use(selected, select)
    use(several, refuse)
    for recording in others:
        use(recording, miss)


def test_a_best_effort_client() -> None:
    (recording,) = recordings("v2_best_effort_client")

    def session(port: int) -> None:
        client = BestEffortClient(HOST, port, "echo")
        check_session(client, recording)
        client.close_rpc()

    use(recording, session)


def test_a_client_of_a_server_that_ends() -> None:
    """A method has raised SystemExit there."""
    (recording,) = recordings("v2_sys_exit")

    def session(port: int) -> None:
        client = Client(HOST, port, "echo")
        with pytest.raises(EOFError):
            client.raise_sys_exit()
        client.close_rpc()

    async def main() -> None:
        lines = recording.lines("server")
        requests = recording.lines("client")

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            for number, request in enumerate(requests):
                assert await reader.readline() == request
                writer.write(b"".join(lines[number : number + 1]))
            writer.close()
            await writer.wait_closed()

        server = await asyncio.start_server(serve, HOST, 0)
        await asyncio.to_thread(session, server.sockets[0].getsockname()[1])
        server.close()
        await server.wait_closed()

    run(main)


@pytest.mark.parametrize("recording", load("remote_exec_session"), ids=str)
def test_a_client_of_a_server_that_executes(recording: Recording) -> None:
    def session(port: int) -> None:
        client = Client(HOST, port, "dev_rexec")
        check_session(client, recording)
        client.close_rpc()

    use(recording, session)


def test_only_the_recorded_exceptions_differ() -> None:
    (recording,) = recordings("v2_session")
    notes = [message.note for message in recording.messages]
    for name in DIFFERENCES:
        assert any(f"raises {name}" in note for note in notes)
    assert GenericRemoteException.__name__ in DIFFERENCES.values()
