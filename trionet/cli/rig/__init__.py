"""``trionet rig``: talk to a rig, be one, and find out why one does not answer.

__init__      the actions
    |
sending, listening, doctor
    |           probe       what comes back, seen without a communicator
    |           diagnosis   errors and silence in words
    |           report      how the doctor writes
messages      events and data, as they are typed and as they are printed
uris          where a rig is, TLS
"""

from __future__ import annotations

import argparse
from typing import Final

from trionet.cli.parser import CommandParser
from trionet.cli.rig.doctor import DOCTOR_OPTIONS, add_doctor
from trionet.cli.rig.listening import LISTEN_OPTIONS, add_listen
from trionet.cli.rig.sending import SEND_OPTIONS, add_send

__all__ = ["OPTIONS", "add_rig_parser"]

#: The options of each action, and how many words follow each of them.
OPTIONS: Final = {"send": SEND_OPTIONS, "listen": LISTEN_OPTIONS, "doctor": DOCTOR_OPTIONS}

_DESCRIPTION: Final = """\
Talk to a rig, be one, or find out why one does not answer. Rigs are the PCs of an experiment, which
tell each other when it begins and ends; ours and iblutil's understand each other.

A URI is [scheme://]host[:port]. The scheme is udp (the default), tcp (ws is the same), or wss for
TCP with TLS. The port is 11001 unless another is given. iblutil means TCP without TLS by wss, too:
use tcp for its rigs.
"""

_EPILOG: Final = """\
examples:
  trionet rig doctor cameras
  trionet rig listen udp://0.0.0.0 --respond True
  trionet rig send cameras init '{"exposure": 0.01}' --wait
"""


def add_rig_parser(commands: argparse._SubParsersAction[CommandParser]) -> None:
    """Add ``trionet rig`` to the commands."""
    rig = commands.add_parser(
        "rig",
        help="talk to a rig, be one, or find out why one does not answer",
        description=_DESCRIPTION,
        epilog=_EPILOG,
    )
    actions = rig.add_subparsers(metavar="ACTION", dest="action", required=True)
    add_send(actions)
    add_listen(actions)
    add_doctor(actions)
