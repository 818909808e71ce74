"""The argument parser of all commands: errors in one line, options anywhere."""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from trionet.cli.output import one_line


class CommandParser(argparse.ArgumentParser):
    """Says what is wrong in one line, and keeps the line breaks of the help texts."""

    def __init__(self, **options: Any) -> None:
        options.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        options.setdefault("allow_abbrev", False)
        super().__init__(**options)

    def error(self, message: str) -> NoReturn:
        """End with status 2: the command line makes no sense."""
        # Up to the arguments, where there are some in front of the action: `trionet rpc HOST PORT call`.
        command = " ".join(itertools.takewhile(str.islower, self.prog.split()))
        self.exit(2, f"trionet: error: {one_line(message)} (see {command} --help)\n")


def arrange(words: Sequence[str], options: Mapping[str, Mapping[str, int]]) -> list[str]:
    """The same command line as argparse needs it, so that options may stand anywhere.

    Args:
        words: The words behind the name of the command.
        options: By action, the first of the words that are no options: its own options, and how many words
            follow each of them. Those of "" are for a command without actions in that place.
    """
    if "" in options:
        return options_first(words, options[""])
    every = {name: count for own in options.values() for name, count in own.items()}
    in_front = options_first(words, every, behind=len(words))[:1]
    action = in_front[0] if in_front else ""
    return options_first(words, options.get(action, {}), behind=1)


def options_first(words: Sequence[str], options: Mapping[str, int], behind: int = 0) -> list[str]:
    """The same command line with its options in front, wherever they stand.

    What else begins with a single minus, such as ``-1e3`` or ``-np.pi``, gets a space before it: argparse
    takes it for a value then, and to a value the space means nothing. After ``--`` all words are values.

    Args:
        words: The words behind the name of the command.
        options: How many words follow each option.
        behind: How many of the other words stay in front of them: those that name an action, which has the
            options.
    """
    front: list[str] = []
    rest: list[str] = []
    position = 0
    while position < len(words):
        word = words[position]
        position += 1
        if word == "--":
            rest += [f" {value}" if value.startswith("-") else value for value in words[position:]]
            break
        name, equals, _ = word.partition("=")
        if name not in options:
            is_value = word.startswith("-") and not word.startswith("--") and word != "-h"
            rest.append(f" {word}" if is_value else word)
            continue
        following = words[position : position + (0 if equals else options[name])]
        complete = bool(equals) or len(following) == options[name]
        # An option without its value stays where it is, for argparse to say so.
        (front if complete else rest).extend((word, *following))
        position += len(following)
    return rest[:behind] + front + rest[behind:]
