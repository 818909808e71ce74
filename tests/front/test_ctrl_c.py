"""Ctrl-C is raised where the program waits, not in the tasks behind its objects."""

from __future__ import annotations

import logging
import signal
from typing import Any

import pytest
import trio
import trio.testing

from tests.front.objects import open_pair
from trionet import handle_rpc_stream, wrap_rpc_stream
from trionet._tasks import open_background_tasks
from trionet.objects.process import _log_output


class Echo:
    def echo(self, value: int) -> int:
        return value


async def interrupt() -> None:
    signal.raise_signal(signal.SIGINT)


async def call_and_be_interrupted() -> None:
    client_end, server_end = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(handle_rpc_stream, server_end, {"echo": Echo()})
        async with wrap_rpc_stream(client_end) as client:
            assert await client.call("echo", 1) == 1
            client_end.receive_stream.receive_some_hook = interrupt  # it comes while the reader works
            try:
                await client.call("echo", 2)
                await client.call("echo", 3)
            except* KeyboardInterrupt:
                raise KeyboardInterrupt("here") from None


def test_while_a_connection_is_read() -> None:
    with pytest.raises(BaseExceptionGroup) as caught:  # of the test's own nursery
        trio.run(call_and_be_interrupted)
    assert [str(error) for error in caught.value.exceptions] == ["here"]


async def interrupt_reading_of_objects() -> None:
    async with open_pair() as (client, thing):
        assert await thing.add(1) == 2
        stream: Any = client._connection._zmtp._transport.stream
        stream.receive_stream.receive_some_hook = interrupt
        try:
            await thing.add(1)
            await thing.add(1)
        except* KeyboardInterrupt:
            raise KeyboardInterrupt("here") from None


async def interrupt_writing_of_objects() -> None:
    async with open_pair() as (client, thing):
        assert await thing.add(1) == 2
        stream: Any = client._connection._zmtp._transport.stream
        pump = stream.send_stream.send_all_hook

        async def interrupt_and_send() -> None:
            signal.raise_signal(signal.SIGINT)
            await pump()

        stream.send_stream.send_all_hook = interrupt_and_send
        try:
            await thing.add(1)
            await thing.add(1)
        except* KeyboardInterrupt:
            raise KeyboardInterrupt("here") from None


@pytest.mark.parametrize("program", [interrupt_reading_of_objects, interrupt_writing_of_objects])
def test_while_a_connection_to_objects_is_used(program: Any) -> None:
    with pytest.raises(BaseExceptionGroup) as caught:  # of the test's own nursery
        trio.run(program)
    assert [str(error) for error in caught.value.exceptions] == ["here"]


class Output(trio.abc.ReceiveStream):
    """What a process prints; Ctrl-C comes while it is logged."""

    def __init__(self) -> None:
        self.pieces = [b"a line\n", b""]

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        signal.raise_signal(signal.SIGINT)
        return self.pieces.pop(0)

    async def aclose(self) -> None: ...


async def listen_to_a_process() -> None:
    try:
        async with open_background_tasks() as nursery:
            nursery.start_soon(_log_output, Output(), "worker", "stdout", logging.INFO)
            await trio.sleep_forever()
    except KeyboardInterrupt:
        raise KeyboardInterrupt("here") from None


def test_while_the_output_of_a_process_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with pytest.raises(KeyboardInterrupt, match="here"):
        trio.run(listen_to_a_process)
    assert "a line" in caplog.text
