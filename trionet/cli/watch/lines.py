"""A published structure as lines of JSON, for programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import trio

from trionet import Mod, Subscription
from trionet.cli.feeds import Source, follow, log_told
from trionet.cli.output import result_json, say_aside
from trionet.cli.watch.following import SYNC_LOGGER, subscribe, wait_lost
from trionet.cli.watch.path import NoSuchPart, Path


async def watch_lines(source: Source, name: str, path: Path) -> None:
    """Print a structure, or a part of it, and its changes until cancelled.

    Raises:
        CommandError: if there is no first connection.
        OSError: of standard output.
    """
    lines = PartLines(path) if path.components else ModLines()

    async def take(subscription: Subscription) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()
        lines.begin(subscription.value)
        await wait_lost(subscription)

    with log_told(SYNC_LOGGER, say_aside):
        await follow(
            source, lambda reconnect: subscribe(source, name, reconnect, lines.on_mod), take, say_aside
        )


class ModLines:
    """A line for each change.

    What it raises must not come while the connection is being made, so it begins afterwards.
    """

    def __init__(self) -> None:
        self._begun = False

    def begin(self, structure: Any) -> None:
        """Print what is there, unless its `init` has been printed."""
        if not self._begun:
            self._begun = True
            _print_line(result_json({"action": "init", "struct": structure}))

    def on_mod(self, mod: Mod) -> None:
        """Print a change."""
        if self._begun:
            _print_line(result_json(mod))


class PartLines:
    """A line with the value of a part whenever that has become another one.

    Args:
        path: Which part.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._structure: Any = None
        self._begun = False
        self._keys: tuple[Any, ...] | None = None
        self._printed = ""
        self._said = ""

    def begin(self, structure: Any) -> None:
        """Print what is there, unless that has been printed."""
        if not self._begun:
            self._begun = True
            self._structure = structure
            self._print_part()

    def on_mod(self, mod: Mod) -> None:
        """Print the part if the change has made another one of it."""
        if not self._begun:
            return
        if mod["action"] == "init":
            self._structure = mod["struct"]
        elif self._keys is not None and is_elsewhere(mod, self._keys):
            return
        self._print_part()

    def _print_part(self) -> None:
        try:
            self._keys, part = self._path.find(self._structure)
        except NoSuchPart as error:
            self._keys = None
            if self._said != str(error):
                self._said = str(error)
                say_aside(self._said)
            return
        self._said = ""
        line = result_json(part)
        if line != self._printed:
            self._printed = line
            _print_line(line)


def is_elsewhere(mod: Mod, keys: Sequence[Any]) -> bool:
    """Whether a change is certainly in another part than that with these keys."""
    place = [*mod["path"]]
    if mod["action"] in ("setitem", "delitem", "pop"):
        place.append(mod["i" if mod["action"] == "pop" else "key"])
        if mod["action"] != "setitem" and not isinstance(place[-1], str):
            place.pop()  # of a list: what is behind it moves
    return any(_are_different(one, other) for one, other in zip(place, keys, strict=False))


def _are_different(one: Any, other: Any) -> bool:
    """Whether two keys cannot be the same place: -1 and 3 can."""
    if type(one) is int and type(other) is int:
        return one != other and one >= 0 and other >= 0
    return type(one) is str and type(other) is str and one != other


def _print_line(line: str) -> None:
    print(line, flush=True)
