"""A cable that can be cut: a relay for TCP connections."""

from __future__ import annotations

import trio


class Relay:
    """Passes connections on to a port of this machine, until it is cut.

    While it is cut, whoever connects is disconnected at once.

    Args:
        target: The port.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._cut = False
        self._connections: set[trio.CancelScope] = set()

    async def serve(self, *, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED) -> None:
        """Pass connections on until cancelled. Reports the port to connect to."""
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        task_status.started(listeners[0].socket.getsockname()[1])
        await trio.serve_listeners(self._pass_on, listeners)

    def cut(self) -> None:
        """Cut it: connections are lost."""
        self._cut = True
        for connection in self._connections:
            connection.cancel()

    def mend(self) -> None:
        """Let connections be made again."""
        self._cut = False

    async def _pass_on(self, near: trio.SocketStream) -> None:
        with trio.CancelScope() as connection:
            self._connections.add(connection)
            try:
                async with near:
                    if not self._cut:
                        await self._connect(near, connection)
            except OSError:
                pass  # nobody is there: to `near` it is as if the cable were cut
            finally:
                self._connections.discard(connection)

    async def _connect(self, near: trio.SocketStream, connection: trio.CancelScope) -> None:
        far = await trio.open_tcp_stream("127.0.0.1", self._target)
        async with far, trio.open_nursery() as nursery:
            nursery.start_soon(_copy, near, far, connection)
            nursery.start_soon(_copy, far, near, connection)


async def _copy(source: trio.SocketStream, sink: trio.SocketStream, connection: trio.CancelScope) -> None:
    """Copy what comes; when no more does, the connection ends in both directions."""
    try:
        async for data in source:
            await sink.send_all(data)
    except trio.BrokenResourceError:
        pass
    connection.cancel()
