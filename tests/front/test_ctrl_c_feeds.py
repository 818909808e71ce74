"""Ctrl-C while feeds and logs work behind the program: it is raised where the program waits."""

from __future__ import annotations

import contextlib
import logging
import signal
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing

import trionet
from tests.front.interrupting import InterruptingHandler
from trionet.wire.sync_struct import Mod

HOST = "127.0.0.1"


@contextlib.contextmanager
def interrupting_logger(name: str) -> Iterator[None]:
    logger, handler = logging.getLogger(name), InterruptingHandler()
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


def leaves(error: BaseException) -> list[str]:
    """What is behind groups."""
    if isinstance(error, BaseExceptionGroup):
        return [text for one in error.exceptions for text in leaves(one)]
    return [f"{type(error).__name__}: {error}"]


async def wait_and_tell(begin: Callable[[], Awaitable[None]]) -> None:
    """What Ctrl-C becomes if it arrives here."""
    try:
        await begin()
        await trio.sleep_forever()
    except KeyboardInterrupt:
        raise KeyboardInterrupt("here") from None


SERVERS: dict[str, tuple[str, Callable[..., Awaitable[None]]]] = {
    "publisher": ("sync_struct", partial(trionet.serve_publisher, {"it": trionet.Notifier({})})),
    "broadcaster": ("broadcast", partial(trionet.serve_broadcaster, trionet.Broadcaster())),
    "log sink": ("logs", trionet.serve_log_sink),
}
CLIENTS: dict[str, Callable[[int], contextlib.AbstractAsyncContextManager[Any]]] = {
    "publisher": lambda port: trionet.open_subscription(HOST, port, "it"),
    "broadcaster": lambda port: trionet.open_broadcast_receiver(HOST, port, "it"),
    "log sink": lambda port: trionet.open_log_forwarder(HOST, port, source="here"),
}


@pytest.mark.parametrize("server", SERVERS)
def test_while_a_client_connects_again(server: str) -> None:
    logger, serve = SERVERS[server]

    async def program() -> None:
        async with trio.open_nursery() as nursery:
            handle = await nursery.start(serve, 0)
            async with CLIENTS[server](handle.port) as client:
                await client.connected.wait_value(True)
                await wait_and_tell(handle.aclose)  # that it is gone is logged

    with interrupting_logger(f"trionet.{logger}"), pytest.raises(BaseExceptionGroup) as caught:
        trio.run(program)
    assert leaves(caught.value) == ["KeyboardInterrupt: here"]


@pytest.mark.parametrize("server", SERVERS)
def test_while_a_client_is_served(server: str) -> None:
    logger, serve = SERVERS[server]

    async def program() -> None:
        async with trio.open_nursery() as nursery:
            handle = await nursery.start(serve, 0)
            stream = await trio.open_tcp_stream(HOST, handle.port)
            async with stream:  # the connection is closed for nonsense, which is logged
                await wait_and_tell(lambda: stream.send_all(b"nonsense\n"))

    with interrupting_logger(f"trionet.{logger}"), pytest.raises(BaseExceptionGroup) as caught:
        trio.run(program)
    assert leaves(caught.value) == ["KeyboardInterrupt: here"]


class Interrupted:
    """Functions of a program that Ctrl-C ends, one of them."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def on_mod(self, mod: Mod) -> None:
        if mod["action"] != "init":
            self.interrupt("on_mod")

    def build(self, structure: dict[str, int]) -> dict[str, int]:
        if structure:
            self.interrupt("build")
        return structure

    def predicate(self, structure: dict[str, int]) -> bool:
        if structure:
            self.interrupt("predicate")
        return False

    def interrupt(self, where: str) -> None:
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            self.seen.append(where)
            raise


@pytest.mark.parametrize("where", ["on_mod", "build", "predicate"])
def test_functions_that_go_on_for_ever_can_be_interrupted(where: str) -> None:
    functions = Interrupted()
    options: dict[str, Any] = {where: getattr(functions, where)} if where != "predicate" else {}

    async def program() -> None:
        async with trio.open_nursery() as nursery:
            values = trionet.Notifier({})
            handle = await nursery.start(trionet.serve_publisher, {"it": values}, 0)
            async with trionet.open_subscription(HOST, handle.port, "it", **options) as subscription:
                if where == "build":
                    await handle.aclose()
                    values["a"] = 1
                    await nursery.start(trionet.serve_publisher, {"it": values}, handle.port)
                else:
                    nursery.start_soon(set_soon, values)
                await subscription.wait_value(functions.predicate if where == "predicate" else bool)
                await trio.sleep_forever()

    with pytest.raises(BaseExceptionGroup) as caught:
        trio.run(program)
    assert leaves(caught.value) == ["KeyboardInterrupt: "]
    assert functions.seen == [where]


async def set_soon(values: trionet.Notifier) -> None:
    await trio.testing.wait_all_tasks_blocked()
    values["a"] = 1


def test_what_a_sink_gives_records_to_can_be_interrupted() -> None:
    functions = Interrupted()

    async def program() -> None:
        async with trio.open_nursery() as nursery:
            emit = lambda record: functions.interrupt("emit")  # noqa: E731
            handle = await nursery.start(partial(trionet.serve_log_sink, 0, emit=emit))
            async with trionet.open_log_forwarder(HOST, handle.port, source="here") as handler:
                handler.emit(logging.makeLogRecord({"msg": "hello"}))
                await trio.sleep_forever()

    with pytest.raises(BaseExceptionGroup) as caught:
        trio.run(program)
    assert leaves(caught.value) == ["KeyboardInterrupt: "]
    assert functions.seen == ["emit"]
