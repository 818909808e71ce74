"""Telling what the demo does: numbered steps, a few plain lines each, and a summary."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import trio

from trionet.cli.demo.processes import Program
from trionet.cli.output import error_text, one_line


class StepFailed(Exception):
    """A step has not done what it should; the text says what happened instead."""


def check(condition: bool, otherwise: str) -> None:
    """Go on if it is as it should be.

    Raises:
        StepFailed: otherwise, with this text.
    """
    if not condition:
        raise StepFailed(otherwise)


@dataclass(frozen=True, slots=True)
class _Step:
    title: str
    ok: bool
    seconds: float


class Narrator:
    """Prints what happens, and keeps count of the steps."""

    def __init__(self) -> None:
        self._steps: list[_Step] = []

    @contextlib.contextmanager
    def step(self, title: str) -> Iterator[None]:
        """A step of the demo.

        Raises:
            StepFailed: if the block raises an exception, which is told, or is cancelled.
        """
        print(f"\n{len(self._steps) + 1}. {title}", flush=True)
        started = trio.current_time()
        ok = False
        try:
            yield
            ok = True
        except Exception as error:
            kind = "" if isinstance(error, StepFailed) else f"{type(error).__name__}: "
            self.say(f"FAILED: {kind}{error_text(error)}")
            raise StepFailed from error
        finally:
            self._steps.append(_Step(title, ok, trio.current_time() - started))

    def say(self, text: str) -> None:
        """One plain line about what happens."""
        print(f"   {one_line(text)}", flush=True)

    async def tell_output(self, program: Program, until: str = "") -> str | None:
        """Tell what a program prints, until a line with a certain text, or until it prints no more.

        Returns:
            The last line; None if there was none, or not that one.
        """
        last: str | None = None
        while (line := await program.read_line()) is not None:
            self.say(f"| {line}")
            last = line
            if until and until in line:
                return last
        return None if until else last

    def summarize(self, finished: bool) -> bool:
        """Print how it went. Returns whether all went well.

        Args:
            finished: Whether there were no more steps to do.
        """
        print("\nSummary")
        for number, step in enumerate(self._steps, 1):
            title = f"{number}. {step.title}"
            print(f"   {'ok    ' if step.ok else 'FAILED'}  {title:<61} {step.seconds:5.2f} s")
        total = sum(step.seconds for step in self._steps)
        failed = [str(number) for number, step in enumerate(self._steps, 1) if not step.ok]
        if finished and not failed:
            print(f"All {len(self._steps)} steps ok in {total:.1f} s.", flush=True)
            return True
        print(f"Step {', '.join(failed) or len(self._steps) + 1} failed, after {total:.1f} s.", flush=True)
        return False
