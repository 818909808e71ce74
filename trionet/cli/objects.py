"""``trionet objects``: look at the objects that a server publishes, ours or pyacq's, and use them."""

from __future__ import annotations

import argparse
import contextlib
import math
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import trio

from trionet import ObjectClient, ObjectDescription, ObjectProxy, open_object_client
from trionet.cli.arguments import ArgumentError, parse_arguments
from trionet.cli.connecting import positive_seconds
from trionet.cli.output import (
    EXPECTED_ERRORS,
    CommandError,
    descriptions_as_dict,
    descriptions_text,
    error_text,
    remote_call,
    result_json,
    result_text,
    say_aside,
)
from trionet.cli.parser import CommandParser

#: The options, and how many words follow each of them.
OPTIONS: Final = {"": {"--serializer": 1, "--timeout": 1, "--json": 0, "--traceback": 0}}

_EPILOG: Final = """\
ADDRESS is tcp://HOST:PORT, or ipc://PATH on this machine. PATH is a name that is published, and attributes
behind it. Options may stand anywhere. Arguments of methods are those of `trionet rpc`: Python literals, PYON,
or numpy constructors; text needs quotes of its own, and NAME=VALUE is a keyword argument. Nothing is
evaluated here.

examples:
  trionet objects tcp://laser-pc:5555 ls
  trionet objects tcp://laser-pc:5555 ls laser.settings
  trionet objects tcp://laser-pc:5555 get laser.settings.power
  trionet objects tcp://laser-pc:5555 call laser.set_power 1.5 ramp=-0.25
"""

_LS_EPILOG: Final = """\
Attributes are not looked at: `property` stands for one that is computed when it is asked for.

examples:
  trionet objects tcp://laser-pc:5555 ls
  trionet objects tcp://laser-pc:5555 ls laser.settings --json
"""

_GET_EPILOG: Final = """\
examples:
  trionet objects tcp://laser-pc:5555 get laser.settings.power
  trionet objects tcp://laser-pc:5555 get spectrum --json
"""

_CALL_EPILOG: Final = """\
examples:
  trionet objects tcp://laser-pc:5555 call laser.set_power 1.5 ramp=-0.25
  trionet objects tcp://laser-pc:5555 call laser.load_waveform 'np.linspace(0, 1, 1000)' '"sawtooth"'
  trionet objects tcp://laser-pc:5555 call laser.history.__getitem__ 0
"""

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Place:
    """An object, or a part of it, as it was typed: ``laser.settings.power``.

    Attributes:
        name: What it is published as.
        attributes: What is to be looked up from there.
    """

    name: str
    attributes: tuple[str, ...] = ()

    def __str__(self) -> str:
        return ".".join((self.name, *self.attributes))


def add_objects_parser(commands: argparse._SubParsersAction[CommandParser]) -> None:
    """Add ``trionet objects`` to the commands."""
    options = _options()
    objects = commands.add_parser(
        "objects",
        help="look at the objects that a server publishes, and use them",
        description="Look at the objects that a server publishes, ours or pyacq's, and use them.",
        epilog=_EPILOG,
        parents=[options],
    )
    objects.add_argument("address", metavar="ADDRESS", type=_address, help="tcp://HOST:PORT or ipc://PATH")
    actions = objects.add_subparsers(metavar="ACTION", dest="action", required=True)

    def add(name: str, run: Callable[[argparse.Namespace], int], text: str, epilog: str) -> CommandParser:
        action = actions.add_parser(name, help=text, description=text, epilog=epilog, parents=[options])
        action.set_defaults(run=run)
        return action

    ls = add("ls", list_objects, "list what is published, with documentation", _LS_EPILOG)
    ls.add_argument("path", metavar="PATH", type=_place, nargs="?", help="only this, such as laser.settings")
    get = add("get", get_value, "print a value", _GET_EPILOG)
    get.add_argument("path", metavar="PATH", type=_place, help="such as laser.settings.power")
    call = add("call", call_object, "call a method and print its result, unless that is None", _CALL_EPILOG)
    call.add_argument("path", metavar="PATH", type=_place, help="such as laser.set_power")
    call.add_argument("args", metavar="ARGS", nargs="*", default=[], help="VALUE or NAME=VALUE")


def _options() -> CommandParser:
    # Without defaults, so that the parser of an action does not undo what that of `objects` has read.
    parser = CommandParser(add_help=False, argument_default=argparse.SUPPRESS)
    parser.add_argument(
        "--serializer",
        choices=("msgpack", "json"),
        help="how to write requests; by default msgpack, which a pyacq server may not have installed",
    )
    parser.add_argument(
        "--timeout",
        type=positive_seconds,
        metavar="SECONDS",
        help="give up after this time; the server finishes a call all the same",
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="print the result as one line of plain JSON if it has such a form, else as PYON v2, which is "
        "JSON with classes",
    )
    parser.add_argument(
        "--traceback", action="store_true", help="show the traceback of a remote exception, too"
    )
    return parser


