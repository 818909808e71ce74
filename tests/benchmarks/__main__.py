"""``python -m tests.benchmarks``: print one table of ratios against peers."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from tests.benchmarks import (
    compat_rig_rows,
    compat_rpc_rows,
    feed_rows,
    lab_rows,
    memory_rows,
    object_rows,
    pyon_rows,
    rig_rows,
    rpc_rows,
)
from tests.benchmarks._rounds import Run
from tests.benchmarks._table import Entry, Omitted, describe_machine, format_table

#: The rows by what ``--only`` looks for.
BENCHMARKS: dict[str, Callable[[Run], Iterable[Entry]]] = {
    **pyon_rows.BENCHMARKS,
    **rpc_rows.BENCHMARKS,
    **feed_rows.BENCHMARKS,
    **rig_rows.BENCHMARKS,
    **compat_rig_rows.BENCHMARKS,
    **object_rows.BENCHMARKS,
    **memory_rows.BENCHMARKS,
    **lab_rows.BENCHMARKS,
    **compat_rpc_rows.BENCHMARKS,
}

#: Peers that no index has.
CHECKOUTS = ("sipyco", "iblrig", "pyacq")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print. Returns the exit status: 1 if a peer failed, whatever the ratios are."""
    run, names = _parse(arguments)
    print(describe_machine(), end="\n\n", flush=True)
    entries = list(_measure(run, names))
    print(format_table(entries))
    return int(any(isinstance(entry, Omitted) and entry.failed for entry in entries))


def _measure(run: Run, names: Sequence[str]) -> Iterator[Entry]:
    for name in names:
        print(f"measuring: {name}", file=sys.stderr, flush=True)
        yield from BENCHMARKS[name](run)


def _parse(arguments: Sequence[str] | None) -> tuple[Run, list[str]]:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks",
        description="Ratios against peers, measured alternately in this run.",
        epilog="Rows: " + "; ".join(BENCHMARKS),
    )
    parser.add_argument(
        "--peer",
        metavar="NAME=PATH",
        action="append",
        default=[],
        help=f"a checkout of a peer that no index has ({', '.join(CHECKOUTS)}); can be repeated",
    )
    parser.add_argument("--rounds", type=int, metavar="N", help="rounds to take the median of, 5 by default")
    parser.add_argument("--only", metavar="SUBSTRING", default="", help="measure the rows named like this")
    parser.add_argument("--quick", action="store_true", help="short and small, to see whether it works")
    options = parser.parse_args(arguments)
    paths = {}
    for peer in options.peer:
        name, _, path = peer.partition("=")
        if name not in CHECKOUTS:
            parser.error(f"--peer: {name!r} is not one of {', '.join(CHECKOUTS)}")
        if not Path(path).is_dir() or not path:
            parser.error(f"--peer: {path!r} is not a directory")
        paths[name] = str(Path(path).resolve())
    if options.rounds is not None and options.rounds < 1:
        parser.error("--rounds: at least 1")
    names = [name for name in BENCHMARKS if options.only.lower() in name.lower()]
    if not names:
        parser.error(f"--only: no row is named like {options.only!r}")
    rounds = options.rounds or (1 if options.quick else 5)
    if options.quick:
        return Run(rounds, seconds=0.02, scale=0.05, paths=paths), names
    return Run(rounds, paths=paths), names


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
