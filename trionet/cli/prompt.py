"""Where the lines of `interactive` come from: a terminal with history and completion, or plain input.

Lines are read in a thread, so that the connection lives on meanwhile.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

import trio

from trionet.cli.output import one_line

if TYPE_CHECKING:
    from prompt_toolkit.completion import CompleteEvent, Completer, Completion
    from prompt_toolkit.document import Document
    from prompt_toolkit.history import History

_SIGNATURE: Final = 60


class Prompt(Protocol):
    """A source of lines."""

    async def read(self, message: str) -> str | None:
        """The next line, without its end; "" if it was cancelled, None if there are no more."""


class PlainPrompt:
    """Lines of standard input, a terminal, without any comfort."""

    async def read(self, message: str) -> str | None:
        """See `Prompt`."""
        return await trio.to_thread.run_sync(self._read, message, abandon_on_cancel=True)

    def _read(self, message: str) -> str | None:
        try:
            return input(message)
        except EOFError:
            print()
            return None


class ScriptPrompt:
    """Lines of a pipe or a file, without a prompt.

    Args:
        descriptor: What to read. Not `sys.stdin` itself: a thread that is left waiting in it, after Ctrl-C,
            would hold its lock when the program ends.
    """

    def __init__(self, descriptor: int = 0) -> None:
        self._descriptor = descriptor
        self._received = bytearray()

    async def read(self, message: str) -> str | None:
        """See `Prompt`."""
        while (end := self._received.find(b"\n")) < 0:
            data = await trio.to_thread.run_sync(os.read, self._descriptor, 1 << 16, abandon_on_cancel=True)
            if not data and not self._received:
                return None
            self._received += data or b"\n"  # the last line may lack its end
        line = bytes(self._received[:end])
        del self._received[: end + 1]
        return line.decode(errors="backslashreplace").rstrip("\r")


class TerminalPrompt:
    """Lines typed with prompt_toolkit: completion, a history that outlives the session, editing.

    Args:
        names: What can be typed first, by name, with a short explanation. Asked anew each time.
        history: File that keeps the history; None to keep it only while the program runs.

    Raises:
        ImportError: if prompt_toolkit is not installed.
    """

    def __init__(self, names: Callable[[], Mapping[str, str]], history: Path | None) -> None:
        from prompt_toolkit import PromptSession
        from prompt_toolkit.auto_suggest import AutoSuggestFromHistory

        self.session: PromptSession[str] = PromptSession(
            history=_open_history(history),
            completer=_make_completer(names),
            auto_suggest=AutoSuggestFromHistory(),
            enable_history_search=True,
            complete_while_typing=False,  # only with Tab: the up arrow is for the history
        )

    async def read(self, message: str) -> str | None:
        """See `Prompt`."""
        return await trio.to_thread.run_sync(self._read, message, abandon_on_cancel=True)

    def _read(self, message: str) -> str | None:
        try:
            return self.session.prompt(message)
        except KeyboardInterrupt:  # the terminal sends Ctrl-C as a key while a line is edited
            return ""
        except EOFError:
            return None


def open_prompt(names: Callable[[], Mapping[str, str]]) -> Prompt:
    """The best prompt that there can be here."""
    if not sys.stdin.isatty():
        return ScriptPrompt()
    if sys.stdout.isatty():
        try:
            return TerminalPrompt(names, history_file())
        except ImportError:
            pass
    return PlainPrompt()


def history_file() -> Path:
    """Where the history is kept, by the customs of the platform."""
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    else:
        base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "trionet" / "rpc_history"


def _open_history(file: Path | None) -> History:
    from prompt_toolkit.history import FileHistory, InMemoryHistory

    if file is not None:
        try:
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with open(file, "ab"):
                return FileHistory(file)
        except OSError:  # a home that cannot be written to is no reason to have no prompt
            pass
    return InMemoryHistory()


def complete(text: str, names: Mapping[str, str]) -> Iterator[tuple[str, int, str]]:
    """Completions of the first word, or of the method after ``help``.

    Yields:
        The name, how many characters it replaces, and what explains it.
    """
    begun = text.lstrip()
    first, space, rest = begun.partition(" ")
    if space and first == "help":
        begun = rest.lstrip()
    elif space:
        return
    for name in sorted(names):
        if name.startswith(begun):
            yield name, len(begun), one_line(names[name])


def _make_completer(names: Callable[[], Mapping[str, str]]) -> Completer:
    from prompt_toolkit.completion import Completer, Completion

    class _NameCompleter(Completer):
        def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterator[Completion]:
            for name, replaced, explanation in complete(document.text_before_cursor, names()):
                yield Completion(name, start_position=-replaced, display_meta=explanation[:_SIGNATURE])

    return _NameCompleter()
