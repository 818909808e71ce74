"""iblutil, driven from outside: ``python -m tests.interop.iblutil_peer``.

Reads commands from standard input and writes to standard output, a line of JSON each. A command has a number
and the name of one of the methods of `Program`; the answer has the same number::

    {"id": 1, "do": "serve", "scheme": "udp"}
    {"id": 1, "result": {"name": "rig 1", "uri": "udp://127.0.0.1:40001"}}
    {"id": 2, "do": "call", "name": "rig 1", "method": "init", "args": []}
    {"id": 2, "error": "TypeError: confirmed_send missing 1 required argument: 'addr'"}

Messages that come are told without being asked for::

    {"at": "rig 1", "message": [1, null], "address": ["127.0.0.1", 40002]}

iblutil is a black box here: only what its documentation names is used.
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Final, TextIO

# Commands and answers have the standard output for themselves; whatever is printed goes with the log.
_OUTPUT: Final[TextIO] = sys.stdout
sys.stdout = sys.stderr

#: Long enough for a computer with other things to do. Tests that wait for an end of it set a shorter one.
ECHO_TIMEOUT: Final = 30.0

#: What is written, instead of an answer, if iblutil cannot be imported.
MISSING: Final = "missing"


def say(**values: Any) -> None:
    _OUTPUT.write(json.dumps(values) + "\n")
    _OUTPUT.flush()


def free_port(kind: socket.SocketKind) -> int:
    """A port that was free a moment ago: iblutil does not take 0."""
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class Program:
    """The commands. Each is a method; what it returns is the answer."""

    def __init__(self, net: Any) -> None:
        self._net = net
        self._opened: dict[str, Any] = {}
        self._count = 0
        self._tasks: set[asyncio.Future[Any]] = set()

    async def serve(self, scheme: str, port: int | None = None) -> dict[str, str]:
        """Be a rig, at a port that is free or at the given one."""
        kind = socket.SOCK_DGRAM if scheme == "udp" else socket.SOCK_STREAM
        while True:
            uri = f"{scheme}://127.0.0.1:{port or free_port(kind)}"
            try:
                return await self._open(self._net.app.EchoProtocol.server, uri)
            except OSError:  # another program was faster
                if port is not None:
                    raise

    async def connect(self, uri: str) -> dict[str, str]:
        """Talk to a rig."""
        return await self._open(self._net.app.EchoProtocol.client, uri)

    async def _open(self, factory: Callable[..., Any], uri: str) -> dict[str, str]:
        self._count += 1
        name = f"rig {self._count}"
        communicator = await factory(uri, name=name, log=logging.getLogger(name))
        communicator.default_echo_timeout = ECHO_TIMEOUT
        self._opened[name] = communicator
        for event in (0, *self._net.base.ExpMessage.__members__.values()):
            communicator.assign_callback(event, self._teller(name, int(event)))
        return {"name": name, "uri": uri}

    def _teller(self, name: str, event: int) -> Callable[[list[Any], Any], None]:
        def tell(data: list[Any], address: Any) -> None:
            say(at=name, message=[event, *data], address=address)

        return tell

    async def services(self, names: list[str]) -> dict[str, str]:
        """Make one of several communicators."""
        self._count += 1
        name = f"services {self._count}"
        rigs = [self._opened[rig] for rig in names]
        self._opened[name] = self._net.app.Services(rigs, timeout=ECHO_TIMEOUT)
        return {"name": name, "uri": ""}

    async def call(self, name: str, method: str, args: list[Any], **keywords: Any) -> Any:
        """Call a method of a communicator, or of services."""
        if "addr" in keywords:
            keywords["addr"] = tuple(keywords["addr"])
        if method == "alyx":
            args = [client and SimpleNamespace(**client) for client in args]
        return await getattr(self._opened[name], method)(*args, **keywords)

    async def send(self, name: str, message: Any, addr: list[Any] | None = None) -> None:
        """Send without waiting for the echo; text as it is."""
        communicator = self._opened[name]
        communicator.send(communicator.encode(message), addr and tuple(addr))

    async def is_connected(self, name: str) -> bool:
        return bool(self._opened[name].is_connected)

    async def answer(self, name: str, event: int, data: list[Any]) -> None:
        """Answer each message of an event, in a task of its own."""

        def respond(received: list[Any], address: Any) -> None:
            self._start(communicator.confirmed_send([event, *data], addr=address))

        communicator = self._opened[name]
        communicator.assign_callback(event, respond)

    async def answer_at_once(self, name: str, event: int, messages: list[Any]) -> None:
        """Answer each message of an event with several, right behind its echo; its data is added to each.

        Unconfirmed: so the echoes of the answers are messages to it, and are echoed.
        """

        def respond(received: list[Any], address: Any) -> None:
            for message in messages:
                communicator.send(communicator.encode([*message, *received]), address)

        communicator = self._opened[name]
        communicator.assign_callback(event, respond)

    async def give_token(self, name: str, client: dict[str, Any]) -> None:
        """Answer each request for a token of Alyx."""

        def respond(received: list[Any], address: Any) -> None:
            self._start(communicator.alyx(SimpleNamespace(**client), addr=address))

        communicator = self._opened[name]
        communicator.assign_callback(self._net.base.ExpMessage.ALYX, respond)

    async def fail(self, name: str, event: int, text: str) -> None:
        """Have a callback of an event fail."""

        def respond(received: list[Any], address: Any) -> None:
            raise ValueError(text)

        self._opened[name].assign_callback(event, respond)

    async def close(self, name: str) -> None:
        communicator = self._opened.pop(name)
        communicator.close()
        if getattr(communicator, "Server", None) is not None:
            communicator.Server.close()

    async def reset(self) -> None:
        """Close everything."""
        for name in list(self._opened):
            await self.close(name)

    def _start(self, coroutine: Any) -> None:
        task = asyncio.ensure_future(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def run(self) -> None:
        """Execute commands, at the same time if they come so, until there are no more."""
        while line := await asyncio.to_thread(sys.stdin.readline):
            command = json.loads(line)
            if command["do"] == "pause":
                # Nothing is received until the next command comes, and nothing before it is executed.
                say(id=command["id"], result=None)
                command = json.loads(sys.stdin.readline())
            self._start(self._execute(command.pop("id"), command.pop("do"), command))

    async def _execute(self, number: int, name: str, arguments: dict[str, Any]) -> None:
        try:
            result = await getattr(self, name)(**arguments)
        except (Exception, asyncio.CancelledError) as error:
            say(id=number, error=f"{type(error).__name__}: {error}")
        else:
            say(id=number, result=result)


def main() -> None:
    logging.basicConfig(level=logging.DEBUG, stream=sys.stderr)
    try:
        from iblutil.io import net
    except ModuleNotFoundError as error:
        say(**{MISSING: str(error)})
        return
    asyncio.run(Program(net).run())


if __name__ == "__main__":
    main()
