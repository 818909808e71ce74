"""Finding the address behind the URI of a rig, with a name server of our own."""

from __future__ import annotations

import ipaddress
import socket
from typing import Any

import pytest
import trio
import trio.testing

from trionet import RigURI, validate_uri

V4, V6 = socket.AF_INET, socket.AF_INET6


class NameServer(trio.abc.HostnameResolver):
    """Knows some names, and takes its time."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.names: dict[str, list[tuple[int, str]]] = {
            "both": [(V6, "fd00::5"), (V4, "10.0.0.5"), (V4, "10.0.0.6")],
            "new": [(V6, "fd00::5"), (V6, "fd00::6")],
            socket.gethostname(): [(V4, "10.0.0.7")],
        }

    async def getaddrinfo(self, host: Any, port: Any, *args: Any) -> list[Any]:
        name = host.decode()
        self.asked.append(name)
        await trio.sleep(3)
        if name not in self.names:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(family, socket.SOCK_DGRAM, 17, "", (address, 0)) for family, address in self.names[name]]

    async def getnameinfo(self, sockaddr: Any, flags: int) -> Any:
        raise NotImplementedError


@pytest.fixture
async def name_server() -> Any:
    server = NameServer()
    before = trio.socket.set_custom_hostname_resolver(server)
    yield server
    trio.socket.set_custom_hostname_resolver(before)


@pytest.mark.parametrize(
    ("uri", "complete"),
    [
        ("both", "udp://10.0.0.5:11001"),
        ("tcp://both:7", "tcp://10.0.0.5:7"),
        ("wss://new", "wss://[fd00::5]:11001"),
        ("", "udp://10.0.0.7:11001"),
        ("ws://:7", "ws://10.0.0.7:7"),
        (RigURI("tcp", "both", 5), "tcp://10.0.0.5:5"),
    ],
)
async def test_names_are_looked_up(
    uri: Any, complete: str, name_server: NameServer, autojump_clock: trio.testing.MockClock
) -> None:
    assert str(await validate_uri(uri)) == complete
    assert len(name_server.asked) == 1


@pytest.mark.parametrize("uri", ["10.0.0.5", "[::1]:7", ipaddress.ip_address("fd00::5")])
async def test_addresses_are_what_they_are(uri: Any) -> None:
    assert await validate_uri(uri) == RigURI.parse(uri)


async def test_others_go_on_meanwhile(
    name_server: NameServer, autojump_clock: trio.testing.MockClock
) -> None:
    """A name server that is slow stops nobody, and can be given up."""
    found: dict[str, str] = {}

    async def find(name: str) -> None:
        found[name] = (await validate_uri(name)).host

    async with trio.open_nursery() as nursery:
        nursery.start_soon(find, "both")
        nursery.start_soon(find, "new")
        await trio.sleep(2)
        assert sorted(name_server.asked) == ["both", "new"]
        assert not found
    assert (found, trio.current_time()) == ({"both": "10.0.0.5", "new": "fd00::5"}, 3)
    with trio.move_on_after(1) as scope:
        await validate_uri("both")
    assert scope.cancelled_caught
    assert trio.current_time() == 4


async def test_an_unknown_name_is_told(
    name_server: NameServer, autojump_clock: trio.testing.MockClock
) -> None:
    with pytest.raises(socket.gaierror, match=r"not known \(nowhere\)") as caught:
        await validate_uri("nowhere")
    assert caught.value.errno == socket.EAI_NONAME


async def test_what_is_not_to_be_looked_up_is_completed(name_server: NameServer) -> None:
    parts: dict[str, Any] = {"resolve_host": False, "default_port": 5, "default_scheme": "tcp"}
    assert await validate_uri("both", **parts) == RigURI("tcp", "both", 5)
    assert await validate_uri("udp://both:7", **parts) == RigURI("udp", "both", 7)
    assert not name_server.asked
    with pytest.raises(ValueError, match="'0'"):
        await validate_uri("both:0", resolve_host=False)
    assert (await validate_uri("both:0", resolve_host=False, allow_port_0=True)).port == 0
    with trio.CancelScope() as scope:
        scope.cancel()
        await validate_uri("both", resolve_host=False)
    assert scope.cancelled_caught
