"""A terminal for the tests: a pseudo terminal, and what a VT100 would show of what is written to it."""

from __future__ import annotations

import codecs
import contextlib
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import trio

from tests.cli.commands import PROGRAM, end
from tests.unmeasured import unmeasured_environment

if sys.platform != "win32":
    import fcntl
    import struct
    import termios

_SEQUENCE = re.compile(r"\x1b\[(\??)([0-9;]*)([A-Za-z])")
_END_FRAME = "\x1b[?2026l"
# What has stopped to be a test, and only waits.
_MOST_SECONDS = 60


class ScreenModel:
    """What is on the screen. A sequence that it does not know is an error.

    Attributes:
        alternate: Whether the alternate screen is shown.
        cursor: Whether the cursor is.
        wraps: Whether long lines are continued on the next one.
        entered: How often the alternate screen was entered.
        is_being_drawn: Whether only a part of it is new.
        styles: All styles that were used.
        scrolled: Lines that have left the screen at the top, or were lost at its right edge.
    """

    def __init__(self, columns: int, lines: int) -> None:
        self.alternate = False
        self.cursor = True
        self.wraps = True
        self.entered = 0
        self.styles: set[str] = set()
        self.scrolled = 0
        self.is_being_drawn = False
        self._pending = ""
        self._row = self._column = 0
        self.resize(columns, lines)

    def resize(self, columns: int, lines: int) -> None:
        """Begin again with another size."""
        self.columns, self.height = columns, lines
        self._cells = [[" "] * columns for _ in range(lines)]

    @property
    def lines(self) -> list[str]:
        """The text of each line."""
        return ["".join(cells).rstrip() for cells in self._cells]

    @property
    def text(self) -> str:
        """All lines."""
        return "\n".join(self.lines).rstrip("\n")

    def write(self, text: str) -> None:
        """Do what a terminal does."""
        text, self._pending = self._pending + text, ""
        position = 0
        while position < len(text):
            character = text[position]
            if character != "\x1b":
                self._put(character)
                position += 1
                continue
            found = _SEQUENCE.match(text, position)
            if found is None:
                assert len(text) - position < 12, f"unknown sequence {text[position : position + 12]!r}"
                self._pending = text[position:]
                return
            self._control(*found.groups())
            position = found.end()

    def _put(self, character: str) -> None:
        if character == "\r":
            self._column = 0
        elif character == "\n":
            self._row += 1
            if self._row == self.height:
                self._row -= 1
                self.scrolled += 1
                self._cells = [*self._cells[1:], [" "] * self.columns]
        else:
            assert character.isprintable(), f"control character {character!r}"
            if self._column < self.columns:
                self._cells[self._row][self._column] = character
                self._column += 1
            else:
                self.scrolled += 1

    def _control(self, private: str, numbers: str, final: str) -> None:
        match private, numbers, final:
            case "?", "1049", "h" | "l":
                self.alternate = final == "h"
                self.is_being_drawn = False
                self.entered += self.alternate
                self.resize(self.columns, self.height)
                self._row = self._column = 0
            case "?", "25", "h" | "l":
                self.cursor = final == "h"
            case "?", "7", "h" | "l":
                self.wraps = final == "h"
            case "?", "2026", "h" | "l":
                self.is_being_drawn = final == "h"
            case "", "", "H":
                self._row = self._column = 0
            case "", "" | "2", "K":
                # Behind a full line the cursor stands on its last character.
                start = 0 if numbers else min(self._column, self.columns - 1)
                self._cells[self._row][start:] = [" "] * (self.columns - start)
            case "", "2", "J":
                self.resize(self.columns, self.height)
            case "", _, "m":
                self.styles.add(numbers)
            case _:
                raise AssertionError(f"unknown sequence {private}{numbers}{final}")


class Terminal:
    """A command at a terminal. Made by `command_at_terminal`.

    Attributes:
        process: The command.
        screen: What is shown.
        written: All that was written.
    """

    def __init__(self, process: trio.Process, master: trio.lowlevel.FdStream, slave: int) -> None:
        self.process = process
        self.screen = ScreenModel(*_SIZE)
        self.written = ""
        self._unread = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._master = master
        self._slave = slave

    async def wait_for(self, condition: Callable[[ScreenModel], object]) -> list[str]:
        """Wait until something is to be seen. Returns all lines."""
        with trio.move_on_after(_MOST_SECONDS):
            while self.screen.is_being_drawn or not condition(self.screen):
                if not self._unread:
                    self._unread = self._decoder.decode(await self._master.receive_some())
                # Who reads late sees each frame nevertheless, not only the last one.
                frame, end, self._unread = self._unread.partition(_END_FRAME)
                self.written += frame + end
                self.screen.write(frame + end)
            return self.screen.lines
        raise AssertionError(f"this is not what was waited for:\n{self.screen.text}")

    async def wait_text(self, text: str) -> list[str]:
        """Wait until the text is to be seen. Returns all lines."""
        return await self.wait_for(lambda screen: text in screen.text)

    def resize(self, columns: int, lines: int) -> None:
        """Give the terminal another size."""
        self.screen.resize(columns, lines)
        set_size(self._slave, columns, lines)

    def stop(self) -> None:
        """Do as if Ctrl-S was typed: the terminal takes nothing."""
        termios.tcflow(self._slave, termios.TCOOFF)

    def go_on(self) -> None:
        """Do as if Ctrl-Q was typed."""
        termios.tcflow(self._slave, termios.TCOON)

    def settings(self) -> list[Any]:
        """The settings of the terminal, for comparing."""
        return termios.tcgetattr(self._slave)

    async def hang_up(self) -> None:
        """Let the terminal go away."""
        self.close_slave()
        await self._master.aclose()

    def close_slave(self) -> None:
        """Leave the terminal to the command alone."""
        slave, self._slave = self._slave, -1
        if slave >= 0:
            os.close(slave)


_SIZE = (72, 16)


def set_size(descriptor: int, columns: int, lines: int) -> None:
    fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))


@contextlib.asynccontextmanager
async def command_at_terminal(
    *words: object, environment: Mapping[str, str] | None = None
) -> AsyncIterator[Terminal]:
    """Run a command at a terminal until the block ends. Its standard error is a pipe."""
    master, slave = os.openpty()
    set_size(slave, *_SIZE)
    variables = {
        **unmeasured_environment(),
        "TERM": "xterm",
        "PYTHONIOENCODING": "utf-8",
        **(environment or {}),
    }
    if environment is None or "NO_COLOR" not in environment:
        variables.pop("NO_COLOR", None)
    process = await trio.lowlevel.open_process(
        [*PROGRAM, *map(str, words)],
        stdin=slave,
        stdout=slave,
        stderr=subprocess.PIPE,
        env=variables,
        start_new_session=True,
    )
    stream = trio.lowlevel.FdStream(master)
    terminal = Terminal(process, stream, slave)
    try:
        yield terminal
    finally:
        with trio.CancelScope(shield=True):
            await stream.aclose()  # first, or it might wait for somebody to read what it has drawn
            await end(process)
            assert process.stderr is not None
            await process.stderr.aclose()
            terminal.close_slave()


async def rest_of_errors(process: trio.Process) -> str:
    """What a command says on standard error until it ends."""
    assert process.stderr is not None
    return b"".join([data async for data in process.stderr]).decode()
