"""Addresses of rigs: every spelling that is meant, and a reason for every one that is not."""

from __future__ import annotations

import copy
import ipaddress
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trionet.wire.rig_uri import DEFAULT_PORT, SCHEMES, RigURI

LONGEST_LABEL = "a" * 63


def test_default_port_is_upstreams() -> None:
    assert DEFAULT_PORT == 11001


@pytest.mark.parametrize(
    ("uri", "complete"),
    [
        # scheme
        ("udp://rig", "udp://rig:11001"),
        ("tcp://rig", "tcp://rig:11001"),
        ("ws://rig", "ws://rig:11001"),
        ("wss://rig", "wss://rig:11001"),
        ("WsS://rig", "wss://rig:11001"),
        ("rig", "udp://rig:11001"),
        # host
        ("192.168.0.1", "udp://192.168.0.1:11001"),
        ("udp://Rig-1.lab_2.example.", "udp://Rig-1.lab_2.example.:11001"),
        ("3com", "udp://3com:11001"),
        (LONGEST_LABEL, f"udp://{LONGEST_LABEL}:11001"),
        ("", "udp://:11001"),
        ("tcp://", "tcp://:11001"),
        (":80", "udp://:80"),
        ("udp:5", "udp://udp:5"),
        # IPv6
        ("::1", "udp://[::1]:11001"),
        ("[::1]", "udp://[::1]:11001"),
        ("ws://[::1]", "ws://[::1]:11001"),
        ("[2001:db8::5]:7", "udp://[2001:db8::5]:7"),
        ("::", "udp://[::]:11001"),
        ("tcp://[fe80::1%eth0]:7", "tcp://[fe80::1%eth0]:7"),
        ("::ffff:10.0.0.1", "udp://[::ffff:10.0.0.1]:11001"),
        # port
        ("rig:1", "udp://rig:1"),
        ("rig:65535", "udp://rig:65535"),
        ("rig:00080", "udp://rig:80"),
        ("rig:", "udp://rig:11001"),
        ("[::1]:", "udp://[::1]:11001"),
        # what is around it
        (" udp://rig:7 \n", "udp://rig:7"),
        ("udp://rig:7/", "udp://rig:7"),
        ("rig/", "udp://rig:11001"),
    ],
)
def test_complete_address(uri: str, complete: str) -> None:
    parsed = RigURI.parse(uri)
    assert str(parsed) == complete
    assert RigURI.parse(complete) == parsed
    assert RigURI.parse(parsed) is parsed


@pytest.mark.parametrize(
    ("uri", "culprit"),
    [
        # port
        *(
            (f"rig:{port}", repr(port))
            for port in ("0", "65536", "99999", "000080", "-1", "+5", "5_0", "x", " 5")
        ),
        ("rig:7/x", "'7/x'"),
        ("rig:5:6", "'5:6'"),
        ("rig:\u0665", "'\u0665'"),
        ("[::1]:0", "'0'"),
        ("::1:11001x", "x"),
        ("udp://::1", "':1'"),
        # host
        *(
            (host, repr(host))
            for host in ("-rig", "rig-", "a..b", ".a", "a b", "caf\u00e9", "rig\0", "a@b", "a%b")
        ),
        *((f"udp://{host}:7", repr(host)) for host in ("rig/x", "a\nb", LONGEST_LABEL + "a", "a.-b", "b-.c")),
        *((host, repr(host)) for host in ("10.1", "256.1.1.1", "1.2.3.4.5", "127.0.0.1.", "7", "010.0.0.1")),
        *((host, repr(host)) for host in ("0x7f000001", "0X7f.1", "1.0x2")),
        ("[rig]", "'rig'"),
        ("[127.0.0.1]:5", "'127.0.0.1'"),
        ("[]:7", "''"),
        ("[::1%]", "'::1%'"),
        ("[1::2::3]", "'1::2::3'"),
        # the whole
        *((uri, repr(uri)) for uri in ("[::1", "::1]", "[::1]7", "[[::1]]", "a[::1]", "[::1]x:7")),
        ("udp://tcp://rig", "'//rig'"),
        # scheme
        *((f"{scheme}://rig", repr(scheme)) for scheme in ("http", "udps", "u", "wsss")),
        ("http://", "'http'"),
    ],
)
def test_address_that_is_none(uri: str, culprit: str) -> None:
    with pytest.raises(ValueError, match=re.escape(culprit)):
        RigURI.parse(uri)


