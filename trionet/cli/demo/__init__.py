"""``trionet demo``: a laboratory in a few processes, over real sockets, in a few seconds."""

from __future__ import annotations

import argparse
from typing import Final

from trionet.cli.parser import CommandParser

_DESCRIPTION: Final = """\
A laser controller, an experiment, a worker, two rigs and an operator, each a process of its own as they would
be on the PCs of a laboratory, talk over real sockets on this machine. Each step says what it does. It takes a
few seconds, ends by itself, and leaves no process behind.
"""

_EPILOG: Final = """\
example:
  trionet demo

Exit status: 0 if every step went well, 1 if one failed, 130 after Ctrl-C.
"""


def add_demo_parser(commands: argparse._SubParsersAction[CommandParser]) -> None:
    """Add ``trionet demo`` to the commands."""
    demo = commands.add_parser(
        "demo",
        help="show what trionet does, with a laser, two rigs and an operator",
        description=_DESCRIPTION,
        epilog=_EPILOG,
    )
    demo.set_defaults(run=_run)


def _run(_options: argparse.Namespace) -> int:
    from trionet.cli.demo.scenario import run_demo  # only here: other commands do not need it

    return run_demo()
