"""What a server reports of an exception, as blocking callers see it."""

from __future__ import annotations

from typing import Final

from trionet.wire.errors import ConnectionLost, RemoteError, TrionetError

#: Why connections are lost to servers that end.
GOODBYE: Final = "the server has ended"
_CLOSED_HERE: Final = "this side has closed the connection"


class RemoteCallException(Exception):
    """Something was raised in the server: pyacq's `RemoteCallException`.

    Attributes:
        type_str: The name of its class, such as ``ValueError``.
        tb_str: What the server says of it: the lines of its traceback.
    """

    def __init__(self, type_str: str, tb_str: list[str]) -> None:
        super().__init__(type_str, tb_str)
        self.type_str = type_str
        self.tb_str = tb_str

    def __str__(self) -> str:
        return "\n===> Remote exception was:\n" + "".join(self.tb_str)


class ServerLost(TimeoutError, RuntimeError):
    """The server has gone without a word: it was killed, or the connection broke.

    Upstream does not notice that, and calls run into their timeouts; after a goodbye, it is a RuntimeError.
    """


def as_upstream(error: Exception) -> Exception:
    """What upstream raises where the front end raises this."""
    if isinstance(error, RemoteError):
        return RemoteCallException(error.class_name, list(error.call.remote_traceback))
    if isinstance(error, TrionetError):
        return server_has_gone(error) if isinstance(error, ConnectionLost) else error
    call = getattr(error, "call", None)  # of builtin exceptions that were raised there
    if call is not None:
        return RemoteCallException(type(error).__name__, list(call.remote_traceback))
    return error


def server_has_gone(cause: ConnectionLost | None = None) -> RuntimeError:
    """There is no server any more: it has said goodbye, or not, or this side has closed the connection."""
    said_goodbye = cause is None or cause.message in (GOODBYE, _CLOSED_HERE)
    error = (RuntimeError if said_goodbye else ServerLost)(
        "Cannot send request; server has already disconnected."
    )
    error.__cause__ = cause
    return error