@pytest.mark.parametrize("uri", [None, 11001, b"udp://rig", ("rig", 7), ["rig"]])
def test_what_is_no_text(uri: Any) -> None:
    with pytest.raises(TypeError, match=type(uri).__name__):
        RigURI.parse(uri)


@pytest.mark.parametrize("address", ["10.0.0.1", "::1"])
def test_address_objects(address: str) -> None:
    parsed = RigURI.parse(ipaddress.ip_address(address), default_scheme="ws", default_port=7)
    assert parsed == RigURI("ws", address, 7)


@pytest.mark.parametrize("uri", ["rig", "10.0.0.1", "::1", "[::1]", "rig:"])
def test_defaults_can_be_others(uri: str) -> None:
    parsed = RigURI.parse(uri, default_scheme="TCP", default_port=7)
    assert (parsed.scheme, parsed.port) == ("tcp", 7)
    assert RigURI.parse("wss://rig:8", default_scheme="tcp", default_port=7) == RigURI("wss", "rig", 8)


@pytest.mark.parametrize("uri", ["rig", "::1", ipaddress.IPv4Address(1)])
def test_default_scheme_is_checked(uri: Any) -> None:
    with pytest.raises(ValueError, match="'ftp'"):
        RigURI.parse(uri, default_scheme="ftp")


@pytest.mark.parametrize("port", [-1, 0, 65_536])
@pytest.mark.parametrize("uri", ["rig", "::1", ipaddress.ip_address("10.0.0.5")])
def test_default_port_is_checked(uri: Any, port: int) -> None:
    with pytest.raises(ValueError, match=f"the default port {port} is no port"):
        RigURI.parse(uri, default_port=port)


def test_port_0_is_for_listening() -> None:
    assert RigURI.parse("udp://:0", allow_port_0=True) == RigURI("udp", "", 0)
    with pytest.raises(ValueError, match="-1"):
        RigURI.parse("udp://:-1", allow_port_0=True)


@pytest.mark.parametrize(
    ("scheme", "is_stream"), [("udp", False), ("tcp", True), ("ws", True), ("wss", True)]
)
def test_which_are_streams(scheme: str, is_stream: bool) -> None:
    assert RigURI.parse(f"{scheme}://rig").is_stream is is_stream


def test_addresses_are_values() -> None:
    one = RigURI.parse("rig")
    assert len({one, copy.copy(one), RigURI.parse("udp://rig:11001/")}) == 1
    with pytest.raises(AttributeError):
        one.port = 7  # type: ignore[misc]


@given(
    st.sampled_from(SCHEMES),
    st.ip_addresses() | st.from_regex(r"[a-z][a-z0-9]{0,10}(\.[a-z0-9]{1,10}){0,3}", fullmatch=True),
    st.integers(1, 65535),
)
def test_what_is_written_is_read_the_same(scheme: str, host: Any, port: int) -> None:
    uri = RigURI(scheme, str(host), port)
    assert RigURI.parse(str(uri)) == uri


@given(st.text("udp:/[]0123456789.-a%@ \n\u0665") | st.text())
def test_any_text_is_an_address_or_a_value_error(text: str) -> None:
    try:
        uri = RigURI.parse(text)
    except ValueError:
        pass
    else:
        assert uri.scheme in SCHEMES
        assert 1 <= uri.port <= 65535
        assert RigURI.parse(str(uri)) == uri
