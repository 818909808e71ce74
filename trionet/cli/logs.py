"""``trionet logs``: collect the logs of a laboratory, and follow them."""

from __future__ import annotations

import argparse
import functools
import logging
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import trio

from trionet import Broadcaster, BroadcastServer, ServerHandle, serve_broadcaster, serve_log_sink
from trionet.cli.broadcast import receive
from trionet.cli.connecting import (
    SERVER_OPTIONS,
    add_listening,
    addresses_text,
    own_port,
    server_context,
    tls_identity,
)
from trionet.cli.feeds import FEED_OPTIONS, add_feed, log_told, source_of
from trionet.cli.output import one_line, printable, say_aside
from trionet.cli.parser import CommandParser
from trionet.cli.tasks import run_served

#: The options of each action, and how many words follow each of them.
OPTIONS: Final = {
    "serve": {**SERVER_OPTIONS, "--level": 1, "--broadcast": 1, "--channel": 1},
    "tail": {**FEED_OPTIONS, "--level": 1, "--channel": 1},
}

_LEVELS: Final[Mapping[str, int]] = {
    "TRACE": 5,
    "DEBUG": logging.DEBUG,
    "INFO": logging.INFO,
    "WARNING": logging.WARNING,
    "ERROR": logging.ERROR,
    "CRITICAL": logging.CRITICAL,
}
_NAMES: Final[Mapping[int, str]] = {number: name for name, number in _LEVELS.items()}
#: The channel on which ARTIQ's master broadcasts its log.
_CHANNEL: Final = "log"

_EPILOG: Final = """\
examples:
  trionet logs serve 1066 --bind 0.0.0.0
  trionet logs tail master 1067 --level WARNING
"""

_LINES: Final = """\
A record is a line: time, source, level, name of the logger, message. Further lines of a message are indented.
"""

_SERVE_HELP: Final = f"""\
Take the logs of programs that forward them, ours and sipyco's, and print them until Ctrl-C.

{_LINES}
With --broadcast, records are also broadcast as an ARTIQ master does it: as tuples of level, source, time and
NAME:MESSAGE. `trionet logs tail` and ARTIQ's dashboard show them.
"""

_SERVE_EPILOG: Final = """\
examples:
  trionet logs serve 1066 --bind 0.0.0.0
  trionet logs serve 1066 --level WARNING --broadcast 1067 >> laboratory.log
"""

_TAIL_HELP: Final = f"""\
Print the log that an ARTIQ master broadcasts, or `trionet logs serve --broadcast`, until Ctrl-C.

{_LINES}
A lost connection is opened again; what is logged meanwhile is lost.
"""

_TAIL_EPILOG: Final = """\
examples:
  trionet logs tail master 1067
  trionet logs tail master 1067 --level WARNING
"""


def add_logs_parser(commands: argparse._SubParsersAction[CommandParser]) -> None:
    """Add ``trionet logs`` to the commands."""
    text = "collect the logs of a laboratory, or follow them"
    logs = commands.add_parser("logs", help=text, description=f"{text.capitalize()}.", epilog=_EPILOG)
    actions = logs.add_subparsers(metavar="ACTION", dest="action", required=True)
    serve = actions.add_parser(
        "serve", help="print what programs forward", description=_SERVE_HELP, epilog=_SERVE_EPILOG
    )
    add_listening(serve, "forwarders and receivers")
    _add_level(serve)
    serve.add_argument(
        "--broadcast", type=own_port, metavar="PORT", help="also broadcast records, on this TCP port"
    )
    _add_channel(serve)
    serve.set_defaults(run=_serve)
    tail = actions.add_parser(
        "tail", help="print the log that a master broadcasts", description=_TAIL_HELP, epilog=_TAIL_EPILOG
    )
    add_feed(tail, "give up if nothing has come for this time, the connection included")
    _add_level(tail)
    _add_channel(tail)
    tail.set_defaults(run=_tail)


