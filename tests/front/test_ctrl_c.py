"""Ctrl-C is raised where the program waits, not in the tasks behind its objects."""

from __future__ import annotations

import signal

import pytest
import trio
import trio.testing

from trionet import handle_rpc_stream, wrap_rpc_stream


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
