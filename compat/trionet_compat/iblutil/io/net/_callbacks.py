"""Who is called, or told by a future, when an event comes: the table of one communicator."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from trionet import ExpMessage

#: A function that is called with (data, addr), for several events at once with (data, addr, event). Or a
#: future, which is told once: its result is the tuple of the same values.
AnyCallback: TypeAlias = "Callable[..., object] | asyncio.Future[Any] | concurrent.futures.Future[Any]"

#: Host and port.
Address: TypeAlias = tuple[str, int]


def is_future(thing: object) -> bool:
    """Whether it is a future, of asyncio or of threads: the latter also where no loop of asyncio runs."""
    return asyncio.isfuture(thing) or isinstance(thing, concurrent.futures.Future)


@dataclass(frozen=True, slots=True, eq=False)
class _Assignment:
    """A callback, and whether it is told which event has come, because it is for several."""

    callback: Any
    with_event: bool

    def arguments(self, event: ExpMessage, data: list[Any], addr: Address) -> tuple[Any, ...]:
        return (data, addr, event) if self.with_event else (data, addr)

    def is_about(self, callback: Any) -> bool:
        """Whether somebody means this: by the callback itself, or by an attribute `id` of it."""
        if self.callback is callback or self.callback == callback:
            return True
        known = getattr(self.callback, "id", None)
        return known is not None and known in (id(callback), callback, getattr(callback, "id", None))


class Callbacks:
    """The callbacks of one communicator, in the order in which they were assigned.

    They may be assigned in another thread than the one that calls them.
    """

    def __init__(self) -> None:
        # By event; 0 has the reports that a callback over there has failed. Lists are replaced, not changed.
        self._assigned: dict[ExpMessage, tuple[_Assignment, ...]] = {}
        self._closed = False

    def assign(self, mask: ExpMessage, callback: Any) -> None:
        """Add a callback for the events of a mask.

        Raises:
            TypeError: if it is neither a function nor a future.
        """
        if not callable(callback) and not is_future(callback):
            raise TypeError("Callback must be callable or a Future")
        if self._closed:
            if is_future(callback):
                callback.cancel()  # or somebody would wait for ever
            return
        events = _events(mask)
        assignment = _Assignment(callback, with_event=len(events) > 1)
        for event in events:
            self._assigned[event] = (*self._assigned.get(event, ()), assignment)

    def clear(self, mask: ExpMessage, callback: Any = None, cancel_futures: bool = True) -> int:
        """Remove a callback from the events of a mask, or all of them; how many, counted for each event."""
        count = 0
        for event in _events(mask):
            assigned = self._assigned.get(event, ())
            removed = [one for one in assigned if callback is None or one.is_about(callback)]
            self._assigned[event] = tuple(one for one in assigned if one not in removed)
            count += len(removed)
            if cancel_futures:
                for one in removed:
                    _cancel(one.callback)
        return count

    def wants(self, event: ExpMessage) -> bool:
        """Whether anybody is to be called or told."""
        return bool(self._assigned.get(event))

    def call(self, event: ExpMessage, data: list[Any], addr: Address) -> None:
        """Call and tell everybody. What one raises is raised, and the rest is left out."""
        for assignment in self._assigned.get(event, ()):
            arguments = assignment.arguments(event, data, addr)
            callback = assignment.callback
            if is_future(callback):
                self._forget(callback)
                if not callback.done():
                    callback.set_result(arguments)
            else:
                callback(*arguments)

    def close(self) -> None:
        """Forget all, and cancel futures, those that come later included."""
        self._closed = True
        assigned, self._assigned = self._assigned, {}
        for assignments in assigned.values():
            for one in assignments:
                _cancel(one.callback)

    def _forget(self, future: Any) -> None:
        for event, assignments in self._assigned.items():
            if any(one.callback is future for one in assignments):
                self._assigned[event] = tuple(one for one in assignments if one.callback is not future)


def _events(mask: ExpMessage) -> list[ExpMessage]:
    """The events of a mask, which are none for the reports of errors."""
    return [event for event in ExpMessage.__members__.values() if event & mask] or [mask]


def _cancel(callback: Any) -> None:
    if is_future(callback) and not callback.done():
        callback.cancel()
