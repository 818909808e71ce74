"""``trionet rig listen``: be a rig, and print what it is told."""

from __future__ import annotations

import argparse
import contextlib
import functools
import logging
import ssl
from datetime import datetime
from typing import Any, Final

import trio

from trionet import EventsLost, ExpMessage, RigCommunicator, RigEvent, RigEvents, RigURI, open_rig_listener
from trionet.cli.arguments import ArgumentError
from trionet.cli.feeds import log_told
from trionet.cli.output import EXPECTED_ERRORS, CommandError, error_text, say_aside
from trionet.cli.parser import CommandParser
from trionet.cli.rig.messages import events_of, message_text, parse_data
from trionet.cli.rig.uris import add_place, address_text, own_context

#: The options, and how many words follow each of them.
LISTEN_OPTIONS: Final = {"--tls": 3, "--respond": 1, "--events": 1}

_HELP: Final = """\
Be a rig: confirm what others send, and print it until Ctrl-C. Each message is a line: time, who has
sent it, event, data as JSON, a status by its name. Tokens of ALYX are not shown. A report that the
other side could not handle an answer is a line, too, with (error) for the event.
"""

_EPILOG: Final = """\
examples:
  trionet rig listen udp://0.0.0.0
  trionet rig listen tcp://0.0.0.0:11001 --respond '{"ready": true}'
  trionet rig listen udp://127.0.0.1:0 --events init,start,end,cleanup

Exit status: 130 after Ctrl-C, 1 if something failed, 2 if the command line makes no sense.
"""


def add_listen(actions: argparse._SubParsersAction[CommandParser]) -> None:
    """Add ``listen`` to the actions."""
    listen = actions.add_parser(
        "listen", help="be a rig, and print what it is told", description=_HELP, epilog=_EPILOG
    )
    add_place(listen)
    listen.add_argument(
        "--respond",
        metavar="DATA",
        help="answer each message but ALYX, with one of the same event; DATA is a Python literal or JSON",
    )
    listen.add_argument(
        "--events",
        type=events_of,
        metavar="EVENTS",
        help="print and answer these only: init,start,end,cleanup,interrupt,status,info,alyx",
    )
    listen.set_defaults(run=_listen)


def _listen(options: argparse.Namespace) -> int:
    answer: list[Any] = []
    if options.respond is not None:
        try:
            answer = [parse_data(options.respond)]
        except ArgumentError as error:
            options.usage_error(f"--respond: {error}")
    with log_told(logging.getLogger("trionet"), say_aside):
        trio.run(_listen_and_print, options, answer, own_context(options))
    return 0


async def _listen_and_print(
    options: argparse.Namespace, answer: list[Any], context: ssl.SSLContext | None
) -> None:
    uri: RigURI = options.uri
    mask = ExpMessage.any() if options.events is None else options.events
    async with contextlib.AsyncExitStack() as stack:
        try:
            rig = await stack.enter_async_context(open_rig_listener(uri, name=str(uri), ssl_context=context))
        except EXPECTED_ERRORS as error:
            raise CommandError(error_text(error)) from error
        answered = mask & ~ExpMessage.ALYX
        if answer and answered:  # an empty mask would stand for reports of errors
            rig.assign_callback(answered, functools.partial(_respond, rig, answer))
        with rig.open_events(mask, errors=options.events is None) as events:
            places = ", ".join(f"{uri.scheme}://{address_text(one)}" for one in rig.addresses)
            say_aside(f"listening at {places}")
            await _print_events(events)


async def _print_events(events: RigEvents) -> None:
    while True:
        try:
            event = await events.receive()
        except EventsLost as lost:
            say_aside(str(lost))
            continue
        time = datetime.now().isoformat(" ", "milliseconds")
        print(f"{time} {address_text(event.address)} {message_text(event.event, event.data)}", flush=True)


async def _respond(rig: RigCommunicator, answer: list[Any], event: RigEvent) -> None:
    try:
        await rig.respond(event, *answer)
    except EXPECTED_ERRORS as error:  # it concerns who has asked only
        who = address_text(event.address)
        say_aside(f"no answer to {event.event.name} from {who}: {error_text(error)}")
