"""What docs/testing.md says is so: its files are written, its commands run, its mistakes made."""

from __future__ import annotations

import re
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
import trio
import trio.testing

import trionet
from trionet.testing import Lab, VirtualNetwork, open_lab

pytest_plugins = ["pytester"]

PAGE: Final = Path(__file__).parents[1] / "docs" / "testing.md"
TEXT: Final = PAGE.read_text(encoding="utf-8")
BLOCK: Final = re.compile(
    r"(?P<vary><!-- The numbers may differ\. -->\n)?```(?P<kind>\w+)\n(?P<text>.*?)```", re.DOTALL
)


class Output(NamedTuple):
    """What a command has printed, and what the page says that it prints."""

    command: str
    shown: str
    printed: str
    numbers_differ: bool

    def matches(self) -> bool:
        """Whether they agree: a line of three dots stands for any lines, and times do not count."""
        pattern = ""
        for line in self.shown.splitlines():
            if line == "...":
                pattern += r"(?:.*\n)*?"
                continue
            escaped = re.sub(r"in\\ \d+\\\.\d+s$", r"in\\ [\\d.]+s.*", re.escape(line))
            pattern += re.sub(r"\d+", r"\\d+", escaped) if self.numbers_differ else escaped
            pattern += r"\n"
        return re.fullmatch(pattern, self.printed) is not None


def follow(block: re.Match[str], pytester: pytest.Pytester) -> Output | None:
    """Do what a block of the page says."""
    kind, text = block["kind"], block["text"]
    if kind != "console":
        assert kind in ("python", "ini")
        name = text.partition("\n")[0].removeprefix("# ")
        assert re.fullmatch(r"\w+\.(py|ini)", name), f"a block begins with {name}, not with a file's name"
        (pytester.path / name).write_text(text, encoding="utf-8")
        return None
    command, _, shown = text.partition("\n")
    dollar, program, *words = command.split()
    assert dollar == "$"
    if program == "python":
        result = pytester.run(sys.executable, *words)
    else:
        assert program == "pytest"  # in this process: of a small test, most of the time is its start
        result = pytester.runpytest_inprocess("-p", "no:cacheprovider", *words)
    printed = "".join(f"{line}\n" for line in result.outlines)
    return Output(command, shown, printed, block["vary"] is not None)


