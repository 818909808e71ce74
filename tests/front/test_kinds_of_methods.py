"""Methods that are async, sync, in threads, or sync and return something to await: what their callers see."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, Literal

import pytest
import trio
import trio.testing

import trionet
from trionet.testing import open_memory_rpc_client


class Target:
    async def double_async(self, value: int) -> int:
        await trio.lowlevel.checkpoint()
        return 2 * value

    def double(self, value: int) -> int:
        return 2 * value

    def double_later(self, value: int) -> Awaitable[int]:
        return self.double_async(value)

    async def fail_async(self) -> None:
        await trio.lowlevel.checkpoint()
        raise ValueError("out of range")

    def fail(self) -> None:
        raise ValueError("out of range")

    def fail_later(self) -> Awaitable[None]:
        return self.fail_async()

    async def interrupt_async(self) -> None:
        await trio.lowlevel.checkpoint()
        raise KeyboardInterrupt

    def interrupt(self) -> None:
        raise KeyboardInterrupt


SYNC_METHODS: tuple[Literal["inline", "thread"], ...] = ("inline", "thread")


@pytest.mark.parametrize("sync_methods", SYNC_METHODS)
@pytest.mark.parametrize("kind", ["", "_async", "_later"])
async def test_results_and_exceptions(kind: str, sync_methods: str) -> None:
    async with open_memory_rpc_client({"it": Target()}, sync_methods=sync_methods) as client:
        assert await client.call(f"double{kind}", 21) == 42
        with pytest.raises(ValueError, match="out of range") as caught:
            await client.call(f"fail{kind}")
        # Of all the frames, the method's own.
        *_, traceback = caught.value.__notes__
        frames = [line.split(", in ")[1] for line in traceback.splitlines() if line.startswith("  File ")]
        assert frames == ["fail_async" if kind else "fail"]


@pytest.mark.parametrize("method", ["interrupt", "interrupt_async"])
@pytest.mark.parametrize("sync_methods", SYNC_METHODS)
async def test_ctrl_c_leaves_the_server_as_it_is(method: str, sync_methods: Any) -> None:
    client_end, server_end = trio.testing.memory_stream_pair()
    raised: list[BaseException] = []

    async def serve() -> None:
        try:
            await trionet.handle_rpc_stream(server_end, {"it": Target()}, sync_methods=sync_methods)
        except BaseException as error:
            raised.append(error)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        async with trionet.wrap_rpc_stream(client_end) as client:
            with pytest.raises(trionet.ConnectionLost):
                await client.call(method)
    assert [type(error) for error in raised] == [KeyboardInterrupt]
