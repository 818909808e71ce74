"""What of an object can be called from outside, and how it is described."""

from __future__ import annotations

import copy
import functools
import http
from typing import Any

import pytest
import trio

import trionet
from trionet.rpc.methods import describe, format_signature, public_methods, read_description
from trionet.testing import open_memory_rpc_client


class Unreadable:
    """A descriptor that cannot be read."""

    def __get__(self, instance: object, owner: type) -> Any:
        raise RuntimeError("not now")


class Target:
    """Documentation."""

    constant = 5
    unreadable = Unreadable()
    builtin = min

    def __init__(self) -> None:
        self.added = lambda value: value
        self.partial = functools.partial(int, base=2)
        self.data = [1]

    @property
    def reading(self) -> float:
        pytest.fail("this would talk to the instrument")

    @functools.cached_property
    def cached(self) -> float:
        pytest.fail("this would talk to the instrument")

    @staticmethod
    def static(value: int) -> int:
        return value

    @classmethod
    def class_method(cls) -> str:
        return cls.__name__

    async def coroutine(self, a: float, *, b: trio.Event | None = None) -> None:
        """Of a coroutine."""

    def _private(self) -> None: ...


def test_public_methods() -> None:
    names = list(public_methods(Target()))
    assert names == ["added", "builtin", "class_method", "coroutine", "partial", "static"]


async def test_a_description_that_cannot_be_sent_as_it_is() -> None:
    class Mute:
        def __repr__(self) -> str:
            raise RuntimeError("no text")

    class Odd:
        def method(self, a: int, b: int, c: object) -> None: ...

    Odd.method.__annotations__ = {"a": Mute()}
    Odd.method.__defaults__ = (http.HTTPStatus.OK, Mute())
    shown = {1: "(a: <Mute>, b='<HTTPStatus.OK: 200>', c='<Mute>')", 2: "(a: <Mute>, b=200, c='<Mute>')"}
    for version, signature in shown.items():
        async with open_memory_rpc_client({"it": Odd()}, pyon_version=version) as client:
            assert client.pyon_version == version
            described = await client.describe()
            assert described.methods["method"].signature == signature


def test_methods_in_slots() -> None:
    class Slots:
        __slots__ = ("data", "method", "unset")

    target: Any = Slots()
    target.method, target.data = min, 1
    assert public_methods(target) == {"method": min}


def test_description() -> None:
    target = Target()
    described = read_description(describe(target, public_methods(target), allow_terminate=True))
    assert described.docstring == "Documentation."
    assert {name: method.signature for name, method in described.methods.items()} == {
        "added": "(value)",
        "builtin": "(*args, **kwargs)",
        "class_method": "() -> str",
        "coroutine": "(a: float, *, b: trio.Event | None = None) -> None",
        "partial": described.methods["partial"].signature,
        "static": "(value: int) -> int",
        "terminate": "()",
    }
    assert described.methods["coroutine"].docstring == "Of a coroutine."


@pytest.mark.parametrize(
    ("spec", "signature"),
    [
        ({"args": ["self"]}, "()"),
        ({"args": ["this", "a"]}, "(this, a)"),
        ({"args": ["self", "a", "b"], "defaults": (1,)}, "(a, b=1)"),
        ({"args": ["self", "a"], "defaults": ("x",), "annotations": {"a": "str"}}, "(a: str = 'x')"),
        ({"args": ["self"], "defaults": None, "varargs": "more", "varkw": "rest"}, "(*more, **rest)"),
        ({"args": ["self"], "kwonlyargs": ["k", "l"], "kwonlydefaults": {"l": 2}}, "(*, k, l=2)"),
        ({"args": [], "varargs": "v", "kwonlyargs": ["k"]}, "(*v, k)"),
        ({"args": ["self"], "annotations": "{'return': int}"}, "()"),  # of sipyco before 1.8
        ({"args": ["self"], "annotations": {"return": "int"}}, "() -> int"),
        ({"args": ["self"], "defaults": [5]}, "()"),
    ],
)
def test_signatures(spec: dict[str, Any], signature: str) -> None:
    assert format_signature(spec) == signature


@pytest.mark.parametrize(
    "received",
    [None, [], {}, {"methods": 1}, {"methods": {"f": 1}, "docstring": None}, {"methods": {"f": ({}, None)}}],
)
def test_descriptions_that_are_none(received: Any) -> None:
    with pytest.raises(ValueError, match="not a description"):
        read_description(received)


async def test_a_proxy_can_be_served_again() -> None:
    """A gateway: what a server behind it offers, it offers, too."""
    async with open_memory_rpc_client({"it": Target()}) as behind:
        async with open_memory_rpc_client({"gateway": behind.proxy}) as client:
            assert client.methods == behind.methods
            assert await client.call("static", 3) == 3
            with pytest.raises(TypeError):
                await client.call("static")


async def test_a_proxy_can_be_copied() -> None:
    async with open_memory_rpc_client({"it": Target()}) as client:
        assert await copy.copy(client.proxy).static(3) == 3


async def test_a_coroutine_whose_turn_never_comes(recwarn: pytest.WarningsRecorder) -> None:
    """A sync method may return one; if the client is lost before it is awaited, it is closed."""

    async def work() -> None:
        pytest.fail("the client is gone")

    class Later:
        def first(self) -> str:
            return "unsent"

        def later(self) -> Any:
            made.append(work())
            return made[-1]

    made: list[Any] = []
    client_end, server_end = trio.testing.memory_stream_pair()
    await client_end.send_all(b"ARTIQ pc_rpc\nit\n")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: trionet.handle_rpc_stream(server_end, {"it": Later()}))
        await trio.testing.wait_all_tasks_blocked()

        async def fail() -> None:
            raise trio.BrokenResourceError("the client is gone")

        assert isinstance(server_end, trio.StapledStream)
        server_end.send_stream.send_all_hook = fail
        requests = (
            b'{"action": "call", "name": "%s", "args": (), "kwargs": {}}\n' % name
            for name in (b"first", b"later")
        )
        await client_end.send_all(b"".join(requests))
    assert made[0].cr_frame is None  # closed
    assert not recwarn.list
