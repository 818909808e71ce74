"""``trionet rpc``: look at an RPC server, and call its methods."""

from __future__ import annotations

import argparse
import contextlib
import math
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Final

import trio

from trionet import AUTO, AutoTarget, RpcClient, TLSIdentity, open_rpc_client
from trionet.cli.arguments import ArgumentError, parse_arguments
from trionet.cli.connecting import add_server, add_tls, client_context, positive_seconds, tls_identity
from trionet.cli.output import (
    EXPECTED_ERRORS,
    CommandError,
    error_text,
    methods_as_dict,
    methods_text,
    remote_call,
    result_json,
    result_text,
    targets_text,
)
from trionet.cli.parser import CommandParser

#: The options, and how many words follow each of them.
OPTIONS: Final = {"": {"--target": 1, "--tls": 3, "--timeout": 1, "--json": 0, "--traceback": 0}}

_EPILOG: Final = """\
Options may stand anywhere. Arguments of methods are Python literals, PYON, or numpy constructors; text
needs quotes of its own, and NAME=VALUE is a keyword argument. Nothing is evaluated.

examples:
  trionet rpc laser-pc 3251 list-targets
  trionet rpc laser-pc 3251 list-methods --target laser
  trionet rpc laser-pc 3251 call set_power 1.5 ramp=-0.25
  trionet rpc laser-pc 3251 call load_waveform 'np.linspace(0, 1, 1000)' '"sawtooth"'
  trionet rpc laser-pc 3251 call get_power --json --timeout 2
  trionet rpc laser-pc 3251 --tls my.pem my.key laser.pem interactive
"""

_CALL_EPILOG: Final = """\
arguments:
  1  -1.5  1+2j  True  None  '"text"'  "b'bytes'"  '[1, 2]'  '{"a": (1, 2)}'  '{1, 2}'
  'np.array([1, 2], dtype="int16")'  'np.zeros((2, 3))'  'np.linspace(0, 1, 100)'  'np.float32(1.5)'
  ramp=0.5                           a keyword argument
  '[1, true, null]'                  JSON, PYON v2 and PYON v1

examples:
  trionet rpc laser-pc 3251 call set_power 1.5 ramp=-0.25
  trionet rpc laser-pc 3251 call --target laser get_power --json
"""

_INTERACTIVE_HELP: Final = """\
Call methods at a prompt, with history and completion:

  laser> set_power(1.5, ramp=-0.25)
  laser> set_power 1.5 ramp=-0.25

help, methods and quit are commands. Ctrl-C cancels a line or a call. A lost connection is opened again
with the next command. Without a terminal, lines are read from standard input, and the exit status is 1 if
one of them failed.

example:
  echo 'get_power()' | trionet rpc laser-pc 3251 interactive
"""


@dataclass(frozen=True, slots=True)
class Connection:
    """How to reach a target.

    Attributes:
        host: Name or address of the server.
        port: Its port.
        target: Name of the target, or `AUTO`.
        tls: Who we are and whom we trust, for TLS.
        timeout: Seconds for a command, or None.
    """

    host: str
    port: int
    target: str | AutoTarget = AUTO
    tls: TLSIdentity | None = None
    timeout: float | None = None

    @contextlib.asynccontextmanager
    async def open(self, *, select: bool = True) -> AsyncIterator[RpcClient]:
        """Connect, and select the target.

        Raises:
            CommandError: if that is not possible.
        """
        context = client_context(self.tls)
        opened = open_rpc_client(self.host, self.port, self.target if select else None, ssl_context=context)
        if self.timeout is not None:
            # With a limit for the whole command, the limits of its steps would only say it differently.
            opened = open_rpc_client(
                self.host,
                self.port,
                self.target if select else None,
                ssl_context=context,
                connect_timeout=math.inf,
                handshake_timeout=math.inf,
            )
        async with contextlib.AsyncExitStack() as stack:
            try:
                client = await stack.enter_async_context(opened)
            except EXPECTED_ERRORS as error:
                raise CommandError(error_text(error)) from error
            yield client


