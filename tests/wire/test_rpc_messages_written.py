"""Writing messages: the bytes that upstream writes, one line of ASCII each, whichever way is taken."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.wire.pair import feed
from tests.wire.transcripts import Recording, all_recordings
from tests.wire.values import SAMPLES, pyon_values
from trionet import pyon
from trionet.wire.packed_exceptions import PackedException
from trionet.wire.rpc import ServerConnection
from trionet.wire.rpc_messages import V1, V2, Call, Codec, GenericCodec, ListMethods

ROUND = settings(max_examples=300, deadline=None)

#: v2 without the short ways.
THOROUGH = GenericCodec(pyon.encode, pyon.decode)


@ROUND
@given(
    st.text(max_size=5),
    st.lists(pyon_values, max_size=3),
    st.dictionaries(st.text(max_size=5), pyon_values, max_size=2),
)
def test_both_ways_write_the_same_call(method: str, args: list[Any], kwargs: dict[str, Any]) -> None:
    if "__jsonclass__" not in kwargs:
        assert V2.encode_call(method, args, kwargs) == THOROUGH.encode_call(method, args, kwargs)
        assert V2.encode_call(method, tuple(args), kwargs) == THOROUGH.encode_call(method, args, kwargs)


@ROUND
@given(pyon_values)
def test_both_ways_write_the_same_result(value: Any) -> None:
    assert V2.encode_result(value) == THOROUGH.encode_result(value)


@pytest.mark.parametrize("method", ["f", 'a"b\\', "\u269b\ud800\n\x7f", ""])
def test_method_name_is_escaped(method: str) -> None:
    line = V2.encode_call(method, (), {})
    assert line == THOROUGH.encode_call(method, (), {})
    assert line.isascii()
    request = V2.decode_request(line[:-1])
    assert isinstance(request, Call)
    assert (request.method, [*request.args], request.kwargs) == (method, [], {})


@pytest.mark.parametrize("codec", [V1, V2])
@pytest.mark.parametrize("value", SAMPLES, ids=repr)
def test_one_line_of_ascii(codec: Codec, value: Any) -> None:
    """Blocking clients of sipyco take what they read for one line, and decode each read for itself."""
    for line in (codec.encode_result(value), codec.encode_call("f\u269b\n", (value,), {"k\n": value})):
        assert line.isascii()
        assert line.index(b"\n") == len(line) - 1


@pytest.mark.parametrize("kwargs", [{"__jsonclass__": 1}, {"a": {"__jsonclass__": 1}}])
def test_reserved_key_is_refused(kwargs: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="__jsonclass__"):
        V2.encode_call("f", (), kwargs)


def recorded_by_clients() -> list[Recording]:
    """Connections of real clients that got as far as a request, not those of a test socket."""
    return [one for one in all_recordings() if one.scenario != "edge_cases" and len(one.lines("client")) > 2]


@pytest.mark.parametrize("recording", recorded_by_clients(), ids=str)
def test_same_bytes_as_upstream(recording: Recording) -> None:
    codec = V2 if recording.is_v2 else V1
    for line, answer in recording.exchanges:
        request = codec.decode_request(line[:-1])
        if isinstance(request, ListMethods):
            assert codec.encode_list_methods() == line
        else:
            assert isinstance(request, Call)
            assert codec.encode_call(request.method, request.args, request.kwargs) == line
        result, failure = codec.decode_reply(answer[:-1])
        assert (codec.encode_failure(failure) if failure else codec.encode_result(result)) == answer


@pytest.mark.parametrize("recording", recorded_by_clients(), ids=str)
def test_same_handshake_as_upstream(recording: Recording) -> None:
    greeting, methods = recording.lines("server")[:2]
    content = json.loads(greeting)
    server = ServerConnection(content["targets"], content["description"])
    for line, recorded in zip(recording.lines("client")[:2], (greeting, methods), strict=True):
        feed(server, line)
        if recorded is greeting and recording.scenario == "v1_old_server":
            server.greet()  # upstream had no features then, and spaces
        elif recorded is greeting:
            assert server.greet() == greeting
    codec = V2 if recording.is_v2 else V1
    names = codec.decode_methods(methods[:-1])
    # A set has no order, so the names must be written in the order of the recording.
    in_order = re.findall(r'"(\w+)"', methods.decode())[0 if codec is V1 else 2 :]
    assert names == {*in_order}
    sent = server.send_methods(sorted(names))
    assert sorted(re.findall(rb'"\w+"', sent)) == sorted(re.findall(rb'"\w+"', methods))
    assert len(sent) == len(methods)


def test_methods_of_a_target_without_any() -> None:
    """An empty set would be a dict in v1; upstream's clients take a list as well."""
    for codec in (V1, V2):
        assert codec.encode_methods([]) == b"[]\n"
        for line in (b"[]", b"{}"):
            assert codec.decode_methods(line) == frozenset()
    assert V2.decode_methods(b'{"__jsonclass__":["set",[[]]]}') == frozenset()


@pytest.mark.parametrize("codec", [V1, V2])
def test_failure_there_and_back(codec: Codec) -> None:
    packed = PackedException("ValueError", 'no "\u269b"\n', ('  File "x", line 1, in f\n    code\n',))
    assert codec.decode_reply(codec.encode_failure(packed)[:-1]) == (None, packed)
