"""``trionet logs serve`` and ``tail``."""

from __future__ import annotations

import functools
import logging
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path

import pytest
import trio

import trionet
from tests.cli.commands import Commands, Running, running_program
from tests.cli.feeds import HOST, closed_port
from tests.cli.test_broadcast_command import wait_receivers
from tests.cli.test_rpc_command import identities
from trionet import Broadcaster, BroadcastServer, TLSIdentity, open_broadcast_receiver, serve_broadcaster
from trionet.cli.logs import record_text

TIME = r"\d\d\d\d-\d\d-\d\d \d\d:\d\d:\d\d"


async def port_of(serve: Running) -> int:
    """A port that it says it serves."""
    return int((await serve.read_line("err")).partition(", channel")[0].rpartition(":")[2])


@asynccontextmanager
async def forwarding(port: int, tls: TLSIdentity | None = None) -> AsyncIterator[logging.Logger]:
    """A logger whose records are forwarded to a sink."""
    logger = logging.Logger("laser.driver", 1)
    async with trionet.open_log_forwarder(
        HOST, port, source="laser-pc", ssl_context=tls, flush_timeout=30
    ) as handler:
        logger.addHandler(handler)
        yield logger


async def test_records_are_lines() -> None:
    async with running_program("logs", "serve", 0) as serve:
        async with forwarding(await port_of(serve)) as logger:
            logger.info("power is %s mW", 1.5)
            logger.error("two\nlines \x1b[31m\n  here")
            logger.log(5, "a trace")
        assert re.fullmatch(TIME + r" laser-pc INFO laser\.driver: power is 1\.5 mW", await serve.read_line())
        assert (await serve.read_line())[20:] == "laser-pc ERROR laser.driver: two"
        assert await serve.read_line() == "    lines \\x1b[31m"
        assert await serve.read_line() == "      here"
        assert (await serve.read_line())[20:] == "laser-pc TRACE laser.driver: a trace"


@pytest.mark.parametrize("level", ["WARNING", "warning", "30"])
async def test_a_level(level: str) -> None:
    async with running_program("logs", "--level", level, "serve", 0) as serve:
        async with forwarding(await port_of(serve)) as logger:
            logger.info("no")
            logger.warning("yes")
        assert (await serve.read_line())[20:] == "laser-pc WARNING laser.driver: yes"


async def log_and_print(logger: logging.Logger, serve: Running, printed: list[str]) -> None:
    """Log again and again: nothing says when a receiver is there that has just connected."""
    while True:
        logger.warning("a\nb")
        printed.append(await serve.read_line())
        assert await serve.read_line() == "    b"


async def test_records_are_broadcast_as_by_a_master() -> None:
    async with running_program("logs", "serve", 0, "--broadcast", 0) as serve:
        broadcasting, sink = await port_of(serve), await port_of(serve)
        async with open_broadcast_receiver(HOST, broadcasting, "log", reconnect=False) as log:
            async with forwarding(sink) as logger, trio.open_nursery() as nursery:
                nursery.start_soon(log_and_print, logger, serve, [])
                level, source, created, message = await anext(log)
                nursery.cancel_scope.cancel()
        assert (level, source, message) == (30, "laser-pc", "laser.driver:a\nb")
        assert isinstance(created, float)


async def test_tail_prints_what_serve_does() -> None:
    printed: list[str] = []
    async with running_program("logs", "serve", 0, "--broadcast", 0) as serve:
        broadcasting, sink = await port_of(serve), await port_of(serve)
        async with running_program("logs", "tail", HOST, broadcasting) as tail, forwarding(sink) as logger:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(log_and_print, logger, serve, printed)
                line = await tail.read_line()
                assert await tail.read_line() == "    b"
                nursery.cancel_scope.cancel()
        assert line[20:] == "laser-pc WARNING laser.driver: a"
        assert line in printed


@pytest.mark.skipif(sys.platform == "win32", reason="signals, and pipes that report their reader's end")
async def test_a_reader_that_leaves_and_ctrl_c() -> None:
    async with running_program("logs", "serve", 0) as serve:
        async with forwarding(await port_of(serve)) as logger:
            await serve.close_stdout()
            logger.info("x")
            assert (await serve.process.wait(), await serve.rest("err")) == (1, "")
    async with running_program("logs", "serve", 0, "--broadcast", 0) as serve:
        await port_of(serve)
        await port_of(serve)
        serve.process.send_signal(signal.SIGINT)
        assert (await serve.process.wait(), await serve.rest("err")) == (130, "")


