"""Reading messages: the short ways of v2 against the long one, also for what nobody's encoder writes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.wire.values import identical, pyon_values
from trionet import pyon
from trionet.wire.rpc_messages import V1, V2, BadRequest, Call, Codec, GenericCodec

ROUND = settings(max_examples=300, deadline=None)

#: v2 without the short ways.
THOROUGH = GenericCodec(pyon.encode, pyon.decode)


def request_of(codec: Codec, line: bytes) -> tuple[Any, ...]:
    """What a codec makes of a request; args are only ever unpacked, so list or tuple is the same."""
    try:
        request = codec.decode_request(line)
    except ValueError as error:
        return "error", type(error), str(error)
    if isinstance(request, Call):
        return "call", request.method, [*request.args], request.kwargs
    if isinstance(request, BadRequest):
        return "bad", type(request.error), str(request.error)
    return ("list",)


def reply_of(codec: Codec, line: bytes) -> tuple[Any, ...]:
    try:
        return codec.decode_reply(line)
    except ValueError as error:
        return "error", type(error), str(error)


# -- documents that nobody's encoder writes --------------------------------------------------------------

plain_texts = st.sampled_from(
    [
        *(
            "null",
            "true",
            "0",
            "-1.5e3",
            "1" + "0" * 30,
            "1e999",
            "NaN",
            "-Infinity",
            '""',
            '"call"',
            '"ok"',
            '"f"',
        ),
        *(
            "[]",
            "[1,[2]]",
            "{}",
            '{"a":1}',
            '{"kwargs":{},"args":[]}',
            '{"ret":1}',
            '["ok"]',
            "[NaN]",
            '"\\ud800"',
        ),
        *(
            '"\u00e9\\n\\/\\u00e9"',
            '"get_rpc_method_list"',
            '"failed"',
            '{"class":"ValueError","message":"m"}',
        ),
    ]
)
class_texts = st.sampled_from(
    [
        *(
            '["tuple",[[]]]',
            '["tuple",[[1,"a"]]]',
            '["tuple",[[[1]]]]',
            '["dict",[[["a",1]]]]',
            '["dict",[[[1,2]]]]',
        ),
        *(
            '["set",[[1]]]',
            '["bytes",["eg=="]]',
            '["OrderedDict",[[["k",[]]]]]',
            '["nparray",[[1],"|i1","AQ=="]]',
        ),
    ]
).map('{{"__jsonclass__":{}}}'.format)
wrong_texts = st.sampled_from(
    [
        *(
            "",
            "01",
            "+1",
            "[1,]",
            "{'a':1}",
            '"\x01"',
            '"',
            "[",
            '{"__jsonclass__":["foo",[]]}',
            "nul",
            "(1,)",
        ),
        *(
            '{"__jsonclass__":["tuple",[1,2]]}',
            '{"__jsonclass__":["tuple",[[1]],3]}',
            '{"__jsonclass__":["tuple",[],[]]}',
        ),
        *(
            '{"__jsonclass__":["tuple",[null]]}',
            '{"__jsonclass__":["tuple",[[1],[2]]]}',
            '{"__jsonclass__":["tuple",[]]}',
        ),
        *(
            '{"__jsonclass__":"tuple"}',
            '{"__jsonclass__":["tuple",[]]]}',
            '{"__jsonclass__":["set",[[[1]]]]}',
        ),
    ]
)
valid_texts = plain_texts | class_texts | pyon_values.map(pyon.encode)
white = st.sampled_from(["", "", "", " ", "\t", "\r", "  "])
REQUEST = {"action": '"call"', "name": '"f"', "args": "[1]", "kwargs": "{}"}
REPLY = {"status": '"ok"', "ret": "1"}


@st.composite
def documents(draw: st.DrawFn, usual: dict[str, str]) -> bytes:
    """An envelope with missing, repeated, unknown and reordered keys, and odd values here and there.

    What stands under an unknown or repeated key is valid: for the rest see `IGNORED`.
    """
    members = [(key, text) for key, text in usual.items() if draw(st.integers(0, 9))]
    for _ in range(draw(st.integers(0, 2))):
        key = draw(st.sampled_from([*usual]))
        members.append((key, draw(valid_texts)))
    if draw(st.booleans()):
        members.append((draw(st.sampled_from(["id", "exception", "Args", "", "\u00e9"])), draw(valid_texts)))
    members = draw(st.permutations(members))
    if len({key for key, _ in members}) == len(members) and members and draw(st.booleans()):
        index = draw(st.integers(0, len(members) - 1))
        if members[index][0] in usual:
            members[index] = (members[index][0], draw(wrong_texts))
    text = ",".join(
        f"{draw(white)}{_escaped(key, draw(st.booleans()))}{draw(white)}:{draw(white)}{value}{draw(white)}"
        for key, value in members
    )
    return f"{draw(white)}{{{text}}}{draw(white)}".encode()


def _escaped(key: str, escape: bool) -> str:
    if escape and key:
        return f'"\\u{ord(key[0]):04x}{key[1:]}"'
    return json.dumps(key)


@ROUND
@given(documents(REQUEST))
def test_any_request(line: bytes) -> None:
    assert identical(request_of(V2, line), request_of(THOROUGH, line))


@ROUND
@given(documents(REPLY))
def test_any_reply(line: bytes) -> None:
    assert identical(reply_of(V2, line), reply_of(THOROUGH, line))


@ROUND
@given(st.binary(max_size=30) | documents(REQUEST).map(lambda line: line[:-5]))
def test_any_bytes(line: bytes) -> None:
    assert identical(request_of(V2, line), request_of(THOROUGH, line))
    assert identical(reply_of(V2, line), reply_of(THOROUGH, line))


HOSTILE_ARGS = [
    *(
        '{"__jsonclass__":["tuple",[[1]]]}',
        '{ "__jsonclass__" : [ "tuple" , [ [ 1 ] ] ] }',
        "[1]",
        "[ 1 ] ",
        "[]",
    ),
    *('{"__jsonclass__":["tuple",[[1,{"__jsonclass__":["set",[[2]]]}]]]}', '{"__jsonclass__":["set",[[1]]]}'),
    *(
        '{"__jsonclass__":["tuple",[[1]],"x"]}',
        '{"__jsonclass__":["tuple",[[1],[2]]]}',
        '{"__jsonclass__":["tuple",[]]}',
    ),
    *(
        '{"__jsonclass__":["tuple",[1]]}',
        '{"__jsonclass__":["tuple",[{}]]}',
        '{"__jsonclass__":["tuple",["a"]]}',
    ),
    *(
        '{"__jsonclass__":["tuple",[[1]]],"other":2}',
        '{"other":2,"__jsonclass__":["tuple",[[1]]]}',
        '{"a":1}',
        "1",
    ),
    *('{"\\u005f_jsonclass__":["tuple",[[1]]]}', '{"__jsonclass__":["tupl\\u0065",[[1]]]}', '"text"', "null"),
    *(
        '{"__jsonclass__":["nparray",[[1],"|i1","AQ=="]]}',
        '{"__jsonclass__":["foo",[[1]]]}',
        "[NaN,1e999,-0.0]",
    ),
    *(
        "[" + "[" * 300 + "]" * 300 + "]",
        "[" + "9" * 5000 + "]",
        "[" + "9" * 40 + "]",
        '["\\ud83d\\ude00\\ud800"]',
    ),
    '{"__jsonclass__":["tuple",[{"__jsonclass__":["tuple",[[1]]]}]]}',
]
HOSTILE_KWARGS = [
    *(
        "{}",
        '{"kwargs":{"kwargs":1}}',
        '{"args":[],"name":"g","action":"x"}',
        '{"a":1,"a":2}',
        "[]",
        "null",
        '"k"',
    ),
    *(
        '{"__jsonclass__":["dict",[[["a",1]]]]}',
        '{"__jsonclass__":["dict",[[[1,2]]]]}',
        '{"__jsonclass__":["dict",[]]}',
    ),
    *('{"__jsonclass__":["OrderedDict",[[["a",1]]]]}', '{"a":{"__jsonclass__":["foo",[]]}}', '{"\\ud800":1}'),
]


@pytest.mark.parametrize("end", ["", "\r", " \t\r"])
@pytest.mark.parametrize("args", HOSTILE_ARGS, ids=lambda text: text[:60])
def test_args_in_any_form(args: str, end: str) -> None:
    line = f'{{"action":"call","name":"f","args":{args},"kwargs":{{}}}}{end}'.encode()
    assert identical(request_of(V2, line), request_of(THOROUGH, line))


@pytest.mark.parametrize("kwargs", HOSTILE_KWARGS)
def test_kwargs_in_any_form(kwargs: str) -> None:
    line = f'{{"kwargs":{kwargs},"action":"call","name":"f","args":[]}}'.encode()
    assert identical(request_of(V2, line), request_of(THOROUGH, line))


@pytest.mark.parametrize(
    "action", ['"call"', '"dance"', '"get_rpc_method_list"', "null", '"c\\u0061ll"', "[]"]
)
def test_action_in_any_form(action: str) -> None:
    line = f'{{"action":{action},"name":"f","args":[],"kwargs":{{}}}}'.encode()
    assert identical(request_of(V2, line), request_of(THOROUGH, line))


@pytest.mark.parametrize("status", ['"ok"', '"failed"', '"later"', "null", '"o\\u006b"', "[]"])
def test_status_in_any_form(status: str) -> None:
    for more in ("", ',"exception":{"class":"ValueError","message":"m"}'):
        line = f'{{"status":{status},"ret":1{more}}}'.encode()
        assert identical(reply_of(V2, line), reply_of(THOROUGH, line))


@pytest.mark.parametrize(
    "name", ['"f"', '"\\u0066\\n"', '"\\ud800"', '"\u00e9"', "5", "null", '["f"]', '""', '"a\x01"']
)
def test_method_name_in_any_form(name: str) -> None:
    line = f'{{"action":"call","name":{name},"args":[],"kwargs":{{}}}}'.encode()
    assert identical(request_of(V2, line), request_of(THOROUGH, line))


# What stands under keys that are not looked at: a bad document is bad whatever its length and encoding.
IGNORED = [
    *(
        b'"x":{"__jsonclass__":["foo",[]]}',
        b'"x":[{"__jsonclass__":5}]',
        b'"x":"\xff"',
        b'"\xff":1',
        b'"x":01',
    ),
    *(
        b'"x":"\x01"',
        b'"x":"\\q"',
        b'"x":NaN',
        b'"x":' + b"9" * 5000,
        b'"__jsonclass__":["tuple",[[]]]',
        b'"x":"\\ud800"',
    ),
    b'"x":{"__jsonclass__":["tuple",[[1]]]}',
]


@pytest.mark.parametrize("ignored", IGNORED, ids=lambda text: repr(text[:40]))
def test_unknown_key_in_a_request(ignored: bytes) -> None:
    line = b'{"action":"call","name":"f","args":[],"kwargs":{},' + ignored + b"}"
    assert identical(request_of(V2, line), request_of(THOROUGH, line))


@pytest.mark.parametrize("ignored", IGNORED, ids=lambda text: repr(text[:40]))
def test_unknown_key_in_a_reply(ignored: bytes) -> None:
    line = b'{"status":"ok","ret":1,' + ignored + b"}"
    assert identical(reply_of(V2, line), reply_of(THOROUGH, line))


@pytest.mark.parametrize("first", ["[]", "5", "null", '{"__jsonclass__":["set",[[]]]}'])
def test_repeated_key_the_last_one_counts(first: str) -> None:
    request = f'{{"action":"call","name":"f","args":{first},"args":[2],"kwargs":{{}}}}'.encode()
    assert identical(request_of(V2, request), request_of(THOROUGH, request))
    reply = f'{{"status":"ok","ret":{first},"ret":2}}'.encode()
    assert identical(reply_of(V2, reply), reply_of(THOROUGH, reply))


@pytest.mark.parametrize("size", [60_000, 65_536, 70_000])
def test_long_lines_take_the_other_way(size: int) -> None:
    value = ["x" * size, (1,)]
    line = V2.encode_call("f", [value], {"kwargs": value})[:-1]
    assert request_of(V2, line) == request_of(THOROUGH, line) == ("call", "f", [value], {"kwargs": value})
    assert V2.decode_reply(V2.encode_result(value)[:-1]) == (value, None)


def test_an_action_that_is_nested_too_deep_to_be_shown() -> None:
    request = V1.decode_request(b"{'action': " + b"[" * 990 + b"]" * 990 + b"}")
    assert isinstance(request, BadRequest)
    assert str(request.error) in ("Unknown action: <list>", "Unknown action: " + "[" * 100)
