"""Exceptions on their way between processes; stands for ``sipyco.packed_exceptions``.

Unlike upstream's, `raise_packed_exc` looks names up in a fixed table of exception classes that are made of
one text, and never calls anything else that a peer names: ``eval`` and ``SystemExit`` are not built, but
named in the text of a `GenericRemoteException`.
"""

from __future__ import annotations

import builtins
import sys
from typing import Any, Final, NoReturn

from trionet import CallInfo, RemoteError
from trionet.wire.packed_exceptions import GENERIC, pack, rebuild, unpack

__all__ = ["GenericRemoteException", "current_exc_packed", "raise_packed_exc"]

#: The classes that travel by their name.
builtin_exceptions: Final[dict[type[BaseException], str]] = {
    value: name
    for name, value in vars(builtins).items()
    if isinstance(value, type) and issubclass(value, BaseException)
}


class GenericRemoteException(RemoteError):
    """A remote exception whose class is no builtin one: its text is ``module.Class: text``.

    Stands for sipyco's class of that name. It is a `trionet.RemoteError`, too, so a server that passes it on
    does not put its own name in front.

    Attributes:
        parent_traceback: Traceback of the exception on the server, as formatted there.
    """

    def __init__(self, message: str = "", call: CallInfo | None = None) -> None:
        super().__init__(GENERIC, message, call or CallInfo())
        self.args = (message,)
        self.parent_traceback = list(self.remote_traceback)

    def __str__(self) -> str:
        return self.message


def current_exc_packed() -> dict[str, Any]:
    """The exception that is being handled, as ``{"class": ..., "message": ..., "traceback": [...]}``.

    Raises:
        RuntimeError: if none is being handled.
    """
    error = sys.exc_info()[1]
    if error is None:
        raise RuntimeError("no exception is being handled")
    return pack(error).as_dict()


def raise_packed_exc(pack: dict[str, Any]) -> NoReturn:
    """Raise the exception that `current_exc_packed` packed. Its ``parent_traceback`` is that of the pack.

    Raises:
        GenericRemoteException: for classes that are no builtins, or cannot be made of a text alone.
        Exception: the builtin class otherwise.
        TypeError: if it is no such dict.
    """
    packed = unpack(pack)
    error = rebuild(packed, CallInfo(remote_traceback=packed.traceback))
    if isinstance(error, RemoteError):
        raise GenericRemoteException(error.message, error.call)
    error.parent_traceback = list(packed.traceback)  # type: ignore[attr-defined]
    raise error
