"""``trionet broadcast``: hear what is broadcast on a channel, and broadcast something."""

from __future__ import annotations

import argparse
import functools
import logging
import math
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager, suppress
from typing import Any, Final

import trio
from trio_util import periodic

from trionet import (
    Broadcaster,
    BroadcastReceiver,
    BroadcastServer,
    open_broadcast_receiver,
    serve_broadcaster,
)
from trionet.cli.arguments import ArgumentError, parse_argument
from trionet.cli.connecting import (
    SERVER_OPTIONS,
    add_listening,
    addresses_text,
    client_context,
    positive_number,
    positive_seconds,
    server_context,
    tls_identity,
)
from trionet.cli.feeds import FEED_OPTIONS, Source, add_feed, follow, log_told, source_of
from trionet.cli.output import EXPECTED_ERRORS, CommandError, error_text, result_json, say_aside, say_error
from trionet.cli.parser import CommandParser
from trionet.cli.prompt import ScriptPrompt
from trionet.cli.tasks import run_served

#: The options of each action, and how many words follow each of them.
OPTIONS: Final = {
    "listen": {**FEED_OPTIONS, "--count": 1},
    "send": {**SERVER_OPTIONS, "--receivers": 1, "--timeout": 1, "--grace": 1},
}

_LOGGER: Final = logging.getLogger("trionet.broadcast")
# Seconds between attempts to connect at most: somebody is waiting.
_MAX_RETRY: Final = 2.0
# Seconds between looks at the receivers.
_LOOK_INTERVAL: Final = 0.02
# Objects that wait for a receiver before the next one is read; the broadcaster keeps more.
_MOST_WAITING: Final = 256

_EPILOG: Final = """\
examples:
  trionet broadcast listen master 1067 alarms
  trionet broadcast send 1067 alarms '"laser unlocked"'
"""

_LISTEN_HELP: Final = """\
Print what is broadcast on a channel, by a server of ours or sipyco's: one line of plain JSON for each object
if it has such a form (tuples as lists), else of PYON v2, which is JSON with classes.

A lost connection is opened again; what is broadcast meanwhile is lost. The server does not say whether
anybody uses the channel.
"""

_LISTEN_EPILOG: Final = """\
examples:
  trionet broadcast listen master 1067 alarms
  trionet broadcast listen master 1067 alarms --count 1 --timeout 60

Exit status: 0 after --count objects, 1 if something failed or the time was up, 130 after Ctrl-C.
"""

_SEND_HELP: Final = """\
Broadcast values on a channel. Whoever broadcasts is the server: this serves PORT, waits until somebody
listens on the channel, sends each VALUE, or each line of standard input if there is none, and ends. What it
serves, and who has come, is said on standard error.
"""

_SEND_EPILOG: Final = """\
values are Python literals, PYON, or numpy constructors; text needs quotes of its own:
  1  -1.5  True  None  '"text"'  '[1, 2]'  '{"a": (1, 2)}'  'np.linspace(0, 1, 100)'

examples:
  trionet broadcast send 1067 alarms '"laser unlocked"'
  trionet broadcast send 1067 readings --bind 0.0.0.0 --receivers 2 '{"power": 1.5}'
  python read_sensor.py | trionet broadcast send 1067 readings

Exit status: 0 if everything was sent, 1 if something failed, which a line of input that is no value does, 2
if the command line makes no sense, 130 after Ctrl-C.
"""


def add_broadcast_parser(commands: argparse._SubParsersAction[CommandParser]) -> None:
    """Add ``trionet broadcast`` to the commands."""
    text = "hear what is broadcast on a channel, or broadcast something"
    broadcast = commands.add_parser(
        "broadcast", help=text, description=f"{text.capitalize()}.", epilog=_EPILOG
    )
    actions = broadcast.add_subparsers(metavar="ACTION", dest="action", required=True)
    listen = actions.add_parser(
        "listen",
        help="print what is broadcast on a channel",
        description=_LISTEN_HELP,
        epilog=_LISTEN_EPILOG,
    )
    add_feed(listen, "give up if nothing has come for this time, the connection included")
    listen.add_argument("channel", metavar="CHANNEL", help="name of the channel")
    listen.add_argument("--count", type=positive_number, metavar="N", help="end after so many objects")
    listen.set_defaults(run=_listen)
    send = actions.add_parser(
        "send", help="broadcast values on a channel", description=_SEND_HELP, epilog=_SEND_EPILOG
    )
    add_listening(send, "receivers")
    send.add_argument("channel", metavar="CHANNEL", help="name of the channel")
    send.add_argument(
        "values", metavar="VALUE", nargs="*", default=[], help="what to send; else lines of standard input"
    )
    send.add_argument(
        "--receivers",
        type=positive_number,
        metavar="N",
        default=1,
        help="wait until so many listen on the channel (default: 1)",
    )
    send.add_argument("--timeout", type=positive_seconds, metavar="SECONDS", help="wait no longer for them")
    send.add_argument(
        "--grace",
        type=positive_seconds,
        metavar="SECONDS",
        default=10.0,
        help="at the end, wait so long for receivers that do not keep up (default: 10)",
    )
    send.set_defaults(run=_send)