def _address(text: str) -> str:
    """An address to connect to, for argparse: the rest of it is checked when it is connected to."""
    kind, _, rest = text.strip().partition("://")
    if kind in ("tcp", "ipc") and rest:
        return text.strip()
    raise argparse.ArgumentTypeError(f"{text.strip()!r} is no address: write tcp://HOST:PORT or ipc://PATH")


def _place(text: str) -> Place:
    """A path, for argparse."""
    name, *attributes = text.strip().split(".")
    if name and all(attribute.isidentifier() for attribute in attributes):
        return Place(name, tuple(attributes))
    raise argparse.ArgumentTypeError(f"{text.strip()!r} is no path: write NAME or NAME.ATTRIBUTE")


def list_objects(options: argparse.Namespace) -> int:
    """``ls``: what is published, or one of it."""

    async def look(client: ObjectClient) -> Mapping[str, ObjectDescription]:
        place: Place | None = options.path
        if place is None:
            return await client.published()
        return {str(place): await client.describe(await _proxy(client, place))}

    described = _run(options, look, str(options.path or "ls"))
    if _wants_json(options):
        print(result_json(descriptions_as_dict(described)))
    elif described:
        print(descriptions_text(described))
    else:
        say_aside("nothing is published")
    return 0


def get_value(options: argparse.Namespace) -> int:
    """``get``: a value."""
    place: Place = options.path

    async def look(client: ObjectClient) -> Any:
        return await (await _proxy(client, place)).get().as_value()

    value = _run(options, look, str(place))
    _print(options, value)
    return 0


def call_object(options: argparse.Namespace) -> int:
    """``call``: the result of a method."""
    place: Place = options.path
    try:
        args, kwargs = parse_arguments(options.args)
    except ArgumentError as error:
        print(f"trionet: error: {error}", file=sys.stderr)
        return 2

    async def call(client: ObjectClient) -> Any:
        return await (await _proxy(client, place))(*args, **kwargs).as_value()

    result = _run(options, call, str(place))
    if result is not None or _wants_json(options):
        _print(options, result)
    return 0


async def _proxy(client: ObjectClient, place: Place) -> ObjectProxy:
    """What stands for a place at the server.

    Raises:
        CommandError: if nothing is published there.
    """
    try:
        proxy: ObjectProxy = await client.get(place.name, "proxy")
    except KeyError as error:
        raise CommandError(f"the server publishes no {place.name!r}: see `ls`") from error
    for attribute in place.attributes:
        proxy = proxy.attribute(attribute)
    return proxy


def _print(options: argparse.Namespace, value: Any) -> None:
    if not _wants_json(options):
        # None is a value, too, where one was asked for.
        print(result_text(value) or "None")
        return
    try:
        text = result_json(value)
    except (TypeError, ValueError) as error:  # a proxy in it
        raise CommandError(f"the result has no form in JSON: {error}") from error
    print(text)


def _wants_json(options: argparse.Namespace) -> bool:
    return getattr(options, "json", False)


def _run(
    options: argparse.Namespace, command: Callable[[ObjectClient], Awaitable[Result]], what: str
) -> Result:
    """Connect, and run a command within its time.

    Raises:
        CommandError: if that is not possible.
    """
    seconds: float = getattr(options, "timeout", math.inf)

    async def run() -> Result:
        with trio.move_on_after(seconds):
            async with _open(options) as client:
                return await _guarded(options, what, lambda: command(client))
        raise CommandError(f"no answer within {seconds:g} s")

    return trio.run(run)


@contextlib.asynccontextmanager
async def _open(options: argparse.Namespace) -> AsyncIterator[ObjectClient]:
    serializer: str = getattr(options, "serializer", "msgpack")
    opened = open_object_client(options.address, serializer=serializer)
    if hasattr(options, "timeout"):
        # With a limit for the whole command, the limits of its steps would only say it differently.
        opened = open_object_client(
            options.address, serializer=serializer, connect_timeout=math.inf, handshake_timeout=math.inf
        )
    async with contextlib.AsyncExitStack() as stack:
        try:
            client = await stack.enter_async_context(opened)
        except EXPECTED_ERRORS as error:
            raise CommandError(error_text(error)) from error
        yield client


async def _guarded(options: argparse.Namespace, what: str, ask: Callable[[], Awaitable[Result]]) -> Result:
    """Ask the server; what goes wrong becomes a `CommandError`."""
    try:
        return await ask()
    except CommandError:
        raise
    except Exception as error:
        place = remote_call(error)
        if place is not None:
            shown = place.remote_traceback if getattr(options, "traceback", False) else ()
            raise CommandError(f"{what} raised {error_text(error)}", shown) from error
        if not isinstance(error, EXPECTED_ERRORS):
            raise
        raise CommandError(error_text(error)) from error
