"""RPC without a network."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any

import trio
import trio.testing

from trionet import AUTO, AutoTarget, RpcClient, handle_rpc_stream, wrap_rpc_stream


@contextlib.asynccontextmanager
async def open_memory_rpc_client(
    targets: Mapping[str, Any], target: str | AutoTarget | None = AUTO, **server_options: Any
) -> AsyncIterator[RpcClient]:
    """A client connected to a server of `targets` in the same process, through memory.

    Args:
        targets: As for `serve_rpc`.
        target: As for `open_rpc_client`.
        **server_options: Passed on to `handle_rpc_stream`.

    Everything that travels is encoded and decoded as over a network. When the block ends, so do both sides.
    What the block raises, a failed assertion for one, leaves as it is, not in an exception group.
    """
    client_end, server_end = trio.testing.memory_stream_pair()
    raised: BaseException | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: handle_rpc_stream(server_end, targets, **server_options))
        try:
            async with wrap_rpc_stream(client_end, target) as client:
                yield client
        except BaseException as error:
            raised = error  # Cancelled, too: it goes on below
        nursery.cancel_scope.cancel()
    if raised is not None:
        raise raised
