"""ZMTP's greeting and READY: what is sent, who is refused and why, in which order things may come."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.wire.pair import cut
from tests.wire.zmtp_bytes import (
    DEALER_READY,
    GREETING,
    PING,
    ROUTER_READY,
    command,
    events_of,
    ready_of,
    short,
)
from trionet.wire.errors import LocalProtocolError, RemoteProtocolError
from trionet.wire.zmtp import (
    PARTNERS,
    PeerGreeted,
    PeerReady,
    SocketType,
    State,
    ZmtpConnection,
)


def greeted() -> ZmtpConnection:
    """A ROUTER in which both sides have greeted, and this one has said READY."""
    connection = ZmtpConnection(SocketType.ROUTER)
    assert connection.greet() == GREETING
    assert events_of(connection, GREETING) == [PeerGreeted((3, 1))]
    assert connection.ready() == ROUTER_READY
    return connection


def refusal(connection: ZmtpConnection, data: bytes) -> str:
    """Why this data ends the connection."""
    with pytest.raises(RemoteProtocolError) as raised:
        events_of(connection, data)
    assert connection.own is connection.peer is State.CLOSED
    assert events_of(connection, GREETING) == []
    return raised.value.message


def test_both_sides_shake_hands() -> None:
    connection = greeted()
    assert events_of(connection, DEALER_READY) == [PeerReady(SocketType.DEALER, b"", {})]
    assert connection.own is connection.peer is State.TRAFFIC


@pytest.mark.parametrize("length", [1, 2, 10, 11, 64])
def test_greeting_and_ready_may_come_in_pieces_or_together(length: int) -> None:
    connection = ZmtpConnection(SocketType.ROUTER)
    connection.greet()
    events = [
        event for piece in cut(GREETING + DEALER_READY, length) for event in events_of(connection, piece)
    ]
    assert events == [PeerGreeted((3, 1)), PeerReady(SocketType.DEALER, b"", {})]


def test_every_truncation_of_the_handshake_waits_for_more() -> None:
    stream = GREETING + DEALER_READY
    for size in range(len(stream)):
        connection = ZmtpConnection(SocketType.ROUTER)
        connection.greet()
        assert len(events_of(connection, stream[:size])) == (size >= len(GREETING))


@pytest.mark.parametrize(
    ("start", "version"),
    [(b"\xff" + bytes(7) + b"\x01\x7f\x03\x00", (3, 0)), (b"\xff" + bytes(7) + b"\x39\x7f\x04\x07", (4, 7))],
)
def test_minor_and_newer_versions_and_the_length_in_the_signature_do_not_matter(
    start: bytes, version: tuple[int, int]
) -> None:
    assert events_of(ZmtpConnection(SocketType.PAIR), start + GREETING[12:]) == [PeerGreeted(version)]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x01\x00", "ZMTP 1.0, version 3 is needed"),
        (b"\x05\x00", "ZMTP 1.0"),
        (b"\xff" + (256).to_bytes(8, "big") + b"\x00", "ZMTP 1.0"),
        (GREETING[:10] + b"\x00", "ZMTP 1.0"),
        (GREETING[:10] + b"\x01", "ZMTP 2.0"),
        (GREETING[:10] + b"\x02", "ZMTP 2.1"),
        (b"GE", r"not a ZeroMQ peer: b'GE'"),
        (b"\x00\x00", "not a ZeroMQ peer"),
        (b"\xff" + bytes(8) + b"\x80", "not a ZeroMQ peer"),
        (GREETING[:12] + b"CURVE".ljust(20, b"\0"), "mechanism 'CURVE', only NULL"),
        (GREETING[:12] + b"NULLS".ljust(20, b"\0"), "mechanism 'NULLS'"),
        (GREETING[:12] + b"\xffULL".ljust(20, b"\0"), "mechanism '\ufffdULL'"),
    ],
)
def test_wrong_greetings_are_refused_as_soon_as_that_is_known(data: bytes, reason: str) -> None:
    early = ZmtpConnection(SocketType.ROUTER)
    assert events_of(early, data[:-1]) == []
    assert reason in refusal(ZmtpConnection(SocketType.ROUTER), data)


@pytest.mark.parametrize("own", SocketType)
@pytest.mark.parametrize(
    "name", ["DEALER", "ROUTER", "PAIR", "PUSH", "PULL", "REQ", "REP", "SUB", "", "dealer"]
)
def test_only_partners_are_accepted(own: SocketType, name: str) -> None:
    connection = ZmtpConnection(own)
    connection.greet()
    events_of(connection, GREETING)
    connection.ready()
    partners = {
        "DEALER": {"DEALER", "ROUTER"},
        "ROUTER": {"DEALER", "ROUTER"},
        "PAIR": {"PAIR"},
        "PUSH": {"PULL"},
        "PULL": {"PUSH"},
    }
    if name in partners[own.value]:
        assert events_of(connection, ready_of(name.encode())) == [PeerReady(SocketType(name), b"", {})]
    else:
        reason = refusal(connection, ready_of(name.encode()))
        assert reason.startswith(f"{own.value} talks to ")
        assert reason.endswith(f"not to {name!r}")
        # 04: a command; the reason has its length in front.
        assert connection.refusal == command(b"ERROR", bytes([len(reason)]) + reason.encode())


def test_partners_are_mutual() -> None:
    assert all(own in PARTNERS[partner] for own in SocketType for partner in PARTNERS[own])


def test_the_identity_is_sent_by_dealers_and_routers_only() -> None:
    for socket_type in SocketType:
        connection = ZmtpConnection(socket_type, identity=b"me")
        events_of(connection, GREETING)
        connection.greet()
        expected = b"\x08Identity\0\0\0\x02me" if socket_type.value in ("DEALER", "ROUTER") else b""
        assert (
            connection.ready()
            == ready_of(socket_type.value.encode()).replace(
                bytes([22 + len(socket_type.value)]), bytes([22 + len(socket_type.value) + len(expected)]), 1
            )
            + expected
        )


def test_names_of_properties_have_no_case_and_others_are_kept() -> None:
    data = b"\x05READY\x0bSOCKET-type\0\0\0\x06DEALER\x08iDENTITY\0\0\0\x02me\x03X-a\0\0\0\x01b"
    (event,) = events_of(greeted(), bytes([4, len(data)]) + data)
    assert event == PeerReady(SocketType.DEALER, b"me", {"X-a": b"b"})


def test_properties_of_the_application_and_a_long_ready() -> None:
    connection = ZmtpConnection(SocketType.DEALER, identity=b"i" * 255)
    connection.greet()
    events_of(connection, GREETING)
    ready = connection.ready({"X-lab": b"north"})
    assert ready[:9] == bytes([6, 0, 0, 0, 0, 0, 0]) + (len(ready) - 9).to_bytes(2, "big")
    assert events_of(greeted(), ready) == [PeerReady(SocketType.DEALER, b"i" * 255, {"X-lab": b"north"})]


@pytest.mark.parametrize("identity", [b"\0", b"\0me", b"x" * 256])
def test_identities_that_libzmq_does_not_take(identity: bytes) -> None:
    with pytest.raises(ValueError, match="at most 255 bytes"):
        ZmtpConnection(SocketType.DEALER, identity=identity)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (short(b"early"), "a message before READY"),
        (short(b"early", flags=1), "a message before READY"),
        (PING, "PING in state READY"),
        (command(b"PONG"), "PONG in state READY"),
        (command(b"SUBSCRIBE", b"x"), "a command in state READY"),
        (DEALER_READY + DEALER_READY, "READY in state TRAFFIC"),
        (command(b"ERROR", b"\x05no!!!more"), "refused by the peer: no!!!"),
        (command(b"ERROR", b"\xffno"), "refused by the peer: no"),
        (command(b"ERROR"), "refused by the peer: "),
        (command(b"ERROR", b"\x04a\n\x1bb"), "refused by the peer: a\ufffd\ufffdb"),
        (DEALER_READY + command(b"ERROR", b"\x02no"), "refused by the peer: no"),
        (command(b"READY", b"\x0bSocket-Type"), "cut off"),
        (command(b"READY", b"\x0bSocket-Type\0\0\0\x07DEALER"), "cut off"),
        (command(b"READY", b"\0\0\0\0\x01x"), "no name"),
        (command(b"READY", b"\x01\xff\0\0\0\x01x"), "ascii"),
        (short(b"", flags=4), "without a whole name"),
        (short(b"\0", flags=4), "without a whole name"),
        (short(b"\x06READY", flags=4), "without a whole name"),
        (bytes([6]) + (8193).to_bytes(8, "big"), "a command of 8193 bytes, 8192 are allowed"),
    ],
)
def test_what_does_not_fit_ends_the_connection(data: bytes, reason: str) -> None:
    assert reason in refusal(greeted(), data)


def test_every_truncation_of_properties_is_refused_or_a_shorter_list() -> None:
    data = b"\x0bSocket-Type\0\0\0\x06DEALER\x08Identity\0\0\0\x02me"
    for size in range(len(data)):
        connection = greeted()
        if size == len(b"\x0bSocket-Type\0\0\0\x06DEALER"):
            assert events_of(connection, command(b"READY", data[:size]))
        else:
            refusal(connection, command(b"READY", data[:size]))


def test_a_refusal_is_only_told_to_peers_that_understand_it() -> None:
    for data in (b"GE", GREETING[:10] + b"\x01"):
        connection = ZmtpConnection(SocketType.ROUTER)
        connection.greet()
        refusal(connection, data)
        assert connection.refusal == b""
    silent = ZmtpConnection(SocketType.ROUTER)  # which has not greeted
    refusal(silent, GREETING + ready_of(b"PUSH"))
    assert silent.refusal == b""


ACTIONS: dict[str, Callable[[ZmtpConnection], object]] = {
    "greet": lambda connection: connection.greet(),
    "ready": lambda connection: connection.ready(),
    "send_message": lambda connection: connection.send_message([b"x"]),
    "ping": lambda connection: connection.ping(),
    "pong": lambda connection: connection.pong(b""),
}


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize(
    ("steps", "allowed"),
    [
        ([], {"greet"}),
        (["greet"], set()),
        (["greet", GREETING], {"ready"}),
        (["greet", GREETING, "ready"], set()),
        (["greet", GREETING, "ready", DEALER_READY], {"send_message", "ping", "pong"}),
        (["greet", GREETING, DEALER_READY], {"ready"}),
    ],
)
def test_sending_at_the_wrong_time_changes_nothing(
    action: str, steps: list[str | bytes], allowed: set[str]
) -> None:
    connection = ZmtpConnection(SocketType.ROUTER)
    for step in steps:
        if isinstance(step, bytes):
            events_of(connection, step)
        else:
            ACTIONS[step](connection)
    before = connection.own, connection.peer
    if action in allowed:
        assert ACTIONS[action](connection)
        return
    with pytest.raises(LocalProtocolError):
        ACTIONS[action](connection)
    assert (connection.own, connection.peer) == before
    connection.close()
    with pytest.raises(LocalProtocolError):
        ACTIONS[action](connection)
