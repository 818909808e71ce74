"""A published structure on a terminal: a tree that is drawn anew, at most ten times a second."""

from __future__ import annotations

import itertools
import math
import os
import sys
from collections import deque
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import numpy as np
import trio

from trionet import Mod, Subscription
from trionet.cli.feeds import Source, follow, log_told
from trionet.cli.output import one_row
from trionet.cli.tasks import until_first
from trionet.cli.watch.following import SYNC_LOGGER, subscribe, wait_lost
from trionet.cli.watch.path import NoSuchPart, Path
from trionet.cli.watch.screen import Screen, fit, give_back_on_signals
from trionet.cli.watch.tree import array_rows, rows

# Seconds between drawings at least; what takes long is drawn less often, so that it takes no more than this
# part of the time.
_INTERVAL: Final = 0.1
_MOST_OF_THE_TIME: Final = 0.25
# Seconds for which a change is marked.
_MARKED: Final = 1.0
# So many places are remembered for that.
_MOST_MARKED: Final = 10_000
# Seconds over which changes are counted.
_RATE_SPAN: Final = 2.0
# Rows that do not fit are counted up to here.
_MOST_COUNTED: Final = 10_000

Keys = tuple[Any, ...]


async def watch_screen(source: Source, name: str, path: Path) -> None:
    """Show a structure, or a part of it, on the terminal until cancelled.

    Raises:
        CommandError: if there is no first connection.
        OSError: of the terminal.
    """
    view = View(name, path)
    screen = Screen(sys.stdout.fileno(), sys.stdout.encoding, not os.environ.get("NO_COLOR"))

    async def take(subscription: Subscription) -> None:
        view.subscription = subscription
        view.begun.set()
        await wait_lost(subscription)

    async def draw() -> None:
        await view.begun.wait()
        with screen.shown():
            await until_first(lambda: _redraw(view, screen), lambda: give_back_on_signals(screen))

    with log_told(SYNC_LOGGER, view.on_outage):
        await until_first(
            lambda: follow(
                source,
                lambda reconnect: subscribe(source, name, reconnect, view.on_mod),
                take,
                view.on_outage,
            ),
            draw,
        )


async def _redraw(view: View, screen: Screen) -> None:
    drawn: object = None
    while True:
        started = trio.current_time()
        # Once a second in any case: times pass, and marks.
        present = (view.mods, view.is_connected(), screen.size, int(started))
        if present != drawn:
            drawn = present
            await screen.draw(view.lines(screen))
        spent = trio.current_time() - started
        await trio.sleep(max(_INTERVAL, spent / _MOST_OF_THE_TIME))


