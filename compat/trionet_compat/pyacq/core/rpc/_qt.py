"""The requests of a thread that runs an event loop of Qt. Imported when the first `QtRPCServer` is made."""

from __future__ import annotations

import importlib
import sys
from collections import deque
from collections.abc import Callable
from typing import Any, Final

# The bindings that this works with. The one that the program uses is used, or else the first.
_BINDINGS: Final = ("PySide6", "PyQt6", "PyQt5")


def _find_binding() -> str:
    loaded = [name for name in _BINDINGS if f"{name}.QtCore" in sys.modules]
    return loaded[0] if loaded else _BINDINGS[0]


_NAME: Final = _find_binding()
try:
    QtCore: Final[Any] = importlib.import_module(f"{_NAME}.QtCore")
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "a QtRPCServer needs Qt: pip install trionet[qt]", name=error.name, path=error.path
    ) from error

_WORK: Final = QtCore.QEvent.Type(QtCore.QEvent.registerEventType())


class _Receiver(QtCore.QObject):  # type: ignore[misc]  # of whichever binding
    """Lives in the thread. What is posted to it is delivered there by the event loop that runs."""

    def __init__(self, take: Callable[[], None]) -> None:
        super().__init__()
        self._take = take

    def event(self, event: Any) -> bool:
        if event.type() == _WORK:
            self._take()
            return True
        return bool(super().event(event))


class QtInbox:
    """Requests that the event loop of this thread brings: see `Inbox`. Make it in that thread."""

    def __init__(self) -> None:
        self._works: deque[Callable[[], object]] = deque()
        self._taken = 0
        self._loops: list[Any] = []  # of those that wait, the innermost last
        self._receiver = _Receiver(self._take)

    def put(self, work: Callable[[], object]) -> None:
        self._works.append(work)
        self._post()

    def wake(self) -> None:
        self.put(self._quit)

    def serve_until(self, done: Callable[[], bool]) -> None:
        """Run the event loop: whatever else comes to it is dealt with, too."""
        while not done():
            loop = QtCore.QEventLoop()
            self._loops.append(loop)
            try:
                loop.exec()
            finally:
                self._loops.pop()

    def serve_one(self) -> None:
        before = self._taken
        while self._taken == before:
            QtCore.QCoreApplication.processEvents(QtCore.QEventLoop.ProcessEventsFlag.WaitForMoreEvents)

    def serve_rest(self) -> None:
        """Do what has come already."""
        while self._works:
            self._take()

    def _post(self) -> None:
        QtCore.QCoreApplication.postEvent(self._receiver, QtCore.QEvent(_WORK))

    def _take(self) -> None:
        if self._works:
            work = self._works.popleft()
            self._taken += work != self._quit
            work()

    def _quit(self) -> None:
        for loop in self._loops:  # all of them: the outer ones leave when the inner ones have
            loop.quit()


def quit_application() -> None:
    """End the event loop of the program, if there is one. In its thread."""
    application = QtCore.QCoreApplication.instance()
    if application is not None:
        application.quit()


def make_application() -> Any:
    """The event loop of a program that has none: with windows, where the system can have such."""
    try:
        kind = importlib.import_module(f"{_NAME}.QtWidgets").QApplication
    except ImportError:
        kind = QtCore.QCoreApplication
    return kind.instance() or kind(sys.argv[:1])
