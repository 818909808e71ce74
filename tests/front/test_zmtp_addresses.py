"""ZeroMQ's addresses: what they mean, and what is wrong with others."""

from __future__ import annotations

import re

import pytest
import trio
from trio import testing

from trionet._zmtp_endpoints import (
    Endpoint,
    IpcEndpoint,
    TcpEndpoint,
    address_towards,
    connect_endpoint,
    parse_endpoint,
)


@pytest.mark.parametrize(
    ("address", "endpoint"),
    [
        ("tcp://127.0.0.1:5555", TcpEndpoint("127.0.0.1", 5555)),
        ("tcp://localhost:65535", TcpEndpoint("localhost", 65535)),
        ("tcp://[::1]:1", TcpEndpoint("::1", 1)),
        ("tcp://127.0.0.1:*", TcpEndpoint("127.0.0.1", 0)),
        ("tcp://*:5555", TcpEndpoint(None, 5555)),
        ("tcp://*:*", TcpEndpoint(None, 0)),
        ("ipc:///run/lab/laser", IpcEndpoint("/run/lab/laser")),
        ("ipc://laser", IpcEndpoint("laser")),
    ],
)
def test_addresses(address: str, endpoint: Endpoint) -> None:
    assert parse_endpoint(address) == endpoint
    assert str(endpoint) == address


def test_port_0_is_any() -> None:
    assert parse_endpoint("tcp://127.0.0.1:0") == parse_endpoint("tcp://127.0.0.1:*")


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("", "use tcp://HOST:PORT or ipc://PATH"),
        ("127.0.0.1:5555", "use tcp://HOST:PORT or ipc://PATH"),
        ("inproc://name", "threads that share a libzmq context"),
        ("udp://127.0.0.1:5555", "udp:// is not supported"),
        ("TCP://127.0.0.1:5555", "TCP:// is not supported"),
        ("tcp://127.0.0.1", "use tcp://HOST:PORT"),
        ("tcp://:5555", "use tcp://HOST:PORT"),
        ("tcp://[]:5555", "use tcp://HOST:PORT"),
        ("tcp://[::1]", "in brackets"),
        ("tcp://::1:5555", "in brackets"),
        ("tcp://[::1:5555", "in brackets"),
        ("tcp://127.0.0.1:", "'' is no port"),
        ("tcp://127.0.0.1:65536", "'65536' is no port"),
        ("tcp://127.0.0.1:-1", "'-1' is no port"),
        ("tcp://127.0.0.1:http", "'http' is no port"),
        ("tcp://127.0.0.1:\u0665", "is no port"),
        ("tcp://127.0.0.1:5555/", "is no port"),
        ("tcp://eth0;127.0.0.1:5555", "use tcp://HOST:PORT"),
        ("tcp://a b:5555", "use tcp://HOST:PORT"),
        ("ipc://", "the path of a file is needed"),
        ("ipc://*", "the path of a file is needed"),
        ("ipc://@abstract", "the path of a file is needed"),
        ("ipc://a\0b", "the path of a file is needed"),
    ],
)
def test_what_is_no_address(address: str, reason: str) -> None:
    with pytest.raises(ValueError, match=re.escape(reason)) as raised:
        parse_endpoint(address)
    assert repr(address) in str(raised.value)


@pytest.mark.parametrize("address", ["tcp://*:5555", "tcp://127.0.0.1:*"])
async def test_addresses_that_are_only_for_listening(address: str) -> None:
    with pytest.raises(ValueError, match="can be listened at, but not connected to"):
        await connect_endpoint(parse_endpoint(address))


@pytest.mark.parametrize(
    ("endpoints", "address"),
    [
        (["ipc:///run/laser"], "ipc:///run/laser"),
        (["tcp://10.0.0.1:5", "tcp://127.0.0.1:5"], "tcp://127.0.0.1:5"),
        (["tcp://10.0.0.1:5"], "tcp://10.0.0.1:5"),
        (["tcp://0.0.0.0:5"], "tcp://127.0.0.1:5"),
        (["tcp://[::]:5"], "tcp://127.0.0.1:5"),
    ],
    ids=str,
)
async def test_address_is_the_one_that_the_other_side_can_reach(endpoints: list[str], address: str) -> None:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listeners[0], await testing.open_stream_to_socket_listener(listeners[0]) as stream:
        assert address_towards(stream, endpoints) == address
    assert address_towards(None, endpoints) == endpoints[0]