def add_rpc_parser(commands: argparse._SubParsersAction[CommandParser]) -> None:
    """Add ``trionet rpc`` to the commands."""
    options = _options()
    rpc = commands.add_parser(
        "rpc",
        help="look at an RPC server, and call its methods",
        description="Look at an RPC server, ours or sipyco's, and call the methods of its targets.",
        epilog=_EPILOG,
        parents=[options],
    )
    add_server(rpc)
    actions = rpc.add_subparsers(metavar="ACTION", dest="action", required=True)
    for name, run, text in (
        ("list-targets", list_targets, "list what the server offers"),
        ("list-methods", list_methods, "list the methods of a target, with their documentation"),
    ):
        example = f"example:\n  trionet rpc laser-pc 3251 {name}\n"
        action = actions.add_parser(name, help=text, description=text, epilog=example, parents=[options])
        action.set_defaults(run=run)
    call = actions.add_parser(
        "call",
        help="call a method and print its result",
        description="Call a method and print its result, unless that is None.",
        epilog=_CALL_EPILOG,
        parents=[options],
    )
    call.add_argument("method", metavar="METHOD", help="name of the method")
    call.add_argument("args", metavar="ARGS", nargs="*", default=[], help="VALUE or NAME=VALUE")
    call.set_defaults(run=call_method)
    interactive = actions.add_parser(
        "interactive",
        help="call methods at a prompt, with history and completion",
        description=_INTERACTIVE_HELP,
        parents=[options],
    )
    interactive.set_defaults(run=run_interactive)


def _options() -> CommandParser:
    # Without defaults, so that the parser of an action does not undo what that of `rpc` has read.
    parser = CommandParser(add_help=False, argument_default=argparse.SUPPRESS)
    parser.add_argument("--target", metavar="NAME", help="the target; needed if the server has several")
    add_tls(parser, "server")
    parser.add_argument(
        "--timeout",
        type=positive_seconds,
        metavar="SECONDS",
        help="give up after this time (interactive: per call; the server finishes a call all the same)",
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="print the result as one line of plain JSON if it has such a form (tuples as lists), "
        "else as PYON v2, which is JSON with classes",
    )
    parser.add_argument(
        "--traceback", action="store_true", help="show the traceback of a remote exception, too"
    )
    return parser


def connection_of(options: argparse.Namespace) -> Connection:
    """Where the command line says to connect to."""
    return Connection(
        options.host,
        options.port,
        getattr(options, "target", AUTO),
        tls_identity(options),
        getattr(options, "timeout", None),
    )


def list_targets(options: argparse.Namespace) -> int:
    """``list-targets``: the names of the targets, and the description of the server."""
    connection = connection_of(options)

    async def look(connection: Connection) -> tuple[tuple[str, ...], str | None]:
        async with connection.open(select=False) as client:
            return client.targets, client.description

    targets, description = _run(connection, look)
    if _wants_json(options):
        print(result_json({"targets": targets, "description": description}))
    else:
        print(targets_text(targets, description))
    return 0


def list_methods(options: argparse.Namespace) -> int:
    """``list-methods``: the documentation of a target and of its methods."""

    async def look(connection: Connection) -> Any:
        async with connection.open() as client:
            return await _guarded(options, "get_rpc_method_list", client.describe)

    description = _run(connection_of(options), look)
    print(result_json(methods_as_dict(description)) if _wants_json(options) else methods_text(description))
    return 0


def call_method(options: argparse.Namespace) -> int:
    """``call``: the result of a method."""
    try:
        args, kwargs = parse_arguments(options.args)
    except ArgumentError as error:
        print(f"trionet: error: {error}", file=sys.stderr)
        return 2

    async def call(connection: Connection) -> Any:
        async with connection.open() as client:
            return await _guarded(
                options, options.method, lambda: client.call(options.method, *args, **kwargs)
            )

    result = _run(connection_of(options), call)
    if _wants_json(options):
        print(result_json(result))
    elif text := result_text(result):
        print(text)
    return 0


def run_interactive(options: argparse.Namespace) -> int:
    """``interactive``: a prompt."""
    from trionet.cli.interactive import run_shell  # only here, it may import a terminal library

    return run_shell(connection_of(options), _wants_json(options))


def _wants_json(options: argparse.Namespace) -> bool:
    return getattr(options, "json", False)


async def _guarded(options: argparse.Namespace, method: str, call: Callable[[], Any]) -> Any:
    """Make a call; what goes wrong becomes a `CommandError`."""
    try:
        return await call()
    except Exception as error:
        place = remote_call(error)
        if place is not None:
            shown = place.remote_traceback if getattr(options, "traceback", False) else ()
            raise CommandError(f"{method} raised {error_text(error)}", shown) from error
        if not isinstance(error, EXPECTED_ERRORS):
            raise
        raise CommandError(error_text(error)) from error


def _run(connection: Connection, command: Callable[[Connection], Any]) -> Any:
    """Run a command within its time."""

    async def run() -> Any:
        with trio.move_on_after(math.inf if connection.timeout is None else connection.timeout):
            return await command(connection)
        raise CommandError(f"no answer within {connection.timeout:g} s")

    return trio.run(run)
