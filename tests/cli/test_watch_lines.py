"""``trionet watch`` without a terminal: lines of JSON, and errors in one line."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trio

from tests.cli.commands import Commands, run_program, running_program
from tests.cli.feeds import HOST, closed_port, publish
from tests.cli.test_rpc_command import identities
from trionet import pyon
from trionet.cli.watch.lines import is_elsewhere


async def test_every_change_is_a_line(nursery: trio.Nursery) -> None:
    publisher, datasets = await publish(nursery, {"a": 1, "list": []})
    async with running_program("watch", HOST, publisher.port, "datasets") as watch:
        line = json.loads(await watch.read_line())
        assert line == {"action": "init", "struct": {"a": 1, "list": []}}
        datasets["a"] = 2
        datasets["list"].append((1, "x"))
        del datasets["a"]
        assert json.loads(await watch.read_line()) == {
            "action": "setitem",
            "path": [],
            "key": "a",
            "value": 2,
        }
        assert json.loads(await watch.read_line()) == {"action": "append", "path": ["list"], "x": [1, "x"]}
        assert json.loads(await watch.read_line())["action"] == "delitem"
        datasets["array"] = np.arange(3)
        mod = pyon.decode(await watch.read_line())
        np.testing.assert_array_equal(mod["value"], np.arange(3))


async def test_a_part_is_a_line_whenever_it_changes(nursery: trio.Nursery) -> None:
    publisher, datasets = await publish(nursery, {"jobs": [1, 2, 3], "x": {"y": 0}})
    async with running_program("watch", HOST, publisher.port, "datasets", "jobs/1") as watch:
        assert await watch.read_line() == "2"
        datasets["x"]["y"] = 1  # somewhere else
        datasets["jobs"][0] = 7
        datasets["jobs"].append(4)  # behind it
        datasets["jobs"][1] = 2  # the same value again
        datasets["jobs"].pop(0)
        assert await watch.read_line() == "3"
        datasets["jobs"] = [5, {"deep": 1}]
        assert await watch.read_line() == '{"deep":1}'
        datasets["jobs"][1]["deep"] = 2
        assert await watch.read_line() == '{"deep":2}'


async def test_a_part_that_comes_and_goes(nursery: trio.Nursery) -> None:
    publisher, datasets = await publish(nursery, {"b": 0})
    async with running_program("watch", HOST, publisher.port, "datasets", "a") as watch:
        assert await watch.read_line("err") == "trionet: the structure has no 'a', but b"
        datasets["c"] = 0
        assert await watch.read_line("err") == "trionet: the structure has no 'a', but b, c"
        datasets["a"] = 1
        assert await watch.read_line() == "1"
        del datasets["a"]
        assert await watch.read_line("err") == "trionet: the structure has no 'a', but b, c"
        datasets["a"] = 2
        assert await watch.read_line() == "2"


@pytest.mark.parametrize("path", [(), ("a",)])
async def test_a_lost_connection_heals(nursery: trio.Nursery, path: tuple[str, ...]) -> None:
    publisher, _ = await publish(nursery, {"a": 1})
    port = publisher.port
    async with running_program("watch", HOST, port, "datasets", *path) as watch:
        first = await watch.read_line()
        await publisher.aclose()
        error = await watch.read_line("err")
        assert error.startswith("trionet: ")
        assert error.endswith("; trying again")
        _, datasets = await publish(nursery, {"a": 2}, port=port)
        again = await watch.read_line()
        assert json.loads(again) == (2 if path else {"action": "init", "struct": {"a": 2}})
        assert json.loads(first) == (1 if path else {"action": "init", "struct": {"a": 1}})
        datasets["a"] = 3
        assert "3" in await watch.read_line()


async def test_waiting_for_a_publisher(nursery: trio.Nursery) -> None:
    with closed_port() as holder:
        port = holder.getsockname()[1]
        async with running_program("watch", HOST, port, "datasets", "--wait") as watch:
            assert "trying again" in await watch.read_line("err")
            holder.close()
            await publish(nursery, [1], port=port)
            assert json.loads(await watch.read_line()) == {"action": "init", "struct": [1]}


async def test_once(commands: Commands, nursery: trio.Nursery) -> None:
    publisher, _ = await publish(nursery, {"a": (1, 2), "r": {3: {"x": None}}, "p/q": "v", "n": np.arange(3)})
    for words, expected in (
        (["a"], [1, 2]),
        (["a/-1"], 2),
        (["/r/3/x/"], None),
        (['"p/q"'], "v"),
        (["n/1", "--json"], 1),
        (["--json", "r/3"], {"x": None}),
    ):
        done = await commands.run("watch", HOST, publisher.port, "datasets", "--once", *words)
        assert (done.status, done.err, done.out.count("\n")) == (0, "", 1)
        assert pyon.decode(done.out) == expected
    done = await commands.run("watch", HOST, publisher.port, "--once", "--pyon", 2, "datasets")
    assert list(pyon.decode(done.out)) == ["a", "r", "p/q", "n"]


async def test_once_without_such_a_part(commands: Commands, nursery: trio.Nursery) -> None:
    publisher, _ = await publish(nursery, {"a": {"b": [1], 3: 0, "x\x1b": 1}})
    for path, message in (
        ("nope", "the structure has no 'nope', but a"),
        ("a/nope", "a has no 'nope', but b, 3, 'x\\x1b'"),
        ("a/b/1", "a/b has no '1', but the indices 0 to 0"),
        ("a/3/z", "a/3 has no 'z': it is of type int"),
    ):
        done = await commands.run("watch", HOST, publisher.port, "datasets", path, "--once")
        assert (done.status, done.out, done.err) == (1, "", f"trionet: error: {message}\n")


# -- what can go wrong ---------------------------------------------------------------------------------


@pytest.mark.parametrize("once", [[], ["--once"]])
async def test_refused(commands: Commands, once: list[str]) -> None:
    with closed_port() as holder:
        port = holder.getsockname()[1]
        done = await commands.run("watch", HOST, port, "datasets", *once)
    assert (done.status, done.out, done.err.count("\n")) == (1, "", 1)
    assert done.err.startswith("trionet: error: ")
    assert f"{HOST}:{port}" in done.err


@pytest.mark.parametrize("once", [[], ["--once"]])
async def test_unknown_name(nursery: trio.Nursery, once: list[str]) -> None:
    publisher, _ = await publish(nursery, {})
    done = await run_program("watch", HOST, publisher.port, "nope", *once)
    assert (done.status, done.out, done.err.count("\n")) == (1, "", 1)
    assert done.err.startswith("trionet: error: closed by the server without an answer: it has nothing of ")


async def test_a_server_that_says_nothing(commands: Commands) -> None:
    with closed_port() as silent:
        silent.listen()
        port = silent.getsockname()[1]
        done = await commands.run("watch", HOST, port, "datasets", "--timeout", "0.1")
        assert (done.status, done.err) == (1, "trionet: error: no answer within 0.1 s\n")
        done = await commands.run("watch", HOST, port, "datasets", "--wait", "--once", "--timeout", "0.1")
        assert (done.status, done.err) == (1, "trionet: error: no answer within 0.1 s\n")


async def test_what_comes_is_no_mod(nursery: trio.Nursery) -> None:
    async def answer(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(b'{"action": "explode\x1b"}\n')
        async for _ in stream:
            pass

    listeners = await nursery.start(trio.serve_tcp, answer, 0)
    port = listeners[0].socket.getsockname()[1]
    done = await run_program("watch", HOST, port, "datasets")
    assert (done.status, done.out, done.err.count("\n")) == (1, "", 1)
    assert "\x1b" not in done.err


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pipe that reports its reader's end")
async def test_reader_that_leaves(nursery: trio.Nursery) -> None:
    publisher, datasets = await publish(nursery, {"a": 0})
    async with running_program("watch", HOST, publisher.port, "datasets") as watch:
        await watch.read_line()
        await watch.close_stdout()
        datasets["a"] = 1
        assert (await watch.process.wait(), await watch.rest("err")) == (1, "")


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C cannot be sent to one process there")
async def test_ctrl_c(nursery: trio.Nursery) -> None:
    publisher, _ = await publish(nursery, {"a": 0})
    async with running_program("watch", HOST, publisher.port, "datasets") as watch:
        await watch.read_line()
        watch.process.send_signal(signal.SIGINT)
        assert (await watch.process.wait(), await watch.rest(), await watch.rest("err")) == (130, "", "")


async def test_tls(commands: Commands, nursery: trio.Nursery, tmp_path: Path) -> None:
    ours, theirs = identities(tmp_path)
    publisher, _ = await publish(nursery, [1], tls=ours)
    words = ["watch", HOST, publisher.port, "datasets", "--once"]
    done = await commands.run(*words, "--tls", theirs.cert, theirs.key, theirs.peer_cert)
    assert (done.status, done.out) == (0, "[1]\n")
    done = await commands.run(*words, "--tls", ours.cert, ours.key, tmp_path / "missing")
    assert (done.status, done.err.count("\n")) == (1, 1)
    assert done.err.startswith("trionet: error: --tls: ")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "required: HOST, PORT, NAME (see trionet watch --help)"),
        ([HOST, "0", "x"], "'0' is no port"),
        ([HOST, "1", "x", "--pyon", "3"], "invalid choice: 3"),
        ([HOST, "1", "x", "--timeout", "0"], "'0' is no number of seconds"),
        ([HOST, "1", "x", "y", "z"], "unrecognized arguments: z"),
    ],
)
async def test_usage(commands: Commands, words: list[str], message: str) -> None:
    done = await commands.run("watch", *words)
    assert (done.status, done.out, done.err.count("\n")) == (2, "", 1)
    assert message in done.err


@pytest.mark.parametrize(
    ("mod", "keys", "elsewhere"),
    [
        ({"action": "setitem", "path": [], "key": "b"}, ("a",), True),
        ({"action": "setitem", "path": [], "key": "a"}, ("a", 1), False),
        ({"action": "setitem", "path": ["a", 1, "c"], "key": 3}, ("a", 1), False),
        ({"action": "setitem", "path": ["a"], "key": 0}, ("a", 1), True),
        ({"action": "setitem", "path": ["a"], "key": -1}, ("a", 1), False),
        ({"action": "setitem", "path": ["a"], "key": slice(0, 2)}, ("a", 1), False),
        ({"action": "delitem", "path": ["a"], "key": 0}, ("a", 1), False),
        ({"action": "delitem", "path": [], "key": "b"}, ("a", 1), True),
        ({"action": "pop", "path": ["a"], "i": 0}, ("a", 1), False),
        ({"action": "pop", "path": [], "i": "b"}, ("a", 1), True),
        ({"action": "insert", "path": ["a"], "i": 0}, ("a", 1), False),
        ({"action": "append", "path": ["b"]}, ("a", 1), True),
    ],
)
def test_which_changes_cannot_matter(mod: dict[str, Any], keys: tuple[Any, ...], elsewhere: bool) -> None:
    assert is_elsewhere(mod, keys) is elsewhere
