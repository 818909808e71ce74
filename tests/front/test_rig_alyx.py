"""What is taken from a client of Alyx, and what is made of what rigs send."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import trio
import trio.testing

import trionet
from tests.front.rigs import address_behind, open_memory_rig
from trionet.rig.alyx import alyx_message


def client(token: Any, user: str | None = "lab", base_url: str | None = "https://alyx.invalid") -> Any:
    """Anything with these attributes is a client."""
    return SimpleNamespace(base_url=base_url, user=user, _token=token, is_logged_in=bool(token))


@pytest.mark.parametrize(
    ("one", "message"),
    [
        (None, [128, None, {}]),
        (client("secret"), [128, "https://alyx.invalid", {"lab": "secret"}]),
        (client({"token": "x"}), [128, "https://alyx.invalid", {"lab": {"token": "x"}}]),
        (client(None), [128, "https://alyx.invalid", {}]),
        (client(None, None, None), [128, None, {}]),
    ],
)
def test_the_message_with_or_without_a_token(one: Any, message: list[Any]) -> None:
    assert alyx_message(one) == message


async def test_a_client_that_is_not_logged_in_asks_for_a_token(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_memory_rig() as (rig, connect):
        stream = await connect()
        address = await address_behind(rig, stream)
        tokens: list[Any] = []

        async def ask() -> None:
            tokens.append(await rig.alyx(client(None), address=address))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            request = b'[128, "https://alyx.invalid", {}]'
            assert await stream.receive_some() == request
            await stream.send_all(request)
            await trio.sleep(1000)
            await stream.send_all(b'[128, "https://alyx.invalid", {"lab": "secret"}]')
        assert tokens == [trionet.AlyxToken("https://alyx.invalid", {"lab": "secret"})]
        assert tokens[0].base_url == "https://alyx.invalid"
        assert tokens[0].tokens == {"lab": "secret"}


async def test_a_token_of_somebody_else_is_not_the_answer(autojump_clock: trio.testing.MockClock) -> None:
    async with open_memory_rig() as (rig, connect):
        streams = [await connect() for _ in range(2)]
        addresses = [await address_behind(rig, stream) for stream in streams]
        tokens: list[Any] = []

        async def ask() -> None:
            tokens.append(await rig.alyx(address=addresses[1]))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await streams[1].send_all(await streams[1].receive_some())
            await streams[0].send_all(b'[128, "other", {"stranger": 1}]')
            await trio.testing.wait_all_tasks_blocked()
            assert tokens == []
            await streams[1].send_all(b'[128, "url", {"lab": 1}]')
        assert tokens == [trionet.AlyxToken("url", {"lab": 1})]


async def test_an_answer_that_comes_before_the_echo_counts(autojump_clock: trio.testing.MockClock) -> None:
    async with open_memory_rig() as (rig, connect):
        stream = await connect()
        address = await address_behind(rig, stream)
        tokens: list[Any] = []

        async def ask() -> None:
            tokens.append(await rig.alyx(address=address))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            request = await stream.receive_some()
            await stream.send_all(b'[128, "url", {"lab": 1}]')
            await trio.testing.wait_all_tasks_blocked()
            assert tokens == []
            await stream.send_all(request)
        assert tokens == [trionet.AlyxToken("url", {"lab": 1})]


async def test_the_communicator_is_closed_while_a_token_is_awaited(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with trio.open_nursery() as nursery:
        async with open_memory_rig() as (rig, connect):
            stream = await connect()
            address = await address_behind(rig, stream)

            async def ask() -> None:
                with pytest.raises(trio.ClosedResourceError):
                    await rig.alyx(address=address)

            nursery.start_soon(ask)
            await stream.send_all(await stream.receive_some())
            await trio.testing.wait_all_tasks_blocked()
