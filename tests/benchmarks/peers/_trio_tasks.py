"""Tasks of the programs that run under Trio."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio


async def run_all(*functions: Callable[[], Awaitable[object]]) -> None:
    """Run functions at the same time.

    The first exception leaves as it is, without a group around it: of what a program complains, the last line
    is told.
    """
    try:
        async with trio.open_nursery() as nursery:
            for function in functions:
                nursery.start_soon(function)
    except ExceptionGroup as group:
        raise group.exceptions[0] from None
