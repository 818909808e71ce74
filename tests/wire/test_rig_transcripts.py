"""The recorded sessions of iblutil, both ways: each of its sides is replaced by an exchange of ours.

What it echoed we echo, byte for byte, but for the differences in one table.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.wire.pair import cut
from tests.wire.transcripts import Recording, load
from trionet.wire.rig import Confirmed, Exchange, Incoming, LateEcho, Received, StreamExchange
from trionet.wire.rig_messages import ExpMessage, is_echoed

#: Of these iblutil was both sides; of the others one side was a test socket, which said anything.
SESSIONS = ("iblutil_udp_session", "iblutil_tcp_session", "iblrig_auxiliaries_udp")
CROSSED, STORM = "iblutil_udp_crossed", "iblutil_udp_echo_storm"
COALESCED, BAD_ECHO = "iblutil_tcp_coalesced", "iblutil_udp_bad_echo"
UDP_EDGES, TCP_EDGES = "iblutil_udp_edge_cases", "iblutil_tcp_edge_cases"

TOKEN = b'[128, "https://alyx.example.org", {"foo": {"token": "4157aa522b85"}}]'

#: Recording and the side that we are: what we echo after all that iblutil did, and why.
DIFFERENCES: dict[tuple[str, str], tuple[list[bytes], str]] = {
    (f"{CROSSED}-0", "client"): ([b"[1, 2]"], "a message that crosses ours is a message, not a bad echo"),
    (f"{CROSSED}-0", "server"): ([b"[1, 1]"], "the same"),
    (f"{BAD_ECHO}-1", "client"): ([b'[1, "something else"]'], "the same"),
    (f"{COALESCED}-0", "client"): ([TOKEN], "an answer right behind the echo is a message, not a bad echo"),
    (f"{TCP_EDGES}-8", "server"): (
        [b"[16, 30]"],
        "an echo goes where its message came from; iblutil's to conn 9",
    ),
}

#: What iblutil delivered to no callback, in the order of its edge cases.
UNDELIVERED = [
    *(b"foo", b'{"a": 1}', b"[1]", b"[3, null]", b"[4096, null]", b"[1.0, 1]", b"[null, 1]"),
    *(b"10", b'["0", 1]', b"[0.5, 1]", b'[64, 10, "\xff"]', b"x"),
]

CASES = [
    *((file, side) for file in (*SESSIONS, CROSSED) for side in ("client", "server")),
    *((COALESCED, "client"), (BAD_ECHO, "client")),
    *((STORM, "server"), (UDP_EDGES, "server"), (TCP_EDGES, "server")),
]


def replays(*files: str) -> list[Any]:
    return [
        pytest.param(recording, side, id=f"{recording}-{side}")
        for file, side in CASES
        if not files or file in files
        for recording in load(file)
    ]


def told_apart(recording: Recording) -> list[bool]:
    """For each message whether it is the echo of one before that was none itself."""
    unanswered: list[tuple[str, bytes]] = []
    found = []
    for message in recording.messages:
        other = "server" if message.sender == "client" else "client"
        is_echo = (other, message.line) in unanswered
        if is_echo:
            unanswered.remove((other, message.line))
        else:
            unanswered.append((message.sender, message.line))
        found.append(is_echo)
    return found


def said(recording: Recording, side: str, *, echoes: bool) -> list[bytes]:
    """What a side sent back, or what it said itself."""
    messages = zip(recording.messages, told_apart(recording), strict=True)
    return [
        message.line
        for message, is_echo in messages
        if message.sender == side and is_echo is echoes and message.line
    ]


def replay(recording: Recording, side: str, seconds: float, piece: int | None = None) -> list[Received]:
    """Be one side: say what it said, and take what comes, in time with the recording.

    Args:
        recording: What was recorded.
        side: Who we are.
        seconds: From one message to the next.
        piece: Bytes that a stream is cut into; None for what the peers read at once.
    """
    exchange = StreamExchange(1000) if "_tcp_" in recording.scenario else Exchange()
    received = []
    now = 100.0
    for message, is_echo in zip(recording.messages, told_apart(recording), strict=True):
        now += seconds
        if message.sender == side and not is_echo:
            send = exchange.send if is_echoed(message.line) else exchange.send_unconfirmed
            send(message.line, now)
        elif message.sender != side and message.line:
            for part in (
                cut(message.line, piece or 1000) if isinstance(exchange, StreamExchange) else [message.line]
            ):
                received += take(exchange, part, now)
    return received


def take(exchange: Exchange, data: bytes, now: float) -> list[Received]:
    if not isinstance(exchange, StreamExchange):
        return [exchange.receive(data, now)]
    exchange.receive_data(data)
    return [*iter(lambda: exchange.next_received(now), None)]


def sent_back(received: list[Received]) -> list[bytes]:
    return [item.echo for item in received if item.echo is not None]


@pytest.mark.parametrize("seconds", [0.025, 1.0, 60.0])
@pytest.mark.parametrize(("recording", "side"), replays())
def test_we_echo_what_iblutil_echoed(recording: Recording, side: str, seconds: float) -> None:
    more, _ = DIFFERENCES.get((str(recording), side), ([], ""))
    expected = said(recording, side, echoes=True) + more
    found = sent_back(replay(recording, side, seconds))
    if (
        recording.scenario == TCP_EDGES
    ):  # two messages at once are echoed at once by iblutil, one by one by us
        assert b"".join(found) == b"".join(expected)
    else:
        assert found == expected


def test_every_difference_is_one() -> None:
    cases = {(str(param.values[0]), param.values[1]): param.values for param in replays()}
    assert set(DIFFERENCES) <= set(cases)
    for case, (more, _) in DIFFERENCES.items():
        recording, side = cases[case]
        assert sent_back(replay(recording, side, 1.0))[-len(more) :] == more
        assert said(recording, side, echoes=True)[-len(more) :] != more


@pytest.mark.parametrize("piece", [1, 2, 3, 7])
@pytest.mark.parametrize(("recording", "side"), replays("iblutil_tcp_session", COALESCED))
def test_streams_mean_the_same_however_they_are_cut(recording: Recording, side: str, piece: int) -> None:
    whole = replay(recording, side, 1.0)
    assert replay(recording, side, 1.0, piece) == whole


@pytest.mark.parametrize("seconds", [0.025, 1.0, 60.0])
@pytest.mark.parametrize(("recording", "side"), replays(*SESSIONS))
def test_both_sides_of_a_session_understand_each_other(
    recording: Recording, side: str, seconds: float
) -> None:
    """All that we sent was confirmed, but reports of errors; all that the other side said is a message."""
    meanings = [item.meaning for item in replay(recording, side, seconds)]
    assert meanings.count(Confirmed()) == sum(map(is_echoed, said(recording, side, echoes=False)))
    other = {"client": "server", "server": "client"}[side]
    expected = []
    for line in said(recording, other, echoes=False):
        event, *data = json.loads(line)
        expected.append(Incoming(ExpMessage(event), data))
    assert [meaning for meaning in meanings if meaning != Confirmed()] == expected


@pytest.mark.parametrize(("recording", "side"), replays(UDP_EDGES, TCP_EDGES))
def test_we_deliver_what_iblutil_delivered(recording: Recording, side: str) -> None:
    """And what it took for two messages in one, which are two."""
    found = replay(recording, side, 1.0)
    lines = recording.lines("client")
    undelivered = [line for line in lines if line in UNDELIVERED]
    delivered = [isinstance(item.meaning, Incoming) for item in found]
    assert delivered.count(False) == len(undelivered)
    assert delivered.count(True) == len(lines) - len(undelivered) + sum(line.count(b"][") for line in lines)
    if recording.scenario == UDP_EDGES:
        assert undelivered == UNDELIVERED
        assert delivered == [line not in UNDELIVERED for line in lines]


def test_token_right_behind_the_echo_is_received() -> None:
    (recording,) = load(COALESCED)
    token = Incoming(ExpMessage.ALYX, json.loads(TOKEN)[1:])
    assert replay(recording, "client", 1.0) == [Received(None, Confirmed()), Received(TOKEN, token)]


def test_storm_is_over_before_it_begins() -> None:
    """The client sends without waiting, and takes what comes back for what it is."""
    (recording,) = load(STORM)
    first, second, third, *_ = recording.messages
    assert (first.sender, second.sender, third.sender) == ("client", "server", "client")
    exchange = Exchange()
    exchange.send_unconfirmed(first.line, 1.0)
    assert exchange.receive(second.line, 1.1) == Received(None, LateEcho())
