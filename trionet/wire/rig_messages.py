"""Experiment messages: what rigs tell each other, as iblutil writes it.

A message is a JSON list: the number of its event, then the data::

    event                 number    data
    (error)                    0    text, number of the event whose callback failed
    EXPINIT                    1    anything
    EXPSTART                   2    experiment reference or null, anything
    EXPEND                     4    anything
    EXPCLEANUP                 8    anything
    EXPINTERRUPT              16    anything
    EXPSTATUS                 32    status
    EXPINFO                   64    status, anything
    ALYX                     128    URL or null, {user: token}

Protocol facts: recorded from iblutil 1.20 (tests/data/transcripts/iblutil_*.json).
"""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping
from typing import Any, Final, SupportsInt

#: The version of this table.
PROTOCOL_VERSION: Final = "1.0.0"

# Characters of a report of an error. As JSON one may have 12 bytes, and the report fits a datagram.
_LONGEST_REPORT: Final = 5000

#: An event without data: a message that is echoed, and that no rig does anything about; upstream's leave it
#: at a RuntimeWarning, which Python shows once. The blanks are trionet's alone: who sends this reads messages
#: however they arrive.
PING: Final = b"[ 32 ]"

# Between the items of a list, and behind a key.
_SPACED: Final = (", ", ": ")
_COMPACT: Final = (",", ":")

#: A message before it is encoded: the event, then the data.
Message = list[Any]


class ExpMessage(enum.IntFlag):
    """Events of an experiment. ``ExpMessage(0)`` stands for the report of an error."""

    __version__ = PROTOCOL_VERSION

    EXPINIT = 1
    EXPSTART = 2
    EXPEND = 4
    EXPCLEANUP = 8
    EXPINTERRUPT = 16
    EXPSTATUS = 32
    EXPINFO = 64
    ALYX = 128

    @classmethod
    def any(cls) -> ExpMessage:
        """All events at once, for waiting for any of them."""
        return cls(sum(cls))

    @staticmethod
    def validate(event: ExpMessage | int | str, allow_bitwise: bool = True) -> ExpMessage:
        """The event that a number or a name stands for.

        Args:
            event: A member, a number, or a name in any case, with blanks around it or not.
            allow_bitwise: Take every number: combinations, 0, unknown bits. Otherwise exactly one event.

        Raises:
            TypeError: if it is nothing of that.
            ValueError: for an unknown name and, unless `allow_bitwise`, for what is not exactly one event.
        """
        if isinstance(event, str):
            try:
                return ExpMessage[event.strip().upper()]
            except KeyError:
                names = ", ".join(ExpMessage.__members__)
                raise ValueError(f"no event is called {event!r}; there are {names}") from None
        if not isinstance(event, int):
            raise TypeError(f"an event is a number or a name, not {type(event).__name__}")
        if not allow_bitwise and event not in ExpMessage.__members__.values():
            raise ValueError(f"{event} is not one event, but none, several or unknown ones")
        return ExpMessage(event)


class ExpStatus(enum.IntEnum):
    """How far a rig is."""

    __version__ = PROTOCOL_VERSION

    CONNECTED = 0
    INITIALIZED = 10
    RUNNING = 20
    STOPPED = 30

    @staticmethod
    def validate(status: ExpStatus | int | str) -> ExpStatus:
        """The status that a number or a name stands for.

        Raises:
            ValueError: if there is no such status.
        """
        if isinstance(status, str):
            try:
                return ExpStatus[status.strip().upper()]
            except KeyError:
                names = ", ".join(ExpStatus.__members__)
                raise ValueError(f"no status is called {status!r}; there are {names}") from None
        return ExpStatus(status)


#: Stands for the report of an error, which is no event of its own: ``[0, text, event]``.
ERROR: Final = ExpMessage(0)


class MalformedMessage(ValueError):
    """Bytes that came are no experiment message; says why."""


def start_message(exp_ref: str | Mapping[str, Any] | None, data: Any) -> Message:
    """The message that starts an experiment.

    Args:
        exp_ref: Its reference: ``date_sequence_subject``, a mapping with these three keys, or nothing.
        data: Whatever else the rigs should know.

    Raises:
        ValueError: if a key is missing or the sequence is no number (TypeError if it is none at all).
    """
    if isinstance(exp_ref, Mapping) and exp_ref:
        missing = [key for key in ("date", "sequence", "subject") if key not in exp_ref]
        if missing:
            raise ValueError(f"the experiment reference lacks {', '.join(missing)}")
        sequence: SupportsInt | str = exp_ref["sequence"]
        exp_ref = f"{exp_ref['date']}_{int(sequence)}_{exp_ref['subject']}"
    return [ExpMessage.EXPSTART, exp_ref or None, data]


def error_message(error: BaseException, event: ExpMessage) -> Message:
    """The report that a callback for an event has failed; a text that is very long is cut off."""
    try:
        text = str(error)
    except Exception as another:
        text = f"(its text cannot be had: {type(another).__name__})"
    return [ERROR, f"{type(error).__name__}: {text}"[:_LONGEST_REPORT], event]


def encode_answer(message: Message) -> bytes:
    """A message that answers another one. Without blanks it means the same, but never equals its question.

    Raises:
        TypeError: if JSON cannot carry it (ValueError likewise).
    """
    return encode_message(message, _COMPACT)


def is_answer(data: bytes) -> bool:
    """Whether something that was sent is spelt as `encode_answer` does it: who sends it back echoes it."""
    _, comma, rest = data.partition(b",")
    return data.startswith(b"[") and bool(comma) and not rest.startswith(b" ")


def encode_message(message: Any, separators: tuple[str, str] = _SPACED) -> bytes:
    """A message as it travels; text and bytes as they are.

    JSON in ASCII, with a blank behind commas and colons, NaN included: who checks an echo compares bytes.

    Raises:
        TypeError: if JSON cannot carry it.
        ValueError: if it contains itself.
    """
    if isinstance(message, bytes | bytearray | memoryview):
        return bytes(message)
    if isinstance(message, str):
        return message.encode()
    try:
        return json.dumps(message, separators=separators).encode("ascii")
    except RecursionError:
        raise ValueError("the message is nested too deeply for JSON") from None


def parse_message(data: bytes) -> tuple[ExpMessage, list[Any]]:
    """The event and the data of a message.

    The number of data items is not checked, nor whether a status is one, but for reports of errors
    (event 0 or null): they have exactly two. A ping has none.

    Raises:
        MalformedMessage: if it is none.
    """
    try:
        message = json.loads(data.decode())
    except UnicodeDecodeError as error:
        raise MalformedMessage(f"no UTF-8: {error}") from None
    except (ValueError, RecursionError) as error:  # or a number too long, or nested too deeply
        raise MalformedMessage(f"no JSON: {error}") from None
    if not isinstance(message, list):
        raise MalformedMessage(f"no list, but {type(message).__name__}")
    if not message:
        raise MalformedMessage("an empty list")
    event, *items = message
    if event is None or event == ERROR:
        if len(items) != 2:
            raise MalformedMessage(f"a report of an error with {len(items)} items instead of 2")
        return ERROR, items
    try:
        return ExpMessage.validate(event, allow_bitwise=False), items
    except (TypeError, ValueError) as error:
        raise MalformedMessage(str(error)) from None


def is_echoed(data: bytes) -> bool:
    """Whether who receives this sends it back: all text whose second character is not "0".

    So reports of errors are not echoed, and neither is some text that is no message. What is not echoed
    either: what is no UTF-8, and less than two characters.
    """
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return False
    return len(text) > 1 and text[1] != "0"
