"""A structure of dicts and lists whose changes can be published."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from trionet.wire.sync_struct import Mod, apply_mod


class ModSink(Protocol):
    """Where a notifier's changes go."""

    def prepare(self, mod: Mod) -> Any:
        """Called before a change is made; what it raises keeps the change from being made."""

    def publish(self, prepared: Any) -> None:
        """Called when the change has been made, with what `prepare` returned."""


class NotifierNode:
    """A place in a published structure: what ``notifier[key]`` gives, any number of times.

    It stands for its path, not for the object that is there now: whatever is put there later is what it
    reads and changes then. Subscribers follow the same paths.
    """

    __slots__ = ("_path", "_root")

    def __init__(self, root: Notifier, path: list[Any]) -> None:
        self._root = root
        self._path = path

    @property
    def raw_view(self) -> Any:
        """The value at this place itself, not a copy.

        For reading: what is changed in it is not published, and subscribers differ from then on.

        Raises:
            LookupError: if the structure has no such place any more.
        """
        value = self._root._structure
        for key in self._path:
            value = value[key]
        return value

    def __getitem__(self, key: Any) -> NotifierNode:
        """The place of a member. Its value is `raw_view`.

        Raises:
            LookupError: if there is none; TypeError likewise, for a value without members.
        """
        self.raw_view[_findable(key)]
        return NotifierNode(self._root, [*self._path, key])

    def __setitem__(self, key: Any, value: Any) -> None:
        """Set a member: of a dict, list or array, or a slice of the latter two.

        The value is part of the structure from now on: change it through the notifier only.
        """
        holder = self.raw_view
        if isinstance(holder, list) and isinstance(key, slice):
            if not isinstance(value, (list, tuple, np.ndarray)):
                value = list(value)  # a set or an iterator has the order that it has here, and no other
        elif isinstance(holder, np.ndarray) and isinstance(value, (list, tuple, np.ndarray)):
            np.asarray(value, holder.dtype)  # raises what numpy would raise in the middle of filling it in
        self._change({"action": "setitem", "path": self._path, "key": _findable(key), "value": value})

    def __delitem__(self, key: Any) -> None:
        """Delete a member of a dict or list, or a slice of a list."""
        self._change({"action": "delitem", "path": self._path, "key": _findable(key)})

    def append(self, x: Any) -> None:
        """Append to a list."""
        self._change({"action": "append", "path": self._path, "x": x})

    def insert(self, i: int, x: Any) -> None:
        """Insert into a list."""
        self._change({"action": "insert", "path": self._path, "i": i, "x": x})

    def pop(self, i: Any = -1) -> Any:
        """Take a member out of a list, or out of a dict, and return it."""
        return self._change({"action": "pop", "path": self._path, "i": _findable(i)})

    __iter__ = None  # or Python would count through the keys 0, 1, 2, ...; use raw_view
    __contains__ = None

    def __repr__(self) -> str:
        place = "".join(f"[{key!r}]" for key in self._path)
        return f"<{type(self._root).__name__}{place}>"

    def _change(self, mod: Mod) -> Any:
        """Make a change and publish it, or neither."""
        root = self._root
        if root._sink is None:
            return apply_mod(root._structure, mod)
        prepared = root._sink.prepare(mod)
        result = apply_mod(root._structure, mod)
        root._sink.publish(prepared)
        return result


class Notifier(NotifierNode):
    """A structure of dicts and lists that can be published: see `serve_publisher`.

    ``notifier["rid"]["3"] = {"status": "running"}`` changes the structure and tells all subscribers. Members
    at any depth are reached with ``[]``; a place has `append`, `insert`, `pop`, ``[]=`` and ``del``, which
    work as for the dict, list or array that is there. It needs no publisher to be used.

    A change is encoded before it is made, so one that raises, whatever the reason, is neither made in part
    nor published: TypeError or ValueError for what PYON cannot carry, and what the dict, list or array at
    that place raises. Without subscribers nothing is encoded, so what PYON cannot carry is not noticed until
    somebody subscribes: the log of ``trionet.sync_struct`` says so then.

    While it is published it belongs to the Trio run of its publisher: a change from another thread is a
    `RuntimeError`. Call it with ``trio.from_thread.run_sync`` there.

    Args:
        structure: A dict or list of PYON values, nested. It is not copied: leave it to the notifier. No dict,
            list or array may stand at two places of it: a change at one would be seen at both here, but at
            one by subscribers. The same goes for the values that changes bring.
    """

    __slots__ = ("_sink", "_structure")

    def __init__(self, structure: Any) -> None:
        super().__init__(self, [])
        self._structure = structure
        self._sink: ModSink | None = None

    def attach(self, sink: ModSink) -> None:
        """Have changes go somewhere. This is for publishers.

        Raises:
            RuntimeError: if they do already.
        """
        if self._sink is not None:
            raise RuntimeError(f"{self!r} is published already: a notifier has one publisher")
        self._sink = sink

    def detach(self) -> None:
        """Have changes go nowhere again."""
        self._sink = None


def _findable(key: Any) -> Any:
    """The key; ValueError for one that subscribers could not find again, such as NaN.

    Python finds it here only because it is the very same object.
    """
    if isinstance(key, tuple):
        for item in key:
            _findable(item)
    elif isinstance(key, (float, complex, np.generic)) and key != key:
        raise ValueError(f"{key!r} is no key: it does not equal itself, so no subscriber would find it")
    return key
