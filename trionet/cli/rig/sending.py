"""``trionet rig send``: send a message to a rig."""

from __future__ import annotations

import argparse
import logging
import ssl
from typing import Any, Final

import trio

from trionet import ExpMessage, RigCommunicator, RigEvent, RigEvents, open_rig_communicator
from trionet.cli.arguments import ArgumentError
from trionet.cli.connecting import positive_number, positive_seconds
from trionet.cli.feeds import log_told
from trionet.cli.output import EXPECTED_ERRORS, CommandError, error_text, say_aside
from trionet.cli.parser import CommandParser
from trionet.cli.rig.messages import event_of, json_text, parse_items
from trionet.cli.rig.uris import add_rig, rig_context

#: The options, and how many words follow each of them.
SEND_OPTIONS: Final = {"--tls": 3, "--echo-timeout": 1, "--attempts": 1, "--wait": 0, "--timeout": 1}

_ECHO_TIMEOUT: Final = 1.0
_ANSWER_TIMEOUT: Final = 10.0

_HELP: Final = """\
Send a message to a rig, and wait until it is confirmed; with --wait, also for the rig's answer, a
message of the same event. Its data are printed as JSON, each item in a line of its own. Rigs that
answer need --wait: iblutil's close when nobody confirms their answer.

EVENT is init, start, end, cleanup, interrupt, status, info or alyx, also with EXP in front.
"""

_EPILOG: Final = """\
what follows the event:
  start     [REFERENCE [DATA]]    a REFERENCE is date_sequence_subject, such as 2025-03-14_1_mouse7,
                                  or a dict with these three keys
  status    STATUS                CONNECTED, INITIALIZED, RUNNING or STOPPED
  info      STATUS [DATA]
  alyx      [URL [TOKENS]]        without them, it asks the rig for a token
  others    [DATA]
DATA is a Python literal or JSON; text needs quotes of its own.

examples:
  trionet rig send cameras init '{"exposure": 0.01}' --wait
  trionet rig send tcp://10.0.0.5:11001 start 2025-03-14_1_mouse7
  trionet rig send cameras info RUNNING '[1, 2.5, "text", null]' --attempts 3 --echo-timeout 0.2

Exit status: 0 if all went well, 1 if the message was not confirmed, or with --wait not answered or
not handled, 2 if the command line makes no sense, 130 after Ctrl-C.
"""


def add_send(actions: argparse._SubParsersAction[CommandParser]) -> None:
    """Add ``send`` to the actions."""
    send = actions.add_parser("send", help="send a message to a rig", description=_HELP, epilog=_EPILOG)
    add_rig(send)
    send.add_argument("event", metavar="EVENT", type=event_of, help="what to tell it")
    # Without a default of its own, argparse names it among what is missing.
    send.add_argument("data", metavar="DATA", nargs="*", default=[], help="what follows the event, see below")
    send.add_argument(
        "--echo-timeout",
        type=positive_seconds,
        metavar="SECONDS",
        default=_ECHO_TIMEOUT,
        help="wait so long for the confirmation, for each attempt (default: 1)",
    )
    send.add_argument(
        "--attempts",
        type=positive_number,
        metavar="N",
        default=1,
        help="send it up to N times until it is confirmed (default: 1); a rig that does not look for repeats "
        "may get it so often",
    )
    send.add_argument("--wait", action="store_true", help="wait for the rig's answer, and print its data")
    send.add_argument(
        "--timeout",
        type=positive_seconds,
        metavar="SECONDS",
        default=_ANSWER_TIMEOUT,
        help="with --wait, wait so long for the answer (default: 10)",
    )
    send.set_defaults(run=_send)


def _send(options: argparse.Namespace) -> int:
    try:
        items = parse_items(options.event, options.data)
    except ArgumentError as error:
        options.usage_error(str(error))
    with log_told(logging.getLogger("trionet"), say_aside):
        answer = trio.run(_send_message, options, items, rig_context(options))
    if answer is not None:
        for item in answer.data:
            print(json_text(item))
    return 0


async def _send_message(
    options: argparse.Namespace, items: list[Any], context: ssl.SSLContext | None
) -> RigEvent | None:
    """Send it; the answer if one is wanted."""
    try:
        async with open_rig_communicator(
            options.uri,
            name=str(options.uri),
            echo_timeout=options.echo_timeout,
            attempts=options.attempts,
            ssl_context=context,
        ) as rig:
            with rig.open_events(options.event, errors=True) as events:
                await _send_items(rig, options.event, items)
                say_aside(f"{options.uri} has confirmed {options.event.name}")
                return await _answer(events, options) if options.wait else None
    except OSError as error:
        raise CommandError(f"{error_text(error)}; see trionet rig doctor {options.uri}") from error
    except EXPECTED_ERRORS as error:
        raise CommandError(error_text(error)) from error


async def _send_items(rig: RigCommunicator, event: ExpMessage, items: list[Any]) -> None:
    if event == ExpMessage.EXPSTART:
        await rig.start(*items)  # joins a reference that is a dict
    else:
        await rig.confirmed_send([event, *items])


async def _answer(events: RigEvents, options: argparse.Namespace) -> RigEvent:
    """The answer of the rig.

    Raises:
        CommandError: if it reports an error instead, or does not answer in time.
    """
    with trio.move_on_after(options.timeout):
        while True:
            answer = await events.receive()
            if answer.event == options.event:
                return answer
            text, failed = answer.data
            if failed == options.event:
                raise CommandError(f"{options.uri} has failed to handle {options.event.name}: {text}")
    raise CommandError(f"{options.uri} has not answered {options.event.name} within {options.timeout:g} s")