# -- listen --------------------------------------------------------------------------------------------


class _Enough(Exception):
    """All objects that were asked for have come."""


def _listen(options: argparse.Namespace) -> int:
    left: int | None = options.count

    def print_object(value: Any) -> None:
        nonlocal left
        print(result_json(value), flush=True)
        if left is not None:
            left -= 1
            if left == 0:
                raise _Enough

    with suppress(_Enough):
        trio.run(receive, source_of(options), options.channel.removeprefix(" "), print_object)
    return 0


async def receive(source: Source, channel: str, take: Callable[[Any], object]) -> None:
    """Take what is broadcast on a channel, until `take` raises something.

    Raises:
        CommandError: if there is no first connection, or nothing comes in time.
    """

    async def take_all(receiver: BroadcastReceiver) -> None:
        while True:
            with trio.move_on_after(source.timeout) as patience:
                value = await anext(receiver)
            if patience.cancelled_caught:
                raise CommandError(f"nothing has come for {source.timeout:g} s")
            take(value)

    def open_receiver(reconnect: bool) -> AbstractAsyncContextManager[BroadcastReceiver]:
        return open_broadcast_receiver(
            source.host,
            source.port,
            channel,
            reconnect=reconnect,
            max_retry=_MAX_RETRY,
            pyon_version=source.pyon_version,
            ssl_context=client_context(source.tls),
        )

    with log_told(_LOGGER, say_aside):
        await follow(source, open_receiver, take_all, say_aside)


# -- send ----------------------------------------------------------------------------------------------


def _send(options: argparse.Namespace) -> int:
    values = []
    for number, word in enumerate(options.values, 1):
        try:
            values.append(parse_argument(word))
        except ArgumentError as error:
            say_error(f"value {number}: {error}")
            return 2
    return trio.run(_serve_and_send, options, values)


async def _serve_and_send(options: argparse.Namespace, values: list[Any]) -> int:
    sending = _Sending(Broadcaster(), options.channel.removeprefix(" "))
    serve = functools.partial(
        serve_broadcaster,
        sending.broadcaster,
        options.port,
        host=options.bind,
        ssl_context=server_context(tls_identity(options)),
    )

    async def send(server: BroadcastServer) -> None:
        where = addresses_text(server)
        say_aside(f"serving {where}; waiting for {options.receivers} on channel {sending.channel!r}")
        seconds = math.inf if options.timeout is None else options.timeout
        with trio.move_on_after(seconds) as patience:
            await sending.broadcaster.wait_receivers(sending.channel, options.receivers)
        if patience.cancelled_caught:
            raise CommandError(f"no {options.receivers} on channel {sending.channel!r} within {seconds:g} s")
        say_aside(f"{options.receivers} listening: {', '.join(sending.peers(server))}")
        await (sending.send_values(server, values) if values else sending.send_lines(server))
        await server.aclose(grace=options.grace)

    with log_told(_LOGGER, say_aside):
        await run_served(serve, send)
    return 1 if sending.failed else 0


class _Sending:
    """Sends values on a channel, no faster than its receivers take them.

    Attributes:
        broadcaster: What they receive from.
        channel: Name of the channel.
        failed: Whether one of the lines was no value.
    """

    def __init__(self, broadcaster: Broadcaster, channel: str) -> None:
        self.broadcaster = broadcaster
        self.channel = channel
        self.failed = False

    def peers(self, server: BroadcastServer) -> list[str]:
        """Who listens on the channel."""
        return [one.peer for one in server.statistics().receivers if one.channel == self.channel]

    async def send_values(self, server: BroadcastServer, values: Iterable[Any]) -> None:
        """Send all of them.

        Raises:
            CommandError: for one that PYON cannot carry.
        """
        for value in values:
            await _until(lambda: all(one.waiting < _MOST_WAITING for one in server.statistics().receivers))
            try:
                self.broadcaster.broadcast(self.channel, value)
            except EXPECTED_ERRORS as error:
                raise CommandError(error_text(error)) from error

    async def send_lines(self, server: BroadcastServer) -> None:
        """Send what the lines of standard input stand for. For one that is no value, the user is told."""
        lines = ScriptPrompt()
        number = 0
        while (line := await lines.read("")) is not None:
            number += 1
            if not line.strip():
                continue
            try:
                await self.send_values(server, [parse_argument(line)])
            except (ArgumentError, CommandError) as error:
                say_error(f"line {number}: {error}")
                self.failed = True


async def _until(condition: Callable[[], bool]) -> None:
    async for _ in periodic(_LOOK_INTERVAL):
        if condition():
            return
