"""How the doctor writes: a line for each step, then what is wrong and what to do about it."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Sequence
from typing import Final

from trionet.cli.output import one_line

# Columns of the marks and of the names of steps; no line is longer than the last.
_MARK: Final = 6
_STEP: Final = 13
_WIDEST: Final = 100


class Trouble(Exception):
    """The rig is not well.

    Attributes:
        step: Where that shows.
        finding: What was seen there.
        verdict: What it means.
        advice: What can be done about it, most likely first.
    """

    def __init__(self, step: str, finding: str, verdict: str, advice: Sequence[str]) -> None:
        super().__init__(verdict)
        self.step = step
        self.finding = finding
        self.verdict = verdict
        self.advice = tuple(advice)


class Report:
    """Prints what is found, as soon as it is."""

    def well(self, step: str, finding: str) -> None:
        """A step that went as it should."""
        self._print_step("ok", step, finding)

    def note(self, step: str, finding: str) -> None:
        """What the reader should know, and what is no trouble yet."""
        self._print_step("note", step, finding)

    def trouble(self, trouble: Trouble) -> None:
        """The step at which the examination ends, and all about it."""
        self._print_step("FAIL", trouble.step, trouble.finding)
        print(f"\n{_wrapped(trouble.verdict)}")
        for advice in trouble.advice:
            print(_wrapped(advice, "  - ", "    "))

    def conclude(self) -> None:
        """There was no trouble."""
        print("\nThe rig is well.")

    def _print_step(self, mark: str, step: str, finding: str) -> None:
        head = f"{mark:{_MARK}}{step:{_STEP}}"
        print(_wrapped(finding, head, " " * len(head)), flush=True)


def _wrapped(text: str, first: str = "", others: str = "") -> str:
    columns = min(shutil.get_terminal_size((_WIDEST, 24)).columns, _WIDEST)
    return textwrap.fill(
        one_line(text),
        max(columns, 2 * (_MARK + _STEP)),
        initial_indent=first,
        subsequent_indent=others,
        break_on_hyphens=False,
    )
