"""Experiment messages, as they are typed and as they are printed."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from trionet import ExpMessage, ExpStatus
from trionet.cli.arguments import ArgumentError, parse_argument

#: Events in the order of an experiment, for help texts.
EVENT_NAMES: Final = ", ".join(ExpMessage.__members__)

# What follows the event; DATA where nothing else is said.
_ITEMS: Final[Mapping[ExpMessage, tuple[str, ...]]] = {
    ExpMessage.EXPSTART: ("REFERENCE", "DATA"),
    ExpMessage.EXPSTATUS: ("STATUS",),
    ExpMessage.EXPINFO: ("STATUS", "DATA"),
    ExpMessage.ALYX: ("URL", "TOKENS"),
}
# Text that nobody means as a value goes without quotes of its own: references, and addresses of databases.
_PLAIN_TEXT: Final = {
    "REFERENCE": re.compile(r"\d{4}-\d\d-\d\d_\d+_\S+"),
    "URL": re.compile(r"https?://\S+"),
}


def event_of(text: str) -> ExpMessage:
    """The event that a name stands for, in any case, with EXP or without; for argparse."""
    name = text.strip().upper()
    for known in (name, f"EXP{name}"):
        if known in ExpMessage.__members__:
            return ExpMessage[known]
    raise argparse.ArgumentTypeError(f"{text.strip()!r} is no event; there are {EVENT_NAMES}")


def events_of(text: str) -> ExpMessage:
    """The events that names with commas in between stand for; for argparse."""
    events = ExpMessage(0)
    for name in text.split(","):
        events |= event_of(name)
    return events


def parse_items(event: ExpMessage, words: Sequence[str]) -> list[Any]:
    """What follows an event in its message; what is not typed is null.

    Raises:
        ArgumentError: if it does not belong there. It says what does.
    """
    names = _ITEMS.get(event, ("DATA",))
    if len(words) > len(names):
        raise ArgumentError(f"{event.name} takes {' and '.join(names)}, and nothing else")
    if names[0] == "STATUS" and not words:
        raise ArgumentError(f"{event.name} needs a status: {', '.join(ExpStatus.__members__)}")
    items = [_item(name, word.strip()) for name, word in zip(names, words, strict=False)]
    missing: list[Any] = [{} if name == "TOKENS" else None for name in names[len(items) :]]
    return items + missing


def parse_data(text: str) -> Any:
    """A value that JSON can carry.

    Raises:
        ArgumentError: if it is none.
    """
    value = parse_argument(text)
    try:
        json.dumps(value)
    except (TypeError, ValueError) as error:
        raise ArgumentError(f"rigs talk JSON, which cannot carry that: {error}") from None
    except RecursionError:
        raise ArgumentError("the value is nested too deep") from None
    return value


def _item(name: str, text: str) -> Any:
    if name == "STATUS":
        return _status(text)
    if name in _PLAIN_TEXT and _PLAIN_TEXT[name].fullmatch(text):
        return text
    try:
        return parse_data(text)
    except ArgumentError as error:
        raise ArgumentError(f"{name}: {error}") from None


def _status(text: str) -> ExpStatus:
    try:
        return ExpStatus.validate(int(text) if text.isdecimal() else text)
    except ValueError:
        raise ArgumentError(f"{text!r} is no status; there are {', '.join(ExpStatus.__members__)}") from None


def json_text(value: Any) -> str:
    """A value that has come, as JSON in one line that does not control the terminal."""
    try:
        text = json.dumps(value, ensure_ascii=False)
    except RecursionError:  # what can be read can be too deep to be written
        return '"(nested too deep to be shown)"'
    return "".join(one if one.isprintable() else json.dumps(one)[1:-1] for one in text)


def message_text(event: ExpMessage, data: Sequence[Any]) -> str:
    """A message in one line: event and data, about as they are typed. The tokens of ALYX are not shown."""
    match event, data:
        case ExpMessage(value=0), [text, failed]:
            name = ExpMessage(failed).name if isinstance(failed, int) else None
            return f"(error) {name or json_text(failed)}: {text if _is_plain(text) else json_text(text)}"
        case ExpMessage.EXPSTATUS | ExpMessage.EXPINFO, [status, *rest]:
            items = [_status_text(status), *map(json_text, rest)]
        case ExpMessage.ALYX, [url, *rest]:
            items = [json_text(url), *(json_text(_without_tokens(item)) for item in rest)]
        case _:
            items = [json_text(item) for item in data]
    return " ".join([event.name or str(int(event)), *items])


def _status_text(status: Any) -> str:
    known = type(status) is int and status in ExpStatus.__members__.values()
    return ExpStatus(status).name if known else json_text(status)


def _is_plain(text: Any) -> bool:
    return isinstance(text, str) and text.isprintable()


def _without_tokens(item: Any) -> Any:
    """Who sees a token can use the database: it does not belong on screens and into logs."""
    if isinstance(item, dict):
        return dict.fromkeys(item, "***")
    return item if item is None else "***"
