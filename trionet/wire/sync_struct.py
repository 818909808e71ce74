"""sync_struct: a structure of dicts and lists that is published, as its changes.

A change is a *mod*: see `apply_mod`. The first line of a feed is an `init`; it can come again at any
time. Keys that are not known are ignored; other actions, and other paths than there are, end the connection.

Protocol facts: recorded from sipyco 1.10 (tests/data/transcripts/sync_struct_*.json).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from trionet.wire.errors import RemoteProtocolError, excerpt
from trionet.wire.feeds import FeedClient, PyonVersion, encode_line

BANNER: Final = b"ARTIQ sync_struct"

#: A change to a published structure, see `apply_mod`.
Mod = dict[str, Any]

#: The keys that each action must have, behind `action` and in this order.
KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "init": ("struct",),
    "append": ("path", "x"),
    "insert": ("path", "i", "x"),
    "pop": ("path", "i"),
    "setitem": ("path", "key", "value"),
    "delitem": ("path", "key"),
}


# PYON v2 has no form for a dict with this key.
_RESERVED_KEY: Final = "__jsonclass__"


def encode_mod(mod: Mod, pyon_version: PyonVersion) -> bytes:
    """A mod as a line.

    Raises:
        TypeError: if PYON cannot carry it, or the structure after it (ValueError likewise).
    """
    if pyon_version == 2 and mod["action"] == "setitem":
        key = mod["key"]
        if isinstance(key, str) and key == _RESERVED_KEY:
            raise ValueError(f"a dict with the reserved key {_RESERVED_KEY!r} has no PYON form")
    return encode_line(mod, pyon_version)


def apply_mod(target: Any, mod: Mod) -> Any:
    """Change a structure as a mod says: a dict, on the wire and here, with ``action`` and these keys::

        action      keys                   what it does to `t`, the thing at `path`
        init        struct                 replaces everything; there is no path
        append      path, x                t.append(x)
        insert      path, i, x             t.insert(i, x)
        pop         path, i                t.pop(i); for a dict, `i` is the key
        setitem     path, key, value       t[key] = value
        delitem     path, key              del t[key]

    ``path`` is the list of keys from the root. `init` makes a new structure, and cannot be applied.

    Args:
        target: The root of the structure: of dicts and lists, or anything with the methods that are needed.
        mod: The change. Its values become part of the structure, and are not copied.

    Returns:
        What `pop` has taken out; else None.

    Raises:
        ValueError: for an action that is not known.
        KeyError: for `init`, which has no path.
        Exception: what the structure raises: KeyError for a path that it does not have, and the like.
    """
    action = mod["action"]
    if action not in KEYS:
        raise ValueError(f"unknown action {action!r}")
    for key in mod["path"]:
        target = target[key]
    if action == "setitem":
        target[mod["key"]] = mod["value"]
    elif action == "append":
        target.append(mod["x"])
    elif action == "insert":
        target.insert(mod["i"], mod["x"])
    elif action == "pop":
        return target.pop(mod["i"])
    elif action == "delitem":
        del target[mod["key"]]
    else:
        raise ValueError("'init' makes a structure, it does not change one")
    return None


class SubscriberConnection(FeedClient):
    """The subscriber's side of one connection; the arguments are those of `FeedClient`."""

    def __init__(self, max_message_size: int, pyon_version: PyonVersion | None = None) -> None:
        super().__init__(BANNER, max_message_size, pyon_version)
        self._initialized = False

    def next_mod(self) -> Mod | None:
        """The next mod; None if it has not come yet. The first one is an `init`.

        Raises:
            RemoteProtocolError: if the publisher sends something else. The connection is of no use after it.
        """
        came, mod = self.next_value()
        if not came:
            return None
        if not isinstance(mod, dict):
            raise self.refuse(f"expected a mod, not {type(mod).__name__}")
        action = mod.get("action")
        keys = KEYS.get(action) if isinstance(action, str) else None
        if keys is None:
            raise self.refuse(f"unknown action {excerpt(action, 40)!r}")
        for key in keys:
            if key not in mod:
                raise self.refuse(f"a mod with action {action!r}, but without {key!r}")
        if action == "init":
            self._initialized = True
        elif not self._initialized:
            raise self.refuse(f"{action!r} before 'init'")
        elif not isinstance(mod["path"], list):
            raise self.refuse(f"a path that is no list: {excerpt(mod['path'], 40)}")
        return mod


def cannot_apply(mod: Mod, error: Exception) -> RemoteProtocolError:
    """What to raise if a mod does not fit a structure that is all the publisher's."""
    where = "".join(f"[{excerpt(key, 80, repr)}]" for key in mod["path"][:80])[:80]
    reason = excerpt(error, 200, repr)
    return RemoteProtocolError(f"{mod['action']!r} cannot be applied at {where or 'the root'}: {reason}")
