"""``trionet watch`` on a terminal."""

from __future__ import annotations

import json
import re
import signal
import sys
from typing import Any

import numpy as np
import pytest
import trio

from tests.cli.feeds import HOST, closed_port, publish
from tests.cli.terminal import Terminal, command_at_terminal, rest_of_errors

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo terminal")


def is_given_back(terminal: Terminal) -> bool:
    screen = terminal.screen
    return not screen.alternate and screen.cursor and screen.wraps


async def test_a_tree_that_is_updated_in_place(nursery: trio.Nursery) -> None:
    publisher, datasets = await publish(
        nursery,
        {"power": 1.5, "jobs": {3: {"status": "pending"}}, "counts": np.zeros(100, np.int64), "log": []},
    )
    async with command_at_terminal("watch", HOST, publisher.port, "datasets") as terminal:
        before = terminal.settings()
        lines = await terminal.wait_text("log: []")
        assert lines[0].startswith(f"datasets at {HOST}:{publisher.port}   connected since ")
        assert lines[1:7] == [
            "  power: 1.5",
            "  jobs:",
            "    3:",
            "      status: 'pending'",
            "  counts: int64[100]  min 0  mean 0  max 0",
            "  log: []",
        ]
        assert terminal.screen.alternate
        assert not terminal.screen.cursor
        assert terminal.settings() != before  # no echo
        datasets["counts"][7] = 50
        datasets["jobs"][3]["status"] = "running"
        datasets["log"].append("begun")
        datasets["jobs"][4] = {"status": "new"}
        lines = await terminal.wait_text("status: 'new'")
        assert lines[1:9] == [
            "  power: 1.5",
            "  jobs:",
            "    3:",
            "*     status: 'running'",
            "*   4:",
            "*     status: 'new'",
            "* counts: int64[100]  min 0  mean 0.5  max 50",
            "* log: ['begun']",
        ]
        await terminal.wait_for(lambda screen: "*" not in screen.text)  # marks are for a second
        assert {"1", "7"} <= terminal.screen.styles
        assert terminal.screen.scrolled == 0
        terminal.process.send_signal(signal.SIGINT)
        await terminal.wait_for(lambda _: is_given_back(terminal))
        assert await terminal.process.wait() == 130
        assert terminal.settings() == before
        assert await rest_of_errors(terminal.process) == ""


async def test_a_lost_connection_is_noted_and_heals(nursery: trio.Nursery) -> None:
    publisher, _ = await publish(nursery, {"a": 1})
    port = publisher.port
    async with command_at_terminal("watch", HOST, port, "datasets") as terminal:
        await terminal.wait_text("a: 1")
        await publisher.aclose()
        lines = await terminal.wait_text("STALE since ")
        assert re.search(r"STALE since \d\d:\d\d:\d\d   1 mods", lines[0])
        assert "a: 1" in terminal.screen.text
        _, datasets = await publish(nursery, {"a": 2}, port=port)
        await terminal.wait_for(lambda screen: "a: 2" in screen.text and "connected since" in screen.text)
        datasets["a"] = 3
        await terminal.wait_text("* a: 3")


async def test_what_a_server_publishes_does_not_control_the_terminal(nursery: trio.Nursery) -> None:
    hostile: dict[Any, Any] = {
        "\x1b[2Jkey\r\n": "\x1b]0;title\x07",
        "bytes": b"\x1b[31m",
        "\x9b31m": ["\u202e", {"\x00": "\x7f"}],
        ("\x1b", 1): np.array(["\x1b[5m"]),
    }
    publisher, datasets = await publish(nursery, hostile)
    async with command_at_terminal("watch", HOST, publisher.port, "datasets") as terminal:
        # The model of the screen refuses what it does not know.
        await terminal.wait_text("'\\x1b[2Jkey\\r\\n': '\\x1b]0;title\\x07'")
        await terminal.wait_text("'\\x9b31m':")
        datasets["long"] = "x" * 100
        lines = await terminal.wait_text("long: 'x")
        assert "* long: '".ljust(69, "x") + "..." in lines
        datasets["wide"] = "\u65e5\u672c" * 100
        await terminal.wait_text("wide: '\u65e5\u672c")
        assert terminal.screen.scrolled == 0


