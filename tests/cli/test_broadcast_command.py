"""``trionet broadcast listen`` and ``send``."""

from __future__ import annotations

import functools
import json
import re
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
import trio

from tests.cli.commands import Commands, Running, run_program, running_program
from tests.cli.feeds import HOST, closed_port
from tests.cli.test_rpc_command import identities
from trionet import (
    Broadcaster,
    BroadcastServer,
    TLSIdentity,
    open_broadcast_receiver,
    pyon,
    serve_broadcaster,
)


async def serve(
    nursery: trio.Nursery, *, port: int = 0, tls: TLSIdentity | None = None
) -> tuple[BroadcastServer, Broadcaster]:
    broadcaster = Broadcaster()
    server: BroadcastServer = await nursery.start(
        functools.partial(serve_broadcaster, broadcaster, port, ssl_context=tls)
    )
    return server, broadcaster


async def wait_receivers(server: BroadcastServer, count: int = 1) -> None:
    """The handle has no event for it."""
    while len(server.statistics().receivers) < count:
        await trio.lowlevel.checkpoint()


async def test_each_object_is_a_line(nursery: trio.Nursery) -> None:
    server, broadcaster = await serve(nursery)
    async with running_program("broadcast", "listen", HOST, server.port, "alarms") as listen:
        await wait_receivers(server)
        broadcaster.broadcast("alarms", ("laser", 1.5))
        broadcaster.broadcast("other", 0)
        broadcaster.broadcast("alarms", {1: np.arange(2)})
        assert await listen.read_line() == '["laser",1.5]'
        np.testing.assert_array_equal(pyon.decode(await listen.read_line())[1], np.arange(2))


@pytest.mark.parametrize("words", [["--count", "2", "listen"], ["listen", "--count=2"]])
async def test_so_many_objects(nursery: trio.Nursery, words: list[str]) -> None:
    server, broadcaster = await serve(nursery)
    async with running_program("broadcast", *words, HOST, server.port, "alarms") as listen:
        await wait_receivers(server)
        for number in range(5):
            broadcaster.broadcast("alarms", number)
        assert (await listen.rest(), await listen.process.wait()) == ("0\n1\n", 0)


async def test_a_lost_connection_heals(nursery: trio.Nursery) -> None:
    server, _ = await serve(nursery)
    port = server.port
    async with running_program("broadcast", "listen", HOST, port, "alarms") as listen:
        await wait_receivers(server)
        await server.aclose()
        assert "trying again" in await listen.read_line("err")
        server, broadcaster = await serve(nursery, port=port)
        await wait_receivers(server)
        broadcaster.broadcast("alarms", "back")
        assert await listen.read_line() == '"back"'


async def test_nothing_comes(commands: Commands, nursery: trio.Nursery) -> None:
    server, _ = await serve(nursery)
    done = await commands.run("broadcast", "listen", HOST, server.port, "alarms", "--timeout", "1")
    assert (done.status, done.out, done.err) == (1, "", "trionet: error: nothing has come for 1 s\n")


async def test_refused(commands: Commands) -> None:
    with closed_port() as holder:
        done = await commands.run("broadcast", "listen", HOST, holder.getsockname()[1], "alarms")
    assert (done.status, done.out, done.err.count("\n")) == (1, "", 1)
    assert done.err.startswith("trionet: error: ")


@pytest.mark.skipif(sys.platform == "win32", reason="signals, and pipes that report their reader's end")
async def test_ctrl_c_and_a_reader_that_leaves(nursery: trio.Nursery) -> None:
    server, broadcaster = await serve(nursery)
    async with running_program("broadcast", "listen", HOST, server.port, "alarms") as listen:
        await wait_receivers(server)
        listen.process.send_signal(signal.SIGINT)
        assert (await listen.process.wait(), await listen.rest("err")) == (130, "")
    while server.statistics().receivers:
        await trio.lowlevel.checkpoint()
    async with running_program("broadcast", "listen", HOST, server.port, "alarms") as listen:
        await wait_receivers(server)
        await listen.close_stdout()
        broadcaster.broadcast("alarms", 1)
        assert (await listen.process.wait(), await listen.rest("err")) == (1, "")


# -- send ----------------------------------------------------------------------------------------------


async def port_of(send: Running) -> int:
    """The port that it says it serves."""
    line = await send.read_line("err")
    found = re.fullmatch(r"trionet: serving \S+:(\d+); waiting for \d+ on channel 'c'", line)
    assert found is not None
    return int(found[1])


