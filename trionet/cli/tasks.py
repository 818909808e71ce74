"""Running several things at once, where what goes wrong is one exception and not a group."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import trio

from trionet.cli.output import EXPECTED_ERRORS, CommandError, error_text

Server = TypeVar("Server")


async def until_first(*works: Callable[[], Awaitable[Any]]) -> None:
    """Run until one of them ends. What it raises leaves as it is, in no group."""
    failures: list[Exception] = []

    async def run(work: Callable[[], Awaitable[Any]], scope: trio.CancelScope) -> None:
        try:
            await work()
        except Exception as error:
            failures.append(error)
        scope.cancel()

    async with trio.open_nursery() as nursery:
        for work in works:
            nursery.start_soon(run, work, nursery.cancel_scope)
    for failure in failures:
        raise failure


async def run_served(
    serve: Callable[..., Awaitable[object]], use: Callable[[Server], Awaitable[object]]
) -> None:
    """Serve until it has been used. What the use raises leaves as it is, in no group.

    Args:
        serve: Serves, and reports a handle with `task_status`.
        use: Called with the handle.

    Raises:
        CommandError: if it cannot be served, because the port is in use for example.
    """
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        try:
            server: Server = await _start(nursery, serve)
            await use(server)
        except Exception as error:
            failure = error
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


async def _start(nursery: trio.Nursery, serve: Callable[..., Awaitable[object]]) -> Any:
    try:
        return await nursery.start(serve)
    except EXPECTED_ERRORS as error:
        raise CommandError(error_text(error)) from error
