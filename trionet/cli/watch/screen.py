"""The terminal: a screen that is drawn as a whole, and given back as it was."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Any, Final

import trio

if sys.platform != "win32":
    import termios

# Alternate screen, no cursor, no wrapping of long lines; and the opposite.
_ENTER: Final = "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[H\x1b[2J"
_LEAVE: Final = "\x1b[?7h\x1b[?25h\x1b[?1049l"
_BOLD: Final = "\x1b[1m"
_REVERSE: Final = "\x1b[7m"
_NORMAL: Final = "\x1b[0m"
_CLEAR_LINE: Final = "\x1b[2K"
# Terminals that know these show what is in between at once; others ignore them.
_BEGIN_FRAME: Final = "\x1b[?2026h\x1b[H"
_END_FRAME: Final = "\x1b[?2026l"
# Seconds that a frame may take to be written, before the screen is left in the middle of it.
_MOST_SECONDS: Final = 1.0
_DEFAULT_SIZE: Final = os.terminal_size((80, 24))


class Screen:
    """A terminal to draw on, inside of a ``with screen.shown()``.

    Args:
        descriptor: The terminal.
        encoding: How its text is encoded.
        styled: Whether bold and reverse text are wanted.
    """

    def __init__(self, descriptor: int, encoding: str, styled: bool) -> None:
        self._descriptor = descriptor
        self._encoding = encoding
        self._styled = styled
        self._drawn = b""
        self._shown = False
        self._writing = threading.Lock()
        self._settings: list[Any] | None = None  # those of the terminal before

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        """A block in which the terminal shows the screen, and not what is typed."""
        try:
            self._enter()
            yield
        finally:
            self._leave()

    @contextlib.contextmanager
    def left(self) -> Iterator[None]:
        """A block inside of `shown` in which the terminal is as it was before."""
        self._leave()
        try:
            yield
        finally:
            self._enter()

    @property
    def size(self) -> os.terminal_size:
        """Columns and lines, as they are now."""
        try:
            size = os.get_terminal_size(self._descriptor)
        except OSError:
            return _DEFAULT_SIZE
        return size if size.columns > 0 and size.lines > 0 else _DEFAULT_SIZE

    def style(self, text: str, *, reverse: bool = False) -> str:
        """The text, so that it is noticed."""
        return f"{_REVERSE if reverse else _BOLD}{text}{_NORMAL}" if self._styled else text

    async def draw(self, lines: Sequence[str]) -> None:
        """Show these lines, from the top; what is not in them is empty. They must fit."""
        every = [*lines, *[""] * (self.size.lines - len(lines))]
        # A line is cleared first: behind a full one the cursor stands on the last character.
        text = "\r\n".join(f"{_CLEAR_LINE}{line}" for line in every)
        frame = f"{_BEGIN_FRAME}{text}{_END_FRAME}".encode(self._encoding, "backslashreplace")
        if frame != self._drawn:
            self._drawn = frame
            # In a thread: a terminal may be slow, or stopped with Ctrl-S.
            await trio.to_thread.run_sync(self._write_shown, frame, abandon_on_cancel=True)

    def _enter(self) -> None:
        self._shown = True
        self._drawn = b""
        self._settings = _stop_echo(self._descriptor)
        _write(self._descriptor, _ENTER.encode())

    def _leave(self) -> None:
        self._shown = False
        # Not into a frame that is being written, unless that takes for ever.
        free = self._writing.acquire(timeout=_MOST_SECONDS)
        try:
            _write(self._descriptor, f"{_NORMAL if self._styled else ''}{_LEAVE}".encode())
            if self._settings is not None:
                _set_terminal(self._descriptor, self._settings)
        finally:
            if free:
                self._writing.release()

    def _write_shown(self, data: bytes) -> None:
        while data:
            with self._writing:
                if not self._shown:
                    return
                data = data[os.write(self._descriptor, data) :]


def _write(descriptor: int, data: bytes) -> None:
    with contextlib.suppress(OSError):  # a terminal that is gone needs nothing any more
        while data:
            data = data[os.write(descriptor, data) :]


def _stop_echo(descriptor: int) -> list[Any] | None:
    """Keep what is typed from being written into the screen. Returns the settings until now."""
    if sys.platform == "win32":
        return None
    try:
        before = termios.tcgetattr(descriptor)
    except termios.error:
        return None
    quiet = [*before]
    quiet[3] = before[3] & ~termios.ECHO
    _set_terminal(descriptor, quiet)
    return before


def _set_terminal(descriptor: int, settings: list[Any]) -> None:
    if sys.platform != "win32":
        with contextlib.suppress(termios.error):
            termios.tcsetattr(descriptor, termios.TCSANOW, settings)


def prepare_terminal(descriptor: int) -> bool:
    """Whether the terminal has a cursor that can be placed. Windows has to be asked for it."""
    if sys.platform != "win32":
        return os.environ.get("TERM", "") not in ("", "dumb")
    import ctypes
    import msvcrt

    handle = msvcrt.get_osfhandle(descriptor)
    mode = ctypes.c_ulong()
    kernel32 = ctypes.windll.kernel32
    processing = 0x0004  # ENABLE_VIRTUAL_TERMINAL_PROCESSING
    return bool(
        kernel32.GetConsoleMode(handle, ctypes.byref(mode))
        and kernel32.SetConsoleMode(handle, mode.value | processing)
    )


def fit(text: str, columns: int) -> str:
    """The text, cut off so that it takes at most so many columns of a terminal."""
    if len(text) <= columns and text.isascii():
        return text
    used = 0
    for position, character in enumerate(text):
        used += _columns(character)
        if used > columns:
            return _cut(text[:position], columns)
    return text


def _cut(text: str, columns: int) -> str:
    """The text with dots at its end, in so many columns."""
    dots = "..."[:columns]
    room = columns - len(dots)
    while text and sum(map(_columns, text)) > room:
        text = text[:-1]
    return text + dots


def _columns(character: str) -> int:
    if character.isascii():
        return 1
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


async def give_back_on_signals(screen: Screen) -> None:
    """Leave the screen in order when the process is to end, or to stop for a while."""
    names = ("SIGTERM", "SIGHUP", "SIGTSTP") if sys.platform != "win32" else ("SIGTERM",)
    numbers = [getattr(signal, name) for name in names]
    # What is ignored, as nohup does it, stays ignored.
    numbers = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
    if not numbers:
        await trio.sleep_forever()
    while True:
        with trio.open_signal_receiver(*numbers) as signals:
            number = await anext(signals)
        # The receiver is closed, so a signal means again what it does by default.
        with screen.left():
            signal.raise_signal(number)