async def test_what_breaks_the_protocol_is_one_line(nursery: trio.Nursery) -> None:
    async with running_program("logs", "serve", 0) as serve:
        async with await trio.open_tcp_stream(HOST, await port_of(serve)) as stream:
            await stream.send_all(b"GET / HTTP/1.1\r\n\r\n")
            assert "connection closed" in await serve.read_line("err")


async def test_a_port_that_is_taken(commands: Commands) -> None:
    with closed_port() as holder:
        holder.listen()
        port = holder.getsockname()[1]
        for words in ([port], [0, "--broadcast", port]):
            done = await commands.run("logs", "serve", *words)
            assert (done.status, done.out, done.err.count("\n")) == (1, "", 1)
            assert f"{HOST}:{port}" in done.err


async def test_tls(tmp_path: Path) -> None:
    ours, theirs = identities(tmp_path)
    async with running_program("logs", "serve", "0", "--tls", ours.cert, ours.key, ours.peer_cert) as serve:
        async with forwarding(await port_of(serve), theirs) as logger:
            logger.info("secret")
            assert (await serve.read_line()).endswith("secret")


# -- tail ----------------------------------------------------------------------------------------------


async def serve_log(nursery: trio.Nursery, port: int = 0) -> tuple[BroadcastServer, Broadcaster]:
    broadcaster = Broadcaster()
    serve = functools.partial(serve_broadcaster, broadcaster, port)
    server: BroadcastServer = await nursery.start(serve)
    return server, broadcaster


async def test_the_log_of_a_master(nursery: trio.Nursery) -> None:
    server, master = await serve_log(nursery)
    port = server.port
    async with running_program("logs", "tail", HOST, port, "--level", "INFO") as tail:
        await wait_receivers(server)
        master.broadcast("log", (10, "master", 0.0, "a.b:no"))
        master.broadcast("log", (20, "worker(3,\x1b)", 1.5e9, "a.b:one: two\nthree"))
        master.broadcast("log", "no record")
        master.broadcast("log", (33, "master", float("inf"), "no name"))
        created = f"{datetime.fromtimestamp(1.5e9):%Y-%m-%d %H:%M:%S}"
        assert await tail.read_line() == f"{created} worker(3,\\x1b) INFO a.b: one: two"
        assert await tail.read_line() == "    three"
        assert await tail.read_line() == "inf master 33 no name"
        assert await tail.read_line("err") == "trionet: no record: no record"
        await server.aclose()
        assert "trying again" in await tail.read_line("err")
        server, master = await serve_log(nursery, port)
        await wait_receivers(server)
        master.broadcast("log", (50, "master", 0, "x:back"))
        assert (await tail.read_line()).endswith(" master CRITICAL x: back")


async def test_another_channel(nursery: trio.Nursery) -> None:
    server, master = await serve_log(nursery)
    async with running_program("logs", "tail", HOST, server.port, "--channel", "mine") as tail:
        await wait_receivers(server)
        master.broadcast("log", (50, "master", 0, "x:no"))
        master.broadcast("mine", (50, "master", 0, "x:yes"))
        assert (await tail.read_line()).endswith("x: yes")


async def test_refused(commands: Commands) -> None:
    with closed_port() as holder:
        done = await commands.run("logs", "tail", HOST, holder.getsockname()[1])
    assert (done.status, done.out, done.err.count("\n")) == (1, "", 1)


@pytest.mark.parametrize("created", [float("nan"), float("inf"), 1e300, -1e300])
def test_times_that_are_none(created: float) -> None:
    assert record_text(20, "s", created, "n", "m") == f"{created!r} s INFO n: m"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "required: ACTION"),
        (["serve"], "required: PORT (see trionet logs serve --help)"),
        (["serve", "0", "--level", "LOUD"], "'LOUD' is no level: TRACE, DEBUG, INFO, WARNING"),
        (["serve", "0", "--broadcast", "x"], "'x' is no port"),
        (["tail", HOST, "1", "--bind", "x"], "unrecognized arguments: --bind x"),
    ],
)
async def test_usage(commands: Commands, words: list[str], message: str) -> None:
    done = await commands.run("logs", *words)
    assert (done.status, done.out, done.err.count("\n")) == (2, "", 1)
    assert message in done.err
