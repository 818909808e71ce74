"""Names of hosts, in both directions."""

from __future__ import annotations

import socket
from typing import Any

import pytest
import trio
import trio.testing

from trionet.testing import open_virtual_network

STREAM, DGRAM = socket.SOCK_STREAM, socket.SOCK_DGRAM


@pytest.mark.parametrize("name", ["server", "Server", "SERVER", b"server"])
async def test_both_addresses_and_both_kinds(name: str | bytes) -> None:
    async with open_virtual_network() as network:
        network.host("Server")
        with network.host("client").entered():
            found = await trio.socket.getaddrinfo(name, 80)
            assert [(entry[0], entry[1], entry[4]) for entry in found] == [
                (socket.AF_INET, STREAM, ("10.0.0.1", 80)),
                (socket.AF_INET, DGRAM, ("10.0.0.1", 80)),
                (socket.AF_INET6, STREAM, ("fd00::1", 80, 0, 0)),
                (socket.AF_INET6, DGRAM, ("fd00::1", 80, 0, 0)),
            ]


@pytest.mark.parametrize(
    ("name", "arguments", "addresses"),
    [
        ("client", {}, ["10.0.0.1", "fd00::1"]),
        ("localhost", {}, ["127.0.0.1", "::1"]),
        ("client", {"family": socket.AF_INET}, ["10.0.0.1"]),
        ("client", {"family": socket.AF_INET6}, ["fd00::1"]),
        ("127.0.0.1", {}, ["127.0.0.1"]),
        ("fd00::1", {}, ["fd00::1"]),
        ("client", {"flags": socket.AI_PASSIVE}, ["10.0.0.1", "fd00::1"]),
    ],
)
async def test_what_is_found(name: str, arguments: dict[str, Any], addresses: list[str]) -> None:
    async with open_virtual_network() as network:
        with network.host("client").entered():
            found = await trio.socket.getaddrinfo(name, 80, type=STREAM, **arguments)
            assert [entry[4][0] for entry in found] == addresses


async def test_canonical_names_and_services() -> None:
    async with open_virtual_network() as network:
        with network.host("client").entered():
            found = await trio.socket.getaddrinfo("CLIENT", "443", type=STREAM, flags=socket.AI_CANONNAME)
            assert [entry[3] for entry in found] == ["client", ""]
            assert found[0][4] == ("10.0.0.1", 443)
            assert (await trio.socket.getaddrinfo("client", None))[0][4][1] == 0
            with pytest.raises(socket.gaierror) as caught:
                await trio.socket.getaddrinfo("client", "no such service")
            assert caught.value.errno == socket.EAI_SERVICE


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("nobody", {}),
        ("example.org", {}),
        ("client", {"flags": socket.AI_NUMERICHOST}),
        ("client", {"family": getattr(socket, "AF_UNIX", 1)}),
    ],
)
async def test_what_is_not_found(name: str, arguments: dict[str, Any]) -> None:
    async with open_virtual_network() as network:
        with network.host("client").entered():
            with pytest.raises(socket.gaierror):
                await trio.socket.getaddrinfo(name, 80, **arguments)


@pytest.mark.parametrize(
    ("address", "flags", "expected"),
    [
        (("10.0.0.1", 80), 0, ("client", "80")),
        (("fd00::1", 80, 0, 0), 0, ("client", "80")),
        (("::1", 80, 0, 0), 0, ("localhost", "80")),
        (("10.0.0.1", 80), socket.NI_NUMERICHOST, ("10.0.0.1", "80")),
        (("10.0.0.9", 80), 0, ("10.0.0.9", "80")),
        (("10.0.0.9", 80), socket.NI_NAMEREQD, None),
        (("not an address", 80), 0, None),
    ],
)
async def test_names_of_addresses(address: Any, flags: int, expected: tuple[str, str] | None) -> None:
    async with open_virtual_network() as network:
        with network.host("client").entered():
            if expected is not None:
                assert await trio.socket.getnameinfo(address, flags) == expected
            else:
                with pytest.raises(socket.gaierror):
                    await trio.socket.getnameinfo(address, flags)


async def test_many_hosts_have_different_addresses() -> None:
    async with open_virtual_network() as network:
        hosts = [network.host(f"host{number}") for number in range(1000)]
        assert len({host.ipv4 for host in hosts}) == len({host.ipv6 for host in hosts}) == 1000
        assert network.host("HOST7") is hosts[7]
        assert network.hosts == tuple(hosts)
