"""Sessions that were recorded between pyacq peers, with one of ours in the place of each."""

from __future__ import annotations

import base64
import datetime
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trio
import trio.testing

import trionet
from trionet._transport import open_transport
from trionet._zmtp import open_zmtp
from trionet.wire.object_values import SERIALIZERS
from trionet.wire.objects import ObjectReply, decode_from_server, decode_request
from trionet.wire.zmtp import SocketType

FOLDER = Path(__file__).parent.parent / "data" / "transcripts"
ARRAYS: dict[str, Any] = {
    "i8": np.arange(4),
    "f4F": np.asfortranarray(np.arange(6, dtype="f4").reshape(2, 3)),
    "0d": np.array(2.5),
    "empty": np.zeros((0, 3)),
    "be": np.array([1, 2], ">i4"),
    "bool": np.array([True, False]),
    "struct": np.array([(1, 2.5)], [("a", "<i4"), ("b", "<f8")]),
    "date": np.array(["2024-01-01"], "M8[D]"),
    "str": np.array(["ab", "c"]),
    "big": np.arange(1000.0),
}
SCALARS: dict[str, Any] = {
    "f8": np.float64(0.5),
    "f4": np.float32(0.5),
    "i8": np.int64(5),
    "i4": np.int32(5),
    "u1": np.uint8(5),
    "b": np.bool_(True),
    "bool": True,
    "inf": float("inf"),
    "complex": 1 + 2j,
    "bytes": b"xyz",
    "set": {1},
    "big": 2**70,
    "datetime": datetime.datetime(2015, 1, 2),
    "date": datetime.date(2015, 1, 2),
    "tuple": (1, (2,)),
    "nested": {"a": [None, {"b": np.arange(2)}], "c": (1.5, b"x")},
    "intkeys": {1: 2},
    "lambda": len,
}


class Thing:
    """As the recorded server had it."""

    __module__ = "__main__"

    def __init__(self, name: str = "thing") -> None:
        self.name = name
        self.items = [1, 2, 3]

    def add(self, x: Any, y: Any = 1) -> Any:
        return x + y

    def kw(self, *args: Any, **kwargs: Any) -> Any:
        return args, kwargs

    def none(self) -> None:
        pass

    def fail(self) -> None:
        raise ValueError("remote failure ⚛")

    def scalar(self, kind: str) -> Any:
        return {"self": self, "list_of_self": [self, self]}.get(kind) or SCALARS[kind]

    def array(self, kind: str) -> Any:
        return ARRAYS[kind]

    def describe(self, array: Any) -> Any:
        return [str(array.dtype), array.shape, bool(array.flags.writeable), bool(array.flags.c_contiguous)]

    def type(self, value: Any) -> str:
        return type(value).__name__

    def peer(self, other: Thing) -> Any:
        return [self.name, other.name]


def server_object(address: str) -> Any:
    kind = type("RPCServer", (), {"__module__": "pyacq.core.rpc.server"})
    found: Any = kind()
    found.address = address.encode()
    return found


# Requests that upstream cannot read, or answer, and ours can; and one that asks for a process id.
OURS = {"msgpack": {60, 72, 76}, "json": {40, 48, 72, 76}}


def recorded(serializer: str) -> list[tuple[str, list[bytes]]]:
    content = json.loads((FOLDER / f"pyacq_{serializer}_session.json").read_text())
    return [
        (message["from"], [base64.b64decode(frame["body_b64"]) for frame in message["frames"]])
        for message in content["messages"]
        if message.get("zmtp") == "message"
    ]


def address_in(messages: list[tuple[str, list[bytes]]], serializer: str) -> str:
    for sender, frames in messages:
        if sender == "server":
            value = SERIALIZERS[serializer]().parse(frames[0])["rval"]
            if isinstance(value, dict) and "rpc_addr" in value:
                return str(value["rpc_addr"])
    raise AssertionError("no proxy was recorded")


