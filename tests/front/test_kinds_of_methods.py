"""Methods that are async, sync, in threads, or sync and return something to await: what their callers see."""

from __future__ import annotations

import asyncio
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

    async def cancel_async(self) -> None:
        await trio.lowlevel.checkpoint()
        raise asyncio.CancelledError("of another library")

    def cancel(self) -> None:
        raise asyncio.CancelledError("of another library")

    def cancel_later(self) -> Awaitable[None]:
        return self.cancel_async()

    async def exit_in_nursery(self) -> None:
        async with trio.open_nursery():
            raise SystemExit(3)


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


@pytest.mark.parametrize("method", ["cancel", "cancel_async", "cancel_later", "exit_in_nursery"])
@pytest.mark.parametrize("sync_methods", SYNC_METHODS)
async def test_exceptions_that_are_no_exceptions_end_their_call_only(method: str, sync_methods: Any) -> None:
    async with open_memory_rpc_client({"it": Target()}, sync_methods=sync_methods) as client:
        with pytest.raises(trionet.RemoteError, match=r"CancelledError: of another|BaseExceptionGroup"):
            await client.call(method)
        assert await client.call("double", 21) == 42


async def test_what_a_method_raises_in_the_place_of_its_cancellation() -> None:
    started = trio.Event()

    class Stubborn:
        async def wait(self) -> None:
            started.set()
            try:
                await trio.sleep_forever()
            finally:
                raise asyncio.CancelledError

    client_end, server_end = trio.testing.memory_stream_pair()
    await client_end.send_all(
        b'ARTIQ pc_rpc\nit pyon_v2\n{"action":"call","name":"wait","args":[],"kwargs":{}}\n'
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: trionet.handle_rpc_stream(server_end, {"it": Stubborn()}))
        await started.wait()
        await client_end.aclose()


async def test_system_exit_in_a_group_ends_a_server_that_may_be_terminated() -> None:
    client_end, server_end = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        targets = {"it": Target()}
        nursery.start_soon(lambda: trionet.handle_rpc_stream(server_end, targets, allow_terminate=True))
        async with trionet.wrap_rpc_stream(client_end) as client:
            with pytest.raises(trionet.ConnectionLost):
                await client.call("exit_in_nursery")
