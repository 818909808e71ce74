"""The modules of `trionet_compat.sipyco` that talk to nobody, or to sockets and pipes only."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import socket
import sys
import threading
from collections.abc import Iterator
from typing import Any, cast

import pytest
import trio

from tests.compat.served import Instrument, port_of, serving
from trionet_compat.sipyco import keepalive
from trionet_compat.sipyco.arguments import formatargspec
from trionet_compat.sipyco.common_args import (
    bind_address_from_args,
    init_logger_from_args,
    simple_network_args,
    verbosity_args,
)
from trionet_compat.sipyco.fire_and_forget import FFProxy
from trionet_compat.sipyco.pc_rpc import BestEffortClient, Client
from trionet_compat.sipyco.pipe_ipc import ChildComm

HOST = "127.0.0.1"


class Laser:
    """Something slow, for threads."""

    def __init__(self) -> None:
        self.called: list[object] = []
        self.released = threading.Event()

    def note(self, *args: object, **kwargs: object) -> str:
        self.called.append((args, kwargs))
        return "result"

    def wait(self) -> None:
        self.released.wait()

    def fail(self) -> None:
        raise ValueError("no power")

    @property
    def power(self) -> float:
        raise AssertionError("must not be read")

    number = 5


def test_calls_that_nobody_waits_for() -> None:
    laser = Laser()
    ff = FFProxy(laser)
    ff.ff_join()
    assert ff.note(1, two=2) is None
    ff.ff_join()
    assert laser.called == [((1,), {"two": 2})]
    assert ff.target is laser


def test_a_call_that_finds_another_one_is_dropped(caplog: pytest.LogCaptureFixture) -> None:
    laser = Laser()
    ff = FFProxy(laser)
    ff.wait()
    ff.note()
    laser.released.set()
    ff.ff_join()
    assert laser.called == []
    ((name, level, text),) = caplog.record_tuples
    assert (name, level) == ("sipyco.fire_and_forget", logging.WARNING)
    assert text.startswith("skipping fire-and-forget call to 'note'")


def test_what_a_call_raises_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    ff = FFProxy(Laser())
    ff.fail()
    ff.ff_join()
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage().endswith("raised an exception:")
    assert "no power" in caplog.text


@pytest.mark.parametrize("name", ["nothing", "number", "power", "__deepcopy__"])
def test_what_is_no_method_of_the_target(name: str) -> None:
    with pytest.raises(AttributeError):
        getattr(FFProxy(Laser()), name)


def test_an_unfinished_proxy_has_no_methods() -> None:
    assert not hasattr(FFProxy.__new__(FFProxy), "note")


@pytest.mark.parametrize("kind", [Client, BestEffortClient])
def test_rpc_clients_are_targets(kind: type[Client] | type[BestEffortClient]) -> None:
    instrument = Instrument()

    async def release() -> None:
        while not instrument.waiting:
            await trio.lowlevel.checkpoint()
        instrument.released.set()

    with serving({"laser": instrument}) as (portal, server):
        client = kind(HOST, port_of(server), "laser", 30)
        ff = FFProxy(client)
        assert not hasattr(ff, "nothing")
        assert ff.wait() is None
        portal.call(release)
        ff.ff_join()
        assert instrument.waiting == 1
        client.close_rpc()


def test_signatures() -> None:
    spec = ["self", "a", "b"], "v", "k", (1,), ("x", "y"), {"y": 2}, {"a": "int", "return": "str", "y": "z"}
    assert formatargspec(*spec) == "(self, a: 'int', b=1, *v, x, y: 'z' = 2, **k) -> 'str'"
    assert formatargspec([]) == "()"
    assert formatargspec(["a", "b"], None, None, (1, "q")) == "(a=1, b='q')"
    assert formatargspec([], kwonlyargs=["x"], annotations={"x": int}) == "(*, x: int)"
    assert formatargspec(["a"], kwonlyargs=["x"], kwonlydefaults=None) == "(a, *, x)"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], ["127.0.0.1", "::1"]),
        (["--bind", "lab", "--bind", "10.0.0.1"], ["127.0.0.1", "::1", "lab", "10.0.0.1"]),
        (["--no-localhost-bind"], []),
        (["--bind", "lab", "--no-localhost-bind"], ["lab"]),
        (["--bind", "lab", "--bind", "*"], None),
    ],
)
def test_what_to_listen_on(words: list[str], expected: list[str] | None) -> None:
    parser = argparse.ArgumentParser()
    simple_network_args(parser, 3251)
    assert bind_address_from_args(parser.parse_args(words)) == expected


def test_ports_and_tls() -> None:
    parser = argparse.ArgumentParser()
    simple_network_args(parser, 3251, ssl=True)
    assert parser.parse_args([]).port == 3251
    assert parser.parse_args([]).ssl is None
    args = parser.parse_args(["-p", "5", "--ssl", "a", "b", "c"])
    assert (args.port, args.ssl) == (5, ["a", "b", "c"])
    parser = argparse.ArgumentParser()
    simple_network_args(parser, [("rpc", "calls", 3251), ("sync-pub", "changes", 3250)])
    args = parser.parse_args(["--port-sync-pub", "7"])
    assert (args.port_rpc, args.port_sync_pub) == (3251, 7)
    assert not hasattr(args, "ssl")
    assert "calls (default: 3251)" in parser.format_help()


@pytest.fixture
def root_logger() -> Iterator[logging.Logger]:
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    yield root
    root.setLevel(level)
    root.handlers[:] = handlers


@pytest.mark.parametrize(
    ("words", "level"), [([], 30), (["-v"], 20), (["-vv"], 10), (["-q", "-q", "-v"], 40)]
)
def test_how_much_is_logged(root_logger: logging.Logger, words: list[str], level: int) -> None:
    parser = argparse.ArgumentParser()
    verbosity_args(parser)
    init_logger_from_args(parser.parse_args(words))
    assert root_logger.level == level


def test_keepalive() -> None:
    with socket.create_server((HOST, 0)) as listener:
        with keepalive.create_connection(
            *listener.getsockname(), after_idle=7, interval=3, max_fails=2
        ) as connection:
            assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            if hasattr(socket, "TCP_KEEPIDLE"):
                assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 7
                assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) == 3
                assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT) == 2
        with keepalive.create_connection(*listener.getsockname(), timeout=5.0) as connection:
            assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            assert connection.gettimeout() == 5.0
        with pytest.raises(TypeError):
            keepalive.create_connection(*listener.getsockname(), after_idle=cast(Any, "soon"))


def test_keepalive_of_a_socket() -> None:
    with socket.socket() as sock:
        before = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL)
        assert not sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        keepalive.set_keepalive(sock)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) == before
        if sys.platform != "win32":  # which sets two together
            keepalive.set_keepalive(sock, interval=3)
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) == 3


def test_keepalive_for_asyncio() -> None:
    async def connect(address: tuple[str, int]) -> None:
        _, writer = await keepalive.async_open_connection(*address, interval=3, limit=100)
        assert writer.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        writer.close()
        await writer.wait_closed()
        with pytest.raises(TypeError):
            await keepalive.async_open_connection(*address, interval=cast(Any, "often"))

    with socket.create_server((HOST, 0)) as listener:
        asyncio.run(connect(listener.getsockname()))


@pytest.mark.skipif(sys.platform == "win32", reason="pipes of this kind need POSIX")
def test_the_pipe_of_a_child() -> None:
    child_reads, parent_writes = os.pipe()
    parent_reads, child_writes = os.pipe()
    child = ChildComm(f"{child_reads},{child_writes}")
    os.write(parent_writes, b"first\nsecond, cut")
    assert child.readline() == b"first\n"
    assert child.read(6) == b"second"
    assert child.read(100) == b", cut"
    assert child.write(b"answer\n") == 7
    assert os.read(parent_reads, 100) == b"answer\n"
    os.write(parent_writes, b"end")
    os.close(parent_writes)
    assert child.readline() == b"end"
    assert child.read(1) == b""
    os.close(parent_reads)
    with pytest.raises(BrokenPipeError):
        child.write(b"x")
    child.close()
    child.close()
    with pytest.raises(ValueError, match="closed"):
        child.readline()
    with pytest.raises(ValueError, match="no address"):
        ChildComm("5")