async def test_taller_than_the_screen_and_resized(nursery: trio.Nursery) -> None:
    publisher, _ = await publish(nursery, {f"key {number}": number for number in range(50)})
    async with command_at_terminal("watch", HOST, publisher.port, "datasets") as terminal:
        lines = await terminal.wait_text("rows, which do not fit")
        assert len(lines) == 16
        assert lines[14:] == ["  key 13: 13", "  ... 36 more rows, which do not fit"]
        terminal.resize(30, 60)
        lines = await terminal.wait_text("key 49: 49")
        assert "fit" not in terminal.screen.text
        assert lines[0] == f"datasets at {HOST}:{publisher.port}   ".ljust(30)[:27] + "..."
        terminal.resize(9, 1)
        lines = await terminal.wait_text("datase...")
        assert len(lines) == 1
        assert terminal.screen.scrolled == 0


async def test_a_part_that_comes_later(nursery: trio.Nursery) -> None:
    publisher, datasets = await publish(nursery, {})
    async with command_at_terminal("watch", HOST, publisher.port, "datasets", "jobs/3") as terminal:
        lines = await terminal.wait_text("(nothing there)")
        assert lines[0].startswith("datasets/jobs/3 at ")
        assert lines[2] == "  the structure has no 'jobs', but it is empty"
        datasets["jobs"] = {3: np.arange(2.0)}
        lines = await terminal.wait_text("float64")
        assert lines[1:3] == ["* float64[2]  0.0, 1.0", "  [0. 1.]"]
        del datasets["jobs"][3]
        await terminal.wait_text("jobs has no '3', but it is empty")


async def test_slices_of_arrays_and_of_lists(nursery: trio.Nursery) -> None:
    publisher, datasets = await publish(nursery, {"a": np.zeros((3, 3)), "l": [1, 2, 3], "b": 1})
    async with command_at_terminal("watch", HOST, publisher.port, "datasets") as terminal:
        await terminal.wait_text("b: 1")
        datasets["a"][0:2][1] = 5.0
        datasets["a"][1:] = np.ones((2, 3))
        datasets["l"][1:] = [7]
        datasets["l"].insert(0, 9)
        lines = await terminal.wait_text("l: [9, 1, 7]")
        assert lines[1:4] == [
            "* a: float64[3, 3]  min 0  mean 0.666667  max 1",
            "* l: [9, 1, 7]",
            "  b: 1",
        ]


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
async def test_ended_by_a_signal_it_gives_the_terminal_back(nursery: trio.Nursery, name: str) -> None:
    publisher, _ = await publish(nursery, {"a": 1})
    async with command_at_terminal("watch", HOST, publisher.port, "datasets") as terminal:
        before = terminal.settings()
        await terminal.wait_text("a: 1")
        number = signal.Signals[name]
        terminal.process.send_signal(number)
        assert await terminal.process.wait() == -number
        await terminal.wait_for(lambda _: is_given_back(terminal))
        assert terminal.settings() == before


async def test_a_signal_that_is_ignored_stays_ignored(nursery: trio.Nursery) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does; see conftest.py for its end
    publisher, datasets = await publish(nursery, {"a": 1})
    async with command_at_terminal("watch", HOST, publisher.port, "datasets") as terminal:
        await terminal.wait_text("a: 1")
        terminal.process.send_signal(signal.SIGHUP)
        datasets["a"] = 2
        await terminal.wait_text("a: 2")
        assert terminal.screen.entered == 1