async def test_values_are_sent_when_all_have_come() -> None:
    async with running_program("broadcast", "send", 0, "c", "--receivers", 2, "-1.5", "(1, 2)") as send:
        port = await port_of(send)
        async with open_broadcast_receiver(HOST, port, "c", reconnect=False) as one:
            async with open_broadcast_receiver(HOST, port, "other", reconnect=False):
                async with open_broadcast_receiver(HOST, port, "c", reconnect=False) as two:
                    for receiver in (one, two):
                        assert [await anext(receiver), await anext(receiver)] == [-1.5, (1, 2)]
        assert re.fullmatch(r"trionet: 2 listening: \S+, \S+", await send.read_line("err"))
        assert (await send.process.wait(), await send.rest()) == (0, "")


async def test_lines_are_sent() -> None:
    async with running_program("broadcast", "send", 0, "c") as send:
        async with open_broadcast_receiver(HOST, await port_of(send), "c", reconnect=False) as receiver:
            await send.write("1\n\n'two'\n")
            assert [await anext(receiver), await anext(receiver)] == [1, "two"]
            await send.write("[3, nope]\n{'x': 4}")
            await send.close_stdin()
            assert await anext(receiver) == {"x": 4}
        await send.read_line("err")
        assert (await send.read_line("err")).startswith("trionet: error: line 4: nope is no value")
        assert await send.process.wait() == 1


async def test_no_object_is_left_out() -> None:
    count = 5000
    async with running_program("broadcast", "send", 0, "c") as send:
        async with open_broadcast_receiver(HOST, await port_of(send), "c", reconnect=False) as receiver:
            await send.write("".join(f"({number}, 'x' 'y')\n" for number in range(count)))
            await send.close_stdin()
            assert [(await anext(receiver))[0] for _ in range(count)] == list(range(count))
            assert await send.process.wait() == 0


async def test_nobody_comes(commands: Commands) -> None:
    done = await commands.run("broadcast", "send", 0, "c", "1", "--timeout", "0.05")
    assert (done.status, done.out) == (1, "")
    assert done.err.splitlines()[1:] == ["trionet: error: no 1 on channel 'c' within 0.05 s"]


async def test_a_port_that_is_taken(commands: Commands, nursery: trio.Nursery) -> None:
    server, _ = await serve(nursery)
    done = await commands.run("broadcast", "send", server.port, "c", "1")
    assert (done.status, done.out, done.err.count("\n")) == (1, "", 1)
    assert f"{HOST}:{server.port}" in done.err


async def test_a_value_that_pyon_cannot_carry() -> None:
    async with running_program("broadcast", "send", 0, "c", "OrderedDict([('__jsonclass__', 1)])") as send:
        async with open_broadcast_receiver(HOST, await port_of(send), "c", reconnect=False):
            await send.read_line("err")
            assert "reserved key" in await send.read_line("err")
            assert await send.process.wait() == 1


async def test_listen_and_send_over_tls(tmp_path: Path) -> None:
    ours, theirs = identities(tmp_path)
    words = ["broadcast", "send", "--tls", ours.cert, ours.key, ours.peer_cert, "0", "c", "'x'"]
    async with running_program(*words) as send:
        listen = ["listen", HOST, await port_of(send), "c", "--count", 1]
        tls = ["--tls", theirs.cert, theirs.key, theirs.peer_cert]
        listened = await run_program("broadcast", *listen, *tls)
        assert (listened.status, json.loads(listened.out)) == (0, "x")
        assert await send.process.wait() == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "required: ACTION (see trionet broadcast --help)"),
        (["listen", HOST, "1"], "required: CHANNEL"),
        (["listen", HOST, "1", "c", "--count", "0"], "'0' is no number greater than 0"),
        (["listen", HOST, "1", "c", "--receivers", "1"], "unrecognized arguments: --receivers"),
        (["send"], "required: PORT, CHANNEL (see trionet broadcast send --help)"),
        (["send", "x", "c"], "'x' is no port: a number from 0 to 65535 is"),
        (["send", "0", "c", "1", "hello"], "value 2: hello is no value"),
    ],
)
async def test_usage(commands: Commands, words: list[str], message: str) -> None:
    done = await commands.run("broadcast", *words)
    assert (done.status, done.out, done.err.count("\n")) == (2, "", 1)
    assert message in done.err
