"""Errors as programs for sipyco expect them, made of those of trionet."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import trionet
from trionet_compat.sipyco._pyon_errors import not_encodable
from trionet_compat.sipyco.packed_exceptions import GenericRemoteException


class ConnectionClosed(trionet.ConnectionLost, EOFError, ConnectionResetError, BrokenPipeError):
    """The connection is gone.

    It is everything that sipyco raises then, depending on the moment and the system: what handles EOFError,
    ConnectionResetError, BrokenPipeError or any OSError handles it. Why the connection was lost says its
    ``__cause__``, and where, its attribute ``call``.
    """

    def __str__(self) -> str:
        return self.message


def as_upstream(error: BaseException, closed_text: str) -> BaseException:
    """The exception that sipyco's clients would raise in place of this one; mostly itself.

    Args:
        error: What an RPC client of trionet raised.
        closed_text: What to say of a connection that is lost.
    """
    if isinstance(error, trionet.RemoteError):
        generic = GenericRemoteException(error.message, error.call)
        for note in getattr(error, "__notes__", ()):
            generic.add_note(note)
        return generic.with_traceback(error.__traceback__)
    if isinstance(error, (trionet.ConnectionLost, trionet.RemoteProtocolError)):
        return ConnectionClosed(closed_text, error.call)
    call = getattr(error, "call", None)
    if isinstance(call, trionet.CallInfo):  # a builtin one that a remote method raised
        error.parent_traceback = list(call.remote_traceback)  # type: ignore[attr-defined]
    elif isinstance(error, TypeError):
        return not_encodable(error) or error
    return error


@contextlib.contextmanager
def upstream_errors(closed_text: str) -> Iterator[None]:
    """Raise the errors of the block as `as_upstream` gives them."""
    try:
        yield
    except Exception as error:
        translated = as_upstream(error, closed_text)
        if translated is error:
            raise
        # A remote exception says the same as what it is made from; a lost connection says less.
        raise translated from (None if isinstance(error, trionet.RemoteError) else error)