async def test_stopped_it_gives_the_terminal_back_until_it_goes_on(nursery: trio.Nursery) -> None:
    publisher, datasets = await publish(nursery, {"a": 1})
    async with command_at_terminal("watch", HOST, publisher.port, "datasets") as terminal:
        await terminal.wait_text("a: 1")
        # In a session of its own the system does not stop it: it goes on at once.
        terminal.process.send_signal(signal.SIGTSTP)
        await terminal.wait_for(lambda screen: screen.entered == 2)
        datasets["a"] = 2
        await terminal.wait_text("a: 2")


async def test_a_terminal_that_goes_away(nursery: trio.Nursery) -> None:
    publisher, datasets = await publish(nursery, {"a": 1})
    async with command_at_terminal("watch", HOST, publisher.port, "datasets") as terminal:
        await terminal.wait_text("a: 1")
        await terminal.hang_up()
        datasets["a"] = 2
        assert await terminal.process.wait() == 1
        assert (await rest_of_errors(terminal.process)).startswith("trionet: error: output: ")


async def test_a_terminal_that_is_stopped_does_not_stop_the_subscription(nursery: trio.Nursery) -> None:
    publisher, datasets = await publish(nursery, {"n": 0, "ballast": ""}, max_backlog=2**30)
    async with command_at_terminal("watch", HOST, publisher.port, "datasets") as terminal:
        await terminal.wait_text("n: 0")
        terminal.stop()
        for number in range(400):  # more than all buffers between here and there
            datasets["ballast"] = "x" * 200_000
            datasets["n"] = number
        await publisher.aclose(grace=30)
        assert not publisher.statistics().subscribers
        terminal.go_on()
        await terminal.wait_text("n: 399")


async def test_without_styles(nursery: trio.Nursery) -> None:
    publisher, datasets = await publish(nursery, {"a": 1})
    async with command_at_terminal(
        "watch", HOST, publisher.port, "datasets", environment={"NO_COLOR": "1"}
    ) as terminal:
        await terminal.wait_text("a: 1")
        datasets["a"] = 2
        await terminal.wait_text("* a: 2")
        assert terminal.screen.styles == set()


@pytest.mark.parametrize(("words", "term"), [([], "dumb"), ([], ""), (["--json"], "xterm")])
async def test_lines_on_a_terminal(nursery: trio.Nursery, words: list[str], term: str) -> None:
    publisher, _ = await publish(nursery, [1])
    async with command_at_terminal(
        "watch", HOST, publisher.port, "datasets", *words, environment={"TERM": term}
    ) as terminal:
        lines = await terminal.wait_text("}")
        assert json.loads(lines[0]) == {"action": "init", "struct": [1]}
        assert "\x1b" not in terminal.written


async def test_once(nursery: trio.Nursery) -> None:
    publisher, _ = await publish(nursery, {"jobs": {3: "\x1b"}, "counts": np.arange(10), "end": None})
    words = ["watch", HOST, publisher.port, "datasets", "--once"]
    async with command_at_terminal(*words) as terminal:
        lines = await terminal.wait_text("end:")
        assert lines[:4] == [
            "jobs:",
            "  3: '\\x1b'",
            "counts: int64[10]  min 0  mean 4.5  max 9",
            "end: None",
        ]
        assert await terminal.process.wait() == 0
    async with command_at_terminal(*words, "counts") as terminal:
        await terminal.wait_text("[0 1 2 3 4 5 6 7 8 9]")
    async with command_at_terminal(*words, "--json") as terminal:
        await terminal.wait_text('{"jobs":')


async def test_an_error_does_not_touch_the_screen() -> None:
    with closed_port() as holder:
        async with command_at_terminal("watch", HOST, holder.getsockname()[1], "datasets") as terminal:
            assert await terminal.process.wait() == 1
            error = await rest_of_errors(terminal.process)
    assert error.startswith("trionet: error: ")
    assert error.count("\n") == 1
    assert terminal.written == ""
