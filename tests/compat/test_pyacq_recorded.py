"""Sessions that were recorded between pyacq's peers, with `RPCServer` or `RPCClient` in the place of each.

What the bytes mean is for `tests.front.test_object_transcripts`; this is about what programs see of it. The
address of the server is not that of the recording: it is replaced.
"""

from __future__ import annotations

import base64
import datetime
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import trio

from tests.compat.pyacq_things import running_server
from tests.front.test_object_transcripts import (
    ARRAYS,
    OURS,
    Thing,
    address_in,
    recorded,
    server_object,
)
from trionet._transport import open_transport
from trionet._zmtp import open_zmtp
from trionet._zmtp_endpoints import connect_endpoint, parse_endpoint
from trionet.wire.object_values import SERIALIZERS, TYPE_KEY
from trionet.wire.objects import decode_request
from trionet.wire.zmtp import SocketType
from trionet_compat.portal import Portal
from trionet_compat.pyacq.core.rpc import RemoteCallException, RPCClient

SERIALIZER = pytest.mark.parametrize("serializer", ["msgpack", "json"])


class Recorded:
    """A session, with another address of the server."""

    def __init__(self, serializer: str, address: str) -> None:
        self.codec = SERIALIZERS[serializer]()
        self._messages = recorded(serializer)
        old, new = address_in(self._messages, serializer).encode(), address.encode()
        # As text, as bytes, and as bytes in JSON.
        self._addresses: dict[Any, Any] = {old.decode(): address, old: new}
        self._addresses[base64.b64encode(old).decode()] = base64.b64encode(new).decode()

    @property
    def requests(self) -> list[list[bytes]]:
        """The frames of each request, in order."""
        return [
            [*frames[:4], self._moved(frames[4])] for sender, frames in self._messages if sender == "client"
        ]

    @property
    def replies(self) -> dict[int, Any]:
        """What was replied, parsed, by the numbers of the requests."""
        replies = (
            self.codec.parse(self._moved(frames[0]))
            for sender, frames in self._messages
            if sender == "server"
        )
        return {reply["req_id"]: reply for reply in replies if reply["action"] == "return"}

    def _moved(self, data: bytes) -> bytes:
        return self.codec._write(self._replaced(self.codec.parse(data))) if data else data

    def _replaced(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: self._replaced(one) for key, one in value.items()}
        if isinstance(value, list):
            return [self._replaced(one) for one in value]
        return self._addresses.get(value, value) if isinstance(value, (str, bytes)) else value


@SERIALIZER
def test_a_server(serializer: str) -> None:
    with running_server(thing=Thing(), Thing=Thing, value=42) as server:
        address = server.address.decode()
        server["self"] = server_object(address)
        session = Recorded(serializer, address)

        async def ask() -> int:
            compared = 0
            transport = await connect_endpoint(parse_endpoint(address))
            async with open_zmtp(transport, SocketType.DEALER, identity=b"recorded") as zmtp:
                for frames in session.requests:
                    zmtp.post(frames)
                    number = decode_request(frames).number
                    if number < 0:
                        continue
                    (answer,) = await zmtp.receive()
                    if number in OURS[serializer]:
                        continue
                    ours, theirs = session.codec.parse(answer), session.replies[number]
                    if theirs["error"] is None:
                        assert ours == theirs
                    else:
                        assert ours["error"][0] == theirs["error"][0]
                    compared += 1
            return compared

        assert trio.run(ask) >= 80


#: What a program did, by the number of the request. It has the client and the proxy to the object.
STEPS: list[tuple[int, Callable[[RPCClient, Any], Any]]] = [
    (2, lambda c, t: c["value"]),
    (3, lambda c, t: c["missing"]),
    (4, lambda c, t: c["thing"]),
    (6, lambda c, t: t.add(7, 5)),
    (7, lambda c, t: t.add(7, y=5)),
    (8, lambda c, t: t.kw((1, 2), [3], a=None, b={"c": 1.5})),
    (9, lambda c, t: t.none()),
    (10, lambda c, t: t.fail()),
    (12, lambda c, t: t.no_such_attribute()),
    (27, lambda c, t: t.scalar("tuple")),
    (30, lambda c, t: t.scalar("self")),
    (31, lambda c, t: t.scalar("list_of_self")),
    (33, lambda c, t: t.array("i8")),
    (39, lambda c, t: t.array("struct")),
    (43, lambda c, t: t.describe(np.arange(4))),
    (44, lambda c, t: t.describe(ARRAYS["f4F"])),
    (48, lambda c, t: t.describe(ARRAYS["struct"])),
    (50, lambda c, t: t.type(np.float32(0.5))),
    (55, lambda c, t: t.type(b"xyz")),
    (58, lambda c, t: t.type(datetime.datetime(2015, 1, 2, 3, 4, 5, 678))),
    (62, lambda c, t: t.type(t)),
    (65, lambda c, t: t.name._get_value()),
    (66, lambda c, t: t.items._undefer()),
    (67, lambda c, t: t.items._undefer(return_type="proxy")),
    (69, lambda c, t: t.scalar("tuple", _return_type="proxy")),
    (71, lambda c, t: t.add(3, 4, _sync="async").result()),
    (73, lambda c, t: c._import("os.path")),
    (77, lambda c, t: c.transfer(np.ones(3, "f4"))),
    (81, lambda c, t: c.__setitem__("arr", np.arange(3))),
    (88, lambda c, t: c.send("nope")),
    (91, lambda c, t: c.close_server()),
]


class FakeServer:
    """Answers whatever comes as the next one of the requests was."""

    def __init__(self, serializer: str) -> None:
        self._serializer = serializer
        self._numbers = iter([0, *(number for number, _ in STEPS)])
        self.asked: list[list[bytes]] = []
        self.session: Recorded

    async def serve(self, task_status: trio.TaskStatus[str]) -> None:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        address = f"tcp://127.0.0.1:{listener.socket.getsockname()[1]}"
        self.session = Recorded(self._serializer, address)
        async with listener:
            task_status.started(address)
            stream = await listener.accept()
        async with open_zmtp(open_transport(stream), SocketType.ROUTER) as zmtp:
            async for frames in zmtp:
                self.asked.append([bytes(frame) for frame in frames])
                reply = self.session.replies[next(self._numbers)]
                zmtp.post([self.session.codec._write({**reply, "req_id": int(frames[0])})])


def outcome(step: Callable[[RPCClient, Any], Any], client: RPCClient, thing: Any) -> Any:
    try:
        return step(client, thing)
    except RemoteCallException as error:
        return error


@SERIALIZER
def test_a_client(serializer: str, own_portal: Portal) -> None:
    server = FakeServer(serializer)
    address: str = own_portal.start(server.serve)
    client = RPCClient(address.encode(), serializer=serializer)
    thing = None
    for number, step in STEPS:
        result = outcome(step, client, thing)
        reply = server.session.replies[number]
        if reply["error"] is not None:
            assert (result.type_str, result.tb_str) == (reply["error"][0], reply["error"][1])
        elif TYPE_KEY not in repr(reply["rval"]):
            assert result == reply["rval"]
        if number == 4:
            thing = result
    requests = {int(frames[0]): frames for frames in server.session.requests}
    for frames, number in zip(server.asked, [0, *(number for number, _ in STEPS)], strict=True):
        assert frames[1:] == requests[number][1:]
    client.close()
