"""What the tests of pyacq's names have in common: objects, and servers in threads."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np

from trionet_compat.pyacq.core.rpc import RPCServer


class Thing:
    """An object with methods of all kinds."""

    alive = 0

    def __init__(self) -> None:
        type(self).alive += 1
        self.value: Any = 5
        self.calls: list[Any] = []
        self.released = threading.Event()

    def __del__(self) -> None:
        type(self).alive -= 1

    def echo(self, value: Any) -> Any:
        self.calls.append(value)
        return value

    def add(self, first: Any, second: Any = 1) -> Any:
        return first + second

    def fail(self) -> None:
        raise ValueError("the text")

    def thread(self) -> int:
        return threading.get_ident()

    def call(self, function: Any, *args: Any) -> Any:
        return function(*args)

    def same(self) -> Thing:
        return self

    def array(self) -> Any:
        return np.arange(6.0).reshape(2, 3)

    def wait(self) -> str:
        self.released.wait()
        return "waited"


@contextlib.contextmanager
def running_server(**namespace: Any) -> Iterator[RPCServer]:
    """A server that a thread of its own runs, until the block ends or a client ends it."""
    server = RPCServer()
    for name, value in namespace.items():
        server[name] = value
    thread = threading.Thread(target=server.run_forever)
    thread.start()
    try:
        yield server
    finally:
        server.close()
        thread.join()


@contextlib.contextmanager
def lazy_server() -> Iterator[RPCServer]:
    """A server of this thread, which works on requests while it waits for others."""
    server = RPCServer()
    server.run_lazy()
    try:
        yield server
    finally:
        server.close()


def in_thread(function: Any, *args: Any) -> Any:
    """What a function returns in another thread; raises what it raises there."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append((function(*args), None))
        except BaseException as error:
            outcome.append((None, error))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    result, error = outcome[0]
    if error is not None:
        raise error
    return result
