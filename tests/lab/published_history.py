"""A published structure that changes at random, and witnesses of what its subscribers have."""

from __future__ import annotations

import copy
from collections import Counter
from random import Random
from typing import Any

import trio

import trionet
from tests.lab.servers import EVERYWHERE, PORT
from tests.wire.values import identical
from trionet import Mod, Notifier

#: Which structure it is, and how often that has changed.
Moment = tuple[int, int]


class History:
    """What a publisher publishes, and all that it has been; after a start it may be another structure.

    A change is several mods in a row, the last of which counts the changes; so a state in between can be told
    from those that count.

    Attributes:
        notifier: The present structure.
        states: Copies of the structure after each change.
    """

    def __init__(self, random: Random) -> None:
        self.states: dict[Moment, Any] = {}
        self._random = random
        self._number = 0
        self._max_backlog = random.choice([0, 200, 2000, 2**20])
        self._begin()

    async def publish(self, *, task_status: trio.TaskStatus[trionet.Publisher]) -> None:
        """The program of a server: publish until cancelled; as if from a file, or without memory."""
        if self._random.random() < 0.7:
            self._begin()
        await trionet.serve_publisher(
            {"state": self.notifier},
            PORT,
            host=EVERYWHERE,
            max_backlog=self._max_backlog,
            task_status=task_status,
        )

    def _begin(self) -> None:
        self._number += 1
        self.notifier = Notifier({"moment": (self._number, 0), "list": [], "dict": {}, "deep": {"list": []}})
        self._note()

    def change(self) -> None:
        """Change the structure at random."""
        for _ in range(self._random.choice([0, 1, 1, 3])):
            self._change_something()
        start, number = self.notifier.raw_view["moment"]
        self.notifier["moment"] = (start, number + 1)
        self._note()

    def _note(self) -> None:
        structure = self.notifier.raw_view
        self.states[structure["moment"]] = copy.deepcopy(structure)

    def _change_something(self) -> None:
        random, root = self._random, self.notifier
        value = random.choice([1.5, None, "text", [1], "x" * 300, "x" * int(10 ** random.uniform(0, 5))])
        number = random.randrange(4)
        items = random.choice([root["list"], root["deep"]["list"]])
        members = random.choice([root["dict"], root["deep"]])
        match random.choice(["set", "set", "append", "insert", "replace", "delete", "pop", "slice"]):
            case "set":
                members[f"key {number}"] = value
            case "append":
                items.append(value)
            case "insert":
                items.insert(number, value)
            case "replace" if items.raw_view:
                items[0] = value
            case "delete" if f"key {number}" in members.raw_view:
                del members[f"key {number}"]
            case "pop" if items.raw_view:
                items.pop(-1)
            case "slice":
                items[number:] = [number]

    async def keep_changing(self, pause: float) -> None:
        """Change it for ever, with pauses of up to so many seconds."""
        while True:
            self.change()
            await trio.sleep(self._random.choice([0, pause]) * self._random.random())


class Witness:
    """Watches what a subscriber has: pass `see` as `on_mod`, after setting `subscription`.

    Attributes:
        seen: How often each kind of mod came.
        moment: Of the latest state that the subscriber has had.
    """

    def __init__(self, history: History) -> None:
        self.seen: Counter[str] = Counter()
        self.moment: Moment = (0, 0)
        self._value: Any = None
        self._history = history

    def build(self, structure: Any) -> Any:
        """To be passed as `build`: keeps the structure, which mods change in place."""
        self._value = structure
        return structure

    def see(self, mod: Mod) -> None:
        """To be passed as `on_mod`.

        Raises:
            AssertionError: if the subscriber has what the publisher never had, or an older state than before.
        """
        self.seen[mod["action"]] += 1
        if mod["action"] != "init" and (mod["path"] or mod["key"] != "moment"):
            return  # in the middle of a change
        before, self.moment = self.moment, self._value["moment"]
        assert before <= self.moment
        assert identical(self._value, self._history.states[self.moment])
