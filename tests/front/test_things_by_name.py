"""What is served is given by names. The thing itself in its place is refused, in words that help."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest

import trionet
from trionet.testing import open_memory_rpc_client


class Laser:
    power = 0.0


async def memory_client(targets: Any) -> None:
    async with open_memory_rpc_client(targets):
        raise AssertionError


async def rig_services(rigs: Any) -> None:
    async with trionet.open_rig_services(rigs):
        raise AssertionError


@pytest.mark.parametrize(
    ("serve", "thing", "message"),
    [
        (partial(trionet.serve_rpc, port=0), Laser(), "targets must be objects by their names, not a Laser"),
        (memory_client, Laser(), "targets must be objects by their names, not a Laser"),
        (
            partial(trionet.serve_publisher, port=0),
            trionet.Notifier({"power": 0.0}),
            "notifiers must be notifiers by their names, not a Notifier",
        ),
        (
            partial(trionet.serve_publisher, port=0),
            {"laser": {"power": 0.0}},
            "'laser' must be a Notifier, not a dict",
        ),
        (
            partial(trionet.serve_rpc, port=0),
            {1: Laser()},
            "targets must be objects by their names: 1 is no text",
        ),
        (trionet.serve_objects, Laser(), "namespace must be objects by their names, not a Laser"),
        (rig_services, ["udp://127.0.0.1"], "rigs must be URIs by their names, not a list"),
    ],
)
async def test_a_thing_without_a_name(
    serve: Callable[[Any], Awaitable[None]], thing: Any, message: str
) -> None:
    with pytest.RaisesGroup(
        pytest.RaisesExc(TypeError, match=message), allow_unwrapped=True, flatten_subgroups=True
    ):
        await serve(thing)
