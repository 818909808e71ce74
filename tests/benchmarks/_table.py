"""The table that is printed: aligned text, and Markdown as well."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median

PACKAGES = ("numpy", "trio", "msgspec", "pybase64", "rpyc", "Pyro5", "iblutil", "pyzmq")


@dataclass(frozen=True)
class Goal:
    """A bound of the ratio ours / theirs."""

    bound: float
    upper: bool = False

    def __str__(self) -> str:
        return f"{'<=' if self.upper else '>='} {self.bound:g}"

    def met(self, ratio: float) -> bool:
        """Whether a ratio is good enough."""
        return ratio <= self.bound if self.upper else ratio >= self.bound


def at_least(ratio: float) -> Goal:
    """More is better."""
    return Goal(ratio)


def at_most(ratio: float) -> Goal:
    """Less is better."""
    return Goal(ratio, upper=True)


@dataclass(frozen=True)
class Row:
    """One comparison; the values of each side by round."""

    name: str
    peer: str
    unit: str
    ours: Sequence[float]
    theirs: Sequence[float]
    goal: Goal | None = None

    @property
    def ratio(self) -> float:
        """Our median by theirs."""
        return median(self.ours) / median(self.theirs)

    @property
    def spread(self) -> tuple[float, float]:
        """The smallest and the largest ratio of one round."""
        ratios = [our / their for our, their in zip(self.ours, self.theirs, strict=True)]
        return min(ratios), max(ratios)

    @property
    def mark(self) -> str:
        """Whether the goal is met."""
        if self.goal is None:
            return ""
        return "ok" if self.goal.met(self.ratio) else "below"


@dataclass(frozen=True)
class Omitted:
    """A comparison without result, and why."""

    name: str
    peer: str
    reason: str
    failed: bool = False


Entry = Row | Omitted

_HEADINGS = ("row", "peer", "ours", "theirs", "unit", "ratio", "rounds", "goal", "")
_TO_THE_RIGHT = frozenset({"ours", "theirs", "ratio"})


def format_table(entries: Iterable[Entry]) -> str:
    """The rows as a Markdown table with aligned columns, and below it what was left out."""
    rows, notes = [], []
    for entry in entries:
        if isinstance(entry, Omitted):
            notes.append(f"{entry.name}, {entry.peer}: {entry.reason}")
        else:
            rows.append(_cells(entry))
    lines = [_HEADINGS, *rows]
    widths = [max(3, *(len(line[column]) for line in lines)) for column in range(len(_HEADINGS))]
    rule = [
        "-" * (width - 1) + ":" if heading in _TO_THE_RIGHT else "-" * width
        for heading, width in zip(_HEADINGS, widths, strict=True)
    ]
    table = [_line(_HEADINGS, widths), _line(rule, widths), *(_line(cells, widths) for cells in rows)]
    return "\n".join([*(table if rows else []), *(["", *notes] if notes else [])])


def _cells(row: Row) -> tuple[str, ...]:
    low, high = row.spread
    return (
        row.name,
        row.peer,
        _number(median(row.ours)),
        _number(median(row.theirs)),
        row.unit,
        f"{row.ratio:.2f}",
        f"{low:.2f} to {high:.2f}",
        "" if row.goal is None else str(row.goal),
        row.mark,
    )


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = [
        cell.rjust(width) if heading in _TO_THE_RIGHT else cell.ljust(width)
        for heading, cell, width in zip(_HEADINGS, cells, widths, strict=True)
    ]
    return f"| {' | '.join(padded)} |"


def _number(value: float) -> str:
    """Three digits, or all before the point."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def describe_machine() -> str:
    """The machine and the versions that the numbers belong to."""
    lines = [
        f"{os.cpu_count()} cores, {_cpu_model()}, {platform.system()}",
        f"{platform.python_implementation()} {platform.python_version()}",
        ", ".join(f"{name} {_version(name)}" for name in PACKAGES),
    ]
    if hasattr(os, "getloadavg"):
        lines.append(f"load before the run: {os.getloadavg()[0]:.2f}")
    return "\n".join(lines)


def _cpu_model() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
