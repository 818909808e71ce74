"""What servers say about their objects: trionet's, and pyacq's, which have to be asked piece by piece."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest
import trio

import trionet
from tests.front.objects import open_pair
from trionet import IncompatibleServer, ObjectClient, ObjectDescription, RemoteProtocolError
from trionet.objects import _host
from trionet.objects._descriptions import pack_descriptions, read_description, read_descriptions


class Settings:
    """What can be set."""

    __slots__ = ("power", "unset")

    def __init__(self) -> None:
        self.power = 1.5


class Laser:
    """A laser."""

    module = math
    class_power = 3.0

    def __init__(self) -> None:
        self.settings = Settings()
        self.counts = np.zeros(3)
        self._secret = 1
        self.looked_at: list[str] = []

    def set_power(self, milliwatts: float, *, ramp: float = 0.5) -> None:
        """Set the power."""

    async def calibrate(self) -> str:
        return "calibrated"

    @classmethod
    def of(cls, name: str) -> Laser:
        return cls()

    @staticmethod
    def modes() -> int:
        return 2

    @property
    def position(self) -> float:
        """Where it is."""
        self.looked_at.append("position")
        return 0.0

    @functools.cached_property
    def once(self) -> float:
        self.looked_at.append("once")
        return 0.0

    @property
    def head(self) -> float:
        raise ValueError("no head")

    def _hidden(self) -> None: ...


def method(signature: str, docstring: str | None = None) -> ObjectDescription:
    return ObjectDescription("method", docstring, signature)


LASER = ObjectDescription(
    f"{__name__}.Laser",
    "A laser.",
    None,
    {
        "calibrate": method("() -> str"),
        "class_power": ObjectDescription("float"),
        "counts": ObjectDescription("numpy.ndarray"),
        "head": ObjectDescription("property"),
        "looked_at": ObjectDescription("list"),
        "modes": method("() -> int"),
        "of": method("(name: str) -> Laser"),
        "once": ObjectDescription("property"),
        "position": ObjectDescription("property", "Where it is."),
        "set_power": method("(milliwatts: float, *, ramp: float = 0.5) -> None", "Set the power."),
        "settings": ObjectDescription(f"{__name__}.Settings"),
    },
)


async def test_published_objects_are_described_and_nothing_is_computed_for_that() -> None:
    laser = Laser()
    async with open_pair(laser) as (client, _):
        assert await client.published() == {"thing": LASER, "value": ObjectDescription("int")}
    assert laser.looked_at == []


async def test_a_part_of_an_object_is_described() -> None:
    async with open_pair(Laser()) as (client, laser):
        expected = ObjectDescription(
            f"{__name__}.Settings", "What can be set.", None, {"power": ObjectDescription("float")}
        )
        assert await client.describe(laser.settings) == expected
        described = await client.describe(laser.set_power)
        assert (described.docstring, described.signature) == (
            "Set the power.",
            "(milliwatts: float, *, ramp: float = 0.5) -> None",
        )
        assert await client.describe(laser.counts) == ObjectDescription("numpy.ndarray")


async def test_an_attribute_that_fails_is_the_error_of_its_description() -> None:
    async with open_pair(Laser()) as (client, laser):
        with pytest.raises(ValueError, match="no head"):
            await client.describe(laser.head)


async def test_what_may_be_imported_is_described() -> None:
    async with open_pair(Laser(), allow_import=["math"]) as (client, laser):
        assert (await client.describe(laser)).attributes["module"] == ObjectDescription("module")
        described = await client.describe(laser.module)
        assert described.attributes["sqrt"].signature == "(x, /)"


@pytest.mark.parametrize(("name", "setting"), [("_secret", "allow_private"), ("module", "allow_import")])
async def test_what_clients_may_not_have_is_not_described(name: str, setting: str) -> None:
    async with open_pair(Laser()) as (client, laser):
        with pytest.raises(PermissionError, match=setting):
            await client.describe(laser.attribute(name))


class Odd:
    """An object that is no help."""

    def __dir__(self) -> list[str]:
        return ["computed", "absurd"]

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError("asked for an attribute")

    @property
    def __doc__(self) -> str:  # type: ignore[override]
        raise RuntimeError("asked for its documentation")

    def __call__(self) -> None: ...

    __signature__ = "none"

    def absurd(self, default: Any = "\ud800") -> None: ...

    absurd.__doc__ = "\ud800"


async def test_the_insides_of_generators_are_not_described() -> None:
    async with open_pair() as (client, thing):
        described = await client.describe(await thing.generator())
    assert "close" in described.attributes
    assert not [name for name in described.attributes if name.startswith("gi_")]


async def test_odd_objects_are_described_as_far_as_possible() -> None:
    async with open_pair(Odd()) as (client, _):
        described = (await client.published())["thing"]
    assert (described.docstring, described.signature) == (None, "(...)")
    assert described.attributes["computed"] == ObjectDescription("property")
    assert described.attributes["absurd"].docstring == "\\ud800"


async def test_a_published_proxy_is_for_its_owner_to_describe() -> None:
    async with open_pair() as (_, thing):
        async with open_pair(thing) as (client, _):
            published = await client.published()
    assert published["thing"] == ObjectDescription("trionet.objects.proxy.ObjectProxy")


# -- servers of pyacq ----------------------------------------------------------------------------------


class Upstream:
    """What a server of pyacq publishes as `self`; and what else it publishes."""

    def __init__(self) -> None:
        self.laser = Laser()
        self._namespace = {"self": self, "laser": self.laser, "value": 42, "sqrt": math.sqrt, "odd": Odd()}


@contextlib.asynccontextmanager
async def open_upstream(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[ObjectClient, Any, Laser]]:
    """A server that lets clients do anything, and knows only the requests that pyacq's know."""
    for action in ("published", "describe", "clock"):
        monkeypatch.delitem(_host._ACTIONS, action)
    server = Upstream()
    async with open_pair(server, unrestricted=True) as (client, proxy):
        await client.set("self", proxy)
        for name in server._namespace:
            await client.set(name, await proxy.attribute("_namespace")[name].as_proxy())
        yield client, proxy, server.laser