def test_the_page_can_be_followed(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """As by somebody at a terminal of 80 columns, with nothing set that changes what pytest prints."""
    for name in ("CI", "BUILD_NUMBER", "PYTEST_ADDOPTS", "FORCE_COLOR", "PY_COLORS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("PYTHONUTF8", "1")
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # files are replaced faster than their times tell
    outputs = [follow(block, pytester) for block in BLOCK.finditer(TEXT)]
    run = [output for output in outputs if output is not None]
    assert len(run) == TEXT.count("\n$ ")
    for output in run:
        if not output.matches():
            pytest.fail(f"{output.command} prints\n{output.printed}\nwhile the page shows\n{output.shown}")


@pytest.mark.parametrize(
    ("shown", "printed", "numbers_differ", "expected"),
    [
        ("1 passed in 0.05s\n", "1 passed in 12.30s\n", False, True),
        ("1 passed in 0.05s\n", "2 passed in 0.05s\n", False, False),
        ("seed 3: a\n", "seed 17: a\n", True, True),
        ("seed 3: a\n", "seed 17: b\n", True, False),
        ("a\n...\nd\n", "a\nb\nc\nd\n", False, True),
        ("a\n...\nd\n", "a\nb\nc\n", False, False),
        ("a\n", "a\nb\n", False, False),
    ],
)
def test_output_is_compared(shown: str, printed: str, numbers_differ: bool, expected: bool) -> None:
    assert Output("$ pytest", shown, printed, numbers_differ).matches() is expected


def test_links_lead_somewhere() -> None:
    headings = re.findall(r"^## (.*)$", TEXT, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}
    targets = re.findall(r"\]\(([^)]+)\)", TEXT)
    for target in targets:
        if target.startswith("#"):
            assert target[1:] in anchors
        elif not target.startswith("https://"):
            assert (PAGE.parent / target).is_file()
    assert any(target.startswith("#") for target in targets)


# The mistakes, by the messages in the page.


async def on_no_host(lab: Lab) -> None:
    trio.socket.socket()


async def listen_on_loopback(lab: Lab) -> None:
    await lab.host("pump-pc").start(trionet.serve_rpc, {"pump": object()}, 3251)
    with lab.host("lab-pc").entered():
        async with trionet.open_rpc_client("pump-pc", 3251):
            raise AssertionError


async def unknown_name(lab: Lab) -> None:
    with lab.host("lab-pc").entered():
        async with trionet.open_rpc_client("pump-pc", 3251):
            raise AssertionError


async def unknown_host(lab: Lab) -> None:
    lab.partition(lab.host("pump-pc"), "pump")


async def start_on_crashed_host(lab: Lab) -> None:
    lab.host("pump-pc").crash()
    lab.host("pump-pc").start_soon(trio.sleep_forever)


async def open_again(lab: Lab) -> None:
    async with lab:
        raise AssertionError


async def open_another(lab: Lab) -> None:
    async with open_lab():
        raise AssertionError


async def start_too_early(lab: Lab) -> None:
    VirtualNetwork().host("pump-pc").start_soon(trio.sleep_forever)


async def impossible_loss(lab: Lab) -> None:
    lab.link(lab.host("pump-pc"), lab.host("lab-pc")).loss = 5


async def other_family(lab: Lab) -> None:
    with lab.host("lab-pc").entered():
        trio.socket.socket(type=trio.socket.SOCK_RAW)


MISTAKES: Final[dict[str, Callable[[Lab], Awaitable[None]]]] = {
    "a task that lives on no host wants a socket, while a virtual network is open": on_no_host,
    "Connection refused": listen_on_loopback,
    "Name or service not known": unknown_name,
    "there is no host 'pump' in this network; there are: pump-pc": unknown_host,
    "pump-pc has crashed: nothing can be started there before restart()": start_on_crashed_host,
    "a virtual network is opened only once: make another one": open_again,
    "another virtual network is open in this run: there is one at a time": open_another,
    "tasks run on hosts while their network is open": start_too_early,
    "loss cannot be 5": impossible_loss,
    "no sockets of family": other_family,
}
# They do not end up in the test that makes them.
SPOILING: Final = {
    "a lab needs a mock clock": """
        async def test_it(virtual_network):
            async with open_lab():
                pass
    """,
    "gave 3, which is no verdict": """
        async def test_it(lab):
            with lab.rule(lambda packet: 3), lab.host("lab-pc").entered():
                await trio.open_tcp_stream("lab-pc", 3251)
    """,
    "does not let a seed drive the order of its tasks": """
        async def test_it(autojump_clock, monkeypatch):
            with monkeypatch.context() as another_trio:
                another_trio.delattr(trio._core._run, "_ALLOW_DETERMINISTIC_SCHEDULING")
                async with open_lab():
                    pass
    """,
    "the test would do the same with all seeds": """
        @pytest.mark.lab(seeds=50)
        async def test_it():
            pass
    """,
}


def test_the_page_has_these_mistakes() -> None:
    section = TEXT.partition("\n## Mistakes")[2].partition("\n## ")[0]
    messages = re.findall(r"^\| `([^`]*)` \|", section, re.MULTILINE)
    assert sorted(messages) == sorted([*MISTAKES, *SPOILING])


@pytest.mark.parametrize("message", MISTAKES)
async def test_a_mistake(lab: Lab, message: str) -> None:
    with pytest.raises(Exception, match=re.escape(message)):
        await MISTAKES[message](lab)


@pytest.mark.parametrize("message", SPOILING)
def test_a_mistake_that_spoils_the_test(pytester: pytest.Pytester, message: str) -> None:
    pytester.makeini("[pytest]\ntrio_mode = true\n")
    source = "import pytest, trio\nfrom trionet.testing import open_lab\n"
    pytester.makepyfile(source + "\n".join(line[8:] for line in SPOILING[message].splitlines()))
    result: Any = pytester.runpytest_inprocess("-p", "no:cacheprovider")
    assert result.ret != pytest.ExitCode.OK
    assert message in " ".join(result.outlines)
