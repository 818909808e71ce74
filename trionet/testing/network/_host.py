"""Hosts: where tasks live, and what can happen to them."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any

import trio

from trionet.testing.network._residence import RESIDENCE, Residence, lives_on
from trionet.testing.network._stack import Stack

if TYPE_CHECKING:
    from trionet.testing.network._fabric import Fabric


class VirtualHost:
    """A simulated host; `VirtualNetwork.host` makes it.

    Attributes:
        name: Its name, in lower case.
        ipv4: Its IPv4 address.
        ipv6: Its IPv6 address.
        firewalled: Whether packets to closed ports vanish. By default they are answered as systems do: TCP
            with a reset, UDP with an ICMP message, which makes sends and receives of a connected socket
            fail with ConnectionRefusedError.
        windows_udp_errors: Whether UDP sockets behave as on Windows: after an ICMP message the next receive
            fails with ConnectionResetError, although the socket is not connected.
    """

    def __init__(
        self, name: str, ipv4: str, ipv6: str, fabric: Fabric, nursery: Callable[[], trio.Nursery]
    ) -> None:
        self.name = name
        self.ipv4 = ipv4
        self.ipv6 = ipv6
        self.firewalled = False
        self.windows_udp_errors = False
        self._fabric = fabric
        self._nursery = nursery
        self._paused = False
        self._put_off: list[tuple[Callable[[Any], object], Any]] = []
        self._scopes: dict[trio.CancelScope, None] = {}
        self.stack = Stack(self, fabric)

    def __repr__(self) -> str:
        state = "paused " if self._paused else "" if self.stack.alive else "crashed "
        return f"<{state}host {self.name} {self.ipv4} {self.ipv6}>"

    # Tasks.

    def start_soon(self, async_fn: Callable[..., Awaitable[object]], *args: Any, name: object = None) -> None:
        """Start a task that lives on this host, as `trio.Nursery.start_soon` does.

        The task, and all that it starts, makes its sockets here. It ends with the network or when the host
        crashes; an exception that it raises ends the network. Keyword arguments go through
        `functools.partial`.

        Raises:
            RuntimeError: if the network is not open, or the host has crashed.
            TypeError: if it is given no function, but what calling one returns, for example.
        """
        _check_function(async_fn)
        nursery = self._nursery()
        life = self._new_life()
        nursery.start_soon(self._run, life, async_fn, args, name=self._task_name(async_fn, name))

    async def start(self, async_fn: Callable[..., Awaitable[object]], *args: Any, name: object = None) -> Any:
        """Start a task that lives on this host, and wait until it says that it has started.

        As `trio.Nursery.start`, so `await host.start(trionet.serve_rpc, targets, 3251)` works: what the task
        passes to ``task_status.started()`` is returned. Cancelled before that, the task is cancelled.
        """
        _check_function(async_fn)
        nursery = self._nursery()
        life = self._new_life()

        async def run(*, task_status: trio.TaskStatus[Any]) -> None:
            async def with_status(*args: Any) -> object:
                return await async_fn(*args, task_status=task_status)

            await self._run(life, with_status, args)

        return await nursery.start(run, name=self._task_name(async_fn, name))

    @contextlib.contextmanager
    def entered(self) -> Iterator[VirtualHost]:
        """Have the current task, and those it starts, live on this host within the block.

        For the test itself. Unlike a task of the host it goes on when the host crashes; its sockets there
        are closed then, and after a restart it can make new ones.
        """
        token = RESIDENCE.set(Residence(self, None))
        try:
            yield self
        finally:
            RESIDENCE.reset(token)

    def _new_life(self) -> tuple[trio.CancelScope, Residence]:
        if not self.stack.alive:
            raise RuntimeError(f"{self.name} has crashed: nothing can be started there before restart()")
        scope = trio.CancelScope()
        self._scopes[scope] = None
        return scope, Residence(self, self.stack)

    def _task_name(self, async_fn: object, name: object) -> str:
        if name is None:
            while hasattr(async_fn, "func"):
                async_fn = async_fn.func
            name = getattr(async_fn, "__qualname__", repr(async_fn))
        return f"{self.name}: {name}"

    async def _run(
        self,
        life: tuple[trio.CancelScope, Residence],
        async_fn: Callable[..., Awaitable[object]],
        args: tuple[Any, ...],
    ) -> None:
        scope, residence = life
        RESIDENCE.set(residence)
        try:
            with scope:
                await async_fn(*args)
        finally:
            self._scopes.pop(scope, None)

    # Weather.

    @property
    def running(self) -> bool:
        """Whether it has not crashed."""
        return self.stack.alive

    @property
    def paused(self) -> bool:
        """Whether it stands still."""
        return self._paused

    def crash(self) -> None:
        """Cut the power: from this moment on, nothing gets in or out, and the tasks are cancelled.

        What they still send while they unwind goes nowhere; if they are shielded and wait, they get the
        errors that one gets from a silent network, at their times. Peers are not told: they see silence, and
        resets once the host was restarted. A crashed host crashes no further. This does not wait for the
        tasks, so a rule may call it, too.
        """
        if not self.stack.alive:
            return
        self._log("crash")
        stack = self.stack
        stack.alive = False
        self._paused = False
        self._put_off.clear()
        scopes, self._scopes = self._scopes, {}
        for scope in scopes:
            scope.cancel()
        for sock in stack.sockets:
            for waiter in sock.waiters():
                # Tasks of the host are being cancelled, shielded ones wait in vain, as they would for a
                # dead peer. The others only entered the host.
                if waiter.task is not None and not lives_on(waiter.task, stack):
                    waiter.close()

    def restart(self) -> None:
        """Turn the host on again, with an empty network stack; if it runs, it crashes first.

        Who wants tasks to run there again starts them. Packets of connections from before are answered with
        resets.
        """
        self.crash()
        self._log("restart")
        self.stack = Stack(self, self._fabric)

    def pause(self) -> None:
        """Let the host stand still: packets to and from it wait, and so do its timers.

        Those of its peers go on. Its tasks are not stopped from computing, nor from reading what had come,
        but what they send stays where it is.
        """
        if self.stack.alive and not self._paused:
            self._log("pause")
            self._paused = True

    def resume(self) -> None:
        """Let the host go on: everything that waited happens now, in order."""
        if self._paused:
            self._log("resume")
            self._paused = False
            put_off, self._put_off = self._put_off, []
            now = trio.current_time()
            for function, argument in put_off:
                if function == self.stack.send:
                    function(argument)  # now, as what follows may be sent at this instant
                else:
                    self._fabric.call_at(now, function, argument)

    def put_off(self, function: Callable[[Any], object], argument: Any) -> None:
        """Have the fabric call a function when the host is resumed."""
        self._put_off.append((function, argument))

    def _log(self, what: str) -> None:
        self._fabric.trace.record(trio.current_time(), f"{what} of {self.name}", None)


def _check_function(async_fn: object) -> None:
    """Complain where the mistake is made: in the task that is to be started nobody could tell where that was.

    Raises:
        TypeError: if it is no function.
    """
    if inspect.iscoroutine(async_fn):
        async_fn.close()  # so that Python does not complain about it, too
    if not callable(async_fn):
        raise TypeError(
            "a host starts an async function with its arguments, as in host.start_soon(fn, 1), but it got "
            f"{async_fn!r}"
        )