class View:
    """What is to be seen of a subscription, which may be replaced.

    Args:
        name: What is subscribed to.
        path: Which part of it is shown.

    Attributes:
        begun: Set once there is something to show.
        subscription: The latest one.
        mods: How many changes have come.
    """

    def __init__(self, name: str, path: Path) -> None:
        self.begun = trio.Event()
        self.subscription: Subscription | None = None
        self.mods = 0
        self._name = name
        self._path = path
        self._structure: Any = None
        self._state_since = datetime.now()
        self._state = False
        self._reason = ""
        # When each place has changed, and whether with all that is in it.
        self._changed: dict[Keys, tuple[float, bool]] = {}
        self._drawn = -math.inf
        self._counts: deque[tuple[float, int]] = deque()

    # -- what happens ----------------------------------------------------------------------------------

    def is_connected(self) -> bool:
        """Whether the structure is up to date. Notes when that has changed."""
        connected = self.subscription is not None and not self.subscription.stale
        if connected is not self._state:
            self._state = connected
            self._state_since = datetime.now()
        return connected

    def on_outage(self, reason: str) -> None:
        """Why there is no connection."""
        self._reason = reason

    def on_mod(self, mod: Mod) -> None:
        """A change has been made."""
        self.mods += 1
        if mod["action"] == "init":
            self._structure = mod["struct"]
            return
        path, whole = _changed_place(self._structure, mod)
        if len(self._changed) < _MOST_MARKED:
            self._changed[path] = (trio.current_time(), whole)

    # -- what is shown ---------------------------------------------------------------------------------

    def lines(self, screen: Screen) -> list[str]:
        """As many lines as fit."""
        columns, height = screen.size
        now = trio.current_time()
        self._forget_old_changes(now)
        header = fit(self._header(now), columns)
        lines = [screen.style(header.ljust(columns), reverse=True)]
        try:
            keys, part = self._path.find(self._structure)
        except NoSuchPart as error:
            return [*lines, fit("  (nothing there)", columns), fit(f"  {one_row(str(error))}", columns)][
                :height
            ]
        return lines + self._rows(part, keys, screen, columns, height - len(lines))

    def _header(self, now: float) -> str:
        assert self.subscription is not None
        name = "/".join(filter(None, (self._name, str(self._path))))
        since = f"{self._state_since:%H:%M:%S}"
        state = f"connected since {since}" if self.is_connected() else f"STALE since {since}"
        reason = "" if self.is_connected() else f"   {self._reason}"
        mods = f"{self.mods} mods, {self._rate(now):.3g}/s"
        return one_row(f"{name} at {self.subscription.peer}   {state}   {mods}{reason}")

    def _rate(self, now: float) -> float:
        self._counts.append((now, self.mods))
        while len(self._counts) > 2 and now - self._counts[1][0] >= _RATE_SPAN:
            self._counts.popleft()
        since, count = self._counts[0]
        return (self.mods - count) / max(now - since, _RATE_SPAN / 2)

    def _rows(self, part: Any, keys: Keys, screen: Screen, columns: int, room: int) -> list[str]:
        """The rows that fit; if there are more, the last one says how many."""
        marks = Marks(self._changed)
        every = rows(part, keys)
        shown = []
        for row in itertools.islice(every, room):
            marked = marks.has(row.path or keys, row.opened)
            text = fit(f"{'* ' if marked else '  '}{'  ' * row.depth}{row.text}", columns)
            shown.append(screen.style(text) if marked else text)
        if isinstance(part, np.ndarray) and part.ndim:
            shown += [fit(f"  {text}", columns) for text in array_rows(part, columns - 2)]
        hidden = sum(1 for _ in itertools.islice(every, _MOST_COUNTED)) + max(len(shown) - room, 0)
        if hidden and room:
            count = f"more than {_MOST_COUNTED}" if hidden >= _MOST_COUNTED else str(hidden + 1)
            shown[room - 1] = fit(f"  ... {count} more rows, which do not fit", columns)
        return shown[:room]

    def _forget_old_changes(self, now: float) -> None:
        """Unmark what was marked long enough; what has changed since it was drawn last has not been yet."""
        unmarked = min(now - _MARKED, self._drawn)
        self._changed = {path: one for path, one in self._changed.items() if one[0] > unmarked}
        self._drawn = now


class Marks:
    """Which rows have changed: their member itself, what it is in, or what is in it and has no row.

    Args:
        changed: The places that have, each with whether all that is in it has.
    """

    def __init__(self, changed: Mapping[Keys, tuple[float, bool]]) -> None:
        self._exact = set(changed)
        self._whole = {path for path, (_, whole) in changed.items() if whole}
        self._above = {path[:length] for path in changed for length in range(len(path))}

    def has(self, path: Keys, opened: bool) -> bool:
        """Whether a row is marked; `opened` if what is in it has rows of its own."""
        if path in self._exact or (not opened and path in self._above):
            return True
        return bool(self._whole) and any(path[:length] in self._whole for length in range(len(path)))


def _changed_place(structure: Any, mod: Mod) -> tuple[Keys, bool]:
    """Where a change was made, and whether all there is new: the new member, or what has lost one."""
    path = tuple(mod["path"])
    for key in path:
        structure = structure[key]
    try:
        hash(path)
    except TypeError:  # a slice of an array, before Python 3.12
        return (), False
    match mod:
        case {"action": "append"}:
            return (*path, len(structure) - 1), True
        case {"action": "insert", "i": int(index)} if 0 <= index < len(structure):
            return (*path, index), True
        case {"action": "setitem", "key": key} if isinstance(structure, Mapping):
            return (*path, key), True
        case {"action": "setitem", "key": int(index)} if isinstance(structure, list):
            return (*path, index % len(structure)), True
    return path, False  # also what an array has at some index or slice: that has one row
