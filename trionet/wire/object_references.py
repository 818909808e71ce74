"""Which objects of a server have proxies elsewhere, and who holds these.

An object has a number as long as there are references to it, and every reference has one, new each time a
proxy is sent. A reference belongs to those who were sent it or have used it, its holders: a client may pass a
proxy on to another process, which then uses it as its own. It ends when all of them have released it, or
have gone; an object ends with its last reference.

Who gets an object as an argument never says that it is of no more use, so these are lent: the same holder
gets the same reference again.
"""

from __future__ import annotations

import itertools
import types
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class _Entry:
    """One object, and the holders of its references by their numbers."""

    value: Any
    holders: dict[int, set[object]] = field(default_factory=dict)


class ObjectTable:
    """The objects of one server that have proxies."""

    def __init__(self) -> None:
        self._entries: dict[int, _Entry] = {}
        # By identity: the table keeps the objects, so an identity is not given to another one meanwhile.
        self._ids: dict[int | tuple[int, int], int] = {}
        self._held: dict[object, set[tuple[int, int]]] = {}
        self._lent: dict[object, dict[int, int]] = {}
        # The garbage collector may call what needs a number while one is taken.
        self._object_numbers = itertools.count()
        self._reference_numbers = itertools.count()

    @property
    def objects(self) -> int:
        """How many objects there are."""
        return len(self._entries)

    def held_by(self, holder: object) -> int:
        """How many references somebody holds."""
        return len(self._held.get(holder, ()))

    def is_held(self, object_id: int, reference_id: int, holder: object) -> bool:
        """Whether somebody holds a reference."""
        return (object_id, reference_id) in self._held.get(holder, ())

    def lent(self, value: Any, holder: object) -> tuple[int, int] | None:
        """The numbers of the reference to an object that was lent to a holder, if there is one."""
        object_id = self._ids.get(_identity(value), -1)
        reference_id = self._lent.get(holder, {}).get(object_id)
        return None if reference_id is None else (object_id, reference_id)

    def lend(self, value: Any, holder: object) -> tuple[int, int]:
        """A new reference, as `add` makes it, that `lent` finds again."""
        object_id, reference_id = self.add(value, holder)
        self._lent.setdefault(holder, {})[object_id] = reference_id
        return object_id, reference_id

    def add(self, value: Any, holder: object) -> tuple[int, int]:
        """A new reference to an object. Returns the numbers of the object and of the reference."""
        object_id = self._ids.get(_identity(value))
        if object_id is None:
            object_id = next(self._object_numbers)
            self._entries[object_id] = _Entry(value)
            self._ids[_identity(value)] = object_id
        reference_id = next(self._reference_numbers)
        self._entries[object_id].holders[reference_id] = {holder}
        self._held.setdefault(holder, set()).add((object_id, reference_id))
        return object_id, reference_id

    def use(self, object_id: int, reference_id: int, holder: object) -> Any:
        """The object of a reference, which its user holds from now on.

        Raises:
            KeyError: if there is no such reference, or not any more.
        """
        entry = self._find(object_id, reference_id)
        holders = entry.holders[reference_id]
        if holder not in holders:
            holders.add(holder)
            self._held.setdefault(holder, set()).add((object_id, reference_id))
        return entry.value

    def release(self, object_id: int, reference_id: int, holder: object) -> list[Any]:
        """A holder needs a reference no more.

        Returns:
            The object, if that was the last reference to it.

        Raises:
            KeyError: if it does not hold it.
        """
        if not self.is_held(object_id, reference_id, holder):
            raise _not_held(object_id, reference_id)
        held = self._held[holder]
        held.remove((object_id, reference_id))
        if not held:
            del self._held[holder]
        lent = self._lent.get(holder, {})
        if lent.get(object_id) == reference_id:
            del lent[object_id]
        return self._drop(object_id, reference_id, holder)

    def release_all(self, holder: object) -> list[Any]:
        """A holder has gone. Returns the objects to which there are no references any more."""
        self._lent.pop(holder, None)
        dropped: list[Any] = []
        for object_id, reference_id in self._held.pop(holder, ()):
            dropped += self._drop(object_id, reference_id, holder)
        return dropped

    def _find(self, object_id: int, reference_id: int) -> _Entry:
        entry = self._entries.get(object_id)
        if entry is None or reference_id not in entry.holders:
            raise _not_held(object_id, reference_id)
        return entry

    def _drop(self, object_id: int, reference_id: int, holder: object) -> list[Any]:
        entry = self._entries[object_id]
        holders = entry.holders[reference_id]
        holders.discard(holder)
        if not holders:
            del entry.holders[reference_id]
        if entry.holders:
            return []
        del self._entries[object_id]
        del self._ids[_identity(entry.value)]
        return [entry.value]


def _identity(value: Any) -> int | tuple[int, int]:
    """What makes two objects the same. Python makes a method anew each time that it is looked up."""
    if type(value) is types.MethodType:
        return id(value.__self__), id(value.__func__)
    return id(value)


def _not_held(object_id: int, reference_id: int) -> KeyError:
    return KeyError(f"no reference {reference_id} to an object {object_id}: it was released, or never given")
