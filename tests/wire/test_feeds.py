"""Feeds: names and values however the bytes come, limits, versions of PYON, recorded names and broadcasts."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from tests.wire.pair import cut
from tests.wire.transcripts import Recording, load
from tests.wire.values import SAMPLES, identical
from trionet.wire import broadcast, sync_struct
from trionet.wire.errors import LocalProtocolError, RemoteProtocolError
from trionet.wire.feeds import (
    MAX_NAME_SIZE,
    FeedClient,
    FeedServer,
    PyonVersion,
    State,
    check_pyon_version,
    encode_line,
    encode_name,
)

BANNER = b"ARTIQ feed"
MIB = 1 << 20


def subscribed(max_message_size: int = 10_000, pyon_version: PyonVersion | None = None) -> FeedClient:
    """A client that has asked for a feed."""
    client = FeedClient(BANNER, max_message_size, pyon_version)
    client.subscribe("x")
    return client


def values_of(client: FeedClient) -> Iterator[Any]:
    while True:
        came, value = client.next_value()
        if not came:
            return
        yield value


def splits(data: bytes) -> Iterator[list[bytes]]:
    """Every way to cut data in two, and byte by byte."""
    for place in range(len(data)):
        yield [data[:place], data[place:]]
    yield [*cut(data, 1)]


# -- names -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", " ", "datasets", "a b", "\u269b", "\r", "\x00", "x" * 100])
def test_names_arrive(name: str) -> None:
    request = FeedClient(BANNER, 100).subscribe(name)
    assert request == BANNER + b"\n" + name.encode() + b"\n"
    for pieces in splits(request):
        server = FeedServer(BANNER)
        for piece in pieces:
            assert server.next_name() is None
            server.receive_data(piece)
        assert server.next_name() == name
        assert server.state is State.FEEDING


@pytest.mark.parametrize("name", ["\n", "a\nb", "name\n", "\ud800", "a\udfff"])
def test_name_that_no_line_can_carry(name: str) -> None:
    with pytest.raises(ValueError, match=r"one line|surrogates"):
        encode_name(name)
    client = FeedClient(BANNER, 100)
    with pytest.raises(ValueError, match=r"one line|surrogates"):
        client.subscribe(name)
    assert client.state is State.SEND_NAME
    assert client.subscribe("another") == BANNER + b"\nanother\n"


def test_request_that_is_cut_short_is_no_name() -> None:
    request = FeedClient(BANNER, 100).subscribe("name")
    for length in range(len(request)):
        server = FeedServer(BANNER)
        server.receive_data(request[:length])
        assert server.next_name() is None
        assert server.state is (State.WAIT_NAME if length > len(BANNER) else State.WAIT_BANNER)


def test_name_is_given_once_and_what_follows_is_ignored() -> None:
    server = FeedServer(BANNER)
    server.receive_data(BANNER + b"\nname\nanother\nunfinished")
    assert server.next_name() == "name"
    server.receive_data(b"\nmore\n")
    server.receive_data(b"x" * (MAX_NAME_SIZE + 1))
    assert server.next_name() is None
    assert server.state is State.FEEDING


@pytest.mark.parametrize(
    "banner", [b"", b"ARTIQ other", BANNER + b" ", BANNER + b"\r", BANNER[:-1], b"artiq feed", b"\xff" * 50]
)
def test_wrong_banner(banner: bytes) -> None:
    for pieces in splits(banner + b"\nname\n"):
        server = FeedServer(BANNER)
        for piece in pieces:
            server.receive_data(piece)
        with pytest.raises(RemoteProtocolError, match="not the banner 'ARTIQ feed'"):
            server.next_name()
        assert_refused(server)


def test_name_that_is_not_utf_8() -> None:
    server = FeedServer(BANNER)
    server.receive_data(BANNER + b"\n\xff\xfe\n")
    with pytest.raises(RemoteProtocolError, match="not UTF-8"):
        server.next_name()
    assert_refused(server)


def assert_refused(server: FeedServer) -> None:
    assert server.state is State.CLOSED
    server.receive_data(BANNER + b"\nname\n")
    assert server.next_name() is None
    assert server.state is State.CLOSED


@pytest.mark.parametrize("before", [b"", BANNER + b"\n"], ids=["banner", "name"])
def test_longest_banner_and_name(before: bytes) -> None:
    for end in (b"\n", b""):
        server = FeedServer(BANNER)
        server.receive_data(before + b"x" * (MAX_NAME_SIZE + 1) + end)
        with pytest.raises(RemoteProtocolError, match=str(MAX_NAME_SIZE)):
            server.next_name()
        assert_refused(server)
    server = FeedServer(BANNER)
    server.receive_data(BANNER + b"\n" + b"x" * MAX_NAME_SIZE)
    assert server.next_name() is None
    server.receive_data(b"\n")
    assert server.next_name() == "x" * MAX_NAME_SIZE


def test_server_keeps_no_more_of_a_flood_than_a_name() -> None:
    server, piece = FeedServer(BANNER), b"x" * MAX_NAME_SIZE
    tracemalloc.start()
    try:
        for _ in range(1000):
            server.receive_data(bytes(bytearray(piece)))
        assert tracemalloc.get_traced_memory()[1] < 10 * MAX_NAME_SIZE
    finally:
        tracemalloc.stop()


# -- the client ------------------------------------------------------------------------------------------

VALUES = [1, "two", {"three": [3.5, None]}, (4,), np.array([5, 6]), {7: {8}}]


@pytest.mark.parametrize("version", [1, 2, None])
def test_values_in_every_split(version: PyonVersion | None) -> None:
    lines = [encode_line(value, version or 2) for value in VALUES]
    ends = [sum(map(len, lines[: number + 1])) for number in range(len(lines))]
    for pieces in splits(b"".join(lines)):
        client = subscribed(pyon_version=version)
        received: list[Any] = []
        size = 0
        for piece in pieces:
            client.receive_data(piece)
            size += len(piece)
            assert client.has_line is (sum(end <= size for end in ends) > len(received))
            received += values_of(client)
            assert not client.has_line
            assert len(received) == sum(end <= size for end in ends)
            assert client.buffered == size - max([0, *(end for end in ends if end <= size)])
        assert identical(received, VALUES)


def test_no_value_before_the_line_feed() -> None:
    line = encode_line(VALUES, 2)
    for length in range(len(line)):
        client = subscribed()
        client.receive_data(line[:length])
        assert client.next_value() == (False, None)
        assert (client.has_line, client.answered, client.buffered) == (False, False, length)


def test_buffered_counts_lines_and_the_unfinished_one() -> None:
    client = subscribed()
    client.receive_data(b"1\n22\n333")
    assert (client.has_line, client.buffered, client.answered) == (True, 8, False)
    assert client.next_value() == (True, 1)
    assert (client.has_line, client.buffered, client.answered) == (True, 6, True)
    assert client.next_value() == (True, 22)
    assert (client.has_line, client.buffered) == (False, 3)


def test_none_is_a_value() -> None:
    client = subscribed()
    client.receive_data(b"null\n")
    assert client.next_value() == (True, None)
    assert client.next_value() == (False, None)


def test_subscribe_twice() -> None:
    client = subscribed()
    with pytest.raises(LocalProtocolError, match="FEEDING"):
        client.subscribe("again")
    client.receive_data(b"1\n")
    assert client.next_value() == (True, 1)


def test_what_comes_before_the_request_waits() -> None:
    client = FeedClient(BANNER, 100)
    client.receive_data(b"1\n")
    assert not client.has_line
    assert client.next_value() == (False, None)
    client.subscribe("x")
    assert client.has_line
    assert client.next_value() == (True, 1)


def test_nothing_comes_of_a_closed_client() -> None:
    client = subscribed()
    client.receive_data(b"1\n2\n")
    client.close()
    assert not client.has_line
    before = client.buffered
    client.receive_data(b"3\n")
    assert client.buffered == before
    assert client.next_value() == (False, None)
    with pytest.raises(LocalProtocolError, match="CLOSED"):
        client.subscribe("x")


def assert_ended(client: FeedClient) -> None:
    assert client.state is State.CLOSED
    assert not client.has_line
    client.receive_data(b"1\n")
    assert list(values_of(client)) == []


@pytest.mark.parametrize("line", [b"", b"{", b"nothing", b"\xff", b"[1,]]", b"nparray(1)"])
@pytest.mark.parametrize("version", [1, 2, None])
def test_line_that_is_no_pyon(line: bytes, version: PyonVersion | None) -> None:
    client = subscribed(pyon_version=version)
    client.receive_data(b"1\n" + line + b"\n2\n")
    assert client.next_value() == (True, 1)
    with pytest.raises(RemoteProtocolError):
        client.next_value()
    assert_ended(client)


@pytest.mark.parametrize("length", [1, 7, 1000])
def test_longest_message(length: int) -> None:
    longest = b'"' + b"x" * 98 + b'"'
    for tail in (b"x", b"x\n"):
        client = subscribed(100)
        for piece in cut(longest + b"\n" + longest + tail, length):
            client.receive_data(piece)
        assert client.next_value() == (True, "x" * 98)
        with pytest.raises(RemoteProtocolError, match="100"):
            client.next_value()
        assert_ended(client)


def test_line_of_200_mb_is_refused_and_not_kept() -> None:
    limit = 100 * MIB
    client = subscribed(limit)
    piece = b"x" * MIB
    for _ in range(200):
        client.receive_data(piece)
        assert client.buffered <= limit + MIB
    assert not client.has_line
    with pytest.raises(RemoteProtocolError, match=str(limit)):
        client.next_value()
    assert_ended(client)


# -- versions --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [3, 0, "2", 1.5])
def test_version_that_there_is_not(version: Any) -> None:
    with pytest.raises(ValueError, match="versions 1 and 2"):
        check_pyon_version(version)
    with pytest.raises(ValueError, match="versions 1 and 2"):
        FeedClient(BANNER, 100, version)


@pytest.mark.parametrize("version", [1, 2])
def test_every_value_in_both_versions(version: PyonVersion) -> None:
    for told in (version, None):
        client = subscribed(pyon_version=told)
        for value in SAMPLES:
            client.receive_data(encode_line(value, version))
        assert identical([*values_of(client)], [*SAMPLES])


@pytest.mark.parametrize(
    ("line", "value"), [(b"(1, )", (1,)), (b"slice(1, None, 2)", slice(1, None, 2)), (b"{2: 3}", {2: 3})]
)
def test_first_line_that_is_no_v2_decides_for_v1(line: bytes, value: Any) -> None:
    array = encode_line(np.arange(3), 1)
    for first in (line + b"\n", array):
        client = subscribed()
        client.receive_data(b'{"a": 1}\n' + first + b"[true, null]\n")
        assert client.next_value() == (True, {"a": 1})
        assert identical(client.next_value(), (True, np.arange(3) if first is array else value))
        # Of a peer that speaks v1, what only v2 can say is taken for what it is in v1.
        assert client.next_value() == (True, [True, None])
        client.receive_data(encode_line((1,), 2))
        assert client.next_value() == (True, {"__jsonclass__": ["tuple", [[1]]]})


@pytest.mark.parametrize("line", [b"(1, )", b"slice(1, None, 2)", encode_line(np.arange(3), 1)[:-1]])
def test_strict_v2_refuses_v1(line: bytes) -> None:
    client = subscribed(pyon_version=2)
    client.receive_data(line + b"\n")
    with pytest.raises(RemoteProtocolError):
        client.next_value()
    assert_ended(client)


def test_strict_v1_reads_no_classes_of_v2() -> None:
    client = subscribed(pyon_version=1)
    client.receive_data(encode_line((1,), 2))
    assert client.next_value() == (True, {"__jsonclass__": ["tuple", [[1]]]})


@pytest.mark.parametrize(
    "line", [b'{"__jsonclass__":["unknown",[]]}', b'[{"__jsonclass__":["nparray",[[2],"<f8",""]]}]']
)
def test_v2_with_a_class_that_cannot_be_built_is_not_taken_for_v1(line: bytes) -> None:
    """As v1 it would be a dict with a strange key."""
    client = subscribed()
    client.receive_data(line + b"\n")
    with pytest.raises(RemoteProtocolError, match=r"unknown class|an array"):
        client.next_value()
    assert_ended(client)


def test_line_that_is_neither_is_reported_as_v2_and_decides_nothing() -> None:
    client = subscribed()
    client.receive_data(b'{"__jsonclass__":["no",[]]}]\n')
    with pytest.raises(RemoteProtocolError, match="line 1 column 28"):
        client.next_value()


@pytest.mark.parametrize("version", [1, 2])
def test_what_pyon_cannot_carry_is_no_line(version: PyonVersion) -> None:
    for value in (object(), [frozenset()], {"a": np.array([None])}):
        with pytest.raises((TypeError, ValueError)):
            encode_line(value, version)


# -- what was recorded -----------------------------------------------------------------------------------


def name_asked_for(recording: Recording, banner: bytes) -> str | None:
    """What our server makes of what a recorded client has sent, byte by byte."""
    server = FeedServer(banner)
    names = []
    for byte in cut(b"".join(recording.lines("client")), 1):
        server.receive_data(byte)
        if (name := server.next_name()) is not None:
            names.append(name)
    assert len(names) <= 1
    return names[0] if names else None


WRONG_BANNERS = {"sync_struct_edge_cases-1", "broadcast_session-2"}
NAMES: dict[str, list[str | None]] = {
    "sync_struct_session": ["test", "list"],
    "sync_struct_edge_cases": ["unknown", None, "nope", "", "list", "list", None],
    "broadcast_session": ["chan", "other", None, ""],
}


@pytest.mark.parametrize("file", NAMES)
def test_our_server_and_recorded_clients(file: str) -> None:
    banner = broadcast.BANNER if file.startswith("broadcast") else sync_struct.BANNER
    recordings = load(file)
    assert len(recordings) == len(NAMES[file])
    for recording, name in zip(recordings, NAMES[file], strict=True):
        if str(recording) in WRONG_BANNERS:
            with pytest.raises(RemoteProtocolError, match="ARTIQ other"):
                name_asked_for(recording, banner)
        else:
            assert name_asked_for(recording, banner) == name


@pytest.mark.parametrize("number", [0, 1])
def test_our_receiver_and_the_recorded_broadcasts(number: int) -> None:
    objects: list[list[Any]] = [[{"key": "value", "number": 42}, (1, [2], {3: 4}), None], ["text \u269b"]]
    recording = load("broadcast_session")[number]
    client = FeedClient(broadcast.BANNER, 1000)
    assert client.subscribe(["chan", "other"][number]) == b"".join(recording.lines("client"))
    client.receive_data(b"".join(recording.lines("server")))
    assert identical([*values_of(client)], objects[number])
    assert [encode_line(one, 2) for one in objects[number]] == recording.lines("server")
