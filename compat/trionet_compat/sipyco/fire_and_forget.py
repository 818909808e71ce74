"""Calls that nobody waits for; stands for ``sipyco.fire_and_forget``."""

from __future__ import annotations

import functools
import inspect
import logging
import threading
from collections.abc import Callable
from typing import Any


class FFProxy:
    """Calls methods of a target in threads, and returns at once. Stands for sipyco's class of that name.

    ``FFProxy(laser).set_power(1.0)`` returns None. One call is under way at a time; others are dropped, each
    with a warning. What a method raises becomes a warning, too.

    Unlike upstream's, it works with RPC clients: the methods are looked up in the target when they are asked
    for. They may be functions of any kind; properties are not read.

    The program does not end before the call that is under way.

    Args:
        target: Any object, such as a `trionet_compat.sipyco.pc_rpc.Client`. It is not closed here.
    """

    _logger = logging.getLogger("sipyco.fire_and_forget")

    def __init__(self, target: Any) -> None:
        self.target = target
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def ff_join(self) -> None:
        """Wait for the call that is under way, if there is one."""
        thread = self._thread
        if thread is not None:
            thread.join()

    def __getattr__(self, name: str) -> Callable[..., None]:
        method = self._find(name)

        def call(*args: Any, **kwargs: Any) -> None:
            self._start(name, functools.partial(method, *args, **kwargs))

        call.__name__ = call.__qualname__ = name
        return call

    def _find(self, name: str) -> Callable[..., Any]:
        target = self.__dict__.get("target")  # not there yet while this is unpickled or copied
        if not isinstance(inspect.getattr_static(type(target), name, None), property):
            method = getattr(target, name)
            if callable(method):
                return method  # type: ignore[no-any-return]
        raise AttributeError(f"{name!r} of {target!r} is no method", name=name, obj=self)

    def _start(self, name: str, call: Callable[[], Any]) -> None:
        with self._lock:
            if self._thread is not None and self._thread.is_alive():
                self._logger.warning("skipping fire-and-forget call to %r of %r", name, self.target)
                return
            # Not a daemon: the interpreter waits for it, and only then closes the portals.
            self._thread = threading.Thread(target=self._run, args=(name, call), name=f"FFProxy {name}")
            self._thread.start()

    def _run(self, name: str, call: Callable[[], Any]) -> None:
        try:
            call()
        except Exception:
            self._logger.warning(
                "fire-and-forget call to %r of %r raised an exception:", name, self.target, exc_info=True
            )
