"""The command line: ``trionet rpc``, ``watch``, ``broadcast``, ``logs``, ``rig``, ``objects`` and ``demo``.

    __init__    the commands, their exit status, Ctrl-C, closed pipes
        |
    rpc, interactive, watch, broadcast, logs, rig, objects, demo
        |
    feeds       what servers send by themselves
        |
    arguments   values that are typed;   prompt        lines that are typed
    output      what is printed;         parser        options
                                         connecting    ports, TLS

It stands beside the front ends, and uses their public names only.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from trionet import __version__
from trionet.cli import broadcast, logs, objects, rig, rpc, watch
from trionet.cli.demo import add_demo_parser
from trionet.cli.output import CommandError, error_text, prepare_streams, say_error, traceback_text
from trionet.cli.parser import CommandParser, arrange

__all__ = ["main"]

#: Exit status after Ctrl-C, as shells have it.
INTERRUPTED: Final = 130

# The options of each command, by action: see `arrange`.
_OPTIONS: Final[Mapping[str, Mapping[str, Mapping[str, int]]]] = {
    "rpc": rpc.OPTIONS,
    "watch": watch.OPTIONS,
    "broadcast": broadcast.OPTIONS,
    "logs": logs.OPTIONS,
    "rig": rig.OPTIONS,
    "objects": objects.OPTIONS,
}

_EPILOG: Final = """\
examples:
  trionet demo
  trionet rpc laser-pc 3251 list-methods
  trionet rpc laser-pc 3251 call set_power 1.5
  trionet watch master 3250 datasets
  trionet broadcast listen master 1067 alarms
  trionet logs tail master 1067
  trionet rig doctor cameras
  trionet objects tcp://laser-pc:5555 ls

Exit status: 0 if all went well, 1 if something failed, 2 if the command line makes no sense, 130 after
Ctrl-C. Errors are one line on standard error.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: The words behind the name of the program; by default those it was started with.

    Returns:
        The exit status.

    Raises:
        SystemExit: for ``--help`` and ``--version``, and if the command line makes no sense.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if words and words[0] in _OPTIONS:
        words[1:] = arrange(words[1:], _OPTIONS[words[0]])
    prepare_streams()
    options = _parser().parse_args(words)
    return _run(lambda: options.run(options))


def _parser() -> CommandParser:
    parser = CommandParser(
        prog="trionet",
        description="Connect the instruments of a laboratory: tools for the command line.",
        epilog=_EPILOG,
    )
    parser.add_argument("--version", action="version", version=f"trionet {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    rpc.add_rpc_parser(commands)
    watch.add_watch_parser(commands)
    broadcast.add_broadcast_parser(commands)
    logs.add_logs_parser(commands)
    rig.add_rig_parser(commands)
    objects.add_objects_parser(commands)
    add_demo_parser(commands)
    return parser


def _run(command: Callable[[], int]) -> int:
    """Run a command. What goes wrong outside of this program ends in a line, not in a traceback."""
    try:
        return _run_and_report(command)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BaseExceptionGroup as group:
        # What else is in it came of that: a connection whose task was interrupted is lost to the others.
        if group.subgroup(KeyboardInterrupt) is None:
            raise
        return INTERRUPTED


def _run_and_report(command: Callable[[], int]) -> int:
    try:
        status = command()
        sys.stdout.flush()
    except CommandError as error:
        if error.remote_traceback:
            print(traceback_text(error.remote_traceback), file=sys.stderr)
        say_error(str(error))
        return 1
    except OSError as error:  # of the output: a full disk, or whoever read it has left
        # The interpreter flushes once more at exit: into nothing.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            say_error(f"output: {error_text(error)}")
        return 1
    return status
