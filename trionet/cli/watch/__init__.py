"""``trionet watch``: a published structure, live.

__init__    the command: once, as lines, or on the screen
    |
lines       lines of JSON           live    what is on the screen
    |                                 |
path        parts of structures     tree    structures as rows;   screen    the terminal
following   subscribing
"""

from __future__ import annotations

import argparse
import shutil
import sys
from typing import Any, Final

import numpy as np
import trio

from trionet import Subscription
from trionet.cli.feeds import FEED_OPTIONS, Source, add_feed, follow, source_of
from trionet.cli.output import CommandError, result_json
from trionet.cli.parser import CommandParser
from trionet.cli.watch.following import subscribe
from trionet.cli.watch.lines import watch_lines
from trionet.cli.watch.live import watch_screen
from trionet.cli.watch.path import NoSuchPart, Path, parse_path
from trionet.cli.watch.screen import prepare_terminal
from trionet.cli.watch.tree import array_rows, rows

#: The options, and how many words follow each of them.
OPTIONS: Final = {"": {**FEED_OPTIONS, "--once": 0, "--json": 0}}

_DESCRIPTION: Final = """\
Show a published structure, ours or that of an ARTIQ master, as it changes.

On a terminal it is a tree that is updated in place: what has changed within the last second is marked with
a star, long values are shortened, and a lost connection is noted at the top until there is one again.
Ctrl-C leaves.

Otherwise it is lines of JSON, one for each change. The first is {"action":"init","struct":...} with the
whole structure, and so is the first after a lost connection. With PATH, each line is the part's value: the
first as it is, then one whenever it has become another one. While there is no such part, nothing is printed,
and standard error says so. What JSON has no form for is PYON v2, which is JSON with classes.

PATH selects a part, by keys with slashes in between: datasets/pmt/3. A key that is not there as text is
taken for a value: 3 is an index or a number, "(1, 2)" a tuple. Quotes make a text of what has slashes in it.
"""

_EPILOG: Final = """\
examples:
  trionet watch master 3250 datasets
  trionet watch master 3250 schedule 17/status
  trionet watch master 3250 datasets --once > datasets.json
  trionet watch master 3250 datasets pmt_counts/1 --json | python analyse.py
  trionet watch master 3250 devices '"rack/2"/core_addr' --once --timeout 2

Exit status: 0 with --once, 1 if something failed, 130 after Ctrl-C, which is how it ends otherwise.
"""


def add_watch_parser(commands: argparse._SubParsersAction[CommandParser]) -> None:
    """Add ``trionet watch`` to the commands."""
    watch = commands.add_parser(
        "watch",
        help="show a published structure, live",
        description=_DESCRIPTION,
        epilog=_EPILOG,
    )
    add_feed(watch, "give up if the structure has not come within this time (later, it waits for ever)")
    watch.add_argument("name", metavar="NAME", help="what it is published as")
    watch.add_argument("path", metavar="PATH", nargs="?", default="", help="a part of it")
    watch.add_argument("--once", action="store_true", help="print the structure as it is now, and end")
    watch.add_argument("--json", action="store_true", help="print lines of JSON on a terminal, too")
    watch.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    source, name, path = source_of(options), options.name.removeprefix(" "), parse_path(options.path)
    on_terminal = not options.json and sys.stdout.isatty()
    if options.once:
        _print_once(source, name, path, on_terminal)
        return 0
    if on_terminal and prepare_terminal(sys.stdout.fileno()):
        trio.run(watch_screen, source, name, path)
    else:
        trio.run(watch_lines, source, name, path)
    return 0


def _print_once(source: Source, name: str, path: Path, on_terminal: bool) -> None:
    structure = trio.run(_take_once, source, name)
    try:
        keys, part = path.find(structure)
    except NoSuchPart as error:
        raise CommandError(str(error)) from error
    if not on_terminal:
        print(result_json(part))
        return
    for row in rows(part, keys):
        print(f"{'  ' * row.depth}{row.text}")
    if isinstance(part, np.ndarray) and part.ndim:
        print("\n".join(array_rows(part, shutil.get_terminal_size().columns)))


async def _take_once(source: Source, name: str) -> Any:
    structure = None

    async def take(subscription: Subscription) -> None:
        nonlocal structure
        await trio.lowlevel.checkpoint()
        structure = subscription.value

    await follow(source, lambda reconnect: subscribe(source, name, reconnect), take, print)
    return structure
