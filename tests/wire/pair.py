"""Cores without a network between them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from trionet.wire.rpc import ClientConnection, ClientEvent, ServerConnection, ServerEvent, State

METHODS = ("add", "echo")
GREETING = b'{"targets":["echo"],"description":null,"features":["pyon_v2"]}\n'
OLD_GREETING = b'{"targets": ["echo"], "description": null}\n'


def server_in(state: State, version: int = 2, max_message_size: int = 10_000) -> ServerConnection:
    """A server that is in this state."""
    server = ServerConnection(["echo"], max_message_size=max_message_size)
    target = b"echo pyon_v2\n" if version == 2 else b"echo\n"
    request = b'{"action":"call","name":"echo","args":[],"kwargs":{}}\n'
    steps: list[tuple[State, Callable[[], object]]] = [
        (State.WAIT_BANNER, lambda: feed(server, b"ARTIQ pc_rpc\n")),
        (State.SEND_GREETING, server.greet),
        (State.WAIT_TARGET, lambda: feed(server, target)),
        (State.SEND_METHODS, lambda: server.send_methods(METHODS)),
        (State.WAIT_REQUEST, lambda: feed(server, request)),
        (State.SEND_REPLY, server.close),
    ]
    for reached, step in steps:
        if reached is state:
            break
        step()
    assert server.state is state
    return server


def client_in(state: State, version: int = 2, max_message_size: int = 10_000) -> ClientConnection:
    """A client that is in this state."""
    client = ClientConnection(max_message_size)
    methods = b'{"__jsonclass__":["set",[["add","echo"]]]}\n' if version == 2 else b'{"add", "echo"}\n'
    steps: list[tuple[State, Callable[[], object]]] = [
        (State.SEND_BANNER, client.greet),
        (State.WAIT_GREETING, lambda: feed(client, GREETING if version == 2 else OLD_GREETING)),
        (State.SEND_TARGET, lambda: client.select_target("echo")),
        (State.WAIT_METHODS, lambda: feed(client, methods)),
        (State.READY, client.close),
    ]
    for reached, step in steps:
        if reached is state:
            break
        step()
    assert client.state is state
    return client


def feed(core: Any, data: bytes) -> Any:
    """Give bytes to a core and return the one event they make."""
    core.receive_data(data)
    event = core.next_event()
    assert event is not None
    return event


class RpcPair:
    """A client and a server that have shaken hands; bytes go over in pieces of `piece` bytes."""

    def __init__(self, version: int = 2, piece: int | None = None) -> None:
        self.client = client_in(State.READY, version)
        self.server = server_in(State.WAIT_REQUEST, version)
        self._piece = piece

    def to_server(self, data: bytes) -> ServerEvent:
        """Carry a line over; no event may come before its end."""
        event: ServerEvent = self._carry(self.server, data)
        return event

    def to_client(self, data: bytes) -> ClientEvent:
        """The same, the other way."""
        event: ClientEvent = self._carry(self.client, data)
        return event

    def _carry(self, core: Any, data: bytes) -> Any:
        for piece in cut(data, self._piece or len(data)):
            assert core.next_event() is None
            core.receive_data(piece)
        event = core.next_event()
        assert core.next_event() is None
        return event


def cut(data: bytes, length: int) -> Sequence[bytes]:
    """The data in pieces of this length."""
    return [data[start : start + length] for start in range(0, len(data), length)]