@pytest.mark.parametrize("serializer", ["msgpack", "json"])
async def test_our_server_answers_as_the_recorded_one(serializer: str) -> None:
    messages = recorded(serializer)
    address = address_in(messages, serializer)
    codec = SERIALIZERS[serializer]()
    replies = {}
    for sender, frames in messages:
        if sender == "server":
            replies[codec.parse(frames[0])["req_id"]] = frames[0]
    namespace = {"thing": Thing(), "Thing": Thing, "value": 42, "self": server_object(address)}
    ours, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(
            lambda: trionet.handle_object_stream(theirs, namespace, address, unrestricted=True)
        )
        compared = 0
        async with open_zmtp(open_transport(ours), SocketType.DEALER, identity=b"recorded") as zmtp:
            for sender, frames in messages:
                if sender == "server":
                    continue
                zmtp.post(frames)
                number = decode_request(frames).number
                if number < 0:
                    continue
                (answer,) = await zmtp.receive()
                if number in OURS[serializer]:
                    continue
                expected = decode_from_server(codec, [replies[number]])
                assert isinstance(expected, ObjectReply)
                if expected.failure is None:
                    assert bytes(answer) == replies[number]
                else:
                    got = decode_from_server(codec, [answer])
                    assert isinstance(got, ObjectReply)
                    assert got.failure is not None
                    assert got.failure.class_name == expected.failure.class_name
                compared += 1
        assert compared >= 80


Step = tuple[int, Callable[[trionet.ObjectClient, Any], Awaitable[Any]]]
STEPS: list[Step] = [
    (2, lambda c, t: c.get("value")),
    (4, lambda c, t: c.get("thing")),
    (6, lambda c, t: t.add(7, 5)),
    (7, lambda c, t: t.add(7, y=5)),
    (8, lambda c, t: t.kw((1, 2), [3], a=None, b={"c": 1.5})),
    (9, lambda c, t: t.none()),
    (43, lambda c, t: t.describe(np.arange(4))),
    (44, lambda c, t: t.describe(ARRAYS["f4F"])),
    (45, lambda c, t: t.describe(ARRAYS["0d"])),
    (47, lambda c, t: t.describe(ARRAYS["be"])),
    (50, lambda c, t: t.type(np.float32(0.5))),
    (51, lambda c, t: t.type(np.int32(5))),
    (55, lambda c, t: t.type(b"xyz")),
    (56, lambda c, t: t.type("⚛")),
    (57, lambda c, t: t.type(float("inf"))),
    (58, lambda c, t: t.type(datetime.datetime(2015, 1, 2, 3, 4, 5, 678))),
    (59, lambda c, t: t.type(datetime.date(2015, 1, 2))),
    (62, lambda c, t: t.type(t)),
    (65, lambda c, t: t.name.get().as_value()),
    (66, lambda c, t: getattr(t, "items").get()),  # noqa: B009
    (67, lambda c, t: getattr(t, "items").get().as_proxy()),  # noqa: B009
    (73, lambda c, t: c.import_module("os.path")),
    (77, lambda c, t: c.transfer(np.ones(3, "f4"))),
    (81, lambda c, t: c.set("arr", np.arange(3))),
    (91, lambda c, t: c.close_server()),
]


@pytest.mark.parametrize("serializer", ["msgpack", "json"])
async def test_our_client_asks_as_the_recorded_one(serializer: str) -> None:
    messages = recorded(serializer)
    address = address_in(messages, serializer)
    codec = SERIALIZERS[serializer]()
    requests = {int(frames[0]): frames for sender, frames in messages if sender == "client"}
    replies = {
        codec.parse(frames[0])["req_id"]: frames[0] for sender, frames in messages if sender == "server"
    }
    asked: list[list[bytes]] = []
    numbers = iter([0, *(number for number, _ in STEPS)])
    ours, theirs = trio.testing.memory_stream_pair()

    async def answer() -> None:
        """Whatever comes is answered as the next one of the requests was."""
        async with open_zmtp(open_transport(theirs), SocketType.ROUTER) as zmtp:
            async for frames in zmtp:
                asked.append([bytes(frame) for frame in frames])
                reply = codec.parse(replies[next(numbers)])
                zmtp.post([codec._write({**reply, "req_id": int(frames[0])})])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer)
        async with trionet.wrap_object_stream(ours, address, serializer=serializer) as client:
            thing: Any = None
            kept = []
            for number, step in STEPS:
                kept.append(await step(client, thing))
                if number == 4:
                    thing = kept[-1]
            assert (kept[0], kept[2]) == (42, 12)
            for frames, number in zip(asked, [0, *(number for number, _ in STEPS)], strict=True):
                assert frames[1:] == requests[number][1:]
            nursery.cancel_scope.cancel()