def _add_level(parser: argparse.ArgumentParser) -> None:
    names = ", ".join(_LEVELS)
    help_text = f"leave out what is below: {names}, or a number (default: TRACE)"
    parser.add_argument("--level", type=_level, metavar="LEVEL", default=_LEVELS["TRACE"], help=help_text)


def _add_channel(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--channel", metavar="NAME", default=_CHANNEL, help=f"channel of the broadcast (default: {_CHANNEL})"
    )


def _level(text: str) -> int:
    level = int(text) if text.isdecimal() else _LEVELS.get(text.upper())
    if level is None:
        raise argparse.ArgumentTypeError(
            f"{text.strip()!r} is no level: {', '.join(_LEVELS)} and numbers are"
        )
    return level


def record_text(level: int, source: str, created: float, name: str, message: str) -> str:
    """A record as it is printed."""
    try:
        time = f"{datetime.fromtimestamp(created):%Y-%m-%d %H:%M:%S}"
    except (ValueError, OverflowError, OSError):  # what a peer takes for a time
        time = repr(created)
    lines = printable(message).rstrip("\n").split("\n")
    name = f"{one_line(name)}: " if name else ""
    head = f"{time} {one_line(source)} {_NAMES.get(level, level)} {name}{lines[0]}"
    return "\n    ".join([head, *lines[1:]])


# -- serve ---------------------------------------------------------------------------------------------


def _serve(options: argparse.Namespace) -> int:
    trio.run(_serve_logs, options)
    return 0


async def _serve_logs(options: argparse.Namespace) -> None:
    context = server_context(tls_identity(options))
    sink = _Sink(options.level, options.channel)
    serve = functools.partial(
        serve_log_sink, options.port, emit=sink.emit, host=options.bind, ssl_context=context
    )

    async def wait(server: ServerHandle) -> None:
        say_aside(f"taking logs at {addresses_text(server)}")
        with sink.scope:
            await trio.sleep_forever()

    async def wait_broadcasting(server: BroadcastServer) -> None:
        say_aside(f"broadcasting at {addresses_text(server)}, channel {options.channel!r}")
        await run_served(serve, wait)

    with log_told(logging.getLogger("trionet"), say_aside):
        if options.broadcast is None:
            await run_served(serve, wait)
        else:
            broadcast = functools.partial(
                serve_broadcaster,
                sink.broadcaster,
                options.broadcast,
                host=options.bind,
                ssl_context=context,
            )
            await run_served(broadcast, wait_broadcasting)
    if sink.failure is not None:
        raise sink.failure


class _Sink:
    """Prints and broadcasts records.

    Attributes:
        broadcaster: Where it broadcasts them.
        scope: Cancelled when they can no longer be printed.
        failure: Why not.
    """

    def __init__(self, level: int, channel: str) -> None:
        self.broadcaster = Broadcaster()
        self.scope = trio.CancelScope()
        self.failure: OSError | None = None
        self._level = level
        self._channel = channel

    def emit(self, record: logging.LogRecord) -> None:
        """Take a record."""
        if record.levelno < self._level:
            return
        source, message = str(getattr(record, "source", "")), record.getMessage()
        try:
            print(record_text(record.levelno, source, record.created, record.name, message), flush=True)
        except OSError as error:  # whoever read it has left: not a matter of this record only
            self.failure = error
            self.scope.cancel()
        self.broadcaster.broadcast(
            self._channel, (record.levelno, source, record.created, f"{record.name}:{message}")
        )


# -- tail ----------------------------------------------------------------------------------------------


def _tail(options: argparse.Namespace) -> int:
    def print_record(value: Any) -> None:
        match value:
            case (int(level), str(source), float(created) | int(created), str(text)):
                if level >= options.level:
                    name, colon, message = text.partition(":")
                    name, message = (name, message) if colon else ("", text)
                    print(record_text(level, source, float(created), name, message), flush=True)
            case _:
                say_aside(f"no record: {str(value)[:60]}")

    trio.run(receive, source_of(options), options.channel, print_record)
    return 0
