"""What can go wrong between two peers. All of these say where: peer, target, method, seconds elapsed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CallInfo:
    """Where something happened; what is not known or does not apply is None.

    Attributes:
        peer: Address of the other side, such as ``127.0.0.1:3251``.
        target: Name of the target (of what the server publishes).
        method: Name of the method that was called.
        elapsed: Seconds from the beginning of the call, or of the connection attempt.
        remote_traceback: Traceback of a remote exception, outermost call first, as the server formatted it.
        rig: Name of the rig, for experiment messages.
        event: Name of the event, likewise.
    """

    peer: str | None = None
    target: str | None = None
    method: str | None = None
    elapsed: float | None = None
    remote_traceback: tuple[str, ...] = ()
    rig: str | None = None
    event: str | None = None

    def __str__(self) -> str:
        parts = []
        if self.event is not None:
            parts.append(f"event {self.event}")
        if self.rig is not None:
            parts.append(f"rig {self.rig!r}")
        if self.method is not None:
            parts.append(f"method {self.method!r}")
        if self.target is not None:
            parts.append(f"target {self.target!r}")
        if self.peer is not None:
            parts.append(f"peer {self.peer}")
        if self.elapsed is not None:
            parts.append(f"after {self.elapsed:.3f} s")
        return ", ".join(parts)


def excerpt(value: object, length: int, write: Callable[[object], str] = str) -> str:
    """The beginning of what `write` makes of something that a peer has sent, for a message about it.

    What is nested so deep that Python cannot write it is called by its type.
    """
    try:
        return write(value)[:length]
    except RecursionError:
        return f"<{type(value).__name__}>"


class TrionetError(Exception):
    """Base of the errors below.

    Attributes:
        message: What happened.
        call: Where it happened.
    """

    def __init__(self, message: str, call: CallInfo = CallInfo()) -> None:
        super().__init__(message)
        self.args = (message, call)  # set here, because OSError takes two arguments for errno and strerror
        self.message = message
        self.call = call

    def __str__(self) -> str:
        where = str(self.call)
        return f"{self.message} ({where})" if where else self.message


class LocalProtocolError(TrionetError):
    """This side used a connection in a way that its protocol or state does not allow. Nothing was sent."""


class RemoteProtocolError(TrionetError):
    """The other side sent what its protocol does not allow. The connection is over."""


class IncompatibleServer(TrionetError):
    """The server does not offer the target that was asked for."""


class ConnectionLost(TrionetError, ConnectionError):
    """The connection is gone, so the outcome of a call in flight is unknown: it may have been executed."""


class RemoteError(TrionetError):
    """A remote method raised an exception that has no safe counterpart on this side.

    Attributes:
        class_name: Its class, as the server names it.
        message: Its text. For classes that are no builtins this is ``module.Class: text``.
    """

    def __init__(self, class_name: str, message: str, call: CallInfo = CallInfo()) -> None:
        super().__init__(message, call)
        self.args = (class_name, message, call)  # so that a copy or a pickle is built the same way
        self.class_name = class_name

    @property
    def remote_traceback(self) -> Sequence[str]:
        """Traceback of the exception on the server, outermost call first."""
        return self.call.remote_traceback
