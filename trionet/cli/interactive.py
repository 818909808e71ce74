"""``trionet rpc ... interactive``: calls typed at a prompt.

The prompt waits in a thread. The connection is a task of its own, so it is noticed when it is lost, and it
is opened again for the next command.
"""

from __future__ import annotations

import math
import signal
import sys
import threading
from collections.abc import Awaitable, Callable
from typing import Any, Final

import trio

from trionet import ConnectionLost, RpcClient, TargetDescription
from trionet.cli.arguments import ArgumentError, parse_call
from trionet.cli.output import (
    EXPECTED_ERRORS,
    CommandError,
    error_text,
    method_text,
    methods_text,
    printable,
    remote_call,
    result_json,
    result_text,
    traceback_text,
)
from trionet.cli.prompt import Prompt, open_prompt
from trionet.cli.rpc import Connection

_COMMANDS: Final = {
    "help": "what can be typed; help METHOD: its documentation",
    "methods": "the documentation of all methods",
    "quit": "leave; so does the end of input",
}

_HELP: Final = """\
METHOD(VALUE, NAME=VALUE)  call a method; also METHOD VALUE NAME=VALUE
help METHOD                show its documentation
methods                    show the documentation of all methods
quit                       leave; so does the end of input (Ctrl-D)

Values are Python literals, PYON, or numpy constructors such as np.linspace(0, 1, 100). Tab completes the
names of methods; the arrows find earlier lines. Ctrl-C cancels a line, or the wait for a call."""


def run_shell(connection: Connection, as_json: bool) -> int:
    """Read and execute lines until there are no more.

    Returns:
        The exit status. Without a person at the keyboard, it is 1 if one of the lines failed.

    Raises:
        CommandError: if the first connection cannot be made.
    """
    shell = Shell(connection, as_json)
    at_terminal = sys.stdin.isatty()
    trio.run(shell.run, open_prompt(shell.names), at_terminal)
    return 0 if at_terminal else int(shell.failed)


class Shell:
    """A prompt for one target.

    Attributes:
        failed: Whether one of the lines has failed.
    """

    def __init__(self, connection: Connection, as_json: bool = False) -> None:
        self.failed = False
        self._connection = connection
        self._result_text = result_json if as_json else result_text
        self._client: RpcClient | None = None
        self._description = TargetDescription(None, {})
        self._current: trio.CancelScope | None = None  # of what Ctrl-C cancels

    def names(self) -> dict[str, str]:
        """What can be typed first, with explanations; also called from the thread of the prompt."""
        signatures = {name: method.signature for name, method in self._description.methods.items()}
        return {**signatures, **_COMMANDS}

    async def run(self, prompt: Prompt, at_terminal: bool) -> None:
        """Read and execute lines until there are no more.

        Raises:
            CommandError: if the first connection cannot be made.
        """
        failure: BaseException | None = None
        async with trio.open_nursery() as nursery:
            if at_terminal and threading.current_thread() is threading.main_thread():
                await nursery.start(self._cancel_on_interrupt)
            try:
                if not await self._interruptible(lambda: self._connect(nursery)):
                    raise KeyboardInterrupt
                await self._read_and_execute(prompt, at_terminal, nursery)
            except (Exception, KeyboardInterrupt) as error:
                failure = error
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure  # out here, so that it is in no group

    async def _read_and_execute(self, prompt: Prompt, at_terminal: bool, nursery: trio.Nursery) -> None:
        if at_terminal:
            print(self._greeting())
        while (line := await prompt.read(f"{self._target_name()}> ")) is not None:
            if line.strip() in ("quit", "exit"):
                return
            await self._execute(line.strip(), nursery)
            sys.stdout.flush()

    def _target_name(self) -> str:
        return str(self._client.target) if self._client is not None else "not connected"

    def _greeting(self) -> str:
        assert self._client is not None
        count = len(self._description.methods)
        return f"Target {self._client.target!r} at {self._client.peer}: {count} methods. Type help for help."

    async def _cancel_on_interrupt(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        with trio.open_signal_receiver(signal.SIGINT) as signals:
            task_status.started()
            async for _ in signals:
                if self._current is not None:
                    self._current.cancel()
                else:
                    print(f"\n{self._target_name()}> ", end="", flush=True)

    # -- lines ---------------------------------------------------------------------------------------

    async def _execute(self, line: str, nursery: trio.Nursery) -> None:
        """Execute one line. Whatever goes wrong is said, and the next line can be read."""
        try:
            if line == "help":
                print(_HELP)
            elif line:
                await self._interruptible(lambda: self._execute_connected(line, nursery))
        except (ArgumentError, CommandError) as error:
            self._say(f"error: {error}")

    async def _interruptible(self, work: Callable[[], Awaitable[None]]) -> bool:
        """Do it within the time for a command, and until Ctrl-C. Returns whether it was done."""
        timeout = self._connection.timeout
        deadline = math.inf if timeout is None else trio.current_time() + timeout
        with trio.CancelScope(deadline=deadline) as self._current:
            try:
                await work()
            finally:
                self._current = None
            return True
        if trio.current_time() >= deadline:
            raise CommandError(f"no answer within {timeout:g} s")
        self._say("\ncancelled; the server finishes the call all the same, and then answers the next ones")
        return False

    async def _execute_connected(self, line: str, nursery: trio.Nursery) -> None:
        words = line.split()
        call = None if words == ["methods"] or words[0] == "help" else parse_call(line)
        if self._client is None or self._client.disconnect_reason is not None:
            await self._reconnect(nursery)
        if call is not None:
            await self._call(call.method, call.args, call.kwargs)
        elif words == ["methods"]:
            print(methods_text(self._description))
        else:
            self._help(words[1:])

    def _help(self, names: list[str]) -> None:
        for name in names:
            method = self._description.methods.get(name)
            if method is None:
                raise CommandError(f"no method {name!r}; methods lists them all")
            print(method_text(name, method))

    async def _call(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        assert self._client is not None
        try:
            result = await self._client.call(method, *args, **kwargs)
        except Exception as error:
            place = remote_call(error)
            if place is not None:
                self._say("\n".join((traceback_text(place.remote_traceback), error_text(error))))
            elif isinstance(error, ConnectionLost):
                self._say(f"error: {error_text(error)}; the next command connects again")
            elif isinstance(error, EXPECTED_ERRORS):
                self._say(f"error: {error_text(error)}")
            else:
                raise
        else:
            if result is not None:
                print(self._result_text(result))

    def _say(self, text: str) -> None:
        self.failed = True
        print(printable(text), file=sys.stderr, flush=True)

    # -- connection ----------------------------------------------------------------------------------

    async def _reconnect(self, nursery: trio.Nursery) -> None:
        lost, self._client = self._client, None
        if lost is not None:
            print(f"The connection was lost ({lost.disconnect_reason}). Connecting again.", file=sys.stderr)
        await self._connect(nursery)

    async def _connect(self, nursery: trio.Nursery) -> None:
        client: RpcClient = await nursery.start(self._stay_connected)
        try:
            self._description = await client.describe()
        except EXPECTED_ERRORS as error:
            raise CommandError(f"the server does not describe its methods: {error_text(error)}") from error
        self._client = client

    async def _stay_connected(self, *, task_status: trio.TaskStatus[RpcClient]) -> None:
        async with self._connection.open() as client:
            task_status.started(client)
            await client.wait_disconnected()
