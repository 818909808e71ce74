"""The helper for the tests of controllers."""

from __future__ import annotations

import pytest
import trio

from trionet.testing import open_memory_rpc_client


class Echo:
    def echo(self, value: object) -> object:
        return value


async def test_what_the_block_raises_is_not_wrapped() -> None:
    with pytest.raises(AssertionError, match="in a test"):
        async with open_memory_rpc_client({"echo": Echo()}) as client:
            assert await client.call("echo", 1) == 2, "in a test"


async def test_options_of_the_server() -> None:
    async with open_memory_rpc_client(
        {"a": Echo(), "b": Echo()}, "b", description="two", allow_terminate=True
    ) as client:
        assert (client.target, client.description) == ("b", "two")
        assert "terminate" in client.methods


async def test_targets_that_cannot_be_served() -> None:
    with pytest.raises(ExceptionGroup) as caught:
        async with open_memory_rpc_client({"a": Echo}):
            pass
    assert caught.value.subgroup(TypeError) is not None


async def test_cancellation(autojump_clock: trio.abc.Clock) -> None:
    with trio.move_on_after(1) as scope:
        async with open_memory_rpc_client({"echo": Echo()}):
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert trio.current_time() == 1.0
