"""Exceptions on their way through a connection.

On the wire an exception is its class name, its text and its formatted traceback. A server can write any
name there, and upstream looks it up among all builtins and calls what it finds, `eval` included. Here the
name selects from a fixed table; everything else becomes a `RemoteError`.
"""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final

from trionet.wire.errors import CallInfo, RemoteError

#: What upstream calls an exception whose class is no builtin.
GENERIC: Final = "GenericRemoteException"

# Builtins that are made from one text, are no BaseException that would stop a program, and can be raised
# through a coroutine (StopIteration cannot). The names on the right are aliases of OSError on the wire.
_CLASSES: Final[tuple[type[Exception], ...]] = (
    *(Exception, ArithmeticError, AssertionError, AttributeError, BufferError, EOFError),
    *(FloatingPointError, ImportError, ModuleNotFoundError, IndexError, KeyError, LookupError),
    *(MemoryError, NameError, NotImplementedError, OverflowError, RecursionError, ReferenceError),
    *(RuntimeError, SyntaxError, IndentationError, TabError, SystemError, TypeError),
    *(UnboundLocalError, UnicodeError, ValueError, ZeroDivisionError),
    *(OSError, BlockingIOError, BrokenPipeError, ChildProcessError, ConnectionAbortedError),
    *(ConnectionError, ConnectionRefusedError, ConnectionResetError, FileExistsError),
    *(FileNotFoundError, InterruptedError, IsADirectoryError, NotADirectoryError, PermissionError),
    *(ProcessLookupError, TimeoutError),
    *(Warning, BytesWarning, DeprecationWarning, EncodingWarning, FutureWarning, ImportWarning),
    *(PendingDeprecationWarning, ResourceWarning, RuntimeWarning, SyntaxWarning, UnicodeWarning),
    UserWarning,
)
_BY_NAME: Final[dict[str, type[Exception]]] = {
    **{cls.__name__: cls for cls in _CLASSES},
    **dict.fromkeys(("IOError", "EnvironmentError", "WindowsError"), OSError),
}


@dataclass(frozen=True, slots=True)
class PackedException:
    """An exception as it travels."""

    class_name: str
    message: str
    traceback: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """The form on the wire."""
        return {"class": self.class_name, "message": self.message, "traceback": list(self.traceback)}


def pack(error: BaseException, *, hide: tuple[str, ...] = ()) -> PackedException:
    """Turn an exception into what is sent.

    Args:
        error: The exception.
        hide: Beginnings of names of modules whose frames are left out at the outer end of the traceback:
            those of the server itself.
    """
    frames: TracebackType | None = error.__traceback__
    while frames is not None and str(frames.tb_frame.f_globals.get("__name__")).startswith(hide or ("\0",)):
        frames = frames.tb_next
    lines = tuple(traceback.format_tb(frames))
    if isinstance(error, RemoteError):  # passed on from a server behind this one: keep its name
        return PackedException(GENERIC, error.message, (*error.remote_traceback, *lines))
    cls, text = type(error), exception_text(error)
    if _BY_NAME.get(cls.__name__) is cls:
        return PackedException(cls.__name__, text, lines)
    name = cls.__qualname__
    if cls.__module__ not in ("__main__", "builtins"):
        name = f"{cls.__module__}.{name}"
    return PackedException(GENERIC, f"{name}: {text}" if text else name, lines)


def exception_text(error: BaseException) -> str:
    """What `str` makes of an exception, if it does."""
    try:
        return str(error)
    except Exception as failure:
        return f"<no text: {type(failure).__name__} in str() of the exception>"


def unpack(packed: Any) -> PackedException:
    """Read what a server sent. Parts that are missing or of a wrong type are made up for.

    Raises:
        TypeError: if it is not an exception at all.
    """
    if not isinstance(packed, dict):
        raise TypeError(f"an exception must be a dict, not {type(packed).__name__}")
    lines = packed.get("traceback")
    return PackedException(
        str(packed.get("class", "unknown exception")),
        str(packed.get("message", "")),
        tuple(map(str, lines)) if isinstance(lines, (list, tuple)) else (),
    )


def rebuild(packed: PackedException, call: CallInfo) -> Exception:
    """The exception to raise for what the server reported.

    A builtin of the table above comes back as itself, made from the text, with the remote traceback and
    the place of the call as notes, and with the place in its attribute ``call``, too. All else is a
    `RemoteError`.
    """
    cls = _BY_NAME.get(packed.class_name)
    error: Exception
    if cls is not None:
        error = cls(packed.message)
        error.call = call  # type: ignore[attr-defined]  # an attribute of our own on a builtin
        if where := str(call):
            error.add_note(f"Raised by {where}")
    elif packed.class_name == GENERIC:
        error = RemoteError(GENERIC, packed.message, call)
    else:
        error = RemoteError(packed.class_name, f"{packed.class_name}: {packed.message}", call)
    if packed.traceback:
        error.add_note("Remote traceback (most recent call last):\n" + "".join(packed.traceback).rstrip())
    return error