async def test_servers_of_pyacq_are_asked_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_upstream(monkeypatch) as (client, proxy, laser):
        published = await client.published()
        assert list(published) == ["laser", "value", "sqrt", "odd"]
        everything = {**LASER.attributes, "module": ObjectDescription("module")}
        assert as_said_by_trionet(published["laser"]) == dataclasses.replace(LASER, attributes=everything)
        assert published["value"] == ObjectDescription("int")
        assert published["sqrt"].signature == "(x, /)"
        odd = published["odd"]
        assert (odd.docstring, odd.signature, odd.attributes["computed"].type) == (None, "(...)", "property")
        assert (await client.describe(proxy.laser.set_power)).docstring == "Set the power."
        assert await client.describe(proxy.laser.counts) == ObjectDescription("numpy.ndarray")
        assert laser.looked_at == []


async def test_another_server_that_does_not_tell_what_it_publishes(monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_upstream(monkeypatch) as (client, proxy, _):
        await client.set("self", proxy.laser)
        with pytest.raises(IncompatibleServer, match="does not tell what it publishes"):
            await client.published()


def as_said_by_trionet(described: ObjectDescription) -> ObjectDescription:
    """Signatures without the quotes that Python puts around annotations which were not evaluated."""
    signature = described.signature and described.signature.replace("'", "")
    attributes = {name: as_said_by_trionet(item) for name, item in described.attributes.items()}
    return dataclasses.replace(described, signature=signature, attributes=attributes)


# -- on the wire ---------------------------------------------------------------------------------------


def test_descriptions_are_read_as_they_were_written() -> None:
    described = {"laser": LASER, "___type_name___": ObjectDescription("int")}
    assert read_descriptions(pack_descriptions(described)) == described


@pytest.mark.parametrize(
    "received",
    [
        None,
        {},
        {"type": "int", "docstring": None, "signature": None},
        {"type": 1, "docstring": None, "signature": None, "attributes": []},
        {"type": "int", "docstring": 1, "signature": None, "attributes": []},
        {"type": "int", "docstring": None, "signature": None, "attributes": {"a": "b"}},
        {"type": "int", "docstring": None, "signature": None, "attributes": [["a"]]},
        {"type": "int", "docstring": None, "signature": None, "attributes": [[1, {}]]},
        {"type": "int", "docstring": None, "signature": None, "attributes": [["a", 1]]},
    ],
)
async def test_what_is_no_description_is_an_error_of_the_server(
    received: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match="not "):
        read_description(received)
    monkeypatch.setattr(_host, "pack_description", lambda described: received)
    async with open_pair() as (client, thing):
        with pytest.raises(RemoteProtocolError, match="not "):
            await client.describe(thing)


async def test_what_is_published_meanwhile_is_described_next_time() -> None:
    namespace: dict[str, Any] = {}

    class Publishing:
        def __dir__(self) -> list[str]:
            namespace["more"] = 1
            return []

    namespace["first"] = Publishing()
    async with trio.open_nursery() as nursery:
        server = await nursery.start(trionet.serve_objects, namespace)
        async with trionet.open_object_client(server.address) as client:
            assert [*await client.published()] == ["first"]
            assert [*await client.published()] == ["first", "more"]
        nursery.cancel_scope.cancel()
